"""Makes one shard: fetches the files of its manifest rows, reads and prepares their spectra, writes tables.

This is what a worker does; it needs a `ShardSpec` and the number of a shard. Every item of the manifest ends
as rows of spectra or as a row of refused files, and the marker, written last, counts them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Self

import numpy as np
import pyarrow as pa
from isal import isal_zlib

from survey import checked, machine
from survey.fetch import fetch
from survey.sources import reading
from survey.sources.reading import Sources
from survey.spectrum import VISIT_COLUMNS, Refused, Spectrum
from survey.store.manifest import Manifest, open_manifest
from survey.store.markers import IngestMarker, shard_file, write_marker
from survey.store.prepare import PreparedSpectra, Preparer
from survey.store.schema import ARRAY_COLUMNS, REFUSED_SCHEMA, Flag, array_column, spectra_schema
from survey.store.settings import Bits, Ingest, Prepare
from survey.store.store import round_mantissa, to_parquet

SLICE = 128
"""Files held in memory at a time; their spectra are prepared together."""


@dataclass(frozen=True)
class ShardSpec:
    """What all shards of a store are made with: the workers get it."""

    store: str
    manifest: Manifest
    sources: tuple[str, ...]
    options: dict[str, dict[str, Any]]
    prepare: Prepare
    bits: Bits
    fingerprint: str

    @classmethod
    def from_settings(cls, settings: Ingest) -> Self:
        """For the files in the manifest of `settings.store`."""
        manifest = open_manifest(settings.store)
        return cls(
            manifest.store,
            manifest,
            settings.sources,
            settings.options,
            settings.prepare,
            settings.bits,
            settings.fingerprint(),
        )


@dataclass
class SourceItem:
    """One spectrum, or why there is none, with its manifest row and the checksum of its file."""

    manifest_row: dict[str, Any]
    crc: int | None
    result: Spectrum | Refused


@dataclass(frozen=True)
class ShardTables:
    """A shard in memory: its spectra and its refused files, made from `rows_in` items."""

    spectra: pa.Table
    refused: pa.Table
    rows_in: int

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason was given."""
        return dict(sorted(Counter(self.refused["reason"].to_pylist()).items()))

    @property
    def flagged(self) -> dict[str, int]:
        """How many spectra have each flag."""
        flags = self.spectra["flags"].to_numpy()
        counts = {str(flag.name).lower(): int(((flags & flag) != 0).sum()) for flag in Flag}
        return {name: count for name, count in counts.items() if count}


def make_shard(spec: ShardSpec, shard: int) -> dict[str, Any]:
    """Write the files of one shard and its marker; the result is the content of the marker."""
    machine.settle(1)
    tables = make_tables(spec, shard)
    marker = IngestMarker(
        shard=shard,
        files=spec.manifest.rows_in(shard),
        rows_in=tables.rows_in,
        written=tables.spectra.num_rows,
        refused=tables.reasons,
        flagged=tables.flagged,
        settings=spec.fingerprint,
        version=spec.manifest.versions.get(shard, 0),
        spectra=checked.write(shard_file(spec.store, "spectra", shard), to_parquet(tables.spectra)),
        refused_files=checked.write(shard_file(spec.store, "refused", shard), to_parquet(tables.refused)),
    )
    write_marker(spec.store, marker)
    return marker.model_dump(mode="json")


def make_tables(spec: ShardSpec, shard: int) -> ShardTables:
    """Fetch, read and prepare the files of a shard; nothing is written."""
    preparer = _preparer(spec.prepare.model_dump_json())
    schema = spectra_schema(preparer.grid, spec.prepare.continuum == "dual")
    spectra, refused, count = [schema.empty_table()], [REFUSED_SCHEMA.empty_table()], 0
    items = read_items(spec.manifest.shard(shard), reading.with_options(spec.sources, spec.options))
    for batch in _batches(items, SLICE):
        count += len(batch)
        spectra_table, refused_table = _prepare_batch(batch, preparer, spec.bits, schema)
        spectra.append(spectra_table)
        refused.append(refused_table)
    tables = ShardTables(pa.concat_tables(spectra), pa.concat_tables(refused), count)
    if count != tables.spectra.num_rows + tables.refused.num_rows:
        raise RuntimeError(
            f"ingest: shard {shard}: {count} rows in, but {tables.spectra.num_rows} written "
            f"and {tables.refused.num_rows} refused; please report this"
        )
    return tables


def read_items(rows: pa.Table, sources: Sources) -> Iterator[SourceItem]:
    """Every spectrum or refusal of these manifest rows, in their order."""
    for is_file, group in groupby(rows.to_pylist(), key=lambda row: row["row"] < 0):
        if is_file:
            yield from _read_files(list(group), sources)
        else:
            for path, table_rows in groupby(group, key=lambda row: row["path"]):
                yield from _read_table(path, list(table_rows), sources)


@lru_cache(maxsize=4)
def _preparer(settings: str) -> Preparer:
    return Preparer(Prepare.model_validate_json(settings), machine.device())


