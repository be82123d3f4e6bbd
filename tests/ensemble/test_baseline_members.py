"""Fitted models beside networks in an ensemble."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import run
from survey.training.batches import read_spectra
from tests.ensemble import small_runs

TREES = {"components": 8, "rounds": 30, "report": 30, "colsample": 0.5, "lr": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_runs.place(tmp_path_factory.mktemp("fitted"), "both")
    small_runs.train(made, "trees", model="lightgbm", options=TREES)
    small_runs.train(made, "mean", model="mean", options={})
    runs = [str(made / name) for name in ("both", "trees", "mean")]
    build(Build.from_dict("ensemble", {"ensemble": str(made / "team"), "runs": runs, "threads": 1}))
    return made


def test_fitted_models_and_networks_are_evaluated_together(folder: Path) -> None:
    found = evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": str(folder / "team"), "threads": 1}))
    rows = {
        row["who"]: row["value"]
        for row in found.members.to_pylist()
        if (row["kind"], row["subject"], row["metric"]) == ("all", "FeH", "mae")
    }
    assert rows["trees"] < 0.6 * rows["mean"]
    assert rows["ensemble"] < rows["mean"]


def test_trees_answer_in_an_ensemble_as_their_run_does_and_the_networks_give_the_domain(folder: Path) -> None:
    spectra = read_spectra(open_store(str(folder / "store")), np.array([(0, row) for row in range(50)]))
    spectra.flux[7] = torch.where(spectra.ivar[7] > 0, float("nan"), 1.0)
    team = open_ensemble(str(folder / "team"))
    answers, _ = team.members.predict(spectra)
    wanted = run.open_run(str(folder / "trees")).predict(spectra, "float32")["mu"]
    found = answers.value_MNL[1]
    assert np.isnan(found[7]).all()  # without that rule trees would answer anything
    np.testing.assert_allclose(np.delete(found, 7, 0), np.delete(wanted, 7, 0), rtol=1e-6)
    result: Any = team.predict(spectra, np.full(50, 30.0))
    assert np.isfinite(np.delete(result.answers.domain_N, 7)).all()


def test_dropout_passes_without_dropout_layers_are_an_error(folder: Path) -> None:
    with pytest.raises(SettingsError, match="passes=5: no member has a layer with dropout"):
        evaluate_ensemble(
            Evaluate.from_dict("evaluate", {"of": str(folder / "trees"), "passes": 5, "threads": 1})
        )
