"""One writer for a folder: a claim says which process works in it, and with which settings.

A claim is a small hidden file, created so that one of several processes succeeds (on a disk by a link, in a
bucket by a conditional PUT). Its process renews it every few seconds and removes it at the end. A claim whose
process is gone is taken over: at once if it was one of this machine, else when the claim was silent for long.
"""

import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from survey import files
from survey.settings import JobError

CLAIM = ".claim.json"
RENEWED = 20.0
"""Seconds between two renewals of a claim."""
WATCHED = 2.0
"""Seconds until the first look at a claim, and between two looks where another process has it."""
GONE_AFTER = 90.0
"""Seconds without a renewal after which the process of another machine counts as gone."""

Values = dict[str, Any]


class ClaimedError(JobError):
    """Another process has the claim of a folder."""


@contextmanager
def claim(folder: str, job: str, setting: str, settings: Any, shared: bool = False) -> Iterator[None]:
    """The right to write into a folder, as long as the context lasts.

    While another process has it, this is an error, which names that process. If the work can be `shared`,
    several processes of equal settings may have it together.
    """
    values = _own_values(folder, job, settings)
    path = files.join(folder, CLAIM)
    where = f"{job}: {setting}: {files.absolute(folder)}"
    if not _may_write(path, values, where, shared):
        yield
        return
    ended = threading.Event()
    arguments = (path, values, where, ended, shared)
    renewal = threading.Thread(target=_renew, args=arguments, daemon=True, name="claim")
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        _release(path, values)


@dataclass(frozen=True)
class Holder:
    """The process of a claim. `is_alive`: it has not ended; of another machine: it has renewed its claim."""

    job: str
    process: int
    host: str
    since: str
    is_alive: bool

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def look(folder: str) -> Holder | None:
    """The process that has, or had, the claim of a folder; None if there is none. Nothing is written.

    On a disk, the clock of this machine says how long a claim of another machine was not renewed.
    """
    path = files.join(folder, CLAIM)

    def age(claimed: str) -> float:
        if files.is_remote(claimed):
            return _age(claimed)
        entry = files.stat_of(claimed)
        return math.inf if entry is None else time.time() - entry.stamp

    try:
        values = json.loads(files.read(path))
        return Holder(
            str(values["job"]),
            int(values["process"]),
            str(values["host"]),
            str(values["since"]),
            not _is_gone(path, values, age),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # it is just being written, or damaged: nobody holds it


def holder(folder: str) -> str:
    """The process that has the claim of a folder, in words; empty if there is none."""
    found = look(folder)
    return str(found) if found and found.is_alive else ""


def _may_write(path: str, values: Values, where: str, shared: bool) -> bool:
    """Take the claim. False where this process cannot write: it does no harm, and if it has something to
    write, the job reports this.
    """
    try:
        _take(path, values, where, shared)
    except OSError as error:
        if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)):
            return False
        if error.errno == errno.EROFS:
            return False
        raise
    return True


def _own_values(folder: str, job: str, settings: Any) -> Values:
    """What a claim says of this process."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return {
        "job": job,
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
        "started": _start_of(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": hashlib.sha256(text.encode()).hexdigest()[:16],
        "folder": _place(folder),
        "token": secrets.token_hex(8),
    }


def _machine() -> str:
    """This boot of this machine, and its numbering of processes (containers have their own)."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _place(folder: str) -> str:
    """A folder, the same for all processes of a machine, wherever they were started."""
    return files.absolute(folder) if files.is_remote(folder) else os.path.realpath(folder)


