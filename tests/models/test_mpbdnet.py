"""MPBDNet: the size of the original, the differences from it, and what its settings change."""

import pytest
import torch
from torch import nn

from survey.models.layers import DenseHeads
from survey.models.mpbdnet import Net, Options
from survey.models.settings import Task, TaskKind
from survey.settings import SettingsError
from tests.models.batches import count_parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")


@pytest.mark.parametrize(("kind", "size"), [("cls", 2_201_669), ("reg", 2_201_927), ("cls_reg", 2_235_210)])
def test_it_is_as_large_as_the_original(kind: TaskKind, size: int) -> None:
    assert count_parameters(Net(4900, Task(kind, LABELS), Options())) == size


def test_the_trunk_is_as_large_as_the_original() -> None:
    assert count_parameters(Net(4900, Task("cls"), Options()).trunk) == 1_719_280


@torch.no_grad()
def test_missing_pixels_at_the_end_are_continuum() -> None:
    short, longer = Net(601, Task("cls"), Options()).eval(), Net(608, Task("cls"), Options()).eval()
    longer.load_state_dict(short.state_dict())
    flux_BP, ivar_BP, _ = spectra(3, 601)
    ones = torch.ones(3, 7)
    expected = longer(torch.cat((flux_BP, ones), 1), torch.cat((ivar_BP, ones), 1))
    torch.testing.assert_close(short(flux_BP, ivar_BP), expected, rtol=0, atol=0)


@torch.no_grad()
def test_the_two_directions_are_independent_and_averaged() -> None:
    """Against two plain LSTMs, of which one reads the sequence backwards."""
    torch.manual_seed(0)
    net = Net(601, Task("cls"), Options(norm="layer")).eval()
    flux_BP, ivar_BP, _ = spectra(3, 601)
    steps_BTD = net.embed(net.trunk(net.padding(flux_BP))).transpose(1, 2)
    directions = []
    for suffix in ("", "_reverse"):
        plain = nn.LSTM(50, 50, batch_first=True)
        plain.load_state_dict({name: getattr(net.lstm, name + suffix) for name in plain.state_dict()})
        directions.append(plain(steps_BTD.flip(1) if suffix else steps_BTD)[0])
    mean_BTD = (directions[0] + directions[1].flip(1)) / 2
    torch.testing.assert_close(net(flux_BP, ivar_BP)["logits"], net.heads(mean_BTD.flatten(1))["logits"])


@torch.no_grad()
def test_constrained_changes_the_labels_and_not_the_classes() -> None:
    task = Task("cls_reg", LABELS)
    free, bound = Net(601, task, Options()).eval(), Net(601, task, Options(constrained=True)).eval()
    bound.load_state_dict(free.state_dict())
    flux_BP, ivar_BP, _ = spectra(3, 601)
    before, after = free(flux_BP, ivar_BP), bound(flux_BP, ivar_BP)
    assert torch.equal(before["logits"], after["logits"])
    assert not torch.equal(before["mu"], after["mu"])
    cls_BD, reg_BD = before["latent"].split(128, 1)
    assert isinstance(bound.heads, DenseHeads)
    torch.testing.assert_close(after["mu"], bound.heads.last.mu(cls_BD + reg_BD))


def test_constrained_lets_the_labels_train_the_classifier_too() -> None:
    for constrained in (False, True):
        net = Net(601, Task("cls_reg", LABELS), Options(constrained=constrained))
        flux_BP, ivar_BP, _ = spectra(3, 601)
        net(flux_BP, ivar_BP)["mu"].sum().backward()
        assert (net.get_parameter("heads.by_task.cls.0.weight").grad is not None) == constrained


@pytest.mark.parametrize("kind", ["cls", "reg"])
def test_constrained_needs_both_tasks(kind: TaskKind) -> None:
    message = (
        rf"model: constrained=true needs classes and labels, the task is {kind}; set constrained=false, or"
    )
    with pytest.raises(ValueError, match=message):
        Net(601, Task(kind, LABELS), Options(constrained=True))


def test_the_variant_of_the_time_series_library_is_a_choice_of_settings() -> None:
    values = {"channels": [16, 32, 64], "norm": "batch", "embedding": 128, "hidden": 128}
    options = Options.from_dict("model", values | {"shared": 256, "own": 128})
    net = Net(4800, Task("reg", ("Teff", "logg", "FeH", "CFe")), options)
    assert net(*spectra(2, 4800)[:2])["mu"].shape == (2, 4)
    assert net.lstm.hidden_size == 128
    assert sum(isinstance(module, nn.BatchNorm1d) for module in net.modules()) == 3 * 3 * 4


def test_with_a_multiple_of_all_pooling_no_pixel_is_left_out() -> None:
    for multiple, all_used in ((8, False), (81, True)):
        net = Net(4900, Task("cls"), Options(multiple=multiple, blocks=1, short=(1,), long=(1,))).eval()
        flux_BP = torch.ones(1, 4900, requires_grad=True)
        net(flux_BP, torch.ones(1, 4900))["logits"].sum().backward()
        assert flux_BP.grad is not None
        assert (flux_BP.grad[0, 4860:] != 0).all() == all_used
        assert (flux_BP.grad[0, :4860] != 0).all()


def test_spectra_shorter_than_the_pooling_are_refused_with_the_least_length() -> None:
    assert Net(81, Task("cls"), Options())(*spectra(2, 81)[:2])["logits"].shape == (2, 3)
    with pytest.raises(ValueError, match="spectra have 80 pixels, this network needs at least 81"):
        Net(80, Task("cls"), Options())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": []}, r"channels: \[\]: Tuple should have at least 1 item"),
        ({"channels": [20, 0]}, r"channels\.1: 0: should be greater than or equal to 1"),
        ({"short": [4]}, r"short\.0: 4: is even; the width of a convolution is odd"),
        ({"norm": "group"}, "norm: 'group': should be 'none', 'batch' or 'layer'"),
        ({"dropout": 1.0}, "dropout: 1.0: should be less than 1"),
    ],
)
def test_options_that_make_no_network_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Options.from_dict("model", values)
