"""The share of each class among all stars: in validation, in the survey, and as the probabilities assume.

A probability is right for the class shares that it was learned under. A validation set often has more rare
stars than the sky, and a list that is 90 % pure there is less pure in the survey. So the shares that the
probabilities assume are fitted on validation stars (factors on the classes by maximum likelihood, after
Alexandari, Kundaje & Shrikumar 2020). The shares in the survey are given, or estimated from its own
probabilities by the EM algorithm of Saerens, Latinne & Decaestecker 2002. Probabilities are then
re-weighted from the first shares to the second. All this takes for granted that stars of a class look alike
in both. The uncertainty of the shares comes from resampling validation stars and survey. A share that comes
out vague is replaced by its lower end: a list should rather be too short than full of stars that are not
there. The catalog says so in a note.

Stars of other kinds (hot, M, carbon) are no class, although `p_nmp` holds them: how many of them a survey has
does not follow from its share of ordinary stars. So the classes are re-weighted among ordinary stars, and the
probability of these stays (`ordinary_probabilities`).

Shapes: N stars, B bins of stars with similar probabilities, C classes, R draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from survey.catalog.document import ClassMixRecord, ClassShareRecord
from survey.catalog.flags import FlagRules
from survey.catalog.kinds import NEEDED as KIND_COLUMNS
from survey.catalog.settings import ListName, Prior, class_shares
from survey.catalog.visits import PROBABILITIES, class_probabilities, float_column
from survey.labels import CLASSES, MISSING
from survey.metrics.checks import class_numbers, probabilities
from survey.metrics.intervals import SEED, percentile_interval
from survey.predict.output import Predictions

Floats = NDArray[np.float64]

DRAWS = 400
"""Draws behind the interval of a share."""
FEW = 5
"""With fewer stars of a class than this, nothing is fitted."""
TINY = 1e-7
"""Smaller probabilities count as this: a network is never as sure as its output."""
BIN_WIDTH, BIN_RANGE = 0.25, 16.0
"""Stars whose log ratios of probabilities lie in the same bin count together; beyond the range all do."""
RAREST = 1e-4
"""A class gets at least this share: with a share of 0 no evidence would be enough."""
VAGUE = 4.0
"""A share is vague if the upper end of its interval is more than this many times the lower end."""


@dataclass(frozen=True)
class BinnedProbabilities:
    """Class probabilities of many stars, similar ones together: means (B, C) and numbers of stars (B)."""

    p_BC: Floats
    n_B: Floats

    @classmethod
    def of_stars(cls, p_NC: ArrayLike, n_N: ArrayLike | None = None) -> Self:
        """From the probabilities of stars, or of `n_N` stars each; those without an answer do not count."""
        star_NC = np.asarray(p_NC, np.float64)
        n_N = np.ones(len(star_NC)) if n_N is None else np.asarray(n_N, np.float64)
        known_N = np.isfinite(star_NC).all(1)
        p_BC, n_B1 = _binned(star_NC[known_N], n_N[known_N, None])
        return cls(p_BC, n_B1[:, 0])

    @classmethod
    def joined(cls, binned: Sequence["BinnedProbabilities"]) -> Self:
        """From the stars of all of these together."""
        return cls.of_stars(
            np.concatenate([stars.p_BC for stars in binned]), np.concatenate([stars.n_B for stars in binned])
        )

    def __len__(self) -> int:
        return round(float(self.n_B.sum()))


@dataclass(frozen=True)
class ClassMix:
    """Shares of the classes (C): as the probabilities assume, and in the survey, with draws (R, C) of the
    latter.

    `size` is the number of stars in the survey; 0 = unknown, taken as so many that chance plays no part.
    `independent_C` is the share of the tested stars of each class that are independent of each other.
    """

    how: str
    assumed_C: Floats
    share_C: Floats
    drawn_RC: Floats
    size: int = 0
    notes: tuple[str, ...] = ()
    independent_C: Floats = field(default_factory=lambda: np.ones(len(CLASSES)))

    def adjust(self, p_NC: ArrayLike) -> Floats:
        """Probabilities re-weighted to the class shares of the survey."""
        return adjust(p_NC, self.assumed_C, self.share_C)

    def record(self) -> ClassMixRecord:
        """The mix as the catalog's document holds it."""
        bounds = [
            percentile_interval(drawn_R, share)
            for drawn_R, share in zip(self.drawn_RC.T, self.share_C.tolist(), strict=True)
        ]
        values = zip(CLASSES, self.share_C.tolist(), bounds, self.assumed_C.tolist(), strict=True)
        classes = {
            name: ClassShareRecord(share=share, low=low, high=high, assumed=assumed)
            for name, share, (low, high), assumed in values
        }
        return ClassMixRecord(how=self.how, classes=classes, notes=self.notes)


