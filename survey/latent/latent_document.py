"""What a look at a latent space says about itself (`latent.json`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from survey.folder import Document, Kind
from survey.latent.pairs import PairSummary
from survey.latent.row_labels import JoinRecord


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionRecord(_Record):
    """A column of classes: how many rows have each; `why_not` says why nothing was learned of it.

    Classifiers leave out the rows with a class that were `seen_in_training` by the network, and the rows of
    which a statistic is unknown: how many, by the name of the statistic.
    """

    name: str
    rows: dict[str, int]
    contradicting: int
    why_not: str = ""
    seen_in_training: int = 0
    unknown_statistics: dict[str, int] = {}


class GroupRecord(_Record):
    """The classes whose centres outliers are far from: what they are, and how many rows each has."""

    by: str
    rows: dict[str, int]


class LatentDocument(Document):
    """The document of a look at a latent space.

    `rows` counts the rows of the predictions, `no_latent` those without a latent. `shares` are the shares of
    the variance of the components that are kept. `left_out` says why a map is not there. `missing_members`
    counts the members that are not found any more: classifiers may be tested on stars that these have seen.
    """

    predictions: str
    predictions_id: str
    rows: int
    no_latent: int
    width: int
    shares: tuple[float, ...]
    sample: int
    maps: tuple[str, ...]
    left_out: dict[str, str]
    clusters: dict[str, int]
    groups: GroupRecord
    tables: tuple[JoinRecord, ...]
    questions: tuple[QuestionRecord, ...]
    statistics: tuple[str, ...]
    missing_members: int = 0
    like: tuple[str, ...]
    pairs: PairSummary | None
    settings: dict[str, Any]


LATENT = Kind("latent", LatentDocument, 1, "latent")
