"""Losses against torch's own and the formulas of their papers; missing targets; sums over workers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from survey.models.network import Outputs
from survey.models.settings import Task
from survey.settings import SettingsError
from survey.training.learning_settings import Loss
from survey.training.losses import REGRESSIONS, Targets, TaskLoss, class_weights, gaussian_nll

LABELS = ("Teff", "logg", "FeH")
CLS, REG, BOTH = Task("cls"), Task("reg", LABELS), Task("cls_reg", LABELS)
WITH_SIGMA = Task("cls_reg", LABELS, sigma=True)
COUNTS = (400, 20, 580)


def make_batch(
    rows: int = 24, seed: int = 0, missing: float = 0.0, weighted: bool = False
) -> tuple[Outputs, Targets]:
    """Outputs with gradients, and targets of which a share is missing."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    outputs = {"logits": 2 * normal(rows, 3), "mu": normal(rows, 3), "log_var": normal(rows, 3)}
    masked, masked_error = (torch.rand((rows, width), generator=generator) < missing for width in (4, 3))
    targets = Targets(
        torch.where(masked[:, 3], -1, torch.randint(0, 3, (rows,), generator=generator)),
        torch.where(masked[:, :3], torch.nan, normal(rows, 3)),
        torch.where(masked_error, torch.nan, 0.3 * normal(rows, 3).abs()),
        normal(rows).abs() if weighted else torch.ones(rows),
    )
    return {name: values.requires_grad_() for name, values in outputs.items()}, targets


def loss(
    values: dict[str, Any], task: Task, outputs: Outputs, targets: Targets, epoch: float = 100
) -> Tensor:
    criterion = TaskLoss(Loss.from_dict("loss", values), task, COUNTS)
    return criterion.total(criterion.sums(outputs, targets, epoch), criterion.weights(targets))


def select(outputs: Outputs, targets: Targets, rows: Tensor | slice) -> tuple[Outputs, Targets]:
    return {name: values[rows] for name, values in outputs.items()}, targets[rows]


# Classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", (1.0, 5.0, 0.5)])
def test_cross_entropy_is_that_of_torch(smoothing: float, weights: Any) -> None:
    outputs, targets = make_batch(missing=0.3)
    weight = None if weights == "none" else torch.tensor(weights)
    theirs = nn.CrossEntropyLoss(weight, ignore_index=-1, label_smoothing=smoothing)
    values = {"class_weights": weights, "label_smoothing": smoothing}
    expected = theirs(outputs["logits"], targets.class_B)
    torch.testing.assert_close(loss(values, CLS, outputs, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_its_formula(gamma: float) -> None:
    outputs, targets = make_batch()
    p = outputs["logits"].softmax(1)[torch.arange(24), targets.class_B]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(loss({"cls": "focal", "gamma": gamma}, CLS, outputs, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_of_focal_losses_are_finite_for_perfect_outputs(gamma: float) -> None:
    _, targets = make_batch()
    logits = (1e3 * functional.one_hot(targets.class_B, 3).float()).requires_grad_()
    mu = targets.label_BL.clone().requires_grad_()
    values = {"cls": "focal", "reg": "focal", "gamma": gamma}
    loss(values, BOTH, {"logits": logits, "mu": mu}, targets).backward()
    assert logits.grad is not None
    assert mu.grad is not None
    assert logits.grad.isfinite().all()
    assert mu.grad.isfinite().all()


@pytest.mark.parametrize(("kind", "power"), [("balanced", 1.0), ("sqrt_balanced", 0.5)])
def test_balanced_weights_give_equal_sums_and_keep_the_mean(kind: str, power: float) -> None:
    weight = class_weights(kind, 3, COUNTS)
    assert weight is not None
    counts = torch.tensor(COUNTS)
    share = counts**power * weight
    torch.testing.assert_close(share, share[:1].expand(3))
    assert float((weight * counts).sum() / sum(COUNTS)) == pytest.approx(1)


# Labels


def log_cosh(mu: Tensor, label: Tensor) -> Tensor:
    return torch.log(torch.cosh(mu - label)).mean()


def weighted_mse(mu: Tensor, label: Tensor) -> Tensor:
    error = mu - label
    return (error**2 * (1 + (error.abs() > 0.2))).mean()


def focal(mu: Tensor, label: Tensor) -> Tensor:
    error = mu - label
    return (error**2 * (error.abs() / 4).tanh() ** 1.5).mean()


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"reg": "mse"}, nn.MSELoss()),
        ({"reg": "mae"}, nn.L1Loss()),
        ({"reg": "smooth_l1", "delta": 0.7}, nn.SmoothL1Loss(beta=0.7)),
        ({"reg": "huber", "delta": 0.7}, nn.HuberLoss(delta=0.7)),
        ({"reg": "log_cosh"}, log_cosh),
        ({"reg": "weighted_mse"}, weighted_mse),
        ({"reg": "focal", "gamma": 1.5, "delta": 2.0}, focal),
    ],
    ids=lambda values: values["reg"] if isinstance(values, dict) else "",
)
def test_a_loss_of_labels_is_its_formula(values: dict[str, Any], theirs: Any) -> None:
    outputs, targets = make_batch(400)
    expected = theirs(outputs["mu"], targets.label_BL)
    torch.testing.assert_close(loss(values, REG, outputs, targets), expected, rtol=1e-5, atol=1e-6)


