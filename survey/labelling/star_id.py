"""The star of each spectrum, so that all visits of a star stay together.

Spectra are of the same star if they share an id of a catalogue or lie within 3 arcsec of each other,
directly or through other visits: one visit may have the Gaia id, another only its position. Two ids within
3 arcsec are one star, because a fibre of that width sees both. The name of a star is the smallest of its ids;
without ids, the smallest of its positions; without positions, its visit. So the name does not depend on the
order of the rows, nor on the spectra of other stars. Shapes: N spectra, S stars.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from survey.sources.naming import namings
from survey.tables import cells
from survey.tables.ids import id_texts

ARCSEC = 3.0
"""Positions closer to each other than this belong to one star."""

CROWD = 16
"""With more positions than this in a cell, not all their pairs are looked at."""
CELLS = 1.8
"""Cells in a radius: the diagonal of a cell is shorter than the radius by 4 %."""
MOST_CELLS = 2.0**25
"""Cells from the middle of the sphere to its surface, at most: their numbers are exact."""

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
"""A whole number for each row. Rows with the same number belong together; -1 belongs to nothing."""


def clean_ids(column: pa.Array, name: str = "") -> pa.Array:
    """Ids of a catalogue as text, without the survey's prefix and without `.0`; null where there is no id.

    A floating-point number that is too large for all its digits is no id: it would be that of several stars.
    `name` is that of the column, for the warning about such numbers.
    """
    texts, rounded = id_texts(column)
    if rounded.count:
        logging.getLogger(__name__).warning("stars: %s", rounded.message(name))
    prefixes = "|".join(naming.star_prefix for naming in namings() if naming.star_prefix)
    texts = pc.replace_substring_regex(texts, rf"^(?:{prefixes})\s+", "")
    texts = pc.replace_substring_regex(texts, r"^(\d+)\.0+$", r"\1")
    return pc.if_else(pc.is_in(texts, pa.array([*cells.MISSING, "0", "-1"])), None, texts)


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Points [N, 3] on the unit sphere, from degrees; their distances are right at 0 h and at the poles."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def chord(arcsec: float) -> float:
    """The straight distance of two points on the unit sphere that are this angle apart."""
    return float(2 * np.sin(np.radians(arcsec / 3600) / 2))


def has_position(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Where a position is known; headers write exactly 0, 0 for an unknown one."""
    known_N: NDArray[np.bool_] = (np.abs(dec) <= 90) & np.isfinite(ra) & ~((ra == 0) & (dec == 0))
    return known_N


def friends_of_friends(ra: Floats, dec: Floats, arcsec: float = ARCSEC) -> Codes:
    """One code for positions within this angle of each other, directly or through others; -1 if unknown."""
    codes = np.full(len(ra), -1, np.int64)
    known = np.flatnonzero(has_position(ra, dec))
    if not known.size:
        return codes
    # complex numbers are sorted many times faster than rows of two numbers
    distinct, distinct_index = np.unique(ra[known] % 360 + 1j * dec[known], return_inverse=True)
    pairs = _near_pairs(unit_vectors(distinct.real, distinct.imag), chord(arcsec))
    codes[known] = components(len(distinct), pairs)[distinct_index]
    return codes


def _near_pairs(points: Floats, radius: float) -> NDArray[np.int64]:
    """Pairs of points [N, 3] within the radius: all of them, or in crowds enough to connect the same points.

    Thousands of visits of one star at slightly different positions would have millions of pairs.
    """
    crowds = _crowds(points, radius)
    if not crowds:
        tree = cKDTree(points, balanced_tree=False)
        return np.asarray(tree.query_pairs(radius, output_type="ndarray"), np.int64)
    inside = np.sort(np.concatenate(crowds))
    outside = np.delete(np.arange(len(points)), inside)
    tree = cKDTree(points[outside], balanced_tree=False)
    edges = tree.sparse_distance_matrix(cKDTree(points[inside]), radius, output_type="ndarray")
    found = [outside[tree.query_pairs(radius, output_type="ndarray")]]
    found += [np.stack([outside[edges["i"]], inside[edges["j"]]], axis=1)]
    found += [np.stack([rows[1:], np.full(len(rows) - 1, rows[0])], axis=1) for rows in crowds]
    trees = [cKDTree(points[rows]) for rows in crowds]
    first_points = cKDTree(points[[rows[0] for rows in crowds]])
    for one, other in first_points.query_pairs(3 * radius):  # two cells and the radius are less
        distance, nearest = trees[one].query(points[crowds[other]])
        best = distance.argmin()
        if distance[best] <= radius:
            found.append(np.array([[crowds[one][nearest[best]], crowds[other][best]]]))
    return np.concatenate(found)


