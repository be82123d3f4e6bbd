"""The storage of trials: what a killed or copied driver leaves, who may write, and storages that cannot be
used.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.search import storage
from survey.settings import SettingsError
from tests.search.sweeps import search_settings


def add_trials(folder: Path, trials: int) -> Path:
    """The journal of a study, with this many trials more."""
    study = optuna.create_study(
        storage=storage.open_storage(str(folder), "journal"), study_name="x", load_if_exists=True
    )
    for _ in range(trials):
        study.tell(study.ask({"a": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    return folder / storage.JOURNAL


def test_half_a_line_at_the_end_of_a_journal_is_cut_off(tmp_path: Path) -> None:
    journal = add_trials(tmp_path, 3)
    content = journal.read_bytes()
    journal.write_bytes(content + content[:40])
    assert add_trials(tmp_path, 1) == journal
    study = optuna.load_study(study_name="x", storage=storage.open_storage(str(tmp_path), "journal"))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_reading_a_storage_changes_nothing(tmp_path: Path) -> None:
    journal = add_trials(tmp_path, 3)
    journal.write_bytes(before := journal.read_bytes() + b'{"op_code": 4, "wor')
    study = optuna.load_study(
        study_name="x", storage=storage.open_storage(str(tmp_path), "journal", write=False)
    )
    assert len(study.trials) == 3
    assert journal.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="has no trials yet"):
        storage.open_storage(str(tmp_path / "nowhere"), "journal", write=False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.timeout(1800)
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    lock = storage.SystemLock(str(add_trials(tmp_path, 1))).path
    code = f"import fcntl, os; fcntl.flock(open({lock!r}, 'a'), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    add_trials(tmp_path, 1)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    journal = add_trials(tmp_path, 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"no JSON\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"study.log: damaged .*put a copy back"):
        storage.open_storage(str(tmp_path), "journal")


def test_sqlite_and_the_url_of_a_database_hold_studies_too(tmp_path: Path) -> None:
    for name in ("sqlite", f"sqlite:///{tmp_path}/other.db"):
        study = optuna.create_study(storage=storage.open_storage(str(tmp_path), name), study_name="x")
        study.tell(study.ask(), 0.5)
        assert (
            len(optuna.load_study(study_name="x", storage=storage.open_storage(str(tmp_path), name)).trials)
            == 1
        )
    assert (tmp_path / storage.SQLITE).is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://nobody@127.0.0.1:9/x", "is not installed|cannot be used"),
        ("nodatabase://x/y", "cannot be used"),
        ("sqlite:////no/such/folder/x.db", "cannot be used .*start the server, or give another storage="),
    ],
)
def test_a_storage_that_cannot_be_used_is_reported(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        storage.open_storage(str(tmp_path), url)
    assert str(error.value).startswith(f"tune: storage: {url}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "postgresql://me:secret@host/db"}, "holds a password"),
        ({"storage": "postgresql://host/db?user=me&password=secret"}, "holds a password"),
        ({"storage": "jurnal"}, "is neither journal nor sqlite nor a URL"),
        (
            {"study": "s3://bucket/study"},
            "needs a file that grows, and s3://bucket/study is in a bucket; give the URL",
        ),
        ({"stages": 2, "sampler": "grid"}, "a grid has one stage; give stages=1"),
        (
            {"metrics": ["mae", "parameters"], "prune": {"name": "halving"}},
            "cannot be compared before their end; give prune.name=none",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_reported(
    toys: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        search_settings(toys, tmp_path, **changes)
