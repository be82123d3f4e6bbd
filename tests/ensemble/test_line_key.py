"""[Fe/H] from indices of lines: the formula is the known one, its errors hold, and it says where it ends."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from survey.answers import LINE_COLUMNS
from survey.ensemble.ensemble import ENSEMBLE, LINE_KEY, VALIDATION, open_ensemble
from survey.ensemble.line_key import (
    LEAST,
    LEAST_REAL,
    NAMES,
    RIDGE,
    LineKey,
    fit_line_key,
    index_noise,
    read_indices,
)
from survey.folder import Folder
from survey.labelling.samples import Samples
from survey.predict.output import open_predictions
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.spectrum import Grid
from survey.store.index_meter import IndexMeter
from survey.store.store import Store, open_store
from tests.ensemble import small_runs
from tests.training import lessons

GRID = Grid(3850.0, 7000.0, 1.0)
NOISE = index_noise(GRID)


def observed(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy indices of stars, their [Fe/H] and their signal to noise."""
    random, stars = np.random.default_rng(seed), lessons.stars(count, seed)
    made_up, snr_N = lessons.made_up_indices(stars, seed), random.uniform(10, 100, count)
    index_NI = np.stack([made_up[name] for name in NAMES], 1)
    return index_NI + random.normal(0, NOISE, index_NI.shape) / snr_N[:, None], stars["FeH"], snr_N


@pytest.fixture(scope="module")
def key() -> LineKey:
    index_NI, feh_N, _ = observed(400)
    other_NI, other_N, snr_N = observed(400, 1)
    return LineKey.fit(index_NI, feh_N, NOISE).add_scatter(other_NI, snr_N, other_N)[0]


def test_the_formula_is_a_ridge_regression_of_second_order(key: LineKey) -> None:
    index_NI, feh_N, snr_N = observed(400)
    clipped_NI = np.clip(index_NI, key.low_I, key.high_I)
    steps = StandardScaler(), PolynomialFeatures(2), StandardScaler(), Ridge(RIDGE)
    model = make_pipeline(*steps).fit(clipped_NI, feh_N)
    estimate_N, _ = key.estimate(index_NI, snr_N)
    known_N = np.isfinite(estimate_N)
    assert known_N.mean() > 0.9
    assert estimate_N[known_N] == pytest.approx(model.predict(clipped_NI)[known_N], abs=1e-10)


def test_the_error_holds_at_low_and_at_high_signal_to_noise(key: LineKey) -> None:
    index_NI, feh_N, snr_N = observed(4000, 2)
    estimate_N, error_N = key.estimate(index_NI, snr_N)
    is_within_N, known_N = np.abs(estimate_N - feh_N) < error_N, np.isfinite(estimate_N)
    for chosen_N in (snr_N < 30, snr_N > 60, feh_N < -1, feh_N > -1):
        assert 0.6 < is_within_N[chosen_N & known_N].mean() < 0.76
    assert np.median(error_N[known_N & (snr_N < 20)]) > 1.5 * np.median(error_N[known_N & (snr_N > 80)])


def test_there_is_no_estimate_outside_the_range_or_without_an_index_or_a_signal_to_noise(
    key: LineKey,
) -> None:
    middle_I, width_I = (key.low_I + key.high_I) / 2, key.high_I - key.low_I
    index_NI, snr_N = np.tile(middle_I, (7, 1)), np.full(7, 50.0)
    index_NI[1, 3] = key.high_I[3] + 0.09 * width_I[3]
    index_NI[2, 3] = key.high_I[3] + 0.11 * width_I[3]
    index_NI[3, 0] = key.low_I[0] - 0.11 * width_I[0]
    index_NI[4, 5] = np.nan
    snr_N[5:] = np.nan, -3.0
    index_NI = np.concatenate([index_NI, index_NI[1:2]])
    index_NI[7, 3] = key.high_I[3]
    for values_N in key.estimate(index_NI, np.append(snr_N, 50.0)):
        assert np.isfinite(values_N).tolist() == [True, True, False, False, False, False, False, True]
        assert values_N[1] == values_N[7]


def test_the_noise_of_an_index_is_that_of_measured_spectra() -> None:
    random, snr = np.random.default_rng(0), 50.0
    flux_BG = 1 + random.normal(0, 1 / snr, (1500, len(GRID)))
    meter = IndexMeter(GRID, torch.device("cpu"))
    measured = meter(torch.from_numpy(flux_BG).float(), torch.full(flux_BG.shape, snr**2))
    scatter_I = np.array([measured[name].std() for name in NAMES])
    assert scatter_I * snr == pytest.approx(NOISE, rel=0.25)


