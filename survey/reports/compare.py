"""Several set against one another: a table to read, and what it says drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.evaluate.compare import BETTER, OPEN, WORSE
from survey.labels import label
from survey.metrics.score import aligned, cell
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, png, symbol, unit

Rows = list[dict[str, Any]]

VERDICTS = {BETTER: BLUE, WORSE: RED, OPEN: INK, None: GREY}
SIGNS = {BETTER: " ↓", WORSE: " ↑", OPEN: "", None: ""}
"""Of errors: smaller or larger than the first one's, by an interval that leaves out 0."""
CLASSES = ("all/accuracy", "all/f1_macro", "MP_search/f1", "CEMP_search/f1")
WORDS = dict(
    zip(
        CLASSES,
        ("accuracy", "F1, mean of classes", "F1 of the MP search", "F1 of the CEMP search"),
        strict=True,
    )
)
METRICS = {"mae": "MAE", "rmse": "RMSE", "bias": "bias", "scatter": "scatter"}


def summary(table: pa.Table, about: dict[str, Any]) -> str:
    """Who is better than the first one at what, and by how much."""
    rows: Rows = table.to_pylist()
    whole = [row for row in rows if row["kind"] == "all"]
    if not whole:
        return "set against one another: no spectrum has a label or a class that they tell"
    first = whole[0]["who"]
    blocks = [
        f"set against {first} by {whole[0]['rows']:,} spectra of {whole[0]['stars']:,} stars that none of them has learned from or chosen by"
    ]
    blocks[0] += _left(about)
    blocks += [
        block for block in (_labels(whole, first), _classes(whole, first), _by_snr(rows, first)) if block
    ]
    blocks.append(
        "95 % intervals, from stars drawn anew, the same for all. Of twenty differences that are none one is called better or worse by chance;\n"
        "and they are of these trained networks: another seed of the same one may differ as much."
    )
    return "\n\n".join(blocks)


def _left(about: dict[str, Any]) -> str:
    lines = [
        f"{name} has seen {count:,} of those of the first one: left out"
        for name, count in about["left_out"].items()
        if count
    ]
    lines += [
        f"{name} alone tells {', '.join(names)}: not compared" for name, names in about["alone"].items()
    ]
    return "".join(f"\n  {line}" for line in lines)


