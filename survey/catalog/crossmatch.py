"""Lists of known stars and a catalog: which of its stars are known, and how many known stars are candidates.

A list is a CSV, Parquet, FITS or VOTable with positions (degrees, or 10 13 34.7 and -2 07 57.9), on this
machine or in a bucket. Two stars within the radius are the same star. Distances are straight lines between
points on the unit sphere, so 0 h and the poles need no care. Positions are used as given, without proper
motion: a star that has moved farther than the radius is not found. Shapes: S stars of the catalog, R rows
of all lists, one list after the other.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey.answers import ColumnSpec
from survey.catalog.visits import Flags, Floats
from survey.labelling.keys import key_columns, positions
from survey.labelling.star_id import chord, friends_of_friends, has_position, unit_vectors
from survey.metrics.intervals import wilson
from survey.tables.columns import described_field
from survey.tables.ids import id_texts
from survey.tables.read import open_table

NAME_COLUMNS = ("name", "main_id", "object", "objname", "star", "simbad_identifier", "id")
"""What lists call the column with the names of stars, best first; ids of catalogues come after."""
EXACT_POSITION = ("ra_hms", "dec_dms")
"""Columns that are preferred: the degrees next to them are often rounded."""
BLOCK = 1 << 20
"""Stars that are looked up at a time."""

COLUMNS: dict[str, ColumnSpec] = {
    "is_known": ("bool", "the star is in a list of known stars", "", "meta.code.member"),
    "known_list": ("string", "the list with the nearest known star", "", "meta.id;meta.table"),
    "known_name": ("string", "the name of the star in that list", "", "meta.id;src"),
    "known_arcsec": ("float32", "the distance to the known star", "arcsec", "pos.angDistance"),
}

SCHEMA = pa.schema(
    [
        pa.field(name, type_, metadata={"description": description})
        for name, type_, description in (
            ("list", pa.string(), "the list of known stars"),
            ("search", pa.string(), "the list of candidates"),
            ("stars", pa.int64(), "known stars with a position; rows within the radius are one star"),
            ("no_position", pa.int64(), "rows without a position; they are left out"),
            ("observed", pa.int64(), "known stars that are in the catalog, candidates or not"),
            ("recovered", pa.int64(), "known stars that are candidates"),
            ("recovery", pa.float64(), "recovered / observed; null if none is observed"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of its 95 % interval"),
        )
    ]
)


@dataclass(frozen=True)
class CrossmatchList:
    """A list of known stars: names and positions in degrees; `no_position` counts the rows without one."""

    name: str
    names: pa.Array
    ra_R: Floats
    dec_R: Floats
    no_position: int

    def __len__(self) -> int:
        return len(self.names)


def read_list(path: str) -> CrossmatchList:
    """The list in a file."""
    table = open_table(path)
    exact = [table.find(name) for name in EXACT_POSITION]
    preferred = {name: column for name, column in zip(("ra", "dec"), exact, strict=True) if column}
    keys = key_columns(table, preferred if len(preferred) == 2 else {}, "auto")
    if not keys.ra or not keys.dec:
        raise ValueError(
            f"catalog: known: {path}: no columns with positions among {', '.join(table.names[:60])}; "
            "name them ra and dec"
        )
    name_column = table.find(*NAME_COLUMNS) or keys.star
    columns = table.read([keys.ra, keys.dec, *([name_column] if name_column else [])])
    ra_R, dec_R = positions(columns, keys)
    known_R = has_position(ra_R, dec_R)
    if not known_R.any():
        raise ValueError(
            f"catalog: known: {path}: none of {len(known_R):,} rows has a position in {keys.ra}, {keys.dec}; "
            "give degrees, or hours and degrees as 10 13 34.7 and -2 07 57.9 (or are they swapped?)"
        )
    names = _names(columns, name_column).filter(pa.array(known_R))
    file_name = path.rstrip("/").rpartition("/")[2]
    return CrossmatchList(file_name, names, ra_R[known_R], dec_R[known_R], int((~known_R).sum()))


def _names(columns: pa.Table, name_column: str | None) -> pa.Array:
    """The names in the list; the number of the row if there is none, or an id that lost digits."""
    numbers = pa.array([f"row {number}" for number in range(1, columns.num_rows + 1)], pa.string())
    if not name_column:
        return numbers
    return pc.coalesce(id_texts(columns[name_column].combine_chunks())[0], numbers)


@dataclass(frozen=True)
class Crossmatch:
    """For each star of a catalog the nearest row of all lists, and for each row the nearest star.

    -1 means that none is within the radius. Distances are in arcsec.
    """

    lists: tuple[CrossmatchList, ...]
    row_S: NDArray[np.int32]
    arcsec_S: NDArray[np.float32]
    star_R: NDArray[np.int64]
    radius: float

    def add_columns(self, stars: pa.Table, start: int = 0) -> pa.Table:
        """Stars from number `start` on with the columns of `COLUMNS`; unchanged if there are no lists."""
        if not self.lists:
            return stars
        row_S = self.row_S[start : start + stars.num_rows]
        unknown_S = row_S < 0
        row = pa.array(row_S, mask=unknown_S)
        list_R = pa.array(np.repeat(np.arange(len(self.lists)), [len(list_) for list_ in self.lists]))
        list_names = pa.array([list_.name for list_ in self.lists], pa.string())
        values = {
            "is_known": pa.array(~unknown_S),
            "known_list": list_names.take(list_R.take(row)),
            "known_name": pa.concat_arrays([list_.names for list_ in self.lists]).take(row),
            "known_arcsec": pa.array(self.arcsec_S[start : start + stars.num_rows], mask=unknown_S),
        }
        for name, column in COLUMNS.items():
            stars = stars.append_column(described_field(name, *column), values[name])
        return stars

    def recovery(self, candidates: Mapping[str, Flags]) -> pa.Table:
        """How many stars of each list are in the catalog, and how many are candidates (see `SCHEMA`)."""
        rows, start = [], 0
        for list_ in self.lists:
            star_R = self.star_R[start : start + len(list_)]
            start += len(list_)
            # a list may have several rows of a star
            observed_S = np.unique(star_R[star_R >= 0])
            stars = int(friends_of_friends(list_.ra_R, list_.dec_R, self.radius).max(initial=-1)) + 1
            for search, listed_S in candidates.items():
                recovered, observed = int(listed_S[observed_S].sum()), len(observed_S)
                low, high = (float(bound) if observed else None for bound in wilson(recovered, observed))
                share = recovered / observed if observed else None
                counts = (max(stars, observed), list_.no_position, observed, recovered)
                rows.append(
                    dict(zip(SCHEMA.names, (list_.name, search, *counts, share, low, high), strict=True))
                )
        return pa.Table.from_pylist(rows, SCHEMA)


def crossmatch(lists: Sequence[CrossmatchList], ra_S: Floats, dec_S: Floats, radius: float) -> Crossmatch:
    """The stars of a catalog matched with lists of known stars; a star without a position matches none."""
    ra_R = np.concatenate([np.empty(0), *(list_.ra_R for list_ in lists)])
    dec_R = np.concatenate([np.empty(0), *(list_.dec_R for list_ in lists)])
    row_S, arcsec_S = nearest_rows(ra_R, dec_R, ra_S, dec_S, radius)
    star_R = np.full(len(ra_R), -1, np.int64)
    matched_S = np.flatnonzero(row_S >= 0)
    if matched_S.size:
        star_tree = cKDTree(unit_vectors(ra_S[matched_S], dec_S[matched_S]))
        point_R3 = unit_vectors(ra_R, dec_R)
        distance_R, nearest_R = star_tree.query(point_R3, distance_upper_bound=_largest_chord(radius))
        near_R = np.isfinite(distance_R)
        star_R[near_R] = matched_S[nearest_R[near_R]]
    _warn_of_no_match(lists, star_R, ra_S, dec_S, radius)
    return Crossmatch(tuple(lists), row_S, arcsec_S, star_R, radius)


def _warn_of_no_match(
    lists: Sequence[CrossmatchList],
    star_R: NDArray[np.int64],
    ra_S: Floats,
    dec_S: Floats,
    radius: float,
) -> None:
    """Say which lists have no star in the catalog, and whether they have one with ra and dec swapped."""
    start = 0
    for list_ in lists:
        matched = int((star_R[start : start + len(list_)] >= 0).sum())
        start += len(list_)
        if matched:
            continue
        swapped = int((nearest_rows(list_.dec_R, list_.ra_R, ra_S, dec_S, radius)[0] >= 0).sum())
        hint = f"if it is of this part of the sky, give a larger radius= than {radius:g} arcsec"
        if swapped:
            hint = f"{swapped:,} are with ra and dec swapped: rename the two columns of the list"
        text = f"none of its {len(list_):,} stars is in the catalog; {hint}"
        logging.getLogger(__name__).warning("catalog: known: %s: %s", list_.name, text)


def nearest_rows(
    ra_R: Floats, dec_R: Floats, ra_S: Floats, dec_S: Floats, radius: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest row for each star and its distance in arcsec; -1 and NaN if none is within the radius."""
    row_S, arcsec_S = np.full(len(ra_S), -1, np.int32), np.full(len(ra_S), np.nan, np.float32)
    known_R = np.flatnonzero(has_position(ra_R, dec_R))
    if known_R.size:
        tree = cKDTree(unit_vectors(ra_R[known_R], dec_R[known_R]))
        for start in range(0, len(ra_S), BLOCK):
            block = slice(start, start + BLOCK)
            found_S, arcsec_S[block] = _nearest(tree, ra_S[block], dec_S[block], radius)
            row_S[block] = np.where(found_S < 0, -1, known_R[found_S])
    return row_S, arcsec_S


def _nearest(tree: cKDTree, ra_S: Floats, dec_S: Floats, radius: float) -> tuple[NDArray[np.int32], Floats]:
    """The nearest point of a tree for each star and its distance; -1 and NaN if none is within the radius."""
    row_S, arcsec_S = np.full(len(ra_S), -1, np.int32), np.full(len(ra_S), np.nan)
    known_S = np.flatnonzero(has_position(ra_S, dec_S))
    distance_S, nearest_S = tree.query(
        unit_vectors(ra_S[known_S], dec_S[known_S]), distance_upper_bound=_largest_chord(radius)
    )
    near_S = np.isfinite(distance_S)
    row_S[known_S[near_S]] = nearest_S[near_S]
    arcsec_S[known_S[near_S]] = np.degrees(2 * np.arcsin(distance_S[near_S] / 2)) * 3600
    return row_S, arcsec_S


def _largest_chord(radius: float) -> float:
    """The chord of a radius in arcsec, the radius itself included."""
    return float(np.nextafter(chord(radius), 1))
