"""The score above which a star is a candidate, chosen on validation stars.

The score of a star is the sum of its probabilities of the classes that belong in the list (the MP list
takes CEMP stars too), re-weighted to the class shares of the survey (`survey.catalog.prior`). Validation
stars are combined from their visits and flagged as the stars of the catalog are, so a threshold is chosen
on stars like those it is used for. A candidate of the CEMP list is one of the MP list too, whatever its MP
score: the MP threshold is chosen, and its purity counted, with these stars in the list. The class shares of
the survey are estimated from its stars that are similar to the training spectra. If there are few of them,
the shares of validation are used instead, and a note says so.

Shapes: N stars, C classes, X thresholds, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from survey.answers import ColumnSpec
from survey.catalog.document import IntervalRecord, ThresholdRecord, ValidationRecord
from survey.catalog.flags import FlagRules
from survey.catalog.prior import (
    FEW,
    BinnedProbabilities,
    ClassMix,
    cautious,
    class_mix,
    resample,
    survey_probabilities,
)
from survey.catalog.purity import expected_completeness, expected_purity, purity_completeness, ratio
from survey.catalog.settings import ListGoal, ListName, Prior, inner_lists, list_classes
from survey.catalog.validation_stars import ValidationStars
from survey.catalog.visits import Flags, Floats
from survey.labels import CLASSES
from survey.metrics.intervals import Measure, wilson
from survey.predict.output import Predictions, PredictionsDocument
from survey.settings import SettingsError

FALLBACK = 0.5
"""The threshold if none can be chosen."""
ROUNDING = 1e-9
STEPS = 1000
"""At most this many thresholds are tried; of more stars, those at evenly spaced logarithms of their ranks."""
FEWEST_STARS = 200
"""With fewer stars than this the class shares of the survey are not estimated."""

COLUMNS: dict[str, ColumnSpec] = {
    "score_mp": (
        "float32",
        "probability that the star is metal-poor (MP or CEMP), with the class shares of the survey",
        "",
        "stat.probability;src.class",
    ),
    "score_cemp": (
        "float32",
        "probability that the star is CEMP, with the class shares of the survey",
        "",
        "stat.probability;src.class",
    ),
}


@dataclass(frozen=True)
class Threshold:
    """The score from which on a star is a candidate, with the expected purity and completeness of the list.

    `true` and `other` are the validation stars that belong in the list and that do not, `listed` those
    in the list. `optimism` says by how much, in log odds, purity and completeness look better on the stars
    that the threshold was chosen on than on others; it is subtracted. Candidates of the lists `inner` are in
    this list too. No flag keeps the `allowed` ones of the true stars out. If there are reasons in `withheld`,
    purity and completeness are not promised, and NaN.
    """

    name: ListName
    value: float
    goal: ListGoal
    mix: ClassMix
    purity: Measure
    completeness: Measure
    true: int
    allowed: int
    other: int
    listed: int
    optimism: tuple[float, float]
    notes: tuple[str, ...] = ()
    inner: tuple["Threshold", ...] = ()
    withheld: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """The column with the score."""
        return f"score_{self.name.lower()}"

    def score(self, p_NC: ArrayLike) -> Floats:
        """The probability that a star belongs in the list, with the class shares of the survey."""
        return np.asarray(self.mix.adjust(p_NC)[:, list_classes(self.name)].sum(1))

    def passes(self, p_NC: ArrayLike) -> Flags:
        """Which stars are candidates, unless a flag excludes them; stars without an answer are not."""
        return np.asarray((self.score(p_NC) >= self.value) | in_any(self.inner, p_NC))

    def validation_score(self, stars: ValidationStars) -> Floats:
        """What decides whether validation stars are in the list: candidates of an inner list have 1."""
        return stars.score(self.name, self.mix, in_any(self.inner, stars.p_NC))

    def record(self) -> ThresholdRecord:
        """The threshold as the catalog's document holds it."""
        return ThresholdRecord(
            search=self.name,
            score=self.column,
            value=self.value,
            goal=self.goal.goal,
            level=self.goal.level,
            purity=_interval(self.purity),
            completeness=_interval(self.completeness),
            validation=ValidationRecord(true=self.true, other=self.other, listed=self.listed),
            mix=self.mix.record(),
            notes=self.notes,
            withheld=self.withheld,
        )


def in_any(thresholds: Sequence[Threshold], p_NC: ArrayLike) -> Flags:
    """Which stars are candidates of any of these lists."""
    passes = [threshold.passes(p_NC) for threshold in thresholds]
    return np.asarray(np.logical_or.reduce([np.zeros(len(np.asarray(p_NC)), bool), *passes]))


def _interval(measure: Measure) -> IntervalRecord:
    values = (value if np.isfinite(value) else None for value in (measure.value, measure.low, measure.high))
    return IntervalRecord(**dict(zip(("value", "low", "high"), values, strict=True)))


