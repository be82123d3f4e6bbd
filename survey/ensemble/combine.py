"""The members' answers about the same spectra -> one answer per spectrum, with the error of the data and of
the models.

Only probabilities are combined, never raw outputs of networks. A member without an answer (NaN: it does not
predict that label, predicts no classes, or failed on this spectrum) is left out, spectrum by spectrum, and
the weights of the others are divided by their sum. Where no member has an answer, the result is NaN.
Shapes: M members, N spectra, C classes, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from survey.answers import Answers
from survey.ensemble.settings import Combination
from survey.metrics.checks import SUM_TOLERANCE

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TIE = 1e-9
"""Shares of votes that differ by less are equal: sums of weights are rounded."""


@dataclass(frozen=True)
class MemberAnswers:
    """What M members predict of the same N spectra, in physical units; NaN where a member has no answer.

    `p_MNC` class probabilities (the mean over dropout passes); `value_MNL` labels; `var_data_MNL` the
    variance that the member itself expects of the data; `var_passes_MNL` the variance among its Monte Carlo
    dropout passes, 0 where none were made; `pass_entropy_MN` the mean entropy (nats) of the class
    probabilities of each pass, None where no passes were made: then it is the entropy of `p_MNC`;
    `anomaly_MN` how badly an autoencoder rebuilds it, None where no member is one.
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    p_MNC: Floats
    value_MNL: Floats
    var_data_MNL: Floats
    var_passes_MNL: Floats
    pass_entropy_MN: Floats | None = None
    anomaly_MN: Floats | None = None

    def __post_init__(self) -> None:
        self._check_arrays()
        if (self.var_data_MNL < 0).any() or (self.var_passes_MNL < 0).any():
            raise ValueError(
                "combine: a variance is below 0; give var_data_MNL and var_passes_MNL as squares of "
                "standard deviations"
            )
        total_MN1 = self.p_MNC.sum(2, keepdims=True)
        wrong_MN = ((self.p_MNC < 0) | (np.abs(total_MN1 - 1) > SUM_TOLERANCE)).any(
            2
        )  # NaN compares as false
        if self.classes and wrong_MN.any():
            member, row = np.argwhere(wrong_MN)[0]
            raise ValueError(
                f"combine: member {member}, row {row}: {np.round(self.p_MNC[member, row], 4).tolist()} are "
                "no class probabilities; apply a softmax to the logits first"
            )

    def _check_arrays(self) -> None:
        """Every array has the right shape and no infinite number."""
        members, rows = self.value_MNL.shape[:2]
        widths = {
            "p_MNC": len(self.classes),
            "value_MNL": len(self.labels),
            "var_data_MNL": len(self.labels),
            "var_passes_MNL": len(self.labels),
        }
        for name, width in widths.items():
            array = getattr(self, name)
            if array.shape != (members, rows, width):
                raise ValueError(
                    f"combine: {name} has shape {array.shape}; {members} members, {rows} spectra and "
                    f"{width} columns need {(members, rows, width)}"
                )
            if np.isinf(array).any():
                member, row, _ = np.argwhere(np.isinf(array))[0]
                raise ValueError(
                    f"combine: {name} of member {member} is infinite in row {row}; give NaN where a member "
                    "has no answer"
                )

    def __len__(self) -> int:
        return int(self.value_MNL.shape[1])

    @property
    def members(self) -> int:
        """The number of members."""
        return len(self.value_MNL)

    def has_class(self) -> Flags:
        """Which member (M) gives class probabilities of which spectrum (N)."""
        if not self.classes:
            return np.zeros(self.value_MNL.shape[:2], np.bool_)
        return np.asarray(np.isfinite(self.p_MNC).all(2))

    def has_label(self) -> Flags:
        """Which member (M) gives which label (L) of which spectrum (N)."""
        return np.asarray(np.isfinite(self.value_MNL))

    def gives_class(self) -> Flags:
        """Which members (M) give class probabilities of at least one spectrum."""
        return np.asarray(self.has_class().any(1))

    def gives_label(self) -> Flags:
        """Which members (M) give which label (L) of at least one spectrum."""
        return np.asarray(self.has_label().any(1))

    def at(self, number_M: NDArray[np.int64], row_N: NDArray[np.int64]) -> Self:
        """The answers of some members about some spectra, by their numbers."""
        arrays: dict[str, Any] = {
            name: array[np.ix_(number_M, row_N)]
            for name, array in vars(self).items()
            if isinstance(array, np.ndarray)
        }
        return replace(self, **arrays)


