"""The jobs as their users call them: in a process of its own, with what they print."""

import subprocess
import sys
from pathlib import Path

import pytest

from survey.catalog.catalog import Catalog
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import Evaluate
from survey.mock import Mock
from survey.predict.predict import Predict
from survey.search.settings import Tune
from survey.settings import Settings, load
from survey.store.ingest import Ingest
from survey.training.train import Train

ROOT = Path(__file__).resolve().parents[1]
JOBS: dict[str, type[Settings]] = {
    "mock": Mock,
    "ingest": Ingest,
    "train": Train,
    "tune": Tune,
    "ensemble": Build,
    "evaluate": Evaluate,
    "predict": Predict,
    "catalog": Catalog,
}


def run(job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100, check=False
    )


def test_every_job_has_its_settings_in_this_list():
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_help_names_every_setting_with_a_meaning(job: str):
    told = run(job, "--help")
    assert told.returncode == 0
    for name, field in JOBS[job].model_fields.items():
        assert f"  {name}" in told.stdout
        inner = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
        assert inner or (field.description and field.description in told.stdout)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_sound_for_every_job(recipe: Path):
    needed = {
        "mock": ["out=x"],
        "ingest": ["input=x", "store=y"],
        "train": ["store=x", "labels=y", "run=z"],
        "evaluate": ["of=x"],
    }
    needed["predict"] = ["ensemble=x", "store=y", "predictions=z"]
    needed["catalog"] = ["predictions=x", "catalog=y"]
    needed["tune"] = ["study=x", "store=y", "labels=z"]
    needed["ensemble"] = ["ensemble=x", "store=y", "labels=z"]
    for job, settings in JOBS.items():
        load(settings, job, [str(recipe), *needed[job]])


def test_a_mock_survey_becomes_a_store_and_a_second_run_does_nothing(tmp_path: Path):
    files, store = tmp_path / "files", tmp_path / "store"
    made = run("mock", "recipes/cemp.yaml", f"out={files}", "n=200", "workers=1")
    assert made.returncode == 0, made.stderr
    first = run(
        "ingest",
        "recipes/cemp.yaml",
        f"input={files}",
        f"store={store}",
        "workers=1",
        "preview=1",
        "refuse_above=0.1",
    )
    assert first.returncode == 0, first.stderr
    assert "rows in    200" in first.stdout
    assert "1 spectra, drawn stage by stage" in first.stdout
    assert len(list((store / "preview").glob("*.png"))) == 1
    second = run(
        "ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1", "refuse_above=0.1"
    )
    assert "0 made by this run" in second.stdout


@pytest.mark.timeout(300)
def test_a_store_and_labels_become_a_run_and_its_evaluation(tmp_path: Path):
    files, store, made = tmp_path / "files", tmp_path / "store", tmp_path / "run"
    run("mock", "recipes/cemp.yaml", f"out={files}", "n=300", "workers=1", "broken=0", "balance=balanced")
    run("ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1")
    labels = f"labels={files / 'labels.parquet'}"
    small = [
        "model=prism",
        "options={components: 16, hidden: 32}",
        "epochs=2",
        "threads=1",
        "tracking.use=never",
    ]
    first = run("train", "recipes/cemp.yaml", f"store={store}", labels, f"run={made}", *small)
    assert first.returncode == 0, first.stderr
    assert "best in epoch" in first.stdout
    assert {"curves.png", "augmentation.png", "labels.png", "model.txt", "run.json"} <= {
        path.name for path in made.iterdir()
    }
    again = run("train", "recipes/cemp.yaml", f"store={store}", labels, f"run={made}", *small)
    assert "finished before: nothing to do" in again.stdout
    team = run(
        "ensemble",
        f"ensemble={tmp_path / 'team'}",
        f"runs=[{made}]",
        "threads=1",
        "calibrate=false",
        "weights=equal",
    )
    assert team.returncode == 0, team.stderr
    assert "ensemble.json" in {path.name for path in (tmp_path / "team").iterdir()}
    for origin in (f"store={store}", f"input={files}"):
        said = run(
            "predict",
            "recipes/cemp.yaml",
            f"ensemble={tmp_path / 'team'}",
            origin,
            f"predictions={tmp_path / origin[:2]}",
            "workers=1",
        )
        assert said.returncode == 0, said.stderr
        assert "rows       300 of 300" in said.stdout
    judged = run("evaluate", f"of={made}", "threads=1")
    assert judged.returncode == 0, judged.stderr
    assert "MP_search" in judged.stdout
    assert "mae" not in judged.stderr
    wrong = run("train", "recipes/cemp.yaml", f"store={store}", labels, f"run={made}", *small, "epochs=3")
    assert wrong.returncode == 1
    assert "epochs=2 there, 3 now" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["input=nowhere", "store={tmp}/s"], "no such file or folder"),
        (["input=recipes", "store={tmp}/s", "gird=cemp4900"], "ingest: gird: unknown setting"),
        (["input=recipes", "store={tmp}/s", "prepare.continum=msfl"], "did you mean continuum?"),
        (
            ["input=recipes", "store={tmp}/s", "prepare.grid=cemp4800"],
            "there is no grid of this name; there are cemp4900",
        ),
        (["input=recipes", "store={tmp}/s", "sources=[lamst]"], "there is no source 'lamst'; there are"),
        (
            ["input=recipes", "store={tmp}/s", "options={lamost: {mrs: both}}"],
            "should be 'coadd' or 'single'",
        ),
        (["input=recipes", "store={tmp}/s"], "holds no spectrum"),
        (["store={tmp}/s"], "ingest: input: not given"),
        (["recipes/none.yaml", "input=recipes", "store={tmp}/s"], "no such recipe"),
    ],
)
def test_a_mistake_is_told_in_one_message_without_a_traceback(
    arguments: list[str], told: str, tmp_path: Path
):
    ended = run("ingest", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