def adjust(p_NC: ArrayLike, from_shares: ArrayLike, to_shares: ArrayLike) -> Floats:
    """Probabilities under some class shares, re-weighted to others; the sum of a row stays, and NaN too."""
    from_C, to_C = np.asarray(from_shares, np.float64), np.asarray(to_shares, np.float64)
    if not (from_C > 0).all() or not (to_C >= 0).all() or not to_C.sum() > 0:
        raise ValueError(
            f"catalog: probabilities cannot be re-weighted from class shares {from_C.tolist()} to "
            f"{to_C.tolist()}; give shares above 0 first, then shares of at least 0, not all 0"
        )
    p_NC = np.asarray(p_NC, np.float64)
    weighted_NC = np.maximum(p_NC, TINY) * (to_C / from_C)
    return np.asarray(weighted_NC * (p_NC.sum(1) / weighted_NC.sum(1))[:, None])


def ordinary_probabilities(table: pa.Table) -> Floats:
    """How likely each star is an ordinary one of each class (N, C). A row adds up to 1 - `other_kind`."""
    p_NC = class_probabilities(table)
    if p_NC.shape[1]:
        other_N = np.nan_to_num(float_column(table, "other_kind"))
        p_NC[:, CLASSES.index("NMP")] = np.maximum(p_NC[:, CLASSES.index("NMP")] - other_N, 0.0)
    return p_NC


def class_mix(
    p_NC: ArrayLike,
    class_N: ArrayLike,
    prior: Prior = "validation",
    survey: BinnedProbabilities | None = None,
    weight_N: ArrayLike | None = None,
) -> ClassMix:
    """The class shares that validation probabilities assume, and those of the survey; class -1 is unknown.

    `weight_N` says as how many stars each counts: draws of one spectrum count as one star together.
    """
    star_NC, true_N = np.asarray(p_NC, np.float64), np.asarray(class_N).astype(np.int64)
    total_N = star_NC.sum(1)  # less than 1 where the star may be of another kind; 0 says nothing of classes
    known_N = (true_N != MISSING) & np.isfinite(star_NC).all(1) & (total_N != 0)
    divisor_N = np.where((total_N > 0) & (total_N < 1), total_N, 1.0)
    star_NC = probabilities((star_NC / divisor_N[:, None])[known_N], len(CLASSES))
    true_NC = np.eye(len(CLASSES))[class_numbers(true_N[known_N], len(CLASSES), len(star_NC))]
    if weight_N is not None:
        true_NC *= np.asarray(weight_N, np.float64)[known_N, None]
    n_C = true_NC.sum(0)
    p_BC, n_BC = _binned(star_NC, true_NC)
    assumed_C, size = _assumed(p_BC, n_BC[None])[0], len(survey) if survey else 0
    notes = _few_stars(n_C)
    if isinstance(prior, dict):
        share_C = class_shares(prior)
        return ClassMix("given", assumed_C, share_C, np.tile(share_C, (DRAWS, 1)), size, notes)
    if prior == "estimated" and survey is not None and size:
        share_1C = _estimated(survey.p_BC, survey.n_B[None], assumed_C[None])
        assumed_RC = _assumed(p_BC, resample(n_BC, "validation"))
        drawn_RC = _estimated(survey.p_BC, resample(survey.n_B, "survey"), assumed_RC)
        return ClassMix("estimated", assumed_C, share_1C[0], drawn_RC, size, notes)
    if prior == "estimated":
        note = (
            "too few stars of the survey have class probabilities: the class shares are those of validation"
        )
        notes = (*notes, note)
    counted_C = n_C if n_C.sum() else np.ones(len(CLASSES))
    drawn_RC = resample(counted_C, "classes")
    drawn_RC /= drawn_RC.sum(1, keepdims=True)
    return ClassMix("validation", assumed_C, counted_C / counted_C.sum(), drawn_RC, size, notes)


