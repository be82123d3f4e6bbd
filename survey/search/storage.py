"""Where the trials of a study are recorded: an Optuna storage, in a file of the study or on a server.

A driver that is killed leaves no lock behind, because the system removes it. It leaves at most half a line
at the end of the journal, which the next driver cuts off.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from survey.files import DiskFullError
from survey.messages import shorten
from survey.settings import JobError, SettingsError

JOURNAL, SQLITE = "study.log", "study.db"

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RUN_AGAIN = "make room or start the server, then run the same command again to continue"


class SystemLock(JournalFileOpenLock):
    """A lock that ends with its process. Optuna's own locks are files, which stay for 30 s after a kill."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = f"{path}.lock"
        self.file: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        self.file = Path(self.path).open("a")  # noqa: SIM115 - closed by release
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self.file:
            self.file.close()
            self.file = None


def open_storage(study: str, storage: str, write: bool = True) -> BaseStorage:
    """The storage of a study. Without `write` it must exist, and it stays as it is."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if storage not in ("journal", "sqlite"):
        return _open_database(storage)
    path = Path(study, JOURNAL if storage == "journal" else SQLITE)
    if not write and not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file, so the study has no trials yet; run survey tune with study={study}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if storage == "sqlite":
        return _open_database(f"sqlite:///{path.absolute()}")
    lock = SystemLock(str(path))
    if write and path.is_file():
        _cut_half_line(path, lock)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path}: damaged ({error}); put a copy back, or begin a new study with another study="
        ) from error


@contextmanager
def report_write_errors(study: str) -> Iterator[None]:
    """A full disk, or a database that fails, is one sentence."""
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise DiskFullError(f"tune: {study}: the disk is full ({error.strerror}); {RUN_AGAIN}") from error
    except StorageInternalError as error:
        cause = " ".join(str(getattr(error.__cause__, "orig", error)).split())
        raise JobError(
            f"tune: {study}: the database of the study cannot be written ({shorten(cause, 300)}); {RUN_AGAIN}"
        ) from error


def _cut_half_line(path: Path, lock: SystemLock) -> None:
    """Cut off an unfinished last line. A copy that was made during a write may have one too."""
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


def _open_database(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        return optuna.storages.get_storage(RDBStorage(url, skip_compatibility_check=False))
    except ImportError as error:
        raise SettingsError(
            f"tune: storage: {url}: its client is not installed ({error}); install it with pip, "
            "such as psycopg2-binary"
        ) from error
    except (SQLAlchemyError, StorageInternalError, OSError, RuntimeError) as error:
        message = " ".join(str(error.__cause__ or error).split())
        raise SettingsError(
            f"tune: storage: {url}: cannot be used ({message[:300]}); "
            "start the server, or give another storage="
        ) from error
