"""Blocks about answers whose truth is known: confusion of classes, calibration, residuals, the Kiel diagram.

They read the tables of answers that an evaluation, an ensemble and predictions keep. Shapes: N spectra.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.visits import float_column, label_names
from survey.labels import CLASSES, MISSING
from survey.metrics.classes import confusion, reliability, searches
from survey.metrics.score import TRUE, TRUE_CLASS
from survey.pages.page_text import axis_text, digits_of, interval_text, plain_symbol
from survey.pages.report_blocks import Block, ReportPage, matrix, table
from survey.pages.star_columns import StarColumn, collect, plane_axes

Floats = NDArray[np.float64]

METRICS = ("mae", "rmse", "bias", "robust_scatter", "r2", "coverage_68", "coverage_95")
"""Metrics of labels in the short table."""
CLASS_METRICS = ("precision", "recall", "f1", "average_precision", "ece")
FEWEST = 5
"""Bins of probability with fewer spectra are not drawn."""


def answer_blocks(page: ReportPage, answers: pa.Table, classes: Sequence[str] = CLASSES) -> list[Block]:
    """All blocks that a table of answers with the truth allows."""
    blocks = [
        _confusion(answers, classes),
        _calibration(page, answers, classes),
        _planes(page, answers),
    ]
    return [block for block in blocks if block is not None]


def _confusion(answers: pa.Table, classes: Sequence[str]) -> Block | None:
    """How often spectra of a class were called which class."""
    if not {TRUE_CLASS, "predicted_class"} <= set(answers.column_names):
        return None
    true_N, predicted_N = (
        answers[name].fill_null(MISSING).to_numpy(zero_copy_only=False)
        for name in (TRUE_CLASS, "predicted_class")
    )
    known_N = (true_N != MISSING) & (predicted_N != MISSING)
    if not known_N.any():
        return None
    count_CC = confusion(true_N[known_N], predicted_N[known_N], len(classes))
    return matrix("Confusion of classes", "true \\ predicted", classes, count_CC)


def _calibration(page: ReportPage, answers: pa.Table, classes: Sequence[str]) -> Block | None:
    """Observed frequency against the mean predicted probability in bins, of each search."""
    names = [f"p_{name.lower()}" for name in classes]
    if not set(names) <= set(answers.column_names) or TRUE_CLASS not in answers.column_names:
        return None
    p_NC = np.stack([float_column(answers, name) for name in names], 1)
    true_N = answers[TRUE_CLASS].fill_null(MISSING).to_numpy(zero_copy_only=False)
    known_N = (true_N != MISSING) & np.isfinite(p_NC).all(1)
    points: dict[str, dict[float, float]] = {}
    for search, positives in searches(list(classes)).items() if known_N.any() else ():
        p_N = p_NC[known_N][:, positives].sum(1)
        found = reliability(np.isin(true_N[known_N], positives), np.clip(p_N, 0, 1))
        enough = found.n >= FEWEST
        points[f"{search.removesuffix('_search')}, error {found.ece:.3f}"] = dict(
            zip(found.predicted[enough].tolist(), found.observed[enough].tolist(), strict=True)
        )
    if not points:
        return None
    x = sorted({0.0, 1.0}.union(*points.values()))
    curves = {name: [curve.get(p, np.nan) for p in x] for name, curve in points.items()}
    curves["as it should be"] = x
    title = "Calibration: observed frequency against predicted probability"
    axis = ("predicted probability", x)
    return page.curves(title, axis, curves, y="observed frequency", dashed=["as it should be"])


def _residual(answers: pa.Table, name: str) -> Floats:
    return float_column(answers, name) - float_column(answers, TRUE + name)


def _planes(page: ReportPage, answers: pa.Table) -> Block | None:
    """Residuals of each label against its true value, and the Kiel diagram: a selection is seen in all."""
    labels = [name for name in label_names(answers) if TRUE + name in answers.column_names]
    columns: list[StarColumn] = []
    wanted = [("Kiel diagram", "Teff", "logg")] if {"Teff", "logg"} <= set(labels) else []
    for name in labels:
        step, digits = (1.0, 0) if digits_of(name) == 0 else (0.002, 2)
        symbol, falls = axis_text(name), name in ("Teff", "logg")
        residual = partial(_residual, name=name)
        columns += [
            StarColumn(name, symbol, step, digits, (name,), falls=falls),
            StarColumn(TRUE + name, f"true {symbol}", step, digits, (TRUE + name,)),
            StarColumn(f"residual_{name}", f"Δ {symbol}", step, digits, (name,), value=residual),
        ]
        wanted.append((f"Residuals of {plain_symbol(name)}", TRUE + name, f"residual_{name}"))
    if "snr" in answers.column_names:
        columns.append(StarColumn("snr", "S/N", 0.5, 0, ("snr",)))
    stars = collect(columns, [answers]) if labels else None
    if stars is None:
        return None
    return page.planes("Answers and residuals", stars, plane_axes(stars, wanted=wanted))


def metric_tables(metrics: pa.Table, who: str = "") -> Iterator[Block]:
    """The main metrics of all spectra together, of classes and of labels."""
    rows = {
        (row["subject"], row["metric"]): row
        for row in metrics.to_pylist()
        if row["kind"] == "all" and (not who or row["who"] == who)
    }
    subjects = list(dict.fromkeys(subject for subject, _ in rows))
    ending = f" of {who}" if who else ""
    of_classes = [name for name in subjects if (name, "f1") in rows]
    lines = [[name.replace("_", " "), *_cells(rows, name, CLASS_METRICS, 3)] for name in of_classes]
    if block := table(f"Classes{ending}", ["", *CLASS_METRICS], lines):
        yield block
    of_labels = [name for name in subjects if (name, "mae") in rows]
    lines = [
        [axis_text(name), *_cells(rows, name, METRICS, 1 if digits_of(name) == 0 else 3)]
        for name in of_labels
    ]
    if block := table(f"Labels{ending}", ["", *METRICS], lines):
        yield block


def _cells(rows: dict[Any, Any], subject: str, metrics: Sequence[str], digits: int) -> list[str]:
    """The cells of a row. Shares have three digits, whatever the unit of the label."""
    cells = []
    for metric in metrics:
        row = rows.get((subject, metric))
        places = 3 if metric.startswith(("r2", "coverage")) else digits
        cells.append(interval_text(row["value"], row["low"], row["high"], places) if row else "–")
    return cells
