"""Lists of known stars beside a catalog: which of its stars are known, and how many of the known ones it found again.

A list is a CSV, Parquet, FITS or VOTable with positions (degrees, or 10 13 34.7 and -2 07 57.9), on this machine or in a bucket. Stars within the
radius are one; distances are those of straight lines on the unit sphere, which know neither 0 h nor poles. Positions are of the epoch that either
side gives: what has moved farther is not found. Shapes: S stars of the catalog, R rows of all lists, one list after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey.catalog.visits import Flags, Floats
from survey.labelling.keys import angles, key_columns
from survey.labelling.star_id import chord, placed, unit_vectors
from survey.metrics.intervals import wilson
from survey.predict.output import Column, described
from survey.tables import cells
from survey.tables.label_table import open_table

RADIUS = 3.0
"""Arcsec: the width of a fibre."""
NAMES = ("name", "main_id", "object", "objname", "star", "simbad_identifier", "id")
"""What a list calls the column of its stars' names, best first; a catalogue's ids come after."""
EXACT = ("ra_hms", "dec_dms")
"""Columns that are taken where they are there: degrees beside them are often rounded."""
BLOCK = 1 << 20
"""So many stars are looked up at a time."""

COLUMNS: dict[str, Column] = {
    "known": ("bool", "in a list of known stars", "", "meta.code.member"),
    "known_list": ("string", "the list that the nearest known star is in", "", "meta.id;meta.table"),
    "known_name": ("string", "its name there", "", "meta.id;src"),
    "known_arcsec": ("float32", "its distance", "arcsec", "pos.angDistance"),
}

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("list", pa.string(), "the list of known stars"),
            ("search", pa.string(), "the candidates that they are looked for among"),
            ("stars", pa.int64(), "known stars with a position"),
            ("unplaced", pa.int64(), "known stars without one: left out"),
            ("observed", pa.int64(), "known stars that the catalog has, candidate or not"),
            ("found", pa.int64(), "of these, candidates"),
            ("recovery", pa.float64(), "found / observed; null where none was observed"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of its 95 % interval"),
        )
    ]
)


@dataclass(frozen=True)
class Known:
    """A list of known stars: names and positions in degrees; `unplaced` rows had none."""

    name: str
    names: pa.Array
    ra_R: Floats
    dec_R: Floats
    unplaced: int

    def __len__(self) -> int:
        return len(self.names)


def read(path: str) -> Known:
    """The list in a file."""
    table = open_table(path)
    exact = {name: found for name, found in zip(("ra", "dec"), map(table.has, EXACT), strict=True) if found}
    keys = key_columns(table, exact if len(exact) == 2 else {}, "auto")
    if not keys.ra or not keys.dec:
        raise ValueError(
            f"catalog: known={path}: no columns of positions, the columns are {', '.join(table.names[:60])}; name them ra and dec"
        )
    label = table.has(*NAMES) or keys.star
    columns = table.read([keys.ra, keys.dec, *([label] if label else [])])
    ra_R, dec_R = angles(columns, keys)
    placed_R = placed(ra_R, dec_R)
    if not placed_R.any():
        raise ValueError(
            f"catalog: known={path}: none of {len(placed_R):,} rows has a position in {keys.ra}, {keys.dec}; "
            "give degrees, or hours and degrees as 10 13 34.7 and -2 07 57.9"
        )
    names = _names(columns, label).filter(pa.array(placed_R))
    return Known(
        path.rstrip("/").rpartition("/")[2], names, ra_R[placed_R], dec_R[placed_R], int((~placed_R).sum())
    )


def _names(columns: pa.Table, label: str | None) -> pa.Array:
    """Names as the list has them, where it has none the number of the row."""
    numbers = pa.array([f"row {number}" for number in range(1, columns.num_rows + 1)], pa.string())
    return pc.coalesce(cells.text(columns[label].combine_chunks()), numbers) if label else numbers


@dataclass(frozen=True)
class Matched:
    """For each star of a catalog the nearest row of all lists, for each row the nearest star, -1 for none; distances in arcsec."""

    lists: tuple[Known, ...]
    row_S: NDArray[np.int32]
    arcsec_S: NDArray[np.float32]
    star_R: NDArray[np.int64]

    def beside(self, stars: pa.Table, start: int = 0) -> pa.Table:
        """Stars, those from this number on, with the columns of `COLUMNS`; as they are where there are no lists."""
        if not self.lists:
            return stars
        row_S = self.row_S[start : start + stars.num_rows]
        none_S = row_S < 0
        row = pa.array(row_S, mask=none_S)
        list_R = pa.array(np.repeat(np.arange(len(self.lists)), [len(one) for one in self.lists]))
        values = {
            "known": pa.array(~none_S),
            "known_list": pa.array([one.name for one in self.lists], pa.string()).take(list_R.take(row)),
            "known_name": pa.concat_arrays([one.names for one in self.lists]).take(row),
            "known_arcsec": pa.array(self.arcsec_S[start : start + stars.num_rows], mask=none_S),
        }
        for name, column in COLUMNS.items():
            stars = stars.append_column(described(name, column), values[name])
        return stars

    def recovery(self, candidates: Mapping[str, Flags]) -> pa.Table:
        """How many stars of each list the catalog has, and how many of these are candidates of each search; its columns are those of `SCHEMA`."""
        rows, start = [], 0
        for one in self.lists:
            star_R = self.star_R[start : start + len(one)]
            start += len(one)
            star_R = star_R[star_R >= 0]
            for search, chosen_S in candidates.items():
                found, observed = int(chosen_S[star_R].sum()), len(star_R)
                low, high = (float(bound) if observed else None for bound in wilson(found, observed))
                share = found / observed if observed else None
                row = (one.name, search, len(one), one.unplaced, observed, found, share, low, high)
                rows.append(dict(zip(SCHEMA.names, row, strict=True)))
        return pa.Table.from_pylist(rows, SCHEMA)


def matched(lists: Sequence[Known], ra_S: Floats, dec_S: Floats, radius: float = RADIUS) -> Matched:
    """The stars of a catalog beside lists of known stars, within so many arcsec; a star without a position is near none."""
    ra_R, dec_R = (
        np.concatenate([np.empty(0), *(getattr(one, name) for one in lists)]) for name in ("ra_R", "dec_R")
    )
    row_S, arcsec_S = np.full(len(ra_S), -1, np.int32), np.full(len(ra_S), np.nan, np.float32)
    star_R = np.full(len(ra_R), -1, np.int64)
    if len(ra_R):
        known = unit_vectors(ra_R, dec_R)
        tree = cKDTree(known)
        for start in range(0, len(ra_S), BLOCK):
            part = slice(start, start + BLOCK)
            row_S[part], arcsec_S[part] = _nearest(tree, ra_S[part], dec_S[part], radius)
        hit_S = np.flatnonzero(row_S >= 0)
        if hit_S.size:
            far_R, nearest_R = cKDTree(unit_vectors(ra_S[hit_S], dec_S[hit_S])).query(
                known, distance_upper_bound=_reach(radius)
            )
            near_R = np.isfinite(far_R)
            star_R[near_R] = hit_S[nearest_R[near_R]]
    return Matched(tuple(lists), row_S, arcsec_S, star_R)


def _nearest(tree: cKDTree, ra_S: Floats, dec_S: Floats, radius: float) -> tuple[NDArray[np.int32], Floats]:
    """The nearest point of a tree for each star, -1 where none is within the radius, and how far it is."""
    row_S, arcsec_S = np.full(len(ra_S), -1, np.int32), np.full(len(ra_S), np.nan)
    placed_S = np.flatnonzero(placed(ra_S, dec_S))
    far_S, nearest_S = tree.query(
        unit_vectors(ra_S[placed_S], dec_S[placed_S]), distance_upper_bound=_reach(radius)
    )
    hit_S = np.isfinite(far_S)
    row_S[placed_S[hit_S]] = nearest_S[hit_S]
    arcsec_S[placed_S[hit_S]] = np.degrees(2 * np.arcsin(far_S[hit_S] / 2)) * 3600
    return row_S, arcsec_S


def _reach(radius: float) -> float:
    """The chord of a radius, itself included."""
    return float(np.nextafter(chord(radius), 1))
