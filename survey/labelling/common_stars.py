"""Stars that several tables have, each with names of its own. Shapes: N rows of all tables, R of them."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from survey.labelling.star_id import (
    Codes,
    Floats,
    chord,
    components,
    connect,
    friends_of_friends,
    has_position,
    unit_vectors,
)

MOVED = 10.0
"""Rows of two tables farther apart than this (arcsec) are not one star, whatever their names. Nearly all
stars move less in twenty years, and stars that two surveys count from 1 are rarely so near by chance."""


def common_stars(
    table_N: Codes,
    star_N: Codes,
    names: Sequence[Codes],
    ra: Floats,
    dec: Floats,
    same: Sequence[Codes] = (),
) -> Codes:
    """A code for each row: the same for rows of one star.

    `star_N` are the stars of each table as it knows them, which stay together. Rows of different tables are
    of one star if they share a name and are not too far apart (`MOVED`), if they lie within 3 arcsec, or if
    they share a code that leaves no doubt (`same`).
    """
    own_N = np.where(star_N >= 0, star_N * (table_N.max(initial=0) + 1) + table_N, -1)
    near = (without_distant(codes_N, ra, dec) for codes_N in (star_N, *names))
    return connect(own_N, *near, friends_of_friends(ra, dec), *same)


def without_distant(codes_N: Codes, ra: Floats, dec: Floats, arcsec: float = MOVED) -> Codes:
    """The codes, but of rows with one code those that are farther apart than this have different ones.

    Where rows of a code are far apart, those of unknown position belong to none of them.
    """
    rows = np.flatnonzero((codes_N >= 0) & has_position(ra, dec))
    points = unit_vectors(ra[rows], dec[rows])
    first = np.empty(codes_N.max(initial=-1) + 1, np.int64)
    first[codes_N[rows[::-1]]] = np.arange(len(rows))[::-1]
    far_R = np.linalg.norm(points - points[first[codes_N[rows]]], axis=1) > chord(arcsec)
    if not far_R.any():
        return codes_N
    is_wide = np.zeros(len(first), bool)
    is_wide[codes_N[rows[far_R]]] = True
    rows = rows[is_wide[codes_N[rows]]]
    place_R = np.unique(ra[rows] % 360 + 1j * dec[rows], return_inverse=True)[1]
    _, one, distinct_R = np.unique(
        codes_N[rows] * (place_R.max() + 1) + place_R, return_index=True, return_inverse=True
    )
    # with the code as a fourth coordinate, rows of different codes are never near each other
    points = np.column_stack([unit_vectors(ra[rows[one]], dec[rows[one]]), codes_N[rows[one]]])
    pairs = cKDTree(points, balanced_tree=False).query_pairs(chord(arcsec), output_type="ndarray")
    near_N = codes_N.copy()
    near_N[rows] = len(first) + components(len(one), pairs)[distinct_R]
    return near_N
