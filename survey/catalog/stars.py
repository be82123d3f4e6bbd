"""Which star each row of predictions is of, and where that star is on the sky, from a few small columns of
all rows.

Visits belong to one star as in training (`survey.labelling.star_id`: the name in the survey, or positions
within 3 arcsec; without both the visit, see `survey.labelling.visit_names`). Stars are numbered along the
sky, in the order of their HEALPix pixels, so a region of the sky is a range of numbers. Stars without a
position come last. 11 million rows take 1.9 GB. Shapes: N rows, S stars, K shards.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.catalog.sky import Pixels, pixels
from survey.labelling.star_id import (
    Codes,
    Floats,
    clean_ids,
    connect,
    encode,
    friends_of_friends,
    has_position,
    unit_vectors,
)
from survey.labelling.visit_names import distinct_names, file_folders, repeated_rows, replaced
from survey.predict.output import Predictions
from survey.progress import Progress

READ_AHEAD = 4
"""Shards that are read ahead."""

NO_PIXEL = -1
"""The pixel of a star without a position."""


@dataclass(frozen=True)
class Stars:
    """The star of each row, numbered along the sky, and for each star its position and its finest pixel.

    Positions are in degrees, NaN if there is none. `start_K` is the number of rows before each shard. Rows
    whose only name is that of their file, which files in other folders have too, are `filed_R`, in order;
    `names_R` are the names of their stars.
    """

    star_N: NDArray[np.int32]
    ra_S: Floats
    dec_S: Floats
    pixel_S: Pixels
    start_K: NDArray[np.int64]
    filed_R: Codes
    names_R: pa.Array

    def named(self, table: pa.Table, shard: int) -> pa.Table:
        """The predictions of a shard with the names of such stars in the column `star`."""
        first, last = np.searchsorted(self.filed_R, self.start_K[shard : shard + 2])
        if first == last:
            return table
        index = np.full(table.num_rows, -1)
        index[self.filed_R[first:last] - self.start_K[shard]] = np.arange(first, last)
        names = self.names_R.take(pa.array(index, mask=index < 0))
        column = table.schema.get_field_index("star")
        stars = pc.coalesce(names.cast(table.schema.field(column).type), table["star"])
        return table.set_column(column, table.schema.field(column), stars)

    def __len__(self) -> int:
        return len(self.pixel_S)

    @property
    def with_position(self) -> int:
        """How many stars have a position; these come first."""
        return int((self.pixel_S != NO_PIXEL).sum())


def find_stars(predictions: Predictions) -> Stars:
    """The stars of all predictions."""
    names, ra_N, dec_N, start_K = _read_columns(predictions)
    position_N = friends_of_friends(ra_N, dec_N)
    name_N = encode(names)[0]
    del names
    pa.default_memory_pool().release_unused()  # a GB of text
    codes = [name_N, position_N]
    unknown = np.flatnonzero((name_N < 0) & (position_N < 0))
    visits, filed_R = _visits(predictions, unknown, start_K)
    if unknown.size:
        codes.append(np.full(len(name_N), -1, np.int64))
        codes[-1][unknown] = encode(visits)[0]
    star_N = connect(*codes)
    ra_S, dec_S = _star_positions(star_N, ra_N, dec_N)
    pixel_S = np.full(len(ra_S), NO_PIXEL)
    known_S = np.isfinite(ra_S)
    pixel_S[known_S] = pixels(ra_S[known_S], dec_S[known_S])
    order_S = np.lexsort((pixel_S, ~known_S))  # stable: stars of one pixel stay in the order of the rows
    number_S = np.empty(len(order_S), np.int32)
    number_S[order_S] = np.arange(len(order_S))
    named = visits.take(pa.array(np.searchsorted(unknown, filed_R)))
    return Stars(
        *(number_S[star_N], ra_S[order_S], dec_S[order_S], pixel_S[order_S], start_K, filed_R),
        pc.binary_join_element_wise("visit", named, " "),
    )


def read_shards(predictions: Predictions, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The predictions, shard by shard. Threads read ahead: a bucket is slow, and files must be decoded."""
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        for shard in range(predictions.shards):
            waiting.append(pool.submit(predictions.table, shard, columns))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        yield from (table.result() for table in waiting)


