"""Batches of artificial spectra for the tests of the models, and the tolerance between two outputs."""

import torch
from torch import Tensor, nn

from survey import plugins
from survey.models.baseline import Baseline, FitSettings, TrainingSet
from survey.models.network import Network
from survey.models.options import is_baseline

TRAINED = [name for name in plugins.names("models") if not is_baseline(name)]
"""Networks that are trained by gradients; the others are fitted."""

OF_IMAGES = [name for name in TRAINED if "image" in plugins.load("models", name).Net.extra_inputs]
"""Networks that need images."""

OF_SPECTRA = [name for name in TRAINED if name not in OF_IMAGES]

Batch = tuple[Tensor, Tensor, Tensor]
"""Flux, ivar and continuum, (B, P) each."""


def spectra(rows: int, pixels: int, seed: int = 0) -> Batch:
    """Spectra that differ more than stars do, so that rounding is small; a tenth of the pixels is bad."""
    generator = torch.Generator().manual_seed(seed)
    ivar_BP = torch.rand((rows, pixels), generator=generator) * 1e4
    ivar_BP[torch.rand((rows, pixels), generator=generator) < 0.1] = 0
    noise_BP = torch.randn((rows, pixels), generator=generator)
    flux_BP = 1 + 0.5 * noise_BP * torch.linspace(0.2, 1, rows)[:, None]
    slope_B1 = torch.rand((rows, 1), generator=generator) - 0.5
    continuum_BP = 1 + slope_B1 * torch.linspace(-1, 1, pixels)
    return torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP, continuum_BP


def images(rows: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Images of bytes: a blob of a brightness, a width and a place of its own, with noise."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.linspace(-1, 1, shape[1])
    x_B1, y_B1, width_B1, colour_BC = (
        torch.rand((rows, size), generator=generator) for size in (1, 1, 1, shape[0])
    )
    profile_BHW = torch.exp(
        -((place - x_B1 + 0.5)[:, None] ** 2 + (place - y_B1 + 0.5)[:, :, None] ** 2)
        / (0.02 + 0.3 * width_B1[:, :, None])
    )
    light = colour_BC[:, :, None, None] * profile_BHW[:, None]
    return (200 * light + 40 * torch.rand((rows, *shape), generator=generator) + 5).to(torch.uint8)


def training_set(net: Baseline, rows: int, seed: int = 0) -> TrainingSet:
    """Artificial spectra as the model's features; classes and labels depend on a few of the pixels."""
    flux_NP, ivar_NP, _ = spectra(rows, net.pixels, 100 + seed)
    flux_NP, ivar_NP = net.prepare(flux_NP, ivar_NP)
    count = len(net.task.labels)
    label_NL = 4 * (flux_NP[:, 40 : 40 + 8 * count].reshape(rows, -1, 8).mean(2) - 1)
    class_N = (flux_NP[:, 16:24].mean(1) * 8 - 7).clamp(0, 2).long()
    features = net.features(flux_NP, ivar_NP)
    return TrainingSet(features, class_N, torch.ones(rows), label_NL, torch.ones_like(label_NL))


@torch.no_grad()
def fit_if_baseline(net: Network, seed: int = 0, rows: int = 96) -> Network:
    """A network as it is; a baseline fitted to artificial spectra up to its first report."""
    if isinstance(net, Baseline):
        flux_NP, ivar_NP, _ = spectra(rows, net.pixels, 100 + seed)
        net.fit_statistics(*net.prepare(flux_NP, ivar_NP))
        train, validation = training_set(net, rows, seed), training_set(net, rows // 2, seed + 1)
        next(net.fit(train, validation, FitSettings(seed)))
        net.log_var_L += 0.1 * seed
    return net


def count_parameters(net: nn.Module) -> int:
    """The number of parameters that are trained."""
    return sum(parameter.numel() for parameter in net.parameters())


def assert_same_outputs(
    outputs: dict[str, Tensor], expected: dict[str, Tensor], constant: frozenset[str] = frozenset()
) -> None:
    """Each output differs from the expected one by much less than the outputs of different spectra.

    Outputs of an untrained network differ by 3e-5 between spectra; rounding is 3e-7.
    """
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        if name in constant:
            torch.testing.assert_close(outputs[name], value)
            continue
        spread = (value - value.mean(0)).abs().max()
        assert spread > 4e-6, f"{name} is the same for all spectra, so the test could see no difference"
        assert (outputs[name] - value).abs().max() < 0.01 * spread + 1e-6, name
