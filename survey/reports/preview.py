"""What ingest did to single spectra, drawn stage by stage: as in the file, on the grid, its continuum, and the final flux."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey import files
from survey.reports.lines import CARBON, LINES, TELLURIC
from survey.spectrum import Spectrum
from survey.store.ingest import Ingest
from survey.store.make import items, readers
from survey.store.prepare import LIGHT, Preparer
from survey.store.store import Store, open_store

INK, BLUE, RED, GREY = "#1f2933", "#2563ab", "#c2410c", "#9aa5b1"


def preview(settings: Ingest) -> list[str]:
    """Draw `settings.preview` spectra, spread evenly over the store; gives the paths of the pictures."""
    if not settings.preview:
        return []
    store, preparer = open_store(settings.store), Preparer(settings.prepare, curves=True)
    drawn = []
    for number, row in enumerate(_spread(store, settings.preview)):
        found = [
            item.found
            for item in items(row.select(["path", "row"]), readers(settings.sources, settings.options))
        ]
        values = row.to_pylist()[0]
        same = [
            spectrum
            for spectrum in found
            if isinstance(spectrum, Spectrum) and spectrum.visit.get("visit") == values["visit"]
        ]
        if not same:
            continue
        path = files.join(
            settings.store, "preview", f"{number:03d}-{values['visit'] or 'spectrum'}.png".replace("/", "_")
        )
        files.write(path, picture(same[0], values, preparer))
        drawn.append(path)
    return drawn


def _spread(store: Store, count: int) -> Sequence[pa.Table]:
    """So many rows of a store, evenly spread over its shards and within them."""
    chosen = []
    shards = np.unique(np.linspace(0, store.shards - 1, min(count, store.shards)).round().astype(int))
    for place, shard in enumerate(shards):
        table = store.spectra(int(shard))
        share = count * (place + 1) // len(shards) - count * place // len(shards)
        if table.num_rows:
            rows = np.unique(np.linspace(0, table.num_rows - 1, share + 2)[1:-1].round().astype(int))
            chosen += [table.slice(row, 1) for row in rows.tolist()]
    return chosen


def picture(raw: Spectrum, row: dict[str, Any], preparer: Preparer) -> bytes:
    """The four stages of one spectrum as a PNG; `row` is what the store says of it."""
    made = preparer([raw], [row["velocity"]])
    assert made.continuum is not None
    flux, good, curve = made.flux[0], made.ivar[0] > 0, made.continuum[0] * made.scale[0]
    wave = preparer.grid.wave
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 9), layout="constrained")
        axes = figure.subplots(4, 1, sharex=True)
        _raw(axes[0], raw, row)
        on_grid = np.where(good, flux * curve, np.nan)
        for axis, title in ((axes[1], "on the grid, rest frame"), (axes[2], "with its continuum")):
            axis.set_title(title, loc="left")
            axis.plot(wave, on_grid, color=INK, lw=0.5)
            _limit(axis, on_grid)
        axes[2].plot(wave, curve, color=RED, lw=1.2)
        _final(axes[3], wave, flux, good, row)
        axes[3].set_xlim(wave[0], wave[-1])
        axes[3].set_xlabel("vacuum wavelength (Å), rest frame")
        sink = BytesIO()
        figure.savefig(sink, dpi=110)
    return sink.getvalue()


def _raw(axis: Axes, raw: Spectrum, row: dict[str, Any]) -> None:
    """The file's own pixels; only its wavelengths are moved to the rest frame, so that the panels line up."""
    rest = raw.angstrom / (1 + (row["velocity"] or 0.0) / LIGHT)
    bad = (np.asarray(raw.ivar) <= 0) | (raw.bad if raw.bad is not None else False)
    flux = np.asarray(raw.flux, float)
    axis.plot(rest, flux, color=INK, lw=0.5)
    _limit(axis, flux)
    bottom = axis.get_ylim()[0]
    axis.plot(rest[bad], np.full(int(bad.sum()), bottom), "|", color=RED, ms=6, label="bad pixel")
    told = [
        f"[{row['survey']} {row['layout']}]",
        row["visit"],
        row["subclass"] or "",
        f"S/N {row['snr']:.0f}",
    ]
    velocity = "velocity not known" if row["velocity"] is None else f"{row['velocity']:+.0f} km/s taken out"
    axis.set_title(f"as in the file   {'  '.join(filter(None, told))}  {velocity}", loc="left")


def _final(axis: Axes, wave: np.ndarray, flux: np.ndarray, good: np.ndarray, row: dict[str, Any]) -> None:
    axis.plot(wave, np.where(good, flux, np.nan), color=INK, lw=0.5)
    axis.axhline(1.0, color=BLUE, lw=0.8, zorder=0)
    axis.set_ylim(0, 1.5)
    for number, (name, place) in enumerate(LINES.items()):
        axis.axvline(place, color=BLUE, lw=0.5, alpha=0.5, zorder=0)
        axis.annotate(
            name,
            (place, 1.49 - 0.22 * (number % 2)),
            rotation=90,
            ha="center",
            va="top",
            fontsize=7,
            color=BLUE,
        )
    for number, (name, (low, high)) in enumerate(CARBON.items()):
        axis.axvspan(low, high, color=RED, alpha=0.12, lw=0, zorder=0)
        axis.annotate(name, ((low + high) / 2, 0.03 + 0.1 * (number % 2)), ha="center", fontsize=7, color=RED)
    shift = 1 + (row["velocity"] or 0.0) / LIGHT
    for name, (low, high) in TELLURIC.items():
        axis.axvspan(low / shift, high / shift, color=GREY, alpha=0.25, lw=0, zorder=0)
        axis.annotate(name, ((low + high) / 2 / shift, 0.03), ha="center", fontsize=7, color=GREY)
    axis.set_title(
        "final: flux over continuum; blue: lines, red: carbon bands, grey: the Earth's air; gaps: bad points",
        loc="left",
    )


def _limit(axis: Axes, flux: np.ndarray) -> None:
    """Limits that single wild pixels do not decide."""
    finite = flux[np.isfinite(flux)]
    if len(finite):
        low, high = np.percentile(finite, [0.5, 99.5])
        span = max(high - low, 1e-30)
        axis.set_ylim(min(low, 0.0) - 0.05 * span, high + 0.15 * span)
    axis.set_ylabel("flux")
