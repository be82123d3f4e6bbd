"""Rescaled layers: networks start near the mean, tell stars apart, and learn at once."""

import numpy as np
import pytest
import torch

from survey.models.settings import Task
from survey.training.batches import Spectra
from survey.training.initialise import rescale_layers
from survey.training.run import build
from tests.models.batches import OF_SPECTRA, images
from tests.training import lessons

SLOW = (
    *("bganet", "cnngru", "dualbranch", "echelle", "freqinception", "mpbdnet", "rescnn", "resnet"),
    *("rrnet", "specvae"),
)
"""Networks that take seconds."""

LABELS = ("FeH", "CFe")


def toy_batch(count: int = 32) -> tuple[Spectra, torch.Tensor]:
    """Toy spectra, and their scaled labels."""
    labels = lessons.stars(count, 3)
    flux, ivar = lessons.spectra(labels, 4)
    label_BL = torch.tensor(np.stack([labels[name] for name in LABELS], 1)).float()
    spectra = Spectra(torch.tensor(flux), torch.tensor(ivar), torch.ones(flux.shape))
    return spectra, (label_BL - label_BL.mean(0)) / label_BL.std(0)


@pytest.mark.parametrize("name", OF_SPECTRA)
def test_every_network_starts_near_the_mean_and_tells_stars_apart(name: str) -> None:
    spectra, _ = toy_batch()
    torch.manual_seed(0)
    net = build(name, {}, Task("cls_reg", LABELS), spectra.flux.shape[1])
    rescale_layers(net, spectra)
    net.eval()
    with torch.no_grad():
        outputs = net(spectra.flux, spectra.ivar, spectra.continuum)
    for output in ("logits", "mu"):
        assert outputs[output].abs().mean() < 1
        assert outputs[output].std(0).mean() > 0.001


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in OF_SPECTRA]
)
def test_no_network_stays_on_a_plateau(name: str) -> None:
    """60 steps at its own rate bring every network well below the loss of a constant output, which is 1."""
    spectra, label_BL = toy_batch(96)
    torch.manual_seed(0)
    net = build(name, {}, Task("reg", LABELS), spectra.flux.shape[1])
    rescale_layers(net, spectra)
    optimiser = torch.optim.AdamW(net.parameters(), net.learning_rate, fused=True)
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(60):
        rows = torch.randperm(96, generator=generator)[:24]
        batch = spectra[rows]
        mu_BL = net(batch.flux, batch.ivar, batch.continuum)["mu"]
        loss = (mu_BL - label_BL[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-12:]) / 12 < 0.85


@pytest.mark.parametrize("with_image", [0, 1])
def test_layers_that_no_spectrum_reaches_stay_as_they_are(with_image: int) -> None:
    """The layers that match a spectrum and an image, where hardly an object has both."""
    some, image = toy_batch(8)[0], images(8, (3, 16, 16))
    image[with_image:] = 0
    options = {"channels": [8], "width": 8, "layers": 1, "heads": 2, "spectrum_tokens": 2}
    torch.manual_seed(0)
    net = build("fusion", options, Task("cls"), some.flux.shape[1], (3, 16, 16))
    before = {name: value.clone() for name, value in net.state_dict().items() if "matching" in name}
    rescale_layers(net, Spectra(some.flux, some.ivar, None, image))
    assert all(torch.isfinite(value).all() for value in net.parameters())
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_mpbdnet_with_the_weights_of_torch_hardly_tells_stars_apart() -> None:
    """This is the reason for rescaled layers."""
    spectra, _ = toy_batch()
    torch.manual_seed(0)
    net = build("mpbdnet", {}, Task("reg", LABELS), spectra.flux.shape[1]).eval()
    with torch.no_grad():
        before = net(spectra.flux, spectra.ivar)["mu"].std(0).mean()
        rescale_layers(net, spectra)
        assert net.eval()(spectra.flux, spectra.ivar)["mu"].std(0).mean() > 50 * before
