"""How probable a star has to be for a candidate list, chosen on validation stars, and how pure and complete the list is then expected to be.

A star's score is the sum of its probabilities of the classes that are searched for (MP searches take CEMP stars too), re-weighted to the survey's
mix of classes (`survey.catalog.prior`). Shares of validation stars above the threshold are told class by class and weighted by the survey's mix, so a
list is judged as it will be on the sky. Intervals are those of Beta distributions (Jeffreys: close to Wilson's, and honest where no star of a class
was seen above the threshold) and of the draws of the mix. Give validation as the catalog will be: one row per star.

Shapes: N stars, C classes, X thresholds or bins, R draws.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator
from scipy.special import expit, logit

from survey.catalog.prior import DRAWS, FEW, Mix, Prior, Tally, dice, given, mix, redrawn
from survey.catalog.visits import PROBABILITIES, Flags, Floats, probabilities
from survey.labels import CLASSES, MISSING
from survey.metrics.classes import PROBLEMS
from survey.metrics.intervals import LEVEL, Measure, wilson
from survey.predict.output import Column
from survey.settings import Settings

Kind = Literal["MP", "CEMP"]
Goal = Literal["purity", "completeness", "f1"]
KINDS: tuple[Kind, ...] = ("MP", "CEMP")
FALLBACK = 0.5
"""The threshold where none can be chosen."""
ROUNDING = 1e-9
STEPS = 1000
"""So many thresholds are looked at; of more stars, those of evenly rising logarithms of ranks."""

COLUMNS: dict[str, Column] = {
    "score_mp": (
        "float32",
        "probability of being metal-poor (MP or CEMP) in the survey's mix of classes",
        "",
        "stat.probability",
    ),
    "score_cemp": (
        "float32",
        "probability of being CEMP in the survey's mix of classes",
        "",
        "stat.probability",
    ),
}


class Search(Settings):
    """What a candidate list is wanted to be."""

    goal: Goal = Field(
        "purity",
        description="what is wanted: the level of purity or of completeness, or the best f1 of the two",
    )
    level: float = Field(0.9, gt=0, le=1, description="wanted purity or completeness")
    prior: Prior = Field(
        "estimated",
        description="the survey's mix of classes: that of validation, estimated from its own probabilities, or given as {MP: 4, CEMP: 1, NMP: 95}",
    )

    @field_validator("prior")
    @classmethod
    def _shares(cls, value: Prior) -> Prior:
        if isinstance(value, dict):
            given(value)
        return value


@dataclass(frozen=True)
class Threshold:
    """From which score on a star is a candidate, with the purity and completeness that are to be expected, and all that they rest on.

    `true` and `other` are validation stars that are what is searched for and that are not, `listed` those above the threshold. `optimism` is by how
    much purity and completeness look better, in log odds, on the stars that the threshold was chosen by than on others; it is taken off.
    """

    kind: Kind
    value: float
    search: Search
    mix: Mix
    purity: Measure
    completeness: Measure
    true: int
    other: int
    listed: int
    optimism: tuple[float, float]
    notes: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """The column that holds the score."""
        return f"score_{self.kind.lower()}"

    def score(self, p_NC: ArrayLike) -> Floats:
        """The probability, in the survey's mix, of being what is searched for."""
        return np.asarray(self.mix.adjusted(p_NC)[:, yes(self.kind)].sum(1))

    def passes(self, p_NC: ArrayLike) -> Flags:
        """Which stars are candidates; none without an answer."""
        return np.asarray(self.score(p_NC) >= self.value)

    def told(self) -> dict[str, Any]:
        """The threshold as JSON can hold it."""
        shares = {
            name: {"value": _plain(one.value), "low": _plain(one.low), "high": _plain(one.high)}
            for name, one in (("purity", self.purity), ("completeness", self.completeness))
        }
        counts = {"true": self.true, "other": self.other, "listed": self.listed}
        about = {
            "search": self.kind,
            "score": self.column,
            "value": self.value,
            "goal": self.search.goal,
            "level": self.search.level,
        }
        return about | shares | {"validation": counts, "mix": self.mix.told(), "notes": list(self.notes)}


