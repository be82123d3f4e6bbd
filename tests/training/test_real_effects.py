"""Residuals of real spectra and gaps in ranges: what training spectra get of the real sky."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from survey.labelling import samples as sample_files
from survey.labelling.samples import Samples
from survey.settings import SettingsError
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.real_effects import RealEffects
from survey.training.regions import RegionGaps
from survey.training.residual_settings import Regions, Residuals
from survey.training.residuals import INPUTS, RESIDUALS, ResidualBank, Transplant
from survey.training.settings import Train
from survey.training.sources import learned_labels
from survey.training.train import plan
from survey.training.worker import learn
from tests.training import lessons

MAIN_STARS, REAL_STARS, ERROR = 200, 60, 0.05
"""Real spectra are too high by `ERROR` beyond pixel 150."""


def some_samples(stars: dict[str, np.ndarray], names: list[str]) -> Samples:
    count = len(names)
    label_NL = np.stack([stars[name] for name in INPUTS], 1)
    place_N2 = np.stack([np.zeros(count, np.int64), np.arange(count)], 1)
    extra = pa.table({"source": pa.array(names), "snr": np.full(count, 50.0)})
    nothing_N = np.zeros(count, np.int8)
    return Samples(INPUTS, place_N2, nothing_N, nothing_N, label_NL, label_NL * np.nan, extra)


@pytest.fixture(scope="module")
def sky() -> tuple[Samples, Spectra]:
    """Computed and real stars, and their spectra."""
    stars = lessons.stars(MAIN_STARS + REAL_STARS)
    stars["CH"] = stars["FeH"]  # carbon follows iron, so that three labels determine a spectrum
    flux_NP, ivar_NP = (torch.from_numpy(array) for array in lessons.spectra(stars))
    flux_NP[MAIN_STARS:, 150:] += ERROR * (ivar_NP[MAIN_STARS:, 150:] > 0)
    names = ["main"] * MAIN_STARS + ["real"] * REAL_STARS
    return some_samples(stars, names), Spectra(flux_NP, ivar_NP)


def bank_of(sky: tuple[Samples, Spectra], **changes: Any) -> ResidualBank:
    train, spectra = sky
    settings = Residuals(probability=1, **changes)
    rows = {int(row): number for number, row in enumerate(train.shard_row_N2[:, 1])}

    def read(chosen: Samples) -> list[Spectra]:
        index = torch.tensor([rows[int(row)] for row in chosen.shard_row_N2[:, 1]])
        return [spectra[part] for part in index.split(37)]

    return ResidualBank.make(settings, train, read)


def test_a_residual_is_what_real_spectra_have_and_computed_ones_have_not(
    sky: tuple[Samples, Spectra],
) -> None:
    bank = bank_of(sky)
    assert 20 <= len(bank) <= REAL_STARS
    mean_P = bank.residual_RP.float().mean(0)
    assert float(mean_P[:130].abs().max()) < 0.3 * ERROR
    assert torch.allclose(mean_P[170:], torch.tensor(ERROR), atol=0.3 * ERROR)


def test_smooth_residuals_hold_less_noise(sky: tuple[Samples, Spectra]) -> None:
    rough, smooth = (bank_of(sky, smooth=width).residual_RP.float().std() for width in (0.0, 3.0))
    assert float(smooth) < float(rough)


def test_spectra_of_the_main_source_get_residuals_and_bad_pixels_stay_bad(
    sky: tuple[Samples, Spectra],
) -> None:
    train, spectra = sky
    transplant = Transplant(Residuals(probability=1, strength=1), train, bank_of(sky))
    batch = np.array([3, MAIN_STARS + 2, 7])
    before = spectra[torch.from_numpy(batch)]
    after = transplant(before, batch, (1, 2), 0)
    changed = (after.flux - before.flux).abs().amax(1) > 0
    assert changed.tolist() == [True, False, True], "real spectra have their own residuals"
    assert torch.equal(after.flux[before.ivar <= 0], before.flux[before.ivar <= 0])
    assert torch.equal(after.ivar, before.ivar)


def test_residuals_do_not_depend_on_the_number_of_workers(sky: tuple[Samples, Spectra]) -> None:
    train, spectra = sky
    transplant = Transplant(Residuals(probability=0.5), train, bank_of(sky))
    batch = np.arange(16)
    whole = transplant(spectra[:16], batch, (4,), 0)
    halves = [transplant(spectra[start : start + 8], batch, (4,), start) for start in (0, 8)]
    assert torch.equal(whole.flux, torch.cat([half.flux for half in halves]))


def test_residuals_without_another_source_are_an_error(sky: tuple[Samples, Spectra]) -> None:
    train, spectra = sky
    alone = train.at(np.arange(MAIN_STARS)), spectra
    with pytest.raises(SettingsError, match=r"residuals: 0 training spectra of other sources .*; 20 are"):
        bank_of(alone)


def test_ranges_become_bad_at_random_and_on_any_number_of_workers(sky: tuple[Samples, Spectra]) -> None:
    spectra, wave_P = sky[1][:64], lessons.GRID.wave
    gaps = RegionGaps(Regions(probability=0.5, ranges=((4090, 4110), (4440, 4460))), wave_P)
    after = gaps(spectra, 64, (5,), 0)
    inside_P = torch.from_numpy((wave_P >= 4090) & (wave_P <= 4110))
    is_bad_B = (after.ivar[:, inside_P] == 0).all(1)
    assert 16 < int(is_bad_B.sum()) < 48
    assert torch.equal(after.flux[is_bad_B][:, inside_P], torch.ones_like(after.flux[is_bad_B][:, inside_P]))
    outside_P = torch.from_numpy((wave_P < 4090) | ((wave_P > 4110) & (wave_P < 4440)) | (wave_P > 4460))
    assert torch.equal(after.flux[:, outside_P], spectra.flux[:, outside_P])
    halves = [gaps(spectra[start : start + 32], 64, (5,), start) for start in (0, 32)]
    assert torch.equal(after.ivar, torch.cat([half.ivar for half in halves]))


def test_a_range_outside_the_grid_is_an_error() -> None:
    regions = Regions(probability=0.5, ranges=((6555.0, 6575.0),))
    with pytest.raises(SettingsError, match=r"regions.ranges: 6555 to 6575: no pixel of the grid"):
        RegionGaps(regions, lessons.GRID.wave)


def test_labels_beyond_their_ranges_are_learned_as_the_ends(sky: tuple[Samples, Spectra]) -> None:
    train = sky[0]
    teff_N = train.label_NL[:, INPUTS.index("Teff")]
    learned_NL = learned_labels(train, {"Teff": (5000, 6000), "CFe": (0, 1)})
    expected_N = np.select([teff_N < 5000, teff_N > 6000], [5000, 6000], teff_N)
    assert np.array_equal(learned_NL[:, INPUTS.index("Teff")], expected_N)
    assert np.array_equal(learned_NL[:, INPUTS.index("FeH")], train.label_NL[:, INPUTS.index("FeH")])
    assert teff_N.min() < 5000, "the samples stay as they are"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("effects")
    lessons.store(folder / "store", 160)
    lessons.store(folder / "real" / "store", 120, seed=3, first=5000)
    return folder


def training(place: Path, name: str, **changes: Any) -> Train:
    real = {"store": str(place / "real" / "store"), "labels": str(place / "real" / "labels.csv")}
    values = {"run": str(place / name), "sources": {"real": real}, "epochs": 2}
    return lessons.training(place, **values | changes)


def test_a_training_keeps_its_residuals_and_makes_them_of_its_training_stars_only(place: Path) -> None:
    values: dict[str, Any] = {
        "residuals": {"probability": 0.5, "snr": 0},
        "label_ranges": {"Teff": [4600, 6400]},
    }
    values["targets"] = [*INPUTS]
    settings = training(place, "run", **values, regions={"probability": 0.2, "ranges": [[4190, 4210]]})
    assert plan(settings)
    learn(settings)
    tensors, document = checkpoint.read_tensors(str(place / "run" / "checkpoints" / RESIDUALS))
    train = sample_files.read(settings.run).part("train")
    labels = {tuple(row) for row in train.label_NL[:, [train.labels.index(name) for name in INPUTS]]}
    assert {tuple(row) for row in tensors["label_RI"].numpy()} <= labels
    assert len(tensors["residual_RP"]) == document["spectra"]


def test_effects_that_are_off_change_nothing(sky: tuple[Samples, Spectra]) -> None:
    train, spectra = sky
    effects = RealEffects(None, None)
    after = effects(spectra, np.arange(len(train)), lambda purpose: (purpose,), 0)
    assert torch.equal(after.flux, spectra.flux)
    assert replace(after) == after