def test_every_loss_of_labels_has_a_setting() -> None:
    names = ("mse", "mae", "smooth_l1", "huber", "log_cosh", "weighted_mse", "focal")
    assert set(REGRESSIONS) == set(names)
    assert [Loss.from_dict("loss", {"reg": name}).reg for name in names] == list(names)


@pytest.mark.parametrize("reg", REGRESSIONS)
def test_a_huge_error_gives_a_finite_loss_and_gradient(reg: str) -> None:
    mu = torch.full((1, 3), 1e4, requires_grad=True)
    targets = Targets(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1))
    value = loss({"reg": reg}, REG, {"mu": mu}, targets)
    value.backward()
    assert mu.grad is not None
    assert value.isfinite()
    assert mu.grad.isfinite().all()


def test_without_beta_the_likelihood_is_that_of_torch() -> None:
    outputs, targets = make_batch()
    theirs = nn.GaussianNLLLoss()(outputs["mu"], targets.label_BL, outputs["log_var"].exp())
    values = {"reg": "gaussian_nll", "beta": 0.0, "rates": {"cls": 0.0}}
    torch.testing.assert_close(loss(values, WITH_SIGMA, outputs, targets), theirs)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_gradients_by_beta_are_those_of_its_paper(beta: float) -> None:
    """Seitzer et al. 2022: (mu - y) / var**(1 - beta) and (var - error**2) / (2 var**(2 - beta))."""
    mu, var, label = (
        torch.tensor(values, dtype=torch.float64)
        for values in ([0.3, -1.0, 2.0], [0.1, 1.0, 9.0], [0.0, 0.5, 2.5])
    )
    mu, var = mu.requires_grad_(), var.requires_grad_()
    gaussian_nll(mu - label, var.log(), beta).sum().backward()
    torch.testing.assert_close(mu.grad, ((mu - label) / var ** (1 - beta)).detach())
    torch.testing.assert_close(var.grad, ((var - (mu - label) ** 2) / (2 * var ** (2 - beta))).detach())


def test_in_the_warm_up_means_follow_mse_and_variances_the_likelihood() -> None:
    outputs, targets = make_batch(missing=0.2)
    mu, log_var = outputs["mu"], outputs["log_var"]
    values = {"reg": "gaussian_nll", "warm_up": 5.0, "rates": {"cls": 0.0}}
    early = torch.autograd.grad(loss(values, WITH_SIGMA, outputs, targets, 4.9), [mu, log_var])
    (mse,) = torch.autograd.grad(loss({"reg": "mse"}, REG, outputs, targets), [mu])
    likelihood = values | {"beta": 0.0, "warm_up": 0.0}
    (nll,) = torch.autograd.grad(loss(likelihood, WITH_SIGMA, outputs, targets), [log_var])
    torch.testing.assert_close(early[0], mse)
    torch.testing.assert_close(early[1], nll)
    late = torch.autograd.grad(loss(values, WITH_SIGMA, outputs, targets, 5.0), [mu])
    assert not torch.allclose(late[0], mse)


@pytest.mark.parametrize("epoch", [0, 9])
def test_a_score_is_the_likelihood_in_every_epoch(epoch: int) -> None:
    outputs, targets = make_batch()
    plain = TaskLoss(Loss(reg="gaussian_nll", beta=0.0), WITH_SIGMA).sums(outputs, targets, 9)
    criterion = TaskLoss(Loss(reg="gaussian_nll", warm_up=5), WITH_SIGMA)
    torch.testing.assert_close(criterion.sums(outputs, targets, epoch, scoring=True), plain)