def yes(kind: Kind) -> list[int]:
    """The numbers of the classes that a search is for."""
    return [CLASSES.index(name) for name in PROBLEMS[f"{kind}_search"]]


@dataclass(frozen=True)
class Validated:
    """Validation stars of known class with an answer: which rows of the table they are, probabilities, classes, and which of them no flag bars."""

    row_N: NDArray[np.int64]
    p_NC: Floats
    class_N: NDArray[np.int64]
    sound_N: Flags

    @classmethod
    def of(cls, validation: pa.Table) -> Self:
        """From a table with `p_*` and `true_class`; stars with a `flag_bad` are never listed, but count among those to be found."""
        missing = [name for name in (*PROBABILITIES, "true_class") if name not in validation.column_names]
        if missing:
            raise ValueError(
                f"catalog: validation has no column {missing[0]}; thresholds need an ensemble that tells the classes {', '.join(CLASSES)}"
            )
        p_NC, class_N = (
            probabilities(validation),
            validation["true_class"].fill_null(MISSING).to_numpy().astype(np.int64),
        )
        bad_N = (
            validation["flag_bad"].fill_null(0).to_numpy()
            if "flag_bad" in validation.column_names
            else np.zeros(len(class_N))
        )
        row_N = np.flatnonzero(np.isfinite(p_NC).all(1) & (class_N != MISSING))
        return cls(row_N, p_NC[row_N], class_N[row_N], bad_N[row_N] == 0)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many there are of each class."""
        return np.bincount(self.class_N, minlength=len(CLASSES))

    def score(self, kind: Kind, mixed: Mix) -> Floats:
        """Their scores in the survey's mix; -1 for those that are never listed."""
        return np.where(self.sound_N, mixed.adjusted(self.p_NC)[:, yes(kind)].sum(1), -1.0)


def mix_of(validation: pa.Table, prior: Prior, survey: Tally | None = None) -> Mix:
    """The survey's mix of classes, by validation stars and, where it is estimated, the survey's own probabilities."""
    stars = Validated.of(validation)
    return mix(stars.p_NC, stars.class_N, prior, survey)


def choose(
    validation: pa.Table, kind: Kind, search: Search | None = None, mixed: Mix | None = None
) -> Threshold:
    """The threshold that reaches what is wanted on validation stars; without a mix that of validation is taken."""
    search, stars = search or Search(), Validated.of(validation)
    mixed = mixed or mix(stars.p_NC, stars.class_N)
    score_N, class_N, n_C = stars.score(kind, mixed), stars.class_N, stars.counts
    true = int(n_C[yes(kind)].sum())
    other = int(n_C.sum()) - true
    value, optimism, notes = FALLBACK, (0.0, 0.0), [*mixed.notes]
    if min(true, other, int(stars.sound_N.sum())) < FEW:
        notes.append(
            f"validation has {true} stars that are {kind} and {other} that are not: too few to choose a threshold by, so it is {FALLBACK}"
        )
    else:
        value, optimism, note = _best(score_N, class_N, kind, search, mixed)
        notes += [note] if note else []
    k_1C = np.bincount(class_N[score_N >= value], minlength=len(CLASSES))[None]
    found, complete = (
        purity(k_1C, n_C, kind, mixed, optimism[0])[0],
        completeness(k_1C, n_C, kind, mixed, optimism[1])[0],
    )
    return Threshold(
        kind, value, search, mixed, found, complete, true, other, int(k_1C.sum()), optimism, tuple(notes)
    )


def expected(score_N: ArrayLike) -> tuple[float, float]:
    """How many stars of a list are what is searched for, by their own scores, with the spread of that number; those without a score do not count."""
    known_N = np.asarray(score_N, np.float64)
    known_N = known_N[np.isfinite(known_N)]
    return float(known_N.sum()), float(np.sqrt((known_N * (1 - known_N)).sum()))


