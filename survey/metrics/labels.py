"""How well labels are told, in their own units: errors with intervals, and whether the errors that the network gives are true.

Residuals are predicted minus true. Spectra whose label is not known are left out. Shapes: N spectra, L labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from survey.labels import CLASSES, METAL_POOR, MISSING, Criterion, classes
from survey.metrics import checks
from survey.metrics.classes import confusion, merged, of_counts, of_search, problems
from survey.metrics.intervals import Floats, Measure, between, means_drawn, share

FLOOR = 0.1
"""Errors relative to a truth nearer to 0 than this say nothing; they are left out of the MAPE."""
IRON = (*sorted(METAL_POOR, key=lambda kind: METAL_POOR[kind]), "normal")
"""Classes of [Fe/H], the poorest first."""


def robust_scatter(residual_N: Floats) -> float:
    """1.4826 times the median distance from the median: the standard deviation, if the residuals were normal."""
    return float(1.4826 * np.median(np.abs(residual_N - np.median(residual_N))))


def r2(truth_N: Floats, said_N: Floats) -> float:
    """Share of the variance that is explained; NaN where the truth does not vary."""
    spread = float(((truth_N - truth_N.mean()) ** 2).sum()) if len(truth_N) else 0.0
    return 1 - float(((said_N - truth_N) ** 2).sum()) / spread if spread > 0 else np.nan


def pearson(truth_N: Floats, said_N: Floats) -> float:
    """Linear correlation; NaN where truth or prediction does not vary."""
    one, two = truth_N - truth_N.mean(), said_N - said_N.mean()
    spread = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / spread if spread > 0 else np.nan


def pit(truth_N: ArrayLike, said_N: ArrayLike, sigma_N: ArrayLike) -> Floats:
    """Where each known truth lies in its predicted distribution, 0 to 1: evenly spread if the errors are true."""
    truth_N, said_N, sigma_N = (np.asarray(array, np.float64) for array in (truth_N, said_N, sigma_N))
    known = np.isfinite(truth_N)
    return np.asarray(ndtr((truth_N[known] - said_N[known]) / sigma_N[known]))


def measures(
    name: str, truth_N: ArrayLike, said_N: ArrayLike, sigma_N: ArrayLike | None = None, floor: float = FLOOR
) -> list[Measure]:
    """Everything that a predicted label is judged by; with its predicted errors also these."""
    said_N = checks.finite(name, said_N)
    truth_N = checks.alike(name, truth_N, said_N)
    known = np.isfinite(truth_N)
    if sigma_N is not None:
        sigma_N = _errors(name, sigma_N, said_N)[known]
    truth_N, said_N = truth_N[known], said_N[known]
    n = len(truth_N)
    if not n:
        return []
    residual_N = said_N - truth_N
    far = np.abs(truth_N) > floor
    values = {
        "median_bias": float(np.median(residual_N)),
        "robust_scatter": robust_scatter(residual_N),
        "max_error": float(np.abs(residual_N).max()),
        "r2": r2(truth_N, said_N),
        "pearson": pearson(truth_N, said_N),
    }
    made = _means(name, residual_N) + [Measure(name, metric, value, n=n) for metric, value in values.items()]
    if far.any():
        made.append(
            Measure(name, "mape", float(np.abs(residual_N[far] / truth_N[far]).mean()), n=int(far.sum()))
        )
    if sigma_N is not None:
        made += _trust(name, residual_N, sigma_N)
    return [measure for measure in made if np.isfinite(measure.value)]


def _errors(name: str, sigma_N: ArrayLike, said_N: Floats) -> Floats:
    sigma_N = checks.alike(f"errors of {name}", checks.finite(f"errors of {name}", sigma_N), said_N)
    if (sigma_N <= 0).any():
        raise ValueError(
            f"metrics: errors of {name}: one is {sigma_N.min():g}; give standard deviations above 0, exp(log_var / 2) in units of the label"
        )
    return sigma_N


def _means(name: str, residual_N: Floats) -> list[Measure]:
    n = len(residual_N)
    drawn_R3 = means_drawn(np.stack([np.abs(residual_N), residual_N**2, residual_N], 1))
    drawn = {"mae": drawn_R3[:, 0], "rmse": np.sqrt(np.maximum(drawn_R3[:, 1], 0)), "bias": drawn_R3[:, 2]}
    drawn["scatter"] = np.sqrt(np.maximum(drawn_R3[:, 1] - drawn_R3[:, 2] ** 2, 0))
    values = {
        "mae": np.abs(residual_N).mean(),
        "rmse": np.sqrt((residual_N**2).mean()),
        "bias": residual_N.mean(),
        "scatter": residual_N.std(),
    }
    bounds = {
        metric: between(drawn[metric], float(value)) if n > 1 else (np.nan, np.nan)
        for metric, value in values.items()
    }
    return [Measure(name, metric, float(value), *bounds[metric], n) for metric, value in values.items()]


def _trust(name: str, residual_N: Floats, sigma_N: Floats) -> list[Measure]:
    """Share of truths within one and two predicted errors (0.683 and 0.954 if these are true), spread of residual / error, mean NLL."""
    n, pull_N = len(residual_N), residual_N / sigma_N
    nll_N = 0.5 * (pull_N**2 + np.log(2 * np.pi)) + np.log(sigma_N)
    bounds = between(means_drawn(nll_N[:, None])[:, 0], float(nll_N.mean())) if n > 1 else (np.nan, np.nan)
    return [
        share(name, "coverage_68", int((np.abs(pull_N) <= 1).sum()), n),
        share(name, "coverage_95", int((np.abs(pull_N) <= 2).sum()), n),
        Measure(name, "pull_scatter", float(pull_N.std()), n=n),
        Measure(name, "nll", float(nll_N.mean()), *bounds, n),
    ]


def iron_classes(feh_N: ArrayLike) -> NDArray[np.int64]:
    """Numbers of `IRON` by [Fe/H]; `MISSING` where it is not known."""
    feh_N = np.asarray(feh_N, np.float64)
    limits = [METAL_POOR[kind] for kind in IRON[:-1]]
    return np.asarray(np.where(np.isfinite(feh_N), np.searchsorted(limits, feh_N, side="right"), MISSING))


def iron_measures(truth_N: ArrayLike, said_N: ArrayLike) -> list[Measure]:
    """How well predicted [Fe/H] sorts spectra into its classes; subjects are `[Fe/H] EMP` and so on, all together `[Fe/H] classes`."""
    said_N = checks.finite("FeH", said_N)
    counts_CC = confusion(iron_classes(truth_N), iron_classes(said_N), len(IRON))
    return of_counts(counts_CC, [f"[Fe/H] {kind}" for kind in IRON], "[Fe/H] classes")


def carbon(labels: Sequence[str], said_NL: Floats) -> Floats | None:
    """Predicted [C/Fe]: its own column, else [C/H] - [Fe/H]; None where neither is predicted."""
    if "CFe" in labels:
        return said_NL[:, labels.index("CFe")]
    if {"CH", "FeH"} <= set(labels):
        return said_NL[:, labels.index("CH")] - said_NL[:, labels.index("FeH")]
    return None


def classes_by_labels(
    labels: Sequence[str], said_NL: ArrayLike, criterion: Criterion = "carbon_0.7"
) -> NDArray[np.int64] | None:
    """The class that predicted [Fe/H] and [C/Fe] make of each spectrum; None where they, or what the criterion needs, are not predicted."""
    said_NL = checks.finite("labels", said_NL)
    cfe_N = carbon(labels, said_NL)
    needed = {"FeH", "Teff", "logg"} if criterion == "aoki2007" else {"FeH"}
    if cfe_N is None or not needed <= set(labels):
        return None
    column = {name: said_NL[:, labels.index(name)] for name in labels}
    return classes(column["FeH"], cfe_N, criterion, column.get("Teff"), column.get("logg")).astype(np.int64)


def by_labels_measures(
    truth_N: ArrayLike, labels: Sequence[str], said_NL: ArrayLike, criterion: Criterion = "carbon_0.7"
) -> list[Measure]:
    """How well predicted labels tell the classes; subjects end in `by labels`, to stand beside those of the class probabilities."""
    said_N = classes_by_labels(labels, said_NL, criterion)
    if said_N is None:
        return []
    counts_CC = confusion(truth_N, said_N, len(CLASSES))
    found = of_counts(counts_CC, CLASSES)
    for problem, yes in problems(CLASSES).items():
        found += of_search(problem, merged(counts_CC, yes))
    return [measure._replace(subject=f"{measure.subject} by labels") for measure in found]


def identity_violation(labels: Sequence[str], said_NL: ArrayLike) -> list[Measure]:
    """Root mean square of [C/Fe] - ([C/H] - [Fe/H]) among predictions, which ought to be 0; nothing where one of them is not predicted."""
    said_NL = checks.finite("labels", said_NL)
    if not {"CFe", "CH", "FeH"} <= set(labels) or not len(said_NL):
        return []
    cfe_N, ch_N, feh_N = (said_NL[:, labels.index(name)] for name in ("CFe", "CH", "FeH"))
    return [
        Measure("CFe", "identity_rms", float(np.sqrt(((cfe_N - ch_N + feh_N) ** 2).mean())), n=len(said_NL))
    ]
