"""Where the spectra come from that are to be predicted: a finished store, or survey files that are prepared on the way and kept nowhere.

Both give the same: numbered shards, and of each a table as a store keeps it. What a shard is made from has a version, so that it is known when
it has changed. Spectra have to be prepared as those that the members have learned from, or the answers would be wrong without a sign of it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from isal import isal_zlib

from survey import files
from survey.ensemble.ensemble import Ensemble
from survey.ensemble.members import prepared_otherwise
from survey.settings import SettingsError
from survey.store import manifest
from survey.store.ingest import Ingest, check_tables
from survey.store.make import Made, Making, made
from survey.store.store import REFUSED_SCHEMA, SHARDS, Store, part
from survey.training.batches import Spectra

LOOKED_AT = ("flux", "ivar", "continuum")
"""Columns that networks look at; the others of a store say who and where a spectrum is."""
ALIGNED = 64
"""Bytes: where an array begins decides how vector units take it, and with it the last bit of a matrix product."""


@dataclass(frozen=True)
class FromStore:
    """The shards of a finished store, each with the checksum and the rows that the store says it has."""

    kind: ClassVar[str] = "store"
    path: str
    id: str
    sums: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, store: Store) -> "FromStore":
        """All shards that the store has now."""
        listed = files.join(store.path, SHARDS)
        if not files.exists(listed):
            raise FileNotFoundError(
                f"predict: {listed}: is missing, though the store is finished; run jobs/ingest.py with its settings once more"
            )
        rows = files.read_table(listed, ["shard", "written", "spectra"]).sort_by("shard").to_pylist()
        return cls(
            store.path, str(store.about["id"]), tuple((row["spectra"]["crc"], row["written"]) for row in rows)
        )

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.sums)

    def rows_in(self, shard: int) -> int:
        """How many spectra a shard has."""
        return self.sums[shard][1]

    def version(self, shard: int) -> int:
        """Another number once the shard has changed: the checksum of its spectra."""
        return self.sums[shard][0]

    def load(self, shard: int, columns: list[str]) -> Made:
        """These columns of the spectra of a shard, which have to be those that the store has written."""
        path = part(self.path, "spectra", shard)
        advice = "put a copy back, or remove it and run jobs/ingest.py again"
        try:
            data = files.read(path)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"predict: {path}: is missing, though the store is finished; {advice}"
            ) from None
        if isal_zlib.crc32(data) != self.sums[shard][0]:
            raise ValueError(
                f"predict: {path}: is not the file that the store has written (its checksum differs); {advice}"
            )
        file = pq.ParquetFile(pa.BufferReader(data))
        table = file.read([name for name in columns if name in file.schema_arrow.names], use_threads=False)
        return Made(table, REFUSED_SCHEMA.empty_table(), table.num_rows)


@dataclass(frozen=True)
class FromFiles:
    """Shards of survey files: the manifest lies with the predictions, the spectra are made when they are asked for."""

    kind: ClassVar[str] = "files"
    path: str
    making: Making

    @property
    def id(self) -> str:
        """The manifest's settings; which files there are stands in the manifest itself."""
        return self.making.fingerprint

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.making.manifest.shards

    def rows_in(self, shard: int) -> int:
        """How many rows of the manifest a shard has."""
        return self.making.manifest.rows_in(shard)

    def version(self, shard: int) -> int:
        """Another number once the shard has changed: how often its rows were replaced."""
        return self.making.manifest.versions.get(shard, 0)

    def load(self, shard: int, columns: list[str]) -> Made:
        """The spectra of a shard, fresh from their files."""
        found = made(self.making, shard)
        return Made(
            found.spectra.select([name for name in columns if name in found.spectra.column_names]),
            found.refused,
            found.rows_in,
        )


Origin = FromStore | FromFiles


def from_files(settings: Ingest) -> tuple[FromFiles, manifest.Plan]:
    """List the input into the manifest of the folder `store`, or lengthen it by what is new; and what was found in doing so."""
    plan = manifest.plan(settings, settings.store)
    listed = manifest.open_manifest(settings.store)
    making = Making(
        listed.store,
        listed,
        settings.sources,
        settings.options,
        settings.prepare,
        settings.bits,
        settings.fingerprint(),
    )
    check_tables(settings, listed.shard(0))
    return FromFiles(settings.input, making), plan


def spectra(table: pa.Table, path: str, needs_continuum: bool) -> Spectra:
    """The arrays of a shard, as they lie in memory."""
    names = LOOKED_AT if needs_continuum else LOOKED_AT[:2]
    if missing := [name for name in names if name not in table.column_names]:
        raise ValueError(
            f"predict: {path}: its spectra have no {missing[0]}, which a member looks at; prepare them with prepare.continuum=dual"
        )
    return Spectra(*(_tensor(table[name]) for name in names))


def _tensor(column: pa.ChunkedArray) -> torch.Tensor:
    """Fixed-size lists as rows, without a copy where memory allows; numpy would call them read-only, and torch warn of that."""
    flat: torch.Tensor = torch.from_dlpack(column.combine_chunks().flatten())  # type: ignore[attr-defined]
    even = flat if flat.data_ptr() % ALIGNED == 0 else flat.clone()
    return even.view(-1, column.type.list_size)


def check_prepared(ensemble: Ensemble, prepare: dict[str, Any], where: str) -> None:
    """Spectra that are prepared so can be asked about: as every member's own were."""
    for name, run in zip(ensemble.names, ensemble.members.runs, strict=True):
        if differing := prepared_otherwise(run, prepare):
            raise SettingsError(
                f"{where}: the spectra are prepared otherwise than those that the member {name} has learned from: {'; '.join(differing)}; "
                "prepare them as there, or give prepared=any if you know that it does no harm"
            )


def without_light(some: Spectra) -> np.ndarray:
    """Which spectra have no good pixel; what a network says of these is not about a star."""
    return np.asarray((some.ivar.amax(1) <= 0).numpy())
