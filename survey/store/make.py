"""One shard from its manifest rows to its files: fetch, read, prepare, write. This is what a worker does; it needs nothing but its number.

Every item of the manifest ends as rows of spectra or as a row of refused files, and the marker, written last, says how many.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from isal import isal_zlib

from survey import files, machine, plugins
from survey.settings import Settings
from survey.sources import reading
from survey.spectrum import VISIT, Refused, Spectrum
from survey.store.manifest import Manifest
from survey.store.prepare import Prepare, Preparer
from survey.store.quality import Flag
from survey.store.store import (
    ARRAYS,
    REFUSED_SCHEMA,
    Bits,
    array_column,
    packed,
    part,
    rounded,
    spectra_schema,
)

SLICE = 128
"""Files held in memory at a time; their spectra are prepared together."""


@dataclass(frozen=True)
class Making:
    """What every shard of a store is made with: travels to the workers."""

    store: str
    manifest: Manifest
    sources: tuple[str, ...]
    options: dict[str, dict[str, Any]]
    prepare: Prepare
    bits: Bits
    fingerprint: str


def readers(sources: tuple[str, ...], options: dict[str, dict[str, Any]]) -> dict[str, Settings]:
    """The sources to ask, and `arrays` for tables of spectra, with their checked options."""
    return {
        name: plugins.options("sources", name).checked(f"ingest: options.{name}", options.get(name, {}))
        for name in dict.fromkeys((*sources, "arrays"))
    }


@dataclass
class Item:
    """One spectrum on its way: where it came from, what the manifest knows of it, and the spectrum or why there is none."""

    known: dict[str, Any]
    crc: int | None
    found: Spectrum | Refused


@dataclass(frozen=True)
class Made:
    """A shard in memory: its spectra and its refused files, as a store keeps them, and how many items of the manifest they came from."""

    spectra: pa.Table
    refused: pa.Table
    rows_in: int

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason was given."""
        return dict(sorted(Counter(self.refused["reason"].to_pylist()).items()))


def made(making: Making, shard: int) -> Made:
    """The files of a shard fetched, read and prepared; nothing is written."""
    preparer = _preparer(making.prepare.model_dump_json())
    schema = spectra_schema(preparer.grid, making.prepare.continuum == "dual")
    spectra, refused, count = [], [], 0
    for batch in _batches(
        items(making.manifest.shard(shard), readers(making.sources, making.options)), SLICE
    ):
        count += len(batch)
        good, bad = _prepared(batch, preparer, making.bits, schema)
        spectra.append(good)
        refused.append(bad)
    found = Made(
        pa.concat_tables(spectra or [schema.empty_table()]),
        pa.concat_tables(refused or [REFUSED_SCHEMA.empty_table()]),
        count,
    )
    if count != found.spectra.num_rows + found.refused.num_rows:
        raise RuntimeError(
            f"ingest: shard {shard}: {count} rows in, {found.spectra.num_rows} written and {found.refused.num_rows} refused; please report this"
        )
    return found


def make_shard(making: Making, shard: int) -> dict[str, Any]:
    """Write the files of one shard and its marker; the marker's content comes back."""
    machine.settle(1)
    found = made(making, shard)
    marker = {
        "shard": shard,
        "files": making.manifest.rows_in(shard),
        "rows_in": found.rows_in,
        "written": found.spectra.num_rows,
        "refused": found.reasons,
        "settings": making.fingerprint,
        "version": making.manifest.versions.get(shard, 0),
        "spectra": put(part(making.store, "spectra", shard), packed(found.spectra)),
        "refused_files": put(part(making.store, "refused", shard), packed(found.refused)),
    }
    files.write_json(part(making.store, "markers", shard), marker)
    return marker


def put(path: str, data: pa.Buffer) -> dict[str, int]:
    """Write a file of a shard; its size and checksum, for the marker."""
    files.write(path, memoryview(data))
    return {"bytes": data.size, "crc": isal_zlib.crc32(data)}


@lru_cache(maxsize=4)
def _preparer(settings: str) -> Preparer:
    return Preparer(Prepare.model_validate_json(settings), machine.device())


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def items(rows: pa.Table, readers: dict[str, Settings]) -> Iterator[Item]:
    """Every spectrum or refusal behind the manifest rows, in their order."""
    known = rows.to_pylist()
    for whole, group in groupby(known, key=lambda row: row["row"] < 0):
        if whole:
            yield from _from_files(list(group), readers)
        else:
            for path, part_rows in groupby(group, key=lambda row: row["path"]):
                yield from _from_table(path, list(part_rows), readers["arrays"])


