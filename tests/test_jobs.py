"""The jobs as their users call them; tests/test_doors.py starts each of them."""

from pathlib import Path

import pytest

from survey.archives.settings import Download
from survey.arguments import load
from survey.catalog.settings import CatalogSettings
from survey.ensemble.settings import Build
from survey.evaluate.settings import Evaluate
from survey.explain.settings import ExplainSettings
from survey.followup.settings import FollowupSettings
from survey.label_tables.settings import LabelTables
from survey.latent.settings import LatentSettings
from survey.mock.settings import Mock
from survey.pages.settings import ReportSettings
from survey.predict.settings import Predict
from survey.recipes import parse
from survey.search.settings import Tune
from survey.settings import Settings
from survey.status.settings import Status
from survey.store.settings import Ingest
from survey.training.settings import Train
from tests.commands import survey

ROOT = Path(__file__).resolve().parents[1]
SETTINGS: dict[str, type[Settings]] = {
    "mock": Mock,
    "download": Download,
    "labels": LabelTables,
    "ingest": Ingest,
    "train": Train,
    "tune": Tune,
    "ensemble": Build,
    "evaluate": Evaluate,
    "predict": Predict,
    "catalog": CatalogSettings,
    "latent": LatentSettings,
    "explain": ExplainSettings,
    "report": ReportSettings,
    "followup": FollowupSettings,
    "status": Status,
}


def test_every_job_is_in_this_list() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(SETTINGS)


@pytest.mark.parametrize("job", SETTINGS)
def test_help_names_every_setting_with_a_meaning(job: str) -> None:
    done = survey(job, "--help", "all")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for name, field in SETTINGS[job].model_fields.items():
        assert f"  {field.alias or name}" in done.stdout
        is_nested = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
        assert is_nested or (field.description and " ".join(field.description.split()) in text)


SPACES = {
    "galaxies": ["space=tune/vae.yaml", "metrics=[reconstruction,ssim,active]"],
    "mstars": ["space=tune/fusion.yaml", "metrics=[f1_macro]"],
}
"""The search spaces and metrics of the recipes that learn something else than labels of stars."""


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_job_accepts_every_recipe(recipe: Path) -> None:
    needed = {
        "mock": ["out=x"],
        "download": ["archive=lamost", "out=x", "ids=[1]"],
        "labels": ["labels=x"],
        "ingest": ["input=x", "store=y"],
        "train": ["store=x", "labels=y", "run=z"],
        "tune": ["study=x", "store=y", "labels=z", "space=tune/prism.yaml", "metrics=[r2_mean]"],
        "ensemble": ["ensemble=x", "store=y", "labels=z"],
        "evaluate": ["of=x"],
        "predict": ["ensemble=x", "store=y", "predictions=z"],
        "catalog": ["predictions=x", "catalog=y"],
        "latent": ["predictions=x", "latent=y"],
        "explain": ["of=x", "explain=y"],
        "report": ["of=x"],
        "followup": ["of=x", "followup=y", "site=Xinglong", "dates=2027-01-10", "hours=20"],
        "status": ["path=x"],
    }
    if recipe.stem in SPACES:
        needed["tune"][3:] = SPACES[recipe.stem]
    sections = parse(recipe.read_text(), recipe.name)
    for job, settings in SETTINGS.items():
        if set(settings.NEEDED_SECTIONS) <= sections.keys():
            load(settings, job, [*([] if settings.ARGUMENT else [str(recipe)]), *needed[job]])


def test_a_mock_survey_becomes_a_store_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    files, store = tmp_path / "files", tmp_path / "store"
    mocked = survey("mock", "recipes/cemp.yaml", f"out={files}", "n=60", "workers=1")
    assert mocked.returncode == 0, mocked.stderr
    first = survey(
        "ingest",
        "recipes/cemp.yaml",
        f"input={files}",
        f"store={store}",
        "workers=1",
        "preview=1",
        "refuse_above=0.1",
    )
    assert first.returncode == 0, first.stderr
    assert "rows in    60" in first.stdout
    assert "1 spectra, drawn stage by stage" in first.stdout
    assert len(list((store / "preview").glob("*.png"))) == 1
    second = survey(
        "ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1", "refuse_above=0.1"
    )
    assert "0 made by this run" in second.stdout