def _labels(rows: Rows, first: str) -> str:
    """Metrics of each label, a line for each of those who tell it."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows if row["metric"] == "mae"))
    lines = [["label", "who", "n", *METRICS.values(), f"MAE - that of {first}", ""]]
    for subject in subjects:
        of = {(row["who"], row["metric"]): row for row in rows if row["subject"] == subject}
        for number, who in enumerate(dict.fromkeys(who for who, _ in of)):
            digits = _digits(subject)
            one = of[who, "mae"]
            cells = [cell(of.get((who, metric)), True, digits) for metric in METRICS]
            lines.append([subject if not number else "", who, f"{one['n']:,}", *cells, *_apart(one, digits)])
    return aligned(lines) if subjects else ""


def _classes(rows: Rows, first: str) -> str:
    found = {(row["who"], f"{row['subject']}/{row['metric']}"): row for row in rows}
    lines = [["classes", "who", "n", "", f"minus that of {first}", ""]]
    for wanted in CLASSES:
        for number, who in enumerate(dict.fromkeys(who for who, told in found if told == wanted)):
            row = found[who, wanted]
            lines.append(
                [WORDS[wanted] if not number else "", who, f"{row['n']:,}", cell(row, True), *_apart(row, 3)]
            )
    return aligned(lines) if len(lines) > 1 else ""


def _apart(row: dict[str, Any], digits: int) -> list[str]:
    """A difference with its interval, and what it says."""
    if row["difference"] is None:
        return ["", ""]
    bounds = (
        ""
        if row["difference_low"] is None
        else f" [{row['difference_low']:+.{digits}f}, {row['difference_high']:+.{digits}f}]"
    )
    return [f"{row['difference']:+.{digits}f}{bounds}", "" if row["verdict"] == OPEN else row["verdict"]]


def _by_snr(rows: Rows, first: str) -> str:
    """MAE of each label by signal to noise."""
    some = [row for row in rows if row["kind"] in ("snr", "gravity") and row["metric"] == "mae"]
    bins = {row["group"]: row["rows"] for row in some if row["kind"] == "snr"} | {
        row["group"]: row["rows"] for row in some if row["kind"] != "snr"
    }
    if not bins:
        return ""
    named = {row["group"]: f"S/N {row['group']}" if row["kind"] == "snr" else row["group"] for row in some}
    lines = [["MAE", "who", *(f"{named[group]} ({rows:,})" for group, rows in bins.items())]]
    for subject in dict.fromkeys(row["subject"] for row in some):
        of = {(row["who"], row["group"]): row for row in some if row["subject"] == subject}
        for number, who in enumerate(dict.fromkeys(who for who, _ in of)):
            cells = [
                cell(row := of.get((who, group)), digits=_digits(subject))
                + SIGNS[row["verdict"] if row else None]
                for group in bins
            ]
            lines.append([subject if not number else "", who, *cells])
    return f"{aligned(lines)}\n↓ smaller than that of {first}, ↑ larger, by an interval that leaves out 0"


def _digits(subject: str) -> int:
    return 1 if label(subject).unit == "K" else 3


def pictures(table: pa.Table) -> dict[str, bytes]:
    """MAE of everyone, label by label, and over signal to noise."""
    rows = [row for row in table.to_pylist() if row["metric"] == "mae"]
    subjects = list(dict.fromkeys(row["subject"] for row in rows if row["kind"] == "all"))
    if not subjects:
        return {}
    made = {"against": _overall([row for row in rows if row["kind"] == "all"], subjects)}
    if some := [row for row in rows if row["kind"] == "snr"]:
        made["against_snr"] = _over_snr(some, subjects)
    return made


def _overall(rows: Rows, subjects: Sequence[str]) -> bytes:
    who = list(dict.fromkeys(row["who"] for row in rows))
    columns = min(3, len(subjects))
    height = 0.9 + 0.34 * len(who)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-len(subjects) // columns), columns, squeeze=False, sharey=True).ravel()
        for axis in axes[len(subjects) :]:
            axis.set_visible(False)
        for axis, subject in zip(axes, subjects, strict=False):
            some = [row for row in rows if row["subject"] == subject]
            for row in some:
                _point(axis, row["value"], who.index(row["who"]), row)
            axis.axvline(some[0]["value"], color=GREY, lw=0.8, ls=":")
            axis.set_yticks(range(len(who)), who)
            axis.set(
                ylim=(len(who) - 0.4, -0.6),
                xlabel=f"MAE of {symbol(subject)} ({unit(subject)})",
                title=f"{symbol(subject)}, n = {some[0]['n']:,}",
            )
        told = {BETTER: f"better than {who[0]}", WORSE: "worse", OPEN: "not told apart"}
        for verdict, word in told.items():
            axes[0].plot([], [], "o", color=VERDICTS[verdict], label=word)
        figure.legend(
            loc="outside lower center", ncols=3, title="paired difference, 95 % interval", title_fontsize=9
        )

    return png(draw, 1.6 + 3.4 * columns, 0.7 + height * -(-len(subjects) // columns))


def _point(axis: Axes, value: float, y: float, row: dict[str, Any]) -> None:
    error = None if row["low"] is None else [[value - row["low"]], [row["high"] - value]]
    axis.errorbar(value, y, xerr=error, fmt="o", color=VERDICTS[row["verdict"]], ms=5, lw=1.4, capsize=2)


def _over_snr(rows: Rows, subjects: Sequence[str]) -> bytes:
    who, bins = (list(dict.fromkeys(row[name] for row in rows)) for name in ("who", "group"))
    columns = min(3, len(subjects))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-len(subjects) // columns), columns, squeeze=False).ravel()
        for axis in axes[len(subjects) :]:
            axis.set_visible(False)
        for axis, subject in zip(axes, subjects, strict=False):
            for number, name in enumerate(who):
                some = [row for row in rows if row["subject"] == subject and row["who"] == name]
                x = np.array([bins.index(row["group"]) for row in some]) + 0.5 * (
                    number - (len(who) - 1) / 2
                ) / len(who)
                y = np.array([row["value"] for row in some])
                error = np.array(
                    [
                        [0, 0]
                        if row["low"] is None
                        else [row["value"] - row["low"], row["high"] - row["value"]]
                        for row in some
                    ]
                )
                axis.errorbar(
                    x,
                    y,
                    error.reshape(-1, 2).T,
                    fmt="o-",
                    color=SERIES[number % len(SERIES)],
                    ms=4,
                    lw=1.1,
                    label=name,
                )
            axis.set_xticks(range(len(bins)), bins, rotation=30)
            axis.set(
                xlabel="signal to noise", ylabel=f"MAE of {symbol(subject)} ({unit(subject)})", ylim=(0, None)
            )
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))

    return png(draw, 4.4 * columns, 0.5 + 3.6 * -(-len(subjects) // columns))
