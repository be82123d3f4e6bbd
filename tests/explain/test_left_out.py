"""What an explanation cannot measure is left out, with the reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.explain import explain as job
from survey.explain.settings import ExplainSettings
from survey.reports import explain as report
from survey.store.store import open_store
from tests.ensemble import small_runs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("left-out"), "both", "classes")


def settings(place: Path, of: str, **changes: Any) -> ExplainSettings:
    values = {"of": str(place / of), "split": "all", "least_snr": 5, "count": 32, "blocks": 5, "batches": 2}
    values |= {"explain": str(place / f"explained-{of}"), "steps": 2, "draws": 2, "threads": 1}
    return ExplainSettings.from_dict("explain", values | changes)


@pytest.mark.parametrize(("of", "left_out"), [("both", "gradients of classes"), ("classes", "gradients")])
def test_votes_have_no_gradients(
    place: Path, of: str, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vote changes all at once: gradients of the probabilities would explain something else."""

    def voting(path: str, device: Any) -> Ensemble:
        ensemble = open_ensemble(path, device)
        weights = replace(ensemble.document.weights, combine="vote")
        return replace(ensemble, document=ensemble.document.model_copy(update={"weights": weights}))

    monkeypatch.setattr(job, "open_ensemble", voting)
    result = job.explain(settings(place, of, spectra=["1003"]))
    reason = "the members vote, and a vote does not change with a small change of the spectrum"
    assert result.document.left_out == {left_out: reason}
    table, single = result.table("importance.parquet"), result.table("single.parquet")
    assert table is not None
    assert single is not None
    targets = {target.column for target in result.document.targets if not target.is_class}
    by_gradients = {row["target"] for row in table.to_pylist() if row["method"] == "gradients"}
    assert by_gradients == targets
    assert set(single["method"].to_pylist()) == {"occlusion"}
    assert f"no {left_out}: {reason}" in report.summary(result, [])


def test_few_good_spectra_are_compared_in_fewer_parts(place: Path) -> None:
    given = settings(place, "both", explain=str(place / "few"), methods=["occlusion"], count=256, batches=64)
    snr = np.sort(open_store(str(place / "store")).spectra(0, ["snr"])["snr"].to_numpy())
    few = given.model_copy(update={"least_snr": float(snr[-9])})
    result = job.explain(few)
    table = result.table("batches.parquet")
    assert table is not None
    assert result.document.spectra < 64 * 4
    assert set(table["batch"].to_pylist()) == set(range(result.document.spectra // 4))
    assert np.isfinite(table["share"].to_numpy()).all()
    assert set(table["spectra"].to_pylist()) <= {4, 5}
