"""The residuals of each label as text: their size, their shape, and the spectra with the largest ones.

A residual is predicted minus true.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import kurtosis, skew

from survey.answers import Floats
from survey.labels import label
from survey.metrics import labels
from survey.metrics.score import LabelledAnswers
from survey.metrics.text import aligned, cell
from survey.reports.label_plots import with_known_truth

WORST = 20
FAR = 3
"""A residual beyond this many standard deviations is far off; of normal ones 0.27 % are."""
NAMES = ("visit", "obsid", "path", "star")
"""Columns that name a spectrum; those that exist are shown."""
GROUPS = {"all": "all", "dwarf": "dwarfs", "giant": "giants", "not known": "logg not known"}


def report(labelled: LabelledAnswers, answers: pa.Table) -> str:
    """The residuals of each label: numbers, then the worst spectra by name; `answers` is the table with the
    names.
    """
    blocks = [f"residuals (predicted - {labelled.labels_name}) of {len(labelled):,} spectra"]
    for name in labelled.labels if labelled.value_NL is not None else ():
        truth_N, value_N, known_N = with_known_truth(labelled, name)
        if len(truth_N):
            row = label(name)
            title = f"{name} ({row.unit}): {row.description}, {len(truth_N):,} spectra"
            blocks.append(f"{title}\n{_numbers(truth_N, value_N)}")
            title = f"the {min(WORST, len(truth_N))} spectra with the largest residuals of {name}"
            blocks.append(f"{title}\n{_worst(labelled, name, answers, known_N)}")
    return "\n\n".join(blocks) + "\n"


def _numbers(truth_N: Floats, value_N: Floats) -> str:
    residual_N = value_N - truth_N
    spread = float(residual_N.std())
    digits = 2 if np.abs(residual_N).mean() >= 10 else 4
    has_shape = len(residual_N) > 3 and spread > 0
    far_N = np.abs(residual_N - residual_N.mean()) > FAR * spread
    rows: list[tuple[str, float, int]] = [
        ("MAE", float(np.abs(residual_N).mean()), digits),
        ("RMSE", float(np.sqrt((residual_N**2).mean())), digits),
        ("mean (bias)", float(residual_N.mean()), digits),
        ("median", float(np.median(residual_N)), digits),
        ("standard deviation (scatter)", spread, digits),
        ("robust scatter (1.4826 MAD)", labels.robust_scatter(residual_N), digits),
        ("R²", labels.r2(truth_N, value_N), 4),
        ("Pearson r", labels.pearson(truth_N, value_N), 4),
        ("skewness (normal: 0)", float(skew(residual_N)) if has_shape else np.nan, 3),
        ("excess kurtosis (normal: 0)", float(kurtosis(residual_N)) if has_shape else np.nan, 3),
        (f"% beyond {FAR} standard deviations (normal: 0.27)", 100 * float(far_N.mean()), 2),
    ]
    return aligned(
        [[f"  {word}", "-" if np.isnan(value) else f"{value:.{places}f}"] for word, value, places in rows]
    )


def _worst(labelled: LabelledAnswers, name: str, answers: pa.Table, known_N: NDArray[np.bool_]) -> str:
    """The spectra with the largest residuals, the largest first."""
    truth_N, value_N = labelled.label_NL[:, labelled.labels.index(name)], labelled.value(name)
    assert value_N is not None
    size_N = np.where(known_N, np.abs(value_N - truth_N), -1.0)
    order = np.argsort(-size_N, kind="stable")[: min(WORST, int(known_N.sum()))]
    names: dict[str, list[Any]] = {
        column: answers[column].take(pa.array(order)).to_pylist()
        for column in NAMES
        if column in answers.column_names
    }
    if "path" in names:
        names["path"] = [path and path.rpartition("/")[2] for path in names["path"]]
    digits, snr_N = 1 if size_N.max() >= 10 else 3, labelled.snr()
    first, *others = list(names) or ["row"]
    lines = [[f"  {first}", *others, labelled.labels_name, "predicted", "residual", "S/N"]]
    for number, row in enumerate(order.tolist()):
        words = [str(column[number]) if column[number] is not None else "-" for column in names.values()]
        words = words or [str(row)]
        numbers = (truth_N[row], value_N[row], value_N[row] - truth_N[row])
        cells = [f"{value:.{digits}f}" for value in numbers]
        snr = "-" if snr_N is None or np.isnan(snr_N[row]) else f"{snr_N[row]:.0f}"
        lines.append([f"  {words[0]}", *words[1:], *cells, snr])
    return aligned(lines)


def by_gravity(table: pa.Table) -> str:
    """MAE, bias and scatter of each label with intervals: of all stars, dwarfs and giants; empty without
    labels.
    """
    row_of: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in table.to_pylist():
        if row["kind"] in ("all", "gravity"):
            row_of[row["group"], row["subject"], row["metric"]] = row
    subjects = [subject for group, subject, metric in row_of if group == "all" and metric == "mae"]
    lines = [["label", "stars", "n", "MAE", "bias", "scatter"]]
    for subject in subjects:
        digits = 1 if row_of["all", subject, "mae"]["value"] >= 10 else 3
        for group, words in GROUPS.items():
            if mae := row_of.get((group, subject, "mae")):
                metrics = ("mae", "bias", "scatter")
                cells = [cell(row_of.get((group, subject, metric)), True, digits) for metric in metrics]
                lines.append([subject if group == "all" else "", words, f"{mae['n']:,}", *cells])
    has_groups = any(line[1] in ("dwarfs", "giants") for line in lines)
    return aligned(lines) if has_groups else ""