def _read_columns(predictions: Predictions) -> tuple[pa.ChunkedArray, Floats, Floats, Codes]:
    """Names and positions of all rows, and the number of rows before each shard."""
    names, rows = [], [0]
    ra: list[Floats] = []
    dec: list[Floats] = []
    with Progress("catalog: finding the stars", predictions.document.rows, "rows") as progress:
        for table in read_shards(predictions, ["star", "ra", "dec"]):
            names.append(clean_ids(table["star"].combine_chunks()))
            ra.append(table["ra"].fill_null(np.nan).to_numpy())
            dec.append(table["dec"].fill_null(np.nan).to_numpy())
            rows.append(table.num_rows)
            progress.add(table.num_rows)
    all_names = pa.chunked_array(names, pa.string())
    return all_names, np.concatenate([[], *ra]), np.concatenate([[], *dec]), np.cumsum(rows)


def _visits(predictions: Predictions, unknown: Codes, start_K: Codes) -> tuple[pa.Array, Codes]:
    """The visits of rows without name and position, which only their visits distinguish.

    Those that are named after files of one name have other names, which tell these apart. They are the second
    value.
    """
    if not unknown.size:
        return pa.array([], pa.string()), unknown
    visits = pc.cast(
        _read_rows(predictions, unknown, start_K, ["visit"])["visit"].combine_chunks(), pa.string()
    )
    place = repeated_rows(visits)
    if not place.size:
        return visits, place
    files = _read_rows(predictions, unknown[place], start_K, ["path", "row"])
    before = visits.take(pa.array(place))
    columns = (files[name].combine_chunks() for name in ("path", "row"))
    names = distinct_names(before, file_folders(before, *columns))
    is_other = pc.not_equal(names, before).to_numpy(zero_copy_only=False)
    return replaced(visits, place, names), unknown[place[is_other]]


def _read_rows(predictions: Predictions, rows: Codes, start_K: Codes, columns: list[str]) -> pa.Table:
    """Columns of these rows, which are in order; shards without one of them are not read."""
    tables, ends = [], np.searchsorted(rows, start_K)
    for shard in np.flatnonzero(np.diff(ends)).tolist():
        inside = rows[ends[shard] : ends[shard + 1]] - start_K[shard]
        tables.append(predictions.table(shard, columns).take(pa.array(inside)))
    return pa.concat_tables(tables).combine_chunks()


def _star_positions(star_N: Codes, ra_N: Floats, dec_N: Floats) -> tuple[Floats, Floats]:
    """The position of each star: that of its visits if they agree, else the mean of their directions."""
    known = np.flatnonzero(has_position(ra_N, dec_N))
    star, ra, dec = star_N[known], ra_N[known] % 360, dec_N[known]
    count = star_N.max(initial=-1) + 1
    ra_S, dec_S = np.full((2, count), np.nan)
    ra_S[star[::-1]], dec_S[star[::-1]] = ra[::-1], dec[::-1]  # the first visit
    differ_S = np.zeros(count, bool)
    differ_S[star[(ra != ra_S[star]) | (dec != dec_S[star])]] = True
    rows = np.flatnonzero(differ_S[star])
    number_S = np.cumsum(differ_S) - 1
    x, y, z = (np.bincount(number_S[star[rows]], axis) for axis in unit_vectors(ra[rows], dec[rows]).T)
    mean_ra = np.degrees(np.arctan2(y, x)) % 360
    ra_S[differ_S] = np.where(mean_ra == 360, 0.0, mean_ra)  # of -1e-15 degrees
    dec_S[differ_S] = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return ra_S, dec_S
