"""What a person sees of a catalog: numbers of stars and candidates, how certain the lists are, and where
candidates are on the sky, in the Kiel diagram, and in iron and carbon.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey import files
from survey.catalog.catalog import CURVES, KNOWN, SELECTION, TRUTH, CatalogResult
from survey.catalog.document import CatalogDocument, IntervalRecord
from survey.catalog.settings import LIST_NAMES, ListName
from survey.labels import METAL_POOR
from survey.reports.style import BLUE, GREY, INK, RED, SHARE, count_text, plot_points, png, symbol, unit

PICTURES = "pictures.json"
CLASS_ORDER = ("EMP", "VMP", "MP", "CEMP", "NMP", "no answer", "unknown")
METRICS = ("completeness", "purity")
"""What is expected of a list."""
Floats = NDArray[np.float64]


def pictures(result: CatalogResult) -> list[str]:
    """Draw the plots that do not exist yet; the paths of all plots."""
    record = files.join(result.folder, PICTURES)
    old = files.read_json(record) if files.exists(record) else []
    old_paths = [files.join(result.folder, name) for name in old]
    if not result.created and old_paths:
        return old_paths
    for path in old_paths:
        files.remove(path)
    plots = {"purity_completeness": plot_curves(result), "selection": plot_selection(result)}
    plots |= {f"{name.lower()}_candidates": plot_list(result, name) for name in LIST_NAMES}
    names = [f"{name}.png" for name, data in plots.items() if data is not None]
    for name, data in plots.items():
        if data is not None:
            files.write(files.join(result.folder, f"{name}.png"), data)
    files.write_json(record, names)
    return [files.join(result.folder, name) for name in names]


def plot_list(result: CatalogResult, name: ListName) -> bytes | None:
    """The candidates of a list: on the sky, in the Kiel diagram, in iron and carbon, by rank."""
    table = result.table(f"{name.lower()}_candidates.parquet")
    if table is None or not table.num_rows:
        return None
    candidates, columns = table, set(table.column_names)
    panels: list[Callable[[Axes, pa.Table, ListName], None]] = [_sky]
    panels += [_kiel] if {"Teff", "logg"} <= columns else []
    panels += [_carbon] if {"FeH", "CFe"} <= columns else []
    panels += [_scores] if f"score_{name.lower()}" in columns else []
    width = 2 if len(panels) > 1 else 1
    height = -(-len(panels) // width)

    def draw(figure: Figure) -> None:
        for number, panel in enumerate(panels, 1):
            panel(figure.add_subplot(height, width, number), candidates, name)

    return png(draw, 10, 4.2 * -(-len(panels) // 2))


def _column(table: pa.Table, name: str) -> Floats:
    """A column as numbers, NaN for null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _sky(axis: Axes, table: pa.Table, name: ListName) -> None:
    plot_points(axis, _column(table, "ra"), _column(table, "dec"))
    title = f"{name} candidates, {count_text(table.num_rows, 'stars')}"
    axis.set(xlabel="right ascension (deg)", ylabel="declination (deg)", title=title)
    axis.invert_xaxis()


def _kiel(axis: Axes, table: pa.Table, name: ListName) -> None:
    del name
    plot_points(axis, _column(table, "Teff"), _column(table, "logg"))
    axis.set(
        xlabel=f"{symbol('Teff')} ({unit('Teff')})",
        ylabel=f"{symbol('logg')} ({unit('logg')})",
        title="Kiel diagram",
    )
    axis.invert_xaxis()
    axis.invert_yaxis()


def _carbon(axis: Axes, table: pa.Table, name: ListName) -> None:
    del name
    plot_points(axis, _column(table, "FeH"), _column(table, "CFe"))
    axis.axvline(METAL_POOR["MP"], color=RED, lw=1, ls="--")
    axis.axhline(0.7, color=RED, lw=1, ls="--")
    axis.set(
        xlabel=f"{symbol('FeH')} (dex)",
        ylabel=f"{symbol('CFe')} (dex)",
        title="labels; dashed: [Fe/H] = -1, [C/Fe] = 0.7",
    )


def _scores(axis: Axes, table: pa.Table, name: ListName) -> None:
    score = _column(table, f"score_{name.lower()}")
    rank = np.arange(1, len(score) + 1)
    axis.plot(rank, score, color=BLUE, lw=1.5)
    axis.fill_between(rank, np.cumsum(score) / rank, color=GREY, alpha=0.25, lw=0)
    title = "score by rank; shaded: expected purity of the list up to a rank"
    axis.set(ylim=(0, 1.02), xlabel="rank", ylabel="score", title=title)


