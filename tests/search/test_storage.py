"""Where trials are noted: what a killed or copied driver leaves, who may write, and storages that cannot be used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.search import storage
from survey.settings import JobError, SettingsError
from tests.search.sweeps import wanted


def noted(folder: Path, trials: int) -> Path:
    """A study with so many trials in its journal."""
    study = optuna.create_study(
        storage=storage.opened(str(folder), "journal"), study_name="x", load_if_exists=True
    )
    for _ in range(trials):
        study.tell(study.ask({"a": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    return folder / storage.JOURNAL


def test_half_a_line_at_the_end_of_a_journal_is_cut_off(tmp_path: Path):
    journal = noted(tmp_path, 3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:40])
    assert noted(tmp_path, 1) == journal
    study = optuna.load_study(study_name="x", storage=storage.opened(str(tmp_path), "journal"))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_who_only_looks_changes_nothing(tmp_path: Path):
    journal = noted(tmp_path, 3)
    journal.write_bytes(before := journal.read_bytes() + b'{"op_code": 4, "wor')
    study = optuna.load_study(study_name="x", storage=storage.opened(str(tmp_path), "journal", write=False))
    assert len(study.trials) == 3
    assert journal.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="no trials yet"):
        storage.opened(str(tmp_path / "nowhere"), "journal", write=False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.timeout(25)
def test_a_killed_process_leaves_no_lock(tmp_path: Path):
    lock = storage.SystemLock(str(noted(tmp_path, 1))).path
    code = f"import fcntl, os; fcntl.flock(open({lock!r}, 'a'), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    noted(tmp_path, 1)


def test_a_second_driver_is_told_who_is_at_work(tmp_path: Path):
    with storage.alone(str(tmp_path)):
        assert storage.driver(str(tmp_path)).startswith(f"process {os.getpid()} on ")
        with (
            pytest.raises(JobError, match=rf"is at work already \(process {os.getpid()} on .*show=true"),
            storage.alone(str(tmp_path)),
        ):
            pass
    assert storage.driver(str(tmp_path)) == ""
    with storage.alone(str(tmp_path)):
        pass


def test_a_driver_that_is_gone_is_nobody(tmp_path: Path):
    (tmp_path / storage.DRIVER).write_text(json.dumps({"host": os.uname().nodename, "pid": 99999999}))
    assert storage.driver(str(tmp_path)) == ""


def test_a_damaged_journal_is_named(tmp_path: Path):
    journal = noted(tmp_path, 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"no JSON\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"study.log: damaged .*put a copy back"):
        storage.opened(str(tmp_path), "journal")


def test_sqlite_and_the_url_of_a_server_hold_studies_too(tmp_path: Path):
    for name in ("sqlite", f"sqlite:///{tmp_path}/other.db"):
        study = optuna.create_study(storage=storage.opened(str(tmp_path), name), study_name="x")
        study.tell(study.ask(), 0.5)
        assert len(optuna.load_study(study_name="x", storage=storage.opened(str(tmp_path), name)).trials) == 1
    assert (tmp_path / storage.SQLITE).is_file()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nobody@127.0.0.1:9/x", "is not installed|cannot be used"),
        ("nodatabase://x/y", "cannot be used"),
        ("sqlite:////no/such/folder/x.db", "cannot be used .*start it, or give another storage="),
    ],
)
def test_a_storage_that_cannot_be_used_is_told(tmp_path: Path, url: str, told: str):
    with pytest.raises(SettingsError, match=told) as error:
        storage.opened(str(tmp_path), url)
    assert str(error.value).startswith(f"tune: storage: {url}")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"storage": "postgresql://me:secret@host/db"}, "holds a password"),
        ({"storage": "postgresql://host/db?user=me&password=secret"}, "holds a password"),
        ({"storage": "jurnal"}, "neither journal nor sqlite nor a URL"),
        (
            {"study": "s3://bucket/study"},
            "is in a bucket, where no file can be written bit by bit; give the URL",
        ),
        ({"stages": 2, "sampler": "grid"}, "a grid is not narrowed"),
        (
            {"metrics": ["mae", "parameters"], "prune": {"name": "halving"}},
            "cannot be compared half-way; give prune.name=none",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_told(
    toys: Path, tmp_path: Path, changes: dict[str, Any], told: str
):
    with pytest.raises(SettingsError, match=told):
        wanted(toys, tmp_path, **changes)
