"""Plots of a follow-up: yield against hours, the sky and the night, strata, and the purity that follows."""

from collections.abc import Iterator
from datetime import datetime

import matplotlib.dates as mdates
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.catalog.document import IntervalRecord
from survey.followup.choice import YIELD
from survey.followup.followup import SAMPLE, Followup, night_at
from survey.followup.followup_document import FollowupDocument
from survey.followup.observed import Observed
from survey.reports.style import BLUE, GREY, INK, RED, count_text, png

Floats = NDArray[np.float64]
SHUFFLES = 200
"""Random orders whose mean is drawn beside the sample's own order."""


def draw_sample_plots(sample: Followup) -> Iterator[tuple[str, bytes]]:
    """The plots of a sample: names without ending, and PNG."""
    chosen, others = sample.table(f"{SAMPLE}.parquet"), sample.table("not_chosen.parquet")
    document = sample.document
    yield "yield", png(lambda figure: _yield(figure, chosen, others, document), 7.5, 4.6)
    tracks = sample.table("tracks.parquet")
    yield "sky", png(lambda figure: _sky(figure, chosen, others, tracks, document), 11, 5.2)
    yield "strata", png(lambda figure: _strata(figure, chosen, others, document), 11, 4.6)


def draw_result_plots(sample: Followup, results: Observed) -> Iterator[tuple[str, bytes]]:
    """The plots of the results."""
    yield "purity", png(lambda figure: _purity(figure, sample, results), 8.5, 4.6)


def _values(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _yield(figure: Figure, chosen: pa.Table, others: pa.Table, document: FollowupDocument) -> None:
    """Expected true stars against hours: the sample, all stars by yield alone, and a random order."""
    axis = figure.subplots()
    p, hours = _values(chosen, "probability"), _values(chosen, "time_needed") / 3600
    axis.plot([0, *np.cumsum(hours)], [0, *np.cumsum(p)], color=BLUE, lw=2, label="the sample, in its order")
    free = others.filter(pa.array(np.isfinite(_values(others, "inclusion_probability"))))
    all_p = np.concatenate([p, _values(free, "probability")])
    all_hours = np.concatenate([hours, _values(free, "time_needed") / 3600])
    best = np.argsort(-all_p / all_hours)
    axis.plot(
        *_until(np.cumsum(all_hours[best]), np.cumsum(all_p[best]), document.hours),
        color=INK,
        lw=1.2,
        ls="--",
        label="by yield alone: no purity can be certified",
    )
    grid = np.linspace(0, document.hours, 100)
    generator = np.random.default_rng(0)
    orders = [generator.permutation(len(all_p)) for _ in range(SHUFFLES)]
    curves = [np.interp(grid, [0, *np.cumsum(all_hours[o])], [0, *np.cumsum(all_p[o])]) for o in orders]
    axis.plot(grid, np.mean(curves, 0), color=GREY, lw=1.5, label="in random order")
    axis.set_xlabel("hours of observation, with overheads")
    axis.set_ylabel(f"expected {document.search} stars")
    axis.set_title(f"{document.expected:.1f} expected among {len(p):,} stars in {document.hours:.1f} hours")
    axis.set_xlim(0)
    axis.set_ylim(0)
    axis.legend(loc="upper left")


def _until(x: Floats, y: Floats, end: float) -> tuple[Floats, Floats]:
    """A curve from the origin to this x."""
    inside = x <= end
    return np.concatenate([[0], x[inside]]), np.concatenate([[0], y[inside]])


def _sky(
    figure: Figure, chosen: pa.Table, others: pa.Table, tracks: pa.Table, document: FollowupDocument
) -> None:
    """Where the stars are, and how high the first of them are in the night in the middle."""
    sky, night = figure.subplots(1, 2)
    hours = _values(others, "hours_observable")
    for table, choice, style in (
        (others, hours == 0, {"marker": "x", "color": GREY, "ms": 5, "label": "never observable"}),
        (others, hours > 0, {"marker": "o", "color": GREY, "ms": 4, "mew": 0, "label": "not chosen"}),
    ):
        _positions(sky, table, choice, **style)
    for_yield = np.array(chosen["chosen_for"].to_pylist()) == YIELD
    _positions(sky, chosen, for_yield, marker="o", color=BLUE, ms=6, mew=0, label="chosen by yield")
    _positions(sky, chosen, ~for_yield, marker="D", color=RED, ms=6, mew=0, label="drawn at random")
    sky.invert_xaxis()
    sky.set_xlabel("right ascension (deg)")
    sky.set_ylabel("declination (deg)")
    sky.set_title(count_text(document.listed + document.rejected, "stars of the list"))
    sky.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    times = tracks["utc"].to_numpy()
    columns = [name for name in tracks.column_names if name.startswith("star_")]
    for number, name in enumerate(columns):
        color = BLUE if for_yield[number] else RED
        night.plot(times, _values(tracks, name), color=color, lw=0.8, alpha=0.6)
    night.plot(times, _values(tracks, "moon"), color=INK, lw=1.5, ls=":", label="moon")
    limit = document.settings["sky"]["altitude"]
    night.axhline(limit, color=GREY, lw=1, ls="--", label=f"limit {limit:g} deg")
    night.set_ylim(0, 90)
    night.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=7))
    night.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    evening = night_at(document.site.longitude, times[0].astype(datetime))
    night.set_xlabel(f"UTC, dark hours of the night of {evening}")
    night.set_ylabel("altitude (deg)")
    night.set_title(f"the first {len(columns)} stars at {document.site.name}")
    night.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _positions(axis: Axes, table: pa.Table, choice: NDArray[np.bool_], **style: object) -> None:
    """Positions of some stars, if there are some."""
    if choice.any():
        label = f"{style.pop('label')} ({int(choice.sum()):,})"
        ra, dec = _values(table, "ra")[choice], _values(table, "dec")[choice]
        axis.plot(ra, dec, ls="", label=label, **style)  # type: ignore[arg-type]


