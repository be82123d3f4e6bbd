"""BGANet: the original's size, its attention against torch's, and the one softmax of the joint task."""

import pytest
import torch
from torch import nn

from survey.models.bganet import Attention, Net, Options
from survey.models.network import Task
from tests.models.batches import parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")


@pytest.mark.parametrize(("kind", "size"), [("cls", 387_267), ("reg", 387_722), ("cls_reg", 387_935)])
def test_it_is_as_large_as_the_original(kind: str, size: int) -> None:
    assert parameters(Net(4900, Task(kind, LABELS, sigma=True), Options())) == size  # type: ignore[arg-type]


@torch.no_grad()
def test_the_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, known = Attention(8).eval(), nn.MultiheadAttention(8, 1, batch_first=True).eval()
    known.in_proj_weight.copy_(ours.asked.weight)
    known.in_proj_bias.copy_(ours.asked.bias)
    known.out_proj.load_state_dict(ours.told.state_dict())
    x_BTD = torch.randn(3, 6, 8)
    for found, wanted in zip(ours(x_BTD), known(x_BTD, x_BTD, x_BTD), strict=True):
        torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_each_band_shares_out_its_attention_among_all_bands() -> None:
    attention_BTT = Net(601, Task("cls"), Options(bands=7)).eval()(*spectra(3, 601)[:2])["attention"]
    assert attention_BTT.shape == (3, 7, 7)
    torch.testing.assert_close(attention_BTT.sum(2), torch.ones(3, 7))


@torch.no_grad()
def test_the_joint_class_averages_the_log_probabilities_of_both_ways() -> None:
    torch.manual_seed(0)
    net = Net(601, Task("cls_reg", LABELS), Options()).eval()
    answers = net(*spectra(3, 601)[:2])
    ways = [
        net.get_submodule("heads.last.cls")(answers["latent"]),
        net.get_submodule("heads.of_labels")(answers["mu"]),
    ]
    mean_BC = torch.stack([way.log_softmax(1) for way in ways]).mean(0)
    torch.testing.assert_close(answers["logits"].softmax(1), mean_BC.softmax(1))


def test_the_answers_are_logits_not_probabilities() -> None:
    logits_BC = Net(601, Task("cls"), Options()).eval()(*spectra(5, 601)[:2])["logits"]
    assert (logits_BC < 0).any()
    assert not torch.isclose(logits_BC.sum(1), torch.ones(5)).any()


@torch.no_grad()
def test_a_band_is_a_stretch_of_wavelengths_and_the_last_is_filled_with_continuum() -> None:
    net = Net(601, Task("cls"), Options(bands=6)).eval()
    assert net.first.input_size == 101
    flux_BP, ivar_BP, _ = spectra(2, 601)
    whole = Net(606, Task("cls"), Options(bands=6)).eval()
    whole.load_state_dict(net.state_dict())
    ones = torch.ones(2, 5)
    wanted = whole(torch.cat((flux_BP, ones), 1), torch.cat((ivar_BP, ones), 1))
    torch.testing.assert_close(net(flux_BP, ivar_BP), wanted, rtol=0, atol=0)
    first_BTD = net.first(flux_BP[:, None, :101])[0][:, 0, :64]
    torch.testing.assert_close(net.first(net.start(flux_BP).reshape(2, 6, 101))[0][:, 0, :64], first_BTD)
