"""Which star a spectrum is of, so that all visits of a star stay together.

Spectra are of one star where they share a catalogue's id or lie within 3 arcsec of each other, also by way of further visits: one visit may
know the Gaia id and another only where it looked. Two ids within 3 arcsec become one star, for a fibre of that width sees both. The name is
the smallest of the star's ids, where there is none the smallest of its positions, where there is none the visit. So it depends on no order
of rows, and on no spectra but those of the star itself.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from survey.tables import cells

ARCSEC = 3.0
"""Positions nearer to each other than this are one star's."""

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
"""One whole number for each row; equal numbers belong together, -1 belongs to nothing."""


def ids(column: pa.Array) -> pa.Array:
    """A catalogue's ids as text: no ``LAMOST`` before them, whole numbers without ``.0``; what stands for none is null."""
    texts = (
        pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        if not pa.types.is_floating(column.type)
        else cells.text(column)
    )
    texts = pc.replace_substring_regex(
        pc.replace_substring_regex(texts, r"^LAMOST\s+", ""), r"^(\d+)\.0+$", r"\1"
    )
    return pc.if_else(pc.is_in(texts, pa.array([*cells.MISSING, "0", "-1"])), None, texts)


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Points on the unit sphere [N, 3] of positions in degrees; distances between them know neither 0 h nor poles."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def chord(arcsec: float) -> float:
    """The straight distance on the unit sphere of an angle."""
    return float(2 * np.sin(np.radians(arcsec / 3600) / 2))


def placed(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Where a position is known; exactly 0, 0 is how a header says nothing."""
    found: NDArray[np.bool_] = (np.abs(dec) <= 90) & np.isfinite(ra) & ~((ra == 0) & (dec == 0))
    return found


def near(ra: Floats, dec: Floats, arcsec: float = ARCSEC) -> Codes:
    """Positions within so many arcsec of each other, also by way of others between them, get one code; unknown ones -1."""
    codes = np.full(len(ra), -1, np.int64)
    known = np.flatnonzero(placed(ra, dec))
    if not known.size:
        return codes
    places, place = np.unique(
        ra[known] % 360 + 1j * dec[known], return_inverse=True
    )  # many times faster than rows of two
    pairs = cKDTree(unit_vectors(places.real, places.imag), balanced_tree=False).query_pairs(
        chord(arcsec), output_type="ndarray"
    )
    codes[known] = _joined(len(places), pairs)[place]
    return codes


def codes_of(texts: pa.Array) -> tuple[Codes, pa.Array]:
    """A code for each text, -1 for null, and the texts by code."""
    encoded = pc.dictionary_encode(texts)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(
        np.int64
    ), encoded.dictionary


def identities(
    id_columns: Sequence[pa.Array], ra: Floats, dec: Floats, visit: pa.Array
) -> NDArray[np.object_]:
    """The name of the star of each spectrum; ids in the earlier columns give the name before those in later ones."""
    coded = [codes_of(ids(column)) for column in id_columns]
    star = joined(*(codes for codes, _ in coded), near(ra, dec))
    return np.asarray(names(star, coded, ra, dec, visit)[star], object)


def joined(*kinds: Codes) -> Codes:
    """Rows that share a code of any kind, also by way of further rows, get one code; all from 0 on are used."""
    return _joined(len(kinds[0]), np.concatenate([_links(codes) for codes in kinds]))


def names(
    star: Codes, coded: Sequence[tuple[Codes, pa.Array]], ra: Floats, dec: Floats, visit: pa.Array
) -> NDArray[np.object_]:
    """The name of each star, by its code; `coded` are codes and texts of its spectra's ids, those that name it first come first."""
    found = np.full(star.max(initial=-1) + 1, None, object)
    bare = np.ones(len(found), bool)
    for codes, words in coded:
        _name(found, bare, star, codes, words)
    _name(found, bare, star, *_positions(ra, dec, placed(ra, dec) & bare[star]))
    if bare.any():
        codes, words = codes_of(pc.if_else(pa.array(bare[star]), visit, None))
        _name(found, bare, star, codes, pc.binary_join_element_wise("visit", words, " "))
    if bare.any():
        count = int(bare[star].sum())
        raise ValueError(
            f"stars: {count} spectra have neither id nor position nor visit; give join.star=, a column with an id for each"
        )
    return found


def _joined(size: int, pairs: NDArray[np.int64]) -> Codes:
    """The group of each of so many items that pairs of them join."""
    links = csr_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (size, size))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _links(codes: Codes) -> NDArray[np.int64]:
    """Each further row of a code beside the first one."""
    rows = np.flatnonzero(codes >= 0)
    first = np.empty(codes.max(initial=-1) + 1, np.int64)
    first[codes[rows[::-1]]] = rows[::-1]
    further = rows[
        first[codes[rows]] != rows
    ]  # a quarter of a survey's rows: without the others joining takes half the memory
    return np.stack([further, first[codes[further]]], axis=1)


def _positions(ra: Floats, dec: Floats, wanted: NDArray[np.bool_]) -> tuple[Codes, pa.Array]:
    """Positions as text, to 0.36 arcsec."""
    codes = np.full(len(ra), -1, np.int64)
    steps, codes[wanted] = np.unique(
        np.round((ra[wanted] % 360 + 1j * dec[wanted]) * 1e4), return_inverse=True
    )
    return codes, pa.array(
        [f"position {step.real / 1e4:08.4f}{step.imag / 1e4:+08.4f}" for step in steps.tolist()], pa.string()
    )


def _name(
    names: NDArray[np.object_], bare: NDArray[np.bool_], star: Codes, codes: Codes, words: pa.Array
) -> None:
    """Bare stars, those without a name yet, get the smallest of the words of their spectra."""
    rows = np.flatnonzero((codes >= 0) & bare[star])
    if not rows.size:
        return
    rank, text = np.empty(len(words), np.int64), words.to_numpy(zero_copy_only=False)
    order = pc.sort_indices(words).to_numpy()
    rank[order] = np.arange(len(words))
    smallest = np.full(len(names), len(words), np.int64)
    np.minimum.at(smallest, star[rows], rank[codes[rows]])
    named = smallest < len(words)
    names[named] = text[order[smallest[named]]]
    bare[named] = False