def place(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], MemberAnswers]],
    labels: tuple[str, ...],
    classes: tuple[str, ...],
    rows: int,
) -> MemberAnswers:
    """Answers of several groups of members, each about some of the spectra: (numbers of the members, rows,
    their answers). Where a member has not seen a spectrum, its answer is NaN.
    """
    members = sum(len(number_M) for number_M, _, _ in parts)
    p_MNC = np.full((members, rows, len(classes)), np.nan)
    value_MNL, data_MNL, passes_MNL = (np.full((members, rows, len(labels)), np.nan) for _ in range(3))
    entropy_MN = np.full((members, rows), np.nan)
    for number_M, row_N, answers in parts:
        column_L = np.array([labels.index(name) for name in answers.labels], np.int64)
        place_MN, place_MNL = np.ix_(number_M, row_N), np.ix_(number_M, row_N, column_L)
        value_MNL[place_MNL] = answers.value_MNL
        data_MNL[place_MNL], passes_MNL[place_MNL] = answers.var_data_MNL, answers.var_passes_MNL
        if answers.classes:
            p_MNC[place_MN] = answers.p_MNC
        if answers.pass_entropy_MN is not None:
            entropy_MN[place_MN] = answers.pass_entropy_MN
    return MemberAnswers(labels, classes, p_MNC, value_MNL, data_MNL, passes_MNL, entropy_MN)


def concatenate(parts: Sequence[MemberAnswers]) -> MemberAnswers:
    """The answers of the same members about several sets of spectra, one set after the other."""
    names = ("p_MNC", "value_MNL", "var_data_MNL", "var_passes_MNL", "pass_entropy_MN", "anomaly_MN")
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], 1)
        for name in names
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **arrays)


