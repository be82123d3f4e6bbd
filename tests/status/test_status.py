"""A look at a folder says what is true of it, and leaves it as it was."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.claim import CLAIM, claim
from survey.folder import Folder
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.output import PREDICTIONS
from survey.predict.predict import predict
from survey.reports.status import summary
from survey.search.study_progress import read_progress
from survey.search.tune import STUDY
from survey.status.look import JOB_OF, look, watch
from survey.status.settings import Status
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import STORE
from survey.training.run import RUN
from tests import survey_files
from tests.commands import survey
from tests.ensemble import small_runs
from tests.predict import small_predictions
from tests.test_doors import HEAVY, run_jobs

COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The time of every file and folder below one, and the bytes of the files."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def ingest_settings(folder: Path, **changes: Any) -> Ingest:
    survey_files.write(folder / "in", range(10), True)
    values = {
        "input": str(folder / "in"),
        "store": str(folder / "store"),
        "shard": 4,
        "refuse_above": 1.0,
        "prepare": COARSE,
    }
    return Ingest.from_dict("ingest", values | changes)


def stopped_after(count: int) -> Callable[..., Iterator[dict[str, Any]]]:
    """A `map` that is stopped after so many shards."""

    def apply(function: Callable[[int], dict[str, Any]], shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        for number, shard in enumerate(shards):
            if number == count:
                raise KeyboardInterrupt
            yield function(shard)

    return apply


def test_a_store_that_was_stopped_shows_what_is_done_and_missing(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(2))
    before = contents(tmp_path)
    state = look(settings.store)
    assert contents(tmp_path) == before
    assert (state.kind, state.state, state.done, state.missing[0]) == ("store", "stopped", 2, 2)
    markers = [json.loads(path.read_text()) for path in (tmp_path / "store" / "markers").iterdir()]
    assert state.rows == {
        "rows": sum(marker["rows_in"] for marker in markers),
        "spectra": sum(marker["written"] for marker in markers),
    }
    assert sum(state.refused.values()) == sum(sum(marker["refused"].values()) for marker in markers)


def test_a_finished_store_shows_the_counts_of_its_document(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    document = ingest(settings).document
    before = contents(tmp_path)
    state = look(settings.store)
    assert contents(tmp_path) == before
    assert (state.state, state.done, state.total) == ("finished", document.shards, document.shards)
    assert (state.rows["spectra"], state.refused) == (document.written, document.refused)
    assert state.notes == []


def test_a_store_without_one_of_its_files_is_damaged(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    ingest(settings)
    (tmp_path / "store" / "spectra" / "part-00001.parquet").unlink()
    state = look(settings.store)
    assert (state.state, state.missing) == ("damaged", [1])
    assert "1 shards are damaged or missing; run survey ingest again" in summary(state)


def test_a_damaged_marker_counts_as_a_shard_to_be_made_again(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(2))
    marker = tmp_path / "store" / "markers" / "part-00000.json"
    marker.write_text(marker.read_text().replace('"files": 4', '"files": 5'))
    state = look(settings.store)
    assert (state.done, state.missing[0]) == (1, 0)
    assert "1 shards are damaged or of older settings" in summary(state)


def test_an_edited_document_is_named(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    ingest(settings)
    document = tmp_path / "store" / "store.json"
    document.write_text(document.read_text().replace('"shards": ', '"shards": 1'))
    state = look(settings.store)
    assert state.state == "damaged"
    assert "store.json: damaged, or edited by hand" in summary(state)


def test_a_folder_shows_who_works_in_it(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(1))
    with Folder(settings.store, STORE).claim(settings.plain()):
        state = look(settings.store)
        assert (state.state, state.by.split(" on ")[0]) == ("running", f"process {os.getpid()}")
    assert look(settings.store).state == "stopped"


@pytest.mark.parametrize(("seconds", "expected"), [(5, "running"), (1000, "stopped")])
def test_a_claim_of_another_machine_counts_by_its_age(tmp_path: Path, seconds: int, expected: str) -> None:
    settings = ingest_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(1))
    claim = tmp_path / "store" / CLAIM
    with Folder(settings.store, STORE).claim(settings.plain()):
        values = json.loads(claim.read_text())
    claim.write_text(json.dumps(values | {"machine": "another", "host": "node7"}))
    now = claim.stat().st_mtime
    os.utime(claim, (now - seconds, now - seconds))
    state = look(settings.store)
    assert state.state == expected
    assert "on node7" in summary(state)
    assert claim.exists()


def test_a_job_records_the_command_that_continues_it(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(4), False)
    done = survey("ingest", "input=in", "store=my store", "shard=2", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "my store" / "store.json").unlink()
    shown = survey("status", "my store", cwd=tmp_path)
    assert "continue     survey ingest input=in 'store=my store' shard=2 workers=1" in shown.stdout
    elsewhere = survey("status", str(tmp_path / "my store"))
    assert f"continue     cd {tmp_path} && survey ingest input=in" in elsewhere.stdout


def test_the_command_that_continues_a_job_is_right_in_a_folder_with_a_space(tmp_path: Path) -> None:
    here = tmp_path / "my work"
    survey_files.write(here / "in", range(2), False)
    done = survey("ingest", "input=in", "store=store", "workers=1", cwd=here)
    assert done.returncode == 0, done.stderr
    command = look(str(here / "store")).command
    shell = subprocess.run(["sh", "-c", command.replace("survey ingest", "pwd; :")], capture_output=True)
    assert shell.stdout.decode().strip() == str(here)


def test_rate_and_time_left_come_from_the_times_of_the_markers(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path, shard=1)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(5))
    markers = sorted((tmp_path / "store" / "markers").iterdir())
    now = markers[-1].stat().st_mtime
    for number, marker in enumerate(markers):
        os.utime(marker, (now - 2 * (4 - number), now - 2 * (4 - number)))
    os.utime(markers[0], (now - 10_000, now - 10_000))  # of a day before: the pause does not count
    with Folder(settings.store, STORE).claim(settings.plain()):
        state = look(settings.store)
    assert state.rate == pytest.approx(0.5, rel=1e-3)
    assert state.total is not None
    assert state.seconds_left == pytest.approx(2 * (state.total - 5), rel=1e-3)


def test_a_job_that_was_just_started_again_has_no_rate_yet(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path, shard=1)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(5))
    for number, marker in enumerate(sorted((tmp_path / "store" / "markers").iterdir())):
        stamp = marker.stat().st_mtime - 100 + number
        os.utime(marker, (stamp, stamp))
    with Folder(settings.store, STORE).claim(settings.plain()):
        state = look(settings.store)
    assert (state.rate, state.seconds_left) == (None, None)
    assert "nothing is finished since the job was started again" in summary(state)


def test_predictions_know_the_shards_of_their_store(tmp_path: Path) -> None:
    place = small_runs.place(tmp_path, "both")
    settings = small_predictions.settings(place, ensemble=str(place / "both"))
    with pytest.raises(KeyboardInterrupt):
        predict(settings, small_predictions.stopped_after(2))
    state = look(settings.predictions)
    assert (state.kind, state.state, state.done, state.total) == ("predictions", "stopped", 2, 6)
    document = predict(settings).document
    state = look(settings.predictions)
    assert (state.state, state.done, state.rows["spectra"]) == ("finished", 6, document.rows)
    run_state = look(str(place / "both"))
    assert (run_state.kind, run_state.state, run_state.done) == ("run", "finished", 3)
    Folder(str(place / "both"), RUN).withdraw()
    run_state = look(str(place / "both"))
    assert (run_state.state, run_state.done, run_state.total) == ("stopped", 3, 3)
    assert run_state.rate is not None
    (place / "both" / "checkpoints" / "last.safetensors").write_bytes(b"no safetensors")
    assert look(str(place / "both")).state == "damaged"
    Folder(settings.predictions, PREDICTIONS).withdraw()
    (place / "store" / "store.json").unlink()
    assert "cannot be read, so the number of all shards is not known" in summary(look(settings.predictions))


@pytest.fixture
def shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock of this process is eight hours ahead of UTC."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("shanghai")
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_study_has_the_trials_that_optuna_counts(tmp_path: Path, storage: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Folder(str(tmp_path), STUDY)
    folder.begin({"storage": storage}, id="sky-1a")
    url: Any = f"sqlite:///{tmp_path}/study.db"
    if storage == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
        url = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(storage=url, study_name="sky-1a-C_FE")
    study.set_user_attr("wanted", 9)
    optuna.create_study(storage=url, study_name="other-C_FE")
    study.enqueue_trial({"x": 1.0})
    for ending in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, None):
        trial = study.ask()
        trial.suggest_float("x", 0, 2)
        trial.report(1.0, 1)
        if ending:
            study.tell(trial, 1.0 if ending == optuna.trial.TrialState.COMPLETE else None, ending)
    study.tell(study.ask(), None, optuna.trial.TrialState.FAIL)
    (progress,) = read_progress("sky-1a", optuna.storages.get_storage(url))
    before = contents(tmp_path)
    state = look(str(tmp_path))
    assert contents(tmp_path) == before
    assert (state.done, state.total) == (progress.finished, progress.wanted) == (2, 9)
    assert state.notes[0] == "C_FE: 2 of 9 trials finished (1 running, 1 complete, 1 pruned, 1 failed)"
    assert state.last is not None
    assert 0 < state.last < 600


def test_a_mock_survey_that_is_being_made_counts_its_chunks(tmp_path: Path) -> None:
    settings = Mock.from_dict("mock", {"out": str(tmp_path / "files"), "n": 300, "chunk": 100})
    with pytest.raises(KeyboardInterrupt):
        make(settings, stopped_after(1))
    state = look(settings.out)
    assert (state.kind, state.done, state.total, state.missing) == ("mock survey", 1, 3, [1, 2])
    assert state.state == "stopped"
    with claim(settings.out, "mock", "out", {}):
        assert look(settings.out).state == "running"
    make(settings)
    state = look(settings.out)
    assert (state.state, state.rows["files"]) == ("finished", 300)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no such folder; give the folder that a job makes"),
        ({"x/": ""}, "is empty, no job has begun in it"),
        ({"x": "text"}, "is a file; give the folder that a job makes"),
        ({"x/picture.png": ""}, "holds picture.png but no settings.json, so no job has made it"),
        ({"x/settings.json": "{"}, "settings.json: damaged"),
        ({"x/settings.json": "[]"}, "its settings.json is not that of a job"),
        (
            {"x/settings.json": '{"kind": "boat", "settings": {}}'},
            "names the kind 'boat', which no job makes",
        ),
        (
            {"x/run/settings.json": "{}", "x/store/settings.json": "{}"},
            "holds folders of jobs; give one of run",
        ),
        ({"x/store.json": "{}"}, "holds store.json, but no settings.json: it is damaged"),
    ],
)
def test_what_no_job_has_made_is_a_sentence(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).mkdir() if name.endswith("/") else write(tmp_path / name, text)
    shown = survey("status", str(tmp_path / "x"))
    assert shown.returncode == 1
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_a_look_loads_no_heavy_library_and_prints_json(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    ingest(settings)
    [(_, out, _, modules)] = run_jobs([[("jobs/status.py", settings.store, "json=true")]])
    assert json.loads(out)["state"] == "finished"
    assert sorted(HEAVY.intersection(modules)) == []


def test_watching_ends_with_the_work(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(1))
    with Folder(settings.store, STORE).claim(settings.plain()):
        states = watch(settings.store, 0.01, False)
        assert next(states).state == "running"
        assert next(states).state == "running"
    assert [state.state for state in states] == ["stopped"]


def test_the_help_names_every_kind_of_folder() -> None:
    text = (Status.model_fields["path"].description or "").replace("-", "")
    inside_of_others = {"observed"}  # the results of a followup
    assert [kind for kind in JOB_OF if kind not in text and kind not in inside_of_others] == []
