"""The spectra of the first candidates of a list at the bands of carbon, each over that of a normal star.

The normal star is not in the list, has like temperature, gravity and iron, and a good spectrum. So a band
that is deeper only because a star is cooler is deeper in both. Shapes: N stars of a tile, K candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from survey.catalog.catalog import CatalogResult
from survey.catalog.provenance import predictions_path
from survey.catalog.settings import ListName
from survey.catalog.visits import float_column
from survey.labels import label
from survey.reports.lines import CARBON, LINES
from survey.reports.shown_lists import ShownList
from survey.reports.spectra_of_stars import POSITION, Place, StarSpectra, read_spectra_of
from survey.reports.star_planes import read_stars
from survey.reports.style import BLUE, GREY, INK, png, symbol, value_text

Floats = NDArray[np.float64]
Row = dict[str, Any]

SHOWN = 6
"""Candidates of a list that are shown."""
WINDOWS: dict[ListName, tuple[tuple[float, float], ...]] = {
    "CEMP": ((4120.0, 4235.0), (4265.0, 4360.0), (4600.0, 4760.0), (5040.0, 5195.0)),
    "MP": ((3905.0, 3995.0), (4220.0, 4360.0), (5125.0, 5290.0), (8480.0, 8680.0)),
}
"""The wavelengths that are shown (angstrom): CN, the G band, and C₂ twice; lines of metals and the G band."""
NORMAL_SNR = 25.0
"""Lowest signal to noise of a normal star's best visit."""
LIKE = {"Teff": 150.0, "logg": 0.4, "FeH": 0.3}
"""Differences that count as one unit of distance between two stars."""
FARTHEST = 4.0
"""A star beyond this distance is not like the candidate. A low signal to noise adds up to 1."""
NORMAL_CARBON, NORMAL_IRON = 0.5, -0.6
"""A star beside a CEMP candidate has a [C/Fe] below this, one beside an MP candidate a [Fe/H] above this."""
FEWEST_PIXELS = 20
"""A window with fewer points of the grid is left out."""
ABOVE, HEAD, ROW, BELOW = 0.42, 0.48, 1.75, 0.65
"""Inches: above the first row, of the text of a row, of a row with its text, and below the last row."""
EDGE = 0.06
"""Share of a window at each end without a label of the axis, which would touch that of the next window."""
SPAN = 0.3, 1.35
"""Range of the flux, unless a spectrum needs more."""


@dataclass
class NormalStars:
    """The normal star nearest to each candidate, so far: its row and its distance."""

    name: ListName
    candidates: pa.Table
    rows: list[Row | None] = field(init=False)
    distance_K: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [None] * self.candidates.num_rows
        self.distance_K = np.full(self.candidates.num_rows, FARTHEST)

    @property
    def labels(self) -> list[str]:
        """The labels that are compared. Beside metal-poor stars are stars of another [Fe/H]."""
        names = ("Teff", "logg") if self.name == "MP" else ("Teff", "logg", "FeH")
        return [label_name for label_name in names if label_name in self.candidates.column_names]

    def columns(self) -> set[str]:
        """The columns of stars that are needed."""
        quality = {"star", "snr_best", "snr_total", "flag_bad", "domain", f"{self.name.lower()}_candidate"}
        labels = {f"{name}{ending}" for name in (*LIKE, "CFe") for ending in ("", "_err")}
        return {*quality, *POSITION, *labels}

    def add(self, stars: pa.Table) -> None:
        """Look for nearer stars among these."""
        stars = stars.filter(pa.array(self._is_normal(stars)))
        if not stars.num_rows or not self.labels:
            return
        square_KN = np.zeros((self.candidates.num_rows, stars.num_rows))
        for name in self.labels:
            value_K, value_N = float_column(self.candidates, name), float_column(stars, name)
            square_KN += ((value_K[:, None] - value_N) / LIKE[name]) ** 2
        square_KN += (NORMAL_SNR / float_column(stars, "snr_best")) ** 2
        distance_KN = np.sqrt(np.nan_to_num(square_KN, nan=np.inf))
        nearest_K = distance_KN.argmin(1)
        for number, nearest in enumerate(nearest_K.tolist()):
            if distance_KN[number, nearest] < self.distance_K[number]:
                self.distance_K[number] = distance_KN[number, nearest]
                self.rows[number] = stars.slice(nearest, 1).to_pylist()[0]

    def _is_normal(self, stars: pa.Table) -> NDArray[np.bool_]:
        """Stars outside the list, with a good spectrum like those of training, of normal carbon or iron."""
        listed_N = stars[f"{self.name.lower()}_candidate"].to_numpy(zero_copy_only=False)
        normal_N = ~listed_N & (stars["flag_bad"].to_numpy() == 0)
        normal_N &= ~pc.is_in(stars["star"], self.candidates["star"]).to_numpy(zero_copy_only=False)
        normal_N &= float_column(stars, "snr_best") >= NORMAL_SNR
        normal_N &= ~(float_column(stars, "domain") > 1)
        if self.name == "MP":
            return np.asarray(normal_N & ~(float_column(stars, "FeH") <= NORMAL_IRON))
        return np.asarray(normal_N & ~(float_column(stars, "CFe") >= NORMAL_CARBON))


