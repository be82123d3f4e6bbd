"""The report of an ensemble: its text and its plots."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.ensemble.build import BuiltEnsemble, build
from survey.ensemble.diversity import CLASSES, ENSEMBLE_NAME
from survey.ensemble.line_key import LineKeyRecord
from survey.ensemble.settings import Build
from survey.metrics import classes
from survey.reports import ensemble
from survey.reports.class_plots import FEW
from tests.ensemble import small_runs

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("report"), *RUNS)


def built(folder: Path, name: str, **changes: Any) -> BuiltEnsemble:
    runs = [str(folder / run) for run in RUNS]
    values = {"ensemble": str(folder / name), "runs": runs, "threads": 1}
    return build(Build.from_dict("ensemble", values | changes))


@pytest.fixture(scope="module")
def team(folder: Path) -> BuiltEnsemble:
    """The ensemble of all runs, just built: each call for its pictures draws them."""
    return built(folder, "team")


@pytest.mark.usefixtures("figures")
def test_the_summary_has_members_weights_gain_and_calibration(folder: Path, team: BuiltEnsemble) -> None:
    first = team
    text = ensemble.summary(first, ensemble.pictures(first))
    document = first.document
    assert f"{document.weights.class_M[0]:.3f}" in text
    assert "gain over the best member" in text
    assert f"temperature {document.calibration.temperature:.3f}" in text
    assert "half width of the 95 % intervals, in errors: FeH" in text
    assert f"on {document.validation.spectra} validation spectra" in text
    assert "no [Fe/H] from lines: 0 training and 0 validation spectra have all indices" in text
    assert "made now" in text
    again = built(folder, "team")
    assert "finished before: nothing to do" in ensemble.summary(again, ensemble.pictures(again))


def test_the_summary_says_how_good_the_second_key_is(team: BuiltEnsemble) -> None:
    record = LineKeyRecord(
        spectra=730, validation=60, sources=("real",), bias=-0.012, scatter=(0.29, 0.19), missing=""
    )
    document = team.document.model_copy(update={"line_key": record})
    assert (
        "[Fe/H] from lines: fitted to 730 spectra (real); in 60 validation spectra a bias of -0.01 dex and, "
        "below and above -1, a scatter of 0.29 and 0.19 dex"
    ) in ensemble.summary(replace(team, document=document), [])


def test_plots_are_drawn_once(folder: Path, team: BuiltEnsemble) -> None:
    paths = ensemble.pictures(team)
    assert {Path(path).name for path in paths} == {"calibration.png", "coverage_by_snr.png", "diversity.png"}
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)
    times = [Path(path).stat().st_mtime_ns for path in paths]
    assert ensemble.pictures(built(folder, "team")) == paths
    assert [Path(path).stat().st_mtime_ns for path in paths] == times


def test_the_summary_says_that_an_ensemble_is_not_calibrated(folder: Path) -> None:
    plain = built(folder, "plain", calibrate=False, weights="equal")
    text = ensemble.summary(plain, [])
    assert "not calibrated: probabilities and errors are those of the members" in text
    assert "0.333" in text


@pytest.mark.usefixtures("figures")
def test_a_single_member_has_no_diversity_and_no_gain(folder: Path) -> None:
    single = built(folder, "single", runs=[str(folder / "sure")])
    names = {Path(path).name for path in ensemble.pictures(single)}
    assert names == {"calibration.png", "coverage_by_snr.png"}
    assert "gain" not in ensemble.summary(single, [])


def test_the_plots_show_the_metrics_of_the_ensemble(team: BuiltEnsemble, figures: list[Figure]) -> None:
    ensemble.pictures(team)
    calibration, by_snr, diversity = figures
    assert team.calibrated is not None
    assert team.calibrated.p_NC is not None
    class_N, p_NC = team.calibrated.class_N, team.calibrated.p_NC
    known_N = class_N >= 0
    curve = classes.reliability(p_NC.argmax(1)[known_N] == class_N[known_N], p_NC.max(1)[known_N])
    after = next(each for each in calibration.axes[0].containers if str(each.get_label()).startswith("after"))
    points, is_few = np.asarray(after[0].get_xydata()), curve.n < FEW
    assert points == pytest.approx(np.stack([curve.predicted, curve.observed], 1)[~is_few])
    lines = [np.asarray(line.get_ydata(), float) for line in calibration.axes[0].get_lines()]
    assert any(np.array_equal(line, np.where(is_few, np.nan, curve.observed), True) for line in lines)
    assert team.metrics is not None
    rows = [
        row
        for row in team.metrics.to_pylist()
        if (row["kind"], row["who"], row["metric"]) == ("snr", ENSEMBLE_NAME, "coverage_68")
    ]
    for axis, name in zip(by_snr.axes, team.calibrated.labels, strict=False):
        shown = {str(each.get_label()): each for each in axis.containers}
        expected = [row["value"] for row in rows if row["subject"] == name]
        drawn = np.asarray(shown["calibrated, 1 error"][0].get_ydata())
        assert drawn == pytest.approx(expected)
    (image,) = diversity.axes[0].get_images()
    alike: Any = np.ma.asarray(image.get_array()).filled(np.nan)
    assert team.diversity is not None
    for row in team.diversity.to_pylist():
        if (row["metric"], row["subject"]) == ("agreement", CLASSES):
            one, other = RUNS.index(row["one"]), RUNS.index(row["other"])
            assert alike[one, other] == alike[other, one] == pytest.approx(row["value"])


def test_a_network_without_errors_has_no_coverage_before_calibration(
    folder: Path, figures: list[Figure]
) -> None:
    ensemble.pictures(built(folder, "plain run", runs=[str(folder / "both")]))
    texts = {str(each.get_label()) for each in figures[1].axes[0].containers}
    assert texts == {"calibrated, 1 error", "calibrated, 2 errors"}
