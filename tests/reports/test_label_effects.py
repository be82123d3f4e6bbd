"""The picture of the spectral model: labels that stars have, and the spectra of these labels."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from survey.reports.label_effects import NEAR, choose_steps, picture
from survey.reports.lines import TELLURIC
from survey.training.synthesis import SpectralModel
from tests.reports.sketches import sketch

NAMES = ("Teff", "FeH", "CFe")


def stars(size: int = 600) -> NDArray[np.float64]:
    """Two kinds of stars: cool metal-rich ones with normal carbon, hot metal-poor ones with much carbon."""
    rng = np.random.default_rng(0)
    kind = rng.random(size) < 0.5
    teff = np.where(kind, rng.normal(4500, 150, size), rng.normal(6200, 150, size))
    feh = np.where(kind, rng.normal(0, 0.1, size), rng.normal(-2.5, 0.3, size))
    return np.stack([teff, feh, np.where(kind, rng.normal(0, 0.1, size), rng.normal(1.5, 0.4, size))], 1)


def model(label_NI: NDArray[np.float64], pixels: int = 50) -> SpectralModel:
    """Fluxes that follow the labels in a straight line."""
    depth = np.stack([label_NI[:, 0] / 1e5, 0.05 * label_NI[:, 1], 0.1 * label_NI[:, 2]])
    flux = 1 - (depth[:, :, None] * np.random.default_rng(1).random((3, 1, pixels))).sum(0)
    flux_NP = torch.from_numpy(flux).float()
    return SpectralModel.fit(label_NI, [(flux_NP, torch.full_like(flux_NP, 1e6))], 2)


@pytest.mark.parametrize("number", range(3))
def test_no_combination_of_labels_is_drawn_that_no_star_has(number: int) -> None:
    label_NI = stars()
    steps = choose_steps(label_NI, number, NAMES[number])
    assert len(steps.values_V) >= 4
    scaled_NI, label_VI = label_NI / label_NI.std(0), steps.labels(number) / label_NI.std(0)
    step = np.diff(steps.values_V).max() / label_NI.std(0)[number]
    limit_I = np.where(np.arange(3) == number, step, NEAR)
    inside = (np.abs(label_VI[:, None] - scaled_NI) <= limit_I + 1e-9).all(2)
    assert inside.any(1).all()
    assert (np.delete(label_VI, number, 1) == np.delete(label_VI[0], number)).all()


def test_values_are_round() -> None:
    label_NI = stars()
    teff = choose_steps(label_NI, 0, "Teff").values_V
    assert (teff % 10).tolist() == [0] * len(teff)
    cfe = choose_steps(label_NI, 2, "CFe").values_V
    np.testing.assert_allclose(cfe / 0.05, np.round(cfe / 0.05), atol=1e-9)


def test_stars_that_are_all_alike_have_one_value() -> None:
    steps = choose_steps(np.tile([[5000.0, -1.0, 0.2]], (30, 1)), 1, "FeH")
    assert steps.values_V.tolist() == [-1.0]


def test_each_label_has_its_spectra_and_their_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = sketch(monkeypatch)
    label_NI = stars()
    spectral_model, wave = model(label_NI), np.linspace(4000, 4100, 50)
    picture(spectral_model, NAMES, wave, label_NI)
    axes = figures[0].axes
    assert "grey: absorption by the Earth's atmosphere" in axes[-1].get_xlabel()
    assert len(axes) == 2 * len(NAMES)
    for number, (upper, lower) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
        steps = choose_steps(label_NI, number, NAMES[number])
        expected = spectral_model(torch.from_numpy(steps.labels(number))).numpy()
        drawn, differences = (
            np.array([line.get_ydata() for line in axis.get_lines()]) for axis in (upper, lower)
        )
        np.testing.assert_allclose(drawn, expected)
        np.testing.assert_allclose(differences, expected - expected[len(expected) // 2], atol=1e-6)
        legend = upper.get_legend()
        assert legend is not None
        texts = [float(text.get_text()) for text in legend.get_texts()]
        assert texts == pytest.approx(steps.values_V.tolist())
        assert len(upper.patches) == len(lower.patches) == len(TELLURIC)
        assert f"({steps.alike:,} training stars)" in upper.get_title(loc="left") + upper.get_title()
