"""Makes one shard: fetches the files of its manifest rows, reads and prepares their spectra, writes tables.

This is what a worker does; it needs a `ShardSpec` and the number of a shard. Every item of the manifest ends
as rows of spectra or as a row of refused files, and the marker, written last, counts them.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import pyarrow as pa

from survey import checked, machine
from survey.sources import reading
from survey.spectrum import VISIT_COLUMNS, Refused, Spectrum
from survey.store.manifest import Manifest, open_manifest
from survey.store.markers import IngestMarker, shard_file, write_marker
from survey.store.objects import SourceItem, add_images, read_items
from survey.store.prepare import SPEED_OF_LIGHT, PreparedSpectra, Preparer
from survey.store.schema import (
    ARRAY_COLUMNS,
    IMAGE,
    REFUSED_SCHEMA,
    STORE_COLUMNS,
    Flag,
    array_column,
    image_column,
    spectra_schema,
)
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
    grid, images = spec.prepare.wavelengths(), spec.prepare.image
    schema = spectra_schema(grid, spec.prepare.continuum == "dual", images)
    sources = reading.with_options(spec.sources, spec.options)
    spectra, refused, count = [schema.empty_table()], [REFUSED_SCHEMA.empty_table()], 0
    for batch in _batches(read_items(spec.manifest.shard(shard), sources), SLICE):
        count += len(batch)
        add_images(batch, sources, images, has_spectra=len(grid) > 0)
        spectra_table, refused_table = _prepare_batch(batch, spec, schema)
        spectra.append(spectra_table)
        refused.append(refused_table)
    tables = ShardTables(pa.concat_tables(spectra), pa.concat_tables(refused), count)
    if count != tables.spectra.num_rows + tables.refused.num_rows:
        raise RuntimeError(
            f"ingest: shard {shard}: {count} rows in, but {tables.spectra.num_rows} written "
            f"and {tables.refused.num_rows} refused; please report this"
        )
    return tables


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


def _prepare_batch(batch: list[SourceItem], spec: ShardSpec, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """The rows of spectra and images, and the rows of refused files, that a batch becomes."""
    has_grid = "flux" in schema.names
    read = [item for item in batch if not isinstance(item.result, Refused)]
    with_spectrum = [item for item in read if has_grid and isinstance(item.result, Spectrum)]
    without = [item for item in read if not (has_grid and isinstance(item.result, Spectrum))]
    for item in read:
        _add_catalogue_values(item.visit, item.manifest_row)
    items, table, refused = list[SourceItem](), schema.empty_table(), dict[int, Refused]()
    if with_spectrum:
        preparer = _preparer(spec.prepare.model_dump_json())
        items, table, refused = _with_spectrum(with_spectrum, preparer, spec.bits, schema)
    if without:
        others = _table(without, _no_spectrum_columns(len(without), schema), schema)
        place = {id(item): number for number, item in enumerate(batch)}
        order = np.argsort([place[id(item)] for item in (*items, *without)])  # that of the manifest
        table = pa.concat_tables([table, others]).take(pa.array(order))
    return table, _refused_table(batch, refused)


def _with_spectrum(
    read: list[SourceItem], preparer: Preparer, bits: Bits, schema: pa.Schema
) -> tuple[list[SourceItem], pa.Table, dict[int, Refused]]:
    """The items whose spectra pass the gates, their rows, and the refusals by the identity of the item."""
    spectra = [item.result for item in read if isinstance(item.result, Spectrum)]
    prepared = preparer(spectra, [_velocity(item) for item in read])
    kept = [row for row in range(len(read)) if row not in prepared.quality.refused]
    columns = _quality_columns(prepared, kept) | _array_columns(prepared, kept, bits, schema)
    columns["flags"][[spectra[row].noise_estimated for row in kept]] |= Flag.NOISE_ESTIMATED
    items = [read[row] for row in kept]
    refused = {
        id(read[row]): _with_shift(refusal, read[row], prepared.velocity[row])
        for row, refusal in prepared.quality.refused.items()
    }
    return items, _table(items, columns, schema), refused


def _with_shift(refusal: Refused, item: SourceItem, velocity: float | None) -> Refused:
    """A refusal for its coverage with the shift to the rest frame: a wrong one leaves little of the grid."""
    if refusal.reason != "coverage" or not velocity:
        return refusal
    rv, z, catalogue = _velocity(item), velocity / SPEED_OF_LIGHT, item.manifest_row
    if rv is not None and math.isclose(rv, velocity):
        shift, column, is_given = f"rv={rv:g} km/s", "rv", catalogue["rv"] is not None
    else:
        shift, column = f"z={z:.6g}", "redshift or z"
        is_given = catalogue["z"] is not None and math.isclose(catalogue["z"], z)
    origin = f"column {column} of the catalogue" if is_given else f"{column} of the file"
    return Refused(refusal.reason, f"{refusal.detail}, after the shift by {shift} ({origin})")


def _velocity(item: SourceItem) -> float | None:
    """The radial velocity in km/s, of the catalogue or else of the source."""
    velocity: float | None = item.manifest_row["rv"]
    return item.visit.get("rv") if velocity is None else velocity


def _table(items: list[SourceItem], columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """The rows of items with these columns of their spectra."""
    visits = [item.visit for item in items]
    columns = {name: [item.manifest_row[name] for item in items] for name in ("path", "row")} | columns
    columns["crc"] = [item.crc for item in items]
    columns |= {name: [visit.get(name) for visit in visits] for name in VISIT_COLUMNS}
    is_spectrum = np.array([isinstance(item.result, Spectrum) for item in items], bool)
    has_no_obsid = np.array([value is None for value in columns["obsid"]], bool)
    columns["flags"][has_no_obsid & is_spectrum] |= Flag.NO_OBSID
    columns["flags"][[bool(value) for value in columns["fiber_mask"]]] |= Flag.FIBER
    if IMAGE in schema.names:
        columns |= _image_columns(items, columns["flags"], schema)
    return pa.table([_column(columns[field.name], field) for field in schema], schema=schema)


def _image_columns(items: list[SourceItem], flags: np.ndarray, schema: pa.Schema) -> dict[str, Any]:
    """The images of items, zeros where there is none; sets the flag."""
    size = schema.field(IMAGE).type.byte_width
    none = np.zeros(size, np.uint8)
    flags |= np.array([item.image_flag for item in items], flags.dtype)
    pixels = [item.image if isinstance(item.image, np.ndarray) else none for item in items]
    return {
        "image_path": [item.manifest_row["image"] for item in items],
        "image_problem": [item.image_problem for item in items],
        IMAGE: image_column(pixels, size),
    }


def _no_spectrum_columns(count: int, schema: pa.Schema) -> dict[str, Any]:
    """The columns of a spectrum for objects that have none: no good pixel, nothing measured."""
    columns: dict[str, Any] = {name: [None] * count for name in STORE_COLUMNS if name not in ("path", "row")}
    columns |= {"n_good": [0] * count, "n_outlier": [0] * count}
    has_grid = "flux" in schema.names
    columns["flags"] = np.full(count, Flag.NO_SPECTRUM if has_grid else 0, np.int32)
    for name, value in (("flux", 1.0), ("ivar", 0.0), ("continuum", 1.0)):
        if name in schema.names:
            size = schema.field(name).type.list_size
            columns[name] = array_column(np.full((count, size), value, np.float32))
    return columns


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
    if field.name in (*ARRAY_COLUMNS, IMAGE):
        return values
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)


def _add_catalogue_values(visit: dict[str, Any], manifest_row: dict[str, Any]) -> None:
    """Values of the catalogue complete those of the file."""
    for name in ("obsid", "star", "ra", "dec", "z"):
        if visit.get(name) is None and manifest_row[name] is not None:
            visit[name] = manifest_row[name]


def _refused_table(batch: list[SourceItem], refused: dict[int, Refused]) -> pa.Table:
    """Rows of refused files, in the order of the manifest. `refused` holds the refusals after reading, by the
    identity of their items."""
    rows = []
    for item in batch:
        refusal = item.result if isinstance(item.result, Refused) else refused.get(id(item))
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
