"""The trial before the first shard: batch, precision, compiled networks. Some tests replace the clock."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey import checked
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers, open_ensemble
from survey.predict import autotune
from survey.predict import predict as predict_module
from survey.predict.autotune import Autotuner, TrialRequest, largest_differences
from survey.predict.inputs import StoreInput
from survey.predict.output import Choice
from survey.predict.predict import predict
from survey.predict.worker import PredictionSpec
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra
from tests.ensemble import untrained
from tests.predict.small_predictions import settings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    untrained.three(folder / "ensemble", untrained.store(folder))
    return folder


def spec(place: Path) -> PredictionSpec:
    return PredictionSpec(
        folder=str(place / "predictions"),
        ensemble=str(place / "ensemble"),
        ensemble_id="three-members",
        inputs=StoreInput.from_store(open_store(str(place / "store"))),
        choice=Choice(batch=64, precision="float32"),
        fingerprint="",
        seed=0,
        members=False,
        embeddings=False,
    )


def spectra(place: Path, rows: int) -> Spectra:
    store = open_store(str(place / "store"))
    return read_spectra(store, np.array([[0, row] for row in range(rows)]))


def chosen(
    place: Path, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], **changes: Any
) -> Choice:
    """The choice if a spectrum in a batch of some size takes `cost(size)` seconds of a clock of the test."""
    clock = {"now": 0.0}
    predict_spectra = Ensemble.predict

    def timed(self: Ensemble, spectra: Any, snr_N: Any, *, batch: int, **options: Any) -> EnsembleAnswers:
        clock["now"] += cost(batch) * len(spectra)
        return predict_spectra(self, spectra[:2], snr_N[:2], batch=batch, **options)

    monkeypatch.setattr(Ensemble, "predict", timed)
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    values: dict[str, Any] = {"batch": None, "precision": "auto", "compile": "never"}
    tuner = Autotuner(spec(place), TrialRequest(**(values | changes)), 1, 1, False)
    return Choice.model_validate(tuner(0))


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda batch: 1e-3 + 1e-2 / batch, 256),
        (lambda batch: 1e-3 * (1 if batch <= 64 else 2) + 1e-2 / batch, 64),
        (lambda batch: 1e-3, 16),
    ],
    ids=["a fixed cost per batch", "a cache that is too small", "no difference"],
)
def test_the_smallest_batch_that_is_nearly_the_fastest_is_chosen(
    place: Path, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], best: int
) -> None:
    choice = chosen(place, monkeypatch, cost)
    assert (choice.batch, choice.precision, choice.compiled) == (best, "float32", False)
    assert "spectra/s by batch: 16 " in choice.notes[0]


def test_a_trial_of_a_given_batch_has_no_more_spectra_than_a_shard(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(Ensemble, "predict", lambda _, spectra, *__, **___: sizes.append(len(spectra)))
    monkeypatch.setattr(autotune, "compile_networks", lambda _: None)
    made = spec(place)
    largest = max(map(made.inputs.rows_in, range(made.inputs.shards)))
    request = TrialRequest(batch=50_000, precision="float32", compile="always")
    assert Choice.model_validate(Autotuner(made, request, 1, 1, False)(0)).batch == 50_000
    assert set(sizes) == {largest}


def test_a_batch_that_no_memory_holds_is_refused(place: Path) -> None:
    with pytest.raises(SettingsError, match="predict: batch: 500000: should be less than or equal to 65536"):
        settings(place, batch=500_000)


def test_a_full_memory_ends_the_search(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(batch: int) -> float:
        if batch > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e-3 + 1e-2 / batch

    assert chosen(place, monkeypatch, cost).batch == 32


def test_a_batch_of_the_settings_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(place, monkeypatch, lambda batch: 1e-3, batch=24, precision="bf16")
    assert choice == Choice(batch=24, precision="bf16")


def test_networks_that_cannot_be_compiled_are_used_uncompiled(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand a long text")

    def broken(ensemble: Ensemble) -> None:
        for run in ensemble.members.runs:
            monkeypatch.setattr(run.net, "_compiled_call_impl", fail)

    monkeypatch.setattr(autotune, "compile_networks", broken)
    request = TrialRequest(4, "float32", "always")
    choice = Choice.model_validate(Autotuner(spec(place), request, 1, 1, False)(0))
    assert not choice.compiled
    assert choice.notes == (
        "the networks could not be compiled (no compiler here); they are used uncompiled",
    )


def test_differences_of_labels_are_in_units_of_their_scatter_in_training(place: Path) -> None:
    ensemble = open_ensemble(str(place / "ensemble"))
    exact = ensemble.predict(spectra(place, 2), np.full(2, 40.0))
    value_NL = exact.answers.value_NL
    assert value_NL is not None
    none = {"probabilities": 0.0, "labels": 0.0, "errors": 0.0, "domain": 0.0}
    assert largest_differences(ensemble, exact, exact) == none
    warmer = replace(exact, answers=replace(exact.answers, value_NL=value_NL + np.array([5.0, 0.0])))
    scale = ensemble.members.runs[0].scaling.scale_L[0]
    found = largest_differences(ensemble, exact, warmer)
    assert found == none | {"labels": pytest.approx(5.0 / scale)}
    unknown = replace(exact, answers=replace(exact.answers, value_NL=value_NL * np.nan))
    assert largest_differences(ensemble, exact, unknown)["labels"] == np.inf


def test_bfloat16_on_this_machine_agrees_within_ten_tolerances(place: Path) -> None:
    ensemble = open_ensemble(str(place / "ensemble"))
    exact, low = (
        ensemble.predict(spectra(place, 4), np.full(4, 40.0), precision=precision)
        for precision in ("float32", "bf16")
    )
    found = largest_differences(ensemble, exact, low)
    assert max(found.values()) > 0
    assert all(value < 10 * autotune.TOLERANCE[name] for name, value in found.items())


def test_the_choice_is_written_down_and_used_by_every_rerun(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "MIN_ROWS_TO_MEASURE", 10)
    monkeypatch.setattr(autotune, "SECONDS", 0.01)
    measured = settings(place, predictions=str(place / "measured"), batch=None)
    result = predict(measured)
    choice = result.document.choice
    assert "spectra/s by batch" in choice.notes[0]
    plan = checked.read_json(str(place / "measured" / "plan.json"), "")
    assert Choice.model_validate(plan) == choice
    monkeypatch.setattr(predict_module, "Autotuner", None)
    for path in (place / "measured" / "markers").iterdir():
        path.unlink()
    again = predict(measured)
    assert (again.created, again.document) == (3, result.document)


def test_few_spectra_are_predicted_without_a_trial(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "Autotuner", None)
    result = predict(settings(place, predictions=str(place / "few"), batch=None))
    assert result.document.choice == Choice(batch=64, precision="float32")
