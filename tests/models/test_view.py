"""The part of a spectrum that a network sees."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter

from survey.models.network import ViewLayer
from survey.models.settings import View
from survey.settings import SettingsError
from tests.models.batches import spectra

WAVE = np.linspace(5000.0, 5300.0, 301)


def apply(**view: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flux and ivar before and after a view."""
    flux_BP, ivar_BP, _ = spectra(3, len(WAVE))
    return flux_BP, ivar_BP, *ViewLayer(View.from_dict("view", view), WAVE)(flux_BP, ivar_BP)


def test_only_pixels_within_the_windows_are_seen() -> None:
    flux_BP, ivar_BP, seen_flux_BP, seen_ivar_BP = apply(windows=[[5100, 5110], [5160, 5190.5]])
    inside_P = torch.from_numpy(((WAVE >= 5100) & (WAVE <= 5110)) | ((WAVE >= 5160) & (WAVE <= 5190)))
    assert torch.equal(seen_ivar_BP, torch.where(inside_P, ivar_BP, 0.0))
    assert torch.equal(seen_flux_BP, torch.where(seen_ivar_BP > 0, flux_BP, 1.0))


def test_flux_is_clipped_where_it_is_good() -> None:
    flux_BP, ivar_BP, seen_flux_BP, seen_ivar_BP = apply(clip=[0.5, 1.5])
    assert torch.equal(seen_flux_BP, torch.where(ivar_BP > 0, flux_BP.clamp(0.5, 1.5), 1.0))
    assert torch.equal(seen_ivar_BP, ivar_BP)


def test_smoothing_is_that_of_scipy_and_lowers_the_noise() -> None:
    flux_BP, ivar_BP, seen_flux_BP, _ = apply(smooth=7)
    expected_BP = savgol_filter(flux_BP.double().numpy(), 7, 2, mode="constant", cval=1.0)
    good_BP = (ivar_BP > 0).numpy()
    np.testing.assert_allclose(seen_flux_BP.numpy()[good_BP], expected_BP[good_BP], atol=1e-5)
    assert (seen_flux_BP.numpy()[~good_BP] == 1).all()
    noise_BP = torch.randn(2000, len(WAVE))
    smooth_BP, smooth_ivar_BP = ViewLayer(View(smooth=7), WAVE)(1 + noise_BP, torch.ones_like(noise_BP))
    assert float(smooth_BP[:, 50:-50].var() * smooth_ivar_BP[0, 100]) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"windows": [[5200, 5100]]}, "the window 5200 to 5100 is empty"),
        ({"windows": [[5100]]}, r"windows: \[\[5100\]\]: give list of"),
        ({"windows": [["Mg", 5100]]}, "valid number"),
        ({"clip": [2, 3]}, "the continuum, 1, is not between the limits"),
        ({"smooth": 4}, "is not an odd number from 5"),
        ({"smooth": 3}, "is not an odd number from 5"),
    ],
)
def test_a_view_that_shows_nothing_is_refused(view: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        View.from_dict("train: view", view)


def test_a_window_outside_the_grid_is_refused_with_the_ends_of_the_grid() -> None:
    with pytest.raises(ValueError, match="8490 to 8670: no pixel of the grid, which covers 5000 to 5300"):
        ViewLayer(View(windows=((8490.0, 8670.0),)), WAVE)
