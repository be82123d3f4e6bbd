"""Spectra as polynomials in labels."""

import numpy as np
import pytest
import torch

from survey.training.spectral_model import FACTORS, Likeness, terms

DICE = np.random.default_rng(3)
LABEL_NI = np.stack([DICE.uniform(4500, 6500, 400), DICE.uniform(-3, 0, 400)], 1)


def flux(label_NI: np.ndarray) -> np.ndarray:
    """Three pixels: constant, a parabola, a product."""
    warm, metal = (label_NI[:, 0] - 5500) / 1000, label_NI[:, 1] + 1.5
    return np.stack([np.ones_like(warm), 0.8 - 0.05 * warm + 0.02 * metal**2, 0.7 + 0.03 * warm * metal], 1)


def fitted(order: int = 2, portions: int = 1, bad: bool = False) -> Likeness:
    flux_NP = torch.from_numpy(flux(LABEL_NI)).float()
    ivar_NP = torch.full_like(flux_NP, 1e4)
    if bad:
        spoiled = torch.from_numpy(DICE.random(flux_NP.shape) < 0.2)
        flux_NP[spoiled], ivar_NP[spoiled] = torch.nan, 0.0
    return Likeness.fit(LABEL_NI, zip(flux_NP.chunk(portions), ivar_NP.chunk(portions), strict=True), order)


@pytest.mark.parametrize(("portions", "bad"), [(1, False), (7, False), (1, True)])
def test_it_finds_the_polynomials_that_spectra_follow(portions: int, bad: bool):
    there = np.array([[5000.0, -2.0], [6400.0, -0.1]])
    np.testing.assert_allclose(fitted(2, portions, bad)(torch.from_numpy(there)), flux(there), atol=3e-3)


def test_a_pixel_that_is_always_bad_is_left_as_it_is():
    flux_NP = torch.ones(400, 2)
    ivar_NP = torch.tensor([[1e4, 0.0]]).expand(400, 2)
    likeness = Likeness.fit(LABEL_NI, [(flux_NP, ivar_NP)], 2)
    before, after = torch.from_numpy(LABEL_NI[:5]), torch.from_numpy(LABEL_NI[5:10])
    np.testing.assert_allclose(likeness.factors(before, after), 1.0, atol=1e-3)


def test_factors_are_ratios_within_bounds():
    likeness = fitted()
    before, after = torch.tensor([[5500.0, -1.5]]).double(), torch.tensor([[6000.0, -0.5]]).double()
    expected = flux(after.numpy()) / flux(before.numpy())
    np.testing.assert_allclose(likeness.factors(before, after), expected, atol=5e-3)
    wild = Likeness(
        likeness.powers,
        *list(likeness.tensors().values())[:4],
        likeness.weight_KP * torch.tensor([1.0, 60.0, -60.0]),
    )
    factor = wild.factors(before, after)
    assert bool(torch.isfinite(factor).all())
    assert FACTORS[0] <= float(factor.min()) <= float(factor.max()) <= FACTORS[1]


def test_it_comes_back_from_its_tensors():
    likeness = fitted(3)
    again = Likeness.of(likeness.tensors(), 3)
    label_NI = torch.from_numpy(LABEL_NI[:4])
    assert torch.equal(again(label_NI), likeness(label_NI))


def test_terms_are_counted():
    assert terms(2, 2) == ((), (0,), (1,), (0, 0), (0, 1), (1, 1))
    assert [len(terms(labels, order)) for labels, order in ((4, 3), (5, 3), (1, 5))] == [35, 56, 6]
