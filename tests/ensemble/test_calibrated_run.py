"""A run alone becomes an ensemble of one member, calibrated on its own validation part."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from survey.ensemble.calibrated_run import CALIBRATED, calibrated
from survey.ensemble.ensemble import open_ensemble
from tests.ensemble import small_runs


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


def test_a_run_may_move_with_its_ensemble(run: Path) -> None:
    calibrated(str(run), threads=1, gpu=False)
    moved = run.rename(run.parent / "moved")
    again = open_ensemble(calibrated(str(moved)))
    assert again.members.runs[0].path == str(moved)


def test_a_run_whose_store_is_gone_predicts_alone_and_a_warning_says_so(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run.parent / "store")
    with caplog.at_level(logging.WARNING):
        assert calibrated(str(run), threads=1, gpu=False) == str(run)
    assert "predicts alone, not calibrated" in caplog.text
    assert "no catalog of candidates" in caplog.text
    assert not open_ensemble(str(run)).document.calibrated


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
