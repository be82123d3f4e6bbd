"""Temporary folders: gone at the end of a job, and after it was killed, at the start of the next."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from survey.scratch import scratch_folder


def test_the_folder_of_a_job_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with scratch_folder("train") as mine, scratch_folder("tune") as other:
        left = Path(mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
        left.mkdir()
        (left / "file").write_text("half")
        with scratch_folder("train") as second:
            assert {path.name for path in tmp_path.iterdir()} == {
                Path(name).name for name in (mine, other, second)
            }
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_host_stays_though_its_name_begins_like_that_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(socket, "gethostname", lambda: f"node-{ended.pid}")
    with scratch_folder("catalog") as of_other_host:
        monkeypatch.setattr(socket, "gethostname", lambda: "node")
        with scratch_folder("catalog"):
            assert Path(of_other_host).is_dir()
