"""Labels of one survey on its own scale, learned from a few labelled stars of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from survey.answers import Answers
from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.holdout import recalibrated
from survey.ensemble.recalibration import Form, LabelCorrection, Recalibration, left_out
from survey.ensemble.settings import Build
from survey.evaluate.against_labels import evaluate_predictions
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.settings import SettingsError
from survey.store.store import open_store
from tests.ensemble import small_runs
from tests.finished import change_document
from tests.training import lessons

COUNT = 120


def survey(shift: float, slope: float = 0.0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers, true values and stars: two visits of each."""
    rng = np.random.default_rng(0)
    true_N = np.repeat(rng.uniform(-1, 0.4, COUNT // 2), 2)
    value_N = true_N + shift + slope * true_N + noise * rng.standard_normal(COUNT)
    value_N[:3] += 2  # spectra that went wrong
    return value_N, true_N, np.array([str(row // 2) for row in range(COUNT)], object)


def test_an_offset_is_found_in_spite_of_outliers() -> None:
    correction = LabelCorrection.fit("offset", *survey(-0.09))
    assert correction.offset == pytest.approx(0.09, abs=0.03)
    assert correction.before == pytest.approx(-0.09, abs=0.03)
    assert correction.after == pytest.approx(0, abs=0.03)
    assert correction.stars == COUNT // 2


def test_a_line_mends_a_slope_that_an_offset_does_not() -> None:
    value_N, true_N, star_N = survey(-0.1, slope=-0.3, noise=0.03)
    after = {form: np.abs(left_out(form, value_N, true_N, star_N)) for form in ("offset", "line")}
    assert np.median(after["line"]) < np.median(after["offset"])
    correction = LabelCorrection.fit("line", value_N, true_N, star_N)
    assert correction.slope == pytest.approx(1 / 0.7 - 1, abs=0.05)


@pytest.mark.parametrize(("form", "stars"), [("offset", 19), ("line", 39)])
def test_with_few_stars_a_label_stays(form: Form, stars: int) -> None:
    value_N, true_N, star_N = (array[: 2 * stars] for array in survey(-0.5))
    correction = LabelCorrection.fit(form, value_N, true_N, star_N)
    assert correction.missing == f"{stars} stars have it, {stars + 1} are needed"
    assert np.array_equal(correction.step(value_N), np.zeros(len(value_N)))


def test_a_correction_that_makes_left_out_stars_worse_is_not_used() -> None:
    value_N, true_N, star_N = survey(0.0)
    value_N = np.where(np.arange(COUNT) % 4 < 2, true_N - 0.1, true_N + 0.1)
    correction = LabelCorrection.fit("offset", value_N, true_N, star_N)
    assert "would not become better" in correction.missing
    assert not correction.step(value_N).any()


def test_beyond_the_range_of_its_stars_a_correction_fades_out() -> None:
    correction = LabelCorrection(stars=50, offset=0.1, low=-1, high=0.4)
    steps = correction.step(np.array([-0.5, -1.0, -1.35, -1.7, -3.0, 0.5]))
    assert np.allclose(steps, [0.1, 0.1, 0.05, 0, 0, 0.1 * (1 - 0.1 / 0.7)])


def test_intervals_move_with_the_label_and_errors_stay() -> None:
    value_NL = np.array([[0.0, 5000.0]])
    answers = Answers(
        ("FeH", "Teff"),
        (),
        value_NL=value_NL,
        err_NL=value_NL * 0 + 1,
        low_NL=value_NL - 1,
        high_NL=value_NL + 1,
    )
    moved = Recalibration(labels={"FeH": LabelCorrection(stars=50, offset=0.1, low=-1, high=0.4)}).apply(
        answers
    )
    assert moved.value_NL is not None
    assert moved.low_NL is not None
    assert np.allclose(moved.value_NL, [[0.1, 5000.0]])
    assert np.allclose(moved.low_NL, [[-0.9, 4999.0]])
    assert np.array_equal(np.asarray(moved.err_NL), np.asarray(answers.err_NL))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a survey whose table has [Fe/H] that is 0.5 dex higher."""
    folder = small_runs.place(tmp_path_factory.mktemp("recalibrated"), "both")
    lessons.store(folder / "survey" / "store", 90, seed=9, first=9000)
    table = (folder / "survey" / "labels.csv").read_text().splitlines()
    column = table[0].split(",").index("FeH")
    rows = [row.split(",") for row in table[1:]]
    for row in rows:
        row[column] = str(float(row[column]) + 0.5)
    (folder / "survey" / "shifted.csv").write_text("\n".join([table[0], *map(",".join, rows)]) + "\n")
    return folder


def built(place: Path, name: str, **recalibrate: str) -> str:
    values = {"ensemble": str(place / name), "runs": [str(place / "both")], "threads": 1, "gpu": "never"}
    return build(Build.from_dict("ensemble", values | {"recalibrate": recalibrate})).folder


@pytest.fixture(scope="module")
def recalibrated_by_all(place: Path) -> Path:
    """An ensemble that all stars of the survey recalibrate; tests do not change it."""
    given = {"store": str(place / "survey" / "store"), "labels": str(place / "survey" / "shifted.csv")}
    return Path(built(place, "moved", **given))


def test_an_ensemble_answers_on_the_scale_of_the_survey_and_its_validation_stays(
    place: Path, recalibrated_by_all: Path
) -> None:
    plain = open_ensemble(built(place, "plain"))
    moved = open_ensemble(str(recalibrated_by_all))
    assert moved.id != plain.id
    correction = moved.document.recalibration.labels["FeH"]
    assert correction.stars == 90
    assert correction.before is not None
    assert correction.after is not None
    assert abs(correction.after) < 0.1 < abs(correction.before)
    store = open_store(str(place / "survey" / "store"))
    places = np.stack([np.zeros(20, np.int64), np.arange(20)], 1)
    answers = [
        ensemble.conclude(
            *ensemble.members.predict_store(store.path, places, "test"), np.full(20, 30.0)
        ).answers
        for ensemble in (plain, moved)
    ]
    column = plain.labels.index("FeH")
    first, second = (np.asarray(one.value_NL)[:, column] for one in answers)
    assert np.median(second - first) == pytest.approx(correction.offset, abs=0.05)
    tables = [(place / name / "validation.parquet").read_bytes() for name in ("plain", "moved")]
    assert tables[0] == tables[1]


def test_the_survey_is_found_from_every_folder(
    place: Path, recalibrated_by_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are absolute in the settings; an ensemble of an earlier version has them as they were given."""
    relative = {"store": "survey/store", "labels": "survey/shifted.csv"}
    monkeypatch.chdir(place)
    assert built(place, "moved", **relative) == str(recalibrated_by_all)
    earlier = Path(shutil.copytree(recalibrated_by_all, place / "earlier-paths"))
    text = (earlier / "settings.json").read_text()
    assert f"{place}/survey/store" in text
    (earlier / "settings.json").write_text(text.replace(f"{place}/survey/", "survey/"))
    assert built(place, "earlier-paths", **relative) == str(earlier)


def test_stars_of_the_recalibration_do_not_test_the_ensemble(place: Path, tmp_path: Path) -> None:
    """The first 60 of 90 stars recalibrate; the table of all 90 tests."""
    first, *lines = (place / "survey" / "shifted.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join([first, *lines[:60]]) + "\n")
    given = {"store": str(place / "survey" / "store"), "labels": str(place / "survey" / "shifted.csv")}
    moved = built(place, "partly", store=given["store"], labels=str(tmp_path / "some.csv"))
    expected = {line.split(",")[first.split(",").index("obsid")] for line in lines[60:]}
    settings = Evaluate.from_dict("evaluate", {"of": moved, "threads": 1} | given)
    found = evaluate_ensemble(settings).answers(["obsid"])["obsid"]
    assert {str(obsid) for obsid in found.to_pylist()} == expected
    predicted = {"ensemble": moved, "store": given["store"], "predictions": str(tmp_path / "predicted")}
    predict(Predict.from_dict("predict", predicted | {"threads": 1}))
    values = {"of": str(tmp_path / "predicted"), "labels": given["labels"]}
    compared = evaluate_predictions(Evaluate.from_dict("evaluate", values))
    assert {str(obsid) for obsid in compared.answers(["obsid"])["obsid"].to_pylist()} == expected
    assert compared.document.seen_in_training == 60
    with pytest.raises(SettingsError, match="recalibrated with them; give others"):
        evaluate_ensemble(settings.model_copy(update={"labels": str(tmp_path / "some.csv")}))


def test_an_ensemble_without_a_list_of_these_stars_warns(
    place: Path, recalibrated_by_all: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(recalibrated_by_all, place / "earlier"))
    change_document(folder / "ensemble.json", lambda document: document["content"].pop("samples.parquet"))
    spectra = samples.read(str(folder)).extra
    assert not recalibrated(str(folder), spectra).any()
    assert "which may be among those that test it; make the ensemble again" in caplog.text


def test_test_stars_of_the_own_store_that_recalibrate_do_not_test_the_ensemble(place: Path) -> None:
    own = samples.read(str(place / "both")).part("test").extra
    lines = (place / "labels.csv").read_text().splitlines()
    column, known = (
        lines[0].split(",").index("obsid"),
        {str(obsid) for obsid in own["obsid"].to_pylist()[:25]},
    )
    chosen = [line for line in lines[1:] if line.split(",")[column] in known]
    (place / "half.csv").write_text("\n".join([lines[0], *chosen]) + "\n")
    folder = built(place, "half", store=str(place / "store"), labels=str(place / "half.csv"))
    evaluation = evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": folder, "threads": 1}))
    assert evaluation.document.spectra == len(own) - 25


def test_stars_that_were_learned_cannot_recalibrate(place: Path) -> None:
    given = {"store": str(place / "store"), "labels": str(place / "labels.csv")}
    train = samples.read(str(place / "both"))
    if (train.part_N == 2).any():  # stars set apart for the test are left
        folder = built(place, "own", **given)
        record = open_ensemble(folder).document.recalibration
        assert record.labels["FeH"].stars == len(set(train.part("test").extra["star"].to_pylist()))


def test_stars_of_the_survey_are_predicted_as_spectra_are_later(place: Path) -> None:
    """With dropout passes, as many of them, with the same seed and precision."""
    small_runs.train(place, "bands", **small_runs.KINDS["bands"])
    given = {"store": str(place / "survey" / "store"), "labels": str(place / "survey" / "shifted.csv")}
    values = {"ensemble": str(place / "passes"), "runs": [str(place / "bands")], "recalibrate": given}
    how = {"passes": 4, "seed": 3, "precision": "bf16"}
    folder = build(Build.from_dict("ensemble", values | how | {"threads": 1, "gpu": "never"})).folder
    ensemble, stars = open_ensemble(folder), samples.read(folder)
    corrections = []
    for passes in (4, 0):
        answers, latents = ensemble.members.predict_store(
            given["store"], stars.shard_row_N2, "test", passes=passes, seed=3, precision="bf16"
        )
        plain = replace(
            ensemble, document=ensemble.document.model_copy(update={"recalibration": Recalibration()})
        )
        result = plain.conclude(answers, latents, stars.extra["snr"].to_numpy()).answers
        star_N = np.array(stars.extra["star"].to_pylist(), object)
        known = ensemble.document.recalibration.store, result, stars.labels, stars.label_NL, star_N
        corrections.append(Recalibration.fit("offset", *known))
    assert ensemble.document.recalibration == corrections[0] != corrections[1]


def test_a_store_without_labels_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"store is given without labels; give both, or neither"):
        Build.from_dict("ensemble", {"ensemble": "e", "runs": ["r"], "recalibrate": {"store": "s"}})