def _start_of(process: int) -> str:
    """When a process of this machine started, in ticks; empty if it is not there or cannot be known."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _take(path: str, values: Values, where: str, shared: bool) -> None:
    """Create the claim, take over a dead one, or share one of equal settings; else an error."""
    while not _create(path, _to_bytes(values)):
        text, other = _read(path)
        if other is None or other["token"] == values["token"]:
            if other:  # an answer of the server was lost, and the request was repeated
                return
            continue
        if _is_gone(path, other):
            if _replace_if(path, text, _to_bytes(values)):
                _log(where, other)
                return
        elif shared and other["settings"] == values["settings"]:
            return
        else:
            raise ClaimedError(
                f"{where}: process {other['process']} on {other['host']} has been working in it since "
                f"{other['since']} (survey {other['job']}); wait for its end, or give another folder; "
                f"if that process is gone, remove {path}"
            )


def _log(where: str, other: Values) -> None:
    logging.getLogger(__name__).info(
        "%s: process %s on %s left it unfinished", where, other["process"], other["host"]
    )


def _read(path: str) -> tuple[bytes, Values | None]:
    """The bytes and the values of a claim; None if there is none, or if it is just being written."""
    for _ in range(20):
        try:
            text = files.read(path)
            values = json.loads(text)
        except FileNotFoundError:
            return b"", None
        except ValueError:
            values = None
        if isinstance(values, dict) and "token" in values:
            return text, values
        time.sleep(0.05)
    files.remove(path)  # damaged: no process writes it
    return b"", None


def _is_gone(path: str, other: Values, age: Callable[[str], float] | None = None) -> bool:
    """Whether the process of a claim has ended without removing it. `age` gives the age of a file."""
    if other["machine"] == _machine():
        if not _lives(other):
            return True
        if other["folder"] == _place(path.rpartition("/")[0]):
            return False
        with suppress(OSError):  # a copy of a folder with its claim, or the same folder by another mount
            return not Path(path).samefile(files.join(other["folder"], CLAIM))
    return (age or _age)(path) > GONE_AFTER


def _lives(other: Values) -> bool:
    """Whether the process of a claim, one of this machine, is still there."""
    started, process = other["started"], other["process"]
    return _start_of(process) == started if started else bool(psutil.pid_exists(process))


def _renew(path: str, values: Values, where: str, ended: threading.Event, shared: bool) -> None:
    """Show again and again that this process is alive, and take over a shared claim that has been left.

    A process that stood still for so long that another one has the folder now must not go on: it is ended
    as by SIGTERM. (What was started in the background ignores SIGINT.)
    """
    owns = False
    while not ended.wait(RENEWED if owns else WATCHED):
        with suppress(OSError):  # the work reports a lost disk or server; a claim need not
            text, now = _read(path)
            if now is None:
                owns = _create(path, _to_bytes(values))
            elif now["token"] == values["token"] or _is_gone(path, now):
                owns = _replace_if(path, text, _to_bytes(values | {"renewed": time.time_ns()}))
            elif not shared:
                logging.getLogger(__name__).error(
                    "%s: this process stood still, and process %s on %s took its place",
                    *(where, now["process"], now["host"]),
                )
                signal.raise_signal(signal.SIGTERM)
                return
            else:
                owns = False


def _release(path: str, values: Values) -> None:
    """Remove the claim if it is still that of this process, and the folder if nothing else is in it."""
    with suppress(OSError):
        text, now = _read(path)
        if now is not None and now["token"] == values["token"]:
            _replace_if(path, text, None)
        if not files.is_remote(path):
            Path(path).parent.rmdir()  # fails if it is not empty


def _to_bytes(values: Values) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _create(path: str, data: bytes) -> bool:
    """Write a file that must not exist. False if there is one: of several writers, one succeeds."""
    if files.is_remote(path):
        return bool(files.bucket_system().put_if_new(path, data))
    with files.written_beside(path, data) as partial:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:  # a disk without links: a reader may see the file before its content
            with suppress(FileExistsError), Path(path).open("xb") as file:
                file.write(data)
                return True
            return False
    return True


def _replace_if(path: str, old: bytes, new: bytes | None) -> bool:
    """Replace a file, or remove it (None), if it still holds the `old` bytes; returns whether it did."""
    if files.is_remote(path):
        return bool(files.bucket_system().replace_if(path, old, new))
    with _locked_folder(Path(path).parent):
        try:
            is_same = Path(path).read_bytes() == old
        except FileNotFoundError:
            return False
        if is_same and new is None:
            files.remove(path)
        elif is_same and new is not None:
            files.write(path, new)
    return is_same


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """One process at a time is inside; on a disk without locks, all are."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # this releases the lock


def _age(path: str) -> float:
    """Seconds since the last change of a file, by the clock of its disk or server; infinite without it.

    The clock of this machine may be wrong, and so may that of the machine which wrote the file.
    """
    if files.is_remote(path):
        return float(files.bucket_system().age(path))
    with tempfile.TemporaryFile(dir=Path(path).parent) as now:
        try:
            return os.fstat(now.fileno()).st_mtime - Path(path).stat().st_mtime
        except FileNotFoundError:
            return math.inf
