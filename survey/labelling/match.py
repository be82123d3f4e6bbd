"""Rows of a label table matched to spectra of a store by a key, and rows with the same key joined to one.

The values of a key on both sides become codes of one numbering, so that matching is a look-up in arrays.
Rows with the same code agree, complete each other, or contradict each other; a contradiction is refused.
Shapes: R rows of the table, N spectra of the store, G codes, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey import files, labels
from survey.labelling import keys, star_id
from survey.labelling.keys import KeyColumns
from survey.labelling.settings import Key
from survey.labelling.shared_names import NAME_KEYS, name_keys
from survey.labelling.star_id import Codes, Floats
from survey.labelling.values import LabelValues
from survey.sources.table_files import label_path
from survey.tables.read import array_rows, parquet_header

KEYS_BY_EXACTNESS: tuple[tuple[Key, ...], ...] = (("obsid", "file", "visit"), ("star",), ("position",))
"""Keys of a visit come before keys of a star, whose visits may have different labels."""

TOLERANCE = 1e-6
"""Values that differ by more than this contradict each other; above 1 it is a relative difference."""


@dataclass(frozen=True)
class Match:
    """Codes of a key for the rows and the spectra. Equal codes match; -1 matches nothing."""

    code_R: Codes
    code_N: Codes

    def are_matched(self) -> NDArray[np.bool_]:
        """Which rows have a spectrum."""
        has_spectrum_G = np.zeros(self.code_R.max(initial=-1) + 2, bool)  # the last stands for code -1
        has_spectrum_G[self.code_N[self.code_N >= 0]] = True
        return has_spectrum_G[self.code_R]

    def matched_rows(self) -> int:
        """How many rows have a spectrum."""
        return int(self.are_matched().sum())


def add_match(first: Match, second: Match, spectra_N: NDArray[np.bool_]) -> Match:
    """A match, and for these spectra and for the rows without a spectrum another one."""
    start = first.code_R.max(initial=-1) + 1
    wanted_N = spectra_N & (second.code_N >= 0)
    code_N = np.where(wanted_N, second.code_N + start, first.code_N)
    used_G = np.zeros(second.code_R.max(initial=-1) + 2, bool)
    used_G[second.code_N[wanted_N]] = True
    is_used_R = used_G[second.code_R] & ~first.are_matched()
    return Match(np.where(is_used_R, second.code_R + start, first.code_R), code_N)


def match_by(
    key: Key, table: pa.Table, columns: KeyColumns, spectra: pa.Table, keep_R: NDArray[np.bool_]
) -> Match:
    """The match of the kept rows and the spectra by one key."""
    if key == "position":
        code_R, code_N = _match_positions(*keys.positions(table, columns), spectra)
    else:
        if key in NAME_KEYS:
            key_R, key_N = name_keys(key, table, columns, spectra)
        else:
            key_R, key_N = keys.table_keys(key, table, columns), keys.store_keys(key, spectra)
        code_R, distinct = star_id.encode(key_R)
        in_table = pc.index_in(key_N, value_set=distinct, skip_nulls=True)
        code_N = pc.fill_null(in_table, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    is_kept_G = np.zeros(code_R.max(initial=-1) + 2, bool)  # the last element stands for code -1
    is_kept_G[code_R[keep_R & (code_R >= 0)]] = True
    return Match(np.where(keep_R, code_R, -1), np.where(is_kept_G[code_N], code_N, -1))


def match_by_row(path: str, has_key: bool, spectra: pa.Table, keep_R: NDArray[np.bool_]) -> Match | None:
    """The match of a label table and a file of many spectra that has one spectrum for each row, in order.

    It is the file whose own table this is (y.csv of X.npy, or the file itself); for a table without a key,
    the only file of its folder with this number of spectra. None: there is no such file in the store.
    """
    paths, row_N = spectra["path"].combine_chunks(), spectra["row"].combine_chunks()
    named = pc.unique(paths.filter(pc.greater_equal(row_N, 0))).to_pylist()
    beside = [file for file in named if file.rpartition("/")[0] == path.rpartition("/")[0]]
    own = [file for file in beside if path in (file, label_path(file))]
    candidates = own or ([] if has_key else beside)
    fitting = [file for file in candidates if _spectra_in(file) == len(keep_R)]
    if len(fitting) != 1:
        return None
    is_in_file_N = pc.equal(paths, fitting[0]).to_numpy(zero_copy_only=False)
    code_R = np.where(keep_R, np.arange(len(keep_R)), -1)
    return Match(code_R, np.where(is_in_file_N, code_R[row_N.to_numpy() * is_in_file_N], -1))


def _spectra_in(path: str) -> int | None:
    """The number of spectra in an array or a Parquet file; None if it is gone or another kind of file."""
    if not path.lower().endswith((".npy", ".parquet")) or not files.exists(path):
        return None
    return array_rows(path) if path.lower().endswith(".npy") else parquet_header(path)[1]


def _match_positions(ra_R: Floats, dec_R: Floats, spectra: pa.Table) -> tuple[Codes, Codes]:
    """Rows of a star share a code; a spectrum gets the code of the nearest row within 3 arcsec."""
    code_R = star_id.friends_of_friends(ra_R, dec_R)
    ra_N, dec_N = (keys.to_floats(spectra[name].combine_chunks()) for name in ("ra", "dec"))
    code_N = np.full(len(ra_N), -1, np.int64)
    rows, spectra_index = np.flatnonzero(code_R >= 0), np.flatnonzero(star_id.has_position(ra_N, dec_N))
    if rows.size and spectra_index.size:
        tree = cKDTree(star_id.unit_vectors(ra_R[rows], dec_R[rows]))
        points = star_id.unit_vectors(ra_N[spectra_index], dec_N[spectra_index])
        distance, nearest = tree.query(points, distance_upper_bound=star_id.chord(star_id.ARCSEC))
        is_near = np.isfinite(distance)
        code_N[spectra_index[is_near]] = code_R[rows[nearest[is_near]]]
    return code_R, code_N


def best_match(offered: Sequence[Key], match: Callable[[Key], Match]) -> tuple[Key, Match] | None:
    """The match by the most exact key that matches at least half as many rows as any other key.

    Among keys that are equally exact, it is the key that matches most rows. None: no key matches a row.
    """
    best: tuple[Key, Match] | None = None
    most = 0
    for group in KEYS_BY_EXACTNESS:
        needed = 2 * most
        for key in (key for key in group if key in offered):
            candidate = match(key)
            count = candidate.matched_rows()
            if count > needed:
                best, most, needed = (key, candidate), count, count
            if count and (count == len(candidate.code_R) or (candidate.code_N >= 0).all()):
                return best
        if best and _is_enough(best[1], most):
            return best
    return best


def _is_enough(match: Match, matched_rows: int) -> bool:
    """Whether half of the rows or half of the spectra are matched: then no key can match twice as many."""
    half_of_spectra = 2 * int((match.code_N >= 0).sum()) >= len(match.code_N)
    return 2 * matched_rows >= len(match.code_R) or half_of_spectra


@dataclass
class Groups:
    """The rows of each code, joined to one row.

    A label that one row lacks may come from another row; the error is the largest of the group.
    `consistent_G` is false where two rows of a group contradict each other.
    """

    label_GL: Floats
    error_GL: Floats
    class_G: NDArray[np.int8]
    part_G: Codes
    first_row_G: Codes
    rows_G: Codes
    consistent_G: NDArray[np.bool_]


def group_rows(names: Sequence[str], values: LabelValues, part_R: Codes, code_R: Codes) -> Groups:
    """The rows grouped by their codes; rows of code -1 are in no group."""
    order = np.argsort(code_R, kind="stable")
    order = order[np.searchsorted(code_R[order], 0) :]
    starts = np.flatnonzero(np.diff(code_R[order], prepend=-1))
    groups = int(code_R.max(initial=-1)) + 1
    present = code_R[order[starts]]
    consistent_G = np.zeros(groups, bool)
    consistent_G[present] = True
    label_GL = np.full((groups, len(names)), np.nan)
    error_GL = np.full((groups, len(names)), np.nan)
    for column, name in enumerate(names):
        low, high = _extremes(values.label[name][order], starts)
        label_GL[present, column] = low
        error_GL[present, column] = _extremes(values.error[name][order], starts)[1]
        consistent_G[present] &= ~(high - low > TOLERANCE * np.maximum(1, np.abs(high)))
    numbers_G = []
    for numbers_R in (values.class_R, part_R):
        low, high = _extremes(np.where(numbers_R < 0, np.nan, numbers_R.astype(np.float64))[order], starts)
        consistent_G[present] &= ~(high > low)
        numbers = np.nan_to_num(low, nan=labels.MISSING).astype(np.int64)
        numbers_G.append(_at(present, numbers, groups))
    return Groups(
        label_GL,
        error_GL,
        class_G=numbers_G[0].astype(np.int8),
        part_G=numbers_G[1],
        first_row_G=_at(present, order[starts], groups),
        rows_G=_at(present, np.diff(starts, append=len(order)), groups, 0),
        consistent_G=consistent_G,
    )


def _extremes(numbers: Floats, starts: Codes) -> tuple[Floats, Floats]:
    """The smallest and the largest number of each stretch, NaN left out."""
    if not len(starts):
        return np.empty(0), np.empty(0)
    return np.fmin.reduceat(numbers, starts), np.fmax.reduceat(numbers, starts)


def _at(codes: Codes, numbers: Codes, size: int, default: int = -1) -> Codes:
    """An array of this size with the numbers at the codes."""
    array = np.full(size, default, np.int64)
    array[codes] = numbers
    return array
