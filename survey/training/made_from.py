"""The tables, stores and runs that a run or an ensemble is made from: checksums of tables, ids of the others.

They are kept with it, by the name of the setting that gives them. So a job notices a label table that was
corrected, or a store that has other spectra now, at the same path; and it knows them again at another path.
"""

from collections.abc import Mapping
from functools import cache
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from survey import files
from survey.checked import WrittenFile
from survey.folder import Folder
from survey.labelling.unlabelled import NONE
from survey.settings import SettingsError
from survey.store.store import STORE, open_store
from survey.training.settings import Train


class MadeFrom(BaseModel):
    """The checksum of each table, and the id of each store and run, by the settings that name them.

    What is not there has none. What was made before they were kept has none at all. `stamps` are path, size
    and time of each table whose checksum was taken: with the same ones it is not read again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: dict[str, int] = {}
    stores: dict[str, str] = {}
    runs: dict[str, str] = {}
    stamps: dict[str, tuple[str, int, float]] = {}

    @classmethod
    def of(
        cls,
        tables: Mapping[str, str],
        stores: Mapping[str, str],
        runs: Mapping[str, str] | None = None,
        before: "MadeFrom | None" = None,
    ) -> Self:
        """Of the tables and stores at these paths as they are now, and runs with these ids; `before` is what
        was kept.
        """
        before = before or cls()
        found = {name: stamp for name, path in tables.items() if (stamp := _stamp(path))}
        crc_of = {
            name: before.tables[name] if before.stamps.get(name) == stamp else _checksum(*stamp)
            for name, stamp in found.items()
        }
        id_of = {path: _store_id(path) for path in dict.fromkeys(stores.values())}
        ids = {name: id_of[path] for name, path in stores.items() if id_of[path]}
        return cls(tables=crc_of, stores=ids, runs=dict(runs or {}), stamps=found)

    def same(self, now: Self) -> set[str]:
        """The settings that name the same content now, wherever it is."""
        return {name for name, value in self._values().items() if now._values().get(name) == value}

    def check(self, where: str, now: Self, advice: str) -> None:
        """An error if a table, a store or a run that is there has another content now."""
        values = now._values()
        differing = [
            f"{name} has another content now"
            for name, value in self._values().items()
            if values.get(name, value) != value
        ]
        if differing:
            raise SettingsError(
                f"{where}: was made from other files: {'; '.join(differing[:3])}; "
                f"put the files of before back, or {advice}"
            )

    def _values(self) -> dict[str, int | str]:
        return {**self.tables, **self.stores, **self.runs}


def paths_of(settings: Train, what: Literal["labels", "store"]) -> dict[str, str]:
    """The label tables, or the stores, of a training by the settings that name them."""
    named: dict[str, str] = {what: getattr(settings, what)}
    for name, source in settings.sources.items():
        if source.store:
            named[f"sources.{name}.{what}"] = getattr(source, what)
    return {name: path for name, path in named.items() if path and path != NONE}


def _stamp(path: str) -> tuple[str, int, float] | None:
    """Path, size and time of a table; None where there is none."""
    entry = files.stat_of(path)
    return (files.absolute(path), entry.size, entry.stamp) if entry else None


@cache
def _checksum(path: str, size: int, stamp: float) -> int:
    """The checksum of a table, which many trainings of one process may share."""
    del size, stamp  # with others of these it is read again
    return WrittenFile.at(path).crc


def _store_id(path: str) -> str:
    """The id of a store; empty where there is no finished one."""
    return open_store(path).id if Folder(path, STORE).is_finished() else ""
