"""What a person sees of an ensemble."""

from pathlib import Path
from typing import Any

import pytest

from survey.ensemble.build import Built, build
from survey.ensemble.settings import Build
from survey.reports import ensemble
from tests.ensemble import teams

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teams.place(tmp_path_factory.mktemp("shown"), *RUNS)


def built(made: Path, name: str, **changes: Any) -> Built:
    values = {"ensemble": str(made / name), "runs": [str(made / name) for name in RUNS], "threads": 1}
    return build(Build.checked("ensemble", values | changes))


def test_the_summary_tells_members_weights_gain_and_calibration(made: Path):
    found = built(made, "team")
    text = ensemble.summary(found, ensemble.pictures(found))
    weights = found.about["weights"]
    assert f"{weights['classes'][0]:.3f}" in text
    assert "gain over the best member" in text
    assert f"temperature {found.about['calibration']['temperature']:.3f}" in text
    assert "intervals of 95 % reach so many errors to either side: FeH" in text
    assert f"on {found.about['validation']['spectra']} validation spectra" in text
    assert "made now" in text
    again = built(made, "team")
    assert "finished before: nothing to do" in ensemble.summary(again, ensemble.pictures(again))


def test_pictures_are_drawn_once(made: Path):
    found = built(made, "drawn")
    paths = ensemble.pictures(found)
    assert {Path(path).name for path in paths} == {"calibration.png", "coverage_by_snr.png", "diversity.png"}
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)
    times = [Path(path).stat().st_mtime_ns for path in paths]
    assert ensemble.pictures(built(made, "drawn")) == paths
    assert [Path(path).stat().st_mtime_ns for path in paths] == times


def test_an_ensemble_that_was_not_calibrated_says_so(made: Path):
    found = built(made, "plain", calibrate=False, weights="equal")
    text = ensemble.summary(found, ensemble.pictures(found))
    assert "not calibrated: probabilities and errors are as the members gave them" in text
    assert "0.333" in text


def test_one_member_has_no_pairs_to_draw(made: Path):
    found = built(made, "single", runs=[str(made / "sure")])
    assert {Path(path).name for path in ensemble.pictures(found)} == {
        "calibration.png",
        "coverage_by_snr.png",
    }
    assert "gain" not in ensemble.summary(found, [])
