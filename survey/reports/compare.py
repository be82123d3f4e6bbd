"""The report of a comparison of runs and ensembles: a table for the terminal, and plots."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from survey.evaluate.compare import BETTER, LEAST_STARS, OPEN, WORSE
from survey.evaluate.result import Against
from survey.labels import label
from survey.metrics.text import aligned, cell
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, panels, png, symbol, unit

Rows = list[dict[str, Any]]

VERDICT_COLOURS = {BETTER: BLUE, WORSE: RED, OPEN: INK, None: GREY}
VERDICT_ARROWS = {BETTER: " ↓", WORSE: " ↑", OPEN: "", None: ""}
"""Of errors: smaller or larger than those of the first, by an interval that excludes 0."""
CLASS_METRICS = {
    "all/accuracy": "accuracy",
    "all/f1_macro": "F1, mean of classes",
    "MP_search/f1": "F1 of the MP search",
    "CEMP_search/f1": "F1 of the CEMP search",
}
LABEL_METRICS = {"mae": "MAE", "rmse": "RMSE", "bias": "bias", "scatter": "scatter"}
CAUTION = (
    "95 % intervals from bootstrap samples of stars, the same for all. Of twenty differences that are 0, "
    "about one\n"
    f"is called better or worse by chance; with fewer than {LEAST_STARS} stars none is. The differences hold "
    "for these trained\nnetworks: another seed of the same network may differ as much."
)


def summary(table: pa.Table, against: Against) -> str:
    """What is better or worse than the first, and by how much."""
    rows: Rows = table.to_pylist()
    overall = [row for row in rows if row["kind"] == "all"]
    if not overall:
        return "comparison: no spectrum has a label or a class that they predict"
    first = overall[0]["who"]
    title = (
        f"comparison with {first} on {overall[0]['rows']:,} spectra of {overall[0]['stars']:,} stars that "
        "none of them was trained on or selected by"
    )
    tables = (_labels(overall, first), _classes(overall, first), _by_group(rows, first))
    return "\n\n".join([title + _not_compared(against), *(text for text in tables if text), CAUTION])


def _not_compared(against: Against) -> str:
    lines = [
        f"{name} has seen {count:,} spectra of the first: left out"
        for name, count in against.left_out.items()
        if count
    ]
    lines += [
        f"only {name} predicts {', '.join(names)}: not compared" for name, names in against.alone.items()
    ]
    return "".join(f"\n  {line}" for line in lines)


def _names(rows: Rows, key: str) -> list[str]:
    """The different values of a column, in the order of the rows."""
    return list(dict.fromkeys(row[key] for row in rows))


def _labels(rows: Rows, first: str) -> str:
    """Metrics of each label, one line for each that predicts it."""
    rows = [row for row in rows if row["metric"] in LABEL_METRICS]
    subjects = _names([row for row in rows if row["metric"] == "mae"], "subject")
    lines = [["label", "who", "n", *LABEL_METRICS.values(), f"MAE - that of {first}", ""]]
    for subject in subjects:
        row_of = {(row["who"], row["metric"]): row for row in rows if row["subject"] == subject}
        digits = _digits(subject)
        for number, who in enumerate(dict.fromkeys(who for who, _ in row_of)):
            mae = row_of[who, "mae"]
            cells = [cell(row_of.get((who, metric)), True, digits) for metric in LABEL_METRICS]
            name = "" if number else subject
            lines.append([name, who, f"{mae['n']:,}", *cells, *_difference(mae, digits)])
    return aligned(lines) if subjects else ""


def _classes(rows: Rows, first: str) -> str:
    row_of = {(row["who"], f"{row['subject']}/{row['metric']}"): row for row in rows}
    lines = [["classes", "who", "n", "", f"minus that of {first}", ""]]
    for key, words in CLASS_METRICS.items():
        for number, who in enumerate(who for who, metric in row_of if metric == key):
            row = row_of[who, key]
            name = "" if number else words
            lines.append([name, who, f"{row['n']:,}", cell(row, True), *_difference(row, 3)])
    return aligned(lines) if len(lines) > 1 else ""


def _difference(row: dict[str, Any], digits: int) -> list[str]:
    """A difference with its interval, and the verdict."""
    if row["difference"] is None:
        return ["", ""]
    bounds = ""
    if row["difference_low"] is not None:
        bounds = f" [{row['difference_low']:+.{digits}f}, {row['difference_high']:+.{digits}f}]"
    return [f"{row['difference']:+.{digits}f}{bounds}", "" if row["verdict"] == OPEN else row["verdict"]]


def _by_group(rows: Rows, first: str) -> str:
    """MAE of each label by signal to noise, and of giants and dwarfs."""
    rows = [row for row in rows if row["kind"] in ("snr", "gravity") and row["metric"] == "mae"]
    rows = sorted(rows, key=lambda row: row["kind"] != "snr")
    if not rows:
        return ""
    spectra_in = {row["group"]: row["rows"] for row in rows if row["kind"] == "snr"}
    spectra_in |= {row["group"]: row["rows"] for row in rows if row["kind"] != "snr"}
    name_of = {row["group"]: f"S/N {row['group']}" if row["kind"] == "snr" else row["group"] for row in rows}
    lines = [["MAE", "who", *(f"{name_of[group]} ({count:,})" for group, count in spectra_in.items())]]
    for subject in _names(rows, "subject"):
        row_of = {(row["who"], row["group"]): row for row in rows if row["subject"] == subject}
        for number, who in enumerate(dict.fromkeys(who for who, _ in row_of)):
            cells = []
            for group in spectra_in:
                row = row_of.get((who, group))
                cells.append(
                    cell(row, digits=_digits(subject)) + VERDICT_ARROWS[row["verdict"] if row else None]
                )
            lines.append(["" if number else subject, who, *cells])
    legend = (
        f"↓ smaller than that of {first}, ↑ larger, of {LEAST_STARS} stars or more by an interval without 0"
    )
    return f"{aligned(lines)}\n{legend}"


def _digits(subject: str) -> int:
    return 1 if label(subject).unit == "K" else 3


def pictures(table: pa.Table) -> dict[str, bytes]:
    """MAE of each label, overall and by signal to noise."""
    rows: Rows = [row for row in table.to_pylist() if row["metric"] == "mae"]
    overall = [row for row in rows if row["kind"] == "all"]
    by_snr = [row for row in rows if row["kind"] == "snr"]
    subjects = _names(overall, "subject")
    if not subjects:
        return {}
    png_of = {"against": _overall(overall, subjects)}
    if by_snr:
        png_of["against_snr"] = _over_snr(by_snr, subjects)
    return png_of


def _overall(rows: Rows, subjects: Sequence[str]) -> bytes:
    who = _names(rows, "who")
    columns, height = min(3, len(subjects)), 0.9 + 0.34 * len(who)

    def draw(figure: Figure) -> None:
        axes = panels(figure, len(subjects), sharey=True)
        for axis, subject in zip(axes, subjects, strict=True):
            chosen = [row for row in rows if row["subject"] == subject]
            for row in chosen:
                _point(axis, row["value"], who.index(row["who"]), row)
            axis.axvline(chosen[0]["value"], color=GREY, lw=0.8, ls=":")
            axis.set_yticks(range(len(who)), who)
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.set(
                ylim=(len(who) - 0.4, -0.6),
                xlabel=f"MAE of {symbol(subject)} ({unit(subject)})",
                title=f"{symbol(subject)}, n = {chosen[0]['n']:,}",
            )
        words = {BETTER: f"better than {who[0]}", WORSE: "worse", OPEN: "no clear difference"}
        for verdict, text in words.items():
            axes[0].plot([], [], "o", color=VERDICT_COLOURS[verdict], label=text)
        title = "paired difference, 95 % interval"
        figure.legend(loc="outside lower center", ncols=3, title=title, title_fontsize=9)

    return png(draw, 1.6 + 3.4 * columns, 0.7 + height * -(-len(subjects) // columns))


def _point(axis: Axes, value: float, y: float, row: dict[str, Any]) -> None:
    error = None if row["low"] is None else [[value - row["low"]], [row["high"] - value]]
    color = VERDICT_COLOURS[row["verdict"]]
    axis.errorbar(value, y, xerr=error, fmt="o", color=color, ms=5, lw=1.4, capsize=2)


def _over_snr(rows: Rows, subjects: Sequence[str]) -> bytes:
    who, bins = _names(rows, "who"), _names(rows, "group")
    columns = min(3, len(subjects))

    def draw(figure: Figure) -> None:
        axes = panels(figure, len(subjects), sharey=False)
        for axis, subject in zip(axes, subjects, strict=True):
            for number, name in enumerate(who):
                chosen = [row for row in rows if row["subject"] == subject and row["who"] == name]
                shift = 0.5 * (number - (len(who) - 1) / 2) / len(who)
                x = np.array([bins.index(row["group"]) for row in chosen]) + shift
                y = np.array([row["value"] for row in chosen])
                color = SERIES[number % len(SERIES)]
                axis.errorbar(x, y, _error_lengths(chosen), fmt="o-", color=color, ms=4, lw=1.1, label=name)
            axis.set_xticks(range(len(bins)), bins, rotation=30)
            ylabel = f"MAE of {symbol(subject)} ({unit(subject)})"
            axis.set(xlabel="signal to noise", ylabel=ylabel, ylim=(0, None))
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))

    return png(draw, 4.4 * columns, 0.5 + 3.6 * -(-len(subjects) // columns))


def _error_lengths(rows: Rows) -> np.ndarray:
    """The lengths of error bars, below and above; 0 where there is no interval."""
    lengths = []
    for row in rows:
        known = row["low"] is not None
        lengths.append([row["value"] - row["low"], row["high"] - row["value"]] if known else [0, 0])
    return np.array(lengths, np.float64).reshape(-1, 2).T
