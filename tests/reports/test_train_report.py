"""The report of a training reads the spectra of the store that was trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.labelling import samples
from survey.reports import augmentations, curves, train
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.sources import source_names
from survey.training.train import plan
from survey.training.worker import learn
from tests.training import lessons


def test_the_best_spectrum_of_several_sources_is_read_from_their_joined_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons.store(tmp_path / "store", 20)
    lessons.store(tmp_path / "real" / "store", 80, seed=4, first=5000)
    real = {"store": str(tmp_path / "real" / "store"), "labels": str(tmp_path / "real" / "labels.csv")}
    changes: dict[str, Any] = {"model": "mean", "options": {}, "augment": {"preset": "full"}}
    settings = lessons.training(tmp_path, sources={"real": real}, **changes)
    plan(settings)
    learn(settings)
    part = samples.read(settings.run).part("train")
    best = int(np.argmax(part.extra["snr"].to_numpy(zero_copy_only=False)))
    assert source_names(part)[best] == "real"
    joined = open_store(runs.open_run(settings.run).store_path)
    expected = read_spectra(joined, part.shard_row_N2[[best]]).flux[0].numpy()
    fluxes: list[Any] = []

    def picture(settings: Any, wave: Any, flux: Any, ivar: Any, seed: int) -> bytes:
        fluxes.append(flux)
        return b"drawn"

    monkeypatch.setattr(augmentations, "picture", picture)
    monkeypatch.setattr(curves, "picture", lambda _: b"drawn")
    train.pictures(settings)
    np.testing.assert_array_equal(fluxes[0], expected)