def purity(
    k_XC: NDArray[Any], n_C: NDArray[Any], kind: Kind, mixed: Mix, optimism: float = 0.0
) -> list[Measure]:
    """Share of the listed that are what is searched for: k_XC of the n_C validation stars of each class are listed."""
    rate_XC, rate_RXC = _rates(k_XC, n_C)
    listed_X = k_XC.sum(1)
    value_X = np.where(listed_X > 0, _share(rate_XC * mixed.share_C, kind), np.nan)
    drawn_RX = _share(_listed(rate_RXC, mixed.drawn_RC[:, None], mixed.size), kind)
    return _measures(kind, "purity", value_X, drawn_RX, listed_X, optimism)


def completeness(
    k_XC: NDArray[Any],
    n_XC: NDArray[Any],
    kind: Kind,
    mixed: Mix,
    optimism: float = 0.0,
    present_XC: Floats | None = None,
) -> list[Measure]:
    """Share of what is searched for that is listed; `present_XC` is the share of each class that lies in the bins, where there are bins."""
    rate_XC, rate_RXC = _rates(k_XC, n_XC)
    among = yes(kind)
    n_X = np.broadcast_to(n_XC, k_XC.shape)[:, among].sum(1)
    present = np.ones(k_XC.shape) if present_XC is None else present_XC
    weight_XC, weight_RXC = present * mixed.share_C, present * mixed.drawn_RC[:, None]
    there_X = weight_XC[:, among].sum(1)
    value_X = np.where(
        (n_X > 0) & (there_X > 0), _over((rate_XC * weight_XC)[:, among].sum(1), there_X), np.nan
    )
    drawn_RX = _over(
        _listed(rate_RXC, weight_RXC, mixed.size)[:, :, among].sum(2), weight_RXC[:, :, among].sum(2)
    )
    return _measures(kind, "completeness", value_X, drawn_RX, n_X, optimism)


def _listed(rate_RXC: Floats, share_RXC: Floats, size: int) -> Floats:
    """The part of a survey that is listed, by class: shares times rates, with the chance that there is among so many stars."""
    if not size:
        return np.asarray(rate_RXC * share_RXC)
    stars_RXC = np.broadcast_to(np.rint(size * share_RXC).astype(np.int64), rate_RXC.shape)
    drawn_RXC = dice("listed").binomial(stars_RXC, rate_RXC)
    return np.asarray(share_RXC * _over(drawn_RXC, stars_RXC))


def _best(
    score_N: Floats, class_N: NDArray[np.int64], kind: Kind, search: Search, mixed: Mix
) -> tuple[float, tuple[float, float], str]:
    """The threshold of a search, its optimism, and what to say where none will do; lists of fewer than `FEW` validation stars count for nothing."""
    order_N = np.argsort(-score_N, kind="stable")
    score_N, class_N = score_N[order_N], class_N[order_N]
    last_X = np.flatnonzero(np.append(np.diff(score_N) != 0, True) & (score_N >= 0))
    last_X = last_X[last_X >= FEW - 1]
    if len(last_X) > STEPS:
        last_X = last_X[np.unique(np.geomspace(1, len(last_X), STEPS).round().astype(np.int64)) - 1]
    k_XC = np.cumsum(np.eye(len(CLASSES))[class_N], 0)
    n_C, k_XC = k_XC[-1], k_XC[last_X]
    at = int(_chosen(k_XC, n_C, mixed.share_C, kind, search))
    told = dict(zip(("purity", "completeness"), _told(k_XC[at], n_C, mixed.share_C, kind), strict=True))
    note = ""
    if told.get(search.goal, np.inf) < search.level - ROUNDING:
        note = f"no threshold reaches a {search.goal} of {search.level:g} on validation; this is the one that comes nearest"
    above, below = score_N[last_X[at]], score_N[min(last_X[at] + 1, len(score_N) - 1)]
    return (
        float((above + (below if below >= 0 else above)) / 2),
        _optimism(k_XC, n_C, kind, search, mixed),
        note,
    )


