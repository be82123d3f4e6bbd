"""A store: spectra on one grid, in numbered shards, and how a finished one is opened.

settings.json    the settings of the ingest, written first
manifest/        which file belongs to which shard, with manifest.json
spectra/         a Parquet file per shard, one row per spectrum
refused/         a Parquet file per shard, one row per refused file
markers/         what each shard holds
shards.parquet   all markers as a table
store.json       the document, written last

Noise does not compress. So float32 is rounded to the bits that carry information (`Bits`), split into byte
planes and packed by lz4: a fifth of the time of the usual codecs, and less than half the size of plain
float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from survey import files
from survey.folder import Document, Folder, Kind
from survey.spectrum import Grid
from survey.store.markers import SHARDS, IngestMarker, markers_from, shard_file
from survey.store.pages import parse_spectra
from survey.store.schema import ARRAY_COLUMNS, IMAGE
from survey.store.settings import Bits, Prepare
from survey.store.write_pages import written


class StoreSettings(BaseModel):
    """The settings of the ingest that decide what is in a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    sources: tuple[str, ...]
    options: dict[str, dict[str, Any]]
    prepare: Prepare
    bits: Bits


class StoreDocument(Document):
    """store.json: what a store holds. `rows_in` = `written` + all `refused`; `flagged` counts each flag."""

    shards: int
    files: int
    rows_in: int
    written: int
    refused: dict[str, int]
    flagged: dict[str, int] = Field(default_factory=dict)
    grid: Grid
    fingerprint: str
    settings: StoreSettings


STORE = Kind("store", StoreDocument, version=4, job="ingest", shared=True)


ADVICE = "run survey ingest with the settings of the store again, which makes this shard anew"


@dataclass(frozen=True)
class Store:
    """A finished store."""

    path: str
    document: StoreDocument
    markers: tuple[IngestMarker, ...] = ()

    @property
    def id(self) -> str:
        """A hash of the settings and of the contents of all shards."""
        return self.document.id

    @property
    def grid(self) -> Grid:
        """The wavelengths of all spectra."""
        return self.document.grid

    @property
    def prepare(self) -> Prepare:
        """How the spectra were brought onto the grid."""
        return self.document.settings.prepare

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Colours, height and width of the images; None if there are none."""
        return self.prepare.image.shape if self.prepare.image.is_used else None

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.document.shards

    def file(self, shard: int) -> str:
        """The path of a shard's spectra."""
        return self._file("spectra", shard)

    def _file(self, kind: str, shard: int) -> str:
        marker = self.markers[shard]
        return shard_file(marker.home or self.path, kind, marker.home_shard if marker.home else shard)

    def spectra(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The spectra of one shard, or some of their columns. A damaged file is an error."""
        data = self.markers[shard].spectra.read(self.file(shard), ADVICE)
        return parse_spectra(data, self.file(shard), columns)

    def refused(self, shard: int) -> pa.Table:
        """The refused files of one shard."""
        path = self._file("refused", shard)
        return files.parse_table(self.markers[shard].refused_files.read(path, ADVICE), path)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The spectra, shard by shard."""
        return (self.spectra(shard, columns) for shard in range(self.shards))


def open_store(path: str) -> Store:
    """A finished store."""
    folder = Folder(path, STORE)
    document = folder.document()
    markers = markers_from(folder.table(SHARDS, document=document), IngestMarker)
    return Store(path, document, markers)


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """Float32 rounded to so many bits of the mantissa, in place."""
    if bits < 23:
        dropped = 23 - bits
        raw = values.view(np.uint32)
        raw += np.uint32(1 << (dropped - 1))
        raw &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return values


def to_parquet(table: pa.Table) -> pa.Buffer:
    """A table of a store as the bytes of a Parquet file."""
    arrays = [name for name in ARRAY_COLUMNS if name in table.column_names]
    scalars = [name for name in table.column_names if name not in (*arrays, IMAGE)]
    options = {
        "compression": "lz4",
        "write_batch_size": 1 << 14,
        "write_page_checksum": True,  # for readers of some columns only
        "use_dictionary": scalars,
        "write_statistics": scalars,
        "column_encoding": {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in arrays},
    }
    return written(table, arrays, options)
