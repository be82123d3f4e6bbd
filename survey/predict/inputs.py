"""The spectra to predict: those of a finished store, or survey files that are prepared on the way.

Both have numbered shards, and give the table of a shard as a store has it. A shard has a version, which
differs once the shard has changed. Spectra must be prepared like the members' training spectra, else the
answers would be wrong without any sign of it.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
import torch

from survey.checked import WrittenFile
from survey.ensemble.ensemble import Ensemble
from survey.settings import SettingsError, yaml_text
from survey.store import manifest
from survey.store.ingest import check_tables
from survey.store.make import ShardSpec, ShardTables, make_tables
from survey.store.pages import ALIGNMENT, parse_spectra
from survey.store.schema import IMAGE, REFUSED_SCHEMA, flat_values, image_array
from survey.store.settings import Ingest, Prepare
from survey.store.store import ADVICE, Store
from survey.training.batches import ExtraInputs, Spectra

PIXEL_COLUMNS = ("flux", "ivar", "continuum", IMAGE)
"""The columns that networks use; the other columns of a store identify a spectrum."""

PIXELS = ("flux", "ivar")
"""Those of them that every network gets."""


@dataclass(frozen=True)
class StoreInput:
    """The shards of a finished store: the path, the checksum and the number of rows of each."""

    kind: ClassVar[Literal["store"]] = "store"
    path: str
    id: str
    tables: tuple[tuple[str, WrittenFile, int], ...]
    paths: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_store(cls, store: Store) -> "StoreInput":
        """All shards that the store has now."""
        tables = ((store.file(marker.shard), marker.spectra, marker.written) for marker in store.markers)
        return cls(store.path, store.id, tuple(tables))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.tables)

    def rows_in(self, shard: int) -> int:
        """The number of spectra in a shard."""
        return self.tables[shard][2]

    def version(self, shard: int) -> int:
        """The checksum of the shard's spectra."""
        return self.tables[shard][1].crc

    def load(self, shard: int, columns: list[str]) -> ShardTables:
        """These columns of the spectra of a shard, whose file must have the store's checksum."""
        path, written, _ = self.tables[shard]
        table = parse_spectra(written.read(path, ADVICE), path, columns, some_may_be_missing=True)
        return ShardTables(table, REFUSED_SCHEMA.empty_table(), table.num_rows)


@dataclass(frozen=True)
class FilesInput:
    """Shards of survey files. Their manifest lies with the predictions; their spectra are not kept."""

    kind: ClassVar[Literal["files"]] = "files"
    path: str
    spec: ShardSpec

    @property
    def id(self) -> str:
        """The fingerprint of the settings of reading; the manifest lists the files themselves."""
        return self.spec.fingerprint

    @property
    def paths(self) -> tuple[str, ...]:
        """The inputs of all runs, each once."""
        return tuple(dict.fromkeys(record.input for record in self.spec.manifest.inputs))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.spec.manifest.shards

    def rows_in(self, shard: int) -> int:
        """The number of rows of the manifest in a shard."""
        return self.spec.manifest.rows_in(shard)

    def version(self, shard: int) -> int:
        """How often the rows of the shard were replaced."""
        return self.spec.manifest.versions.get(shard, 0)

    def load(self, shard: int, columns: list[str]) -> ShardTables:
        """These columns of the spectra of a shard, made from their files."""
        tables = make_tables(self.spec, shard)
        spectra = tables.spectra
        kept = spectra.select([name for name in columns if name in spectra.column_names])
        return ShardTables(kept, tables.refused, tables.rows_in)


PredictionInput = StoreInput | FilesInput


def list_files(settings: Ingest) -> tuple[FilesInput, manifest.IngestPlan, str]:
    """Survey files, listed in the manifest in the folder `store`, what is new in it, and what is assumed."""
    plan = manifest.plan(settings, settings.store, section="ingest.", output="predictions")
    spec = ShardSpec.from_settings(settings)
    note, _ = check_tables(settings, spec.manifest.shard(0), "ingest.")
    return FilesInput(settings.input, spec), plan, note


def to_spectra(table: pa.Table, where: str, extra: ExtraInputs) -> Spectra:
    """The spectra of a shard as tensors, in the memory of the table where possible."""
    if missing := [name for name in extra if name not in table.column_names]:
        advice = "image.size=64" if missing[0] == IMAGE else "continuum=dual"
        raise ValueError(
            f"predict: {where}: the spectra have no {missing[0]}, which a member uses; "
            f"prepare them with prepare.{advice}"
        )
    no_pixels = torch.empty(table.num_rows, 0)
    arrays = {name: _tensor(table[name]) if name in table.column_names else no_pixels for name in PIXELS}
    if "continuum" in extra:
        arrays["continuum"] = _tensor(table["continuum"])
    if IMAGE in extra:
        arrays[IMAGE] = _image_tensor(table)
    return Spectra(**arrays)


def _image_tensor(table: pa.Table) -> torch.Tensor:
    """The images of a table, whose schema says their shape."""
    colours, height, width = json.loads((table.schema.metadata or {})[b"image"])
    return torch.from_numpy(image_array(table[IMAGE], (colours, height, width)).copy())


def _tensor(column: pa.ChunkedArray) -> torch.Tensor:
    """Fixed-size lists as rows of a tensor. Numpy arrays would be read-only, and torch would warn of that."""
    flat: torch.Tensor = torch.from_dlpack(flat_values(column))  # type: ignore[attr-defined]
    aligned = flat if flat.data_ptr() % ALIGNMENT == 0 else flat.clone()
    return aligned.view(-1, column.type.list_size)


def check_prepared(ensemble: Ensemble, prepare: Prepare, where: str, section: str) -> None:
    """Refuses spectra that were prepared differently from the training spectra of a member.

    `section` is where their settings stand: `prepare` of an ingest, or `ingest.prepare` of a prediction.
    """
    job = " of survey ingest" if section == "prepare" else ""
    for name, run in zip(ensemble.names, ensemble.members.runs, strict=True):
        trained = run.document.store.prepare
        if differing := trained.differences(prepare):
            values = trained.plain()
            keys = [text.partition(" ")[0] for text in differing]
            advice = " ".join(_argument(f"{section}.{key}", values[key]) for key in keys)
            raise SettingsError(
                f"{where}: the spectra are not prepared like the training spectra of the member {name}: "
                f"{'; '.join(differing)}; prepare them with {advice}{job}, or give prepared=any"
            )


def _argument(key: str, value: Any) -> str:
    """A setting as it is typed: in quotation marks if the shell would change it."""
    return shlex.quote(f"{key}={yaml_text(value)}")
