"""Paths in a catalog are as the user knows them, never the absolute ones of a machine."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.catalog.catalog import make_catalog
from survey.catalog.document import CATALOG
from survey.catalog.provenance import predictions_path
from survey.catalog.settings import CatalogSettings
from survey.folder import Folder
from survey.predict import output
from survey.store.manifest import plan
from survey.store.settings import Input
from tests.catalog.test_catalog import write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_short_lists import with_column


def make_in(folder: Path, **settings: Any) -> Path:
    """A catalog whose paths are typed from the folder that it is in; its folder."""
    with contextlib.chdir(folder):
        make_catalog(CatalogSettings(predictions="predictions", catalog="catalog", **settings))
    return folder / "catalog"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with predictions and their catalog."""
    folder = tmp_path_factory.mktemp("made")
    write_survey(folder)
    make_in(folder, exports=())
    return folder


def write_files(folder: Path, count: int) -> list[str]:
    """Files of a survey (empty ones, which a manifest lists as well), and their absolute paths."""
    paths = [folder / "night" / f"plan-{number % 3}" / f"spec-{number:05d}.fits" for number in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"SIMPLE  =")
    return [str(path) for path in paths]


def test_no_file_of_a_catalog_holds_an_absolute_path(tmp_path: Path) -> None:
    write_survey(tmp_path)
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "predictions").glob("*/*.parquet"))
    paths = write_files(tmp_path / "files", rows)
    change(tmp_path, with_column("path", lambda table: np.array(paths)))
    predictions = Folder(str(tmp_path / "predictions"), output.PREDICTIONS)
    document = predictions.document()
    member = document.ensemble.members[0].model_copy(update={"path": str(tmp_path / "run")})
    ensemble = document.ensemble.model_copy(update={"path": str(tmp_path / "ensemble"), "members": (member,)})
    source = output.InputReference(kind="files", path=str(tmp_path / "files"), id="f1")
    predictions.finish(document.model_copy(update={"ensemble": ensemble, "source": source}))
    plan(
        Input(input=str(tmp_path / "files")),
        str(tmp_path / "predictions"),
    )
    catalog = make_in(tmp_path, truth="truth.csv")
    stars = pq.read_table(catalog / "hats" / "stars" / "dataset")
    assert set(stars["path"].to_pylist()) <= {path.removeprefix(f"{tmp_path}/files/") for path in paths}
    for file in sorted(path for path in catalog.rglob("*") if path.is_file() and path.suffix != ".png"):
        assert str(tmp_path).encode() not in file.read_bytes(), file
    record = json.loads((catalog / "catalog.json").read_text())
    assert record["predictions"]["path"] == "predictions"
    assert record["predictions"]["source"]["path"] == "files"
    assert record["ensemble"]["path"] == "ensemble"
    assert record["settings"]["truth"] == "truth.csv"


def test_predictions_are_found_from_another_folder_than_that_of_the_catalog(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    catalog = tmp_path / "catalog"
    monkeypatch.chdir(tmp_path)
    record = Folder(str(catalog), CATALOG).document().predictions
    assert record.path == "predictions"
    assert predictions_path(str(catalog), record) == "predictions"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert predictions_path(str(catalog), record) == str(tmp_path / "predictions")
    (tmp_path / "predictions").rename(tmp_path / "gone")
    assert predictions_path(str(catalog), record) == "predictions"


def test_paths_of_an_input_that_is_not_there_any_more_stay_as_they_are(made: Path) -> None:
    paths = pq.read_table(made / "catalog" / "hats" / "stars" / "dataset")["path"].to_pylist()
    assert set(paths) <= {f"plate/spec-{number:06d}.fits.gz" for number in range(1600)}
