"""A run alone becomes an ensemble of one member, calibrated on its own validation part."""

import json
import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from survey.claim import claim
from survey.ensemble import calibrated_run
from survey.ensemble.build import build
from survey.ensemble.calibrated_run import CALIBRATED, calibrated
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.fit_data import LEAST
from survey.ensemble.settings import Build
from survey.files import DiskFullError
from survey.settings import SettingsError
from survey.stored_paths import LostFolderError
from survey.training.run import run_document
from tests.ensemble import small_runs
from tests.predict.small_predictions import predicted
from tests.training import lessons


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_runs.place(tmp_path, "both") / "both"


def test_a_run_is_calibrated_on_its_own_validation_part(run: Path) -> None:
    path = calibrated(str(run), threads=1, gpu=False)
    assert path == str(run / CALIBRATED)
    ensemble = open_ensemble(path)
    assert ensemble.document.calibrated
    assert ensemble.domain is not None
    assert 0.2 * small_runs.COUNT < ensemble.document.validation.spectra < 0.4 * small_runs.COUNT
    assert calibrated(path) == path


def test_a_run_may_move_with_its_ensemble_and_without_its_store(run: Path) -> None:
    calibrated(str(run), threads=1, gpu=False)
    moved = run.rename(run.parent / "moved")
    again = open_ensemble(calibrated(str(moved)))
    assert again.members.runs[0].path == str(moved)
    (run.parent / "store").rename(run.parent / "lost")  # it needs its store no more
    assert calibrated(str(moved), threads=1, gpu=False) == again.path


def test_a_run_whose_store_is_lost_is_an_error_that_says_what_to_do(run: Path) -> None:
    (run.parent / "store").rename(run.parent / "lost")
    message = rf"{run}: cannot be calibrated: .*{run.parent / 'store'}, .*is not found.*calibrate=false"
    with pytest.raises(LostFolderError, match=message):
        calibrated(str(run), threads=1, gpu=False)
    assert not (run / CALIBRATED).exists()


def test_a_run_that_another_process_calibrates_is_waited_for(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calibrated_run, "WAITED", 0.01)
    caplog.set_level(logging.INFO)

    def end_when_waited_for(other: ExitStack) -> None:
        while "has been working in it" not in caplog.text:
            time.sleep(0.01)
        other.close()

    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        other = stack.enter_context(ExitStack())
        other.enter_context(claim(str(run / CALIBRATED), "ensemble", "ensemble", {}))
        pool.submit(end_when_waited_for, other)
        assert open_ensemble(calibrated(str(run), threads=1, gpu=False)).document.calibrated


@pytest.mark.parametrize("error", [ConnectionError, DiskFullError])
def test_a_run_is_not_predicted_alone_because_of_a_fault_that_ends(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(settings: Build) -> None:
        raise error("for a moment")

    monkeypatch.setattr(calibrated_run, "build", fail)
    with pytest.raises(error, match="for a moment"):
        calibrated(str(run), threads=1, gpu=False)


def test_calibrate_false_lets_a_run_predict_alone(run: Path) -> None:
    shutil.copytree(run.parent / "store", run.parent / "other")
    shutil.rmtree(run.parent / "store")
    changes = {
        "ensemble": str(run),
        "store": str(run.parent / "other"),
        "calibrate": False,
        "prepared": "any",
    }
    assert not predicted(run.parent, **changes)[0].document.ensemble.calibrated


def test_a_run_with_too_few_validation_spectra_predicts_alone_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = {"parts": [0.9, 0.02, 0.08]}
    run = small_runs.place(tmp_path, "both", split=split) / "both"
    with caplog.at_level(logging.WARNING):
        assert calibrated(str(run), threads=1, gpu=False) == str(run)
    assert "predicts alone, not calibrated" in caplog.text
    assert "no catalog of candidates" in caplog.text
    assert not open_ensemble(str(run)).document.calibrated


def test_many_visits_of_few_validation_stars_are_not_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lessons.store(tmp_path / "store", count=small_runs.COUNT)
    table = tmp_path / "labels.csv"
    header, *rows = table.read_text().splitlines()
    of_star = [f"{row},star {number // 10}" for number, row in enumerate(rows)]
    table.write_text("\n".join([f"{header},star", *of_star]))
    run = small_runs.train(tmp_path, "both")
    part = run_document(run).parts["validation"]
    assert part.stars < LEAST < part.spectra
    message = f"{part.stars} stars are in the validation part .* need {LEAST}"
    with pytest.raises(SettingsError, match=message):
        build(Build(ensemble=str(tmp_path / "team"), runs=(run,), threads=1, gpu="never"))
    with caplog.at_level(logging.WARNING):
        assert calibrated(run, threads=1, gpu=False) == run
    assert f"its validation part has {part.stars} stars, {LEAST} are needed" in caplog.text


def test_an_ensemble_that_was_made_before_a_setting_existed_is_used_as_it_is(run: Path) -> None:
    path = calibrated(str(run), threads=1, gpu=False)
    made = open_ensemble(path).id
    file = Path(path) / "settings.json"
    values = json.loads(file.read_text())
    for name in ("recalibrate", "other_kinds"):
        del values["settings"][name]
    file.write_text(json.dumps(values))
    assert calibrated(str(run), threads=1, gpu=False) == path
    assert open_ensemble(path).id == made
