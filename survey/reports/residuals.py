"""Residuals of each label as a report to read: their size, their shape, and the spectra that are farthest off. Residuals are predicted minus true."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import kurtosis, skew

from survey.labels import label
from survey.metrics import labels
from survey.metrics.score import Judged, aligned, cell
from survey.reports.label_plots import known

Floats = NDArray[np.float64]

WORST = 20
FAR = 3
"""A residual beyond so many standard deviations is far off; of normal ones 0.27 % are."""
NAMES = ("visit", "obsid", "path", "star")
"""Columns by which a spectrum is named, as far as they are there."""


def report(judged: Judged, answers: pa.Table) -> str:
    """The residuals of every label: numbers, then the worst spectra by name; `answers` are the rows that say who the spectra are."""
    blocks = [f"residuals (predicted - {judged.called}) of {len(judged):,} spectra"]
    for name in judged.labels if judged.mu_NL is not None else ():
        truth_N, said_N, some_N = known(judged, name)
        if len(truth_N):
            blocks.append(
                f"{name} ({label(name).unit}): {label(name).about}, {len(truth_N):,} spectra\n{_numbers(truth_N, said_N)}"
            )
            blocks.append(
                f"the {min(WORST, len(truth_N))} spectra farthest off in {name}\n{_worst(judged, name, answers, some_N)}"
            )
    return "\n\n".join(blocks) + "\n"


def _numbers(truth_N: Floats, said_N: Floats) -> str:
    residual_N = said_N - truth_N
    spread = float(residual_N.std())
    digits = 2 if np.abs(residual_N).mean() >= 10 else 4
    shaped = len(residual_N) > 3 and spread > 0
    told: list[tuple[str, float, int]] = [
        ("MAE", float(np.abs(residual_N).mean()), digits),
        ("RMSE", float(np.sqrt((residual_N**2).mean())), digits),
        ("mean (bias)", float(residual_N.mean()), digits),
        ("median", float(np.median(residual_N)), digits),
        ("standard deviation (scatter)", spread, digits),
        ("robust scatter (1.4826 MAD)", labels.robust_scatter(residual_N), digits),
        ("R²", labels.r2(truth_N, said_N), 4),
        ("Pearson r", labels.pearson(truth_N, said_N), 4),
        ("skewness (normal: 0)", float(skew(residual_N)) if shaped else np.nan, 3),
        ("excess kurtosis (normal: 0)", float(kurtosis(residual_N)) if shaped else np.nan, 3),
        (
            f"% beyond {FAR} standard deviations (normal: 0.27)",
            100 * float((np.abs(residual_N - residual_N.mean()) > FAR * spread).mean()),
            2,
        ),
    ]
    return aligned(
        [[f"  {word}", "-" if np.isnan(value) else f"{value:.{places}f}"] for word, value, places in told]
    )


def _worst(judged: Judged, name: str, answers: pa.Table, some_N: NDArray[np.bool_]) -> str:
    """The spectra whose prediction is farthest from the truth, the farthest first."""
    truth_N, said_N = judged.label_NL[:, judged.labels.index(name)], judged.said(name)
    assert said_N is not None
    off_N = np.where(some_N, np.abs(said_N - truth_N), -1.0)
    order = np.argsort(-off_N, kind="stable")[: min(WORST, int(some_N.sum()))]
    who = {
        column: answers[column].take(pa.array(order)).to_pylist()
        for column in NAMES
        if column in answers.column_names
    }
    who |= {"path": [path and path.rpartition("/")[2] for path in who["path"]]} if "path" in who else {}
    digits, snr = 1 if off_N.max() >= 10 else 3, judged.snr()
    lines = [["  " + (next(iter(who), "row")), *list(who)[1:], judged.called, "predicted", "residual", "S/N"]]
    for number, row in enumerate(order.tolist()):
        names = [str(column[number]) if column[number] is not None else "-" for column in who.values()] or [
            str(row)
        ]
        numbers = [f"{value:.{digits}f}" for value in (truth_N[row], said_N[row], said_N[row] - truth_N[row])]
        lines.append(
            [
                "  " + names[0],
                *names[1:],
                *numbers,
                "-" if snr is None or np.isnan(snr[row]) else f"{snr[row]:.0f}",
            ]
        )
    return aligned(lines)


def by_gravity(table: pa.Table) -> str:
    """MAE, bias and scatter of each label, of all stars, of dwarfs and of giants, with their intervals; nothing where no label is judged."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in table.to_pylist():
        if row["kind"] in ("all", "gravity"):
            found[row["group"], row["subject"], row["metric"]] = row
    subjects: Sequence[str] = [
        subject for group, subject, metric in found if group == "all" and metric == "mae"
    ]
    lines = [["label", "stars", "n", "MAE", "bias", "scatter"]]
    for subject in subjects:
        for group in ("all", "dwarf", "giant", "not known"):
            if one := found.get((group, subject, "mae")):
                digits = 1 if found["all", subject, "mae"]["value"] >= 10 else 3
                cells = [
                    cell(found.get((group, subject, metric)), True, digits)
                    for metric in ("mae", "bias", "scatter")
                ]
                lines.append([subject if group == "all" else "", GROUPS[group], f"{one['n']:,}", *cells])
    return aligned(lines) if any(line[1] == "dwarfs" or line[1] == "giants" for line in lines) else ""


GROUPS = {"all": "all", "dwarf": "dwarfs", "giant": "giants", "not known": "logg not known"}
