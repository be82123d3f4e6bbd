"""RRNet: the sizes of both originals, all modes at any length, and steps that follow the wavelength."""

import pytest
import torch

from survey.models.network import Task
from survey.models.rrnet import Net, Options
from tests.models.batches import parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")
FIRST = Options(channels=(4, 8, 16), pool=2, embedding=None, steps=40)
WAYS = {
    "raw": Options(mode="raw"),
    "pre-RNN": Options(mode="pre-RNN"),
    "post-RNN": Options(),
    "first": FIRST,
    "first, pre-RNN": FIRST.model_copy(update={"mode": "pre-RNN"}),
    "pieces of the fork": Options(embedding=None, steps=7),
}


@pytest.mark.parametrize(("kind", "size"), [("cls", 488_869), ("reg", 489_127), ("cls_reg", 522_410)])
def test_it_is_as_large_as_the_fork(kind: str, size: int) -> None:
    assert parameters(Net(4900, Task(kind, LABELS), Options())) == size  # type: ignore[arg-type]


def test_the_first_rrnet_is_as_large_as_it_was() -> None:
    assert parameters(Net(7200, Task("reg", ("Teff", "logg", "FeH"), sigma=True), FIRST)) == 3_981_994


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pixels", [256, 601, 4900])
def test_all_modes_train_at_any_length(way: str, pixels: int) -> None:
    net = Net(pixels, Task("cls_reg", LABELS), WAYS[way])
    answers = net(*spectra(2, pixels)[:2])
    (answers["logits"].sum() + answers["mu"].sum()).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters()
    )


@torch.no_grad()
@pytest.mark.parametrize("way", ["post-RNN", "first", "pieces of the fork"])
def test_the_early_steps_see_nothing_of_the_red_end(way: str) -> None:
    """The recurrent layer reads from blue to red; with channels and places mixed up, every step would see all wavelengths."""
    net = Net(4900, Task("cls"), WAYS[way]).eval()
    seen: list[torch.Tensor] = []
    assert net.after is not None
    net.after.register_forward_hook(lambda module, given, told: seen.append(told))
    flux_BP, ivar_BP, _ = spectra(2, 4900)
    net(flux_BP, ivar_BP)
    flux_BP[:, 3700:] = 0.3
    net(flux_BP, ivar_BP)
    before, after = (told.unflatten(1, (net.after.steps, -1)) for told in seen)
    early = net.after.steps * 7 // 10
    assert torch.equal(before[:, :early], after[:, :early])
    assert not torch.equal(before[:, -1], after[:, -1])


@torch.no_grad()
def test_before_the_trunk_the_pieces_are_read_from_blue_to_red() -> None:
    net = Net(601, Task("cls"), Options(mode="pre-RNN", steps=5)).eval()
    assert net.start.length == 640
    assert net.before is not None
    flux_BP, _, _ = spectra(2, 601)
    other_BP = flux_BP.clone()
    other_BP[:, 400:] = 0.3
    first, second = (net.before(net.start(flux).flatten(1)) for flux in (flux_BP, other_BP))
    assert torch.equal(first[:, :384], second[:, :384])
    assert not torch.equal(first[:, 384:], second[:, 384:])


def test_spectra_shorter_than_the_pooling_are_refused_with_the_least_that_works() -> None:
    with pytest.raises(ValueError, match="spectra of 72 pixels are too short, 81 is the least that works"):
        Net(72, Task("cls"), Options())
