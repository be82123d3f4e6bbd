"""Prediction rows, in the order of the survey's files -> tables of stars, in the order of the sky, with no more in memory than one region.

Rows are laid into files of regions on this machine's disk, so that all visits of a star are in one; then a region at a time is sorted and its
visits combined. A region is a range of stars (`survey.catalog.stars`) and ends where a tile of the catalog ends. Shapes: N rows, S stars.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from survey import files
from survey.catalog.sky import Tiles
from survey.catalog.stars import NOWHERE, Stars, tables
from survey.labelling import star_id as identity
from survey.labelling.star_id import Codes
from survey.predict.output import Predictions
from survey.progress import Progress

Combine = Callable[[pa.Table, Codes], pa.Table]
"""Rows of predictions and their stars' numbers (sorted) -> one row per star, in the order of the numbers."""

PIXEL = "_healpix_29"
"""The column by which a HATS catalog is sorted."""

PIXEL_FIELD = pa.field(
    PIXEL,
    pa.int64(),
    metadata={
        "description": "HEALPix pixel of order 29, nested, of the position",
        "unit": "",
        "ucd": "pos.healpix",
    },
)

STAR_FIELD = pa.field(
    "star",
    pa.string(),
    metadata={
        "description": "name of the star: the survey's, else its position, else its visit",
        "unit": "",
        "ucd": "meta.id;src",
    },
)

ROWS = 500_000
"""Rows of a region, about: 300 MB of 70 columns."""

NUMBER = "_number"
"""The star of a row, beside its columns while it lies on the disk."""

PACKED = pa.ipc.IpcWriteOptions(compression="lz4")


def by_region(
    predictions: Predictions, stars: Stars, tiles: Tiles, combine: Combine, scratch: Path, rows: int = ROWS
) -> Iterator[pa.Table]:
    """Tables of stars along the sky, whole tiles in each; then tables of stars without a position, whose pixel is null.

    `star` is the star's name as training has it, whatever a visit calls it; position and pixel are those that `stars` found. One table comes
    even if there is no star at all, for its columns.
    """
    bounds = _bounds(stars, tiles, rows)
    schema = _lay(predictions, stars, bounds, scratch, rows)
    with Progress("catalog: combining visits", len(stars), "stars") as progress:
        for region, (first, last) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
            path = scratch / f"{region}.arrow"
            table, star_N = _region(path)
            path.unlink()
            yield _placed(combine(table, star_N), stars, first, last)
            progress.add(last - first)
    if len(stars) == 0:
        yield _placed(combine(schema.empty_table(), np.empty(0, np.int64)), stars, 0, 0)


def _bounds(stars: Stars, tiles: Tiles, rows: int) -> Codes:
    """The stars at which regions begin, and the end: as many whole tiles as have so many rows, at least one."""
    before_S = np.concatenate([[0], np.cumsum(np.bincount(stars.star_N, minlength=len(stars)))])
    tile_ends = np.cumsum(tiles.count_T[tiles.count_T > 0])
    alone = np.arange(stars.placed, len(stars)) + 1
    return np.array(
        [0, *_cuts(0, tile_ends, before_S, rows), *_cuts(stars.placed, alone, before_S, rows)], np.int64
    )


def _cuts(start: int, ends: Codes, before_S: Codes, rows: int) -> Iterator[int]:
    """Of the stars at which a range may end, those that end ranges of at most so many rows, or of one step where that has more."""
    rows_E, number, done = before_S[ends], 0, before_S[start]
    while number < len(ends):
        number = max(int(np.searchsorted(rows_E, done + rows, "right")), number + 1)
        done = rows_E[number - 1]
        yield int(ends[number - 1])


def _lay(predictions: Predictions, stars: Stars, bounds: Codes, scratch: Path, rows: int) -> pa.Schema:
    """Every row, with the number of its star, into the file of its region; what columns there are."""
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened, Progress("catalog: sorting", len(stars.star_N), "rows") as progress:
        writers: dict[int, Any] = {}
        schema = pa.schema([])
        for table in _batches(predictions, stars, rows):
            schema = table.schema
            region_N = np.searchsorted(bounds, table[NUMBER].to_numpy(), "right") - 1
            table = table.take(pa.array(np.argsort(region_N, kind="stable")))
            begin = 0
            for region, count in zip(
                *(array.tolist() for array in np.unique(region_N, return_counts=True)), strict=True
            ):
                if region not in writers:
                    writers[region] = opened.enter_context(
                        pa.ipc.new_stream(str(scratch / f"{region}.arrow"), schema, options=PACKED)
                    )
                writers[region].write_table(table.slice(begin, count))
                begin += count
            progress.add(table.num_rows)
    return schema.remove(schema.get_field_index(NUMBER)).set(schema.get_field_index("star"), STAR_FIELD)


def _batches(predictions: Predictions, stars: Stars, rows: int) -> Iterator[pa.Table]:
    """The rows with the numbers of their stars, several shards at a time: small pieces cost more than their rows."""
    waiting: list[pa.Table] = []
    for shard, table in enumerate(tables(predictions, _scalars(predictions))):
        first, last = stars.before_K[shard : shard + 2]
        if table.num_rows != last - first:
            raise ValueError(
                f"{predictions.path}: shard {shard} has {table.num_rows:,} rows now, {last - first:,} before; run it again when it rests"
            )
        waiting.append(
            table.replace_schema_metadata().append_column(NUMBER, pa.array(stars.star_N[first:last]))
        )
        if sum(part.num_rows for part in waiting) >= rows or shard == predictions.shards - 1:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []


def _scalars(predictions: Predictions) -> list[str]:
    """The columns of one value in each row: no embeddings, which say nothing of a star and are most of the bytes."""
    return [
        field.name
        for field in pq.read_schema(pa.BufferReader(files.read(predictions.file(0))))
        if not pa.types.is_nested(field.type)
    ]


def _region(path: Path) -> tuple[pa.Table, Codes]:
    """The rows of a region, star by star, each star under its one name, and the stars' numbers from 0 on."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    order = np.argsort(table[NUMBER].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    star_N = table[NUMBER].to_numpy().astype(np.int64)
    star_N -= star_N[0]
    ra_N, dec_N = (table[name].fill_null(np.nan).to_numpy() for name in ("ra", "dec"))
    visit = pc.coalesce(
        table["visit"], pc.binary_join_element_wise(table["path"], pc.cast(table["row"], pa.string()), " ")
    )
    coded = [identity.codes_of(identity.ids(table["star"]))]
    names = identity.names(star_N, coded, ra_N, dec_N, visit)
    table = table.set_column(
        table.schema.get_field_index("star"), STAR_FIELD, pa.array(names, pa.string()).take(pa.array(star_N))
    )
    return table.drop_columns([NUMBER]), star_N


def _placed(table: pa.Table, stars: Stars, first: int, last: int) -> pa.Table:
    """The stars with the pixels and positions that decide where they are kept."""
    if table.num_rows != last - first:
        raise RuntimeError(
            f"catalog: {last - first:,} stars went in, {table.num_rows:,} rows came out; please report this"
        )
    part = slice(first, last)
    for name, values in (("ra", stars.ra_S[part]), ("dec", stars.dec_S[part])):
        number = table.schema.get_field_index(name)
        table = table.set_column(number, table.schema.field(number), pa.array(values, from_pandas=True))
    pixel_S = stars.pixel_S[part]
    return table.add_column(0, PIXEL_FIELD, pa.array(pixel_S, mask=pixel_S == NOWHERE))