def _batches(items: Iterator[SourceItem], size: int) -> Iterator[list[SourceItem]]:
    batch: list[SourceItem] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _read_files(rows: list[dict[str, Any]], sources: Sources) -> Iterator[SourceItem]:
    for row, data in zip(rows, fetch([row["path"] for row in rows]), strict=True):
        if isinstance(data, Refused):
            yield SourceItem(row, None, data)
            continue
        crc = isal_zlib.crc32(data)
        try:
            spectra: list[Spectrum] = reading.spectra(data, row["path"].rpartition("/")[2], sources)
        except Refused as refusal:
            yield SourceItem(row, crc, refusal)
            continue
        for spectrum in spectra:
            yield SourceItem(row, crc, spectrum)


def _read_table(path: str, rows: list[dict[str, Any]], sources: Sources) -> Iterator[SourceItem]:
    results: list[Spectrum | Refused]
    try:
        results = reading.table_rows(path, [row["row"] for row in rows], sources)
    except FileNotFoundError:
        results = [Refused("missing", "no such file")] * len(rows)
    except ConnectionError:
        raise  # a bucket that does not answer: the table may be sound
    except OSError as error:
        results = [Refused("missing", error.strerror or str(error))] * len(rows)
    except ValueError as error:
        results = [Refused("bad_row", str(error))] * len(rows)
    for row, result in zip(rows, results, strict=True):
        yield SourceItem(row, None, result)


def _prepare_batch(
    batch: list[SourceItem], preparer: Preparer, bits: Bits, schema: pa.Schema
) -> tuple[pa.Table, pa.Table]:
    """The rows of spectra and the rows of refused files that a batch becomes."""
    read = [item for item in batch if isinstance(item.result, Spectrum)]
    spectra = [item.result for item in read if isinstance(item.result, Spectrum)]
    for item, spectrum in zip(read, spectra, strict=True):
        _add_catalogue_values(spectrum.visit, item.manifest_row)
    prepared = preparer(spectra, [item.manifest_row["rv"] for item in read])
    kept = [row for row in range(len(read)) if row not in prepared.quality.refused]
    items, visits = [read[row] for row in kept], [spectra[row].visit for row in kept]
    columns: dict[str, Any] = {name: [item.manifest_row[name] for item in items] for name in ("path", "row")}
    columns["crc"] = [item.crc for item in items]
    columns |= {name: [visit.get(name) for visit in visits] for name in VISIT_COLUMNS}
    columns |= _quality_columns(prepared, kept)
    columns["flags"][[value is None for value in columns["obsid"]]] |= Flag.NO_OBSID
    columns["flags"][[bool(value) for value in columns["fiber_mask"]]] |= Flag.FIBER
    columns["flags"][[spectra[row].noise_estimated for row in kept]] |= Flag.NOISE_ESTIMATED
    columns |= _array_columns(prepared, kept, bits, schema)
    table = pa.table([_column(columns[field.name], field) for field in schema], schema=schema)
    return table, _refused_table(batch, read, prepared.quality.refused)


def _quality_columns(prepared: PreparedSpectra, kept: list[int]) -> dict[str, Any]:
    quality = prepared.quality
    return {
        "velocity": [prepared.velocity[row] for row in kept],
        "snr": quality.snr[kept].astype(np.float32),
        "coverage": quality.coverage[kept].astype(np.float32),
        "bad_share": quality.bad_share[kept].astype(np.float32),
        "n_good": quality.usable[kept].astype(np.int32),
        "n_outlier": quality.outliers[kept].astype(np.int32),
        "egp": pa.array(quality.egp[kept].astype(np.float32), from_pandas=True),
        **{name: pa.array(values[kept], from_pandas=True) for name, values in prepared.indices.items()},
        "flags": quality.flags[kept],
        "flux_scale": prepared.scale[kept],
    }


def _array_columns(
    prepared: PreparedSpectra, kept: list[int], bits: Bits, schema: pa.Schema
) -> dict[str, pa.Array]:
    columns = {}
    for name, kept_bits in (("flux", bits.flux), ("ivar", bits.ivar), ("continuum", bits.flux)):
        if name in schema.names:
            values = getattr(prepared, name)
            if len(kept) < len(values):
                values = values[kept]
            columns[name] = array_column(round_mantissa(values, kept_bits))
    return columns


def _column(values: Any, field: pa.Field) -> pa.Array:
    if field.name in ARRAY_COLUMNS:
        return values
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)


def _add_catalogue_values(visit: dict[str, Any], manifest_row: dict[str, Any]) -> None:
    """Values of the catalogue complete those of the file."""
    for name in ("obsid", "star", "ra", "dec", "z"):
        if visit.get(name) is None and manifest_row[name] is not None:
            visit[name] = manifest_row[name]


def _refused_table(batch: list[SourceItem], read: list[SourceItem], refused: dict[int, Refused]) -> pa.Table:
    """Rows of refused files, in the order of the manifest. `refused` holds the refusals after reading."""
    by_item = {id(read[row]): refusal for row, refusal in refused.items()}
    rows = []
    for item in batch:
        refusal = item.result if isinstance(item.result, Refused) else by_item.get(id(item))
        if refusal is not None:
            rows.append(
                {
                    "path": item.manifest_row["path"],
                    "row": item.manifest_row["row"],
                    "reason": refusal.reason,
                    "detail": refusal.detail[:500],
                    "crc": item.crc,
                }
            )
    return pa.Table.from_pylist(rows, schema=REFUSED_SCHEMA)
