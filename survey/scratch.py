"""Temporary folders of jobs. A killed job leaves its own; the next one on the same machine removes it."""

import os
import re
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
    # the whole name: another host may be called like this one with a number after it
    of_this_host = re.compile(re.escape(begin) + r"([0-9]+)-[^-]+")
    for left in Path(tempfile.gettempdir()).glob(f"{begin}*"):
        owner = of_this_host.fullmatch(left.name)
        if owner and not psutil.pid_exists(int(owner[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{begin}{os.getpid()}-") as folder:
        yield folder
