"""A finished run is opened from its folder alone, and checked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from survey import checked
from survey.labelling import samples
from survey.spectrum import Grid
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import read_spectra
from tests.finished import change_document
from tests.training import lessons

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_predicts_from_its_folder_alone(finished: Path, tmp_path: Path) -> None:
    test = samples.read(str(finished / "run")).part("test")
    spectra = read_spectra(open_store(str(finished / "store")), test.shard_row_N2)
    expected = runs.open_run(str(finished / "run")).predict(spectra)
    moved = Path(shutil.copytree(finished / "run", tmp_path / "moved"))
    away = finished.rename(finished.with_name("away"))
    try:
        predicted = runs.open_run(str(moved)).predict(spectra)
    finally:
        away.rename(finished)
    assert set(predicted) == {"p", "mu", "latent"}
    for name, value in expected.items():
        assert np.allclose(predicted[name], value, rtol=1e-5, atol=1e-6)
    assert np.abs(expected["mu"] - test.label_NL).mean(0).max() < 0.5  # the spread of the labels is 0.9


@pytest.mark.long
def test_a_run_predicts_in_another_process(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "moved")
    test = samples.read(str(finished / "run")).part("test")
    spectra = read_spectra(open_store(str(finished / "store")), test.shard_row_N2)
    np.savez(tmp_path / "spectra.npz", flux=spectra.flux.numpy(), ivar=spectra.ivar.numpy())
    code = (
        "import numpy as np, torch\n"
        "from survey.training.run import open_run\n"
        "from survey.training.batches import Spectra\n"
        "torch.set_num_threads(1)\n"
        "arrays = np.load('spectra.npz')\n"
        "spectra = Spectra(torch.tensor(arrays['flux']), torch.tensor(arrays['ivar']))\n"
        "np.savez('predicted.npz', **open_run('moved').predict(spectra))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    expected = runs.open_run(str(finished / "run")).predict(spectra)
    with np.load(tmp_path / "predicted.npz") as file:
        assert set(file) == set(expected)
        for name, value in expected.items():
            assert np.allclose(file[name], value, rtol=1e-5, atol=1e-6)


def test_the_document_comes_back_as_it_was_written(finished: Path) -> None:
    path = finished / "run" / runs.RUN.file
    document = runs.run_document(str(finished / "run"))
    assert json.loads(document.model_dump_json()) == checked.read_json(str(path), "")
    assert document.grid == lessons.GRID
    assert document.parts["train"].classes.keys() == {"MP", "CEMP", "NMP"}


def test_the_counts_of_classes_are_read_from_earlier_runs_too() -> None:
    earlier = {"spectra": 9, "stars": 7, "MP": 4, "CEMP": 5}
    now = runs.PartCounts(spectra=9, stars=7, classes={"MP": 4, "CEMP": 5})
    assert runs.PartCounts.model_validate(earlier) == now
    assert runs.PartCounts.model_validate(now.model_dump()) == now
    assert runs.PartCounts.model_validate({"spectra": 9, "stars": 7}).classes == {}


def test_a_run_of_another_version_is_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    change_document(run / runs.RUN.file, {"version": 99})
    with pytest.raises(ValueError, match="version 99, this code reads version 3"):
        runs.open_run(str(run))


def test_a_run_with_other_weights_is_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    raw = bytearray((run / runs.MODEL).read_bytes())
    raw[-1] ^= 1
    (run / runs.MODEL).write_bytes(raw)
    with pytest.raises(ValueError, match="its checksum differs"):
        runs.open_run(str(run))


def test_spectra_of_another_grid_are_refused(finished: Path) -> None:
    run = runs.open_run(str(finished / "run"))
    run.check_grid(lessons.GRID, "here")
    with pytest.raises(ValueError, match=r"here: its grid has .*4200.* was trained on .*4598"):
        run.check_grid(Grid(4000.0, 4200.0, 2.0), "here")


def test_a_run_sees_only_its_view_in_prediction_too(finished: Path, place: Path) -> None:
    view = {"windows": [[4400, 4598]], "smooth": 5}
    run = runs.open_run(str(lessons.train(place, view=view, epochs=2)))
    shard_row_N2 = samples.read(str(finished / "run")).shard_row_N2[:20]
    spectra = read_spectra(open_store(str(finished / "store")), shard_row_N2)
    expected = run.predict(spectra)["mu"]
    is_hidden = run.grid.wave < 4400
    spectra.flux[:, is_hidden] = 5.0
    assert (run.predict(spectra)["mu"] == expected).all()
    spectra.flux[:, ~is_hidden] -= 0.1
    assert not np.allclose(run.predict(spectra)["mu"], expected)
