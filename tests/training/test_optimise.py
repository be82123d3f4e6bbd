"""Learning rates against torch's own schedulers, epoch by epoch, and optimisers that decay what they should."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from survey.settings import SettingsError
from survey.training.optimise import Optimiser, Plateau, Schedule, make, rate, set_rate

BASE = 3e-3


def plain(lr: float = BASE) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def theirs(scheduler: Any, epochs: int) -> list[float]:
    found = []
    for _ in range(epochs):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def ours(values: dict[str, Any], epochs: int) -> list[float]:
    schedule = Schedule.checked("schedule", {"min_lr": 0.0} | values)
    return [rate(schedule, BASE, epoch, epochs) for epoch in range(epochs)]


# Schedules


def test_rates_are_those_of_torch() -> None:
    pairs = [
        ({"name": "none"}, lr_scheduler.ConstantLR(plain(), 1.0)),
        ({"name": "step", "step_size": 7.0, "gamma": 0.6}, lr_scheduler.StepLR(plain(), 7, 0.6)),
        (
            {"name": "multi_step", "milestones": [3, 20, 41], "gamma": 0.3},
            lr_scheduler.MultiStepLR(plain(), [3, 20, 41], 0.3),
        ),
        ({"name": "cosine", "min_lr": 1e-5}, lr_scheduler.CosineAnnealingLR(plain(), 60, 1e-5)),
        (
            {"name": "cosine_restarts", "t0": 7.0, "min_lr": 1e-5},
            lr_scheduler.CosineAnnealingWarmRestarts(plain(), 7, 1, 1e-5),
        ),
        (
            {"name": "cosine_restarts", "t0": 4.0, "t_mult": 2.0},
            lr_scheduler.CosineAnnealingWarmRestarts(plain(), 4, 2),
        ),
        (
            {"name": "cosine_restarts", "t0": 3.0, "t_mult": 3.0},
            lr_scheduler.CosineAnnealingWarmRestarts(plain(), 3, 3),
        ),
    ]
    for values, scheduler in pairs:
        assert ours(values, 60) == pytest.approx(theirs(scheduler, 60), rel=1e-6, abs=1e-12), values


def test_fractions_of_epochs_are_those_of_torch() -> None:
    optimiser = plain()
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimiser, 4, 2)
    schedule = Schedule(name="cosine_restarts", t0=4.0, t_mult=2.0, min_lr=0.0)
    for step in range(1, 300):
        epoch = step / 10 + 0.03
        optimiser.step()
        scheduler.step(epoch)
        assert rate(schedule, BASE, epoch, 30) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)


def test_a_step_falls_on_its_epoch_although_fractions_do_not_add_up() -> None:
    epoch = sum([0.1] * 10) * 30
    assert 29.999 < epoch < 30
    assert rate(Schedule(), BASE, epoch, 200) == pytest.approx(0.75 * BASE)
    assert rate(Schedule(name="multi_step", milestones=(30.0,)), BASE, epoch, 200) == pytest.approx(
        0.75 * BASE
    )
    assert rate(Schedule(name="cosine_restarts", t0=30.0), BASE, epoch, 200) == pytest.approx(BASE)


@pytest.mark.parametrize("name", ["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"])
def test_a_warm_up_rises_from_a_tenth_and_puts_the_rest_off(name: str) -> None:
    values = {"name": name, "milestones": [4.0, 9.0], "step_size": 6.0}
    warm, cold = Schedule.checked("schedule", values | {"warm_up": 5}), Schedule.checked("schedule", values)
    assert [rate(warm, BASE, epoch, 40) / BASE for epoch in (0, 1, 2.5, 4)] == pytest.approx(
        [0.1, 0.28, 0.55, 0.82]
    )
    for epoch in (0, 3.3, 17, 35):
        assert rate(warm, BASE, 5 + epoch, 40) == pytest.approx(rate(cold, BASE, epoch, 35), rel=1e-9)


@examples(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"]),
    epoch=st.floats(0, 1000),
    epochs=st.integers(1, 400),
    base=st.floats(1e-9, 1),
    warm_up=st.floats(0, 500),
    t_mult=st.floats(1, 4),
    cut=st.floats(0, 1),
)
def test_a_rate_lies_between_its_ends(
    name: Any, epoch: float, epochs: int, base: float, warm_up: float, t_mult: float, cut: float
) -> None:
    schedule = Schedule(name=name, warm_up=warm_up, milestones=(5.0, 50.0), t_mult=t_mult, min_lr=1e-6)
    found = rate(schedule, base, epoch, epochs, cut)
    lowest = min(1e-6, base) if epoch >= warm_up else 0.1 * base
    assert lowest * (1 - 1e-9) <= found <= base * (1 + 1e-9)


def test_a_plateau_cuts_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(2)
    losses = (3 * 0.9 ** torch.arange(80).clamp(max=25) + 0.02 * torch.rand(80, generator=generator)).tolist()
    losses[40:43] = [math.nan, math.inf, math.nan]
    optimiser = plain()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.4, patience=3, threshold=1e-3, min_lr=1e-5)
    schedule, plateau = (
        Schedule(name="plateau", factor=0.4, patience=3, threshold=1e-3, min_lr=1e-5),
        Plateau(),
    )
    found = []
    for epoch, loss in enumerate(losses, 1):
        scheduler.step(loss)
        cut = plateau.saw(schedule, loss, epoch)
        found.append(rate(schedule, BASE, epoch, 80, cut))
        assert found[-1] == pytest.approx(optimiser.param_groups[0]["lr"])
    assert len(set(found)) > 4
    assert found[-1] == pytest.approx(1e-5)


def test_a_plateau_goes_on_from_its_state() -> None:
    schedule, whole, half = Schedule(name="plateau", patience=1), Plateau(), Plateau()
    losses = [3.0, 2.0, 2.0, 2.0, 1.0, 1.5, 1.5, 1.5, math.nan]
    expected = [whole.saw(schedule, loss, epoch) for epoch, loss in enumerate(losses, 1)]
    for epoch, loss in enumerate(losses[:3], 1):
        half.saw(schedule, loss, epoch)
    later = Plateau(**json.loads(json.dumps(half.state(), allow_nan=False)))
    assert [later.saw(schedule, loss, epoch) for epoch, loss in enumerate(losses[3:], 4)] == expected[3:]
    assert expected[-1] < 1


def test_a_plateau_does_not_judge_the_warm_up_nor_other_schedules() -> None:
    warm = Schedule(name="plateau", patience=0, warm_up=5.0)
    for schedule, cuts in ((warm, 2), (Schedule(name="step"), 0)):
        plateau = Plateau()
        for epoch in range(1, 9):
            plateau.saw(schedule, 1.0, epoch)
        assert plateau.cut == 0.5**cuts


# Optimisers


class Net(nn.Module):
    """Some of each: layers, a norm, a recurrence, a frozen layer and one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.lstm = nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.LSTM(3, 4)
        self.frozen, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.again = self.last
        self.frozen.requires_grad_(False)


