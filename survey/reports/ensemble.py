"""The report of an ensemble: its members and weights, what it gains over single members, and whether its
errors hold.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey import files
from survey.ensemble.build import BuiltEnsemble
from survey.ensemble.diversity import CLASSES, ENSEMBLE_NAME
from survey.ensemble.ensemble import EnsembleDocument
from survey.ensemble.member_scores import BEFORE_CALIBRATION
from survey.labels import METAL_POOR, label
from survey.metrics import classes
from survey.metrics.classes import Reliability
from survey.metrics.score import LabelledAnswers
from survey.metrics.text import aligned, cell
from survey.reports.class_plots import FEW, search_scores, stars_of_known_class
from survey.reports.style import BLUE, GREY, INK, PANEL_COLUMNS, RED, SHARE, panels, png, symbol

PICTURES = "pictures.json"
ONE_SIGMA, TWO_SIGMA = 0.6827, 0.9545
"""Shares of true values within one and two errors, if the errors are right and normal."""
Rows = dict[tuple[str, str, str], dict[str, Any]]
"""Metrics of all spectra together, by who, subject and metric."""


def pictures(built: BuiltEnsemble) -> list[str]:
    """Draw what is not drawn yet; the paths of all plots."""
    list_file = files.join(built.folder, PICTURES)
    if not built.is_new and files.exists(list_file):
        return [files.join(built.folder, name) for name in files.read_json(list_file)]
    png_of = calibration_pictures(built.calibrated, built.uncalibrated, built.metrics)
    matrices = diversity(built.diversity, built.document.names) if built.diversity else None
    if matrices:
        png_of["diversity"] = matrices
    names = [f"{name}.png" for name in png_of]
    for name, data in zip(names, png_of.values(), strict=True):
        files.write(files.join(built.folder, name), data)
    files.write_json(list_file, names)
    return [files.join(built.folder, name) for name in names]


def calibration_pictures(
    calibrated: LabelledAnswers | None, uncalibrated: LabelledAnswers | None, metrics: pa.Table | None
) -> dict[str, bytes]:
    """What calibration changed: the reliability of classes, and the coverage of the errors of labels."""
    if calibrated is None or uncalibrated is None or metrics is None:
        return {}
    drawn = {
        "calibration": reliability(calibrated, uncalibrated),
        "coverage_by_snr": coverage(metrics, calibrated.labels),
    }
    return {name: data for name, data in drawn.items() if data is not None}


def reliability(calibrated: LabelledAnswers, uncalibrated: LabelledAnswers) -> bytes | None:
    """Observed frequency against predicted probability, before and after calibration."""
    before, after = _reliability(uncalibrated), _reliability(calibrated)
    if not after:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(after), squeeze=False)[0]
        for axis, name in zip(axes, after, strict=True):
            axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
            for curve, color, word in ((before[name], GREY, "before"), (after[name], BLUE, "after")):
                _reliability_curve(axis, curve, color, f"{word}: error {curve.ece:.3f}")
            axis.set(xlabel="predicted probability", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), title=name)
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
        axes[0].set_ylabel("observed frequency")
        text = f"95 % intervals; hollow, with no line to them: fewer than {FEW} stars"
        figure.suptitle(text, x=0.01, ha="left")

    return png(draw, 3.9 * len(after), 4.6)


def _reliability_curve(axis: Axes, curve: Reliability, color: str, text: str) -> None:
    """Frequencies with their intervals. A line joins neighbours that have enough stars."""
    error = np.stack([curve.observed - curve.low, curve.high - curve.observed])
    is_few = curve.stars < FEW
    for chosen, face in ((is_few, "white"), (~is_few, color)):
        look: dict[str, Any] = {"fmt": "o", "color": color, "mfc": face, "ms": 4, "lw": 1}
        label = text if face == color else None
        axis.errorbar(curve.predicted[chosen], curve.observed[chosen], error[:, chosen], **look, label=label)
    axis.plot(curve.predicted, np.where(is_few, np.nan, curve.observed), color=color, lw=1)


def _reliability(labelled: LabelledAnswers) -> dict[str, Reliability]:
    """The reliability of the predicted class and of each search; empty where no class is known."""
    if labelled.p_NC is None or not (np.asarray(labelled.class_N) >= 0).any():
        return {}
    class_N, p_NC = classes.with_known_class(labelled.class_N, labelled.p_NC, len(labelled.classes))
    events = {"the predicted class": (p_NC.argmax(1) == class_N, p_NC.max(1))} | search_scores(labelled)
    star_N = stars_of_known_class(labelled)
    return {
        name: classes.reliability(is_true_N, p_N, star_N=star_N) for name, (is_true_N, p_N) in events.items()
    }


def _size(count: int, width: float, height: float) -> tuple[float, float]:
    """The size of a figure with so many panels of a size."""
    columns = min(PANEL_COLUMNS, count)
    return width * columns, height * -(-count // columns)


def coverage(metrics: pa.Table, labels: Sequence[str]) -> bytes | None:
    """Shares of true values within one and two errors by signal to noise, before and after calibration."""
    rows = [
        row
        for row in metrics.to_pylist()
        if row["kind"] == "snr" and row["metric"] in ("coverage_68", "coverage_95")
    ]
    subjects = {row["subject"] for row in rows if row["who"] == ENSEMBLE_NAME}
    names = [name for name in labels if name in subjects]
    if not names:
        return None
    bins = list(dict.fromkeys(row["group"] for row in rows))

    def draw(figure: Figure) -> None:
        axes = panels(figure, len(names), sharey=True)
        for axis, name in zip(axes, names, strict=True):
            for who, color, shift in ((BEFORE_CALIBRATION, GREY, -0.12), (ENSEMBLE_NAME, BLUE, 0.12)):
                chosen = [row for row in rows if row["subject"] == name and row["who"] == who]
                _coverage(axis, chosen, bins, color, shift)
            for share in (ONE_SIGMA, TWO_SIGMA):
                axis.axhline(share, color=RED, lw=0.8, ls=":")
            axis.set_xticks(range(len(bins)), bins, fontsize=8.5)
            axis.set(xlabel="signal to noise", title=symbol(name), ylim=(0, 1.03))
        for axis in axes[::PANEL_COLUMNS]:
            axis.set_ylabel("share of true values")
        title = "true values within 1 and 2 predicted errors, 95 % intervals; dotted: right errors"
        figure.suptitle(title, x=0.01, ha="left")
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(texts))

    width, height = _size(len(names), 4.2, 3.4)
    return png(draw, max(width, 7.0), height + 0.6)


def _coverage(
    axis: Axes, rows: Sequence[dict[str, Any]], bins: Sequence[str], color: str, shift: float
) -> None:
    """Shares within one error (full marks) and within two (hollow), side by side; nothing without errors."""
    words = "before calibration" if color == GREY else "calibrated"
    kinds = (("coverage_68", "o", color, -0.04, "1 error"), ("coverage_95", "s", "white", 0.04, "2 errors"))
    for metric, marker, face, aside, text in kinds:
        chosen = [row for row in rows if row["metric"] == metric]
        if not chosen:
            continue
        x = [bins.index(row["group"]) + shift + aside for row in chosen]
        y = np.array([row["value"] for row in chosen])
        ends = np.array([[row["low"], row["high"]] for row in chosen]).reshape(-1, 2).T
        look: dict[str, Any] = {"fmt": marker, "color": color, "mfc": face, "ms": 5, "lw": 1}
        axis.errorbar(x, y, np.abs(ends - y), **look, label=f"{words}, {text}")


def diversity(table: pa.Table, names: Sequence[str]) -> bytes | None:
    """How alike any two members are: share of spectra with the same class, and correlation of residuals."""
    rows = [row for row in table.to_pylist() if row["metric"] in ("agreement", "residual_correlation")]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    if not subjects:
        return None
    names = list(names)

    def draw(figure: Figure) -> None:
        for axis, subject in zip(panels(figure, len(subjects)), subjects, strict=True):
            alike_MM = np.full((len(names), len(names)), np.nan)
            for row in rows:
                if row["subject"] == subject:
                    one, other = names.index(row["one"]), names.index(row["other"])
                    alike_MM[one, other] = alike_MM[other, one] = row["value"]
            _matrix(axis, alike_MM, names)
            title = f"{symbol(subject)}: correlation of residuals" if subject != CLASSES else None
            axis.set_title(title or "share of spectra with the same class")

    size = 2.2 + 0.6 * len(names)
    return png(draw, *_size(len(subjects), size, size))


def _matrix(axis: Axes, alike_MM: np.ndarray, names: Sequence[str]) -> None:
    axis.imshow(alike_MM, cmap=SHARE, vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(np.isfinite(alike_MM)), strict=True):
        value = alike_MM[row, column]
        color = "white" if value > 0.6 else INK
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=9)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def summary(built: BuiltEnsemble, pictures: Sequence[str]) -> str:
    """The members and their weights, the gain over them, the calibration, and where the rest is."""
    document = built.document
    state = "made now" if built.is_new else "finished before: nothing to do"
    blocks = [f"ensemble {document.id}, {state}", _members(document)]
    if built.metrics and built.diversity:
        size = document.validation
        blocks.append(
            f"on {size.spectra:,} validation spectra of {size.stars:,} stars, to which it was fitted: "
            "results on other stars are worse"
        )
        blocks.append(main_numbers(built.metrics))
        if len(document.members) > 1:
            blocks.append(_gains(built.diversity))
        blocks.append(coverages(built.metrics))
    blocks += [_calibration(document), _line_key(document)]
    lines = [
        f"look at    {built.folder}  {len(pictures)} plots, validation.parquet, metrics.parquet, "
        "diversity.parquet",
        f"next       survey evaluate of={built.folder}",
    ]
    return "\n\n".join([block for block in blocks if block] + ["\n".join(lines)])


def _members(document: EnsembleDocument) -> str:
    """Members with their weights."""
    weights = document.weights
    combination = {"mean": "mean of probabilities", "vote": "votes"}[weights.combine]
    lines = [
        [
            f"weights, {combination}",
            "network",
            *(["classes"] if document.classes else []),
            *document.labels,
        ]
    ]
    for number, member in enumerate(document.members):
        numbers = [weights.class_M[number]] if document.classes else []
        numbers += weights.label_ML[number].tolist()
        cells = [f"{weight:.3f}" if weight else "-" for weight in numbers]
        lines.append([member.name, member.model, *cells])
    return aligned(lines)


def main_numbers(metrics: pa.Table) -> str:
    """The main numbers of the ensemble and its members, a line each."""
    rows = _overall(metrics)
    who = list(dict.fromkeys(name for name, _, _ in rows))
    labels = list(dict.fromkeys(subject for _, subject, metric in rows if metric == "mae"))
    words = {
        ("all", "accuracy"): "accuracy",
        ("MP_search", "f1"): "F1 MP",
        ("CEMP_search", "f1"): "F1 CEMP",
        ("all", "log_loss"): "log loss",
        ("all", "ece"): "calibration error",
    }
    words |= {(name, "mae"): f"MAE {name}" for name in labels}
    wanted = [key for key in words if any((name, *key) in rows for name in who)]
    digits = [1 if metric == "mae" and label(subject).unit == "K" else 3 for subject, metric in wanted]
    lines = [["", *(words[key] for key in wanted)]]
    for name in who:
        pairs = zip(wanted, digits, strict=True)
        lines.append([name, *(cell(rows.get((name, *key)), digits=places) for key, places in pairs)])
    return aligned(lines)


def coverages(metrics: pa.Table) -> str:
    """Shares of true values within one and two errors, before and after calibration, and within the
    intervals.
    """
    rows = _overall(metrics)
    lines = [["", "in 1 sigma (0.683)", "before", "in 2 sigma (0.954)", "before", "in the interval"]]
    columns = [
        (metric, who)
        for metric in ("coverage_68", "coverage_95")
        for who in (ENSEMBLE_NAME, BEFORE_CALIBRATION)
    ]
    columns.append(("coverage_interval", ENSEMBLE_NAME))
    for name in dict.fromkeys(subject for _, subject, metric in rows if metric == "coverage_68"):
        cells = [cell(rows.get((who, name, metric)), who == ENSEMBLE_NAME) for metric, who in columns]
        lines.append([name, *cells])
    return aligned(lines) if len(lines) > 1 else ""


def _overall(metrics: pa.Table) -> Rows:
    rows = (row for row in metrics.to_pylist() if row["kind"] == "all")
    return {(row["who"], row["subject"], row["metric"]): row for row in rows}


def _gains(table: pa.Table) -> str:
    """By how much the ensemble is better than its best member, with intervals."""
    lines = [["gain over the best member", "", "", "95 % interval", ""]]
    for row in table.to_pylist():
        if row["metric"].endswith("_gain"):
            digits = 1 if row["subject"] != CLASSES and label(row["subject"]).unit == "K" else 4
            interval = "-" if row["low"] is None else f"[{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
            name = row["metric"].removesuffix("_gain")
            metric = "MAE" if name == "mae" else name.replace("_", " ")
            value = f"{row['value']:+.{digits}f}"
            lines.append([f"  {row['subject']}", metric, value, interval, row["other"]])
    return aligned(lines) if len(lines) > 1 else ""


def _calibration(document: EnsembleDocument) -> str:
    """What was calibrated, and what could not be."""
    calibration = document.calibration
    if not document.calibrated:
        return "not calibrated: probabilities and errors are those of the members"
    lines = [f"calibrated: temperature {calibration.temperature:.3f}" if document.classes else "calibrated"]
    pairs = zip(calibration.labels, calibration.errors, strict=True)
    halves = ", ".join(f"{name} {row.half:.2f}" for name, row in pairs)
    if halves:
        lines.append(f"half width of the {100 * calibration.coverage:g} % intervals, in errors: {halves}")
    return "\n".join([*lines, *(f"  {note}" for note in calibration.notes)])


def _line_key(document: EnsembleDocument) -> str:
    """How good [Fe/H] from lines is, or why there is none; empty for an ensemble that is too old for it."""
    record = document.line_key
    if not record.spectra:
        return f"no [Fe/H] from lines: {record.missing}" if record.missing else ""
    scatter = " and ".join(f"{value:.2f}" for value in record.scatter)
    return (
        f"[Fe/H] from lines: fitted to {record.spectra:,} spectra ({', '.join(record.sources)}); in "
        f"{record.validation:,} validation spectra a bias of {record.bias:+.2f} dex and, below and above "
        f"{METAL_POOR['MP']:g}, a scatter of {scatter} dex"
    )
