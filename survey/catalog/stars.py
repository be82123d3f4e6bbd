"""Which star each row of predictions is of, and where on the sky that star lies, from a few light columns of all rows.

Visits belong to one star as in training (`survey.labelling.star_id`: the survey's name, or positions within 3 arcsec). Stars are numbered along
the sky, in the order of their HEALPix pixels, so that a region is a range of numbers; those without a position come last. 11 million rows
take 1.9 GB. Shapes: N rows, S stars, K shards.
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
from survey.labelling.star_id import Codes, Floats, codes_of, ids, joined, near, placed, unit_vectors
from survey.predict.output import Predictions
from survey.progress import Progress

AHEAD = 4
"""Shards that are read ahead."""

NOWHERE = -1
"""The pixel of a star without a position."""


@dataclass(frozen=True)
class Stars:
    """The star of each row, numbered along the sky; each star's position in degrees (NaN: none) and finest pixel; rows before each shard."""

    star_N: NDArray[np.int32]
    ra_S: Floats
    dec_S: Floats
    pixel_S: Pixels
    before_K: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixel_S)

    @property
    def placed(self) -> int:
        """How many stars have a position: the first so many."""
        return int((self.pixel_S != NOWHERE).sum())


def find(predictions: Predictions) -> Stars:
    """The stars of all predictions."""
    names, ra_N, dec_N, before_K = _read(predictions)
    near_N = near(ra_N, dec_N)
    code_N = codes_of(names)[0]
    del names
    pa.default_memory_pool().release_unused()  # a GB of texts
    bare_N = (code_N < 0) & (near_N < 0)
    kinds = [code_N, near_N, _visits(predictions, bare_N, before_K)] if bare_N.any() else [code_N, near_N]
    star_N = joined(*kinds)
    ra_S, dec_S = _places(star_N, ra_N, dec_N)
    pixel_S = np.full(len(ra_S), NOWHERE)
    known_S = np.isfinite(ra_S)
    pixel_S[known_S] = pixels(ra_S[known_S], dec_S[known_S])
    along = np.lexsort((pixel_S, ~known_S))  # stable: of one pixel, the star that was met first
    number_S = np.empty(len(along), np.int32)
    number_S[along] = np.arange(len(along))
    return Stars(number_S[star_N], ra_S[along], dec_S[along], pixel_S[along], before_K)


def tables(predictions: Predictions, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The predictions, shard by shard; the next ones are read meanwhile, as a bucket answers late and a disk's files want decoding."""
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for shard in range(predictions.shards):
            waiting.append(pool.submit(predictions.table, shard, columns))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        yield from (table.result() for table in waiting)


def _read(predictions: Predictions) -> tuple[pa.ChunkedArray, Floats, Floats, Codes]:
    """Names and positions of all rows, and how many rows lie before each shard."""
    names, rows = [], [0]
    ra: list[Floats] = []
    dec: list[Floats] = []
    with Progress("catalog: finding the stars", predictions.about.get("rows"), "rows") as progress:
        for table in tables(predictions, ["star", "ra", "dec"]):
            names.append(ids(table["star"].combine_chunks()))
            for found, name in ((ra, "ra"), (dec, "dec")):
                found.append(table[name].fill_null(np.nan).to_numpy())
            rows.append(table.num_rows)
            progress.add(table.num_rows)
    return (
        pa.chunked_array(names, pa.string()),
        np.concatenate([[], *ra]),
        np.concatenate([[], *dec]),
        np.cumsum(rows),
    )


def _visits(predictions: Predictions, bare_N: NDArray[np.bool_], before_K: Codes) -> Codes:
    """Codes of the visits of rows that have neither name nor position, as it is by them that such stars are told apart; -1 for all others."""
    texts, rows = [pa.array([], pa.string())], [np.empty(0, np.int64)]
    for shard in range(predictions.shards):
        bare = np.flatnonzero(bare_N[before_K[shard] : before_K[shard + 1]])
        if bare.size:
            texts.append(predictions.table(shard, ["visit"])["visit"].combine_chunks().take(pa.array(bare)))
            rows.append(bare + before_K[shard])
    codes = np.full(len(bare_N), -1, np.int64)
    codes[np.concatenate(rows)] = codes_of(pc.cast(pa.chunked_array(texts), pa.string()))[0]
    return codes


def _places(star_N: Codes, ra_N: Floats, dec_N: Floats) -> tuple[Floats, Floats]:
    """Where each star lies: where all its visits were, or the mean of their directions; NaN where no visit has a position."""
    known = np.flatnonzero(placed(ra_N, dec_N))
    star, ra, dec = star_N[known], ra_N[known] % 360, dec_N[known]
    count = star_N.max(initial=-1) + 1
    ra_S, dec_S = np.full((2, count), np.nan)
    ra_S[star[::-1]], dec_S[star[::-1]] = ra[::-1], dec[::-1]  # the first visit
    moved_S = np.zeros(count, bool)
    moved_S[star[(ra != ra_S[star]) | (dec != dec_S[star])]] = True
    rows = np.flatnonzero(moved_S[star])
    number_S = np.cumsum(moved_S) - 1
    x, y, z = (np.bincount(number_S[star[rows]], part) for part in unit_vectors(ra[rows], dec[rows]).T)
    ra_S[moved_S], dec_S[moved_S] = (
        np.degrees(np.arctan2(y, x)) % 360,
        np.degrees(np.arctan2(z, np.hypot(x, y))),
    )
    return ra_S, dec_S
