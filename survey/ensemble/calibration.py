"""What an ensemble says -> what it may say: probabilities and errors that hold on stars it has not learned from, fitted on validation stars only.

Class probabilities get a temperature, errors of labels a law of the data's scatter where no member knows it and a scale, and intervals a half width
in errors. What cannot be fitted, for too few stars, is left as it is and noted. Shapes: N spectra, C classes, L labels.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import entr, ndtri, softmax

from survey.ensemble import errors as sigmas
from survey.ensemble.combine import Combined, Floats
from survey.ensemble.errors import Law, Scale
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import log_losses

LEAST = 20
"""From fewer stars nothing is fitted."""
SURE = 1e-7
"""No probability counts as less before its logarithm is taken."""
COLDEST, HOTTEST = 0.05, 20.0
"""No temperature is sought beyond these."""
SHARPER, SOFTER = 0.1, 0.5
"""How far the logarithm of the temperature is expected from 0 in advance, downwards and upwards. The epoch that each member kept was chosen by these
validation stars, so that they look easier than others: that answers are too timid is believed only of many of them.
"""

Classes = NDArray[Any]


class Errors(NamedTuple):
    """What makes the errors of one label hold; with a law of NaN the scatter of the data stays unknown. `half` an interval is so many errors wide."""

    law: Law = Law(np.nan, np.nan)
    scale: Scale = Scale()
    half: float = 1.96


@dataclass(frozen=True)
class Calibration:
    """What was fitted on validation stars; `notes` says what could not be. `snr` is the median signal to noise of these stars."""

    labels: tuple[str, ...]
    temperature: float
    errors: tuple[Errors, ...]
    coverage: float
    snr: float
    notes: tuple[str, ...] = ()

    def apply(self, combined: Combined, snr_N: Floats) -> Combined:
        """Calibrated probabilities and errors; a signal to noise that is not known counts as the median of validation stars, one below 1 as 1."""
        if combined.labels != self.labels:
            raise ValueError(
                f"calibration: it was fitted for {', '.join(self.labels)}, the answers are about {', '.join(combined.labels)}; fit it anew"
            )
        known_N = _known(snr_N, self.snr, len(combined))
        warm = _warmed(combined, self.temperature)
        if warm.mu_NL is None:
            return warm
        law_NL = np.stack([row.law.sigma(known_N) for row in self.errors], 1)
        scale_NL = np.stack([row.scale.of(known_N) for row in self.errors], 1)
        data_NL = np.where(np.isnan(warm.data_NL) & np.isfinite(warm.mu_NL), law_NL, warm.data_NL)
        return replace(warm, data_NL=scale_NL * data_NL, model_NL=scale_NL * warm.model_NL)

    def interval(self, combined: Combined) -> tuple[Floats, Floats]:
        """Low and high (N, L) of the interval that holds the truth with `coverage`, of an answer that `apply` gave; NaN where no error is known."""
        middle_NL = np.empty((len(combined), 0)) if combined.mu_NL is None else combined.mu_NL
        half_NL = np.array([row.half for row in self.errors]) * combined.total_NL
        return middle_NL - half_NL, middle_NL + half_NL

    def told(self) -> dict[str, Any]:
        """The calibration as JSON can hold it, null where a number is not known."""
        rows = {
            name: {
                "law": {key: None if np.isnan(value) else value for key, value in row.law._asdict().items()},
                "scale": row.scale._asdict(),
                "half": row.half,
            }
            for name, row in zip(self.labels, self.errors, strict=True)
        }
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "snr": self.snr,
            "labels": rows,
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, about: dict[str, Any]) -> Self:
        """The calibration that `told` gave."""
        errors = []
        for row in about["labels"].values():
            law = Law(*(np.nan if row["law"][key] is None else row["law"][key] for key in Law._fields))
            errors.append(Errors(law, Scale(**row["scale"]), row["half"]))
        return cls(
            tuple(about["labels"]),
            about["temperature"],
            tuple(errors),
            about["coverage"],
            about["snr"],
            tuple(about["notes"]),
        )


def none(labels: tuple[str, ...], coverage: float = 0.95) -> Calibration:
    """The calibration that changes nothing; its intervals are those of a normal distribution."""
    return Calibration(
        labels,
        1.0,
        (Errors(half=_normal(coverage)),) * len(labels),
        coverage,
        1.0,
        ("nothing was calibrated",),
    )


def fit(
    combined: Combined, class_N: Classes, label_NL: Floats, snr_N: Floats, coverage: float = 0.95
) -> Calibration:
    """The calibration of these combined answers of validation stars; class -1 and NaN labels are unknown."""
    if not 0 < coverage < 1:
        raise ValueError(
            f"calibration: coverage={coverage:g}; give the share of truths that an interval is to hold, above 0 and below 1"
        )
    truth_NL = np.asarray(label_NL, np.float64)
    if truth_NL.shape != combined.data_NL.shape:
        raise ValueError(
            f"calibration: true labels of shape {truth_NL.shape}, answers of shape {combined.data_NL.shape}; give both for the same spectra"
        )
    sound_N = np.asarray(snr_N, np.float64)[np.isfinite(snr_N)]
    middle = float(np.median(sound_N)) if len(sound_N) else 1.0
    known_N = _known(snr_N, middle, len(combined))
    temperature, notes = _temperature(combined, class_N)
    residual_NL = truth_NL if combined.mu_NL is None else combined.mu_NL - truth_NL
    errors = []
    for number, name in enumerate(combined.labels):
        some_N = np.isfinite(residual_NL[:, number])
        residual_N, data_N, model_N = (
            array_NL[some_N, number] for array_NL in (residual_NL, combined.data_NL, combined.model_NL)
        )
        found, more = _errors(name, residual_N, data_N, model_N, known_N[some_N], coverage)
        errors.append(found)
        notes += more
    return Calibration(combined.labels, temperature, tuple(errors), coverage, middle, tuple(notes))


def _normal(coverage: float) -> float:
    return float(ndtri(0.5 + coverage / 2))


def _known(snr_N: Floats, middle: float, rows: int) -> Floats:
    """Signal to noise as errors are told by: the median where it is not known, at least 1 (subtracted skies leave it at 0 and below)."""
    array = np.asarray(snr_N, np.float64)
    if array.shape != (rows,):
        raise ValueError(
            f"calibration: signal to noise of shape {array.shape} beside {rows} spectra; give one for each, NaN where it is not known"
        )
    return np.maximum(np.where(np.isfinite(array), array, middle), 1.0)


def warmed(p_NC: Floats, temperature: float) -> Floats:
    """Probabilities at a temperature: above 1 they are less sure."""
    return np.asarray(softmax(np.log(np.clip(p_NC, SURE, 1)) / temperature, axis=1))


def _warmed(combined: Combined, temperature: float) -> Combined:
    """Classes at a temperature; the share of disagreement in their entropy stays what it was."""
    if combined.p_NC is None or combined.entropy_N is None or combined.doubt_N is None or temperature == 1:
        return combined
    p_NC = warmed(combined.p_NC, temperature)
    entropy_N = entr(p_NC).sum(1)
    share_N = combined.doubt_N / np.where(combined.entropy_N == 0, 1, combined.entropy_N)
    return replace(combined, p_NC=p_NC, entropy_N=entropy_N, doubt_N=share_N * entropy_N)


def _temperature(combined: Combined, class_N: Classes) -> tuple[float, list[str]]:
    """The temperature of least log loss, near 1 where few stars say otherwise."""
    if combined.p_NC is None:
        return 1.0, []
    truth_N = class_numbers(class_N, len(combined.classes), len(combined))
    some_N = (truth_N != MISSING) & np.isfinite(combined.p_NC).all(1)
    if some_N.sum() < LEAST:
        return 1.0, [
            f"classes: {some_N.sum()} validation stars of known class, {LEAST} are needed; probabilities are left as they are"
        ]
    truth_N, p_NC = truth_N[some_N], combined.p_NC[some_N]

    def loss(log: float) -> float:
        expected = SHARPER if log < 0 else SOFTER
        return float(log_losses(truth_N, warmed(p_NC, np.exp(log))).sum()) + 0.5 * (log / expected) ** 2

    found = minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x)), []


def _errors(
    name: str, residual_N: Floats, data_N: Floats, model_N: Floats, snr_N: Floats, coverage: float
) -> tuple[Errors, list[str]]:
    """What makes the errors of one label hold on the stars of which it is known, and what could not be fitted."""
    count = len(residual_N)
    if count < LEAST:
        return Errors(half=_normal(coverage)), [
            f"{name}: {count} validation stars of known {name}, {LEAST} are needed; errors are left as they are"
        ]
    if not np.quantile(np.abs(residual_N), sigmas.WITHIN) > 0:
        return Errors(half=_normal(coverage)), [
            f"{name}: the answers are the truth to the last digit; errors are left as they are"
        ]
    own_N = np.isfinite(data_N) & (np.hypot(data_N, model_N) > 0)
    own_scale = (
        sigmas.scale(residual_N[own_N], np.hypot(data_N, model_N)[own_N], snr_N[own_N])
        if own_N.sum() >= LEAST
        else None
    )
    law = sigmas.law(residual_N if own_scale is None else residual_N / own_scale.of(snr_N), model_N, snr_N)
    sigma_N = np.hypot(np.where(own_N, data_N, law.sigma(snr_N)), model_N)
    scale = sigmas.scale(residual_N, sigma_N, snr_N) if own_scale is None else own_scale
    half, enough = sigmas.reach(residual_N / (scale.of(snr_N) * sigma_N), coverage)
    note = f"{name}: {count} validation stars are too few for intervals of {100 * coverage:g} %; they are as wide as the largest error seen"
    return Errors(law, scale, half), [] if enough else [note]
