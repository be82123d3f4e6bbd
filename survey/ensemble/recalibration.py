"""Labels of one survey on its own scale: an offset, or a line, learned from a few labelled stars of it.

Spectra of a survey differ from those of the training in ways that shift all answers alike. A correction of a
label is fitted robustly to stars of the survey with known labels which no member was trained on. It is tested
with each star left out, and a label that does not become better by it is not corrected. Beyond the range of
these stars it fades out: a list of metal-poor stars does not follow from ordinary ones. Class probabilities
and errors stay as they are. Shapes: N spectra, L labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from survey.answers import Answers, Floats

Form = Literal["offset", "line"]
LEAST = {"offset": 20, "line": 40}
"""With fewer stars a label is not corrected."""
GROUPS = 100
"""Stars are left out one by one, or in so many groups if there are more."""
MOST = 1000
"""At most this many spectra give a line: each pair of them is looked at."""
INSIDE = 0.02
"""At each end this share of the stars lies outside the range of the correction."""


class LabelCorrection(BaseModel):
    """What is added to a label: offset + slope * (value - centre), in the range from `low` to `high`.

    `before` and `after` are the median difference from the truth, with the star left out, and `scatter` the
    robust standard deviation of it before and after. With a `missing` reason nothing is added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stars: int
    offset: float = 0.0
    slope: float = 0.0
    centre: float = 0.0
    low: float = 0.0
    high: float = 0.0
    before: float | None = None
    after: float | None = None
    scatter: tuple[float, float] | None = None
    missing: str = ""

    @classmethod
    def fit(cls, form: Form, value_N: Floats, true_N: Floats, star_N: NDArray[np.object_]) -> Self:
        """From answers and true values of spectra; NaN = not known."""
        known_N = np.isfinite(value_N) & np.isfinite(true_N)
        value_N, true_N, star_N = value_N[known_N], true_N[known_N], star_N[known_N]
        stars = len(set(star_N.tolist()))
        if stars < LEAST[form]:
            return cls(stars=stars, missing=f"{stars} stars have it, {LEAST[form]} are needed")
        before_N = value_N - true_N
        after_N = left_out(form, value_N, true_N, star_N)
        measured = {
            "before": float(np.median(before_N)),
            "after": float(np.median(after_N)),
            "scatter": (_robust(before_N), _robust(after_N)),
        }
        if np.abs(after_N).mean() >= np.abs(before_N).mean():
            text = "it would not become better: stars that are left out say so"
            return cls(stars=stars, missing=text, **measured)
        offset, slope, centre = _robust_line(form, value_N, true_N)
        low, high = np.quantile(value_N, [INSIDE, 1 - INSIDE])
        numbers = {"offset": offset, "slope": slope, "centre": centre, "low": float(low), "high": float(high)}
        return cls(stars=stars, **numbers, **measured)

    def step(self, value_N: Floats) -> Floats:
        """What is added to values. Half the width of the range beyond its ends it is 0."""
        if self.missing:
            return np.zeros_like(value_N)
        nearest_N = np.clip(value_N, self.low, self.high)
        fade = max(0.5 * (self.high - self.low), 1e-9)
        share_N = np.clip(1 - np.abs(value_N - nearest_N) / fade, 0, 1)
        return np.asarray(share_N * (self.offset + self.slope * (nearest_N - self.centre)))


class Recalibration(BaseModel):
    """The corrections of labels by name, and the labelled store they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = ""
    labels: dict[str, LabelCorrection] = {}

    @classmethod
    def fit(
        cls,
        form: Form,
        store: str,
        answers: Answers,
        names: Sequence[str],
        true_NL: Floats,
        star_N: NDArray[np.object_],
    ) -> Self:
        """From answers about spectra of a survey, and the true labels of these names."""
        corrections = {}
        for name, true_N in zip(names, true_NL.T, strict=True):
            if answers.value_NL is not None and name in answers.labels:
                value_N = answers.value_NL[:, answers.labels.index(name)]
                corrections[name] = LabelCorrection.fit(form, value_N, true_N, star_N)
        return cls(store=store, labels=corrections)

    def apply(self, answers: Answers) -> Answers:
        """The answers with corrected labels; intervals move with them."""
        if answers.value_NL is None or not self.labels:
            return answers
        step_NL = np.zeros_like(answers.value_NL)
        for name, correction in self.labels.items():
            if name in answers.labels:
                column = answers.labels.index(name)
                step_NL[:, column] = correction.step(answers.value_NL[:, column])
        low_NL, high_NL = (
            None if end_NL is None else end_NL + step_NL for end_NL in (answers.low_NL, answers.high_NL)
        )
        return replace(answers, value_NL=answers.value_NL + step_NL, low_NL=low_NL, high_NL=high_NL)


def left_out(form: Form, value_N: Floats, true_N: Floats, star_N: NDArray[np.object_]) -> Floats:
    """The differences from the truth after a correction that has not seen the star."""
    _, code_N = np.unique(star_N.astype(str), return_inverse=True)
    group_N, after_N = code_N % GROUPS, np.empty(len(value_N))
    for group in np.unique(group_N):
        out_N = group_N == group
        offset, slope, centre = _robust_line(form, value_N[~out_N], true_N[~out_N])
        after_N[out_N] = value_N[out_N] + offset + slope * (value_N[out_N] - centre) - true_N[out_N]
    return after_N


def _robust_line(form: Form, value_N: Floats, true_N: Floats) -> tuple[float, float, float]:
    """Offset, slope and centre of what is missing in the values: medians, of pairs of spectra for a slope."""
    if len(value_N) > MOST:
        chosen = np.random.default_rng(0).choice(len(value_N), MOST, replace=False)
        value_N, true_N = value_N[chosen], true_N[chosen]
    missing_N, centre, slope = true_N - value_N, float(np.median(value_N)), 0.0
    if form == "line" and np.ptp(value_N) > 0:
        from scipy.stats import theilslopes  # takes most of a second to load, and a prediction needs no fit

        slope = float(theilslopes(missing_N, value_N).slope)
    return float(np.median(missing_N - slope * (value_N - centre))), slope, centre


def _robust(deviation_N: Floats) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(deviation_N - np.median(deviation_N))))
