"""What a person sees of an ensemble: who its members are and how much they count, what is gained by asking all, and whether its errors are true."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey import files
from survey.ensemble.build import Built
from survey.ensemble.diversity import CLASSES
from survey.ensemble.judged import ENSEMBLE, RAW
from survey.labels import label
from survey.metrics import classes
from survey.metrics.classes import Reliability
from survey.metrics.score import Judged, aligned, cell
from survey.reports.class_plots import searches
from survey.reports.style import BLUE, GREY, INK, RED, SHARE, png, symbol

DRAWN = "pictures.json"
ONE, TWO = 0.6827, 0.9545
"""Shares of truths within one and two errors, if these are true."""
Rows = dict[tuple[str, str, str], dict[str, Any]]
"""Metrics of all spectra together by who, subject and metric."""


def pictures(built: Built) -> list[str]:
    """Draw what is not there yet; the paths of all plots."""
    drawn = files.join(built.folder, DRAWN)
    if not built.made and files.exists(drawn):
        return [files.join(built.folder, name) for name in files.read_json(drawn)]
    made = of_judged(built.judged, built.raw, built.metrics)
    if built.diversity and (
        matrices := diversity(built.diversity, [member["name"] for member in built.about["members"]])
    ):
        made["diversity"] = matrices
    paths = []
    for name, data in made.items():
        paths.append(files.join(built.folder, f"{name}.png"))
        files.write(paths[-1], data)
    files.write_json(drawn, [path.rpartition("/")[2] for path in paths])
    return paths


def of_judged(judged: Judged | None, raw: Judged | None, compared: pa.Table | None) -> dict[str, bytes]:
    """What calibration changed, drawn: of classes, and of the errors of labels."""
    if judged is None or raw is None or compared is None:
        return {}
    made = {"calibration": reliability(judged, raw), "coverage_by_snr": coverage(compared, judged.labels)}
    return {name: data for name, data in made.items() if data is not None}


def reliability(judged: Judged, raw: Judged) -> bytes | None:
    """What was said against how often it was so, before and after calibration."""
    found = {name: [_reliability(one)[name] for one in (raw, judged)] for name in _reliability(judged)}
    if not found:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (name, pair) in zip(axes, found.items(), strict=True):
            axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
            for one, color, word in zip(pair, (GREY, BLUE), ("before", "after"), strict=True):
                error = np.stack([one.found - one.low, one.high - one.found])
                axis.errorbar(
                    one.said,
                    one.found,
                    error,
                    fmt="o-",
                    color=color,
                    ms=4,
                    lw=1,
                    label=f"{word}: error {one.ece:.3f}",
                )
            axis.set(xlabel="probability that was given", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), title=name)
            axis.legend(loc="lower right")
        axes[0].set_ylabel("share that was so")

    return png(draw, 3.9 * len(found), 4.1)


def _reliability(judged: Judged) -> dict[str, Reliability]:
    """Reliability of the class that was called, and of each search; nothing where no class is known."""
    if judged.p_NC is None or not (np.asarray(judged.class_N) >= 0).any():
        return {}
    class_N, p_NC = classes.known(judged.class_N, judged.p_NC, len(judged.classes))
    events = {"the class called": (p_NC.argmax(1) == class_N, p_NC.max(1))} | searches(judged)
    return {name: classes.reliability(so, said) for name, (so, said) in events.items()}


def coverage(compared: pa.Table, labels: Sequence[str]) -> bytes | None:
    """Shares of truths within one and two errors in bins of signal to noise, before and after calibration."""
    rows = [
        row
        for row in compared.to_pylist()
        if row["kind"] == "snr" and row["metric"] in ("coverage_68", "coverage_95")
    ]
    names = [
        name for name in labels if any(row["subject"] == name and row["who"] == ENSEMBLE for row in rows)
    ]
    if not names:
        return None

    def draw(figure: Figure) -> None:
        columns = min(3, len(names))
        axes = figure.subplots(-(-len(names) // columns), columns, squeeze=False, sharey=True).ravel()
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        bins = list(dict.fromkeys(row["group"] for row in rows))
        for axis, name in zip(axes, names, strict=False):
            for who, color, shift in ((RAW, GREY, -0.12), (ENSEMBLE, BLUE, 0.12)):
                _coverage(
                    axis,
                    [row for row in rows if row["subject"] == name and row["who"] == who],
                    bins,
                    color,
                    shift,
                )
            for share in (ONE, TWO):
                axis.axhline(share, color=RED, lw=0.8, ls=":")
            axis.set_xticks(range(len(bins)), bins)
            axis.set(xlabel="signal to noise", title=symbol(name), ylim=(0, 1.03))
        axes[0].set_ylabel("share of truths within 1 (●) and 2 (■) errors")
        axes[0].legend(loc="lower right")

    columns = min(3, len(names))
    return png(draw, 4.2 * columns, 3.7 * -(-len(names) // columns))


def _coverage(
    axis: Axes, rows: Sequence[dict[str, Any]], bins: Sequence[str], color: str, shift: float
) -> None:
    for metric, marker in (("coverage_68", "o"), ("coverage_95", "s")):
        some = [row for row in rows if row["metric"] == metric]
        x, y = [bins.index(row["group"]) + shift for row in some], np.array([row["value"] for row in some])
        error = np.abs(np.array([[row["low"], row["high"]] for row in some]).reshape(-1, 2).T - y)
        told = None if marker == "s" else "before" if color == GREY else "after"
        axis.errorbar(x, y, error, fmt=marker, color=color, ms=5, lw=1, label=told)


def diversity(table: pa.Table, names: Sequence[str]) -> bytes | None:
    """How alike any two members are: share of spectra called alike, and correlation of their errors."""
    rows = [row for row in table.to_pylist() if row["metric"] in ("agreement", "residual_correlation")]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    if not subjects:
        return None

    def draw(figure: Figure) -> None:
        columns = min(3, len(subjects))
        axes = figure.subplots(-(-len(subjects) // columns), columns, squeeze=False).ravel()
        for axis in axes[len(subjects) :]:
            axis.set_visible(False)
        for axis, subject in zip(axes, subjects, strict=False):
            alike_MM = np.full((len(names), len(names)), np.nan)
            for row in rows:
                if row["subject"] == subject:
                    one, other = names.index(row["one"]), names.index(row["other"])
                    alike_MM[one, other] = alike_MM[other, one] = row["value"]
            _matrix(axis, alike_MM, names)
            axis.set_title(
                "share of spectra called alike"
                if subject == CLASSES
                else f"{symbol(subject)}: correlation of errors"
            )

    size, columns = 2.2 + 0.6 * len(names), min(3, len(subjects))
    return png(draw, size * columns, size * -(-len(subjects) // columns))


def _matrix(axis: Axes, alike_MM: np.ndarray, names: Sequence[str]) -> None:
    axis.imshow(alike_MM, cmap=SHARE, vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(np.isfinite(alike_MM)), strict=True):
        color = "white" if alike_MM[row, column] > 0.6 else INK
        axis.text(
            column, row, f"{alike_MM[row, column]:.2f}", ha="center", va="center", color=color, fontsize=9
        )
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def summary(built: Built, pictures: Sequence[str]) -> str:
    """Who is in it and counts how much, what is gained, what calibration did, and where the rest is."""
    about = built.about
    blocks = [
        f"ensemble {about['id']}, {'made now' if built.made else 'finished before: nothing to do'}",
        _members(about),
    ]
    if built.metrics:
        seen = about["validation"]
        blocks.append(
            f"on {seen['spectra']:,} validation spectra of {seen['stars']:,} stars, by which it was made: others are harder"
        )
        blocks += [
            compared(built.metrics),
            _gains(built.diversity) if len(about["members"]) > 1 else "",
            held(built.metrics),
        ]
    blocks.append(_calibration(about))
    lines = [
        f"look at    {built.folder}  {len(pictures)} plots, validation.parquet, metrics.parquet, diversity.parquet",
        f"next       python jobs/evaluate.py of={built.folder}",
    ]
    return "\n\n".join([block for block in blocks if block] + ["\n".join(lines)])


def _members(about: dict[str, Any]) -> str:
    """Members with their weights."""
    told, how = about["weights"], {"mean": "mean of probabilities", "vote": "votes"}[about["weights"]["how"]]
    lines = [[f"weights, {how}", "network", *(["classes"] if about["classes"] else []), *about["labels"]]]
    for number, member in enumerate(about["members"]):
        weights = [told["classes"][number]] * bool(about["classes"]) + [row[number] for row in told["labels"]]
        lines.append(
            [member["name"], member["model"], *(f"{weight:.3f}" if weight else "-" for weight in weights)]
        )
    return aligned(lines)


def compared(metrics: pa.Table) -> str:
    """The main numbers of everyone, a line each."""
    rows = _overall(metrics)
    who, names = (
        list(dict.fromkeys(found))
        for found in ((one for one, _, _ in rows), (name for _, name, metric in rows if metric == "mae"))
    )
    wanted = [
        ("all", "accuracy"),
        ("MP_search", "f1"),
        ("CEMP_search", "f1"),
        ("all", "log_loss"),
        ("all", "ece"),
        *((name, "mae") for name in names),
    ]
    wanted = [pair for pair in wanted if any((one, *pair) in rows for one in who)]
    words = {
        "accuracy": "accuracy",
        "f1": "F1",
        "log_loss": "log loss",
        "ece": "calibration error",
        "mae": "MAE",
    }
    titles = [
        words[metric] if subject == "all" else f"{words[metric]} {subject.removesuffix('_search')}"
        for subject, metric in wanted
    ]
    digits = [1 if metric == "mae" and label(subject).unit == "K" else 3 for subject, metric in wanted]
    lines = [
        [
            one,
            *(
                cell(rows.get((one, *pair)), digits=places)
                for pair, places in zip(wanted, digits, strict=True)
            ),
        ]
        for one in who
    ]
    return aligned([["", *titles], *lines])


def held(metrics: pa.Table) -> str:
    """Shares of truths within one and two errors, before and after calibration, and in the intervals."""
    rows = _overall(metrics)
    lines = [["", "in 1 sigma (0.683)", "before", "in 2 sigma (0.954)", "before", "in the interval"]]
    for name in dict.fromkeys(name for _, name, metric in rows if metric == "coverage_68"):
        pairs = [(metric, who) for metric in ("coverage_68", "coverage_95") for who in (ENSEMBLE, RAW)]
        cells = [
            cell(rows.get((who, name, metric)), who == ENSEMBLE)
            for metric, who in (*pairs, ("coverage_interval", ENSEMBLE))
        ]
        lines.append([name, *cells])
    return aligned(lines) if len(lines) > 1 else ""


def _overall(metrics: pa.Table) -> Rows:
    return {
        (row["who"], row["subject"], row["metric"]): row
        for row in metrics.to_pylist()
        if row["kind"] == "all"
    }


def _gains(found: pa.Table) -> str:
    """By how much the ensemble is better than its best member, with intervals."""
    lines = [["gain over the best member", "", "", "95 % interval", ""]]
    for row in found.to_pylist():
        if row["metric"].endswith("_gain"):
            digits = 1 if row["subject"] != CLASSES and label(row["subject"]).unit == "K" else 4
            interval = "-" if row["low"] is None else f"[{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
            metric = {"mae": "MAE"}.get(name := row["metric"].removesuffix("_gain"), name.replace("_", " "))
            lines.append(
                [f"  {row['subject']}", metric, f"{row['value']:+.{digits}f}", interval, row["other"]]
            )
    return aligned(lines) if len(lines) > 1 else ""


def _calibration(about: dict[str, Any]) -> str:
    """What was calibrated, and what could not be."""
    fitted = about["calibration"]
    if not about["calibrated"]:
        return "not calibrated: probabilities and errors are as the members gave them"
    lines = [f"calibrated: temperature {fitted['temperature']:.3f}"] if about["classes"] else ["calibrated"]
    intervals = ", ".join(f"{name} {row['half']:.2f}" for name, row in fitted["labels"].items())
    lines += (
        [f"intervals of {100 * fitted['coverage']:g} % reach so many errors to either side: {intervals}"]
        if intervals
        else []
    )
    return "\n".join([*lines, *(f"  {note}" for note in fitted["notes"])])
