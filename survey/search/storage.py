"""Where the trials of a study are noted, so that they are never lost: an Optuna storage, in a file of the study or on a server.

A driver that is killed leaves no lock behind (the system takes it away) and at most half a line at the journal's end, which is cut off.
"""

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import optuna
import psutil
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from survey import files
from survey.settings import JobError, SettingsError

JOURNAL, SQLITE, DRIVER = "study.log", "study.db", "driver.lock"


class SystemLock(JournalFileOpenLock):
    """A lock that ends with its process. Optuna's own are files, which a killed process leaves behind for half a minute."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = f"{path}.lock"
        self.file: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and have it."""
        self.file = Path(self.path).open("a")  # noqa: SIM115 - closed by release
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Have it no more."""
        if self.file:
            self.file.close()
            self.file = None


def opened(study: str, storage: str, write: bool = True) -> BaseStorage:
    """The storage of a study; with `write` off it must be there, and is left as it is."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if storage not in ("journal", "sqlite"):
        return _server(storage)
    path = Path(study, JOURNAL if storage == "journal" else SQLITE)
    if not write and not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file, so no trials yet; run jobs/tune.py with study={study}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if storage == "sqlite":
        return _server(f"sqlite:///{path.absolute()}")
    lock = SystemLock(str(path))
    if write and path.is_file():
        _mend(path, lock)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); put a copy back, or begin another study=") from error


def _mend(path: Path, lock: SystemLock) -> None:
    """A journal ends with a whole line: a copy that was made while it was written may not."""
    lock.acquire()
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - (1 << 20), 0))
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
    finally:
        lock.release()


def _server(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        return optuna.storages.get_storage(RDBStorage(url, skip_compatibility_check=False))
    except ImportError as error:
        raise SettingsError(
            f"tune: storage: {url}: its client is not installed ({error}); pip install it, such as psycopg2-binary"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, RuntimeError) as error:
        told = " ".join(str(error.__cause__ or error).split())
        raise SettingsError(
            f"tune: storage: {url}: cannot be used ({told[:300]}); start it, or give another storage="
        ) from error


@contextmanager
def alone(study: str) -> Iterator[None]:
    """This is the only driver of a study; a second one would take up what the first is at. Not known of studies in buckets."""
    if files.is_remote(study):
        yield
        return
    path = Path(study, DRIVER)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JobError(
                f"tune: {study}: is at work already ({driver(study)}); wait for it, stop it, or look at it with show=true"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def driver(study: str) -> str:
    """Who is at work on a study, in words; empty: nobody, as far as can be seen from here."""
    path = Path(study, DRIVER)
    if files.is_remote(study) or not path.is_file() or not (text := path.read_text()):
        return ""
    try:
        told = json.loads(text)
    except ValueError:
        return "a process that just begins"
    if told["host"] == socket.gethostname() and not psutil.pid_exists(told["pid"]):
        return ""
    return f"process {told['pid']} on {told['host']}"
