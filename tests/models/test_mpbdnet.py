"""MPBDNet: the original's size, its mended parts, and what its settings reach."""

import pytest
import torch
from torch import nn

from survey.models.mpbdnet import Net, Options
from survey.models.network import Task
from survey.settings import SettingsError
from tests.models.batches import parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")


@pytest.mark.parametrize(("kind", "size"), [("cls", 2_201_669), ("reg", 2_201_927), ("cls_reg", 2_235_210)])
def test_it_is_as_large_as_the_original(kind: str, size: int) -> None:
    assert parameters(Net(4900, Task(kind, LABELS), Options())) == size  # type: ignore[arg-type]


def test_the_trunk_is_as_large_as_the_original() -> None:
    assert parameters(Net(4900, Task("cls"), Options()).trunk) == 1_719_280


@torch.no_grad()
def test_missing_pixels_at_the_end_are_continuum() -> None:
    short, whole = Net(601, Task("cls"), Options()).eval(), Net(608, Task("cls"), Options()).eval()
    whole.load_state_dict(short.state_dict())
    flux_BP, ivar_BP, _ = spectra(3, 601)
    ones = torch.ones(3, 7)
    wanted = whole(torch.cat((flux_BP, ones), 1), torch.cat((ivar_BP, ones), 1))
    torch.testing.assert_close(short(flux_BP, ivar_BP), wanted, rtol=0, atol=0)


@torch.no_grad()
def test_the_two_directions_are_independent_and_averaged() -> None:
    """Against two plain LSTMs, of which one reads the sequence backwards and is turned round again."""
    torch.manual_seed(0)
    net = Net(601, Task("cls"), Options(norm="layer")).eval()
    flux_BP, ivar_BP, _ = spectra(3, 601)
    steps_BTD = net.embed(net.trunk(net.start(flux_BP))).transpose(1, 2)
    directions = []
    for suffix in ("", "_reverse"):
        plain = nn.LSTM(50, 50, batch_first=True)
        plain.load_state_dict({name: getattr(net.lstm, name + suffix) for name in plain.state_dict()})
        directions.append(plain(steps_BTD.flip(1) if suffix else steps_BTD)[0])
    mean_BTD = (directions[0] + directions[1].flip(1)) / 2
    torch.testing.assert_close(net(flux_BP, ivar_BP)["logits"], net.heads(mean_BTD.flatten(1))["logits"])


@torch.no_grad()
def test_constrained_the_classifier_moves_the_labels_and_stays_as_it_is() -> None:
    task = Task("cls_reg", LABELS)
    free, bound = Net(601, task, Options()).eval(), Net(601, task, Options(constrained=True)).eval()
    bound.load_state_dict(free.state_dict())
    flux_BP, ivar_BP, _ = spectra(3, 601)
    loose, tied = free(flux_BP, ivar_BP), bound(flux_BP, ivar_BP)
    assert torch.equal(loose["logits"], tied["logits"])
    assert not torch.equal(loose["mu"], tied["mu"])
    cls_BD, reg_BD = loose["latent"].split(128, 1)
    torch.testing.assert_close(tied["mu"], bound.heads.last.mu(cls_BD + reg_BD))  # type: ignore[union-attr,operator]


def test_constrained_the_labels_train_the_classifier_too() -> None:
    for constrained in (False, True):
        net = Net(601, Task("cls_reg", LABELS), Options(constrained=constrained))
        flux_BP, ivar_BP, _ = spectra(3, 601)
        net(flux_BP, ivar_BP)["mu"].sum().backward()
        assert (net.get_parameter("heads.own.cls.0.weight").grad is not None) == constrained


@pytest.mark.parametrize("kind", ["cls", "reg"])
def test_constrained_needs_both_tasks(kind: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"model: constrained=true joins classes and labels, the task is {kind}; set constrained=false, or",
    ):
        Net(601, Task(kind, LABELS), Options(constrained=True))  # type: ignore[arg-type]


def test_the_variant_of_the_time_series_library_is_a_matter_of_settings() -> None:
    options = Options.checked(
        "model",
        {
            "channels": [16, 32, 64],
            "norm": "batch",
            "embedding": 128,
            "hidden": 128,
            "shared": 256,
            "own": 128,
        },
    )
    net = Net(4800, Task("reg", ("Teff", "logg", "FeH", "CFe")), options)
    assert net(*spectra(2, 4800)[:2])["mu"].shape == (2, 4)
    assert net.lstm.hidden_size == 128
    assert sum(isinstance(module, nn.BatchNorm1d) for module in net.modules()) == 3 * 3 * 4


def test_with_a_multiple_of_all_pooling_no_pixel_is_left_out() -> None:
    for multiple, seen in ((8, False), (81, True)):
        net = Net(4900, Task("cls"), Options(multiple=multiple, blocks=1, short=(1,), long=(1,))).eval()
        flux_BP = torch.ones(1, 4900, requires_grad=True)
        net(flux_BP, torch.ones(1, 4900))["logits"].sum().backward()
        assert flux_BP.grad is not None
        assert (flux_BP.grad[0, 4860:] != 0).all() == seen
        assert (flux_BP.grad[0, :4860] != 0).all()


def test_spectra_shorter_than_the_pooling_are_refused_with_the_least_that_works() -> None:
    assert Net(81, Task("cls"), Options())(*spectra(2, 81)[:2])["logits"].shape == (2, 3)
    with pytest.raises(ValueError, match="spectra of 80 pixels are too short, 81 is the least that works"):
        Net(80, Task("cls"), Options())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channels": []}, r"channels: \[\]: one or more numbers from 1 on are wanted"),
        ({"channels": [20, 0]}, "one or more numbers from 1 on are wanted"),
        ({"short": [4]}, "an even kernel has no middle pixel, an odd one is wanted"),
        ({"norm": "group"}, "norm: 'group': should be 'none', 'batch' or 'layer'"),
        ({"dropout": 1.0}, "dropout: 1.0: should be less than 1"),
    ],
)
def test_settings_that_make_no_net_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Options.checked("model", values)