def survey_probabilities(
    predictions: Predictions, rules: FlagRules, star_N: NDArray[np.int32]
) -> BinnedProbabilities:
    """The class probabilities of the survey's spectra of asked kinds in the domain.

    `star_N` is the star of each spectrum. All spectra of a star count as one star together.
    """
    binned, weight_N, start = [], 1 / np.bincount(star_N)[star_N], 0
    for table in predictions.tables([*PROBABILITIES, "other_kind", *KIND_COLUMNS, "domain"]):
        outside_N = float_column(table, "domain") > rules.limits.domain_warn
        chosen_N = rules.may_be_asked(table) & ~outside_N
        n_N = weight_N[start : start + table.num_rows][chosen_N]
        binned.append(BinnedProbabilities.of_stars(ordinary_probabilities(table)[chosen_N], n_N))
        start += table.num_rows
    return BinnedProbabilities.joined(binned)


def cautious(mix: ClassMix, name: ListName) -> tuple[ClassMix, tuple[str, ...]]:
    """The mix with vague estimates replaced by the lower ends of their intervals, and a note about them.

    The note is for the list of this name.
    """
    low_C, high_C = np.quantile(mix.drawn_RC, [0.025, 0.975], axis=0)
    vague_C = ((high_C > VAGUE * low_C) | (mix.share_C < RAREST)) & (mix.how == "estimated")
    if not vague_C.any() or vague_C.all():
        return mix, ()
    share_C = np.where(vague_C, np.clip(low_C, RAREST, np.maximum(mix.share_C, RAREST)), mix.share_C)
    ranges = ", ".join(
        f"{name} between {low_C[number]:.2%} and {max(high_C[number], RAREST):.2%}"
        for number, name in enumerate(CLASSES)
        if vague_C[number]
    )
    note = (
        f"the survey's share of {ranges} is vague, so its lower end is used; if you know the shares, "
        f"give them: {typed_shares(name)}"
    )
    return replace(mix, share_C=share_C / share_C.sum()), (note,)


def typed_shares(name: ListName) -> str:
    """How class shares of the survey are given on the command line, with an example of shares."""
    return f"'{name.lower()}.prior={{MP: 4, CEMP: 1, NMP: 95}}'"


def random_generator(purpose: str) -> np.random.Generator:
    """Random numbers for one purpose: the same each time, and others than for any other purpose."""
    return np.random.default_rng([SEED, *purpose.encode()])


def resample(counts: Floats, purpose: str) -> Floats:
    """Draws (R first) of numbers of stars, as if stars were drawn again: each has an exponential weight."""
    return random_generator(purpose).standard_gamma(counts, (DRAWS, *counts.shape))


def _few_stars(n_C: Floats) -> tuple[str, ...]:
    """A note about classes with too few validation stars."""
    few = [f"{name} ({n:.0f})" for name, n in zip(CLASSES, n_C, strict=True) if n < FEW]
    if not few:
        return ()
    return (
        f"too few validation stars of {', '.join(few)} to fit the class shares that probabilities assume",
    )


