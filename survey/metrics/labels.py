"""Metrics of labels in their own units: errors with intervals, and whether predicted errors are right.

A residual is predicted minus true. Spectra whose true label is unknown are left out. `star_N` has a number
per star: where stars have several spectra, intervals are those of stars.
Shapes: N spectra, L labels, R draws.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from survey.labels import (
    CARBON_LABELS,
    CLASSES,
    CRITERION_LABELS,
    METAL_POOR,
    MISSING,
    Criterion,
    carbon_residual,
    carbon_to_iron,
    classes,
)
from survey.metrics import checks
from survey.metrics.classes import measure_predictions, measure_search, searches
from survey.metrics.intervals import (
    Counts,
    Floats,
    Measure,
    count_stars,
    flag_measure,
    percentile_interval,
    resample_means,
)
from survey.metrics.settings import MAPE_FLOOR

IRON_CLASSES = (*sorted(METAL_POOR, key=lambda kind: METAL_POOR[kind]), "normal")
"""Classes of [Fe/H], the most metal-poor first."""


def robust_scatter(residual_N: Floats) -> float:
    """1.4826 times the median distance from the median: the standard deviation of normal residuals."""
    return float(1.4826 * np.median(np.abs(residual_N - np.median(residual_N))))


def r2(truth_N: Floats, predicted_N: Floats) -> float:
    """The share of the variance that is explained; NaN where the truth does not vary."""
    variance = float(((truth_N - truth_N.mean()) ** 2).sum()) if len(truth_N) else 0.0
    return 1 - float(((predicted_N - truth_N) ** 2).sum()) / variance if variance > 0 else np.nan


def pearson(truth_N: Floats, predicted_N: Floats) -> float:
    """The linear correlation; NaN where truth or prediction does not vary."""
    truth_N, predicted_N = truth_N - truth_N.mean(), predicted_N - predicted_N.mean()
    norm = float(np.sqrt((truth_N**2).sum() * (predicted_N**2).sum()))
    return float((truth_N * predicted_N).sum()) / norm if norm > 0 else np.nan


def pit(truth_N: ArrayLike, predicted_N: ArrayLike, sigma_N: ArrayLike) -> Floats:
    """The probability integral transform of each known truth: uniform in 0 to 1 if the errors are right."""
    truth_N, predicted_N = np.asarray(truth_N, np.float64), np.asarray(predicted_N, np.float64)
    sigma_N = np.asarray(sigma_N, np.float64)
    is_known_N = np.isfinite(truth_N)
    pull_N = (truth_N[is_known_N] - predicted_N[is_known_N]) / sigma_N[is_known_N]
    return np.asarray(ndtr(pull_N))


def measures(
    name: str,
    truth_N: ArrayLike,
    predicted_N: ArrayLike,
    sigma_N: ArrayLike | None = None,
    floor: float = MAPE_FLOOR,
    star_N: Counts | None = None,
) -> list[Measure]:
    """All metrics of a predicted label; with predicted errors also metrics of these."""
    predicted_N = checks.finite(name, predicted_N)
    truth_N = checks.same_shape(name, truth_N, predicted_N)
    is_known_N = np.isfinite(truth_N)
    if sigma_N is not None:
        sigma_N = _check_errors(name, sigma_N, predicted_N)[is_known_N]
    truth_N, predicted_N = truth_N[is_known_N], predicted_N[is_known_N]
    star_N = None if star_N is None else star_N[is_known_N]
    n, stars = len(truth_N), count_stars(star_N)
    if not n:
        return []
    residual_N = predicted_N - truth_N
    values = {
        "median_bias": float(np.median(residual_N)),
        "robust_scatter": robust_scatter(residual_N),
        "max_error": float(np.abs(residual_N).max()),
        "r2": r2(truth_N, predicted_N),
        "pearson": pearson(truth_N, predicted_N),
    }
    results = _measure_means(name, residual_N, star_N)
    results += [Measure(name, metric, value, n=n) for metric, value in values.items()]
    is_far_N = np.abs(truth_N) > floor
    if is_far_N.any():
        mape = float(np.abs(residual_N[is_far_N] / truth_N[is_far_N]).mean())
        far_stars = None if star_N is None else count_stars(star_N[is_far_N])
        results.append(Measure(name, "mape", mape, n=int(is_far_N.sum()), stars=far_stars))
    if sigma_N is not None:
        results += _measure_errors(name, residual_N, sigma_N, star_N)
    return [
        measure if measure.metric == "mape" else measure._replace(stars=stars)
        for measure in results
        if np.isfinite(measure.value)
    ]


def _check_errors(name: str, sigma_N: ArrayLike, predicted_N: Floats) -> Floats:
    what = f"errors of {name}"
    sigma_N = checks.same_shape(what, checks.finite(what, sigma_N), predicted_N)
    if (sigma_N <= 0).any():
        raise ValueError(
            f"metrics: {what}: one is {sigma_N.min():g}; "
            "give standard deviations above 0, exp(log_var / 2) in units of the label"
        )
    return sigma_N


def _measure_means(name: str, residual_N: Floats, star_N: Counts | None) -> list[Measure]:
    n = len(residual_N)
    drawn_R3 = resample_means(np.stack([np.abs(residual_N), residual_N**2, residual_N], 1), star_N=star_N)
    drawn = {
        "mae": drawn_R3[:, 0],
        "rmse": np.sqrt(np.maximum(drawn_R3[:, 1], 0)),
        "bias": drawn_R3[:, 2],
        "scatter": np.sqrt(np.maximum(drawn_R3[:, 1] - drawn_R3[:, 2] ** 2, 0)),
    }
    values = {
        "mae": np.abs(residual_N).mean(),
        "rmse": np.sqrt((residual_N**2).mean()),
        "bias": residual_N.mean(),
        "scatter": residual_N.std(),
    }
    results = []
    for metric, value in values.items():
        interval = percentile_interval(drawn[metric], float(value)) if n > 1 else (np.nan, np.nan)
        results.append(Measure(name, metric, float(value), *interval, n))
    return results


def _measure_errors(name: str, residual_N: Floats, sigma_N: Floats, star_N: Counts | None) -> list[Measure]:
    """Coverage, scatter of residual / error, and mean negative log likelihood.

    Right errors cover a share of 0.683 within one error and 0.954 within two.
    """
    n, pull_N = len(residual_N), residual_N / sigma_N
    nll_N = 0.5 * (pull_N**2 + np.log(2 * np.pi)) + np.log(sigma_N)
    nll = float(nll_N.mean())
    interval = (np.nan, np.nan)
    if n > 1:
        interval = percentile_interval(resample_means(nll_N[:, None], star_N=star_N)[:, 0], nll)
    return [
        flag_measure(name, "coverage_68", np.abs(pull_N) <= 1, star_N),
        flag_measure(name, "coverage_95", np.abs(pull_N) <= 2, star_N),
        Measure(name, "pull_scatter", float(pull_N.std()), n=n),
        Measure(name, "nll", nll, *interval, n),
    ]


def iron_classes(feh_N: ArrayLike) -> NDArray[np.int64]:
    """The number in `IRON_CLASSES` for each [Fe/H]; `MISSING` where it is unknown."""
    feh_N = np.asarray(feh_N, np.float64)
    limits = [METAL_POOR[kind] for kind in IRON_CLASSES[:-1]]
    return np.asarray(np.where(np.isfinite(feh_N), np.searchsorted(limits, feh_N, side="right"), MISSING))


def iron_measures(truth_N: ArrayLike, predicted_N: ArrayLike, star_N: Counts | None = None) -> list[Measure]:
    """Metrics of the classes that follow from predicted [Fe/H].

    Subjects are `[Fe/H] EMP` and so on; over all classes `[Fe/H] classes`.
    """
    predicted_N = checks.finite("FeH", predicted_N)
    names = [f"[Fe/H] {kind}" for kind in IRON_CLASSES]
    numbers = iron_classes(truth_N), iron_classes(predicted_N)
    return measure_predictions(*numbers, names, star_N, "[Fe/H] classes")


def predicted_carbon(labels: Sequence[str], value_NL: Floats) -> Floats | None:
    """Predicted [C/Fe]: the label itself, else from [C/H] and [Fe/H]; None where neither is predicted."""
    return carbon_to_iron({name: value_NL[:, labels.index(name)] for name in labels})


def classes_by_labels(
    labels: Sequence[str], value_NL: ArrayLike, criterion: Criterion = "carbon_0.7"
) -> NDArray[np.int64] | None:
    """The class that follows from predicted labels.

    None where [Fe/H], [C/Fe] or another label that the criterion needs is not predicted.
    """
    value_NL = checks.finite("labels", value_NL)
    cfe_N = predicted_carbon(labels, value_NL)
    needed = {"FeH", *CRITERION_LABELS[criterion]}
    if cfe_N is None or not needed <= set(labels):
        return None
    label = {name: value_NL[:, labels.index(name)] for name in labels}
    return classes(label["FeH"], cfe_N, criterion, label.get("Teff"), label.get("logg")).astype(np.int64)


def measures_of_label_classes(
    truth_N: ArrayLike,
    labels: Sequence[str],
    value_NL: ArrayLike,
    criterion: Criterion = "carbon_0.7",
    star_N: Counts | None = None,
) -> list[Measure]:
    """Metrics of the classes that follow from predicted labels; subjects end in `by labels`."""
    predicted_N = classes_by_labels(labels, value_NL, criterion)
    if predicted_N is None:
        return []
    results = measure_predictions(truth_N, predicted_N, CLASSES, star_N)
    for search, positives in searches(CLASSES).items():
        results += measure_search(search, truth_N, predicted_N, positives, star_N)
    return [measure._replace(subject=f"{measure.subject} by labels") for measure in results]


def identity_violation(
    labels: Sequence[str], value_NL: ArrayLike, star_N: Counts | None = None
) -> list[Measure]:
    """Root mean square of [C/Fe] - ([C/H] - [Fe/H]), which is 0 for consistent predictions.

    Empty where one of the three labels is not predicted.
    """
    value_NL = checks.finite("labels", value_NL)
    if not set(CARBON_LABELS) <= set(labels) or not len(value_NL):
        return []
    residual_N = carbon_residual(*(value_NL[:, labels.index(name)] for name in CARBON_LABELS))
    value, n = float(np.sqrt((residual_N**2).mean())), len(value_NL)
    return [Measure("CFe", "identity_rms", value, n=n, stars=count_stars(star_N))]
