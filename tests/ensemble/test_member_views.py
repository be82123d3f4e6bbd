"""A member that sees a part of a spectrum answers only where this part has a good pixel."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from survey.ensemble.members import open_members
from survey.store.store import open_store
from survey.training.batches import read_spectra
from tests.ensemble import small_runs

WINDOW = (4400.0, 4500.0)


def test_a_spectrum_without_a_good_pixel_in_the_view_of_a_member_gets_no_answer_from_it(
    tmp_path: Path,
) -> None:
    small_runs.place(tmp_path, "both")
    small_runs.train(tmp_path, "window", view={"windows": [WINDOW]}, epochs=1)
    members = open_members([str(tmp_path / "both"), str(tmp_path / "window")])
    spectra = read_spectra(open_store(str(tmp_path / "store")), np.array([(0, row) for row in range(20)]))
    ivar, wave = spectra.ivar.clone(), members.grid.wave
    inside = np.flatnonzero((wave >= WINDOW[0]) & (wave <= WINDOW[1]))
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
