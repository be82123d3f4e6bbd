"""The jobs as their users call them: in a process of its own, with what they print."""

import subprocess
import sys
from pathlib import Path

import pytest

from survey.settings import Settings, load
from survey.sources.mock import Mock
from survey.store.ingest import Ingest

ROOT = Path(__file__).resolve().parents[1]
JOBS: dict[str, type[Settings]] = {"mock": Mock, "ingest": Ingest}


def run(job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100, check=False)


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
    needed = {"mock": ["out=x"], "ingest": ["input=x", "store=y"]}
    for job, settings in JOBS.items():
        load(settings, job, [str(recipe), *needed[job]])


def test_a_mock_survey_becomes_a_store_and_a_second_run_does_nothing(tmp_path: Path):
    files, store = tmp_path / "files", tmp_path / "store"
    made = run("mock", "recipes/cemp.yaml", f"out={files}", "n=200", "workers=1")
    assert made.returncode == 0, made.stderr
    first = run("ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1", "preview=1", "refuse_above=0.1")
    assert first.returncode == 0, first.stderr
    assert "rows in    200" in first.stdout
    assert "1 spectra, drawn stage by stage" in first.stdout
    assert len(list((store / "preview").glob("*.png"))) == 1
    second = run("ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1", "refuse_above=0.1")
    assert "0 made by this run" in second.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["input=nowhere", "store={tmp}/s"], "no such file or folder"),
        (["input=recipes", "store={tmp}/s", "gird=cemp4900"], "ingest: gird: unknown setting"),
        (["input=recipes", "store={tmp}/s", "prepare.continum=msfl"], "did you mean continuum?"),
        (["input=recipes", "store={tmp}/s", "prepare.grid=cemp4800"], "there is no grid of this name; there are cemp4900"),
        (["input=recipes", "store={tmp}/s", "sources=[lamst]"], "there is no source 'lamst'; there are"),
        (["input=recipes", "store={tmp}/s", "options={lamost: {mrs: both}}"], "should be 'coadd' or 'single'"),
        (["input=recipes", "store={tmp}/s"], "holds no spectrum"),
        (["store={tmp}/s"], "ingest: input: not given"),
        (["recipes/none.yaml", "input=recipes", "store={tmp}/s"], "no such recipe"),
    ],
)
def test_a_mistake_is_told_in_one_message_without_a_traceback(arguments: list[str], told: str, tmp_path: Path):
    ended = run("ingest", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
