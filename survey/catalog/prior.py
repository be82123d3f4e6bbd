"""How many stars of each class there are among all: in validation, in the survey, and as the probabilities suppose.

A probability holds for the mix of classes that it was learned under. A validation set is often richer in rare stars than the sky, and a list that
is nine tenths pure there is not so in the survey. So the mix that the probabilities suppose is fitted on validation (factors on the classes by
maximum likelihood, after Alexandari, Kundaje & Shrikumar 2020), the survey's mix is given, or estimated from its own probabilities by the EM of
Saerens, Latinne & Decaestecker 2002, and probabilities are re-weighted from one to the other. All this supposes that stars of a class look alike
in both; the uncertainty of the mix comes from drawing validation and survey anew.

Shapes: N stars, B bins of stars with like probabilities, C classes, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.labels import CLASSES, MISSING
from survey.metrics.checks import class_numbers, probabilities
from survey.metrics.intervals import SEED, between

Floats = NDArray[np.float64]
Prior = Literal["validation", "estimated"] | dict[str, float]
"""The survey's mix: that of validation, estimated from the survey's own probabilities, or shares by the names of the classes."""

DRAWS = 400
"""Draws behind an interval of the mix."""
FEW = 5
"""Fewer stars of a class than these fit nothing."""
TINY = 1e-7
"""No probability counts as less: a network is never as sure as it says."""
WIDTH, REACH = 0.25, 16.0
"""Stars whose log ratios of probabilities differ by less than this count together; beyond the reach all are alike."""


@dataclass(frozen=True)
class Tally:
    """Class probabilities of many stars, those alike counted together: their means (B, C) and numbers (B)."""

    p_BC: Floats
    n_B: Floats

    @classmethod
    def of(cls, p_NC: ArrayLike, n_N: ArrayLike | None = None) -> Self:
        """Of these stars; those without an answer do not count."""
        said_NC = np.asarray(p_NC, np.float64)
        many_N = np.ones(len(said_NC)) if n_N is None else np.asarray(n_N, np.float64)
        known_N = np.isfinite(said_NC).all(1)
        p_BC, n_B1 = _binned(said_NC[known_N], many_N[known_N, None])
        return cls(p_BC, n_B1[:, 0])

    @classmethod
    def joined(cls, parts: Sequence["Tally"]) -> Self:
        """Of the stars of all parts."""
        return cls.of(
            np.concatenate([part.p_BC for part in parts]), np.concatenate([part.n_B for part in parts])
        )

    def __len__(self) -> int:
        return round(float(self.n_B.sum()))


@dataclass(frozen=True)
class Mix:
    """Shares of the classes (C): as the probabilities suppose, and in the survey, with draws (R, C) that tell how well these are known.

    `size` is the number of the survey's stars; 0 = not known, taken as so many that chance plays no part among them.
    """

    how: str
    told_C: Floats
    share_C: Floats
    drawn_RC: Floats
    size: int = 0
    notes: tuple[str, ...] = ()

    def adjusted(self, p_NC: ArrayLike) -> Floats:
        """Probabilities as they are in the survey."""
        return adjusted(p_NC, self.told_C, self.share_C)

    def told(self) -> dict[str, Any]:
        """The mix as JSON can hold it."""
        bounds = [
            between(drawn_R, share)
            for drawn_R, share in zip(self.drawn_RC.T, self.share_C.tolist(), strict=True)
        ]
        shares = {
            name: {"share": share, "low": low, "high": high, "supposed": told}
            for name, share, (low, high), told in zip(
                CLASSES, self.share_C.tolist(), bounds, self.told_C.tolist(), strict=True
            )
        }
        return {"how": self.how, "classes": shares, "notes": list(self.notes)}


def adjusted(p_NC: ArrayLike, from_prior: ArrayLike, to_prior: ArrayLike) -> Floats:
    """Probabilities told under one mix of classes, as they are under another; NaN where they are."""
    from_C, to_C = np.asarray(from_prior, np.float64), np.asarray(to_prior, np.float64)
    if not (from_C > 0).all() or not (to_C >= 0).all() or not to_C.sum() > 0:
        raise ValueError(
            f"catalog: classes mixed as {to_C.tolist()}, told under {from_C.tolist()}; give shares of at least 0, those told under above 0"
        )
    weighted_NC = np.maximum(np.asarray(p_NC, np.float64), TINY) * (to_C / from_C)
    return np.asarray(weighted_NC / weighted_NC.sum(1, keepdims=True))


def mix(p_NC: ArrayLike, class_N: ArrayLike, prior: Prior = "validation", survey: Tally | None = None) -> Mix:
    """The mix that the probabilities of validation stars suppose, and that of the survey; class -1 is not known."""
    said_NC, true_N = np.asarray(p_NC, np.float64), np.asarray(class_N).astype(np.int64)
    chosen_N = (true_N != MISSING) & np.isfinite(said_NC).all(1)
    said_NC = probabilities(said_NC[chosen_N], len(CLASSES))
    true_NC = np.eye(len(CLASSES))[class_numbers(true_N[chosen_N], len(CLASSES), len(said_NC))]
    n_C = true_NC.sum(0)
    binned = _binned(said_NC, true_NC)
    told_C, size = _supposed(binned[0], binned[1][None])[0], len(survey) if survey else 0
    scarce = [f"{name} ({n:.0f})" for name, n in zip(CLASSES, n_C, strict=True) if n < FEW]
    notes = (
        (f"too few validation stars of {', '.join(scarce)} to tell what mix their probabilities suppose",)
        if scarce
        else ()
    )
    if isinstance(prior, dict):
        share_C = given(prior)
        return Mix("given", told_C, share_C, np.tile(share_C, (DRAWS, 1)), size, notes)
    if prior == "estimated" and survey is not None and size:
        share_1C = _estimated(survey.p_BC, survey.n_B[None], told_C[None])
        drawn_RC = _estimated(
            survey.p_BC, redrawn(survey.n_B, "survey"), _supposed(binned[0], redrawn(binned[1], "validation"))
        )
        return Mix("estimated", told_C, share_1C[0], drawn_RC, size, notes)
    if prior == "estimated":
        notes = (
            *notes,
            "too few spectra of the survey have class probabilities: the mix of validation is taken for the survey's",
        )
    counted_C = n_C if n_C.sum() else np.ones(len(CLASSES))
    drawn_RC = redrawn(counted_C, "classes")
    return Mix(
        "validation",
        told_C,
        counted_C / counted_C.sum(),
        drawn_RC / drawn_RC.sum(1, keepdims=True),
        size,
        notes,
    )


def given(shares: Mapping[str, float]) -> Floats:
    """Shares by the names of all classes, made to sum to 1."""
    if (
        set(shares) != set(CLASSES)
        or not all(np.isfinite(value) and value >= 0 for value in shares.values())
        or not sum(shares.values()) > 0
    ):
        raise ValueError(
            f"catalog: prior={dict(shares)}; give a share of at least 0 for each of {', '.join(CLASSES)}, not all 0"
        )
    share_C = np.array([shares[name] for name in CLASSES], np.float64)
    return np.asarray(share_C / share_C.sum())


def _binned(p_NC: Floats, n_NK: Floats) -> tuple[Floats, Floats]:
    """Stars with like log ratios of probabilities as one: mean probabilities (B, C), and their numbers of each kind (B, K)."""
    log_NC = np.log(np.maximum(p_NC, TINY))
    step_NC = np.rint(np.clip(log_NC[:, :-1] - log_NC[:, -1:], -REACH, REACH) / WIDTH).astype(np.int64)
    side = int(2 * REACH / WIDTH) + 1
    number_N = (step_NC + side // 2) @ side ** np.arange(p_NC.shape[1] - 1)
    size = side ** (p_NC.shape[1] - 1)
    n_BK = np.stack([np.bincount(number_N, n_N, size) for n_N in n_NK.T], 1)
    full_B = n_BK.sum(1) > 0
    n_BK, many_N = n_BK[full_B], n_NK.sum(1)
    sum_BC = np.stack([np.bincount(number_N, many_N * p_N, size)[full_B] for p_N in p_NC.T], 1)
    return sum_BC / n_BK.sum(1, keepdims=True), n_BK


def dice(what: str) -> np.random.Generator:
    """Chance for one purpose: the same numbers each time, others than for any other purpose."""
    return np.random.default_rng([SEED, *what.encode()])


def redrawn(counts: Floats, what: str) -> Floats:
    """Draws (R first) of numbers of stars, as if the stars were drawn anew: each star has an exponential weight."""
    return dice(what).standard_gamma(counts, (DRAWS, *counts.shape))


def _supposed(p_BC: Floats, n_RBC: Floats) -> Floats:
    """The mixes (R, C) that probabilities of bins suppose: those of the true classes over the fitted factors."""
    true_RC = n_RBC.sum(1)
    mix_RC = (true_RC + 0.5) / _factors(p_BC, n_RBC, true_RC.mean(0) >= FEW)
    return np.asarray(mix_RC / mix_RC.sum(1, keepdims=True))


def _factors(p_BC: Floats, n_RBC: Floats, free_C: NDArray[np.bool_], steps: int = 50) -> Floats:
    """Factors (R, C) upon the probabilities of bins that make the true classes likeliest, by Newton's method.

    Their logarithms are held near 0 by a normal prior of width 1, which only few stars feel; those of classes that are not free stay 0.
    """
    log_BC, total_RB, true_RC = np.log(np.maximum(p_BC, TINY)), n_RBC.sum(2), n_RBC.sum(1)
    offset_RC = np.zeros(true_RC.shape)
    both_CC = np.outer(free_C, free_C)
    for _ in range(steps):
        said_RBC = np.exp(log_BC + offset_RC[:, None])
        said_RBC /= said_RBC.sum(2, keepdims=True)
        weighted_RBC = said_RBC * total_RB[:, :, None]
        sum_RC = weighted_RBC.sum(1)
        slope_RC = np.where(free_C, true_RC - sum_RC - offset_RC, 0)
        bend_RCC = sum_RC[:, :, None] * np.eye(len(free_C)) - np.swapaxes(weighted_RBC, 1, 2) @ said_RBC
        step_RC = np.linalg.solve(np.where(both_CC, bend_RCC, 0) + np.eye(len(free_C)), slope_RC[:, :, None])[
            :, :, 0
        ]
        offset_RC += np.clip(step_RC, -2, 2)
        if np.abs(step_RC).max(initial=0) < 1e-8:
            break
    return np.exp(offset_RC)


def _estimated(p_BC: Floats, n_RB: Floats, told_RC: Floats, steps: int = 2000) -> Floats:
    """The mixes (R, C) under which stars with these probabilities, told under other mixes, are likeliest: expectation and maximisation."""
    ratio_RBC = np.maximum(p_BC, TINY) / told_RC[:, None]
    share_RB = n_RB / np.maximum(n_RB.sum(1, keepdims=True), 1)
    mix_RC = told_RC
    for _ in range(steps):
        likely_RB = (ratio_RBC @ mix_RC[:, :, None])[:, :, 0]
        new_RC = mix_RC * ((share_RB / likely_RB)[:, None] @ ratio_RBC)[:, 0]
        moved = np.abs(new_RC - mix_RC).max(initial=0)
        mix_RC = new_RC
        if moved < 1e-7:
            break
    return np.asarray(mix_RC / mix_RC.sum(1, keepdims=True))
