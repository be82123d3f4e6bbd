"""BGANet: the size of the original, its attention against torch's, and the one softmax of the joint task."""

import pytest
import torch
from torch import nn

from survey.models.bganet import BandAttention, Net, Options
from survey.models.settings import Task, TaskKind
from tests.models.batches import count_parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")


@pytest.mark.parametrize(("kind", "size"), [("cls", 387_267), ("reg", 387_722), ("cls_reg", 387_935)])
def test_it_is_as_large_as_the_original(kind: TaskKind, size: int) -> None:
    assert count_parameters(Net(4900, Task(kind, LABELS, sigma=True), Options())) == size


@torch.no_grad()
def test_the_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = BandAttention(8).eval(), nn.MultiheadAttention(8, 1, batch_first=True).eval()
    theirs.in_proj_weight.copy_(ours.query_key_value.weight)
    theirs.in_proj_bias.copy_(ours.query_key_value.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x_BTD = torch.randn(3, 6, 8)
    for output, expected in zip(ours(x_BTD), theirs(x_BTD, x_BTD, x_BTD), strict=True):
        torch.testing.assert_close(output, expected)


@torch.no_grad()
def test_the_attention_of_each_band_sums_to_one() -> None:
    attention_BTT = Net(601, Task("cls"), Options(bands=7)).eval()(*spectra(3, 601)[:2])["attention"]
    assert attention_BTT.shape == (3, 7, 7)
    torch.testing.assert_close(attention_BTT.sum(2), torch.ones(3, 7))


@torch.no_grad()
def test_the_joint_class_averages_the_log_probabilities_of_classifier_and_labels() -> None:
    torch.manual_seed(0)
    net = Net(601, Task("cls_reg", LABELS), Options()).eval()
    outputs = net(*spectra(3, 601)[:2])
    from_features = net.get_submodule("heads.last.cls")(outputs["latent"])
    from_labels = net.get_submodule("heads.cls_from_labels")(outputs["mu"])
    mean_BC = (from_features.log_softmax(1) + from_labels.log_softmax(1)) / 2
    torch.testing.assert_close(outputs["logits"].softmax(1), mean_BC.softmax(1))


def test_the_outputs_are_logits_not_probabilities() -> None:
    logits_BC = Net(601, Task("cls"), Options()).eval()(*spectra(5, 601)[:2])["logits"]
    assert (logits_BC < 0).any()
    assert not torch.isclose(logits_BC.sum(1), torch.ones(5)).any()


@torch.no_grad()
def test_a_band_is_a_range_of_wavelengths_and_the_last_one_is_padded_with_continuum() -> None:
    net = Net(601, Task("cls"), Options(bands=6)).eval()
    assert net.first.input_size == 101
    flux_BP, ivar_BP, _ = spectra(2, 601)
    longer = Net(606, Task("cls"), Options(bands=6)).eval()
    longer.load_state_dict(net.state_dict())
    ones = torch.ones(2, 5)
    expected = longer(torch.cat((flux_BP, ones), 1), torch.cat((ivar_BP, ones), 1))
    torch.testing.assert_close(net(flux_BP, ivar_BP), expected, rtol=0, atol=0)
    first_BTD = net.first(flux_BP[:, None, :101])[0][:, 0, :64]
    bands_BTP = net.padding(flux_BP).reshape(2, 6, 101)
    torch.testing.assert_close(net.first(bands_BTP)[0][:, 0, :64], first_BTD)
