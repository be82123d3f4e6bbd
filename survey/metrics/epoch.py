"""The metrics that are computed after every epoch, without intervals; early stopping watches one of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from survey.labels import CLASSES
from survey.metrics import checks
from survey.metrics.classes import (
    averages,
    confusion,
    log_losses,
    merge_classes,
    rates,
    searches,
    with_known_class,
)
from survey.metrics.curves import precision_recall
from survey.metrics.labels import r2

RATES = ("precision", "recall", "f1")


def epoch_metrics(
    *,
    class_N: ArrayLike | None = None,
    p_NC: ArrayLike | None = None,
    classes: Sequence[str] = CLASSES,
    label_NL: ArrayLike | None = None,
    mu_NL: ArrayLike | None = None,
    labels: Sequence[str] = (),
    loss: float | None = None,
) -> dict[str, float]:
    """Metrics such as `accuracy`, `f1_CEMP`, `mae_Teff`.

    The names do not depend on the data; an undefined metric is NaN. Classes need `class_N` and `p_NC`. Labels
    need `labels`, and `label_NL` and `mu_NL` in units of the labels. Either may be left out.
    """
    metrics = {} if loss is None else {"loss": float(loss)}
    if class_N is not None and p_NC is not None:
        metrics |= _class_metrics(class_N, p_NC, list(classes))
    if label_NL is not None and mu_NL is not None:
        metrics |= _label_metrics(label_NL, mu_NL, labels)
    return metrics


def _class_metrics(class_N: ArrayLike, p_NC: ArrayLike, names: list[str]) -> dict[str, float]:
    truth_N, p_NC = with_known_class(class_N, p_NC, len(names))
    counts_CC = confusion(truth_N, p_NC.argmax(1), len(names))
    metrics = {
        "accuracy": np.trace(counts_CC) / counts_CC.sum() if len(truth_N) else np.nan,
        "log_loss": log_losses(truth_N, p_NC).mean() if len(truth_N) else np.nan,
    }
    metrics |= {name: float(value) for name, value in averages(counts_CC).items() if name.startswith("f1")}
    for name, *values in zip(names, *rates(counts_CC), strict=True):
        metrics |= {f"{metric}_{name}": value for metric, value in zip(RATES, values, strict=True)}
    for search, positives in searches(names).items():
        values = [rate[1] for rate in rates(merge_classes(counts_CC, positives))]
        metrics |= {f"{metric}_{search}": value for metric, value in zip(RATES, values, strict=True)}
        curve = precision_recall(np.isin(truth_N, positives), p_NC[:, positives].sum(1))
        metrics[f"average_precision_{search}"] = curve.area
    return {name: float(value) for name, value in metrics.items()}


def _label_metrics(label_NL: ArrayLike, mu_NL: ArrayLike, labels: Sequence[str]) -> dict[str, float]:
    mu_NL = checks.finite("labels", mu_NL)
    truth_NL = checks.same_shape("labels", label_NL, mu_NL)
    if mu_NL.ndim != 2 or mu_NL.shape[1] != len(labels):
        raise ValueError(
            f"metrics: labels: predictions have the shape {mu_NL.shape}, "
            f"but the names are {', '.join(labels) or '(none)'}; give one name per column"
        )
    metrics = {}
    for name, truth_N, mu_N in zip(labels, truth_NL.T, mu_NL.T, strict=True):
        is_known_N = np.isfinite(truth_N)
        residual_N = (mu_N - truth_N)[is_known_N]
        has_truth = len(residual_N) > 0
        metrics[f"mae_{name}"] = float(np.abs(residual_N).mean()) if has_truth else np.nan
        metrics[f"rmse_{name}"] = float(np.sqrt((residual_N**2).mean())) if has_truth else np.nan
        metrics[f"bias_{name}"] = float(residual_N.mean()) if has_truth else np.nan
        metrics[f"r2_{name}"] = r2(truth_N[is_known_N], mu_N[is_known_N])
    defined = [metrics[f"r2_{name}"] for name in labels if np.isfinite(metrics[f"r2_{name}"])]
    return metrics | {"r2_mean": float(np.mean(defined)) if defined else np.nan}
