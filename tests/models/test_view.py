"""What of a spectrum a network gets to see."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter

from survey.models.view import Seeing, View
from survey.settings import SettingsError
from tests.models.batches import spectra

WAVE = np.linspace(5000.0, 5300.0, 301)


def seen(**view: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    flux_BP, ivar_BP, _ = spectra(3, len(WAVE))
    return flux_BP, ivar_BP, *Seeing(View.checked("view", view), WAVE)(flux_BP, ivar_BP)


def test_only_pixels_within_the_windows_are_seen():
    flux_BP, ivar_BP, found_BP, weight_BP = seen(windows=[[5100, 5110], [5160, 5190.5]])
    inside_P = torch.from_numpy(((WAVE >= 5100) & (WAVE <= 5110)) | ((WAVE >= 5160) & (WAVE <= 5190)))
    assert torch.equal(weight_BP, torch.where(inside_P, ivar_BP, 0.0))
    assert torch.equal(found_BP, torch.where(weight_BP > 0, flux_BP, 1.0))


def test_flux_is_clipped_where_it_is_good():
    flux_BP, ivar_BP, found_BP, weight_BP = seen(clip=[0.5, 1.5])
    assert torch.equal(found_BP, torch.where(ivar_BP > 0, flux_BP.clamp(0.5, 1.5), 1.0))
    assert torch.equal(weight_BP, ivar_BP)


def test_smoothing_is_that_of_savitzky_and_golay_and_lowers_the_noise():
    flux_BP, ivar_BP, found_BP, _ = seen(smooth=7)
    wanted_BP = savgol_filter(flux_BP.double().numpy(), 7, 2, mode="constant", cval=1.0)
    good_BP = (ivar_BP > 0).numpy()
    np.testing.assert_allclose(found_BP.numpy()[good_BP], wanted_BP[good_BP], atol=1e-5)
    assert (found_BP.numpy()[~good_BP] == 1).all()
    noise_BP = torch.randn(2000, len(WAVE))
    calm_BP, surer_BP = Seeing(View(smooth=7), WAVE)(1 + noise_BP, torch.ones_like(noise_BP))
    assert float(calm_BP[:, 50:-50].var() * surer_BP[0, 100]) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ({"windows": [[5200, 5100]]}, "5200 to 5100 is no window"),
        ({"windows": [[5100]]}, r"windows\.0"),
        ({"windows": [["Mg", 5100]]}, "valid number"),
        ({"clip": [2, 3]}, "the continuum, 1, lies between"),
        ({"smooth": 4}, "an odd number from 5"),
        ({"smooth": 3}, "an odd number from 5"),
    ],
)
def test_a_view_that_shows_nothing_is_refused(view: dict[str, Any], said: str):
    with pytest.raises(SettingsError, match=said):
        View.checked("train: view", view)


def test_a_window_beside_the_grid_is_refused_with_the_grids_ends():
    with pytest.raises(ValueError, match="8490 to 8670: no pixel of the grid, which goes from 5000 to 5300"):
        Seeing(View(windows=((8490.0, 8670.0),)), WAVE)
