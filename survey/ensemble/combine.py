"""What the members of an ensemble say of the same spectra -> one answer each, with the part of its error that is in the data and the part that
is the models' disagreement.

Only probabilities are combined, never raw outputs of networks. A member that does not say a thing (NaN: it has no such label, no classes, or
nothing to say of this spectrum) is left out and the weights of the others are made to sum to 1 again, spectrum by spectrum; what nobody says
stays NaN. Shapes: M members, N spectra, C classes, L labels.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from survey.metrics.checks import SLACK

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

How = Literal["mean", "vote"]
"""How classes are combined: the weighted mean of probabilities, or the weighted shares of the members' votes."""

TIE = 1e-9
"""Shares of votes that differ by less are equal: sums of weights are rounded."""


@dataclass(frozen=True)
class Told:
    """What M members say of the same N spectra, in physical units; NaN where a member does not say.

    `p_MNC` are class probabilities (the mean over passes), `mu_MNL` labels, `var_MNL` the variance that the member itself expects of the data,
    `within_MNL` the variance among its own Monte Carlo dropout passes, 0 where none were made, `own_MN` how undecided about the class each of
    these passes is (mean entropy in nats; None: where none were made that is the entropy of `p_MNC`).
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    p_MNC: Floats
    mu_MNL: Floats
    var_MNL: Floats
    within_MNL: Floats
    own_MN: Floats | None = None

    def __post_init__(self) -> None:
        members, rows = self.mu_MNL.shape[:2]
        wide = {
            "p_MNC": len(self.classes),
            "mu_MNL": len(self.labels),
            "var_MNL": len(self.labels),
            "within_MNL": len(self.labels),
        }
        for name, width in wide.items():
            array = getattr(self, name)
            if array.shape != (members, rows, width):
                raise ValueError(
                    f"combine: {name} has shape {array.shape}; {members} members, {rows} spectra and {width} columns need {(members, rows, width)}"
                )
            if np.isinf(array).any():
                member, row, _ = np.argwhere(np.isinf(array))[0]
                raise ValueError(
                    f"combine: {name} of member {member} is infinite in row {row}; give NaN where a member has no sound answer"
                )
        if (self.var_MNL < 0).any() or (self.within_MNL < 0).any():
            raise ValueError(
                "combine: a variance is below 0; give var_MNL and within_MNL as squares of standard deviations"
            )
        wrong = ((self.p_MNC < 0) | (np.abs(self.p_MNC.sum(2, keepdims=True) - 1) > SLACK)).any(
            2
        )  # NaN compares as false
        if self.classes and wrong.any():
            member, row = np.argwhere(wrong)[0]
            raise ValueError(
                f"combine: member {member} gives {np.round(self.p_MNC[member, row], 4).tolist()} in row {row}, which are no class probabilities; "
                "put a softmax upon the logits first"
            )

    def __len__(self) -> int:
        return int(self.mu_MNL.shape[1])

    @property
    def members(self) -> int:
        """How many members speak."""
        return len(self.mu_MNL)

    def says_class(self) -> Flags:
        """Which member (M) gives class probabilities of which spectrum (N)."""
        return (
            np.asarray(np.isfinite(self.p_MNC).all(2))
            if self.classes
            else np.zeros(self.mu_MNL.shape[:2], np.bool_)
        )

    def says_label(self) -> Flags:
        """Which member (M) gives which label (L) of which spectrum (N)."""
        return np.asarray(np.isfinite(self.mu_MNL))

    def class_givers(self) -> Flags:
        """Which members (M) give class probabilities of any spectrum."""
        return np.asarray(self.says_class().any(1))

    def label_givers(self) -> Flags:
        """Which members (M) give which label (L) of any spectrum."""
        return np.asarray(self.says_label().any(1))


@dataclass(frozen=True)
class Weights:
    """How much each member counts for the classes (M) and for each label (M, L): sums of 1 over the members that say it, 0 for the others."""

    class_M: Floats
    label_ML: Floats
    how: How = "mean"

    def told(self) -> dict[str, Any]:
        """The weights as JSON can hold them."""
        return {"how": self.how, "classes": self.class_M.tolist(), "labels": self.label_ML.T.tolist()}

    @classmethod
    def of(cls, about: dict[str, Any]) -> Self:
        """The weights that `told` gave."""
        class_M = np.array(about["classes"], np.float64)
        return cls(class_M, np.array(about["labels"], np.float64).reshape(-1, len(class_M)).T, about["how"])


@dataclass(frozen=True)
class Combined:
    """One answer per spectrum; NaN where nobody says, None where there are no classes, or no labels, at all.

    `p_NC` class probabilities, `entropy_N` how undecided they are (nats), `doubt_N` the part of it that is disagreement among members (mutual
    information); `mu_NL` labels, `data_NL` the standard deviation that the data leave (NaN where no member knows), `model_NL` the one of
    disagreement and of dropout passes, `spread_NL` the plain standard deviation among members that have a weight.
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    p_NC: Floats | None
    entropy_N: Floats | None
    doubt_N: Floats | None
    mu_NL: Floats | None
    data_NL: Floats
    model_NL: Floats
    spread_NL: Floats

    def __len__(self) -> int:
        return len(self.data_NL)

    @property
    def total_NL(self) -> Floats:  # noqa: N802
        """The standard deviation of each label, data and model together; NaN where that of the data is not known."""
        return np.asarray(np.sqrt(self.data_NL**2 + self.model_NL**2))