@dataclass(frozen=True)
class Weights:
    """The weight of each member for the classes (M) and for each label (M, L).

    The weights of the members that give the classes, or a label, sum to 1; those of the other members are 0.
    """

    class_M: Floats
    label_ML: Floats
    combine: Combination = "mean"

    def to_dict(self) -> dict[str, Any]:
        """The weights as JSON holds them."""
        return {
            "combine": self.combine,
            "classes": self.class_M.tolist(),
            "labels": self.label_ML.T.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The weights from what `to_dict` gave."""
        class_M = np.array(values["classes"], np.float64)
        label_ML = np.array(values["labels"], np.float64).reshape(-1, len(class_M)).T
        return cls(class_M, label_ML, values["combine"])


def combine(answers: MemberAnswers, weights: Weights) -> Answers:
    """One answer per spectrum; the error of a label is that of the mixture of the members' distributions."""
    shapes = {"class_M": (answers.members,), "label_ML": (answers.members, len(answers.labels))}
    for name, shape in shapes.items():
        if getattr(weights, name).shape != shape:
            raise ValueError(
                f"combine: weights {name} have shape {getattr(weights, name).shape}; {answers.members} "
                f"members and {len(answers.labels)} labels need {shape}"
            )
    arrays = _classes(answers, weights) if answers.classes else {}
    arrays |= _labels(answers, weights) if answers.labels else {}
    arrays["anomaly_N"] = mean_anomaly(answers)
    return Answers(answers.labels, answers.classes, rows=len(answers), **arrays)


def mean_anomaly(answers: MemberAnswers) -> Floats | None:
    """The mean anomaly by the members that are autoencoders; None if none is one."""
    if answers.anomaly_MN is None:
        return None
    is_known_MN = np.isfinite(answers.anomaly_MN)
    total_N, count_N = np.where(is_known_MN, answers.anomaly_MN, 0).sum(0), is_known_MN.sum(0)
    return np.where(count_N > 0, total_N / np.maximum(count_N, 1), np.nan)


def anomaly_unit(answers: MemberAnswers | None, usual: float = 0.99) -> float | None:
    """The anomaly that 1 % of the validation spectra exceed; None if no member is an autoencoder."""
    mean_N = mean_anomaly(answers) if answers else None
    if mean_N is None or not np.isfinite(mean_N).any():
        return None
    return float(np.quantile(mean_N[np.isfinite(mean_N)], usual))


def _classes(answers: MemberAnswers, weights: Weights) -> dict[str, Any]:
    """Probabilities, entropy, and the part of it that is disagreement (mutual information).

    A vote counts as certain, so that the whole entropy of votes is disagreement.
    """
    has_class_MN = answers.has_class()
    share_MN = _shares(weights.class_M[:, None], has_class_MN)
    p_MNC = np.where(has_class_MN[:, :, None], answers.p_MNC, 0)
    if weights.combine == "vote":
        p_NC = vote_shares(p_MNC, votes(p_MNC), share_MN)
        entropy_N = entr(p_NC).sum(1)
        disagreement_N = entropy_N.copy()
    else:
        p_NC = mean(p_MNC, share_MN)
        entropy_N = entr(p_NC).sum(1)
        passes_MN = answers.pass_entropy_MN
        member_MN = entr(p_MNC).sum(2) if passes_MN is None else np.where(has_class_MN, passes_MN, 0)
        disagreement_N = np.maximum(entropy_N - (share_MN * member_MN).sum(0), 0)
    return {"p_NC": p_NC, "class_entropy_N": entropy_N, "class_entropy_model_N": disagreement_N}


def mean(p_MNC: Floats, share_MN: Floats) -> Floats:
    """The weighted mean of probabilities."""
    return np.asarray(np.einsum("mn,mnc->nc", share_MN, p_MNC))


def votes(p_MNC: Floats) -> Floats:
    """1 for the class that a member finds likeliest, 0 for the others."""
    return np.asarray(np.eye(p_MNC.shape[2])[p_MNC.argmax(2)])


def vote_shares(p_MNC: Floats, vote_MNC: Floats, share_MN: Floats) -> Floats:
    """Shares of votes, which sum to 1.

    Classes that tie for the most votes divide them in proportion to the weighted mean of probabilities, so
    that the likeliest of them wins.
    """
    vote_NC, p_NC = mean(vote_MNC, share_MN), mean(p_MNC, share_MN)
    with np.errstate(invalid="ignore"):
        tied_NC = vote_NC >= vote_NC.max(1, keepdims=True) - TIE
        among_NC = np.where(tied_NC, p_NC, 0)
        common_N1 = np.where(tied_NC, vote_NC, 0).sum(1, keepdims=True)
        divided_NC = common_N1 * among_NC / among_NC.sum(1, keepdims=True)
    return np.where(tied_NC & (tied_NC.sum(1, keepdims=True) > 1), divided_NC, vote_NC)


def _labels(answers: MemberAnswers, weights: Weights) -> dict[str, Any]:
    """The law of total variance: the variance that members expect of the data, and the variance among
    members.

    The value of a member also counts where it gives no variance of the data; that variance is then the mean
    of the members that give one.
    """
    has_label_MNL = answers.has_label()
    weight_M1L = weights.label_ML[:, None, :]
    share_MNL = _shares(weight_M1L, has_label_MNL)
    value_MNL = np.where(has_label_MNL, answers.value_MNL, 0)
    value_NL = (share_MNL * value_MNL).sum(0)
    passes_MNL = np.where(has_label_MNL, np.nan_to_num(answers.var_passes_MNL), 0)
    var_model_NL = (share_MNL * ((value_MNL - value_NL) ** 2 + passes_MNL)).sum(0)
    has_var_MNL = has_label_MNL & np.isfinite(answers.var_data_MNL)
    var_data_MNL = np.where(has_var_MNL, answers.var_data_MNL, 0)
    var_data_NL = (_shares(weight_M1L, has_var_MNL) * var_data_MNL).sum(0)
    equal_MNL = _shares((weight_M1L > 0).astype(np.float64), has_label_MNL)
    middle_NL = (equal_MNL * value_MNL).sum(0)
    spread_NL = (equal_MNL * (value_MNL - middle_NL) ** 2).sum(0)
    return {
        "value_NL": value_NL,
        "err_data_NL": np.sqrt(var_data_NL),
        "err_model_NL": np.sqrt(var_model_NL),
        "spread_NL": np.sqrt(spread_NL),
    }


def _shares(weight: Floats, has_answer: Flags) -> Floats:
    """The weights of the members with an answer, divided by their sum; NaN where that is 0."""
    counted = weight * has_answer
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counted / counted.sum(0))
