"""The planes in which the stars of a catalog are drawn (Kiel diagram, iron and carbon, ...), and all stars in
them as counts.

Stars are counted tile by tile, so the picture of ten million stars needs the memory of one tile.
Shapes: N stars, X and Y bins.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from survey import files
from survey.catalog.hats import HATS, NO_POSITION, STARS
from survey.catalog.visits import float_column
from survey.labels import carbon_label, label
from survey.reports.style import CROWD, INK, MAX_POINTS, label_text

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

SOLAR_CARBON = 8.43
"""A(C) of the Sun (Asplund et al. 2009): A(C) = [C/H] + 8.43."""
WIDTHS = {"K": 50.0}
"""The width of a bin by the unit of a label; 0.05 in any other unit."""
SHOWN_SHARE = 0.998
"""Axes leave out the stars at both ends that are not among this share of the middle."""
FEWEST_BINS, MOST_BINS = 40, 140
"""Cells along an axis of a picture: few for few stars."""
MAX_ERRORS = 60
"""With more stars than this, their errors are not drawn; a cross shows the median error."""
CONTOURS = (0.5, 0.9)
"""Shares of the stars inside the contours, of stars that are too many for points."""


@dataclass(frozen=True)
class Quantity:
    """A number of each star: its text on an axis, its range, the width of a bin, and how it is computed.

    `falls`: astronomers draw it from high to low.
    """

    text: str
    low: float
    high: float
    width: float
    value: Callable[[pa.Table], Floats]
    error: Callable[[pa.Table], Floats]
    needs: frozenset[str]
    falls: bool = False

    @property
    def bins(self) -> int:
        """Number of bins."""
        return round((self.high - self.low) / self.width)

    def bin_of(self, table: pa.Table) -> Counts:
        """The bin of each star; -1 where the number is unknown. The first and the last bin are open."""
        value_N = self.value(table)
        known_N = np.isfinite(value_N)
        bin_N = np.floor((np.where(known_N, value_N, self.low) - self.low) / self.width)
        return np.where(known_N, np.clip(bin_N, 0, self.bins - 1), -1).astype(np.int64)


@dataclass(frozen=True)
class Plane:
    """Two quantities, across and upwards."""

    title: str
    x: Quantity
    y: Quantity

    @property
    def name(self) -> str:
        """The names of both axes: planes of one name are the same."""
        return f"{self.x.text}, {self.y.text}"

    def has_numbers(self, table: pa.Table) -> bool:
        """Whether any star has both numbers."""
        return bool((np.isfinite(self.x.value(table)) & np.isfinite(self.y.value(table))).any())


@dataclass(frozen=True)
class PlaneCounts:
    """The number of stars in each bin of a plane, with the edges of the bins."""

    count_YX: Counts
    x_edges: Floats
    y_edges: Floats


def column(name: str, text: str, low: float, high: float, width: float, falls: bool = False) -> Quantity:
    """A quantity that is a column of the catalog; its error is the column `_err`."""
    return Quantity(
        text,
        low,
        high,
        width,
        lambda table: float_column(table, name),
        lambda table: float_column(table, f"{name}_err"),
        frozenset({name}),
        falls,
    )


def label_column(name: str, prefix: str = "") -> Quantity:
    """A label as a quantity; with a prefix such as `true_`, the column of that name."""
    row = label(name)
    return column(
        prefix + name,
        prefix.replace("_", " ") + label_text(name),
        row.low,
        row.high,
        WIDTHS.get(row.unit, 0.05),
        falls=name in ("Teff", "logg"),
    )


def absolute_carbon(columns: Collection[str]) -> Quantity:
    """A(C) from [C/H]; without that from [Fe/H] + [C/Fe], whose errors count as independent."""

    def from_sum(table: pa.Table) -> Floats:
        values = {name: float_column(table, name) for name in ("FeH", "CFe")}
        return np.asarray(carbon_label("CH", values) + SOLAR_CARBON)

    def error_of_sum(table: pa.Table) -> Floats:
        return np.hypot(float_column(table, "FeH_err"), float_column(table, "CFe_err"))

    low, high = label("CH").low + SOLAR_CARBON, label("CH").high + SOLAR_CARBON
    direct = replace(column("CH", "A(C) (dex)", low, high, 0.05), value=_carbon_from_column)
    if "CH" in columns:
        return direct
    return replace(direct, value=from_sum, error=error_of_sum, needs=frozenset({"FeH", "CFe"}))


def _carbon_from_column(table: pa.Table) -> Floats:
    return float_column(table, "CH") + SOLAR_CARBON


def label_planes(columns: Collection[str]) -> list[Plane]:
    """The planes of labels: Kiel diagram, iron and carbon, iron and absolute carbon; those that exist."""
    teff, logg, feh, cfe = map(label_column, ("Teff", "logg", "FeH", "CFe"))
    planes = (
        Plane("Kiel diagram", teff, logg),
        Plane("carbon relative to iron", feh, cfe),
        Plane(f"absolute carbon, A(C) = [C/H] + {SOLAR_CARBON}", feh, absolute_carbon(columns)),
    )
    return existing(planes, columns)


def existing(planes: Iterable[Plane], columns: Collection[str]) -> list[Plane]:
    """Those planes whose columns are there."""
    return [plane for plane in planes if plane.x.needs | plane.y.needs <= set(columns)]


def read_stars(folder: str, columns: Collection[str]) -> Iterator[pa.Table]:
    """These columns of all stars of a catalog, tile by tile; columns that do not exist are left out.

    A damaged tile is an error that names it.
    """
    paths = [entry.path for entry in files.walk(files.join(folder, HATS, STARS, "dataset"))]
    paths = [path for path in paths if path.rpartition("/")[2].startswith("Npix=")]
    no_position = files.join(folder, NO_POSITION)
    for path in [*paths, *([no_position] if files.exists(no_position) else [])]:
        yield _read_tile(path, columns)


def _read_tile(path: str, columns: Collection[str]) -> pa.Table:
    try:
        with files.open_file(path) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            names = [name for name in file.schema_arrow.names if name in columns]
            return file.read(names, use_threads=False)
    except ConnectionError:
        raise  # the bucket does not answer: the file may be sound
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"report: {path}: damaged ({str(error).strip()}); run survey catalog with the same settings "
            "again, which makes the catalog anew, or put a copy back"
        ) from error


def count_stars(tables: Iterable[pa.Table], planes: Iterable[Plane]) -> dict[str, PlaneCounts]:
    """The stars of all tables, counted in each plane, by its name.

    A star with an unknown number is in no bin.
    """
    by_name = {plane.name: plane for plane in planes}
    counts = {name: np.zeros((plane.y.bins, plane.x.bins), np.int64) for name, plane in by_name.items()}
    for table in tables:
        for name, plane in by_name.items():
            x_N, y_N = plane.x.bin_of(table), plane.y.bin_of(table)
            cell_N = (y_N * plane.x.bins + x_N)[(x_N >= 0) & (y_N >= 0)]
            counts[name] += np.bincount(cell_N, minlength=counts[name].size).reshape(counts[name].shape)
    return {name: PlaneCounts(count_YX, *_edges(by_name[name])) for name, count_YX in counts.items()}


def _edges(plane: Plane) -> tuple[Floats, Floats]:
    x, y = (np.linspace(part.low, part.high, part.bins + 1) for part in (plane.x, plane.y))
    return x, y


def cropped(counts: PlaneCounts, x_N: Floats, y_N: Floats) -> PlaneCounts:
    """The part of a plane with most stars and with these points, in cells that suit the number of stars."""
    wanted = int(np.clip(2 * np.sqrt(counts.count_YX.sum()), FEWEST_BINS, MOST_BINS))
    count_YX, x_edges = _merged(counts.count_YX, counts.x_edges, x_N, wanted)
    count_XY, y_edges = _merged(count_YX.T, counts.y_edges, y_N, wanted)
    return PlaneCounts(count_XY.T, x_edges, y_edges)


def _merged(count_YX: Counts, edges: Floats, value_N: Floats, wanted: int) -> tuple[Counts, Floats]:
    """The shown columns of some counts, several joined to one, about as many as wanted, and their edges."""
    first, last = _shown_bins(count_YX.sum(0), edges, value_N)
    step = max(round((last - first) / wanted), 1)
    starts = np.arange(first, last, step)
    ends = np.minimum([*starts, starts[-1] + step], len(edges) - 1)
    return np.add.reduceat(count_YX[:, : ends[-1]], starts, axis=1), edges[ends]


def _shown_bins(count_B: Counts, edges: Floats, value_N: Floats) -> tuple[int, int]:
    """The first bin that is shown, and the one after the last."""
    value_N = value_N[np.isfinite(value_N)]
    ends: list[int] = []
    if total := count_B.sum():
        share_B = np.cumsum(count_B) / total
        tail = (1 - SHOWN_SHARE) / 2
        ends += np.searchsorted(share_B, [tail, 1 - tail]).tolist()
    if len(value_N):
        ends += (np.searchsorted(edges, [value_N.min(), value_N.max()], "right") - 1).tolist()
    if not ends:
        return 0, len(count_B)
    margin = max(round(0.06 * (max(ends) - min(ends))), 1)
    return max(min(ends) - margin, 0), min(max(ends) + 1 + margin, len(count_B))


def draw_plane(axis: Axes, plane: Plane, counts: PlaneCounts, table: pa.Table, color: str) -> None:
    """All stars as grey cells, and on top the stars of a table: points with errors, or contours if many."""
    x_N, y_N = plane.x.value(table), plane.y.value(table)
    shown = cropped(counts, x_N, y_N)
    draw_counts(axis, shown)
    known_N = np.isfinite(x_N) & np.isfinite(y_N)
    if known_N.sum() > MAX_POINTS:
        _contours(axis, plane, shown, table, color)
    else:
        axis.plot(x_N[known_N], y_N[known_N], "o", color=color, ms=4.5, mec="white", mew=0.4)
    set_axes(axis, plane, shown)
    if known_N.sum() <= MAX_POINTS:
        _errors(axis, x_N[known_N], y_N[known_N], *_both_errors(plane, table, known_N), color)


def set_axes(axis: Axes, plane: Plane, shown: PlaneCounts) -> None:
    """Title, names and ends of a plane's axes, which run as astronomers draw them."""
    axis.set(xlabel=plane.x.text, ylabel=plane.y.text, title=plane.title)
    axis.set(xlim=shown.x_edges[[0, -1]], ylim=shown.y_edges[[0, -1]])
    if plane.x.falls:
        axis.invert_xaxis()
    if plane.y.falls:
        axis.invert_yaxis()


