"""What is found out before the first shard: batch, precision, compiled networks; with a clock and networks of the test's own."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey import files
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.predict import autotune
from survey.predict import predict as predict_module
from survey.predict.autotune import Trial, apart
from survey.predict.inputs import FromStore
from survey.predict.predict import Predict, predict
from survey.predict.worker import Asking, Choice, chosen, written
from survey.store.store import open_store
from survey.training.batches import read_places
from tests.ensemble import askable


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    askable.three(folder / "ensemble", askable.store(folder))
    return folder


def asking(place: Path) -> Asking:
    origin = FromStore.of(open_store(str(place / "store")))
    return Asking(
        str(place / "said"),
        str(place / "ensemble"),
        "three-members",
        origin,
        Choice(64, "float32", False),
        "",
        0,
        False,
        False,
    )


def tried(
    place: Path, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], **wanted: Any
) -> Choice:
    """The choice where a call of so many spectra in such batches takes so many seconds of a clock that only they move."""
    clock = {"now": 0.0}
    said = Ensemble.said

    def timed(self: Ensemble, some: Any, snr_N: Any, *, batch: int, **given: Any) -> Any:
        clock["now"] += cost(batch) * len(some)
        return said(self, some[:2], snr_N[:2], batch=batch, **given)

    monkeypatch.setattr(Ensemble, "said", timed)
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    made = Trial(asking(place), {"batch": None, "precision": "auto", "compile": "never"} | wanted, 1, False)
    return chosen(made(0))


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda batch: 1e-3 + 1e-2 / batch, 256),
        (lambda batch: 1e-3 * (1 if batch <= 64 else 2) + 1e-2 / batch, 64),
        (lambda batch: 1e-3, 16),
    ],
    ids=["a fixed cost per batch", "a cache that is too small", "no difference"],
)
def test_the_smallest_batch_that_is_about_the_fastest_is_chosen(
    place: Path, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], best: int
):
    found = tried(place, monkeypatch, cost)
    assert (found.batch, found.precision, found.compiled) == (best, "float32", False)
    assert "spectra/s by batch: 16 " in found.notes[0]


def test_a_full_memory_ends_the_search(place: Path, monkeypatch: pytest.MonkeyPatch):
    def cost(batch: int) -> float:
        if batch > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e-3 + 1e-2 / batch

    assert tried(place, monkeypatch, cost).batch == 32


def test_a_batch_that_is_given_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch):
    assert tried(place, monkeypatch, lambda batch: 1e-3, batch=24, precision="bf16") == Choice(
        24, "bf16", False
    )


def test_networks_that_cannot_be_compiled_go_on_without(place: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(ensemble: Ensemble) -> None:
        for run in ensemble.members.runs:
            monkeypatch.setattr(run.net, "_compiled_call_impl", fails)

    def fails(*inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(autotune, "compiled", broken)
    found = chosen(
        Trial(asking(place), {"batch": 4, "precision": "float32", "compile": "always"}, 1, False)(0)
    )
    assert not found.compiled
    assert found.notes == ("compiling the networks failed (no compiler here); goes on without",)


def test_answers_apart_are_measured_in_units_of_the_training(place: Path):
    asked = open_ensemble(str(place / "ensemble"))
    spectra = read_places(open_store(str(place / "store")), np.array([[0, 0], [0, 1]]), False)
    exact = asked.said(spectra, np.full(2, 40.0))
    assert exact.combined.mu_NL is not None
    off = {"probabilities": 0.0, "labels": 0.0, "errors": 0.0, "domain": 0.0}
    assert apart(asked, exact, exact) == off
    warmer = replace(
        exact, combined=replace(exact.combined, mu_NL=exact.combined.mu_NL + np.array([5.0, 0.0]))
    )
    assert apart(asked, exact, warmer) == off | {
        "labels": pytest.approx(5.0 / asked.members.runs[0].scaling.scale_L[0])
    }
    lost = replace(exact, combined=replace(exact.combined, mu_NL=exact.combined.mu_NL * np.nan))
    assert apart(asked, exact, lost)["labels"] == np.inf


def test_sixteen_bits_on_this_machine_are_within_the_tolerance(place: Path):
    asked = open_ensemble(str(place / "ensemble"))
    spectra = read_places(open_store(str(place / "store")), np.array([[0, row] for row in range(4)]), False)
    exact, low = (
        asked.said(spectra, np.full(4, 40.0), precision=precision) for precision in ("float32", "bf16")
    )
    off = apart(asked, exact, low)
    assert max(off.values()) > 0
    assert all(value < 10 * autotune.TOLERANCE[name] for name, value in off.items())


def test_what_was_found_is_written_down_and_holds_for_every_rerun(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predict_module, "MANY", 10)
    monkeypatch.setattr(autotune, "SECONDS", 0.01)
    values = {
        "ensemble": str(place / "ensemble"),
        "store": str(place / "store"),
        "predictions": str(place / "found"),
        "threads": 1,
    }
    report = predict(Predict.checked("predict", values))
    notes = report.about["choice"]["notes"]
    assert "spectra/s by batch" in notes[0]
    plan = files.read_json(str(place / "found" / "plan.json"))
    assert plan == {**written(Choice(plan["batch"], "float32", False)), "notes": list(notes)}
    monkeypatch.setattr(predict_module, "Trial", None)
    for path in (place / "found" / "markers").iterdir():
        path.unlink()
    again = predict(Predict.checked("predict", values))
    assert (again.made, again.about) == (3, report.about)


def test_few_spectra_are_not_worth_a_measurement(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predict_module, "Trial", None)
    values = {
        "ensemble": str(place / "ensemble"),
        "store": str(place / "store"),
        "predictions": str(place / "few"),
        "threads": 1,
    }
    assert predict(Predict.checked("predict", values)).about["choice"] == {
        "batch": 64,
        "precision": "float32",
        "compiled": False,
        "notes": (),
    }
