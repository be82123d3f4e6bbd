import numpy as np
import pytest
import torch

from survey.models.network import Task
from survey.training.batches import Spectra
from survey.training.initialise import rescaled
from survey.training.run import build
from tests.models.batches import TRAINED
from tests.training import lessons

LABELS = ("FeH", "CFe")


def toy(count: int = 96) -> tuple[Spectra, torch.Tensor]:
    """Toy spectra, and their scaled labels."""
    labels = lessons.stars(count, 3)
    flux, ivar = lessons.spectra(labels, 4)
    label_BL = torch.tensor(np.stack([labels[name] for name in LABELS], 1)).float()
    return Spectra(torch.tensor(flux), torch.tensor(ivar), torch.ones(flux.shape)), (
        label_BL - label_BL.mean(0)
    ) / label_BL.std(0)


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_begins_without_an_opinion_and_tells_stars_apart(name: str):
    spectra, _ = toy()
    torch.manual_seed(0)
    net = build(name, {}, Task("cls_reg", LABELS), spectra.flux.shape[1])
    rescaled(net, spectra)
    net.eval()
    with torch.no_grad():
        answers = net(spectra.flux, spectra.ivar, spectra.continuum)
    for key in ("logits", "mu"):
        assert answers[key].abs().mean() < 1
        assert answers[key].std(0).mean() > 0.001


@pytest.mark.parametrize("name", TRAINED)
def test_no_network_sits_on_a_plateau(name: str):
    """60 steps at its own rate take every network well below what a constant answer costs, 1 for scaled labels."""
    spectra, label_BL = toy(96)
    torch.manual_seed(0)
    net = build(name, {}, Task("reg", LABELS), spectra.flux.shape[1])
    rescaled(net, spectra)
    optimiser = torch.optim.AdamW(net.parameters(), net.rate, fused=True)
    dice, losses = torch.Generator().manual_seed(1), []
    for _ in range(60):
        rows = torch.randperm(96, generator=dice)[:24]
        some = spectra[rows]
        loss = (net(some.flux, some.ivar, some.continuum)["mu"] - label_BL[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-12:]) / 12 < 0.85


def test_mpbdnet_as_its_authors_start_it_does_sit_there():
    """What the rescaled start is for: without it the network tells hardly anything apart."""
    spectra, _ = toy()
    torch.manual_seed(0)
    net = build("mpbdnet", {}, Task("reg", LABELS), spectra.flux.shape[1]).eval()
    with torch.no_grad():
        plain = net(spectra.flux, spectra.ivar)["mu"].std(0).mean()
        rescaled(net, spectra)
        assert net.eval()(spectra.flux, spectra.ivar)["mu"].std(0).mean() > 50 * plain
