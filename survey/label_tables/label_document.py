"""What a folder of labels says about itself (`labels.json`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from survey.folder import Document, Kind


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceRecord(_Record):
    """A source: its rows, how many found their star, by what, and why the others did not.

    `rows` = the sum of `used` and of `refused`. `left_out` counts values that are no measurements, by label.
    """

    name: str
    format: str
    file: str
    rows: int
    used: int
    stars: int
    by: dict[str, int]
    ambiguous: int
    refused: dict[str, int]
    left_out: dict[str, dict[str, int]]


class LabelRecord(_Record):
    """A label: how many stars have it, from which source, and its 5th, 50th and 95th percentile."""

    name: str
    stars: int
    origin: dict[str, int]
    low: float
    middle: float
    high: float


class LabelsDocument(Document):
    """The document of a folder of labels.

    `labelled` counts the stars with labels, `available` those of each class, `stars` and `visits` what the
    table holds, `classes` its stars by class. `by_snr` counts its visits by S/N. `skipped` names sources
    without a file.
    """

    to: str
    survey_visits: int
    survey_stars: int
    too_noisy: int
    sources: tuple[SourceRecord, ...]
    skipped: tuple[str, ...]
    labelled: int
    dropped: int
    available: dict[str, int]
    no_class: int
    stars: int
    visits: int
    classes: dict[str, int]
    by_snr: dict[str, int]
    labels: tuple[LabelRecord, ...]
    contradictions: dict[str, int]
    contradicting_stars: int
    weak: dict[str, int]
    weak_available: dict[str, int]
    repeats: int
    settings: dict[str, Any]


LABELS = Kind("labels", LabelsDocument, 1, "labels")
