"""Learning rates against torch's own schedulers, epoch by epoch, and optimisers with weight decay."""

import json
import math
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from survey.settings import SettingsError
from survey.training.learning_settings import Optimiser, Schedule
from survey.training.optimise import Plateau, learning_rate, make_optimiser, set_learning_rate

BASE = 3e-3
ScheduleName = Literal["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"]
NAMES: list[ScheduleName] = ["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"]


def sgd(lr: float = BASE) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def their_rates(scheduler: Any, epochs: int) -> list[float]:
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def our_rates(values: dict[str, Any], epochs: int) -> list[float]:
    schedule = Schedule.from_dict("schedule", {"min_lr": 0.0} | values)
    return [learning_rate(schedule, BASE, epoch, epochs) for epoch in range(epochs)]


# Schedules


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"name": "none"}, lambda: lr_scheduler.ConstantLR(sgd(), 1.0)),
        ({"name": "step", "step_size": 7.0, "gamma": 0.6}, lambda: lr_scheduler.StepLR(sgd(), 7, 0.6)),
        (
            {"name": "multi_step", "milestones": [3, 20, 41], "gamma": 0.3},
            lambda: lr_scheduler.MultiStepLR(sgd(), [3, 20, 41], 0.3),
        ),
        ({"name": "cosine", "min_lr": 1e-5}, lambda: lr_scheduler.CosineAnnealingLR(sgd(), 60, 1e-5)),
        (
            {"name": "cosine_restarts", "t0": 7.0, "min_lr": 1e-5},
            lambda: lr_scheduler.CosineAnnealingWarmRestarts(sgd(), 7, 1, 1e-5),
        ),
        (
            {"name": "cosine_restarts", "t0": 4.0, "t_mult": 2.0},
            lambda: lr_scheduler.CosineAnnealingWarmRestarts(sgd(), 4, 2),
        ),
        (
            {"name": "cosine_restarts", "t0": 3.0, "t_mult": 3.0},
            lambda: lr_scheduler.CosineAnnealingWarmRestarts(sgd(), 3, 3),
        ),
    ],
)
def test_learning_rates_are_those_of_torch(values: dict[str, Any], theirs: Callable[[], Any]) -> None:
    assert our_rates(values, 60) == pytest.approx(their_rates(theirs(), 60), rel=1e-6, abs=1e-12)


def test_learning_rates_at_fractions_of_epochs_are_those_of_torch() -> None:
    optimiser = sgd()
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimiser, 4, 2)
    schedule = Schedule(name="cosine_restarts", t0=4.0, t_mult=2.0, min_lr=0.0)
    for step in range(1, 300):
        epoch = step / 10 + 0.03
        optimiser.step()
        scheduler.step(epoch)
        expected = optimiser.param_groups[0]["lr"]
        assert learning_rate(schedule, BASE, epoch, 30) == pytest.approx(expected, rel=1e-6)


def test_a_step_comes_at_its_epoch_although_fractions_do_not_add_up() -> None:
    epoch = reduce(add, [0.1] * 10) * 30  # `sum` is exact from Python 3.12 on
    assert 29.999 < epoch < 30
    multi_step = Schedule(name="multi_step", milestones=(30.0,))
    restarts = Schedule(name="cosine_restarts", t0=30.0)
    assert learning_rate(Schedule(), BASE, epoch, 200) == pytest.approx(0.75 * BASE)
    assert learning_rate(multi_step, BASE, epoch, 200) == pytest.approx(0.75 * BASE)
    assert learning_rate(restarts, BASE, epoch, 200) == pytest.approx(BASE)


@pytest.mark.parametrize("name", NAMES)
def test_a_warm_up_rises_from_a_tenth_and_delays_the_schedule(name: str) -> None:
    values = {"name": name, "milestones": [4.0, 9.0], "step_size": 6.0}
    warm = Schedule.from_dict("schedule", values | {"warm_up": 5})
    cold = Schedule.from_dict("schedule", values)
    shares = [learning_rate(warm, BASE, epoch, 40) / BASE for epoch in (0, 1, 2.5, 4)]
    assert shares == pytest.approx([0.1, 0.28, 0.55, 0.82])
    for epoch in (0, 3.3, 17, 35):
        expected = learning_rate(cold, BASE, epoch, 35)
        assert learning_rate(warm, BASE, 5 + epoch, 40) == pytest.approx(expected, rel=1e-9)


@examples(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    epoch=st.floats(0, 1000),
    epochs=st.integers(1, 400),
    base=st.floats(1e-9, 1),
    warm_up=st.floats(0, 500),
    t_mult=st.floats(1, 4),
    factor=st.floats(0, 1),
)
def test_a_learning_rate_is_between_its_limits(
    name: ScheduleName,
    epoch: float,
    epochs: int,
    base: float,
    warm_up: float,
    t_mult: float,
    factor: float,
) -> None:
    schedule = Schedule(name=name, warm_up=warm_up, milestones=(5.0, 50.0), t_mult=t_mult, min_lr=1e-6)
    rate = learning_rate(schedule, base, epoch, epochs, factor)
    lowest = min(1e-6, base) if epoch >= warm_up else 0.1 * base
    assert lowest * (1 - 1e-9) <= rate <= base * (1 + 1e-9)