def choose_thresholds(
    predictions: Predictions,
    validation: pa.Table | None,
    goals: Mapping[ListName, ListGoal],
    flags: FlagRules,
    star_N: NDArray[np.int32],
) -> dict[ListName, Threshold]:
    """The threshold of each list; none if the ensemble predicts no classes.

    `star_N` is the star of each prediction.
    """
    if not predictions.document.classes:
        return {}
    if validation is None:
        raise SettingsError(
            f"catalog: {predictions.path}: the ensemble {predictions.document.ensemble.path} has no "
            "validation stars, so no threshold can be chosen; run survey ensemble with runs=[...], "
            "and predict with that ensemble"
        )
    survey = survey_probabilities(predictions, flags, star_N)
    chosen: dict[ListName, Threshold] = {}
    mixes: dict[str, ClassMix] = {}
    for name in sorted(goals, key=lambda name: len(inner_lists(name))):
        goal, prior = goals[name], str(goals[name].prior)
        if prior not in mixes:  # a second or two each
            mixes[prior] = mix_of_stars(validation, goal.prior, survey)
        mix, mix_notes = cautious(mixes[prior], name)
        inner = tuple(chosen[other] for other in inner_lists(name) if other in chosen)
        threshold = choose_threshold(validation, name, goal, mix, inner)
        notes = threshold.notes + mix_notes + _cascade_notes(predictions.document, name)
        chosen[name] = replace(threshold, notes=notes + _untested_notes(validation, flags))
    return {name: chosen[name] for name in goals}


def _untested_notes(validation: pa.Table, flags: FlagRules) -> tuple[str, ...]:
    """Which flags of `leave_out` the validation stars cannot have, and what that means."""
    untested = ", ".join(flags.untested(validation)).lower()
    if not untested:
        return ()
    return (
        f"leave_out: validation stars cannot have the flags {untested}, so the completeness is lower than "
        "said by the share of stars that they keep out",
    )


def _cascade_notes(document: PredictionsDocument, name: ListName) -> tuple[str, ...]:
    """What a cascade leaves to its fastest member, and what that means for a list."""
    if document.cascade is None:
        return ()
    cascade, missed = document.cascade, document.cascade.missed[name]
    text = (
        f"cascade: {cascade.ruled_out:,} of {document.rows:,} spectra were ruled out by {cascade.fastest} "
        "alone; stars without another visit are in no list"
    )
    if missed.share is not None and missed.high is not None:
        text += (
            f", and the promises count that. It rules out {missed.share:.2%} (at most {missed.high:.2%}) of "
            "the validation spectra that all members together put in the list or near it"
        )
    return (text,)


def mix_of_stars(validation: pa.Table, prior: Prior, survey: BinnedProbabilities | None = None) -> ClassMix:
    """The class shares of the survey, from validation stars and, if estimated, its own probabilities.

    Of fewer than `FEWEST_STARS` stars they are not estimated.
    """
    stars = ValidationStars.from_table(validation)
    enough = survey if survey is not None and len(survey) >= FEWEST_STARS else None
    return class_mix(stars.p_NC, stars.class_N, prior, enough, stars.weight_N)


def choose_threshold(
    validation: pa.Table,
    name: ListName,
    goal: ListGoal | None = None,
    mix: ClassMix | None = None,
    inner: tuple[Threshold, ...] = (),
) -> Threshold:
    """The threshold that reaches the goal on validation stars; without a mix, with their class shares.

    `inner` are the thresholds of the lists whose candidates are in this list in any case.
    """
    goal, stars = goal or ListGoal(), ValidationStars.from_table(validation)
    mix = replace(mix or class_mix(stars.p_NC, stars.class_N), independent_C=stars.independent_C)
    score_N, n_C = stars.score(name, mix, in_any(inner, stars.p_NC)), stars.n_C
    true = int(n_C[list_classes(name)].sum())
    other = int(n_C.sum()) - true
    allowed = int((stars.allowed_N & np.isin(stars.class_N, list_classes(name))).sum())
    if min(allowed, other) < FEW:  # a list of `FEW` stars would have wrong ones in any case
        value, optimism = FALLBACK, (0.0, 0.0)
        without = f" ({allowed} of them without a flag that keeps them out)" if allowed < true else ""
        note = (
            f"of the validation stars {true} belong in the {name} list{without} and {other} do not: "
            f"too few to choose a threshold, so it is {FALLBACK}"
        )
    else:
        value, optimism, note = _best_threshold(score_N, stars.class_N, name, goal, mix)
    k_1C = np.bincount(stars.class_N[score_N >= value], minlength=len(CLASSES))[None]
    purity = expected_purity(k_1C, n_C, name, mix, optimism[0])[0]
    completeness = expected_completeness(k_1C, n_C, name, mix, optimism[1])[0]
    notes = (*mix.notes, *([note] if note else []))
    listed = int(k_1C.sum())
    return Threshold(
        name, value, goal, mix, purity, completeness, true, allowed, other, listed, optimism, notes, inner
    )


