"""Ensembles judged by spectra whose labels are known, and a run with dropout on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import Evaluate, evaluate, judge
from survey.evaluate.result import COMPARED, PREDICTIONS
from survey.labelling import samples
from survey.reports import ensemble
from survey.reports import evaluate as outcome
from survey.settings import SettingsError
from survey.training import run as bundle
from tests.ensemble import teams
from tests.training import lessons

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = teams.place(tmp_path_factory.mktemp("judged"), *RUNS)
    build(
        Build.checked(
            "ensemble",
            {"ensemble": str(folder / "team"), "runs": [str(folder / name) for name in RUNS], "threads": 1},
        )
    )
    return folder


@pytest.fixture
def team(made: Path, tmp_path: Path) -> Path:
    """A copy of the ensemble, without evaluations."""
    return Path(
        shutil.copytree(made / "team", tmp_path / "team", ignore=shutil.ignore_patterns("evaluations*"))
    )


def settings(of: Path, **changes: Any) -> Evaluate:
    return Evaluate.checked("evaluate", {"of": str(of), "threads": 1} | changes)


def test_an_ensemble_is_judged_by_the_test_stars_of_all_beside_its_members(made: Path, team: Path):
    found = evaluate(settings(team))
    test = samples.read(str(made / "both")).part("test")  # the members share their split
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    assert table["obsid"].to_pylist() == test.about["obsid"].to_pylist()
    rows = {
        (row["who"], row["subject"], row["metric"]): row["value"]
        for row in found.compared.to_pylist()
        if row["kind"] == "all"
    }
    for name in RUNS:
        alone = judge(bundle.open_run(str(made / name)), test, str(made / "store"))
        accuracy = (alone.p_NC.argmax(1) == test.class_N).mean()
        assert rows[name, "all", "accuracy"] == pytest.approx(accuracy)
    assert rows["ensemble", "FeH", "mae"] == pytest.approx(
        np.abs(table["FeH"].to_numpy() - table["true_FeH"].to_numpy()).mean()
    )
    assert ("classes", "FeH", "mae") not in rows
    assert found.table.equals(
        found.compared.filter(np.array(found.compared["who"]) == "ensemble").drop_columns(["who"])
    )


def test_what_calibration_changed_is_kept_and_told(team: Path):
    found = evaluate(settings(team))
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    raw, done = (
        np.stack([table[f"p_{name}{ending}"].to_numpy() for name in ("mp", "cemp", "nmp")], 1)
        for ending in ("_raw", "")
    )
    assert np.allclose(raw.sum(1), 1)
    assert (raw.argmax(1) == done.argmax(1)).all()
    assert not np.allclose(raw, done, atol=1e-3)
    inside = (table["FeH_low"].to_numpy() <= table["true_FeH"].to_numpy()) & (
        table["true_FeH"].to_numpy() <= table["FeH_high"].to_numpy()
    )
    told = {
        (row["subject"], row["metric"]): row["value"]
        for row in found.table.to_pylist()
        if row["kind"] == "all"
    }
    assert told["FeH", "coverage_interval"] == pytest.approx(inside.mean(), abs=0.02)
    assert {"domain", "FeH_err_model", "doubt"} <= set(table.column_names)
    assert ensemble.of_judged(found.judged, found.raw, found.compared).keys() == {
        "calibration",
        "coverage_by_snr",
    }
    text = outcome.summary(found, [])
    assert "before calibration" in text
    assert "in the interval" in text


def test_an_evaluation_of_an_ensemble_is_shown_again(team: Path):
    first, again = evaluate(settings(team)), evaluate(settings(team))
    assert (first.made, again.made) == (True, False)
    assert again.table.equals(first.table)
    assert again.compared.equals(first.compared)
    for name in ("p_NC", "mu_NL", "sigma_NL", "label_NL"):
        assert np.allclose(
            getattr(again.judged, name), getattr(first.judged, name), equal_nan=True, rtol=1e-6
        )
    assert np.allclose(again.raw.p_NC, first.raw.p_NC)
    assert (Path(first.folder) / COMPARED).exists()


def test_validation_is_judged_as_when_the_ensemble_was_made(made: Path, team: Path):
    found = evaluate(settings(team, split="validation"))
    metrics = (
        pq.read_table(team / "metrics.parquet")
        .to_pandas()
        .query("who == 'ensemble' and metric == 'accuracy' and subject == 'all'")
    )
    mine = found.table.to_pandas().query("metric == 'accuracy' and subject == 'all'")
    assert np.allclose(mine["value"].to_numpy(), metrics["value"].to_numpy())


def test_other_stars_are_judged_where_no_member_has_seen_them(team: Path, tmp_path: Path):
    lessons.store(tmp_path / "new" / "store", count=340, seed=9)
    found = evaluate(
        settings(team, store=str(tmp_path / "new" / "store"), labels=str(tmp_path / "new" / "labels.csv"))
    )
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    test = samples.read(open_ensemble(str(team)).members.runs[0].path).part("test").about["obsid"].to_pylist()
    assert set(table["obsid"].to_pylist()) == {
        *test,
        *range(1300, 1340),
    }  # the toy counts visits from 1000 on, also in another store


def test_a_run_validated_in_another_store_is_not_judged_by_the_places_of_its_own(made: Path, tmp_path: Path):
    lessons.store(
        tmp_path / "new" / "store", count=300, seed=9
    )  # the same visits, so the same stars, in the same places, but other spectra
    given = {"store": str(tmp_path / "new" / "store"), "labels": str(tmp_path / "new" / "labels.csv")}
    one = {"ensemble": str(tmp_path / "one"), "runs": [str(made / "both")], "threads": 1}
    build(Build.checked("ensemble", one | given))
    for split in ("validation", "test"):
        with pytest.raises(
            SettingsError,
            match=rf"split={split}: the run .*one has no spectra in it in .*new/store; give another split",
        ):
            evaluate(settings(tmp_path / "one", split=split))
    found = evaluate(settings(tmp_path / "one", labels=given["labels"]))
    assert len(found.judged) == len(samples.read(str(made / "both")).part("test"))


def test_spectra_that_were_prepared_otherwise_are_told(made: Path, tmp_path: Path):
    run, store = (
        shutil.copytree(made / "both", tmp_path / "both"),
        shutil.copytree(made / "store", tmp_path / "store"),
    )
    for path, prepare in (
        (run / "run.json", {"continuum": "msfl"}),
        (store / "store.json", {"continuum": "spline"}),
    ):
        about = json.loads(path.read_text())
        about |= (
            {"store": about["store"] | {"prepare": prepare}}
            if path.name == "run.json"
            else {"settings": {"prepare": prepare}}
        )
        path.write_text(json.dumps(about))
    found = evaluate(settings(run, store=str(store), labels=str(made / "labels.csv")))
    assert f"beware     prepared otherwise than for {run}: continuum is spline, not msfl" in outcome.summary(
        found, []
    )


def test_passes_give_a_run_errors_that_it_has_not_learned(made: Path, tmp_path: Path):
    run = Path(shutil.copytree(made / "both", tmp_path / "both"))
    plain, dropped = evaluate(settings(run)), evaluate(settings(run, passes=20))
    assert plain.judged.sigma_NL is None
    assert (dropped.judged.sigma_NL > 0).all()
    assert np.allclose(plain.judged.mu_NL, dropped.judged.mu_NL, atol=0.5)
    assert "coverage_68" in {row["metric"] for row in dropped.table.to_pylist()}
    assert dropped.about["read_before"] == 1
    again = evaluate(settings(run, passes=20))
    assert np.array_equal(again.judged.sigma_NL, dropped.judged.sigma_NL)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"passes": 8}, r"passes=8: the ensemble .*team was calibrated with 0; give these, or null"),
        (
            {"labels": "{made}/seen.csv"},
            r"the ensemble has learned from all of these stars, or chosen by them; give others",
        ),
    ],
)
def test_a_mistake_is_told(made: Path, team: Path, changes: dict[str, Any], told: str):
    lines = (made / "labels.csv").read_text().splitlines()
    seen = set(samples.read(str(made / "both")).part("train").about["obsid"].to_pylist())
    (made / "seen.csv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if int(line.split(",")[0]) in seen)])
    )
    changes = {
        name: value.format(made=made) if isinstance(value, str) else value for name, value in changes.items()
    }
    with pytest.raises(SettingsError, match=told):
        evaluate(settings(team, **changes))


def test_a_part_without_spectra_is_told(made: Path, tmp_path: Path):
    runs = [
        teams.train(made, f"fold-{fold}", split={"folds": 2, "fold": fold, "validation": 0.3}, epochs=1)
        for fold in range(2)
    ]
    team = {
        "ensemble": str(tmp_path / "folds"),
        "runs": runs,
        "threads": 1,
        "weights": "equal",
        "calibrate": False,
    }
    build(Build.checked("ensemble", team))
    with pytest.raises(
        SettingsError,
        match=r"split=test: the ensemble .*folds has no spectra in it in .*; give another split, or store=",
    ):
        evaluate(settings(tmp_path / "folds"))