def plot_spectra(result: CatalogResult, shown_list: ShownList) -> tuple[bytes | None, str]:
    """The picture of a list, or None and why there is none."""
    candidates = shown_list.table.slice(0, SHOWN)
    normal = NormalStars(shown_list.name, candidates)
    for stars in read_stars(result.folder, normal.columns()):
        normal.add(stars)
    pairs = list(zip(candidates.to_pylist(), normal.rows, strict=True))
    places = [_place(row) for pair in pairs for row in pair if row]
    path = predictions_path(result.folder, result.document.predictions)
    spectra = read_spectra_of(path, places)
    if spectra.why:
        return None, spectra.why
    shown = [pair for pair in pairs if _place(pair[0]) in spectra.flux]
    if not shown:
        return None, "no spectrum of a candidate can be read"
    drawn = draw_pairs(shown_list, shown, spectra)
    return drawn, "" if drawn else "the grid of the spectra has none of its bands"


def _place(row: Row) -> Place:
    shard, number = (row[column] for column in POSITION)
    return shard, number


def draw_pairs(
    shown_list: ShownList, pairs: Sequence[tuple[Row, Row | None]], spectra: StarSpectra
) -> bytes | None:
    """A row of panels for each candidate (dark) and its normal star (blue)."""
    wave, name = spectra.wave, shown_list.name
    windows = [window for window in WINDOWS[name] if _inside(wave, window).sum() >= FEWEST_PIXELS]
    if not windows:
        return None
    widths = [high - low for low, high in windows]
    height = ABOVE + ROW * len(pairs) + BELOW
    places = {"left": 0.045, "right": 0.985, "top": 1 - (ABOVE + HEAD) / height, "bottom": BELOW / height}
    gaps = {"hspace": HEAD / (ROW - HEAD), "wspace": 0.08}

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")  # which is slow: it measures every text twice
        axes = figure.subplots(
            len(pairs),
            len(windows),
            squeeze=False,
            sharex="col",
            sharey="row",
            gridspec_kw={"width_ratios": widths, **places, **gaps},
        )
        for line, (candidate, normal) in zip(axes, pairs, strict=True):
            flux = [spectra.flux.get(_place(row)) if row else None for row in (normal, candidate)]
            for axis, window in zip(line, windows, strict=True):
                _draw_window(axis, wave, flux, window)
            _write_above(line[0], f"{_candidate_text(name, candidate)}\n{_normal_text(normal)}")
            line[0].set_ylabel("flux")
            _set_span(line[0], wave, flux, windows)
        text = "vacuum wavelength at rest (Å); flux: in units of the continuum"
        figure.supxlabel(text, fontsize=10, y=0.12 / height)
        title = _title(shown_list, len(pairs))
        figure.suptitle(title, x=0.01, y=1 - 0.12 / height, ha="left", va="top", fontsize=12)

    return png(draw, 14, height, dpi=120)