def draw_counts(axis: Axes, counts: PlaneCounts) -> None:
    """The number of stars in each cell as a grey; no colour where there is none."""
    count_YX = np.ma.masked_equal(counts.count_YX, 0)
    norm = LogNorm(1, max(int(counts.count_YX.max(initial=0)), 2))
    axis.pcolormesh(counts.x_edges, counts.y_edges, count_YX, cmap=CROWD, norm=norm, rasterized=True)


def _both_errors(plane: Plane, table: pa.Table, known_N: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    x_error_N, y_error_N = (np.nan_to_num(part.error(table))[known_N] for part in (plane.x, plane.y))
    return x_error_N, y_error_N


def _errors(axis: Axes, x_N: Floats, y_N: Floats, x_error_N: Floats, y_error_N: Floats, color: str) -> None:
    """An error bar for each of few points; the median error in a corner if they are more."""
    if not len(x_N) or not (x_error_N.any() or y_error_N.any()):
        return
    if len(x_N) <= MAX_ERRORS:
        axis.errorbar(x_N, y_N, y_error_N, x_error_N, fmt="none", ecolor=color, elinewidth=0.7, alpha=0.5)
        return
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    x, y = left + 0.9 * (right - left), bottom + 0.9 * (top - bottom)
    errors = float(np.median(y_error_N)), float(np.median(x_error_N))
    axis.errorbar(x, y, *errors, fmt="none", ecolor=INK, elinewidth=1)
    below, offset = (0, -14), "offset points"
    axis.annotate("median\nerror", (x, y), below, textcoords=offset, ha="center", va="top", fontsize=7)


def _contours(axis: Axes, plane: Plane, shown: PlaneCounts, table: pa.Table, color: str) -> None:
    """Lines that hold so much of the stars of a table."""
    edges = shown.x_edges, shown.y_edges
    count_XY, _, _ = np.histogram2d(plane.x.value(table), plane.y.value(table), bins=edges)
    ordered = np.sort(count_XY.ravel())[::-1]
    share = np.cumsum(ordered) / max(ordered.sum(), 1)
    levels = sorted({float(ordered[np.searchsorted(share, level)]) for level in CONTOURS})
    middle = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    axis.contour(*middle, count_XY.T, levels=levels, colors=color, linewidths=1.2)
