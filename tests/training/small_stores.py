"""Finished stores of a few pixels, made of rows: what labels are joined to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from survey.spectrum import Grid
from survey.store import store as shards
from survey.store.store import Store, array_column, open_store, packed, part, spectra_schema

GRID = Grid(4000.0, 4002.0, 1.0)


def visit(number: int, **other: Any) -> dict[str, Any]:
    """The row of a LAMOST visit; the number says everything: plan, position, ids."""
    lmjd, spid, fiberid = 55000 + number // 250, 1 + number % 16, 1 + number % 250
    return {
        "path": f"/data/{lmjd}/P{number % 7:02d}/spec-{lmjd}-P{number % 7:02d}_sp{spid:02d}-{fiberid:03d}.fits{'.gz' if number % 2 else ''}",
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
    } | other


def store(folder: Path, rows: list[dict[str, Any]], size: int = 4) -> Store:
    """A store of these rows, so many in each shard."""
    schema = spectra_schema(GRID, False)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]
    for number, members in enumerate(parts):
        pixels = array_column(np.ones((len(members), len(GRID)), np.float32))
        columns = [
            pixels
            if field.name in ("flux", "ivar")
            else pa.array([row.get(field.name) for row in members], field.type)
            for field in schema
        ]
        path = Path(part(str(folder), "spectra", number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memoryview(packed(pa.table(columns, schema=schema))))
    (folder / shards.STORE).write_text(json.dumps({"version": shards.VERSION, "shards": len(parts)}))
    return open_store(str(folder))