@pytest.mark.timeout(1800)
def test_a_store_and_labels_become_a_run_and_its_evaluation(tmp_path: Path) -> None:
    files, store, trained = tmp_path / "files", tmp_path / "store", tmp_path / "run"
    survey("mock", "recipes/cemp.yaml", f"out={files}", "n=80", "workers=1", "broken=0", "balance=balanced")
    survey("ingest", "recipes/cemp.yaml", f"input={files}", f"store={store}", "workers=1")
    labels = f"labels={files / 'labels.parquet'}"
    small = [
        "model=prism",
        "options={components: 16, hidden: 32}",
        "epochs=2",
        "threads=1",
        "tracking.use=never",
    ]
    first = survey("train", "recipes/cemp.yaml", f"store={store}", labels, f"run={trained}", *small)
    assert first.returncode == 0, first.stderr
    assert "best epoch" in first.stdout
    assert {"curves.png", "augmentation.png", "labels.png", "model.txt", "run.json"} <= {
        path.name for path in trained.iterdir()
    }
    again = survey("train", "recipes/cemp.yaml", f"store={store}", labels, f"run={trained}", *small)
    assert "finished before: nothing to do" in again.stdout
    team = survey(
        "ensemble",
        f"ensemble={tmp_path / 'team'}",
        f"runs=[{trained}]",
        "threads=1",
        "calibrate=false",
        "weights=equal",
    )
    assert team.returncode == 0, team.stderr
    assert "ensemble.json" in {path.name for path in (tmp_path / "team").iterdir()}
    for inputs in (f"store={store}", f"input={files}"):
        predicted = survey(
            "predict",
            "recipes/cemp.yaml",
            f"ensemble={tmp_path / 'team'}",
            inputs,
            f"predictions={tmp_path / inputs[:2]}",
            "workers=1",
        )
        assert predicted.returncode == 0, predicted.stderr
        assert "rows       80 of 80" in predicted.stdout
    evaluated = survey("evaluate", f"of={trained}", "threads=1")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "MP_search" in evaluated.stdout
    assert "mae" not in evaluated.stderr
    wrong = survey(
        "train",
        "recipes/cemp.yaml",
        f"store={store}",
        labels,
        f"run={trained}",
        *(item for item in small if not item.startswith("epochs=")),
        "epochs=3",
    )
    assert wrong.returncode == 1
    assert "epochs=2 there, 3 now" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=nowhere", "store={tmp}/s"], "no such file or folder"),
        (["input=recipes", "store={tmp}/s", "gird=cemp4900"], "ingest: gird: unknown setting"),
        (["input=recipes", "store={tmp}/s", "prepare.continum=msfl"], "did you mean prepare.continuum?"),
        (
            ["input=recipes", "store={tmp}/s", "prepare.grid=cemp4800"],
            "there is no grid of this name; there are cemp4900",
        ),
        (
            ["input=recipes", "store={tmp}/s", "sources=[lamst]"],
            "there is no source 'lamst'; did you mean lamost?",
        ),
        (
            ["input=recipes", "store={tmp}/s", "options={lamost: {mrs: both}}"],
            "should be 'coadd' or 'single'",
        ),
        (["input=recipes", "store={tmp}/s"], "holds no spectrum"),
        (["store={tmp}/s"], "ingest: input: not given"),
        (["recipes/none.yaml", "input=recipes", "store={tmp}/s"], "no such recipe"),
    ],
)
def test_a_mistake_is_reported_in_one_message_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    ended = survey("ingest", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
