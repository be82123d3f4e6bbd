"""Batches of made-up spectra for the tests of the models, and how close two answers have to be."""

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]
"""Flux, ivar and continuum, (B, P) each."""


def spectra(rows: int, pixels: int, seed: int = 0) -> Batch:
    """Spectra that differ more than stars do, so that what depends on the spectrum stands out of rounding; a tenth of the pixels is bad."""
    draw = torch.Generator().manual_seed(seed)
    ivar_BP = torch.rand((rows, pixels), generator=draw) * 1e4
    ivar_BP[torch.rand((rows, pixels), generator=draw) < 0.1] = 0
    flux_BP = 1 + 0.5 * torch.randn((rows, pixels), generator=draw) * torch.linspace(0.2, 1, rows)[:, None]
    slope_B1 = torch.rand((rows, 1), generator=draw) - 0.5
    continuum_BP = 1 + slope_B1 * torch.linspace(-1, 1, pixels)
    return torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP, continuum_BP


def parameters(net: nn.Module) -> int:
    """How many numbers a net has to learn."""
    return sum(parameter.numel() for parameter in net.parameters())


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Each answer differs from the wanted one by far less than what tells spectra apart; a fresh net does so by 3e-5 only, rounding by 3e-7."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        spread = (value - value.mean(0)).abs().max()
        assert spread > 4e-6, f"{name} is the same for all spectra: nothing could be seen"
        assert (found[name] - value).abs().max() < 0.01 * spread + 1e-6, name