def _crowds(points: Floats, radius: float) -> list[NDArray[np.int64]]:
    """The points of each cell of space with more than `CROWD`: all are within the radius of each other."""
    if CELLS / radius > MOST_CELLS:
        return []
    x, y, z = np.floor(points.T * (CELLS / radius))
    cell_N = x + 1j * (2 * MOST_CELLS * y + z)
    in_order = np.sort(cell_N)
    crowded = np.unique(in_order[CROWD:][in_order[CROWD:] == in_order[:-CROWD]])
    if not crowded.size:
        return []
    rows = np.flatnonzero(np.isin(cell_N, crowded))
    rows = rows[np.argsort(cell_N[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(cell_N[rows])) + 1)


def encode(texts: pa.Array) -> tuple[Codes, pa.Array]:
    """A code for each text, -1 for null, and the text of each code."""
    encoded = pc.dictionary_encode(texts)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary


def identify(id_columns: Sequence[pa.Array], ra: Floats, dec: Floats, visit: pa.Array) -> NDArray[np.object_]:
    """The name of the star of each spectrum; ids of earlier columns are preferred as names."""
    encoded = [encode(clean_ids(column)) for column in id_columns]
    star_N = connect(*(codes for codes, _ in encoded), friends_of_friends(ra, dec))
    return np.asarray(name_stars(star_N, encoded, ra, dec, visit)[star_N], object)


def connect(*codes: Codes) -> Codes:
    """One code, counted from 0, for rows that share a code of any kind, directly or through other rows."""
    return components(len(codes[0]), np.concatenate([_links(codes_N) for codes_N in codes]))


def name_stars(
    star_N: Codes, encoded_ids: Sequence[tuple[Codes, pa.Array]], ra: Floats, dec: Floats, visit: pa.Array
) -> NDArray[np.object_]:
    """The name of each star, by its code; `encoded_ids` holds its spectra's ids, the preferred kind first."""
    name_S = np.full(star_N.max(initial=-1) + 1, None, object)
    unnamed_S = np.ones(len(name_S), bool)
    for codes, texts in encoded_ids:
        _name(name_S, unnamed_S, star_N, codes, texts)
    _name(name_S, unnamed_S, star_N, *_encode_positions(ra, dec, has_position(ra, dec) & unnamed_S[star_N]))
    if unnamed_S.any():
        codes, texts = encode(pc.if_else(pa.array(unnamed_S[star_N]), visit, None))
        _name(name_S, unnamed_S, star_N, codes, pc.binary_join_element_wise("visit", texts, " "))
    if unnamed_S.any():
        raise ValueError(
            f"stars: {int(unnamed_S[star_N].sum())} spectra have neither id nor position nor visit; "
            "give join.star=, a column that identifies the star"
        )
    return name_S


def components(size: int, pairs: NDArray[np.int64]) -> Codes:
    """The connected component of each of `size` items, given the pairs that are connected."""
    links = csr_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (size, size))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _links(codes: Codes) -> NDArray[np.int64]:
    """Pairs of rows: each row of a code, and the first row of that code."""
    rows = np.flatnonzero(codes >= 0)
    first = np.empty(codes.max(initial=-1) + 1, np.int64)
    first[codes[rows[::-1]]] = rows[::-1]
    # a quarter of a survey's rows; leaving out the first ones halves the memory
    later = rows[first[codes[rows]] != rows]
    return np.stack([later, first[codes[later]]], axis=1)


def _encode_positions(ra: Floats, dec: Floats, wanted_N: NDArray[np.bool_]) -> tuple[Codes, pa.Array]:
    """Positions as text, rounded to 0.36 arcsec."""
    codes = np.full(len(ra), -1, np.int64)
    rounded = np.round((ra[wanted_N] % 360 + 1j * dec[wanted_N]) * 1e4)
    steps, codes[wanted_N] = np.unique(rounded, return_inverse=True)
    texts = [f"position {step.real / 1e4:08.4f}{step.imag / 1e4:+08.4f}" for step in steps.tolist()]
    return codes, pa.array(texts, pa.string())


def _name(
    name_S: NDArray[np.object_], unnamed_S: NDArray[np.bool_], star_N: Codes, codes: Codes, texts: pa.Array
) -> None:
    """Names the stars that have no name yet by the smallest text of their spectra."""
    rows = np.flatnonzero((codes >= 0) & unnamed_S[star_N])
    if not rows.size:
        return
    rank, text = np.empty(len(texts), np.int64), texts.to_numpy(zero_copy_only=False)
    order = pc.sort_indices(texts).to_numpy()
    rank[order] = np.arange(len(texts))
    smallest_S = np.full(len(name_S), len(texts), np.int64)
    np.minimum.at(smallest_S, star_N[rows], rank[codes[rows]])
    is_named_S = smallest_S < len(texts)
    name_S[is_named_S] = text[order[smallest_S[is_named_S]]]
    unnamed_S[is_named_S] = False