def _strata(figure: Figure, chosen: pa.Table, others: pa.Table, document: FollowupDocument) -> None:
    """The stars in probability and S/N, and how many of each stratum are observed."""
    plane, counts = figure.subplots(1, 2)
    free = others.filter(pa.array(np.isfinite(_values(others, "inclusion_probability"))))
    for_yield = np.array(chosen["chosen_for"].to_pylist()) == YIELD
    has_snr = "snr_total" in chosen.column_names
    y = "snr_total" if has_snr else "magnitude"
    for table, choice, color, marker, label in (
        (free, np.ones(free.num_rows, bool), GREY, "o", "not chosen"),
        (chosen, for_yield, BLUE, "o", "chosen by yield"),
        (chosen, ~for_yield, RED, "D", "drawn at random"),
    ):
        x_values, y_values = _values(table, "probability")[choice], _values(table, y)[choice]
        plane.plot(x_values, y_values, ls="", marker=marker, color=color, ms=5, mew=0, alpha=0.7, label=label)
    plane.set_yscale("log" if has_snr else "linear")
    plane.set_xlabel("probability")
    plane.set_ylabel("S/N of the spectrum" if has_snr else "magnitude")
    plane.set_title("which stars are observed")
    plane.legend(loc="best")
    numbers = [record.stratum for record in document.strata]
    by_yield = np.array([record.by_yield for record in document.strata])
    random = np.array([record.random for record in document.strata])
    rest = np.array([record.stars for record in document.strata]) - by_yield - random
    counts.bar(numbers, by_yield, color=BLUE, label="chosen by yield")
    counts.bar(numbers, random, bottom=by_yield, color=RED, label="drawn at random")
    counts.bar(numbers, rest, bottom=by_yield + random, color="#e4e8ec", label="not observed")
    labels = [f"{record.stratum}\n{record.low:.2f} to\n{record.high:.2f}" for record in document.strata]
    counts.set_xticks(numbers, labels)
    counts.set_xlabel("stratum, with its range of probability")
    counts.set_ylabel("stars that can be observed")
    counts.set_title("strata")
    counts.set_ylim(0, 1.3 * float((by_yield + random + rest).max()))
    counts.legend(loc="upper right")


def _purity(figure: Figure, sample: Followup, results: Observed) -> None:
    """Each stratum and the list: expected before, observed with its interval, expected now."""
    axis = figure.subplots()
    document = results.document
    for place, record in enumerate(document.strata):
        axis.plot(place - 0.15, record.before, "o", color=GREY, ms=7, label=_once("expected before", place))
        _interval(axis, place, record.share, BLUE, _once("observed", place))
        axis.plot(
            place + 0.15, record.now, "D", color=INK, ms=5, label=_once("to expect of the others", place)
        )
    place = len(document.strata)
    axis.axvline(place - 0.5, color=GREY, lw=0.8)
    axis.plot(place + 0.85, document.before, "o", color=GREY, ms=7)
    _interval(axis, place, document.plain, BLUE, None)
    if not document.not_certified:
        _interval(axis, place + 1, document.purity, RED, "certified")
    names = [f"{record.stratum}\n{record.true}/{record.observed}" for record in document.strata]
    axis.set_xticks(
        range(place + 2), [*names, f"observed\n{document.true}/{document.observed}", "all stars\n(certified)"]
    )
    axis.set_ylim(-0.02, 1.05)
    axis.set_xlabel("stratum, with true / observed stars")
    axis.set_ylabel(f"share of {sample.document.search} stars")
    axis.set_title(f"{document.true:,} of {document.observed:,} observed stars are true, with 95 % intervals")
    axis.legend(loc="lower left")


def _interval(axis: Axes, place: float, share: IntervalRecord, color: str, label: str | None) -> None:
    """A share with its 95 % interval, if it is known."""
    if share.value is None or share.low is None or share.high is None:
        return
    ends = [[max(share.value - share.low, 0)], [max(share.high - share.value, 0)]]
    axis.errorbar([place], [share.value], yerr=ends, fmt="o", color=color, ms=6, capsize=4, label=label)


def _once(text: str, place: int) -> str | None:
    """The label of the first one only, for the legend."""
    return text if place == 0 else None
