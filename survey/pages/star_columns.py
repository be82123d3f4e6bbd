"""The stars of a catalog as columns of 16 bits, for planes in a browser: a million of them in some 12 MB.

Of more stars than wanted every k-th one is taken; a catalog is ordered along the sky, so the sample is even.
Shapes: N stars.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.visits import float_column
from survey.labels import carbon_label
from survey.pages.html import Attachments
from survey.pages.page_text import axis_text, digits_of
from survey.pages.spectra_code import squeeze
from survey.reports.star_planes import SOLAR_CARBON, read_stars

Floats = NDArray[np.float64]
MISSING = 65535
SHOWN_SHARE = 0.999
"""Axes leave out the stars at both ends that are not among this share of the middle."""


def absolute_carbon(table: pa.Table) -> Floats:
    """A(C) = [C/H] + 8.43; [C/H] is [Fe/H] + [C/Fe] where it is not predicted itself."""
    if "CH" in table.column_names:
        return float_column(table, "CH") + SOLAR_CARBON
    values = {name: float_column(table, name) for name in ("FeH", "CFe")}
    return np.asarray(carbon_label("CH", values) + SOLAR_CARBON)


@dataclass(frozen=True)
class StarColumn:
    """A number of each star: its name, its text, the smallest step that is kept, and the columns it needs."""

    name: str
    text: str
    step: float
    digits: int
    needs: tuple[str, ...]
    falls: bool = False
    value: Callable[[pa.Table], Floats] | None = None

    def values(self, table: pa.Table) -> Floats:
        """The number of each star of a table; NaN where it is unknown."""
        return self.value(table) if self.value else float_column(table, self.name)


def star_columns(available: Iterable[str]) -> list[StarColumn]:
    """The columns that planes can show, as far as a catalog has them."""
    names = set(available)
    columns = [
        StarColumn("ra", "RA (deg)", 0.006, 3, ("ra",), falls=True),
        StarColumn("dec", "Dec (deg)", 0.003, 3, ("dec",)),
        *(
            StarColumn(
                name,
                axis_text(name),
                5.0 if name == "Teff" else 0.01,
                digits_of(name),
                (name,),
                falls=name in ("Teff", "logg"),
            )
            for name in ("Teff", "logg", "FeH", "CFe")
        ),
        StarColumn("AC", "A(C) (dex)", 0.01, 2, ("FeH", "CFe"), value=absolute_carbon),
        StarColumn("snr_total", "S/N", 0.5, 0, ("snr_total",)),
    ]
    return [column for column in columns if set(column.needs) <= names]


PLANES = (
    ("Kiel diagram", "Teff", "logg"),
    ("Carbon and iron", "FeH", "CFe"),
    ("Absolute carbon", "FeH", "AC"),
    ("Sky", "ra", "dec"),
)
"""The planes of a page: title, across, upwards."""


@dataclass(frozen=True)
class SampledStars:
    """Columns of the stars of a page, by name, and the number of stars that they stand for."""

    columns: Sequence[StarColumn]
    values: dict[str, Floats]
    of: int

    @property
    def rows(self) -> int:
        """The number of stars in the columns."""
        return len(next(iter(self.values.values()), ()))


def sample_stars(folder: str, available: Iterable[str], stars: int, most: int) -> SampledStars:
    """At most so many stars of a catalog of `stars` stars."""
    columns = star_columns(available)
    needed = {name for column in columns for name in (*column.needs, "CH")}
    return collect(columns, read_stars(folder, needed), max(1, -(-stars // most)))


def collect(columns: Sequence[StarColumn], tables: Iterable[pa.Table], every: int = 1) -> SampledStars:
    """The columns of every k-th row of some tables."""
    parts: dict[str, list[Floats]] = {column.name: [] for column in columns}
    start = 0
    for table in tables:
        taken = table.take(pa.array(np.arange(-start % every, table.num_rows, every)))
        start += table.num_rows
        for column in columns:
            parts[column.name].append(column.values(taken))
    values = {name: np.concatenate([np.zeros(0), *arrays]) for name, arrays in parts.items()}
    return SampledStars(columns, values, start)


def attach_stars(attachments: Attachments, name: str, stars: SampledStars) -> None:
    """Put the columns into a page."""
    about, parts = [], []
    for column in stars.columns:
        value_N = stars.values[column.name]
        known_N = np.isfinite(value_N)
        low = float(np.min(value_N[known_N], initial=np.inf)) if known_N.any() else 0.0
        span = float(np.max(value_N[known_N], initial=-np.inf)) - low if known_N.any() else 0.0
        step = max(column.step, span / (MISSING - 1))
        level_N = np.where(known_N, np.round((np.where(known_N, value_N, low) - low) / step), MISSING)
        parts += _shuffled(level_N.astype(np.uint16))
        about.append(
            {"name": column.name, "text": column.text, "digits": column.digits, "low": low, "step": step}
        )
    attachments.add_json(f"{name}-about", {"rows": stars.rows, "of": stars.of, "columns": about})
    attachments.add_packed(name, squeeze(b"".join(parts)))


def _shuffled(level_N: NDArray[np.uint16]) -> list[bytes]:
    """Differences from star to star without a sign: all low bytes, then all high bytes."""
    change_N = np.diff(level_N, prepend=np.uint16(0)).astype(np.int16).astype(np.int32)
    unsigned_N = ((change_N << 1) ^ (change_N >> 31)).astype("<u2")
    return [(unsigned_N & 0xFF).astype(np.uint8).tobytes(), (unsigned_N >> 8).astype(np.uint8).tobytes()]


def plane_axes(
    stars: SampledStars, *others: dict[str, Floats], wanted: Sequence[tuple[str, str, str]] = PLANES
) -> list[dict[str, Any]]:
    """The planes whose columns exist, with the ends of their axes; `others` are stars to keep in sight."""
    by_name = {column.name: column for column in stars.columns}
    planes = []
    for title, x, y in wanted:
        if x not in by_name or y not in by_name:
            continue
        axes = []
        for name in (x, y):
            ends = _ends(stars.values[name], [values[name] for values in others if name in values])
            if ends is None:
                break
            column = by_name[name]
            low, high = ends
            axes.append(
                {"column": name, "text": column.text, "falls": column.falls, "low": low, "high": high}
            )
        if len(axes) == 2:
            planes.append({"title": title, "x": axes[0], "y": axes[1]})
    return planes


def _ends(value_N: Floats, others: Sequence[Floats]) -> tuple[float, float] | None:
    """The ends of an axis: most of the stars, all of the others, and a margin."""
    known_N = value_N[np.isfinite(value_N)]
    ends: list[float] = []
    if len(known_N):
        tail = (1 - SHOWN_SHARE) / 2 * 100
        ends += np.percentile(known_N, [tail, 100 - tail]).tolist()
    for other in others:
        known = other[np.isfinite(other)]
        ends += [float(known.min()), float(known.max())] if len(known) else []
    if not ends:
        return None
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin
