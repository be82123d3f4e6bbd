"""Mock spectra without noise depend on the labels as real ones do."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from survey.mock import light, lines, population

WAVE = light.LOW.wave()
GIANT = {
    "Teff": 4800.0,
    "logg": 2.3,
    "FeH": -1.5,
    "CFe": 0.0,
    "NFe": 0.0,
    "MgFe": 0.3,
    "CaFe": 0.3,
    "sFe": 0.0,
    "rv": 0.0,
}


def spectrum(**labels: float) -> np.ndarray:
    """Transmission of one star: the giant, with these labels changed."""
    row = {name: np.array([value]) for name, value in (GIANT | labels).items()}
    return np.asarray(light.transmission(row, light.LOW)[0])


def depth(flux: np.ndarray, low: float, high: float) -> float:
    return float(1 - flux[(low < WAVE) & (high > WAVE)].mean())


@pytest.mark.parametrize(
    ("label", "values", "window"),
    [
        ("CFe", (-0.5, 0.0, 0.7, 1.5, 2.2), (4285.0, 4318.0)),
        ("CFe", (0.0, 0.7, 1.5, 2.2), (4680.0, 4738.0)),
        ("CFe", (0.0, 0.7, 1.5, 2.2), (5080.0, 5166.0)),
        ("CFe", (0.0, 0.7, 1.5, 2.2), (3850.0, 3884.0)),
        ("NFe", (0.0, 0.5, 1.0), (3850.0, 3884.0)),
        ("CaFe", (-0.2, 0.1, 0.4), (3925.0, 3945.0)),
        ("CaFe", (-0.2, 0.1, 0.4), (4224.0, 4232.0)),
        ("CaFe", (-0.2, 0.1, 0.4), (8535.0, 8553.0)),
        ("MgFe", (-0.2, 0.1, 0.4), (5165.0, 5190.0)),
        ("FeH", (-3.0, -2.0, -1.0, 0.0), (5262.0, 5280.0)),
        ("FeH", (-3.0, -2.0, -1.0, 0.0), (4400.0, 4480.0)),
        ("Teff", (4800.0, 5500.0, 6200.0, 6900.0), (6555.0, 6574.0)),
        ("Teff", (4800.0, 5500.0, 6200.0, 6900.0), (4850.0, 4877.0)),
    ],
)
def test_a_feature_deepens_with_its_label(
    label: str, values: tuple[float, ...], window: tuple[float, float]
) -> None:
    depths = [depth(spectrum(**{label: value}), *window) for value in values]
    assert np.all(np.diff(depths) > 0.002)


def test_neutral_metals_and_molecules_fade_with_temperature() -> None:
    for window in ((4285.0, 4318.0), (5165.0, 5190.0), (4400.0, 4480.0), (5886.0, 5902.0)):
        depths = [depth(spectrum(Teff=teff, FeH=-0.5), *window) for teff in (4400.0, 5200.0, 6000.0)]
        assert np.all(np.diff(depths) < -0.002)


def test_titanium_oxide_shows_in_the_coolest_stars_only() -> None:
    assert depth(spectrum(Teff=3850.0, FeH=0.0, logg=1.0), 7056.0, 7100.0) > 0.1
    assert depth(spectrum(Teff=4700.0, FeH=0.0), 7056.0, 7100.0) < 0.02


def test_swan_bands_need_more_carbon_than_a_normal_star_has() -> None:
    assert depth(spectrum(), 4680.0, 4738.0) < 0.03
    assert depth(spectrum(CFe=2.0), 4680.0, 4738.0) > 0.2


def test_strengths_saturate() -> None:
    iron = [
        light.strengths({name: np.array([value]) for name, value in (GIANT | {"FeH": feh}).items()})[0]
        for feh in (-3.0, -2.0, -1.0)
    ]
    faint = [row[[species.name for species in lines.SPECIES].index("fe_faint_low")] for row in iron]
    strong = [row[[species.name for species in lines.SPECIES].index("fe_strong_low")] for row in iron]
    assert faint[2] / faint[1] > 5
    assert strong[2] / strong[1] < 3


def test_velocity_moves_the_lines_and_not_their_strength() -> None:
    still, moving = spectrum(), spectrum(rv=300.0)
    moved_back = np.interp(WAVE, WAVE / (1 + 300.0 / light.LIGHT_SPEED), moving)
    inner = slice(30, -30)
    assert np.abs(moved_back - still)[inner].max() < 0.08
    assert np.abs(moved_back - still)[inner].mean() < 0.004
    line = (WAVE > 5880) & (WAVE < 5915)
    centre = [np.average(WAVE[line], weights=(1 - flux[line]) ** 2) for flux in (still, moving)]
    assert (centre[1] / centre[0] - 1) * light.LIGHT_SPEED == pytest.approx(300.0, abs=25.0)


def test_the_shift_agrees_with_an_exact_gaussian() -> None:
    pixel = np.arange(-light.LOW.margin, light.LOW.size + light.LOW.margin)
    rows = np.exp(-0.5 * ((pixel - np.array([[2000.0], [2000.0]])) / 1.02) ** 2).astype(np.float32)
    moved = light.shift(rows, np.array([0.0, 100.0]), light.LOW)
    pixels = np.log10(1 + 100.0 / light.LIGHT_SPEED) / 1e-4
    exact = np.exp(-0.5 * ((np.arange(light.LOW.size) - 2000.0 - pixels) / 1.02) ** 2)
    assert np.abs(moved[1] - exact).max() < 0.02
    assert np.abs(moved[0] - rows[0, light.LOW.margin : -light.LOW.margin]).max() < 1e-6


def test_a_regression_on_noise_free_light_recovers_the_labels() -> None:
    blocks = [population.block(population.StarSettings(0, "balanced", 0.0), number) for number in range(2)]
    table = {name: np.concatenate([block[name] for block in blocks]) for name in (*population.LABELS, "rv")}
    table["rv"] = table["rv"] * 0
    flux = light.transmission(table, light.LOW)
    parts = PCA(60, random_state=0, svd_solver="randomized").fit_transform(flux[:, ::4].astype(float))
    features = np.column_stack([parts, parts[:, :12] ** 2])
    features = (features - features.mean(0)) / features.std(0)
    limits = {"Teff": 20.0, "logg": 0.2, "FeH": 0.08, "CFe": 0.2, "MgFe": 0.05, "CaFe": 0.06}
    truth = np.column_stack([table[label] for label in limits])
    error = Ridge(1.0).fit(features[:1500], truth[:1500]).predict(features[1500:]) - truth[1500:]
    errors = dict(zip(limits, np.sqrt(np.mean(error**2, axis=0)), strict=True))
    assert all(errors[label] < limit for label, limit in limits.items()), errors