def _chosen(k_RXC: Floats, n_RC: Floats, share_RC: Floats, kind: Kind, search: Search) -> NDArray[np.int64]:
    """Which of the thresholds X, from the strictest on, a search takes, by the stars of each class above them.

    Where no list is as pure as is wanted, the one that is surest to be the purest; where none is as complete, the longest.
    """
    pure_RX, complete_RX = _told(k_RXC, n_RC[..., None, :], share_RC[..., None, :], kind)
    if search.goal == "f1":
        return np.asarray(np.argmax(_over(2 * pure_RX * complete_RX, pure_RX + complete_RX), -1), np.int64)
    enough_RX = (pure_RX if search.goal == "purity" else complete_RX) >= search.level - ROUNDING
    last = enough_RX.shape[-1] - 1
    if search.goal == "completeness":
        return np.asarray(np.where(enough_RX.any(-1), np.argmax(enough_RX, -1), last), np.int64)
    listed_RX = k_RXC.sum(-1)
    purest_R = np.argmax(wilson(pure_RX * listed_RX, listed_RX)[0], -1)
    return np.asarray(
        np.where(enough_RX.any(-1), last - np.argmax(enough_RX[..., ::-1], -1), purest_R), np.int64
    )


def _told(k_C: Floats, n_C: Floats, share_C: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Purity and completeness (classes along the last axis) of lists that hold k of n validation stars of each class."""
    weight_C = k_C / np.maximum(n_C, 1) * share_C
    return _share(weight_C, kind), _over(weight_C[..., yes(kind)].sum(-1), share_C[..., yes(kind)].sum(-1))


def _optimism(k_XC: Floats, n_C: Floats, kind: Kind, search: Search, mixed: Mix) -> tuple[float, float]:
    """By how much, in log odds, purity and completeness are better on the stars that a threshold is chosen by than on others.

    Validation stars drawn anew choose a threshold each, which is judged by them and by the stars as they are (Efron 1983).
    """
    cells_XC = np.diff(np.concatenate([k_XC, n_C[None]]), axis=0, prepend=0)
    drawn_RXC = np.cumsum(redrawn(cells_XC, "scores"), 1)
    whole_RC = drawn_RXC[:, -1]
    at_R = _chosen(drawn_RXC[:, :-1], whole_RC, mixed.drawn_RC, kind, search)
    by_own = _told(drawn_RXC[np.arange(DRAWS), at_R] + 0.5, whole_RC + 1, mixed.drawn_RC, kind)
    by_all = _told(k_XC[at_R] + 0.5, n_C + 1, mixed.share_C, kind)
    own_2R, all_2R = (logit(np.clip(told, ROUNDING, 1 - ROUNDING)) for told in (by_own, by_all))
    pure, complete = (own_2R - all_2R).mean(1).tolist()
    return pure, complete


def _rates(k_XC: NDArray[Any], n_C: NDArray[Any]) -> tuple[Floats, Floats]:
    """Shares k / n, a half where n is 0, and draws of them."""
    rate_XC = np.where(n_C > 0, k_XC / np.maximum(n_C, 1), 0.5)
    return rate_XC, dice("rates").beta(k_XC + 0.5, n_C - k_XC + 0.5, (DRAWS, *k_XC.shape))


def _share(weight_C: Floats, kind: Kind) -> Floats:
    """What part of weights by class (along the last axis) a search is for; 0 where there is no weight."""
    return _over(weight_C[..., yes(kind)].sum(-1), weight_C.sum(-1))


def _over(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    return np.asarray(part / np.where(whole > 0, whole, 1))


def _measures(
    kind: Kind, metric: str, value_X: Floats, drawn_RX: Floats, n_X: NDArray[Any], optimism: float
) -> list[Measure]:
    """Values with the middle 95 % of their draws, widened to hold the value; the optimism is taken off both."""
    value_X, drawn_RX = (expit(logit(share) - optimism) for share in (value_X, drawn_RX))
    low_X, high_X = np.quantile(drawn_RX, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    low_X, high_X = np.fmin(low_X, value_X), np.fmax(high_X, value_X)
    return [
        Measure(kind, metric, float(v), float(low), float(high), int(n))
        for v, low, high, n in zip(value_X, low_X, high_X, n_X, strict=True)
    ]


def _plain(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if np.isfinite(value) else None
