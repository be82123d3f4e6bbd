"""Rows of predictions, in the order of the survey's files -> tables of stars along the sky, one region in
memory.

Rows are written to one file per region on this machine's disk, so that all visits of a star are in one
file. Then one region at a time is sorted and its visits are combined. A region is a range of stars
(`survey.catalog.stars`) and ends where a tile of the catalog ends. Shapes: N rows, S stars, E ends.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.answers import ColumnSpec
from survey.catalog.sky import Tiles
from survey.catalog.stars import NO_PIXEL, Stars, read_shards
from survey.labelling import star_id
from survey.labelling.star_id import Codes
from survey.predict.output import Predictions
from survey.progress import Progress
from survey.tables.columns import described_field

Combine = Callable[[pa.Table, Codes], pa.Table]
"""Rows of predictions and the numbers of their stars (sorted) -> one row per star, in that order."""

PIXEL = "_healpix_29"
"""The column that a HATS catalog is sorted by."""

COLUMNS: dict[str, ColumnSpec] = {
    PIXEL: ("int64", "HEALPix pixel of the position, order 29, nested numbering", "", "pos.healpix"),
    "star": (
        "string",
        "name of the star: its name in the survey, else its position, else its visit",
        "",
        "meta.id;src",
    ),
}
PIXEL_FIELD, STAR_FIELD = (described_field(name, *column) for name, column in COLUMNS.items())

REGION_ROWS = 500_000
"""Rows of a region, about: 300 MB with 70 columns."""

NUMBER = "_number"
"""The column with the number of the star, in the files of the regions only."""

COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def stars_by_region(
    predictions: Predictions,
    stars: Stars,
    tiles: Tiles,
    combine: Combine,
    scratch: Path,
    rows: int = REGION_ROWS,
) -> Iterator[pa.Table]:
    """Tables of stars along the sky, each with whole tiles; then tables of stars without a position (null
    pixel).

    `star` is the name that training gives the star, whatever name a visit has. Position and pixel are those
    in `stars`. There is one table even if there is no star at all, for its columns.
    """
    bounds = _region_bounds(stars, tiles, rows)
    schema = _write_regions(predictions, stars, bounds, scratch, rows)

    def make(region: int) -> pa.Table:
        first, last = bounds[region : region + 2].tolist()
        path = scratch / f"{region}.arrow"
        table, star_N = _read_region(path)
        path.unlink()
        return _set_positions(combine(table, star_N), stars, first, last)

    with Progress("catalog: combining visits", len(stars), "stars") as progress:
        for table in _one_ahead(make, len(bounds) - 1):
            yield table
            progress.add(table.num_rows)
    if len(stars) == 0:
        yield _set_positions(combine(schema.empty_table(), np.empty(0, np.int64)), stars, 0, 0)


def _one_ahead(make: Callable[[int], pa.Table], count: int) -> Iterator[pa.Table]:
    """`make(0)`, `make(1)` and so on: a thread makes each while the caller works on the one before."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque[Future[pa.Table]]()
        for number in range(count):
            waiting.append(pool.submit(make, number))
            if number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _region_bounds(stars: Stars, tiles: Tiles, rows: int) -> Codes:
    """The first star of each region, and the number of stars.

    A region has as many whole tiles as fit into that many rows, at least one.
    """
    start_S = np.concatenate([[0], np.cumsum(np.bincount(stars.star_N, minlength=len(stars)))])
    tile_ends = np.cumsum(tiles.count_T[tiles.count_T > 0])
    star_ends = np.arange(stars.with_position, len(stars)) + 1
    placed_bounds = _bounds(0, tile_ends, start_S, rows)
    other_bounds = _bounds(stars.with_position, star_ends, start_S, rows)
    return np.array([0, *placed_bounds, *other_bounds], np.int64)


def _bounds(first: int, end_E: Codes, start_S: Codes, rows: int) -> Iterator[int]:
    """Those of the possible ends that cut the stars into ranges of at most this many rows, or of one step."""
    rows_E, number, done = start_S[end_E], 0, start_S[first]
    while number < len(end_E):
        number = max(int(np.searchsorted(rows_E, done + rows, "right")), number + 1)
        done = rows_E[number - 1]
        yield int(end_E[number - 1])


