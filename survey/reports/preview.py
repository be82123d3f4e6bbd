"""Pictures of single spectra: as in the file, on the grid, with the continuum, and the final flux."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey import files
from survey.reports.lines import CARBON, LINES, TELLURIC
from survey.reports.raw_spectra import raw_spectrum
from survey.reports.style import BLUE, GREY, INK, RED, png
from survey.spectrum import Spectrum
from survey.store.prepare import SPEED_OF_LIGHT, Preparer
from survey.store.settings import Ingest
from survey.store.store import Store, open_store


def preview(settings: Ingest) -> list[str]:
    """Draw `settings.preview` spectra, spread evenly over the store; the paths of the pictures."""
    if not settings.preview:
        return []
    store, preparer = open_store(settings.store), Preparer(settings.prepare, curves=True)
    pictures = []
    for number, table in enumerate(_spread(store, settings.preview)):
        row = table.to_pylist()[0]
        raw = raw_spectrum(row, settings)
        if raw is None:  # the file has changed or is gone
            continue
        name = f"{number:03d}-{row['visit'] or 'spectrum'}.png".replace("/", "_")
        path = files.join(settings.store, "preview", name)
        files.write(path, picture(raw, row, preparer))
        pictures.append(path)
    return pictures


def _spread(store: Store, count: int) -> Iterator[pa.Table]:
    """So many rows of a store, evenly spread over its shards and within them."""
    shards = np.unique(np.linspace(0, store.shards - 1, min(count, store.shards)).round().astype(int))
    for number, shard in enumerate(shards.tolist()):
        table = store.spectra(shard)
        share = count * (number + 1) // len(shards) - count * number // len(shards)
        if table.num_rows:
            rows = np.unique(np.linspace(0, table.num_rows - 1, share + 2)[1:-1].round().astype(int))
            yield from (table.slice(row, 1) for row in rows.tolist())


def picture(raw: Spectrum, row: dict[str, Any], preparer: Preparer) -> bytes:
    """The four stages of a spectrum as a PNG. `row` is the one in the store, `raw` has its shift as z."""
    prepared = preparer([raw], [None])
    assert prepared.continuum is not None
    wave, flux, is_good = preparer.grid.wave, prepared.flux[0], prepared.ivar[0] > 0
    curve = prepared.continuum[0] * prepared.scale[0]
    on_grid = np.where(is_good, flux * curve, np.nan)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(4, 1, sharex=True)
        _draw_raw(axes[0], raw, row)
        for axis, title in ((axes[1], "on the grid, rest frame"), (axes[2], "with its continuum")):
            axis.set_title(title)
            axis.plot(wave, on_grid, color=INK, lw=0.5)
            _set_limits(axis, on_grid)
        axes[2].plot(wave, curve, color=RED, lw=1.2)
        _draw_final(axes[3], wave, np.where(is_good, flux, np.nan))
        _mark_lines(axes[3], 1 + (row["velocity"] or 0.0) / SPEED_OF_LIGHT)
        axes[3].set_xlim(wave[0], wave[-1])
        axes[3].set_xlabel("vacuum wavelength (Å), rest frame")

    return png(draw, 12, 9, dpi=110)


def _draw_raw(axis: Axes, raw: Spectrum, row: dict[str, Any]) -> None:
    """The file's own pixels. Only the wavelengths are shifted to the rest frame, so that the panels agree."""
    rest = raw.angstrom / (1 + (row["velocity"] or 0.0) / SPEED_OF_LIGHT)
    is_bad = (np.asarray(raw.ivar) <= 0) | (raw.bad if raw.bad is not None else False)
    flux = np.asarray(raw.flux, float)
    axis.plot(rest, flux, color=INK, lw=0.5)
    _set_limits(axis, flux)
    bottom = axis.get_ylim()[0]
    axis.plot(rest[is_bad], np.full(int(is_bad.sum()), bottom), "|", color=RED, ms=6, label="bad pixel")
    texts = [
        f"[{row['survey']} {row['layout']}]",
        row["visit"],
        row["subclass"] or "",
        f"S/N {row['snr']:.0f}",
        "velocity not known" if row["velocity"] is None else f"shifted by {row['velocity']:+.0f} km/s",
    ]
    axis.set_title(f"as in the file   {'  '.join(filter(None, texts))}")


def _draw_final(axis: Axes, wave: np.ndarray, flux: np.ndarray) -> None:
    axis.plot(wave, flux, color=INK, lw=0.5)
    axis.axhline(1.0, color=BLUE, lw=0.8, zorder=0)
    axis.set_ylim(0, 1.8)
    axis.set_title(
        "final: flux over continuum; blue: lines, red: carbon bands, grey: the Earth's air; gaps: bad points"
    )


def _mark_lines(axis: Axes, stretch: float) -> None:
    """Lines, carbon bands and bands of the Earth's air. The air was shifted with the star, by `stretch`."""
    for number, (name, wave) in enumerate(LINES.items()):
        axis.axvline(wave, color=BLUE, lw=0.5, alpha=0.5, zorder=0)
        height = 1.78 - 0.26 * (number % 2)
        axis.annotate(name, (wave, height), rotation=90, ha="center", va="top", fontsize=7, color=BLUE)
    for number, (name, (low, high)) in enumerate(CARBON.items()):
        axis.axvspan(low, high, color=RED, alpha=0.12, lw=0, zorder=0)
        height = 0.03 + 0.1 * (number % 2)
        axis.annotate(name, ((low + high) / 2, height), ha="center", fontsize=7, color=RED)
    for name, (low, high) in TELLURIC.items():
        axis.axvspan(low / stretch, high / stretch, color=GREY, alpha=0.25, lw=0, zorder=0)
        axis.annotate(name, ((low + high) / 2 / stretch, 0.03), ha="center", fontsize=7, color=GREY)


def _set_limits(axis: Axes, flux: np.ndarray) -> None:
    """Limits that do not depend on single extreme pixels."""
    finite = flux[np.isfinite(flux)]
    if len(finite):
        low, high = np.percentile(finite, [0.5, 99.5])
        span = max(high - low, 1e-30)
        axis.set_ylim(min(low, 0.0) - 0.05 * span, high + 0.15 * span)
    axis.set_ylabel("flux")
