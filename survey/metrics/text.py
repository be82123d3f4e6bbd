"""The table of metrics as text, for a terminal or a mail."""

from typing import Any

import pyarrow as pa

from survey.labels import label
from survey.metrics.settings import SEARCHES

Rows = dict[tuple[str, str, str, str], dict[str, Any]]
"""Rows of the table by kind, group, subject and metric."""

METRIC_NAMES = {
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "calibration error",
    "auc": "area under ROC",
    "average_precision": "average precision",
    "identity_rms": "rms of CFe - (CH - FeH)",
}
"""Metrics of all spectra together, in words."""
KIND_NAMES = {"snr": "S/N", "gravity": "gravity", "iron": "[Fe/H]", "layout": "layout", "source": "source"}
SHARES = ("r2", "coverage_68", "coverage_95")
"""Metrics of labels that have no unit."""


def metrics_text(table: pa.Table) -> str:
    """The main numbers of the table; a star marks numbers from few spectra."""
    rows: Rows = {
        (row["kind"], row["group"], row["subject"], row["metric"]): row for row in table.to_pylist()
    }
    if not rows:
        return "evaluation: no spectrum has a known class or label"
    spectra = next(iter(rows.values()))["rows"]
    blocks = [f"evaluation of {spectra:,} spectra; 95 % intervals in brackets"]
    blocks += [block for block in (_classes(rows), _overall(rows), _labels(rows), _groups(rows)) if block]
    if any("*" in block for block in blocks):
        blocks.append("* from few spectra: only a hint")
    return "\n\n".join(blocks)


def cell(row: dict[str, Any] | None, bounds: bool = False, digits: int = 3) -> str:
    """A number as text, if wanted with its interval; a dash where there is no number."""
    if row is None or not row["n"]:
        return "-"
    interval = ""
    if bounds and row["low"] is not None:
        interval = f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return f"{row['value']:.{digits}f}{interval}{'*' if row['few'] else ''}"


def aligned(lines: list[list[str]]) -> str:
    """Cells in columns: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            line[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line) for line in padded)


def _subjects(rows: Rows, metric: str) -> list[str]:
    return [subject for kind, _, subject, name in rows if kind == "all" and name == metric]


def _classes(rows: Rows) -> str:
    """Precision, recall and F1: of all classes together, of each class, of each
    search for several classes.
    """
    single = {search for search, wanted in SEARCHES.items() if len(wanted) == 1}
    lines = [["class", "true", "precision", "recall", "F1"]]
    for (kind, _, subject, metric), row in rows.items():
        if kind == "all" and metric in ("f1", "f1_weighted") and subject.split()[0] not in single:
            ending = metric.removeprefix("f1")
            names = [f"{name}{ending}" for name in ("precision", "recall", "f1")]
            cells = [cell(rows.get(("all", "all", subject, name)), True) for name in names]
            title = f"{subject}, weighted" if ending else f"  {subject}"
            lines.append([title, f"{row['n']:,}", *cells])
    return aligned(lines) if len(lines) > 1 else ""


def _overall(rows: Rows) -> str:
    """Accuracy, and the metrics that show whether the probabilities can be trusted."""
    words: dict[str, list[str]] = {}
    for (kind, _, subject, metric), row in rows.items():
        if kind == "all" and metric in METRIC_NAMES:
            words.setdefault(subject, []).append(f"{METRIC_NAMES[metric]} {cell(row, True)}")
    width = max(map(len, words), default=0)
    return "\n".join(f"{subject:<{width}}  {', '.join(parts)}" for subject, parts in words.items())


def _digits(rows: Rows, subject: str, metric: str) -> int:
    """Digits after the point: one where the number is large, such as a temperature."""
    return 1 if rows["all", "all", subject, metric]["value"] >= 10 else 3


def _labels(rows: Rows) -> str:
    names = {
        "mae": "MAE",
        "rmse": "RMSE",
        "bias": "bias",
        "scatter": "scatter",
        "robust_scatter": "robust",
        "r2": "R2",
    }
    shares = {"coverage_68": "in 1 sigma", "coverage_95": "in 2 sigma"}
    names |= {metric: word for metric, word in shares.items() if _subjects(rows, metric)}
    lines = [["label", "unit", "n", *names.values()]]
    for subject in _subjects(rows, "mae"):
        digits = _digits(rows, subject, "mae")
        cells = [
            cell(
                rows.get(("all", "all", subject, metric)), metric == "mae", 3 if metric in SHARES else digits
            )
            for metric in names
        ]
        lines.append([subject, label(subject).unit, f"{rows['all', 'all', subject, 'mae']['n']:,}", *cells])
    return aligned(lines) if len(lines) > 1 else ""


def _groups(rows: Rows) -> str:
    """The main numbers of each group."""
    wanted = [("all", "accuracy")]
    wanted += [(search, "f1") for search in SEARCHES]
    wanted += [(name, "mae") for name in _subjects(rows, "mae")]
    wanted = [pair for pair in wanted if ("all", "all", *pair) in rows]
    words = {"accuracy": "accuracy", "f1": "F1", "mae": "MAE"}
    titles = [
        words[metric] if subject == "all" else f"{words[metric]} {subject}" for subject, metric in wanted
    ]
    digits = [_digits(rows, *pair) for pair in wanted]
    sizes = {(kind, group): row["rows"] for (kind, group, _, _), row in rows.items() if kind != "all"}
    lines = [["group", "spectra", *titles]]
    for (kind, group), spectra in sizes.items():
        pairs = zip(wanted, digits, strict=True)
        cells = [cell(rows.get((kind, group, *pair)), digits=places) for pair, places in pairs]
        lines.append([f"{KIND_NAMES[kind]} {group}", f"{spectra:,}", *cells])
    return aligned(lines) if len(lines) > 1 else ""