def _write_regions(
    predictions: Predictions, stars: Stars, bounds: Codes, scratch: Path, rows: int
) -> pa.Schema:
    """Write each row, with the number of its star, to the file of its region; returns the columns."""
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, Progress("catalog: sorting", len(stars.star_N), "rows") as progress:
        writers: dict[int, Any] = {}
        schema = pa.schema([])
        for table in _numbered_rows(predictions, stars, rows):
            schema = table.schema
            region_N = np.searchsorted(bounds, table[NUMBER].to_numpy(), "right") - 1
            table = table.take(pa.array(np.argsort(region_N, kind="stable")))
            start = 0
            regions, counts = np.unique(region_N, return_counts=True)
            for region, count in zip(regions.tolist(), counts.tolist(), strict=True):
                if region not in writers:
                    file = pa.ipc.new_stream(str(scratch / f"{region}.arrow"), schema, options=COMPRESSED)
                    writers[region] = stack.enter_context(file)
                writers[region].write_table(table.slice(start, count))
                start += count
            progress.add(table.num_rows)
    return schema.remove(schema.get_field_index(NUMBER)).set(schema.get_field_index("star"), STAR_FIELD)


def _numbered_rows(predictions: Predictions, stars: Stars, rows: int) -> Iterator[pa.Table]:
    """The rows with the numbers of their stars, several shards at a time: small tables are slow."""
    waiting: list[pa.Table] = []
    for shard, table in enumerate(read_shards(predictions, _scalar_columns(predictions))):
        first, last = stars.start_K[shard : shard + 2]
        if table.num_rows != last - first:
            raise ValueError(
                f"{predictions.path}: shard {shard} has {table.num_rows:,} rows, it had {last - first:,} "
                "before; run the catalog again when nothing writes there"
            )
        number_N = pa.array(stars.star_N[first:last])
        table = stars.named(table, shard).replace_schema_metadata()
        waiting.append(table.append_column(NUMBER, number_N))
        if sum(table.num_rows for table in waiting) >= rows or shard == predictions.shards - 1:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []


def _scalar_columns(predictions: Predictions) -> list[str]:
    """The columns with one value per row: embeddings say nothing about a star and are most of the bytes."""
    return [field.name for field in predictions.table(0).schema if not pa.types.is_nested(field.type)]


def _read_region(path: Path) -> tuple[pa.Table, Codes]:
    """The rows of a region, star by star, each star with one name, and the numbers of the stars from 0 on."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    order = np.argsort(table[NUMBER].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    star_N = table[NUMBER].to_numpy().astype(np.int64)
    star_N -= star_N[0]
    ra_N, dec_N = (table[name].fill_null(np.nan).to_numpy() for name in ("ra", "dec"))
    row_text = pc.binary_join_element_wise(table["path"], pc.cast(table["row"], pa.string()), " ")
    visit = pc.coalesce(table["visit"], row_text)
    coded = [star_id.encode(star_id.clean_ids(table["star"]))]
    names = pa.array(star_id.name_stars(star_N, coded, ra_N, dec_N, visit), pa.string())
    column = table.schema.get_field_index("star")
    table = table.set_column(column, STAR_FIELD, names.take(pa.array(star_N)))
    return table.drop_columns([NUMBER]), star_N


def _set_positions(table: pa.Table, stars: Stars, first: int, last: int) -> pa.Table:
    """The stars with the pixels and positions that decide which tile they are in."""
    if table.num_rows != last - first:
        raise RuntimeError(
            f"catalog: {last - first:,} stars went in, {table.num_rows:,} rows came out; please report this"
        )
    for name, value_S in (("ra", stars.ra_S[first:last]), ("dec", stars.dec_S[first:last])):
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(column), pa.array(value_S, from_pandas=True))
    pixel_S = stars.pixel_S[first:last]
    return table.add_column(0, PIXEL_FIELD, pa.array(pixel_S, mask=pixel_S == NO_PIXEL))
