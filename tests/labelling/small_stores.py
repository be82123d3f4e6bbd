"""Finished stores of a few pixels, to which labels are joined."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey.spectrum import Grid
from survey.store.schema import array_column, spectra_schema
from survey.store.settings import Bits, Prepare
from survey.store.store import (
    STORE,
    Store,
    StoreDocument,
    StoreSettings,
    open_store,
)
from tests.finished import finish_store

GRID = Grid(4000.0, 4002.0, 1.0)


def visit(number: int, **changes: Any) -> dict[str, Any]:
    """The row of a LAMOST visit. Its plan, position and ids follow from the number."""
    lmjd, spid, fiberid = 55000 + number // 250, 1 + number % 16, 1 + number % 250
    ending = ".gz" if number % 2 else ""
    file = f"spec-{lmjd}-P{number % 7:02d}_sp{spid:02d}-{fiberid:03d}.fits{ending}"
    return {
        "path": f"/data/{lmjd}/P{number % 7:02d}/{file}",
        "row": -1,
        "visit": f"{lmjd}-P{number % 7:02d}-{spid:02d}-{fiberid:03d}",
        "star": f"J{number:06d}.00+000000.0",
        "obsid": 1000 + number,
        "survey": "lamost-lrs",
        "layout": "lrs_image",
        "ra": (0.37 * number) % 360,
        "dec": -60 + (0.53 * number) % 120,
        "snr": 10.0 + number % 50,
        "snr_g": 10.0 + number % 50,
        "flags": 0,
    } | changes


def store(folder: Path, rows: list[dict[str, Any]], size: int = 4) -> Store:
    """A store of these rows, with `size` rows in each shard.

    Its tables are written by pyarrow itself: no test looks at their pixels, and this takes far less time.
    """
    schema = spectra_schema(GRID, False)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]
    spectra = []
    for members in parts:
        pixels = array_column(np.ones((len(members), len(GRID)), np.float32))
        columns = [
            pixels
            if field.name in ("flux", "ivar")
            else pa.array([row.get(field.name) for row in members], field.type)
            for field in schema
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns, schema=schema), sink)
        spectra.append(sink.getvalue())
    settings = StoreSettings(shard=size, sources=(), options={}, prepare=Prepare(), bits=Bits())
    document = StoreDocument(
        version=STORE.version,
        id="small",
        shards=len(parts),
        files=len(rows),
        rows_in=len(rows),
        written=len(rows),
        refused={},
        grid=GRID,
        fingerprint="",
        settings=settings,
    )
    finish_store(folder, document, spectra)
    return open_store(str(folder))