def test_a_formula_is_read_as_it_was_written(key: LineKey) -> None:
    index_NI, _, snr_N = observed(50, 3)
    tensors = key.to_tensors()
    read_again, written = (one.estimate(index_NI, snr_N) for one in (LineKey.from_tensors(tensors), key))
    for read_N, written_N in zip(read_again, written, strict=True):
        assert np.array_equal(read_N, written_N, equal_nan=True)
    del tensors["noise_I"]
    with pytest.raises(ValueError, match=r"the tensor 'noise_I' is missing, .* make the ensemble again"):
        LineKey.from_tensors(tensors)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(lessons.store(tmp_path_factory.mktemp("keys") / "store", 700, with_indices=True)))


def samples(store: Store, first: int, count: int, real: int = 0) -> Samples:
    """Labelled spectra of the toy store; the last so many are of another source."""
    numbers = np.arange(first, first + count)
    stars = lessons.stars(700)
    label_NL = np.stack([stars["Teff"], stars["FeH"]], 1)[numbers]
    tables = pa.concat_tables(store.tables(["snr"])).take(pa.array(numbers))
    source = ["main"] * (count - real) + ["real"] * real
    extra = tables.append_column("source", pa.array(source, pa.string()))
    part_N, class_N = np.zeros((2, count), np.int8)
    place_N2 = np.stack([numbers // 50, numbers % 50], 1)
    return Samples(("Teff", "FeH"), place_N2, part_N, class_N, label_NL, label_NL * np.nan, extra)


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        ((400, LEAST_REAL), (100, 60), (LEAST_REAL, ("real",))),
        ((400, LEAST_REAL - 1), (100, 60), (400, ("main", "real"))),
        ((400, 0), (100, 0), (400, ("main",))),
        ((LEAST_REAL - 1, 0), (100, 0), "199 training and 100 validation .*; 200 and 20 are needed"),
        ((400, 300), (100, LEAST - 1), "300 training and 19 validation .*; 200 and 20 are needed"),
    ],
)
def test_it_is_fitted_to_real_stars_if_they_are_enough(
    store: Store, train: tuple[int, int], validation: tuple[int, int], expected: object
) -> None:
    key, record = fit_line_key(store, samples(store, 0, *train), samples(store, 500, *validation), 0)
    if isinstance(expected, str):
        assert key is None
        assert not record.spectra
        assert re.match(expected, record.missing)
    else:
        assert (record.spectra, record.sources) == expected
        assert key is not None
        assert abs(record.bias or 0) < 0.1


def test_hot_stars_and_unknown_labels_are_not_fitted_to(store: Store) -> None:
    train, validation = samples(store, 0, 400), samples(store, 500, 100)
    train.label_NL[:100, 0] = 7100.0
    train.label_NL[100:150, 0] = np.nan
    train.label_NL[150:160, 1] = np.nan
    assert fit_line_key(store, train, validation, 0)[1].spectra == 290
    only_teff = replace(train, labels=("Teff", "logg"))
    assert fit_line_key(store, only_teff, validation, 0)[1].missing == "FeH is none of its labels"


def test_a_store_without_indices_gives_no_formula(tmp_path: Path) -> None:
    store = open_store(str(lessons.store(tmp_path / "store", 300)))
    key, record = fit_line_key(store, samples(store, 0, 200), samples(store, 200, 100), 0)
    assert key is None
    assert record.missing.startswith("0 training and 0 validation spectra have all indices and [Fe/H]")


def test_predictions_of_a_run_have_the_second_key_of_its_ensemble(tmp_path: Path) -> None:
    lessons.store(tmp_path / "store", 450, with_indices=True)
    run = small_runs.train(tmp_path, "both", epochs=1)
    values = {"ensemble": run, "store": str(tmp_path / "store"), "predictions": str(tmp_path / "said")}
    predictions = open_predictions(predict(Predict.from_dict("predict", values | {"threads": 1})).path)
    table = pa.concat_tables(predictions.tables())
    ensemble = open_ensemble(str(Path(run) / "calibrated"))
    assert LINE_KEY in ensemble.document.content
    assert ensemble.line_key is not None
    assert ensemble.document.line_key.sources == ("main",)
    places = np.stack([table[name].to_numpy() for name in ("shard", "row_in_shard")], 1).astype(np.int64)
    index_NI = read_indices(open_store(str(tmp_path / "store")), places)
    estimates = ensemble.line_key.estimate(index_NI, table["snr"].to_numpy().astype(float))
    for name, values_N in zip(LINE_COLUMNS, estimates, strict=True):
        column_N = table[name].to_numpy(zero_copy_only=False)
        assert np.array_equal(column_N, values_N.astype(np.float32), equal_nan=True)
        assert np.isfinite(column_N).mean() > 0.9
    validation = Folder(ensemble.path, ENSEMBLE).table(VALIDATION)
    error_N = validation["FeH_lines"].to_numpy(zero_copy_only=False) - validation["true_FeH"].to_numpy()
    assert np.nanmedian(np.abs(error_N)) < 0.2