def test_label_errors_are_added_to_the_variance_or_lower_the_weight() -> None:
    outputs, targets = make_batch(missing=0.3)
    known, label_error = ~targets.label_BL.isnan(), targets.error_BL.nan_to_num(nan=0.0)
    error = (outputs["mu"] - targets.label_BL)[known]
    var = (outputs["log_var"].exp() + label_error**2)[known]
    values: dict[str, Any] = {"reg": "gaussian_nll", "label_errors": True, "beta": 0.0, "rates": {"cls": 0.0}}
    expected = (0.5 * (var.log() + error**2 / var)).mean()
    torch.testing.assert_close(loss(values, WITH_SIGMA, outputs, targets), expected)
    weight = (1 / (1 + label_error**2 / 0.25))[known]
    values = {"reg": "mae", "label_errors": True, "error_scale": 0.5}
    expected = (weight * error.abs()).sum() / weight.sum()
    torch.testing.assert_close(loss(values, REG, outputs, targets), expected)


def test_gaussian_nll_finds_a_noise_that_varies() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.rand((2000, 1), generator=generator) * 2 - 1
    sigma = 0.1 * torch.exp(1.2 * x)
    label = 0.8 * x + sigma * torch.randn((2000, 1), generator=generator)
    targets = Targets(torch.full((2000,), -1), label, torch.full_like(label, torch.nan), torch.ones(2000))
    net = nn.Linear(1, 2)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    criterion = TaskLoss(Loss(reg="gaussian_nll", warm_up=1.0), Task("reg", ("FeH",), sigma=True))
    # Beta slows the learning of small variances: at half this rate they are still a quarter too large.
    for step in range(250):
        output = net(x)
        optimiser.zero_grad()
        sums = criterion.sums({"mu": output[:, :1], "log_var": output[:, 1:]}, targets, step / 30)
        criterion.total(sums, criterion.weights(targets)).backward()
        optimiser.step()
    output = net(x).detach()
    assert float((output[:, :1] - 0.8 * x).abs().max()) < 0.02
    assert float((0.5 * output[:, 1:] - sigma.log()).abs().max()) < 0.1


# Missing targets, and sums over workers


EVERY: list[tuple[dict[str, Any], Task]] = [
    *(
        ({"reg": reg, "cls": cls, "label_errors": errors}, BOTH)
        for reg in REGRESSIONS
        for cls, errors in (("focal", True), ("cross_entropy", False))
    ),
    *(
        ({"reg": "gaussian_nll", "warm_up": warm_up, "label_errors": errors}, WITH_SIGMA)
        for warm_up in (0.0, 1e3)
        for errors in (True, False)
    ),
]
every_loss = pytest.mark.parametrize(
    ("values", "task"),
    EVERY,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)


@every_loss
def test_rows_without_targets_have_no_gradient_and_change_nothing(values: dict[str, Any], task: Task) -> None:
    outputs, targets = make_batch(weighted=True)
    masked = torch.arange(24) % 3 == 0
    hidden = Targets(
        torch.where(masked, -1, targets.class_B),
        torch.where(masked[:, None], torch.nan, targets.label_BL),
        targets.error_BL,
        targets.weight_B,
    )
    names = ("logits", "mu", "log_var") if task.sigma else ("logits", "mu")
    leaves = [outputs[name] for name in names]
    with_rows = torch.autograd.grad(loss(values, task, outputs, hidden), leaves)
    without = torch.autograd.grad(loss(values, task, *select(outputs, targets, ~masked)), leaves)
    for gradient, expected in zip(with_rows, without, strict=True):
        torch.testing.assert_close(gradient, expected)
        assert (gradient[masked] == 0).all()


@every_loss
def test_a_missing_label_does_not_affect_the_other_labels_of_its_row(
    values: dict[str, Any], task: Task
) -> None:
    outputs, targets = make_batch(missing=0.5)
    (gradient,) = torch.autograd.grad(loss(values, task, outputs, targets), [outputs["mu"]])
    assert torch.equal(gradient == 0, targets.label_BL.isnan())


@every_loss
@pytest.mark.parametrize("wild", [torch.nan, torch.inf])
def test_the_outputs_of_a_row_without_weight_may_be_anything(
    values: dict[str, Any], task: Task, wild: float
) -> None:
    outputs, targets = make_batch()
    first = torch.arange(24) == 0
    weightless = Targets(targets.class_B, targets.label_BL, targets.error_BL, torch.where(first, 0.0, 1.0))
    unknown = Targets(
        torch.where(first, -1, targets.class_B),
        targets.label_BL.where(~first[:, None], torch.nan),
        targets.error_BL,
        targets.weight_B,
    )
    leaves = {
        name: output.detach().where(~first[:, None], wild).requires_grad_()
        for name, output in outputs.items()
    }
    expected = loss(values, task, *select(outputs, targets, slice(1, None)))
    for hidden in (weightless, unknown):
        value = loss(values, task, leaves, hidden)
        torch.testing.assert_close(value, expected)
        gradients = torch.autograd.grad(value, [leaves["logits"], leaves["mu"]])
        assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_sums_of_workers_give_the_loss_of_the_batch(values: dict[str, Any], task: Task) -> None:
    outputs, targets = make_batch(missing=0.4, weighted=True)
    criterion = TaskLoss(Loss.from_dict("loss", values | {"class_weights": "balanced"}), task, COUNTS)
    parts = [select(outputs, targets, slice(start, start + 6)) for start in range(0, 24, 6)]
    weights = torch.stack([criterion.weights(part) for _, part in parts]).sum(0)
    sums = torch.stack([criterion.sums(*part, 2.0) for part in parts]).sum(0)
    expected = criterion.total(criterion.sums(outputs, targets, 2.0), criterion.weights(targets))
    torch.testing.assert_close(criterion.total(sums, weights), expected)


