"""What a sample says about itself (`followup.json`), and what its results say (`observed.json`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from survey.catalog.document import IntervalRecord
from survey.folder import Document, Kind


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteRecord(_Record):
    """Where the stars are observed from, and how many hours are dark there in these nights."""

    name: str
    longitude: float
    latitude: float
    height: float
    dark_hours: float


class StratumRecord(_Record):
    """A stratum: its range of probability, and its stars.

    `stars` can be observed: `by_yield` of them were chosen by their yield, `random` of the others were drawn.
    `outside` stars of the list cannot be observed. `expected` is the mean probability of `stars`.
    """

    stratum: int
    low: float
    high: float
    snr_low: float | None
    snr_high: float | None
    stars: int
    outside: int
    by_yield: int
    random: int
    expected: float


class FollowupDocument(Document):
    """The document of a sample. `left_out` counts stars of the list that cannot be observed, by reason.

    `listed` is the number of stars of the vetted list; `rejected` stars are no part of it. `expected` is the
    number of true stars that the sample is expected to have, `purity` the expected purity of the vetted list.
    `error`: about half the width of the 95 % interval of the purity from the results; null if there is none.
    """

    settings: dict[str, Any]
    of: str
    of_id: str
    search: str
    definition: str
    criterion: str
    site: SiteRecord
    listed: int
    rejected: int
    verdicts: dict[str, int]
    left_out: dict[str, int]
    by_yield: int
    random: int
    hours: float
    expected: float
    purity: float
    promised: float | None
    error: float | None
    strata: tuple[StratumRecord, ...]
    notes: tuple[str, ...] = ()


class StratumResult(_Record):
    """What was observed in a stratum. `now` is the share of true stars to expect among its other stars."""

    stratum: int
    stars: int
    observed: int
    true: int
    before: float
    share: IntervalRecord
    now: float


class ResultsDocument(Document):
    """The document of results. `purity` is of the stars that can be observed, `list_purity` of all.

    `before` is what was expected of the stars that can be observed.
    `expected` is the number of true stars in the vetted list: by its purity, or by strata without one.
    `counts` says what became of the rows of the file. `not_certified` says why there is no purity.
    """

    sample_id: str
    results: str
    counts: dict[str, int]
    observed: int
    true: int
    plain: IntervalRecord
    purity: IntervalRecord
    list_purity: IntervalRecord
    before: float
    expected: float
    strata: tuple[StratumResult, ...]
    by_verdict: dict[str, tuple[int, int]]
    not_certified: str = ""
    notes: tuple[str, ...] = ()


FOLLOWUP = Kind("followup", FollowupDocument, version=1, job="followup", setting="followup")
RESULTS = Kind("observed", ResultsDocument, version=1, job="followup", setting="followup")
"""A folder inside that of the sample, which stays as it is."""
RESULTS_FOLDER = "results"
