"""Temporary folders: gone at the end of a job, and after it was killed, at the start of the next."""

import os
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
