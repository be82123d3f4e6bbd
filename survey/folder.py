"""A folder that one job makes and the next job reads: a store, a run, an ensemble, predictions, a catalog.

settings.json    written first: the kind of the folder and the settings of the job
KIND.json        written last: the document, which describes the content

All other files are written between these two. So a job that was stopped finds its own folder again, other
settings for the same folder are refused, and no job reads a folder that is not finished.

One process writes into a folder at a time (`survey.claim`). The document carries its own checksum and those
of the other files: what was changed since is an error for its readers, and the job, run again, makes it anew.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from survey import __version__, checked, files
from survey.arguments import given_command
from survey.checked import WrittenFile
from survey.claim import claim
from survey.settings import SettingsError, differences
from survey.unfinished import remove_unfinished

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS = "settings.json"
NEW = "give an empty or a new folder"
"""What helps if a folder is no folder of the job."""

Differences = Callable[[Any, Any], Iterable[str]]
"""Names the settings that differ between two sets, in words."""


class Document(BaseModel):
    """The description of a finished folder. `version` is that of the format, `code` that of the program.

    `content` holds the size and the checksum of the other files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    id: str
    code: str = __version__
    content: dict[str, WrittenFile] = Field(default_factory=dict)


D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Kind(Generic[D]):
    """A kind of folder: its name, the type of its document, the version of its format, and its job.

    `shared`: several processes of equal settings may make it together. `setting` names the folder among the
    settings of its job, if it is not named like the kind.
    """

    name: str
    document: type[D]
    version: int
    job: str
    shared: bool = False
    setting: str = ""

    @property
    def key(self) -> str:
        """The setting that names a folder of this kind."""
        return self.setting or self.name

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

    @contextmanager
    def claim(self, settings: Any) -> Iterator[None]:
        """The right to write into the folder; an error while another process works in it."""
        with claim(self.path, self.kind.job, self.kind.key, settings, self.kind.shared):
            with suppress(OSError, ValueError):  # settings that cannot be read: the job says so
                if not files.is_remote(self.path) and kind_of(self.path) == self.kind.name:
                    remove_unfinished(self.path)
            yield

    def settings(self) -> dict[str, Any] | None:
        """The settings that the folder was begun with, or None. Another kind or version is an error."""
        path = self.file(SETTINGS)
        if not files.exists(path):
            return None
        written = files.read_json(path, f"put a copy back, or {NEW}")
        if not isinstance(written, dict) or not isinstance(written.get("settings"), dict):
            raise SettingsError(f"{self._where}: {SETTINGS} is not that of a {self.kind.name}; {NEW}")
        if written.get("kind", self.kind.name) != self.kind.name:
            raise SettingsError(
                f"{self._where}: is the folder of another job ({written['kind']}, not {self.kind.name}); "
                + NEW
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
        if before is None and self._is_begun_by_now(set(allowed)):
            before = self.settings()
        if before is None:
            return False
        differing = list(compare(before, settings))
        if differing and started:
            raise SettingsError(
                f"{self._where}: was made with other settings: {'; '.join(differing)}; "
                f"give the same settings again, or another {self.kind.key}="
            )
        return not differing

    def begin(self, settings: dict[str, Any], **extra: Any) -> None:
        """Write the settings: from now on this is a folder of its kind. `extra` goes into the same file.

        So does the command of this process, if it is one, with its folder: `survey status` shows both.
        """
        command = given_command()
        written = {
            "kind": self.kind.name,
            "version": self.kind.version,
            "code": __version__,
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"command": command, "command_folder": str(Path.cwd())} if command else {}),
            **extra,
            "settings": settings,
        }
        files.write_json(self.file(SETTINGS), written, durable=True)

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """If the work inside fails before it writes anything else, the settings that it wrote are removed:
        what could not begin leaves no folder.
        """
        existed = files.exists(self.file(SETTINGS))
        try:
            yield
        except Exception:  # whatever it is, it is raised again
            if not existed and files.names(self.path) == [SETTINGS]:
                files.remove(self.file(SETTINGS))
            raise

    def begun(self) -> datetime:
        """When the folder was begun. A work that was stopped and continued keeps this time."""
        return datetime.fromisoformat(files.read_json(self.file(SETTINGS))["begun"])

    def is_finished(self) -> bool:
        """Whether the document exists."""
        return files.exists(self.file(self.kind.file))

    def _check_kind(self) -> None:
        """An error if the folder is one of another job."""
        kind = kind_of(self.path) or self.kind.name
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
            found = f"no {self.kind.file} in it, so no finished {self.kind.name}"
            if not files.exists(self.path):
                found = f"no such folder, so no finished {self.kind.name}; give the folder of one"
            raise FileNotFoundError(
                f"{self.path}: {found}; "
                f"run survey {self.kind.job} with {self.kind.key}={self.path} to the end"
            )
        written = files.read_json(path)
        version = written.get("version") if isinstance(written, dict) else None
        if isinstance(version, int) and checked.CHECKSUM not in written:
            self._check_version(version)  # folders before version 3 have no checksum
        values = checked.verify(path, written, self._advice)
        if isinstance(version, int):
            self._check_version(version)
        try:
            return self.kind.document.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(
                f"{path}: damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); {self._advice}"
            ) from error

    def sound_document(self) -> D | None:
        """The document, if the folder is finished and nothing of it is damaged. What is damaged is logged."""
        if not self.is_finished():
            return None
        try:
            document = self.document()
        except SettingsError:
            raise  # of another version or another job
        except ValueError as error:
            self._log_damage(str(error))
            return None
        damaged = [name for name, written in document.content.items() if not written.matches(self.file(name))]
        if damaged:
            self._log_damage(f"{self.path}: damaged or missing: {', '.join(damaged)}")
        return None if damaged else document

    def read(self, name: str, document: D | None = None) -> bytes:
        """The bytes of a file that the document lists, which must be as they were written."""
        content = (document or self.document()).content
        if name not in content:
            raise FileNotFoundError(f"{self.file(name)}: is no file of this {self.kind.name}")
        return content[name].read(self.file(name), self._advice)

    def table(self, name: str, columns: list[str] | None = None, document: D | None = None) -> "pa.Table":
        """A Parquet table that the document lists, or some of its columns."""
        return files.parse_table(self.read(name, document), self.file(name), columns)

    def finish(self, document: D, content: Iterable[str] = ()) -> D:
        """Write the document, with the checksums of the other files of the `content`: the folder is finished.

        A name that ends in ``/`` is a folder: all files in it belong to the content.
        """
        names = [name for entry in content for name in self._files_of(entry)]
        listed = {name: WrittenFile.at(self.file(name)) for name in names}
        document = document.model_copy(update={"content": dict(document.content) | listed})
        checked.write_json(self.file(self.kind.file), document.model_dump(mode="json"))
        return document

    def _files_of(self, entry: str) -> list[str]:
        if not entry.endswith("/"):
            return [entry]
        start = self.file("x").removesuffix("x")
        paths = (found.path for found in files.walk(self.file(entry.rstrip("/"))))
        return [path.removeprefix(start) for path in paths if not path.endswith(".tmp")]

    def withdraw(self) -> None:
        """Remove the document: the folder is not finished until `finish`."""
        files.remove(self.file(self.kind.file))

    @property
    def _advice(self) -> str:
        return f"run survey {self.kind.job} with the same settings again, or put a copy back"

    def _log_damage(self, text: str) -> None:
        logging.getLogger(__name__).warning("%s: made anew: %s", self.kind.job, text)

    @property
    def _where(self) -> str:
        return f"{self.kind.job}: {self.kind.key}: {self.path}"

    def _check_version(self, version: Any) -> None:
        if version != self.kind.version:
            raise SettingsError(
                f"{self.path}: a {self.kind.name} of version {version}, this code reads version "
                f"{self.kind.version}; make it again with survey {self.kind.job} in a new folder"
            )

    def _is_begun_by_now(self, allowed: set[str]) -> bool:
        """Whether a process that shares the work has just begun the folder; other files are an error."""
        if not files.is_remote(self.path) and Path(self.path).is_file():
            raise SettingsError(f"{self._where}: is a file; {NEW}")
        others = [name for name in files.names(self.path) if name not in allowed]
        if others and SETTINGS not in others:
            found = f"holds {', '.join(others[:3])} but is no {self.kind.name}; {NEW}"
            if self.kind.file in others:
                found = f"holds {self.kind.file}, but its {SETTINGS} is missing; put a copy back, or {NEW}"
            raise SettingsError(f"{self._where}: {found}")
        return SETTINGS in others


def settings_of(path: str) -> dict[str, Any]:
    """The content of the settings.json of a folder; empty if it has none of a job."""
    file = files.join(path, SETTINGS)
    written = files.read_json(file, f"put a copy back, or {NEW}") if files.exists(file) else {}
    return written if isinstance(written, dict) else {}


def kind_of(path: str) -> str:
    """The kind of a folder of a job, from its settings; empty if it is none."""
    return str(settings_of(path).get("kind", ""))