def test_only_weights_decay_and_frozen_layers_are_left_out() -> None:
    net = Net()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decays = {
        names[id(one)]: group["weight_decay"]
        for group in make(Optimiser(weight_decay=0.3), net).param_groups
        for one in group["params"]
    }
    assert {name for name, decay in decays.items() if decay == 0.3} == {
        "conv.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "last.weight",
    }
    assert {name for name, decay in decays.items() if decay == 0} == {
        *("conv.bias", "norm.weight", "norm.bias", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "last.bias")
    }
    (group,) = make(Optimiser(decay_all=True), net).param_groups
    assert len(group["params"]) == 10
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("values", "kind", "rest"),
    [
        ({"name": "adamw", "betas": [0.8, 0.9]}, torch.optim.AdamW, {"betas": (0.8, 0.9)}),
        ({"name": "adam", "betas": [0.8, 0.9]}, torch.optim.Adam, {"betas": (0.8, 0.9)}),
        ({"name": "sgd", "momentum": 0.5}, torch.optim.SGD, {"momentum": 0.5}),
        ({"name": "rmsprop", "momentum": 0.5}, torch.optim.RMSprop, {"momentum": 0.5}),
    ],
    ids=["adamw", "adam", "sgd", "rmsprop"],
)
def test_steps_are_those_of_torch_one_number_at_a_time(
    values: dict[str, Any], kind: Any, rest: dict[str, Any]
) -> None:
    start, nets = (
        torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        [nn.Linear(5, 3), nn.Linear(5, 3)],
    )
    for net in nets:
        net.weight.data, net.bias.data = start.clone(), start[:, 0].clone()
    optimiser = make(
        Optimiser.checked("optimiser", values | {"weight_decay": 0.1, "decay_all": True}), nets[0], lr=0.02
    )
    obvious = kind(nets[1].parameters(), lr=0.02, weight_decay=0.1, foreach=False, **rest)
    for step in range(5):
        for net in nets:
            net.weight.grad, net.bias.grad = start * step - 1, start[:, 1] + step
        optimiser.step()
        obvious.step()
    torch.testing.assert_close(nets[0].weight, nets[1].weight)
    torch.testing.assert_close(nets[0].bias, nets[1].bias)


def test_the_rate_reaches_every_parameter() -> None:
    optimiser = make(Optimiser(lr=0.5), Net())
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}
    set_rate(optimiser, 0.25)
    assert {group["lr"] for group in optimiser.param_groups} == {0.25}
    assert {group["lr"] for group in make(Optimiser(), Net(), lr=0.1).param_groups} == {0.1}


def test_a_network_that_cannot_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="optimise: Linear has no parameter that learns; free"):
        make(Optimiser(), nn.Linear(2, 2).requires_grad_(False))


def test_settings_that_make_no_sense_are_refused() -> None:
    for values, told in (
        ({"milestones": [5, 3]}, r"milestones: \[5, 3\]: epochs above 0, each later than the one before"),
        ({"milestones": [0]}, "milestones"),
        ({"gamma": 1.5}, "gamma: 1.5"),
        ({"name": "linear"}, "name: 'linear'"),
        ({"t0": 0}, "t0: 0"),
    ):
        with pytest.raises(SettingsError, match=told):
            Schedule.checked("schedule", values)
    with pytest.raises(SettingsError, match=r"betas: \[0.9, 1.0\]: both lie from 0 to below 1"):
        Optimiser.checked("optimiser", {"betas": [0.9, 1.0]})
