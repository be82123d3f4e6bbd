"""The few numbers that are looked at after every epoch, under flat names, without intervals: an early stop watches one of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from survey.labels import CLASSES
from survey.metrics import checks
from survey.metrics.classes import (
    averages,
    confusion,
    known,
    log_losses,
    merged,
    precision_recall,
    problems,
    rates,
)
from survey.metrics.labels import r2


def quick(
    *,
    class_N: ArrayLike | None = None,
    p_NC: ArrayLike | None = None,
    classes: Sequence[str] = CLASSES,
    label_NL: ArrayLike | None = None,
    mu_NL: ArrayLike | None = None,
    labels: Sequence[str] = (),
    loss: float | None = None,
) -> dict[str, float]:
    """Numbers such as `accuracy`, `f1_CEMP`, `mae_Teff`; the same names whatever the data, NaN where one is not defined.

    Classes want `class_N` and `p_NC`, labels want `label_NL`, `mu_NL` (both in units of the label) and `labels`; either may be absent.
    """
    made = {} if loss is None else {"loss": float(loss)}
    if class_N is not None and p_NC is not None:
        made |= _of_classes(class_N, p_NC, list(classes))
    if label_NL is not None and mu_NL is not None:
        made |= _of_labels(label_NL, mu_NL, labels)
    return made


def _of_classes(class_N: ArrayLike, said_NC: ArrayLike, names: list[str]) -> dict[str, float]:
    truth_N, p_NC = known(class_N, said_NC, len(names))
    counts_CC = confusion(truth_N, p_NC.argmax(1), len(names))
    made = {"accuracy": np.trace(counts_CC) / counts_CC.sum() if len(truth_N) else np.nan}
    made["log_loss"] = log_losses(truth_N, p_NC).mean() if len(truth_N) else np.nan
    made |= {name: float(value) for name, value in averages(counts_CC).items() if name.startswith("f1")}
    for name, *values in zip(names, *rates(counts_CC), strict=True):
        made |= {
            f"{metric}_{name}": value
            for metric, value in zip(("precision", "recall", "f1"), values, strict=True)
        }
    for problem, yes in problems(names).items():
        values = [rate[1] for rate in rates(merged(counts_CC, yes))]
        made |= {
            f"{metric}_{problem}": value
            for metric, value in zip(("precision", "recall", "f1"), values, strict=True)
        }
        made[f"average_precision_{problem}"] = precision_recall(
            np.isin(truth_N, yes), p_NC[:, yes].sum(1)
        ).area
    return {name: float(value) for name, value in made.items()}


def _of_labels(label_NL: ArrayLike, said_NL: ArrayLike, labels: Sequence[str]) -> dict[str, float]:
    mu_NL = checks.finite("labels", said_NL)
    truth_NL = checks.alike("labels", label_NL, mu_NL)
    if mu_NL.ndim != 2 or mu_NL.shape[1] != len(labels):
        raise ValueError(
            f"metrics: labels of shape {mu_NL.shape} under the names {', '.join(labels) or '(none)'}; give one name per column"
        )
    made = {}
    for name, truth_N, mu_N in zip(labels, truth_NL.T, mu_NL.T, strict=True):
        told = np.isfinite(truth_N)
        residual_N = (mu_N - truth_N)[told]
        some = len(residual_N) > 0
        made[f"mae_{name}"] = float(np.abs(residual_N).mean()) if some else np.nan
        made[f"rmse_{name}"] = float(np.sqrt((residual_N**2).mean())) if some else np.nan
        made[f"bias_{name}"] = float(residual_N.mean()) if some else np.nan
        made[f"r2_{name}"] = r2(truth_N[told], mu_N[told])
    scores = [made[f"r2_{name}"] for name in labels if np.isfinite(made[f"r2_{name}"])]
    return made | {"r2_mean": float(np.mean(scores)) if scores else np.nan}
