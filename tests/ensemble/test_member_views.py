"""A member that sees a part of a spectrum answers only where this part has a good pixel."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey import files
from survey.ensemble.build import build
from survey.ensemble.ensemble import VALIDATION
from survey.ensemble.members import open_members
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.result import Evaluation
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.reports import evaluate as report
from survey.store.schema import array_column
from survey.store.store import open_store, to_parquet
from survey.training.batches import read_spectra
from tests.ensemble import small_runs
from tests.finished import finish_store

WINDOW = (4400.0, 4500.0)
CUT = 7
"""Spectra of each part without a good pixel in the window."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that sees all, and one that sees a window."""
    folder = small_runs.place(tmp_path_factory.mktemp("views"), "both")
    small_runs.train(folder, "window", view={"windows": [WINDOW]}, epochs=1)
    return folder


def is_inside(wave_P: np.ndarray) -> np.ndarray:
    return (wave_P >= WINDOW[0]) & (wave_P <= WINDOW[1])


@pytest.fixture(scope="module")
def store(place: Path) -> Path:
    """The store, some spectra of which have no good pixel in the window."""
    folder = Path(shutil.copytree(place / "store", place / "cut" / "store"))
    run, plain = samples.read(str(place / "window")), open_store(str(folder))
    cut_N2 = np.concatenate([run.part(name).shard_row_N2[:CUT] for name in ("validation", "test")])
    tables = []
    for number, table in enumerate(plain.tables()):
        ivar_NP = np.stack(table["ivar"].to_pylist()).astype(np.float32)
        ivar_NP[np.ix_(cut_N2[cut_N2[:, 0] == number, 1], is_inside(plain.grid.wave))] = 0
        column = table.schema.get_field_index("ivar")
        tables.append(to_parquet(table.set_column(column, table.field("ivar"), array_column(ivar_NP))))
    finish_store(folder, plain.document, tables)
    return folder


def evaluate(of: Path, store: Path, **changes: Any) -> Evaluation:
    return evaluate_ensemble(
        Evaluate.from_dict("evaluate", {"of": str(of), "store": str(store), "threads": 1} | changes)
    )


def test_spectra_without_an_answer_are_left_out_of_an_evaluation_and_counted(
    place: Path, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = samples.read(str(place / "window")).part("test").extra["obsid"].to_pylist()
    alone = evaluate(place / "window", store)
    assert (alone.document.spectra, alone.document.no_answer) == (len(test) - CUT, CUT)
    assert alone.answers(["obsid"])["obsid"].to_pylist() == test[CUT:]
    assert f"{CUT} of {len(test)} spectra left out, without an answer" in caplog.text
    assert f"left out   {CUT} spectra without an answer" in report.summary(alone, [])
    compared = evaluate(place / "both", store, against=[str(place / "window")])
    assert (compared.document.spectra, compared.document.no_answer) == (len(test) - CUT, CUT)


def test_spectra_without_an_answer_are_left_out_of_the_validation_of_an_ensemble(
    place: Path, store: Path
) -> None:
    values = {"ensemble": str(place / "team"), "runs": [str(place / "window")], "store": str(store)}
    built = build(Build.from_dict("ensemble", values | {"threads": 1, "gpu": "never"}))
    validation = samples.read(str(place / "window")).part("validation").extra["obsid"].to_pylist()
    table = files.read_table(str(place / "team" / VALIDATION))
    assert table["obsid"].to_pylist() == validation[CUT:]
    assert built.document.validation.spectra == len(validation) - CUT


def test_a_spectrum_without_a_good_pixel_in_the_view_of_a_member_gets_no_answer_from_it(
    place: Path,
) -> None:
    members = open_members([str(place / "both"), str(place / "window")])
    spectra = read_spectra(open_store(str(place / "store")), np.array([(0, row) for row in range(20)]))
    ivar, inside = spectra.ivar.clone(), np.flatnonzero(is_inside(members.grid.wave))
    ivar[:5, inside] = 0
    ivar[5, inside[1:]] = 0
    ivar[5, inside[0]] = 100
    cut = replace(spectra, ivar=ivar)
    has_input = members.have_input(cut)
    assert has_input[0].all()
    assert has_input[1].tolist() == [False] * 5 + [True] * 15
    answers, latents = members.predict(cut)
    assert answers.has_class().tolist() == has_input.tolist()
    assert np.isnan(answers.value_MNL[1, :5]).all()
    assert np.isnan(latents[1][:5]).all()
    assert np.isfinite(latents[1][5:]).all()
