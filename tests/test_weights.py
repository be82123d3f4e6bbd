"""The ensemble that comes with the program: it is small, holds no path of a machine, and predicts alone."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from survey import files
from survey.ensemble.build import build
from survey.ensemble.cascade import open_cascade
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.ensemble.settings import Build
from survey.predict.output import open_predictions
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.recipes import shipped
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.batches import read_spectra
from tests.ensemble import small_runs

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "weights" / "cemp"
LARGEST = 12e6
"""Bytes: a clone and a wheel hold them."""
PATH = re.compile(r"""["'=]/\w""")
"""The beginning of a path of a machine, in a value or inside a text."""


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The program `weights/make.py`."""
    spec = importlib.util.spec_from_file_location("make_weights", ROOT / "weights" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_packed_ensemble_answers_as_the_whole_one_and_holds_no_path(
    make: ModuleType, tmp_path: Path
) -> None:
    place = small_runs.place(tmp_path / "work", "both", "sure")
    runs = [str(place / name) for name in ("both", "sure")]
    values = {"ensemble": str(place / "whole"), "runs": runs, "threads": 1, "gpu": "never"}
    build(Build.from_dict("ensemble", values))
    spectra = read_spectra(open_store(str(place / "store")), np.array([[0, 3], [1, 7]]))
    whole = open_ensemble(str(place / "whole"))
    expected = whole.predict(spectra, np.array([30.0, 40.0]))
    fitted_cascade(whole, 1)
    make.pack(place / "whole", tmp_path / "packed")
    shutil.rmtree(place)
    packed = open_ensemble(str(tmp_path / "packed"))
    answers = packed.predict(spectra, np.array([30.0, 40.0])).answers.to_columns()
    for name, values_N in expected.answers.to_columns().items():
        assert np.array_equal(values_N, answers[name], equal_nan=values_N.dtype.kind == "f"), name
    assert open_cascade(packed).document.ensemble == whole.id
    for file in (tmp_path / "packed").rglob("*.json"):
        assert not PATH.search(file.read_text()), file


def test_the_shipped_ensemble_is_small_and_holds_no_path() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < LARGEST
    for file in SHIPPED.rglob("*.json"):
        assert not PATH.search(file.read_text()), file
    for file in SHIPPED.rglob("*.parquet"):
        table = files.read_table(str(file))
        for name in table.column_names:
            if pa.types.is_string(table.schema.field(name).type):
                starts = pc.starts_with(table[name], "/")
                assert not pc.any(starts).as_py(), (file, name)
    assert not list(SHIPPED.rglob("*.pt")), "safetensors only"


@pytest.mark.parametrize("cascade", [False, True])
def test_real_files_are_predicted_with_the_shipped_ensemble_without_naming_it(
    shared: Path, tmp_path: Path, cascade: bool
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for file in sorted((shared / "lamost" / "lrs_table").glob("*"))[:8]:
        shutil.copy(file, folder)
    settings = Predict.from_dict(
        "predict",
        {"input": str(folder), "predictions": str(tmp_path / "said"), "workers": 1, "gpu": "never"}
        | {"cascade": cascade},
    )
    torch.set_num_threads(1)
    result = predict(settings)
    assert result.document.rows >= 6
    said = open_predictions(str(tmp_path / "said"))
    assert said.document.ensemble.id == open_ensemble(str(SHIPPED)).id
    assert files.exists(files.join(said.path, "population.parquet"))
    assert (said.document.cascade is not None) == cascade


def test_without_a_shipped_ensemble_it_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("survey.predict.predict.shipped", lambda _: tmp_path)
    settings = Predict.from_dict("predict", {"input": "x", "predictions": str(tmp_path / "said")})
    with pytest.raises(SettingsError, match=r"predict: ensemble: not given, and there is none in"):
        predict(settings)
    assert shipped("recipes").is_dir()
