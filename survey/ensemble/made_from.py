"""The tables and stores that an ensemble is made from: the checksums of the tables and the ids of the stores.

They are kept with the ensemble, by the name of the setting that gives them. So a finished ensemble notices a
label table that was corrected, or a store that has other spectra now, at the same path.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from survey import checked
from survey.ensemble.settings import RUNS, Build
from survey.folder import Folder
from survey.labelling.unlabelled import NONE
from survey.settings import SettingsError
from survey.store.store import STORE, open_store
from survey.training.settings import Train


class MadeFrom(BaseModel):
    """The checksum of each table and the id of each store, by the settings that name them.

    What is not there has none. Ensembles that were made before they were kept have none at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: dict[str, int] = {}
    stores: dict[str, str] = {}

    @classmethod
    def of(cls, settings: Build, planned: Sequence[Train]) -> Self:
        """Of the tables and stores as they are now; `planned` are the members that are trained."""
        tables = {name: path for name, path in _named(settings, planned, "labels") if path and path != NONE}
        stores = {name: path for name, path in _named(settings, planned, "store") if path}
        crc_of = {path: checked.checksums([path])[0] for path in dict.fromkeys(tables.values())}
        id_of = {path: _store_id(path) for path in dict.fromkeys(stores.values())}
        return cls(
            tables={name: crc for name, path in tables.items() if (crc := crc_of[path]) is not None},
            stores={name: id_of[path] for name, path in stores.items() if id_of[path]},
        )

    def check(self, ensemble: str, now: Self) -> None:
        """An error if a table or a store that is there has another content now."""
        pairs = ((self.tables, now.tables), (self.stores, now.stores))
        differing = [
            f"{name} has another content now"
            for old, new in pairs
            for name, value in old.items()
            if new.get(name, value) != value
        ]
        if differing:
            raise SettingsError(
                f"ensemble: ensemble: {ensemble}: was made from other files: {'; '.join(differing[:3])}; "
                "put the files of before back, or give another ensemble= to make one from these"
            )


def _named(
    settings: Build, planned: Sequence[Train], what: Literal["labels", "store"]
) -> Iterator[tuple[str, str | None]]:
    """The label tables, or the stores, by the settings that name them."""
    if settings.runs:
        yield what, getattr(settings, what)
    yield f"recalibrate.{what}", getattr(settings.recalibrate, what)
    for training in planned:
        name = _name(training)
        yield f"{name}.{what}", getattr(training, what)
        for key, source in training.sources.items():
            yield f"{name}.sources.{key}.{what}", getattr(source, what)


def _name(training: Train) -> str:
    return f"{RUNS}.{training.run.rpartition('/')[2]}"


def _store_id(path: str) -> str:
    """The id of a store; empty where there is no finished one."""
    return open_store(path).id if Folder(path, STORE).is_finished() else ""
