"""The files of a store: what columns they have, how they are written, and how a finished store is opened.

One shard is one Parquet file of spectra and one of refused files. Flux and ivar are fixed-size lists, so pyarrow, pandas and duckdb read
them as they are. Noise does not compress, so float32 is cut to the bits that carry something (`Bits`), split into byte planes and packed
by lz4: a fifth of the time of the usual codecs and less than half the size of plain float32.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from survey import files
from survey.settings import Settings
from survey.spectrum import VISIT, Grid
from survey.store.quality import MEANINGS

STORE, SHARDS, SETTINGS = "store.json", "shards.parquet", "settings.json"
VERSION = 1


class Bits(Settings):
    """How many bits of the mantissa are kept; 23 is all of a float32."""

    flux: int = Field(14, ge=4, le=23, description="of flux: 14 is a rounding of 3e-5, far below any noise")
    ivar: int = Field(7, ge=2, le=23, description="of ivar: 7 is a rounding of 0.4 %")


MEASURED = {
    "path": ("string", "the file that the spectrum came from"),
    "row": ("int64", "the row within a table file; -1 for a file of one spectrum"),
    "crc": ("int64", "CRC-32 of the file as read; null for rows of a table file"),
    "velocity": ("float64", "km/s that were taken out to reach the rest frame; null where none was known"),
    "snr": ("float32", "signal to noise: median per good grid point"),
    "coverage": ("float32", "share of the grid that the file covers"),
    "bad_share": ("float32", "share of the covered points that are bad"),
    "n_good": ("int32", "good points that were normalised"),
    "n_outlier": ("int32", "points cut as outliers after normalisation"),
    "egp": (
        "float32",
        "index of the CH G band, -2.5 log10(F(4200-4400) / F(4425-4520)); null where not covered",
    ),
    "flags": (
        "int32",
        "quality bits: "
        + "; ".join(
            f"{flag.value} {flag.name.lower()}: {words}" for flag, words in MEANINGS.items() if flag.name
        ),
    ),
    "flux_scale": (
        "float32",
        "flux of the file = flux * continuum * flux_scale (continuum: mean 1 over the grid)",
    ),
}
ARRAYS = {
    "flux": "normalised flux at the grid points, rest frame, vacuum; 1 where bad",
    "ivar": "inverse variance of flux; 0 = bad",
    "continuum": "continuum at the grid points, mean 1",
}
REFUSED = {
    "path": ("string", "the file"),
    "row": ("int64", "the row within a table file; -1 for a whole file"),
    "reason": ("string", "one of the closed list of reasons"),
    "detail": ("string", "what was found"),
    "crc": ("int64", "CRC-32 of the file as read, where it could be read"),
}


def _field(name: str, kind: Any, meaning: str) -> pa.Field:
    return pa.field(
        name, pa.type_for_alias(kind) if isinstance(kind, str) else kind, metadata={"description": meaning}
    )


def spectra_schema(grid: Grid, with_continuum: bool) -> pa.Schema:
    """The columns of spectra; the grid is in the schema's metadata."""
    columns = [_field(name, *MEASURED[name]) for name in ("path", "row", "crc")]
    columns += [_field(name, *about) for name, about in VISIT.items()]
    columns += [
        _field(name, *about) for name, about in MEASURED.items() if name not in ("path", "row", "crc")
    ]
    names = ("flux", "ivar", "continuum") if with_continuum else ("flux", "ivar")
    columns += [_field(name, _lists(len(grid)), ARRAYS[name]) for name in names]
    about = {
        "start": grid.start,
        "stop": grid.stop,
        "step": grid.step,
        "scale": grid.scale,
        "points": len(grid),
        "medium": "vacuum",
        "unit": "angstrom",
    }
    return pa.schema(columns, metadata={"grid": json.dumps(about)})


REFUSED_SCHEMA = pa.schema([_field(name, *about) for name, about in REFUSED.items()])


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Float32 with all but so many bits of the mantissa rounded away, in place."""
    if bits < 23:
        drop = 23 - bits
        raw = values.view(np.uint32)
        raw += np.uint32(1 << (drop - 1))
        raw &= np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return values


def _lists(size: int) -> pa.DataType:
    """Lists of so many numbers, none of them null: Parquet spends time on what may be null."""
    return pa.list_(pa.field("element", pa.float32(), nullable=False), size)


def array_column(values: np.ndarray) -> pa.Array:
    """Rows of a 2-D array as fixed-size lists, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=_lists(values.shape[1]))


def packed(table: pa.Table) -> pa.Buffer:
    """A table as the bytes of a Parquet file."""
    arrays = [name for name in ARRAYS if name in table.column_names]
    plain = [name for name in table.column_names if name not in arrays]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=1 << 30,
        compression="lz4",
        write_batch_size=1 << 14,
        use_dictionary=plain,
        write_statistics=plain,
        column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in arrays},
    )
    return sink.getvalue()


def part(store: str, kind: str, shard: int) -> str:
    """The path of a shard's file: kind is spectra, refused or markers."""
    return files.join(store, kind, f"part-{shard:05d}.{'json' if kind == 'markers' else 'parquet'}")


@dataclass(frozen=True)
class Store:
    """A finished store: its description and its shards."""

    path: str
    about: dict[str, Any]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return int(self.about["shards"])

    def file(self, shard: int) -> str:
        """The path of a shard's spectra."""
        return part(self.path, "spectra", shard)

    def spectra(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The spectra of one shard."""
        return self._table("spectra", shard, columns)

    def refused(self, shard: int) -> pa.Table:
        """The refused files of one shard."""
        return self._table("refused", shard, None)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The spectra, shard by shard."""
        return (self.spectra(shard, columns) for shard in range(self.shards))

    def _table(self, kind: str, shard: int, columns: list[str] | None) -> pa.Table:
        return files.read_table(part(self.path, kind, shard), columns)


def open_store(path: str) -> Store:
    """A store whose ingest has finished."""
    manifest = files.join(path, STORE)
    if not files.exists(manifest):
        raise FileNotFoundError(
            f"{path}: no {STORE} in it, so no finished store; run jobs/ingest.py with store={path} to the end"
        )
    about = json.loads(files.read(manifest))
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path}: the store is of version {about.get('version')}, this code reads {VERSION}; ingest it anew"
        )
    return Store(path, about)