def _from_files(known: list[dict[str, Any]], readers: dict[str, Settings]) -> Iterator[Item]:
    for about, data in zip(known, files.fetch([row["path"] for row in known]), strict=True):
        if isinstance(data, Refused):
            yield Item(about, None, data)
            continue
        crc = isal_zlib.crc32(data)
        try:
            found: list[Spectrum] = reading.spectra(data, about["path"].rpartition("/")[2], readers)
        except Refused as refusal:
            yield Item(about, crc, refusal)
            continue
        for spectrum in found:
            yield Item(about, crc, spectrum)


def _from_table(path: str, known: list[dict[str, Any]], options: Settings) -> Iterator[Item]:
    try:
        found = plugins.load("sources", "arrays").read_rows(path, [row["row"] for row in known], options)
    except FileNotFoundError:
        found = [Refused("missing", "no such file")] * len(known)
    except ValueError as error:
        found = [Refused("bad_row", str(error))] * len(known)
    for about, spectrum in zip(known, found, strict=True):
        yield Item(about, None, spectrum)


def _prepared(
    batch: list[Item], preparer: Preparer, bits: Bits, schema: pa.Schema
) -> tuple[pa.Table, pa.Table]:
    """The rows of spectra and the rows of refused files that a batch becomes."""
    read = [item for item in batch if isinstance(item.found, Spectrum)]
    spectra = [item.found for item in read if isinstance(item.found, Spectrum)]
    for item, spectrum in zip(read, spectra, strict=True):
        _complete(spectrum.visit, item.known)
    result = preparer(spectra, [item.known["rv"] for item in read])
    judged = result.judgement
    kept = [row for row in range(len(read)) if row not in judged.refused]
    columns: dict[str, Any] = {name: [read[row].known[name] for row in kept] for name in ("path", "row")}
    columns["crc"] = [read[row].crc for row in kept]
    columns |= {name: [spectra[row].visit.get(name) for row in kept] for name in VISIT}
    flags = judged.flags[kept]
    flags[[value is None for value in columns["obsid"]]] |= Flag.NO_OBSID
    flags[[bool(value) for value in columns["fiber_mask"]]] |= Flag.FIBER
    columns |= {
        "velocity": [result.velocity[row] for row in kept],
        "snr": judged.snr[kept].astype(np.float32),
        "coverage": judged.coverage[kept].astype(np.float32),
        "bad_share": judged.bad_share[kept].astype(np.float32),
        "n_good": judged.usable[kept].astype(np.int32),
        "n_outlier": judged.outliers[kept].astype(np.int32),
        "egp": pa.array(judged.egp[kept].astype(np.float32), from_pandas=True),
        "flags": flags,
        "flux_scale": result.scale[kept],
    }
    everything = len(kept) == len(read)
    for name, keep in (("flux", bits.flux), ("ivar", bits.ivar), ("continuum", bits.flux)):
        if name in schema.names:
            values = getattr(result, name) if everything else getattr(result, name)[kept]
            columns[name] = array_column(rounded(values, keep))
    good = pa.table([_column(columns[field.name], field) for field in schema], schema=schema)
    return good, _refusals(batch, read, judged.refused)


def _column(values: Any, field: pa.Field) -> pa.Array:
    if field.name in ARRAYS:
        return values
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)


def _complete(visit: dict[str, Any], known: dict[str, Any]) -> None:
    """What the catalogue knows and the file does not say."""
    for name in ("obsid", "star", "ra", "dec", "z"):
        if visit.get(name) is None and known[name] is not None:
            visit[name] = known[name]


def _refusals(batch: list[Item], read: list[Item], judged: dict[int, Refused]) -> pa.Table:
    """Rows of refused files in the order of the manifest."""
    by_item = {id(read[row]): refusal for row, refusal in judged.items()}
    rows = []
    for item in batch:
        refusal = item.found if isinstance(item.found, Refused) else by_item.get(id(item))
        if refusal is not None:
            rows.append(
                {
                    "path": item.known["path"],
                    "row": item.known["row"],
                    "reason": refusal.reason,
                    "detail": refusal.detail[:500],
                    "crc": item.crc,
                }
            )
    return pa.Table.from_pylist(rows, schema=REFUSED_SCHEMA)