def _title(shown_list: ShownList, count: int) -> str:
    teff, logg, feh, cfe = map(symbol, ("Teff", "logg", "FeH", "CFe"))
    beside: dict[ListName, str] = {
        "CEMP": f"similar {teff}, {logg} and {feh}, but {cfe} below {NORMAL_CARBON:g}",
        "MP": f"similar {teff} and {logg}, but {feh} above {NORMAL_IRON:g}",
    }
    first = "the first " if count > 1 else ""
    blue = f"blue: stars outside the list with {beside[shown_list.name]}"
    return f"dark: {first}{shown_list.text(count)}; {blue}"


def _write_above(axis: Axes, text: str) -> None:
    """A text of two lines above the first panel of a row, which may be wider than the panel."""
    place: dict[str, Any] = {"xytext": (0, 4), "textcoords": "offset points", "va": "bottom"}
    axis.annotate(text, (0, 1), xycoords="axes fraction", fontsize=9, annotation_clip=False, **place)


def _inside(wave: Floats, window: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((wave >= window[0]) & (wave <= window[1]))


def _draw_window(
    axis: Axes, wave: Floats, flux: Iterable[Floats | None], window: tuple[float, float]
) -> None:
    """The normal star, then the candidate over it, with the bands and lines of the window."""
    inside = _inside(wave, window)
    for flux_P, color, width in zip(flux, (BLUE, INK), (1.6, 1.0), strict=True):
        if flux_P is not None:
            axis.plot(wave[inside], flux_P[inside], color=color, lw=width)
    axis.set_xlim(*window)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2.5, 5, 10]))
    low, high = window[0] + EDGE * (window[1] - window[0]), window[1] - EDGE * (window[1] - window[0])
    axis.set_xticks([tick for tick in axis.get_xticks() if low <= tick <= high])
    above: dict[str, Any] = {
        "transform": axis.get_xaxis_transform(),
        "ha": "center",
        "va": "top",
        "fontsize": 8,
    }
    for text, band in CARBON.items():
        low, high = max(band[0], window[0]), min(band[1], window[1])
        if low < high:
            axis.axvspan(low, high, color=GREY, alpha=0.22, lw=0, zorder=0)
            axis.text((low + high) / 2, 0.98, text, **above)
    for text, place in LINES.items():
        if window[0] < place < window[1]:
            axis.axvline(place, color=GREY, lw=0.6, ls=":", zorder=0)
            axis.text(place, 0.98, text, **above)


def _set_span(
    axis: Axes, wave: Floats, flux: Iterable[Floats | None], windows: Iterable[tuple[float, float]]
) -> None:
    """The range of the flux in a row, without single extreme points."""
    inside = np.any([_inside(wave, window) for window in windows], 0)
    values = np.concatenate([np.zeros(0), *(flux_P[inside] for flux_P in flux if flux_P is not None)])
    values = values[np.isfinite(values)]
    if len(values):
        low, high = np.percentile(values, [0.5, 99.5])
        axis.set_ylim(min(SPAN[0], low - 0.1), max(SPAN[1], high + 0.15))


def _candidate_text(name: ListName, row: Mapping[str, Any]) -> str:
    score = row.get(f"score_{name.lower()}")
    numbers = [f"rank {row['rank']}: {row['star']}", f"S/N {row['snr_best'] or 0:.0f}"]
    numbers += [f"score {score:.2f}"] if score is not None else []
    numbers += [f"domain {row['domain']:.1f}"] if row.get("domain") is not None else []
    return "   ".join([*numbers, *_label_texts(row)])


def _normal_text(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return f"no normal star like it with S/N of {NORMAL_SNR:g} or more"
    return "   ".join([f"blue: {row['star']}", f"S/N {row['snr_best']:.0f}", *_label_texts(row)])


def _label_texts(row: Mapping[str, Any]) -> list[str]:
    """The labels of a star with their errors, where known."""
    texts = []
    for name in (*LIKE, "CFe"):
        if (value := row.get(name)) is not None:
            error = row.get(f"{name}_err")
            plus_minus = f" ± {error:.{0 if label(name).unit == 'K' else 2}f}" if error is not None else ""
            texts.append(f"{symbol(name)} {value_text(name, value)}{plus_minus}")
    return texts