def _binned(p_NC: Floats, n_NK: Floats) -> tuple[Floats, Floats]:
    """Stars with similar log ratios of probabilities together: means (B, C), numbers per kind (B, K)."""
    log_NC = np.log(np.maximum(p_NC, TINY))
    ratio_NC = np.clip(log_NC[:, :-1] - log_NC[:, -1:], -BIN_RANGE, BIN_RANGE)
    step_NC = np.rint(ratio_NC / BIN_WIDTH).astype(np.int64)
    side = int(2 * BIN_RANGE / BIN_WIDTH) + 1
    bin_N = (step_NC + side // 2) @ side ** np.arange(p_NC.shape[1] - 1)
    size = side ** (p_NC.shape[1] - 1)
    n_BK = np.stack([np.bincount(bin_N, n_N, size) for n_N in n_NK.T], 1)
    filled_B = n_BK.sum(1) > 0
    n_BK, total_N = n_BK[filled_B], n_NK.sum(1)
    sum_BC = np.stack([np.bincount(bin_N, total_N * p_N, size)[filled_B] for p_N in p_NC.T], 1)
    return sum_BC / n_BK.sum(1, keepdims=True), n_BK


def _assumed(p_BC: Floats, n_RBC: Floats) -> Floats:
    """The shares (R, C) that bins of probabilities assume: those of the true classes / fitted factors."""
    true_RC = n_RBC.sum(1)
    mix_RC = (true_RC + 0.5) / _factors(p_BC, n_RBC, true_RC.mean(0) >= FEW)
    return np.asarray(mix_RC / mix_RC.sum(1, keepdims=True))


def _factors(p_BC: Floats, n_RBC: Floats, free_C: NDArray[np.bool_], steps: int = 50) -> Floats:
    """Factors (R, C) on the probabilities of bins that make the true classes most likely, by Newton's method.

    A normal prior of width 1 holds their logarithms near 0; it matters only with few stars. The logarithms of
    classes that are not free stay 0.
    """
    log_BC, total_RB, true_RC = np.log(np.maximum(p_BC, TINY)), n_RBC.sum(2), n_RBC.sum(1)
    offset_RC = np.zeros(true_RC.shape)
    free_CC, identity_CC = np.outer(free_C, free_C), np.eye(len(free_C))
    for _ in range(steps):
        p_RBC = np.exp(log_BC + offset_RC[:, None])
        p_RBC /= p_RBC.sum(2, keepdims=True)
        weighted_RBC = p_RBC * total_RB[:, :, None]
        sum_RC = weighted_RBC.sum(1)
        gradient_RC = np.where(free_C, true_RC - sum_RC - offset_RC, 0)
        hessian_RCC = sum_RC[:, :, None] * identity_CC - np.swapaxes(weighted_RBC, 1, 2) @ p_RBC
        hessian_RCC = np.where(free_CC, hessian_RCC, 0) + identity_CC
        step_RC = np.linalg.solve(hessian_RCC, gradient_RC[:, :, None])[:, :, 0]
        offset_RC += np.clip(step_RC, -2, 2)
        if np.abs(step_RC).max(initial=0) < 1e-8:
            break
    return np.exp(offset_RC)


def _estimated(p_BC: Floats, n_RB: Floats, assumed_RC: Floats, steps: int = 2000) -> Floats:
    """The shares (R, C) that make stars with these probabilities most likely, by the EM algorithm."""
    ratio_RBC = np.maximum(p_BC, TINY) / assumed_RC[:, None]
    weight_RB = n_RB / np.maximum(n_RB.sum(1, keepdims=True), 1)
    mix_RC = assumed_RC
    for _ in range(steps):
        likelihood_RB = (ratio_RBC @ mix_RC[:, :, None])[:, :, 0]
        next_RC = mix_RC * ((weight_RB / likelihood_RB)[:, None] @ ratio_RBC)[:, 0]
        change = np.abs(next_RC - mix_RC).max(initial=0)
        mix_RC = next_RC
        if change < 1e-7:
            break
    return np.asarray(mix_RC / mix_RC.sum(1, keepdims=True))
