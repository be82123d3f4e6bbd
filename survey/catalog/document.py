"""What a catalog says about itself (`catalog.json`): definitions, thresholds, counts, origin."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from survey.catalog.settings import Goal, ListName
from survey.folder import Document, Kind
from survey.predict.output import InputReference


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PredictionsRecord(_Record):
    """The predictions that a catalog was made from; `source` is the store or the predicted files."""

    id: str
    rows: int
    source: InputReference
    path: str


class MemberRecord(_Record):
    """A member of the ensemble: a run."""

    name: str
    id: str
    model: str


class EnsembleRecord(_Record):
    """The ensemble behind the predictions."""

    path: str
    id: str
    members: tuple[MemberRecord, ...]
    calibrated: bool = True


class IntervalRecord(_Record):
    """A number with its 95 % interval; null if it is not known."""

    value: float | None
    low: float | None
    high: float | None


class ClassShareRecord(_Record):
    """The share of a class in the survey with its 95 % interval, and the share that is assumed."""

    share: float
    low: float
    high: float
    assumed: float


class ClassMixRecord(_Record):
    """The class shares of the survey, and how they were found."""

    how: str
    classes: dict[str, ClassShareRecord]
    notes: tuple[str, ...]


class ValidationRecord(_Record):
    """How many validation stars belong in a list, do not belong in it, and are above its threshold."""

    true: int
    other: int
    listed: int


class ThresholdRecord(_Record):
    """The threshold of a list, what it was chosen for, and the purity and completeness to be expected.

    `withheld` says why these are not promised, and null.
    """

    search: ListName
    score: str
    value: float
    goal: Goal
    level: float
    purity: IntervalRecord
    completeness: IntervalRecord
    validation: ValidationRecord
    mix: ClassMixRecord
    notes: tuple[str, ...]
    withheld: tuple[str, ...] = ()


class ExpectedRecord(_Record):
    """How many stars of a list belong in it: its expected purity times its length; null if not known."""

    true: float | None
    low: float | None
    high: float | None

    @classmethod
    def of_list(cls, length: int, purity: IntervalRecord) -> Self:
        """Of a list of this length and purity."""
        ends = {"true": purity.value, "low": purity.low, "high": purity.high}
        return cls(**{name: None if share is None else share * length for name, share in ends.items()})


class VettedRecord(_Record):
    """How many stars of a list people have accepted, rejected, or are unsure about.

    `purity` is the accepted share of those that they accepted or rejected.
    """

    accept: int
    reject: int
    unsure: int
    purity: IntervalRecord


class FrequencyBinRecord(_Record):
    """A bin in [Fe/H] (null = open): stars of the two lists in it, and the published shares of CEMP stars."""

    low: float | None
    high: float | None
    mp: int
    cemp: int
    least: float
    most: float


class FrequencyRecord(_Record):
    """How many CEMP stars the MP list can have by published frequencies, and how many are listed."""

    bins: tuple[FrequencyBinRecord, ...]
    fewest: float
    most: float
    listed: int
    warning: str


MirrorGroup = Literal["metal_rich", "hot", "M", "white_dwarf", "galaxy", "quasar", "sky", "blanked"]


class MirrorRecord(_Record):
    """How many stars of a group that cannot be in a list pass its cut, and how many are in it."""

    search: ListName
    group: MirrorGroup
    n: int
    passed: int
    listed: int
    share: IntervalRecord


class RecoveryRecord(_Record):
    """Draws of real stars with a [C/Fe] in a range: those that pass the CEMP cut, and that are listed besides
    (no flag keeps them out), with the share of these.
    """

    low: float
    high: float
    stars: int
    n: int
    passed: int
    listed: int
    share: IntervalRecord


class CatalogDocument(Document):
    """The document of a finished catalog.

    `why_short` says why a list is empty or very short; `next_best` counts the stars in the list of those that
    come next. `frequency`, `mirror` and `recovery` hold the prior test, the mirror test, and injection and
    recovery, `vetted` what people say. `catalogues` are the checksums of the catalogues that were the input.
    Paths are as the user gave them.
    """

    created: str
    predictions: PredictionsRecord
    ensemble: EnsembleRecord
    definitions: dict[str, str]
    stars: int
    no_position: int
    tiles: int
    candidates: dict[ListName, int]
    selected_by: dict[ListName, str]
    expected: dict[ListName, ExpectedRecord]
    thresholds: Mapping[ListName, ThresholdRecord]
    counts: dict[str, dict[str, int]]
    settings: dict[str, Any]
    catalogues: dict[str, int] = Field({})
    truth: dict[str, int] | None = None
    why_short: dict[ListName, tuple[str, ...]] = Field({})
    next_best: dict[ListName, int] = Field({})
    frequency: FrequencyRecord | None = None
    mirror: tuple[MirrorRecord, ...] = ()
    recovery: tuple[RecoveryRecord, ...] = ()
    vetted: dict[ListName, VettedRecord] = Field({})


CATALOG = Kind("catalog", CatalogDocument, 3, "catalog")