def combine(told: Told, weights: Weights) -> Combined:
    """One answer of all members: classes as the weights say, labels with the variance of the mixture of the members' distributions."""
    wanted = {"class_M": (told.members,), "label_ML": (told.members, len(told.labels))}
    for name, shape in wanted.items():
        if getattr(weights, name).shape != shape:
            raise ValueError(
                f"combine: weights {name} of shape {getattr(weights, name).shape} for {told.members} members and {len(told.labels)} labels; "
                f"they need {shape}"
            )
    p_NC, entropy_N, doubt_N = _classes(told, weights) if told.classes else (None, None, None)
    mu_NL, data_NL, model_NL, spread_NL = _labels(told, weights)
    return Combined(
        told.labels,
        told.classes,
        p_NC,
        entropy_N,
        doubt_N,
        mu_NL if told.labels else None,
        data_NL,
        model_NL,
        spread_NL,
    )


def _classes(told: Told, weights: Weights) -> tuple[Floats, Floats, Floats]:
    """Probabilities, entropy and the part of it that is disagreement. A vote is taken as sure, so that all of its doubt is disagreement."""
    says_MN = told.says_class()
    share_MN = _shares(weights.class_M[:, None], says_MN)
    p_MNC = np.where(says_MN[:, :, None], told.p_MNC, 0)
    p_NC = voted(p_MNC, votes(p_MNC), share_MN) if weights.how == "vote" else mean(p_MNC, share_MN)
    entropy_N = entr(p_NC).sum(1)
    if weights.how == "vote":
        return p_NC, entropy_N, entropy_N.copy()
    own_MN = entr(p_MNC).sum(2) if told.own_MN is None else np.where(says_MN, told.own_MN, 0)
    return p_NC, entropy_N, np.maximum(entropy_N - (share_MN * own_MN).sum(0), 0)


def mean(p_MNC: Floats, share_MN: Floats) -> Floats:
    """The weighted mean of probabilities."""
    return np.asarray(np.einsum("mn,mnc->nc", share_MN, p_MNC))


def votes(p_MNC: Floats) -> Floats:
    """1 for the class that a member thinks likeliest, 0 for the others."""
    return np.asarray(np.eye(p_MNC.shape[2])[p_MNC.argmax(2)])


def voted(p_MNC: Floats, vote_MNC: Floats, share_MN: Floats) -> Floats:
    """Shares of votes. Classes that tie for the most divide theirs in proportion to the weighted mean of probabilities, so that the likeliest of
    them wins and the shares still sum to 1.
    """
    vote_NC, p_NC = mean(vote_MNC, share_MN), mean(p_MNC, share_MN)
    with np.errstate(invalid="ignore"):
        tied_NC = vote_NC >= vote_NC.max(1, keepdims=True) - TIE
        among_NC = np.where(tied_NC, p_NC, 0)
        common_N1 = np.where(tied_NC, vote_NC, 0).sum(1, keepdims=True)
        divided_NC = common_N1 * among_NC / among_NC.sum(1, keepdims=True)
    return np.where(tied_NC & (tied_NC.sum(1, keepdims=True) > 1), divided_NC, vote_NC)


def _labels(told: Told, weights: Weights) -> tuple[Floats, Floats, Floats, Floats]:
    """The law of total variance: what the members expect of the data, and how far they lie apart. A member's mean counts also where it knows
    no variance of the data; that is then the mean of those who do.
    """
    says_MNL = told.says_label()
    weight_M1L = weights.label_ML[:, None, :]
    share_MNL = _shares(weight_M1L, says_MNL)
    mu_MNL = np.where(says_MNL, told.mu_MNL, 0)
    mu_NL = (share_MNL * mu_MNL).sum(0)
    within_MNL = np.where(says_MNL, np.nan_to_num(told.within_MNL), 0)
    model_NL = (share_MNL * ((mu_MNL - mu_NL) ** 2 + within_MNL)).sum(0)
    knows_MNL = says_MNL & np.isfinite(told.var_MNL)
    data_NL = (_shares(weight_M1L, knows_MNL) * np.where(knows_MNL, told.var_MNL, 0)).sum(0)
    plain_MNL = _shares((weight_M1L > 0).astype(np.float64), says_MNL)
    plain_NL = (plain_MNL * mu_MNL).sum(0)
    spread_NL = (plain_MNL * (mu_MNL - plain_NL) ** 2).sum(0)
    return mu_NL, np.sqrt(data_NL), np.sqrt(model_NL), np.sqrt(spread_NL)


def _shares(weight: Floats, says: Flags) -> Floats:
    """The weights of those who say, made to sum to 1 along the members; NaN where none of them has a weight."""
    some = weight * says
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(some / some.sum(0))
