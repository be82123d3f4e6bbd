"""Combined answers -> calibrated answers: probabilities and errors that hold on stars outside the training.

All is fitted to validation stars, each with one visit: its visits are alike, and would count as many stars.
Class probabilities get a temperature. Errors of labels get a law of the
data's scatter where no member knows it, and a scale; intervals get a half width in errors. What has too few
stars for a fit stays as it is, with a note. Shapes: N spectra, V visits, one per star, C classes, L labels.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import entr, ndtri, softmax

from survey.answers import Answers, Floats
from survey.ensemble import label_errors
from survey.ensemble.label_errors import ErrorScale, NoiseLaw
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import log_losses

LEAST = 20
"""With fewer stars nothing is fitted."""
SEED = 2025
"""Seed of the draw of one visit per star: the same spectra always give the same calibration."""
SMALLEST = 1e-7
"""A smaller probability counts as this when its logarithm is taken."""
COLDEST, HOTTEST = 0.05, 20.0
"""The range in which the temperature is searched."""
SHARPER, SOFTER = 0.1, 0.5
"""The expected size of the logarithm of the temperature, below and above 0.

These validation stars chose the epoch that each member kept, so that they look easier than other stars.
Therefore only many of them can make probabilities sharper.
"""

Classes = NDArray[Any]
Codes = NDArray[np.int64]


class LabelCalibration(NamedTuple):
    """The calibration of one label's errors; a law of NaN leaves the scatter of the data unknown.

    `half` is the half width of an interval in errors.
    """

    law: NoiseLaw = NoiseLaw(np.nan, np.nan)
    scale: ErrorScale = ErrorScale()
    half: float = 1.96


@dataclass(frozen=True)
class Calibration:
    """What was fitted on validation stars; `notes` says what could not be fitted.

    `snr` is the median signal to noise of these stars.
    """

    labels: tuple[str, ...]
    temperature: float
    errors: tuple[LabelCalibration, ...]
    coverage: float
    snr: float
    notes: tuple[str, ...] = ()

    @property
    def is_fitted(self) -> bool:
        """Whether anything was fitted: a temperature, or the errors of a label."""
        return self.temperature != 1 or any(np.isfinite(row.law.a) for row in self.errors)

    def apply(self, answers: Answers, snr_N: Floats) -> Answers:
        """Calibrated probabilities, errors and intervals.

        An unknown signal to noise counts as the median of the validation stars, one below 1 as 1. An
        interval is NaN where no error is known.
        """
        if answers.labels != self.labels:
            raise ValueError(
                f"calibration: it was fitted for {', '.join(self.labels)}, the answers have "
                f"{', '.join(answers.labels)}; fit it again"
            )
        usable_snr_N = _usable_snr(snr_N, self.snr, len(answers))
        answers = _with_temperature(answers, self.temperature)
        if answers.value_NL is None or answers.err_data_NL is None or answers.err_model_NL is None:
            return answers
        law_NL = np.stack([row.law.sigma(usable_snr_N) for row in self.errors], 1)
        scale_NL = np.stack([row.scale.at(usable_snr_N) for row in self.errors], 1)
        by_law_NL = ~_has_error(answers.err_data_NL, answers.err_model_NL) & np.isfinite(answers.value_NL)
        by_law_NL &= np.isfinite(law_NL) | np.isnan(answers.err_data_NL)
        data_NL = scale_NL * np.where(by_law_NL, law_NL, answers.err_data_NL)
        model_NL = scale_NL * answers.err_model_NL
        return self._with_intervals(replace(answers, err_data_NL=data_NL, err_model_NL=model_NL, err_NL=None))

    def _with_intervals(self, answers: Answers) -> Answers:
        assert answers.value_NL is not None
        assert answers.err_NL is not None
        half_NL = np.array([row.half for row in self.errors]) * answers.err_NL
        return replace(answers, low_NL=answers.value_NL - half_NL, high_NL=answers.value_NL + half_NL)

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON holds it; null where a number is unknown."""
        rows = {}
        for name, row in zip(self.labels, self.errors, strict=True):
            law = {key: None if np.isnan(value) else value for key, value in row.law._asdict().items()}
            rows[name] = {"law": law, "scale": row.scale._asdict(), "half": row.half}
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "snr": self.snr,
            "labels": rows,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The calibration from what `to_dict` gave."""
        errors = []
        for row in values["labels"].values():
            law = NoiseLaw(
                *(np.nan if row["law"][key] is None else row["law"][key] for key in NoiseLaw._fields)
            )
            errors.append(LabelCalibration(law, ErrorScale(**row["scale"]), row["half"]))
        return cls(
            tuple(values["labels"]),
            values["temperature"],
            tuple(errors),
            values["coverage"],
            values["snr"],
            tuple(values["notes"]),
        )


def no_calibration(labels: tuple[str, ...], coverage: float = 0.95) -> Calibration:
    """The calibration that changes nothing; its intervals are those of a normal distribution."""
    errors = (LabelCalibration(half=_normal_half_width(coverage)),) * len(labels)
    return Calibration(labels, 1.0, errors, coverage, 1.0, ("nothing was calibrated",))


def fit_calibration(
    answers: Answers,
    class_N: Classes,
    label_NL: Floats,
    snr_N: Floats,
    coverage: float = 0.95,
    star_N: Codes | None = None,
) -> Calibration:
    """The calibration of combined answers, from the truth of validation stars.

    Class -1 and NaN labels are unknown. `star_N` is a number per star; without it each spectrum is of a star
    of its own.
    """
    if not 0 < coverage < 1:
        raise ValueError(
            f"calibration: coverage={coverage:g}; give the share of true values that an interval shall "
            "contain, above 0 and below 1"
        )
    truth_NL = np.asarray(label_NL, np.float64)
    shape = len(answers), len(answers.labels)
    if truth_NL.shape != shape:
        raise ValueError(
            f"calibration: true labels of shape {truth_NL.shape}, answers of shape {shape}; "
            "give both for the same spectra"
        )
    finite_N = np.asarray(snr_N, np.float64)[np.isfinite(snr_N)]
    middle = float(np.median(finite_N)) if len(finite_N) else 1.0
    usable_snr_N = _usable_snr(snr_N, middle, len(answers))
    star_N = np.arange(len(answers)) if star_N is None else star_N
    temperature, notes = _fit_temperature(answers, class_N, star_N)
    errors = []
    for number, name in enumerate(answers.labels):
        residual_N, data_N, model_N = _residuals(answers, truth_NL, number)
        visit_V = one_visit(np.isfinite(residual_N), star_N)
        parts = residual_N[visit_V], data_N[visit_V], model_N[visit_V]
        fitted, more_notes = _fit_errors(name, *parts, usable_snr_N[visit_V], coverage)
        errors.append(fitted)
        notes += more_notes
    return Calibration(answers.labels, temperature, tuple(errors), coverage, middle, tuple(notes))


def one_visit(usable_N: NDArray[np.bool_], star_N: Codes) -> Codes:
    """The rows of the usable spectra, of each star one that is drawn at random, in their order."""
    row_N = np.flatnonzero(usable_N)
    order_N = np.random.default_rng(SEED).permutation(row_N)
    _, first_V = np.unique(star_N[order_N], return_index=True)
    return np.sort(order_N[first_V])


def _has_error(data: Floats, model: Floats) -> NDArray[np.bool_]:
    """Where the scatter of the data is known; an error of 0 says that nothing is known of it."""
    return np.asarray(np.isfinite(data) & (np.hypot(data, model) > 0))


def _residuals(answers: Answers, truth_NL: Floats, number: int) -> tuple[Floats, Floats, Floats]:
    """Residuals of one label, with the errors of the data and of the models."""
    unknown_N = np.full(len(answers), np.nan)
    value_N, data_N, model_N = (
        unknown_N if array_NL is None else array_NL[:, number]
        for array_NL in (answers.value_NL, answers.err_data_NL, answers.err_model_NL)
    )
    return value_N - truth_NL[:, number], data_N, model_N


def _normal_half_width(coverage: float) -> float:
    return float(ndtri(0.5 + coverage / 2))


def _usable_snr(snr_N: Floats, middle: float, rows: int) -> Floats:
    """Signal to noise for the laws: the median where it is unknown, and at least 1.

    A subtracted sky can leave a signal to noise of 0 or less.
    """
    array = np.asarray(snr_N, np.float64)
    if array.shape != (rows,):
        raise ValueError(
            f"calibration: signal to noise of shape {array.shape} for {rows} spectra; give one per "
            "spectrum, NaN where it is unknown"
        )
    return np.maximum(np.where(np.isfinite(array), array, middle), 1.0)


def at_temperature(p_NC: Floats, temperature: float) -> Floats:
    """Probabilities at a temperature: above 1 they are softer."""
    return np.asarray(softmax(np.log(np.clip(p_NC, SMALLEST, 1)) / temperature, axis=1))


def _with_temperature(answers: Answers, temperature: float) -> Answers:
    """Classes at a temperature; the share of disagreement in their entropy stays the same."""
    entropy_N, model_N = answers.class_entropy_N, answers.class_entropy_model_N
    if answers.p_NC is None or entropy_N is None or model_N is None or temperature == 1:
        return answers
    p_NC = at_temperature(answers.p_NC, temperature)
    new_entropy_N = entr(p_NC).sum(1)
    share_N = model_N / np.where(entropy_N == 0, 1, entropy_N)
    return replace(
        answers, p_NC=p_NC, class_entropy_N=new_entropy_N, class_entropy_model_N=share_N * new_entropy_N
    )


def _fit_temperature(answers: Answers, class_N: Classes, star_N: Codes) -> tuple[float, list[str]]:
    """The temperature of least log loss; few stars move it little from 1."""
    if answers.p_NC is None:
        return 1.0, []
    truth_N = class_numbers(class_N, len(answers.classes), len(answers))
    usable_N = (truth_N != MISSING) & np.isfinite(answers.p_NC).all(1)
    visit_V = one_visit(usable_N, star_N)
    if len(visit_V) < LEAST:
        return 1.0, [
            f"classes: {len(visit_V)} validation stars have a known class, {LEAST} are needed; "
            "probabilities are not calibrated"
        ]
    truth_V, p_VC = truth_N[visit_V], answers.p_NC[visit_V]

    def loss(log: float) -> float:
        expected = SHARPER if log < 0 else SOFTER
        return (
            float(log_losses(truth_V, at_temperature(p_VC, np.exp(log))).sum()) + 0.5 * (log / expected) ** 2
        )

    bounds = np.log(COLDEST), np.log(HOTTEST)
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(minimum.x)), []


def _fit_errors(
    name: str, residual_V: Floats, data_V: Floats, model_V: Floats, snr_V: Floats, coverage: float
) -> tuple[LabelCalibration, list[str]]:
    """The calibration of one label's errors, from one visit of each star with a known label, and
    notes.
    """
    count = len(residual_V)
    unchanged = LabelCalibration(half=_normal_half_width(coverage))
    if count < LEAST:
        return unchanged, [
            f"{name}: {count} validation stars have a known {name}, {LEAST} are needed; errors are not "
            "calibrated"
        ]
    if not np.quantile(np.abs(residual_V), label_errors.WITHIN) > 0:
        return unchanged, [
            f"{name}: the answers equal the truth to the last digit; errors are not calibrated"
        ]
    has_error_V = _has_error(data_V, model_V)
    given_scale = None
    if has_error_V.sum() >= LEAST:
        given_V = np.hypot(data_V, model_V)[has_error_V]
        given_scale = label_errors.fit_error_scale(residual_V[has_error_V], given_V, snr_V[has_error_V])
    to_fit_V = residual_V if given_scale is None else residual_V / given_scale.at(snr_V)
    law = label_errors.fit_noise_law(to_fit_V, model_V, snr_V)
    sigma_V = np.hypot(np.where(has_error_V, data_V, law.sigma(snr_V)), model_V)
    scale = given_scale or label_errors.fit_error_scale(residual_V, sigma_V, snr_V)
    half, enough = label_errors.interval_half_width(residual_V / (scale.at(snr_V) * sigma_V), coverage)
    notes = []
    if not enough:
        notes.append(
            f"{name}: {count} validation stars are too few for intervals of {100 * coverage:g} %; "
            "they are as wide as the largest error of these stars"
        )
    return LabelCalibration(law, scale, half), notes
