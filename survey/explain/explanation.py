"""What an explanation says about itself (`explanation.json`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from survey.folder import Document, Kind


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetRecord(_Record):
    """A label or a class that is explained. `features` are those of the most important blocks, best first;
    `element` has the lines whose loss changes it most, by `change`; empty if the grid has no lines."""

    column: str
    unit: str
    is_class: bool
    features: tuple[str, ...]
    element: str
    change: float
    own_element: str = ""
    own_change: float | None = None


class StrengthRecord(_Record):
    """How much more a target changes without its most important blocks than without random ones.

    The ratio is infinite if random blocks change nothing, and NaN if important ones do not either.
    """

    column: str
    blocks: int
    important: float
    random: float
    ratio: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the important blocks matter more than random ones."""
        return self.low > 1 or self.random == 0 < self.important


class ExplanationDocument(Document):
    """The document of an explanation. `left_out` says why a method was not used."""

    settings: dict[str, Any]
    of: str
    of_id: str
    store: str
    store_id: str
    spectra: int
    blocks: int
    methods: tuple[str, ...]
    left_out: dict[str, str]
    targets: tuple[TargetRecord, ...]
    strength: tuple[StrengthRecord, ...]
    attention: tuple[str, ...]
    single: tuple[str, ...]


EXPLANATION = Kind("explanation", ExplanationDocument, version=1, job="explain", setting="explain")