def test_a_plateau_cuts_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(2)
    trend = 3 * 0.9 ** torch.arange(80).clamp(max=25)
    losses = (trend + 0.02 * torch.rand(80, generator=generator)).tolist()
    losses[40:43] = [math.nan, math.inf, math.nan]
    optimiser = sgd()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.4, patience=3, threshold=1e-3, min_lr=1e-5)
    schedule = Schedule(name="plateau", factor=0.4, patience=3, threshold=1e-3, min_lr=1e-5)
    plateau, rates = Plateau(), []
    for epoch, loss in enumerate(losses, 1):
        scheduler.step(loss)
        rates.append(learning_rate(schedule, BASE, epoch, 80, plateau.update(schedule, loss, epoch)))
        assert rates[-1] == pytest.approx(optimiser.param_groups[0]["lr"])
    assert len(set(rates)) > 4
    assert rates[-1] == pytest.approx(1e-5)


def test_a_plateau_continues_from_its_state() -> None:
    schedule, undisturbed, stopped = Schedule(name="plateau", patience=1), Plateau(), Plateau()
    losses = [3.0, 2.0, 2.0, 2.0, 1.0, 1.5, 1.5, 1.5, math.nan]
    expected = [undisturbed.update(schedule, loss, epoch) for epoch, loss in enumerate(losses, 1)]
    for epoch, loss in enumerate(losses[:3], 1):
        stopped.update(schedule, loss, epoch)
    resumed = Plateau(**json.loads(json.dumps(stopped.state(), allow_nan=False)))
    factors = [resumed.update(schedule, loss, epoch) for epoch, loss in enumerate(losses[3:], 4)]
    assert factors == expected[3:]
    assert expected[-1] < 1


@pytest.mark.parametrize(
    ("schedule", "cuts"), [(Schedule(name="plateau", patience=0, warm_up=5.0), 2), (Schedule(name="step"), 0)]
)
def test_a_plateau_ignores_the_warm_up_and_other_schedules(schedule: Schedule, cuts: int) -> None:
    plateau = Plateau()
    for epoch in range(1, 9):
        plateau.update(schedule, 1.0, epoch)
    assert plateau.factor == 0.5**cuts


# Optimisers


class Net(nn.Module):
    """One layer of each kind: a norm, a recurrent, a frozen one, and one that is used twice."""

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
        names[id(parameter)]: group["weight_decay"]
        for group in make_optimiser(Optimiser(weight_decay=0.3), net).param_groups
        for parameter in group["params"]
    }
    with_decay = {"conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "last.weight"}
    without = {*("conv.bias", "norm.weight", "norm.bias", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "last.bias")}
    assert decays == dict.fromkeys(with_decay, 0.3) | dict.fromkeys(without, 0.0)


def test_everything_decays_if_wanted() -> None:
    (group,) = make_optimiser(Optimiser(decay_all=True), Net()).param_groups
    assert len(group["params"]) == 10
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("values", "kind", "arguments"),
    [
        ({"name": "adamw", "betas": [0.8, 0.9]}, torch.optim.AdamW, {"betas": (0.8, 0.9)}),
        ({"name": "adam", "betas": [0.8, 0.9]}, torch.optim.Adam, {"betas": (0.8, 0.9)}),
        ({"name": "sgd", "momentum": 0.5}, torch.optim.SGD, {"momentum": 0.5}),
        ({"name": "rmsprop", "momentum": 0.5}, torch.optim.RMSprop, {"momentum": 0.5}),
    ],
    ids=["adamw", "adam", "sgd", "rmsprop"],
)
def test_steps_are_those_of_torch(values: dict[str, Any], kind: Any, arguments: dict[str, Any]) -> None:
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    nets = [nn.Linear(5, 3), nn.Linear(5, 3)]
    for net in nets:
        net.weight.data, net.bias.data = start.clone(), start[:, 0].clone()
    settings = Optimiser.from_dict("optimiser", values | {"weight_decay": 0.1, "decay_all": True})
    ours = make_optimiser(settings, nets[0], lr=0.02)
    theirs = kind(nets[1].parameters(), lr=0.02, weight_decay=0.1, foreach=False, **arguments)
    for step in range(5):
        for net in nets:
            net.weight.grad, net.bias.grad = start * step - 1, start[:, 1] + step
        ours.step()
        theirs.step()
    torch.testing.assert_close(nets[0].weight, nets[1].weight)
    torch.testing.assert_close(nets[0].bias, nets[1].bias)


def test_the_learning_rate_reaches_every_parameter() -> None:
    optimiser = make_optimiser(Optimiser(lr=0.5), Net())
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}
    set_learning_rate(optimiser, 0.25)
    assert {group["lr"] for group in optimiser.param_groups} == {0.25}
    assert {group["lr"] for group in make_optimiser(Optimiser(), Net(), lr=0.1).param_groups} == {0.1}


def test_a_network_without_trained_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="optimise: Linear has no trained parameter; unfreeze"):
        make_optimiser(Optimiser(), nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"milestones": [5, 3]}, r"milestones: \[5, 3\]: are not rising epochs above 0; give each later"),
        ({"milestones": [0]}, "milestones"),
        ({"gamma": 1.5}, "gamma: 1.5"),
        ({"name": "linear"}, "name: 'linear'"),
        ({"t0": 0}, "t0: 0"),
    ],
)
def test_wrong_schedules_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Schedule.from_dict("schedule", values)


def test_betas_of_1_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"betas: \[0.9, 1.0\]: both have to be at least 0 and below 1"):
        Optimiser.from_dict("optimiser", {"betas": [0.9, 1.0]})
