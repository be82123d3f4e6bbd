"""RRNet: the sizes of both originals, all modes at any length, and steps in the order of wavelength."""

import pytest
import torch

from survey.models.rrnet import Net, Options
from survey.models.settings import Task, TaskKind
from tests.models.batches import count_parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")
FIRST = Options(channels=(4, 8, 16), pool=2, embedding=None, steps=40)
VARIANTS = {
    "raw": Options(mode="raw"),
    "pre-RNN": Options(mode="pre-RNN"),
    "post-RNN": Options(),
    "first": FIRST,
    "first, pre-RNN": FIRST.model_copy(update={"mode": "pre-RNN"}),
    "in pieces": Options(embedding=None, steps=7),
}


@pytest.mark.parametrize(("kind", "size"), [("cls", 488_869), ("reg", 489_127), ("cls_reg", 522_410)])
def test_it_is_as_large_as_the_version_of_the_cemp_search(kind: TaskKind, size: int) -> None:
    assert count_parameters(Net(4900, Task(kind, LABELS), Options())) == size


def test_the_first_rrnet_is_as_large_as_the_original() -> None:
    task = Task("reg", ("Teff", "logg", "FeH"), sigma=True)
    assert count_parameters(Net(7200, task, FIRST)) == 3_981_994


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pixels", [256, 601, 4900])
def test_all_modes_train_at_any_length(variant: str, pixels: int) -> None:
    net = Net(pixels, Task("cls_reg", LABELS), VARIANTS[variant])
    outputs = net(*spectra(2, pixels)[:2])
    (outputs["logits"].sum() + outputs["mu"].sum()).backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("variant", ["post-RNN", "first", "in pieces"])
def test_the_early_steps_see_nothing_of_the_red_end(variant: str) -> None:
    """The recurrent layer reads from blue to red; with channels and places mixed, each step would see all."""
    net = Net(4900, Task("cls"), VARIANTS[variant]).eval()
    outputs: list[torch.Tensor] = []
    assert net.after is not None
    net.after.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    flux_BP, ivar_BP, _ = spectra(2, 4900)
    net(flux_BP, ivar_BP)
    flux_BP[:, 3700:] = 0.3
    net(flux_BP, ivar_BP)
    before, after = (output.unflatten(1, (net.after.steps, -1)) for output in outputs)
    early = net.after.steps * 7 // 10
    assert torch.equal(before[:, :early], after[:, :early])
    assert not torch.equal(before[:, -1], after[:, -1])


@torch.no_grad()
def test_before_the_trunk_the_pieces_are_read_from_blue_to_red() -> None:
    net = Net(601, Task("cls"), Options(mode="pre-RNN", steps=5)).eval()
    assert net.padding.length == 640
    assert net.before is not None
    flux_BP, _, _ = spectra(2, 601)
    other_BP = flux_BP.clone()
    other_BP[:, 400:] = 0.3
    first, second = (net.before(net.padding(flux).flatten(1)) for flux in (flux_BP, other_BP))
    assert torch.equal(first[:, :384], second[:, :384])
    assert not torch.equal(first[:, 384:], second[:, 384:])


def test_spectra_shorter_than_the_pooling_are_refused_with_the_least_length() -> None:
    with pytest.raises(ValueError, match="spectra have 72 pixels, this network needs at least 81"):
        Net(72, Task("cls"), Options())
