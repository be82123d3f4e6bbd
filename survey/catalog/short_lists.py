"""Why a list of candidates is empty or very short, and which settings would give a longer one.

A setting is advised only if it was tried: with it, a threshold is chosen again, and the stars of the survey
above it are counted. Settings are written as they are typed on the command line.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.candidates import NOT_SELECTED, CandidateRules
from survey.catalog.flag_settings import CatalogFlag, FlagLimits
from survey.catalog.next_best import NextBest
from survey.catalog.prior import (
    FEW,
    BinnedProbabilities,
    ClassMix,
    cautious,
    survey_probabilities,
    typed_shares,
)
from survey.catalog.settings import LIST_CLASSES, ListGoal, list_classes
from survey.catalog.thresholds import Threshold, choose_threshold, mix_of_stars
from survey.predict.output import Predictions

SHORT = 10
"""A list with fewer candidates is very short."""
LOWER_PURITY = 0.5
LIMIT_OF_FLAG = {
    CatalogFlag.VERY_LOW_SNR: ("snr_bad", 0.5),
    CatalogFlag.FAR_OUT_OF_DOMAIN: ("domain_bad", 1.5),
}
"""The limit behind a bit of `flag_bad`, and a factor that makes it milder."""


@dataclass(frozen=True)
class ShortLists:
    """Explains short lists. `validation` are the validation stars; None if the ensemble has none.

    `star_N` is the star of each prediction.
    """

    predictions: Predictions
    rules: CandidateRules
    validation: pa.Table | None
    star_N: NDArray[np.int32]

    def explain(self, listed: int, next_best: NextBest) -> tuple[str, ...]:
        """Why a list with so many candidates is short; nothing if it is not."""
        if listed >= SHORT:
            return ()
        name = next_best.name
        if name in self.rules.thresholds:
            return tuple(self._by_score(listed, next_best, self.rules.thresholds[name]))
        by = self.rules.selected_by(name, self.predictions.labels)
        if by == NOT_SELECTED:
            return (f"{_size(listed)}: it is selected by {by}; predict with an ensemble that has these",)
        reasons = [f"{_size(listed)}: no other star belongs in it by its labels"]
        return (*reasons, *self._excluded(next_best), *_rest(next_best))

    def _by_score(self, listed: int, next_best: NextBest, threshold: Threshold) -> Iterator[str]:
        below = next_best.below[0] if next_best.below else None
        best = "no other star has a score"
        if below is not None and below.num_rows:
            best = f"the next score is {below[threshold.column][0].as_py():.3g}"
        yield f"{_size(listed)}: its threshold in {threshold.column} is {threshold.value:.3g}, {best}"
        yield from self._excluded(next_best)
        yield _why_threshold(threshold)
        yield from self._advice(threshold)
        yield from _rest(next_best)

    def _excluded(self, next_best: NextBest) -> Iterator[str]:
        """The stars that flags exclude, and the settings that would let them in."""
        if next_best.other_kinds:
            yield (
                f"{next_best.other_kinds:,} stars of other kinds have such a score; the list was not tested "
                "for them (not_fgk.parquet)"
            )
        counts = next_best.excluded
        if not counts["any"]:
            return
        flags = [CatalogFlag[name.upper().replace(" ", "_")] for name in counts if name != "any"]
        listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if name != "any")
        typed = [text for flag in flags if (text := _milder(flag, self.rules.flags.limits))]
        if any(self.rules.flags.leave_out & flag for flag in flags):
            typed.append("leave_out=[]")
        text = f"{counts['any']:,} more stars belong in it, but flags exclude them: {listed}"
        yield f"{text}; milder: {' '.join(typed)}" if typed else text

    def _advice(self, threshold: Threshold) -> Iterator[str]:
        """Settings that give more candidates, with what they give."""
        survey = survey_probabilities(self.predictions, self.rules.flags, self.star_N)
        now = _count(threshold, survey)
        for typed, goal in _milder_goals(threshold):
            if self.validation is None:
                continue
            mix = self._mix(threshold, goal, survey)
            other = choose_threshold(self.validation, threshold.name, goal, mix, threshold.inner)
            if (count := _count(other, survey)) > now:
                text = f"{typed} (and another catalog=) would list about {count:,} stars (now {now:,})"
                purity, completeness = (_text(share.value) for share in (other.purity, other.completeness))
                promise = f"; expected purity {purity}, completeness {completeness}"
                yield text if threshold.withheld else text + promise
        if threshold.goal.prior == "estimated":
            yield f"if you know the class shares of the survey, give them: {typed_shares(threshold.name)}"

    def _mix(self, threshold: Threshold, goal: ListGoal, survey: BinnedProbabilities) -> ClassMix:
        if goal.prior == threshold.goal.prior or self.validation is None:
            return threshold.mix
        return cautious(mix_of_stars(self.validation, goal.prior, survey), threshold.name)[0]


def _why_threshold(threshold: Threshold) -> str:
    """What the threshold was chosen for, or why it could not be chosen."""
    if min(threshold.allowed, threshold.other) < FEW:
        more = f" ({threshold.true} with flagged ones)" if threshold.allowed < threshold.true else ""
        return (
            f"only {threshold.allowed} validation stars belong in it{more}, too few to choose a threshold: "
            "train with more such stars"
        )
    mix, numbers = threshold.mix, list_classes(threshold.name)
    share, assumed = (float(share_C[numbers].sum()) for share_C in (mix.share_C, mix.assumed_C))
    return (
        f"the threshold was chosen for {threshold.goal.words} in a survey of which {share:.2%} are "
        f"{' or '.join(LIST_CLASSES[threshold.name])} (class shares: {mix.how}); "
        f"the probabilities assume {assumed:.2%}, so they are re-weighted"
    )


def _size(listed: int) -> str:
    if not listed:
        return "the list is empty"
    return f"the list has only {listed} star{'s' if listed > 1 else ''}"


def _text(share: float) -> str:
    return f"{share:.2f}" if np.isfinite(share) else "unknown"


def _rest(next_best: NextBest) -> Iterator[str]:
    """The list of the next best stars."""
    if next_best.count:
        file = f"next_{next_best.name.lower()}.parquet"
        yield f"{file} holds the next best {next_best.count:,} stars, ranked, each with what keeps it out"


def _milder_goals(threshold: Threshold) -> Iterator[tuple[str, ListGoal]]:
    """Goals that may give a longer list, as they are typed."""
    goal, name = threshold.goal, threshold.name.lower()
    if goal.goal == "purity" and goal.level > LOWER_PURITY:
        yield f"{name}.level={LOWER_PURITY:g}", goal.model_copy(update={"level": LOWER_PURITY})
    if goal.goal == "purity":
        yield f"{name}.goal=f1", goal.model_copy(update={"goal": "f1"})
    if goal.goal != "completeness" or goal.level < 0.9:
        changes = {"goal": "completeness", "level": 0.9}
        yield f"{name}.goal=completeness {name}.level=0.9", goal.model_copy(update=changes)
    if goal.prior != "validation":
        yield f"{name}.prior=validation", goal.model_copy(update={"prior": "validation"})


def _milder(flag: CatalogFlag, limits: FlagLimits) -> str:
    """The setting that makes the limit of a flag milder, as it is typed; empty if there is none."""
    if flag == CatalogFlag.KEYS_DISAGREE:
        return "second_key=flag"
    if flag not in LIMIT_OF_FLAG:
        return ""
    name, factor = LIMIT_OF_FLAG[flag]
    return f"limits.{name}={getattr(limits, name) * factor:g}"


def _count(threshold: Threshold, survey: BinnedProbabilities) -> int:
    """About how many stars of the survey are above the threshold; flags are not looked at."""
    return round(float(survey.n_B[threshold.passes(survey.p_BC)].sum())) if len(survey) else 0
