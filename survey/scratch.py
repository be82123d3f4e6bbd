"""Temporary folders of jobs. A killed job leaves its own; the next one on the same machine removes it."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def scratch_folder(kind: str) -> Iterator[str]:
    """A folder for this process, gone at its end; those of processes that have ended are removed first.

    The name of the host is a part of its name: containers may share a folder, and each has its own numbers of
    processes.
    """
    begin = f"survey-{kind}-{socket.gethostname()}-"
    for left in Path(tempfile.gettempdir()).glob(f"{begin}*"):
        owner = left.name.removeprefix(begin).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{begin}{os.getpid()}-") as folder:
        yield folder