def _best_threshold(
    score_N: Floats, class_N: NDArray[np.int64], name: ListName, goal: ListGoal, mix: ClassMix
) -> tuple[float, tuple[float, float], str]:
    """The threshold for a goal, its optimism, and a note if no threshold reaches the goal.

    Lists with fewer than `FEW` validation stars are not considered.
    """
    order_N = np.argsort(-score_N, kind="stable")
    score_N, class_N = score_N[order_N], class_N[order_N]
    last_X = np.flatnonzero(np.append(np.diff(score_N) != 0, True) & (score_N >= 0))
    last_X = last_X[last_X >= FEW - 1]
    if len(last_X) > STEPS:
        last_X = last_X[np.unique(np.geomspace(1, len(last_X), STEPS).round().astype(np.int64)) - 1]
    k_XC = np.cumsum(np.eye(len(CLASSES))[class_N], 0)
    n_C, k_XC = k_XC[-1], k_XC[last_X]
    best = int(_best_list(k_XC, n_C, mix.share_C, name, goal))
    reached = purity_completeness(k_XC[best], n_C, mix.share_C, name)
    note = ""
    if (
        dict(zip(("purity", "completeness"), reached, strict=True)).get(goal.goal, np.inf)
        < goal.level - ROUNDING
    ):
        instead = "this one comes nearest" if goal.goal == "purity" else "this one has the best F1"
        note = f"no threshold reaches a {goal.goal} of {goal.level:g} on validation stars; {instead}"
    above, below = score_N[last_X[best]], score_N[min(last_X[best] + 1, len(score_N) - 1)]
    value = float((above + (below if below >= 0 else above)) / 2)
    return value, _optimism(k_XC, n_C, name, goal, mix), note


def _best_list(
    k_RXC: Floats, n_RC: Floats, share_RC: Floats, name: ListName, goal: ListGoal
) -> NDArray[np.int64]:
    """The threshold X, from the strictest on, that suits a goal, by the numbers of stars above it per class.

    If no list is as pure as wanted: the list that is most certainly the purest. If none is as complete: the
    one with the best F1.
    """
    pure_RX, complete_RX = purity_completeness(k_RXC, n_RC[..., None, :], share_RC[..., None, :], name)
    best_R = np.asarray(np.argmax(ratio(2 * pure_RX * complete_RX, pure_RX + complete_RX), -1), np.int64)
    if goal.goal == "f1":
        return best_R
    enough_RX = (pure_RX if goal.goal == "purity" else complete_RX) >= goal.level - ROUNDING
    any_R, last = enough_RX.any(-1), enough_RX.shape[-1] - 1
    if goal.goal == "completeness":
        return np.asarray(np.where(any_R, np.argmax(enough_RX, -1), best_R), np.int64)
    listed_RX = k_RXC.sum(-1)
    purest_R = np.argmax(wilson(pure_RX * listed_RX, listed_RX)[0], -1)
    longest_R = last - np.argmax(enough_RX[..., ::-1], -1)
    return np.asarray(np.where(any_R, longest_R, purest_R), np.int64)


def _optimism(
    k_XC: Floats, n_C: Floats, name: ListName, goal: ListGoal, mix: ClassMix
) -> tuple[float, float]:
    """By how much, in log odds, purity and completeness are better on the stars that the threshold is
    chosen on.

    Each resample of the validation stars chooses a threshold, which is judged on the resample and on the
    validation stars (Efron 1983), both times with the same class shares: how sure these are is in the
    intervals.
    """
    k_XC, n_C = k_XC * mix.independent_C, n_C * mix.independent_C
    cells_XC = np.diff(np.concatenate([k_XC, n_C[None]]), axis=0, prepend=0)
    drawn_RXC = np.cumsum(resample(cells_XC, "scores"), 1)
    total_RC = drawn_RXC[:, -1]
    share_RC = np.broadcast_to(mix.share_C, total_RC.shape)
    best_R = _best_list(drawn_RXC[:, :-1], total_RC, share_RC, name, goal)
    drawn_RC = drawn_RXC[np.arange(len(drawn_RXC)), best_R]
    on_resample = purity_completeness(drawn_RC + 0.5, total_RC + 1, mix.share_C, name)
    on_stars = purity_completeness(k_XC[best_R] + 0.5, n_C + 1, mix.share_C, name)
    resample_2R, stars_2R = (
        logit(np.clip(shares, ROUNDING, 1 - ROUNDING)) for shares in (on_resample, on_stars)
    )
    pure, complete = (resample_2R - stars_2R).mean(1).tolist()
    return pure, complete
