"""Batches of made-up spectra for the tests of the models, and how close two answers have to be."""

import torch
from torch import Tensor, nn

from survey import plugins
from survey.models.baseline import Aim, Fitted, Known
from survey.models.network import Network

TRAINED = [
    name for name in plugins.names("models") if not issubclass(plugins.load("models", name).Net, Fitted)
]
"""Networks that are trained by gradients; the others are fitted."""

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


def known(net: Fitted, rows: int, seed: int = 0) -> Known:
    """Made-up spectra as the model's features; classes and labels hang on a few of the pixels."""
    flux_NP, ivar_NP, _ = spectra(rows, net.pixels, 100 + seed)
    flux_NP, ivar_NP = net.seen(flux_NP, ivar_NP)
    count = len(net.task.labels)
    label_NL = 4 * (flux_NP[:, 40 : 40 + 8 * count].reshape(rows, -1, 8).mean(2) - 1)
    return Known(
        net.features(flux_NP, ivar_NP),
        (flux_NP[:, 16:24].mean(1) * 8 - 7).clamp(0, 2).long(),
        torch.ones(rows),
        label_NL,
        torch.ones_like(label_NL),
    )


@torch.no_grad()
def ready(net: Network, seed: int = 0, rows: int = 96) -> Network:
    """A network as it is; a model that is fitted, fitted to made-up spectra as far as its first report."""
    if isinstance(net, Fitted):
        flux_NP, ivar_NP, _ = spectra(rows, net.pixels, 100 + seed)
        net.behold(*net.seen(flux_NP, ivar_NP))
        next(net.fit(known(net, rows, seed), known(net, rows // 2, seed + 1), Aim(seed)))
        net.log_var_L += 0.1 * seed
    return net


def parameters(net: nn.Module) -> int:
    """How many numbers a net has to learn."""
    return sum(parameter.numel() for parameter in net.parameters())


def assert_alike(
    found: dict[str, Tensor], wanted: dict[str, Tensor], constant: frozenset[str] = frozenset()
) -> None:
    """Each answer differs from the wanted one by far less than what tells spectra apart; a fresh net does so by 3e-5 only, rounding by 3e-7."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name in constant:
            torch.testing.assert_close(found[name], value)
            continue
        spread = (value - value.mean(0)).abs().max()
        assert spread > 4e-6, f"{name} is the same for all spectra: nothing could be seen"
        assert (found[name] - value).abs().max() < 0.01 * spread + 1e-6, name
