"""Models that are fitted stand beside networks in an ensemble: weighed, calibrated, judged and asked as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import Evaluate, evaluate
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import run
from survey.training.batches import read_places
from tests.ensemble import teams

TREES = {"components": 8, "rounds": 30, "report": 30, "colsample": 0.5, "lr": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = teams.place(tmp_path_factory.mktemp("fitted"), "both")
    teams.train(made, "trees", model="lightgbm", options=TREES)
    teams.train(made, "mean", model="mean", options={})
    runs = [str(made / name) for name in ("both", "trees", "mean")]
    build(Build.checked("ensemble", {"ensemble": str(made / "team"), "runs": runs, "threads": 1}))
    return made


def test_they_are_judged_beside_each_other(folder: Path):
    found = evaluate(Evaluate.checked("evaluate", {"of": str(folder / "team"), "threads": 1}))
    rows = {
        row["who"]: row["value"]
        for row in found.compared.to_pylist()
        if (row["kind"], row["subject"], row["metric"]) == ("all", "FeH", "mae")
    }
    assert rows["trees"] < 0.6 * rows["mean"]
    assert rows["ensemble"] < rows["mean"]


def test_trees_say_in_an_ensemble_what_their_run_says_and_the_domain_is_known_by_the_others(folder: Path):
    spectra = read_places(open_store(str(folder / "store")), np.array([(0, row) for row in range(50)]), False)
    spectra.flux[7] = torch.where(spectra.ivar[7] > 0, float("nan"), 1.0)
    team = open_ensemble(str(folder / "team"))
    told, _ = team.members.ask(spectra)
    wanted = run.open_run(str(folder / "trees")).said(spectra, "float32")["mu"]
    found = told.mu_MNL[1]
    assert np.isnan(found[7]).all()  # trees would have an answer to anything
    np.testing.assert_allclose(np.delete(found, 7, 0), np.delete(wanted, 7, 0), rtol=1e-6)
    said = team.said(spectra, np.full(50, 30.0))
    assert np.isfinite(np.delete(said.domain_N, 7)).all()


def test_passes_of_dropout_are_refused_where_nobody_has_any(folder: Path):
    with pytest.raises(SettingsError, match="passes=5: no member has a layer with dropout"):
        evaluate(Evaluate.checked("evaluate", {"of": str(folder / "trees"), "passes": 5, "threads": 1}))
