"""One writer for a folder: who has it, who may share it, and who takes it over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from survey import claim as claims
from survey.claim import CLAIM, ClaimedError, claim, holder
from survey.settings import JobError


def change_claim(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / CLAIM
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def leave_claim(path: Path, changes: dict[str, Any]) -> None:
    """A claim that is not removed, as after a kill."""
    with claim(str(path), "ingest", "store", {"shard": 20}):
        text = (path / CLAIM).read_text()
    path.mkdir(exist_ok=True)
    (path / CLAIM).write_text(text)
    change_claim(path, changes)


def test_a_claim_is_there_during_the_work_and_gone_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with claim(str(folder), "ingest", "store", {"shard": 20}):
        assert holder(str(folder)) == f"process {os.getpid()} on {os.uname().nodename}"
        (folder / "work").touch()
    assert [path.name for path in folder.iterdir()] == ["work"]
    assert holder(str(folder)) == ""


def test_a_folder_in_which_nothing_was_written_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), claim(str(tmp_path / "store"), "ingest", "store", {}):
        raise ValueError("wrong")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("shared", [True, False])
def test_a_process_of_other_settings_learns_who_works_in_the_folder(tmp_path: Path, shared: bool) -> None:
    message = (
        rf"ingest: store: {tmp_path}: process {os.getpid()} on .* has been working in it since .*T.*; wait"
    )
    with claim(str(tmp_path), "ingest", "store", {"shard": 20}, shared):
        with (
            pytest.raises(JobError, match=message),
            claim(str(tmp_path), "ingest", "store", {"shard": 30}, shared),
        ):
            pass
        assert holder(str(tmp_path))


def test_equal_settings_may_share_the_work_where_it_can_be_shared(tmp_path: Path) -> None:
    with claim(str(tmp_path), "ingest", "store", {"shard": 20}, shared=True):
        with claim(str(tmp_path), "ingest", "store", {"shard": 20}, shared=True):
            pass
        assert holder(str(tmp_path)), "the first process still has it"
    with (
        claim(str(tmp_path), "train", "run", {}),
        pytest.raises(JobError, match=r"train: run: .*working in it"),
        claim(str(tmp_path), "train", "run", {}),
    ):
        pass


def test_of_many_processes_with_other_settings_one_gets_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from survey.claim import claim\n"
        "with claim(sys.argv[1], 'ingest', 'store', sys.argv[2]): print('mine', flush=True); sys.stdin.read()"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        lines = list(pool.map(lambda job: job.stdout.readline() if job.stdout else "", jobs))
        assert sorted(lines) == ["", "", "", "mine\n"]
        winner = jobs[lines.index("mine\n")]
        winner.kill()  # its claim stays
        winner.wait()
        with claim(str(tmp_path), "ingest", "store", "next"):
            pass
    for job in jobs:
        job.communicate()


@pytest.mark.parametrize(
    "changes",
    [
        {"process": 2**22 + 1},  # no process has this number
        {"started": "1"},  # the number belongs to another process now
    ],
)
def test_the_claim_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    leave_claim(tmp_path, changes)
    with claim(str(tmp_path), "ingest", "store", {"shard": 30}):
        assert json.loads((tmp_path / CLAIM).read_text())["process"] == os.getpid()


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "another"},
        {"folder": "/elsewhere/store"},  # this folder was moved, or that path is of another namespace
    ],
)
def test_the_claim_of_another_machine_or_path_counts_until_it_is_silent(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    leave_claim(tmp_path, {"host": "far"} | changes)
    with (
        pytest.raises(JobError, match=r"process .* on far has been working"),
        claim(str(tmp_path), "ingest", "store", {}),
    ):
        pass
    long_ago = (tmp_path / CLAIM).stat().st_mtime - claims.GONE_AFTER - 5
    os.utime(tmp_path / CLAIM, (long_ago, long_ago))
    with claim(str(tmp_path), "ingest", "store", {}):
        pass


@pytest.mark.parametrize("is_copy", [True, False])
def test_a_copied_claim_is_taken_over_and_one_that_is_reached_by_another_path_is_not(
    tmp_path: Path, is_copy: bool
) -> None:
    """A link stands for the same folder by another mount."""
    (tmp_path / "b").mkdir()
    with claim(str(tmp_path / "a"), "ingest", "store", {"shard": 20}):
        (shutil.copyfile if is_copy else os.link)(tmp_path / "a" / CLAIM, tmp_path / "b" / CLAIM)
        with (
            nullcontext() if is_copy else pytest.raises(ClaimedError),
            claim(str(tmp_path / "b"), "ingest", "store", {"shard": 30}),
        ):
            pass


def test_a_claim_is_renewed_during_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEWED", 0.01)
    with claim(str(tmp_path), "ingest", "store", {}):
        before = json.loads((tmp_path / CLAIM).read_text())
        while (now := json.loads((tmp_path / CLAIM).read_text())) == before:
            time.sleep(0.02)
        assert now["token"] == before["token"]


def test_a_process_that_shares_keeps_the_folder_when_the_first_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WATCHED", 0.01)
    first = claim(str(tmp_path), "ingest", "store", {"shard": 20}, shared=True)
    with first, claim(str(tmp_path), "ingest", "store", {"shard": 20}, shared=True):
        (tmp_path / CLAIM).unlink()  # what the first does at its end
        while not (tmp_path / CLAIM).exists():
            time.sleep(0.02)
        with (
            pytest.raises(ClaimedError, match="has been working in it"),
            claim(str(tmp_path), "ingest", "store", {"shard": 30}, shared=True),
        ):
            pass


def test_a_process_whose_folder_was_taken_while_it_stood_still_is_ended(tmp_path: Path) -> None:
    code = (
        "import sys, time; from survey import claim; claim.WATCHED = 0.01\n"
        "with claim.claim(sys.argv[1], 'train', 'run', {}): print('mine', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "mine\n"
        change_claim(tmp_path, {"token": "of another"})
        _, errors = job.communicate()
    assert job.returncode == -signal.SIGTERM
    assert f"{tmp_path}: this process stood still, and process {job.pid} on" in errors


@pytest.mark.parametrize("content", ["", "{", "[1, 2]"])
def test_a_damaged_claim_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / CLAIM).write_text(content)
    with claim(str(tmp_path), "ingest", "store", {}):
        assert holder(str(tmp_path))