def plot_curves(result: CatalogResult) -> bytes | None:
    """Expected purity and completeness by threshold, with the threshold that was chosen."""
    table = result.table(CURVES)
    if table is None:
        return None
    rows = table.to_pylist()
    names = [name for name in LIST_NAMES if any(row["search"] == name for row in rows)]

    def draw(figure: Figure) -> None:
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for metric, color in (("purity", BLUE), ("completeness", RED)):
                curve = _select(rows, name, metric)
                _curve(axis, [row for row in curve if row["value"] is not None], f"expected {metric}", color)
            chosen = result.document.thresholds[name].value
            axis.axvline(chosen, color=INK, lw=1, ls="--", label=f"threshold {chosen:.3f}")
            axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold in score", title=f"{name} list")
            axis.legend(loc="lower left")

    return png(draw, 5 * len(names), 4) if names else None


def _select(rows: list[dict[str, Any]], name: ListName, metric: str) -> list[dict[str, Any]]:
    """The rows of one list and metric."""
    return [row for row in rows if (row["search"], row["metric"]) == (name, metric)]


def _curve(axis: Axes, rows: list[dict[str, Any]], text: str, color: str) -> None:
    x = [row["threshold"] for row in rows]
    low, high = [row["low"] for row in rows], [row["high"] for row in rows]
    axis.plot(x, [row["value"] for row in rows], color=color, label=text)
    axis.fill_between(x, low, high, color=color, alpha=0.15, lw=0)


def plot_selection(result: CatalogResult) -> bytes | None:
    """Completeness and purity by signal to noise and temperature: the selection function of each list."""
    table = result.table(SELECTION)
    if table is None:
        return None
    rows = table.to_pylist()
    names = [name for name in LIST_NAMES if any(row["search"] == name for row in rows)]
    snr, teff = (list(dict.fromkeys(row[axis] for row in rows)) for axis in ("snr", "Teff"))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(METRICS), len(names), squeeze=False)
        for axis, (metric, name) in zip(axes.flat, product(METRICS, names), strict=True):
            cells = {(row["snr"], row["Teff"]): row for row in _select(rows, name, metric)}
            _cells(axis, cells, snr, teff)
            axis.set_title(f"{name} list: expected {metric}")

    height = 1.5 + len(METRICS) * (1 + 0.45 * len(teff))
    return png(draw, 6 * len(names), height) if names else None


def _cells(
    axis: Axes, cells: Mapping[tuple[str, str], dict[str, Any]], snr: Sequence[str], teff: Sequence[str]
) -> None:
    """Shares in bins, each written with its number of stars; faint if there are few."""
    share, opacity = np.full((len(teff), len(snr)), np.nan), np.ones((len(teff), len(snr)))
    for (snr_bin, teff_bin), cell in cells.items():
        row, column = teff.index(teff_bin), snr.index(snr_bin)
        known = cell["value"] is not None
        share[row, column] = cell["value"] if known else np.nan
        opacity[row, column] = 0.25 if cell["few"] else 1
        is_dark = np.nan_to_num(share[row, column]) > 0.7 and not cell["few"]
        text = f"{cell['value']:.2f}\n({cell['n']:,})" if known else "-"
        color = "white" if is_dark else INK
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    axis.imshow(share, cmap=SHARE, vmin=0, vmax=1, aspect="auto", alpha=opacity)
    axis.set_xticks(range(len(snr)), snr)
    axis.set_yticks(range(len(teff)), teff)
    axis.set(
        xlabel="S/N   (in brackets: validation stars; faint: too few)",
        ylabel=f"{symbol('Teff')} ({unit('Teff')})",
    )