@examples(max_examples=25, deadline=None)
@given(cls=st.floats(0, 10), reg=st.floats(0, 10))
def test_rates_weight_the_two_parts(cls: float, reg: float) -> None:
    outputs, targets = make_batch()
    expected = cls * loss({}, CLS, outputs, targets) + reg * loss({}, REG, outputs, targets)
    value = loss({"rates": {"cls": cls, "reg": reg}}, BOTH, outputs, targets)
    torch.testing.assert_close(value, expected)


def test_the_weight_of_a_row_is_the_number_of_its_copies() -> None:
    outputs, targets = make_batch()
    copies = torch.arange(24) % 3
    weighted = Targets(targets.class_B, targets.label_BL, targets.error_BL, copies.float())
    repeated = select(outputs, targets, torch.arange(24).repeat_interleave(copies))
    torch.testing.assert_close(loss({}, BOTH, outputs, weighted), loss({}, BOTH, *repeated))


def test_a_part_without_any_target_is_0() -> None:
    outputs, targets = make_batch()
    nan_BL = torch.full((24, 3), torch.nan)
    empty = Targets(torch.full((24,), -1), nan_BL, targets.error_BL, targets.weight_B)
    value = loss({}, BOTH, outputs, empty)
    value.backward()
    assert value == 0
    for name in ("mu", "logits"):
        gradient = outputs[name].grad
        assert gradient is not None
        assert (gradient == 0).all()
    unlabelled = Targets(targets.class_B, nan_BL, targets.error_BL, targets.weight_B)
    torch.testing.assert_close(loss({}, BOTH, outputs, unlabelled), loss({}, CLS, outputs, targets))


def test_the_loss_of_half_precision_outputs_is_computed_in_single() -> None:
    outputs, targets = make_batch()
    half = {name: values.detach().bfloat16() for name, values in outputs.items()}
    single = {name: values.float() for name, values in half.items()}
    value = loss({"reg": "gaussian_nll"}, WITH_SIGMA, half, targets)
    assert value.dtype == torch.float32
    assert value == loss({"reg": "gaussian_nll"}, WITH_SIGMA, single, targets)


def test_all_targets_move_to_a_device() -> None:
    _, targets = make_batch()
    moved = targets.to("meta")
    assert all(getattr(moved, name).is_meta for name in ("class_B", "label_BL", "error_BL", "weight_B"))


# Settings


@pytest.mark.parametrize("reg", ["mse", "gaussian_nll"])
def test_a_loss_and_a_task_that_disagree_on_variances_are_refused(reg: str) -> None:
    task = Task("reg", LABELS, sigma=reg == "mse")
    with pytest.raises(ValueError, match=f"loss: reg={reg} .*; set .*sigma"):
        TaskLoss(Loss.from_dict("loss", {"reg": reg}), task)


def test_a_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers for 3 classes; give one for each"):
        TaskLoss(Loss(class_weights=(1.0, 2.0)), CLS)


@pytest.mark.parametrize("counts", [None, (0, 0, 0), (5, 3)])
def test_balanced_class_weights_need_counts(counts: tuple[int, ...] | None) -> None:
    message = "class_weights=balanced: the classes have .* rows; 3 counts are needed, some above 0"
    with pytest.raises(ValueError, match=message):
        TaskLoss(Loss(class_weights="balanced"), CLS, counts)


@pytest.mark.parametrize("wrong", ["balancd", [1, -2, 3], [1, math.inf, 1], {"MP": 1}, ["1"], [True]])
def test_class_weights_that_are_no_weights_are_refused(wrong: Any) -> None:
    message = r"class_weights: .* is neither a name nor a list of numbers above 0; give one of none"
    with pytest.raises(SettingsError, match=message):
        Loss.from_dict("loss", {"class_weights": wrong})


def test_class_weights_may_be_whole_numbers() -> None:
    assert Loss.from_dict("loss", {"class_weights": [1, 20, 1]}).class_weights == (1.0, 20.0, 1.0)
