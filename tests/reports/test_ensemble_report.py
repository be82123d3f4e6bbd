"""The report of an ensemble: its text and its plots."""

from pathlib import Path
from typing import Any

import pytest

from survey.ensemble.build import BuiltEnsemble, build
from survey.ensemble.settings import Build
from survey.reports import ensemble
from tests.ensemble import small_runs

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("report"), *RUNS)


def built(folder: Path, name: str, **changes: Any) -> BuiltEnsemble:
    runs = [str(folder / run) for run in RUNS]
    values = {"ensemble": str(folder / name), "runs": runs, "threads": 1}
    return build(Build.from_dict("ensemble", values | changes))


def test_the_summary_has_members_weights_gain_and_calibration(folder: Path) -> None:
    first = built(folder, "team")
    text = ensemble.summary(first, ensemble.pictures(first))
    document = first.document
    assert f"{document.weights.class_M[0]:.3f}" in text
    assert "gain over the best member" in text
    assert f"temperature {document.calibration.temperature:.3f}" in text
    assert "half width of the 95 % intervals, in errors: FeH" in text
    assert f"on {document.validation.spectra} validation spectra" in text
    assert "made now" in text
    again = built(folder, "team")
    assert "finished before: nothing to do" in ensemble.summary(again, ensemble.pictures(again))


def test_plots_are_drawn_once(folder: Path) -> None:
    paths = ensemble.pictures(built(folder, "drawn"))
    assert {Path(path).name for path in paths} == {"calibration.png", "coverage_by_snr.png", "diversity.png"}
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)
    times = [Path(path).stat().st_mtime_ns for path in paths]
    assert ensemble.pictures(built(folder, "drawn")) == paths
    assert [Path(path).stat().st_mtime_ns for path in paths] == times


def test_the_summary_says_that_an_ensemble_is_not_calibrated(folder: Path) -> None:
    plain = built(folder, "plain", calibrate=False, weights="equal")
    text = ensemble.summary(plain, ensemble.pictures(plain))
    assert "not calibrated: probabilities and errors are those of the members" in text
    assert "0.333" in text


def test_a_single_member_has_no_diversity_and_no_gain(folder: Path) -> None:
    single = built(folder, "single", runs=[str(folder / "sure")])
    names = {Path(path).name for path in ensemble.pictures(single)}
    assert names == {"calibration.png", "coverage_by_snr.png"}
    assert "gain" not in ensemble.summary(single, [])
