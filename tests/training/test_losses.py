"""Losses against torch's own and the formulas of their papers; what is not known has no say, and workers add up to the whole."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from survey.models.network import Answers, Task
from survey.settings import SettingsError
from survey.training.losses import REGRESSIONS, Criterion, Loss, Truth, class_weights, gaussian_nll

LABELS = ("Teff", "logg", "FeH")
CLS, REG, BOTH = Task("cls"), Task("reg", LABELS), Task("cls_reg", LABELS)
SURE = Task("cls_reg", LABELS, sigma=True)
COUNTS = (400, 20, 580)


def batch(
    rows: int = 24, seed: int = 0, missing: float = 0.0, weighted: bool = False
) -> tuple[Answers, Truth]:
    """Answers that want gradients, and the truth, of which a share is missing."""
    generator = torch.Generator().manual_seed(seed)
    draw: Callable[..., Tensor] = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    answers = {"logits": 2 * draw(rows, 3), "mu": draw(rows, 3), "log_var": draw(rows, 3)}
    gone, unknown = (torch.rand((rows, width), generator=generator) < missing for width in (4, 3))
    truth = Truth(
        torch.where(gone[:, 3], -1, torch.randint(0, 3, (rows,), generator=generator)),
        torch.where(gone[:, :3], torch.nan, draw(rows, 3)),
        torch.where(unknown, torch.nan, 0.3 * draw(rows, 3).abs()),
        draw(rows).abs() if weighted else torch.ones(rows),
    )
    return {name: values.requires_grad_() for name, values in answers.items()}, truth


def loss(values: dict[str, Any], task: Task, answers: Answers, truth: Truth, epoch: float = 100) -> Tensor:
    criterion = Criterion(Loss.checked("loss", values), task, COUNTS)
    return criterion.total(criterion.sums(answers, truth, epoch), criterion.weights(truth))


def rows(answers: Answers, truth: Truth, which: Tensor | slice) -> tuple[Answers, Truth]:
    kept = Truth(truth.class_B[which], truth.label_BL[which], truth.error_BL[which], truth.weight_B[which])
    return {name: values[which] for name, values in answers.items()}, kept


# Classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", (1.0, 5.0, 0.5)])
def test_cross_entropy_is_that_of_torch(smoothing: float, weights: Any) -> None:
    answers, truth = batch(missing=0.3)
    weight = None if weights == "none" else torch.tensor(weights)
    theirs = nn.CrossEntropyLoss(weight, ignore_index=-1, label_smoothing=smoothing)(
        answers["logits"], truth.class_B
    )
    torch.testing.assert_close(
        loss({"class_weights": weights, "label_smoothing": smoothing}, CLS, answers, truth), theirs
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_counts_by_what_the_right_class_lacks(gamma: float) -> None:
    answers, truth = batch()
    p = answers["logits"].softmax(1)[torch.arange(24), truth.class_B]
    torch.testing.assert_close(
        loss({"cls": "focal", "gamma": gamma}, CLS, answers, truth), (-((1 - p) ** gamma) * p.log()).mean()
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_of_focal_losses_are_finite_where_an_answer_is_perfect(gamma: float) -> None:
    _, truth = batch()
    logits = (1e3 * functional.one_hot(truth.class_B, 3).float()).requires_grad_()
    mu = truth.label_BL.clone().requires_grad_()
    loss(
        {"cls": "focal", "reg": "focal", "gamma": gamma}, BOTH, {"logits": logits, "mu": mu}, truth
    ).backward()
    assert logits.grad is not None
    assert mu.grad is not None
    assert logits.grad.isfinite().all()
    assert mu.grad.isfinite().all()


def test_balanced_weights_make_classes_count_alike_and_keep_the_mean() -> None:
    for wanted, power in (("balanced", 1.0), ("sqrt_balanced", 0.5)):
        weight = class_weights(wanted, 3, COUNTS)
        assert weight is not None
        share = torch.tensor(COUNTS) ** power * weight
        torch.testing.assert_close(share, share[:1].expand(3))
        assert float((weight * torch.tensor(COUNTS)).sum() / sum(COUNTS)) == pytest.approx(1)


# Labels


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"reg": "mse"}, nn.MSELoss()),
        ({"reg": "mae"}, nn.L1Loss()),
        ({"reg": "smooth_l1", "delta": 0.7}, nn.SmoothL1Loss(beta=0.7)),
        ({"reg": "huber", "delta": 0.7}, nn.HuberLoss(delta=0.7)),
        ({"reg": "log_cosh"}, lambda mu, label: torch.log(torch.cosh(mu - label)).mean()),
        (
            {"reg": "weighted_mse"},
            lambda mu, label: ((mu - label) ** 2 * (1 + ((mu - label).abs() > 0.2))).mean(),
        ),
        (
            {"reg": "focal", "gamma": 1.5, "delta": 2.0},
            lambda mu, label: ((mu - label) ** 2 * ((mu - label).abs() / 4).tanh() ** 1.5).mean(),
        ),
    ],
    ids=lambda values: values["reg"] if isinstance(values, dict) else "",
)
def test_a_loss_of_labels_is_its_formula(values: dict[str, Any], theirs: Any) -> None:
    answers, truth = batch(400)
    torch.testing.assert_close(
        loss(values, REG, answers, truth), theirs(answers["mu"], truth.label_BL), rtol=1e-5, atol=1e-6
    )


def test_every_loss_of_labels_can_be_asked_for() -> None:
    assert set(REGRESSIONS) == {
        row
        for row in ("mse", "mae", "smooth_l1", "huber", "log_cosh", "weighted_mse", "focal")
        if Loss.checked("loss", {"reg": row})
    }


@pytest.mark.parametrize("reg", REGRESSIONS)
def test_a_huge_error_gives_a_finite_loss_and_gradient(reg: str) -> None:
    mu = torch.full((1, 3), 1e4, requires_grad=True)
    truth = Truth(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1))
    found = loss({"reg": reg}, REG, {"mu": mu}, truth)
    found.backward()
    assert mu.grad is not None
    assert found.isfinite()
    assert mu.grad.isfinite().all()


def test_without_beta_the_likelihood_is_that_of_torch() -> None:
    answers, truth = batch()
    theirs = nn.GaussianNLLLoss()(answers["mu"], truth.label_BL, answers["log_var"].exp())
    ours = loss({"reg": "gaussian_nll", "beta": 0.0, "rates": {"cls": 0.0}}, SURE, answers, truth)
    torch.testing.assert_close(ours, theirs)


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


def test_in_the_warm_up_means_learn_as_by_mse_and_variances_by_the_likelihood() -> None:
    answers, truth = batch(missing=0.2)
    values = {"reg": "gaussian_nll", "warm_up": 5.0, "rates": {"cls": 0.0}}
    early = torch.autograd.grad(loss(values, SURE, answers, truth, 4.9), [answers["mu"], answers["log_var"]])
    (mse,) = torch.autograd.grad(loss({"reg": "mse"}, REG, answers, truth), [answers["mu"]])
    (nll,) = torch.autograd.grad(
        loss(values | {"beta": 0.0, "warm_up": 0.0}, SURE, answers, truth), [answers["log_var"]]
    )
    torch.testing.assert_close(early[0], mse)
    torch.testing.assert_close(early[1], nll)
    late = torch.autograd.grad(loss(values, SURE, answers, truth, 5.0), [answers["mu"]])
    assert not torch.allclose(late[0], mse)


def test_a_score_is_the_likelihood_in_every_epoch() -> None:
    answers, truth = batch()
    plain = Criterion(Loss(reg="gaussian_nll", beta=0.0), SURE).sums(answers, truth, 9)
    for epoch in (0, 9):
        torch.testing.assert_close(
            Criterion(Loss(reg="gaussian_nll", warm_up=5), SURE).sums(answers, truth, epoch, scoring=True),
            plain,
        )


def test_label_errors_widen_the_variance_or_lower_the_weight() -> None:
    answers, truth = batch(missing=0.3)
    known, error = ~truth.label_BL.isnan(), truth.error_BL.nan_to_num(nan=0.0)
    off = (answers["mu"] - truth.label_BL)[known]
    var = (answers["log_var"].exp() + error**2)[known]
    ours = loss(
        {"reg": "gaussian_nll", "label_errors": True, "beta": 0.0, "rates": {"cls": 0.0}},
        SURE,
        answers,
        truth,
    )
    torch.testing.assert_close(ours, (0.5 * (var.log() + off**2 / var)).mean())
    weight = (1 / (1 + error**2 / 0.25))[known]
    ours = loss({"reg": "mae", "label_errors": True, "error_scale": 0.5}, REG, answers, truth)
    torch.testing.assert_close(ours, (weight * off.abs()).sum() / weight.sum())


def test_a_known_spread_that_varies_is_found() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.rand((2000, 1), generator=generator) * 2 - 1
    sigma = 0.1 * torch.exp(1.2 * x)
    label = 0.8 * x + sigma * torch.randn((2000, 1), generator=generator)
    truth = Truth(torch.full((2000,), -1), label, torch.full_like(label, torch.nan), torch.ones(2000))
    net = nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    criterion = Criterion(Loss(reg="gaussian_nll", warm_up=1.0), Task("reg", ("FeH",), sigma=True))
    for step in range(
        250
    ):  # beta slows what is learnt of small variances: at half this rate they are still a quarter too large
        out = net(x)
        optimiser.zero_grad()
        sums = criterion.sums({"mu": out[:, :1], "log_var": out[:, 1:]}, truth, step / 30)
        criterion.total(sums, criterion.weights(truth)).backward()
        optimiser.step()
    out = net(x).detach()
    assert float((out[:, :1] - 0.8 * x).abs().max()) < 0.02
    assert float((0.5 * out[:, 1:] - sigma.log()).abs().max()) < 0.1


# What is not known, and shares


EVERY: list[tuple[dict[str, Any], Task]] = [
    *(
        ({"reg": reg, "cls": cls, "label_errors": errors}, BOTH)
        for reg in REGRESSIONS
        for cls, errors in (("focal", True), ("cross_entropy", False))
    ),
    *(
        ({"reg": "gaussian_nll", "warm_up": early, "label_errors": errors}, SURE)
        for early in (0.0, 1e3)
        for errors in (True, False)
    ),
]
every_loss = pytest.mark.parametrize(
    ("values", "task"),
    EVERY,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)


@every_loss
def test_rows_without_truth_have_no_gradient_and_change_nothing(values: dict[str, Any], task: Task) -> None:
    answers, truth = batch(weighted=True)
    gone = torch.arange(24) % 3 == 0
    hidden = Truth(
        torch.where(gone, -1, truth.class_B),
        torch.where(gone[:, None], torch.nan, truth.label_BL),
        truth.error_BL,
        truth.weight_B,
    )
    names = ("logits", "mu", "log_var") if task.sigma else ("logits", "mu")
    leaves = [answers[name] for name in names]
    with_rows = torch.autograd.grad(loss(values, task, answers, hidden), leaves)
    without = torch.autograd.grad(loss(values, task, *rows(answers, truth, ~gone)), leaves)
    for one, two in zip(with_rows, without, strict=True):
        torch.testing.assert_close(one, two)
        assert (one[gone] == 0).all()


@every_loss
def test_a_missing_label_leaves_the_others_of_its_row(values: dict[str, Any], task: Task) -> None:
    answers, truth = batch(missing=0.5)
    (gradient,) = torch.autograd.grad(loss(values, task, answers, truth), [answers["mu"]])
    assert torch.equal(gradient == 0, truth.label_BL.isnan())


@every_loss
@pytest.mark.parametrize("wild", [torch.nan, torch.inf])
def test_a_row_that_does_not_count_may_hold_any_answer(
    values: dict[str, Any], task: Task, wild: float
) -> None:
    answers, truth = batch()
    first = torch.arange(24) == 0
    weightless = Truth(truth.class_B, truth.label_BL, truth.error_BL, torch.where(first, 0.0, 1.0))
    unknown = Truth(
        torch.where(first, -1, truth.class_B),
        truth.label_BL.where(~first[:, None], torch.nan),
        truth.error_BL,
        truth.weight_B,
    )
    leaves = {
        name: kept.detach().where(~first[:, None], wild).requires_grad_() for name, kept in answers.items()
    }
    for hidden in (weightless, unknown):
        found = loss(values, task, leaves, hidden)
        torch.testing.assert_close(found, loss(values, task, *rows(answers, truth, slice(1, None))))
        gradients = torch.autograd.grad(found, [leaves["logits"], leaves["mu"]])
        assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_shares_of_workers_add_up_to_the_whole(values: dict[str, Any], task: Task) -> None:
    answers, truth = batch(missing=0.4, weighted=True)
    criterion = Criterion(Loss.checked("loss", values | {"class_weights": "balanced"}), task, COUNTS)
    parts = [rows(answers, truth, slice(start, start + 6)) for start in range(0, 24, 6)]
    weights = torch.stack([criterion.weights(part) for _, part in parts]).sum(0)
    sums = torch.stack([criterion.sums(*part, 2.0) for part in parts]).sum(0)
    torch.testing.assert_close(
        criterion.total(sums, weights),
        criterion.total(criterion.sums(answers, truth, 2.0), criterion.weights(truth)),
    )


@examples(max_examples=25, deadline=None)
@given(cls=st.floats(0, 10), reg=st.floats(0, 10))
def test_rates_weigh_the_two_parts(cls: float, reg: float) -> None:
    answers, truth = batch()
    parts = [loss({}, CLS, answers, truth), loss({}, REG, answers, truth)]
    torch.testing.assert_close(
        loss({"rates": {"cls": cls, "reg": reg}}, BOTH, answers, truth), cls * parts[0] + reg * parts[1]
    )


def test_sample_weights_count_rows_as_often() -> None:
    answers, truth = batch()
    often = torch.arange(24) % 3
    heavy = Truth(truth.class_B, truth.label_BL, truth.error_BL, often.float())
    again = torch.arange(24).repeat_interleave(often)
    torch.testing.assert_close(loss({}, BOTH, answers, heavy), loss({}, BOTH, *rows(answers, truth, again)))


def test_a_part_of_which_nothing_is_known_counts_nothing() -> None:
    answers, truth = batch()
    nothing = Truth(torch.full((24,), -1), torch.full((24, 3), torch.nan), truth.error_BL, truth.weight_B)
    found = loss({}, BOTH, answers, nothing)
    found.backward()
    assert found == 0
    assert (answers["mu"].grad == 0).all()
    assert (answers["logits"].grad == 0).all()
    unlabelled = Truth(truth.class_B, nothing.label_BL, truth.error_BL, truth.weight_B)
    torch.testing.assert_close(loss({}, BOTH, answers, unlabelled), loss({}, CLS, answers, truth))


def test_answers_of_half_precision_are_judged_in_single() -> None:
    answers, truth = batch()
    half = {name: values.detach().bfloat16() for name, values in answers.items()}
    single = {name: values.float() for name, values in half.items()}
    found = loss({"reg": "gaussian_nll"}, SURE, half, truth)
    assert found.dtype == torch.float32
    assert found == loss({"reg": "gaussian_nll"}, SURE, single, truth)


def test_truth_moves_as_a_whole() -> None:
    _, truth = batch()
    moved = truth.to("meta")
    assert all(getattr(moved, name).is_meta for name in ("class_B", "label_BL", "error_BL", "weight_B"))


# Settings


@pytest.mark.parametrize("reg", ["mse", "gaussian_nll"])
def test_a_loss_and_a_network_that_disagree_on_variances_are_refused(reg: str) -> None:
    task = Task("reg", LABELS, sigma=reg == "mse")
    with pytest.raises(ValueError, match=f"loss: reg={reg} .*; set .*sigma"):
        Criterion(Loss.checked("loss", {"reg": reg}), task)


def test_weights_of_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 numbers for 3 classes; give one for each"):
        Criterion(Loss(class_weights=(1.0, 2.0)), CLS)
    for counts in (None, (0, 0, 0), (5, 3)):
        with pytest.raises(
            ValueError,
            match=r"class_weights=balanced: rows of each class are .*; needs 3 counts, some above 0",
        ):
            Criterion(Loss(class_weights="balanced"), CLS, counts)
    for wrong in ("balancd", [1, -2, 3], [1, math.inf, 1], {"MP": 1}, ["1"], [True]):
        with pytest.raises(
            SettingsError,
            match=r"loss: class_weights: .* neither a name nor numbers above 0; give one of none \| balanced",
        ):
            Loss.checked("loss", {"class_weights": wrong})
    assert Loss.checked("loss", {"class_weights": [1, 20, 1]}).class_weights == (1.0, 20.0, 1.0)
