"""What a person sees of a catalog: how many stars, how many candidates, how sure they are, and where in temperature, iron and carbon they lie."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey import files
from survey.catalog.catalog import CURVES, KNOWN, SELECTION, TRUTH, Outcome
from survey.catalog.thresholds import KINDS, Kind
from survey.reports.style import BLUE, GREY, INK, RED, SHARE, many, png, points, symbol, unit

DRAWN = "pictures.json"
CLASS_ORDER = ("EMP", "VMP", "MP", "CEMP", "NMP", "no answer", "not known")
METRICS = ("completeness", "purity")
"""What is expected of a list."""
Floats = NDArray[np.float64]


def pictures(outcome: Outcome) -> list[str]:
    """Draw what is not there yet; the paths of all plots."""
    drawn = files.join(outcome.folder, DRAWN)
    before = (
        [files.join(outcome.folder, name) for name in files.read_json(drawn)] if files.exists(drawn) else []
    )
    if not outcome.made and before:
        return before
    for path in before:
        files.remove(path)
    made = {"purity_completeness": of_curves(outcome), "selection": of_selection(outcome)}
    made |= {f"{kind.lower()}_candidates": of_list(outcome, kind) for kind in KINDS}
    paths = []
    for name, data in made.items():
        if data is not None:
            paths.append(files.join(outcome.folder, f"{name}.png"))
            files.write(paths[-1], data)
    files.write_json(drawn, [path.rpartition("/")[2] for path in paths])
    return paths


def column(table: pa.Table, name: str) -> Floats:
    """A column as numbers, NaN where not known."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def of_list(outcome: Outcome, kind: Kind) -> bytes | None:
    """The candidates of a list: on the sky, in the Kiel diagram, in iron and carbon, by rank."""
    table = outcome.table(f"{kind.lower()}_candidates.parquet")
    if table is None or not table.num_rows:
        return None
    panels = [_sky]
    panels += [_kiel] if {"Teff", "logg"} <= set(table.column_names) else []
    panels += [_carbon] if {"FeH", "CFe"} <= set(table.column_names) else []
    panels += [_scores] if f"score_{kind.lower()}" in table.column_names else []

    def draw(figure: Figure) -> None:
        wide = 2 if len(panels) > 1 else 1
        for number, panel in enumerate(panels):
            panel(figure.add_subplot(-(-len(panels) // wide), wide, number + 1), table, kind)

    return png(draw, 10, 4.2 * -(-len(panels) // 2))


def _sky(axis: Axes, table: pa.Table, kind: Kind) -> None:
    points(axis, column(table, "ra"), column(table, "dec"))
    axis.set(
        xlabel="right ascension (deg)",
        ylabel="declination (deg)",
        title=f"{kind} candidates, {many(table.num_rows, 'stars')}",
    )
    axis.invert_xaxis()


def _kiel(axis: Axes, table: pa.Table, kind: Kind) -> None:
    points(axis, column(table, "Teff"), column(table, "logg"))
    axis.set(
        xlabel=f"{symbol('Teff')} ({unit('Teff')})",
        ylabel=f"{symbol('logg')} ({unit('logg')})",
        title="Kiel diagram",
    )
    axis.invert_xaxis()
    axis.invert_yaxis()


def _carbon(axis: Axes, table: pa.Table, kind: Kind) -> None:
    feh, cfe = column(table, "FeH"), column(table, "CFe")
    points(axis, feh, cfe)
    for kind_of_line in (axis.axvline(-1, color=RED, lw=1), axis.axhline(0.7, color=RED, lw=1)):
        kind_of_line.set_linestyle("--")
    axis.set(
        xlabel=f"{symbol('FeH')} (dex)",
        ylabel=f"{symbol('CFe')} (dex)",
        title="by parameters; dashed: [Fe/H] -1, [C/Fe] 0.7",
    )


def _scores(axis: Axes, table: pa.Table, kind: Kind) -> None:
    score = column(table, f"score_{kind.lower()}")
    axis.plot(np.arange(1, len(score) + 1), score, color=BLUE, lw=1.5)
    axis.fill_between(
        np.arange(1, len(score) + 1),
        np.cumsum(score) / np.arange(1, len(score) + 1),
        color=GREY,
        alpha=0.25,
        lw=0,
    )
    axis.set(
        ylim=(0, 1.02),
        xlabel="rank",
        ylabel="score",
        title="score by rank; shaded: expected purity of the list to there",
    )


def of_curves(outcome: Outcome) -> bytes | None:
    """Purity and completeness over the threshold, with the one that was chosen."""
    table = outcome.table(CURVES)
    if table is None:
        return None
    rows = table.to_pylist()
    kinds = [kind for kind in KINDS if any(row["search"] == kind for row in rows)]

    def draw(figure: Figure) -> None:
        for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            for metric, color in (("purity", BLUE), ("completeness", RED)):
                mine = [
                    row
                    for row in rows
                    if (row["search"], row["metric"]) == (kind, metric) and row["value"] is not None
                ]
                x = [row["threshold"] for row in mine]
                axis.plot(x, [row["value"] for row in mine], color=color, label=f"expected {metric}")
                axis.fill_between(
                    x,
                    [row["low"] for row in mine],
                    [row["high"] for row in mine],
                    color=color,
                    alpha=0.15,
                    lw=0,
                )
            chosen = outcome.about["thresholds"][kind]["value"]
            axis.axvline(chosen, color=INK, lw=1, ls="--", label=f"threshold {chosen:.3f}")
            axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="least score of a candidate", title=f"{kind} search")
            axis.legend(loc="lower left")

    return png(draw, 5 * len(kinds), 4) if kinds else None


def of_selection(outcome: Outcome) -> bytes | None:
    """Completeness and purity by signal to noise and temperature: the selection function of each list."""
    table = outcome.table(SELECTION)
    if table is None:
        return None
    rows = table.to_pylist()
    kinds = [kind for kind in KINDS if any(row["search"] == kind for row in rows)]
    snr, teff = (list(dict.fromkeys(row[name] for row in rows)) for name in ("snr", "Teff"))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(METRICS), len(kinds), squeeze=False)
        for axis, (metric, kind) in zip(axes.flat, product(METRICS, kinds), strict=True):
            found = {
                (row["snr"], row["Teff"]): row
                for row in rows
                if (row["search"], row["metric"]) == (kind, metric)
            }
            _cells(axis, found, snr, teff)
            axis.set_title(f"{kind} list: expected {metric}")

    return png(draw, 6 * len(kinds), 1.5 + len(METRICS) * (1 + 0.45 * len(teff))) if kinds else None


def _cells(
    axis: Axes, found: Mapping[tuple[str, str], dict[str, Any]], snr: Sequence[str], teff: Sequence[str]
) -> None:
    """Shares in bins, each written out with its count; faint where few stars carry it."""
    value, sure = np.full((len(teff), len(snr)), np.nan), np.ones((len(teff), len(snr)))
    for (column_name, row_name), cell in found.items():
        place = teff.index(row_name), snr.index(column_name)
        value[place] = np.nan if cell["value"] is None else cell["value"]
        text = "-" if cell["value"] is None else f"{cell['value']:.2f}\n({cell['n']:,})"
        sure[place] = 0.25 if cell["few"] else 1
        dark = np.nan_to_num(value[place]) > 0.7 and not cell["few"]
        axis.text(
            place[1], place[0], text, ha="center", va="center", fontsize=8, color="white" if dark else INK
        )
    axis.imshow(value, cmap=SHARE, vmin=0, vmax=1, aspect="auto", alpha=sure)
    axis.set_xticks(range(len(snr)), snr)
    axis.set_yticks(range(len(teff)), teff)
    axis.set(
        xlabel="S/N   (in brackets: validation stars; faint: too few)",
        ylabel=f"{symbol('Teff')} ({unit('Teff')})",
    )


def summary(outcome: Outcome, pictures: Sequence[str]) -> str:
    """Counts, lists with what is to be expected of them, how they compare with what is known, and where to look."""
    about = outcome.about
    visits = about["counts"].get("visits", {})
    again = about["predictions"]["rows"] - visits.get("in all", 0)
    lines = [
        f"catalog    {outcome.folder}  ({'made now' if outcome.made else 'was there: nothing to do'})",
        f"from       {about['predictions']['path']}  {about['predictions']['rows']:,} spectra, {len(about['ensemble']['members'])} members",
        f"stars      {about['stars']:,}, {visits.get('stars with several', 0):,} with several visits, {about['unplaced']:,} without a position",
    ]
    lines += (
        [f"{'':<10} {again:,} spectra are of visits that are there more than once: the best of each counts"]
        if again
        else []
    )
    for name, title in (("said", "classes"), ("said_labels", "by labels"), ("feh_class", "by [Fe/H]")):
        if counted := about["counts"].get(name):
            ordered = sorted(counted.items(), key=lambda item: CLASS_ORDER.index(item[0]))
            lines.append(f"{title:<10} {', '.join(f'{count:,} {what}' for what, count in ordered)}")
    for name, title in (("flag_warn", "look twice"), ("flag_bad", "do not use")):
        counted = dict(about["counts"].get(name, {"any": 0}))
        bits = ", ".join(
            f"{count:,} {what.lower()}"
            for what, count in sorted(counted.items(), key=lambda item: -item[1])
            if what != "any"
        )
        lines.append(f"{title:<10} {counted['any']:,}{f' ({bits})' if bits else ''}")
    lines += [line for kind in KINDS for line in _list(about, kind)]
    lines += _known(outcome) + _truth(outcome)
    lines += [
        f"look at    {files.join(outcome.folder, 'hats')}  lsdb.open_catalog(...), or any Parquet reader",
        f"           {files.join(outcome.folder, 'cemp_candidates')}.*, mp_candidates.* in TOPCAT, astropy, pandas, duckdb",
        f"           {len(pictures)} plots, flags.csv and columns.csv (what bits and columns mean), selection.parquet",
    ]
    return "\n".join(lines)


def _list(about: dict[str, Any], kind: Kind) -> list[str]:
    """A list and what is to be expected of it."""
    lines = [f"{kind + ' list':<10} {about['candidates'][kind]:,} candidates"]
    if kind not in about["thresholds"]:
        lines[0] += f", told by {about['told_by'][kind]}"
    if threshold := about["thresholds"].get(kind):
        goal = "the best F1" if threshold["goal"] == "f1" else f"{threshold['goal']} {threshold['level']:g}"
        told = [f"{metric} {_interval(threshold[metric])}" for metric in ("purity", "completeness")]
        lines[0] += (
            f": score of {threshold['value']:.3f} or more, chosen for {goal}; expected {', '.join(told)}"
        )
        true = about["expected"][kind]
        lines.append(
            f"{'':<10} {true['true']:.0f} ± {true['spread']:.0f} of them are what they are listed as, by their own scores"
        )
        mix = ", ".join(f"{one['share']:.2%} {name}" for name, one in threshold["mix"]["classes"].items())
        lines.append(f"{'':<10} in the survey's mix of classes, {threshold['mix']['how']}: {mix}")
        lines += [f"{'':<10} note: {note}" for note in threshold["notes"]]
    return lines


def _interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "not known"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _known(outcome: Outcome) -> list[str]:
    """How many stars of each list of known stars were found again."""
    table = outcome.table(KNOWN)
    lines = []
    for row in [] if table is None else table.to_pylist():
        lost = f" ({row['unplaced']:,} more have no position)" if row["unplaced"] else ""
        seen = f"{row['observed']:,} of {row['stars']:,} are in the catalog{lost}"
        lines.append(
            f"{'known':<10} {row['list']}: {seen}, {row['found']:,} of these {row['search']} candidates"
        )
    return lines


def _truth(outcome: Outcome) -> list[str]:
    """What came out beside true labels."""
    table = outcome.table(TRUTH)
    if table is None:
        return []
    counts = outcome.about["truth"]
    known = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    told = (
        f"{'':<10} {row['search']:<4} {row['metric']:<13} {_interval(row)}  ({row['hits']:,} of {row['n']:,})"
        for row in table.to_pylist()
    )
    return [f"truth      {known}", *told]