def summary(result: CatalogResult, pictures: Sequence[str]) -> str:
    """Counts, the lists and what to expect of them, comparisons with known stars and labels, file names."""
    document, folder = result.document, result.folder
    predictions, visits = document.predictions, document.counts.get("visits", {})
    state = "created now" if result.created else "was finished: nothing to do"
    lines = [
        f"catalog    {folder}  ({state})",
        f"from       {predictions.path}  {predictions.rows:,} spectra, "
        f"{len(document.ensemble.members)} members",
        f"stars      {document.stars:,}, {visits.get('stars with several', 0):,} with several visits, "
        f"{document.no_position:,} without a position",
    ]
    if repeated := predictions.rows - visits.get("total", 0):
        lines.append(_line("", f"{repeated:,} spectra repeat a visit; the best spectrum of a visit counts"))
    lines += _count_lines(document)
    lines += [line for name in LIST_NAMES for line in _list_lines(document, name)]
    lines += _known_lines(result) + _truth_lines(result)
    cemp = files.join(folder, "cemp_candidates")
    lines += [
        _line("look at", f"{files.join(folder, 'hats')}  lsdb.open_catalog(...), or any Parquet reader"),
        _line("", f"{cemp}.*, mp_candidates.* in TOPCAT, astropy, pandas, duckdb"),
        _line("", f"{len(pictures)} plots, selection.parquet, flags.csv and columns.csv (descriptions)"),
    ]
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:<10} {text}"


def _count_lines(document: CatalogDocument) -> list[str]:
    """How many stars have each class and each flag."""
    lines = []
    titles = (("predicted_class", "classes"), ("class_by_labels", "by labels"), ("feh_class", "by [Fe/H]"))
    for column, title in titles:
        if counts := document.counts.get(column):
            ordered = sorted(counts.items(), key=lambda item: CLASS_ORDER.index(item[0]))
            lines.append(_line(title, ", ".join(f"{count:,} {name}" for name, count in ordered)))
    for column, title in (("flag_warn", "look twice"), ("flag_bad", "do not use")):
        counts = dict(document.counts.get(column, {"any": 0}))
        total = counts.pop("any")
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        bits = ", ".join(f"{count:,} {name.lower()}" for name, count in ordered)
        lines.append(_line(title, f"{total:,}{f' ({bits})' if bits else ''}"))
    return lines


def _list_lines(document: CatalogDocument, name: ListName) -> list[str]:
    """A list and what to expect of it."""
    title, candidates = f"{name} list", f"{document.candidates[name]:,} candidates"
    threshold = document.thresholds.get(name)
    if threshold is None:
        return [_line(title, f"{candidates}, selected by {document.selected_by[name]}")]
    goal = "the best F1" if threshold.goal == "f1" else f"{threshold.goal} {threshold.level:g}"
    purity, completeness = _interval(threshold.purity), _interval(threshold.completeness)
    expected = document.expected[name]
    shares = ", ".join(f"{share.share:.2%} {class_}" for class_, share in threshold.mix.classes.items())
    return [
        _line(
            title,
            f"{candidates}: score of {threshold.value:.3f} or more, chosen for {goal}; "
            f"expected purity {purity}, completeness {completeness}",
        ),
        _line("", f"{expected.true:.0f} ± {expected.spread:.0f} of them belong in it by their own scores"),
        _line("", f"class shares of the survey, {threshold.mix.how}: {shares}"),
        *(_line("", f"note: {note}") for note in threshold.notes),
    ]


def _interval(measure: IntervalRecord) -> str:
    if measure.value is None:
        return "unknown"
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"


def _known_lines(result: CatalogResult) -> list[str]:
    """How many stars of each list of known stars are in the catalog and among the candidates."""
    table = result.table(KNOWN)
    lines = []
    for row in [] if table is None else table.to_pylist():
        more = f" ({row['no_position']:,} more have no position)" if row["no_position"] else ""
        observed = f"{row['observed']:,} of {row['stars']:,} are in the catalog{more}"
        candidates = f"{row['recovered']:,} of these are {row['search']} candidates"
        lines.append(_line("known", f"{row['list']}: {observed}, {candidates}"))
    return lines


def _truth_lines(result: CatalogResult) -> list[str]:
    """The measured purity and completeness of the lists."""
    table = result.table(TRUTH)
    if table is None:
        return []
    counts = ", ".join(f"{count:,} {name}" for name, count in (result.document.truth or {}).items() if count)
    lines = [_line("truth", counts)]
    for row in table.to_pylist():
        measure = IntervalRecord(value=row["value"], low=row["low"], high=row["high"])
        hits = f"({row['hits']:,} of {row['n']:,})"
        lines.append(_line("", f"{row['search']:<4} {row['metric']:<13} {_interval(measure)}  {hits}"))
    return lines
