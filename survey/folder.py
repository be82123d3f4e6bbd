"""A folder that one job makes and the next job reads: a store, a run, an ensemble, predictions, a catalog.

settings.json    written first: the kind of the folder and the settings of the job
KIND.json        written last: the document, which describes the content

All other files are written between these two. So a job that was stopped finds its own folder again, other
settings for the same folder are refused, and no job reads a folder that is not finished.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from survey import __version__, files
from survey.settings import SettingsError, differences

SETTINGS = "settings.json"

Differences = Callable[[Any, Any], Iterable[str]]
"""Names the settings that differ between two sets, in words."""


class Document(BaseModel):
    """The description of a finished folder. `version` is that of the format, `code` that of the program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    id: str
    code: str = __version__


D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Kind(Generic[D]):
    """A kind of folder: its name, the type of its document, the version of its format, and its job."""

    name: str
    document: type[D]
    version: int
    job: str

    @property
    def file(self) -> str:
        """The name of the document's file."""
        return f"{self.name}.json"


@dataclass(frozen=True)
class Folder(Generic[D]):
    """A folder of one kind, on a disk or in a bucket. It may be empty, begun or finished."""

    path: str
    kind: Kind[D]

    def file(self, *names: str) -> str:
        """The path of a file inside."""
        return files.join(self.path, *names)

    def settings(self) -> dict[str, Any] | None:
        """The settings that the folder was begun with, or None. Another kind or version is an error."""
        path = self.file(SETTINGS)
        if not files.exists(path):
            return None
        written = files.read_json(path)
        if not isinstance(written, dict) or not isinstance(written.get("settings"), dict):
            raise SettingsError(
                f"{self._where}: {SETTINGS} is not that of a {self.kind.name}; give an empty or a new folder"
            )
        if written.get("kind", self.kind.name) != self.kind.name:
            raise SettingsError(
                f"{self._where}: is the folder of another job ({written['kind']}, not {self.kind.name}); "
                "give an empty or a new folder"
            )
        self._check_version(written.get("version"))
        settings: dict[str, Any] = written["settings"]
        return settings

    def agree(
        self,
        settings: dict[str, Any],
        *,
        started: bool = True,
        allowed: Iterable[str] = (),
        compare: Differences = differences,
    ) -> bool:
        """Whether the folder was begun with these settings.

        Other settings are an error that names them, but only if work has `started`. A folder with other files
        and without settings is an error too; files named in `allowed` may exist before the settings.
        """
        before = self.settings()
        if before is None:
            self._check_empty(set(allowed))
            return False
        differing = list(compare(before, settings))
        if differing and started:
            raise SettingsError(
                f"{self._where}: was made with other settings: {'; '.join(differing)}; "
                f"give the same settings again, or another {self.kind.name}="
            )
        return not differing

    def begin(self, settings: dict[str, Any], **extra: Any) -> None:
        """Write the settings: from now on this is a folder of its kind. `extra` goes into the same file."""
        written = {
            "kind": self.kind.name,
            "version": self.kind.version,
            "code": __version__,
            **extra,
            "settings": settings,
        }
        files.write_json(self.file(SETTINGS), written)

    def is_finished(self) -> bool:
        """Whether the document exists."""
        return files.exists(self.file(self.kind.file))

    def _check_kind(self) -> None:
        """An error if the folder is one of another job."""
        path = self.file(SETTINGS)
        written = files.read_json(path) if files.exists(path) else {}
        kind = written.get("kind", self.kind.name) if isinstance(written, dict) else self.kind.name
        if kind != self.kind.name:
            raise SettingsError(
                f"{self.path}: is the folder of another job ({kind}, not {self.kind.name}); "
                f"give the folder of a finished {self.kind.name}"
            )

    def document(self) -> D:
        """The document of a finished folder. A missing, damaged or old one is an error."""
        path = self.file(self.kind.file)
        if not files.exists(path):
            self._check_kind()
            raise FileNotFoundError(
                f"{self.path}: no {self.kind.file} in it, so no finished {self.kind.name}; "
                f"run survey {self.kind.job} with {self.kind.name}={self.path} to the end"
            )
        written = files.read_json(path)
        self._check_version(written.get("version") if isinstance(written, dict) else None)
        try:
            return self.kind.document.model_validate(written)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(
                f"{path}: damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
                f"put a copy back, or remove it and run survey {self.kind.job} again"
            ) from error

    def finish(self, document: D) -> None:
        """Write the document: the folder is finished."""
        files.write(self.file(self.kind.file), (document.model_dump_json(indent=1) + "\n").encode())

    def withdraw(self) -> None:
        """Remove the document: the folder is not finished until `finish`."""
        files.remove(self.file(self.kind.file))

    @property
    def _where(self) -> str:
        return f"{self.kind.job}: {self.kind.name}: {self.path}"

    def _check_version(self, version: Any) -> None:
        if version != self.kind.version:
            raise SettingsError(
                f"{self.path}: a {self.kind.name} of version {version}, this code reads version "
                f"{self.kind.version}; make it again with survey {self.kind.job} in a new folder"
            )

    def _check_empty(self, allowed: set[str]) -> None:
        if not files.is_remote(self.path) and Path(self.path).is_file():
            raise SettingsError(f"{self._where}: is a file; give an empty or a new folder")
        others = [name for name in files.names(self.path) if name not in allowed]
        if others:
            raise SettingsError(
                f"{self._where}: holds {', '.join(others[:3])} but is no {self.kind.name}; "
                "give an empty or a new folder"
            )
