"""What every network keeps to, whatever it is made of; a new file in survey/models/ is tested by this as soon as it is there."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from survey import plugins
from survey.models.network import Answers, Dropout, Network, Task
from survey.settings import Settings, SettingsError
from tests.models import batches
from tests.models.batches import TRAINED, Batch, assert_alike, spectra

PIXELS, ROWS = 601, 5
LABELS = ("FeH", "CH")
TASKS = {
    "cls": Task("cls"),
    "reg": Task("reg", LABELS),
    "cls_reg": Task("cls_reg", LABELS),
    "sigma": Task("reg", LABELS, sigma=True),
    "cls_sigma": Task("cls_reg", LABELS, sigma=True),
}

every_net = pytest.mark.parametrize("name", plugins.names("models"))
every_trained_net = pytest.mark.parametrize("name", TRAINED)
every_task = pytest.mark.parametrize("kind", TASKS)


def made(name: str, kind: str = "cls_sigma", pixels: int = PIXELS, seed: int = 7) -> Network:
    module = plugins.load("models", name)
    torch.manual_seed(seed)
    net: Network = module.Net(pixels, TASKS[kind], module.Options())
    return batches.ready(net, seed).eval()


ready: Callable[..., Network] = cache(made)
"""A net that a test only asks."""


@torch.no_grad()
def asked(net: Network, batch: Batch) -> Answers:
    answers: Answers = net(*batch)
    return answers


def loss(answers: Answers) -> Tensor:
    """Something of all that a task trains; what is only shown has no part in it."""
    return torch.stack(
        [(answers[name] - 1).square().mean() for name in ("logits", "mu", "log_var") if name in answers]
    ).sum()


@every_net
@every_task
def test_the_answers_are_those_of_the_task(name: str, kind: str) -> None:
    task, answers = TASKS[kind], asked(ready(name, kind), spectra(ROWS, PIXELS))
    shapes = {"logits": (ROWS, 3)} if task.classifies else {}
    shapes |= {"mu": (ROWS, len(LABELS))} if task.regresses else {}
    shapes |= {"log_var": (ROWS, len(LABELS))} if task.sigma else {}
    assert answers.keys() - {"attention"} == shapes.keys() | {"latent"}
    assert {answer: tuple(answers[answer].shape) for answer in shapes} == shapes
    assert answers["latent"].shape[0] == ROWS
    assert answers["latent"].ndim == 2
    assert "attention" not in answers or len(answers["attention"]) == ROWS
    assert all(value.isfinite().all() for value in answers.values())


@every_net
@pytest.mark.parametrize("pixels", [256, 4900])
def test_a_net_fits_spectra_of_any_length(name: str, pixels: int) -> None:
    answers = asked(made(name, pixels=pixels), spectra(2, pixels))
    assert answers["mu"].shape == (2, len(LABELS))
    assert all(value.isfinite().all() for value in answers.values())


@every_trained_net
@every_task
def test_every_parameter_gets_a_finite_gradient(name: str, kind: str) -> None:
    net = made(name, kind).train()
    loss(net(*spectra(ROWS, PIXELS))).backward()
    gradients = {path: parameter.grad for path, parameter in net.named_parameters()}
    assert not [path for path, gradient in gradients.items() if gradient is None], (
        "workers would wait for these"
    )
    assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)
    assert sum(gradient.abs().sum() for gradient in gradients.values() if gradient is not None) > 0


@every_net
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e30, 0.0])
def test_a_masked_pixel_changes_nothing_whatever_its_flux(name: str, value: float) -> None:
    flux_BP, ivar_BP, continuum_BP = spectra(ROWS, PIXELS)
    spoilt_BP = torch.where(ivar_BP > 0, flux_BP, value)
    net = ready(name)
    found, wanted = (
        asked(net, (spoilt_BP, ivar_BP, continuum_BP)),
        asked(net, (flux_BP, ivar_BP, continuum_BP)),
    )
    for answer in wanted:
        assert torch.equal(found[answer], wanted[answer])


@every_net
def test_good_pixels_and_only_they_make_the_answers(name: str) -> None:
    flux_BP, ivar_BP, continuum_BP = spectra(ROWS, PIXELS)
    net = ready(name)
    wanted = asked(net, (flux_BP, ivar_BP, continuum_BP))
    other = asked(net, (torch.where(ivar_BP > 0, 2 - flux_BP, flux_BP), ivar_BP, continuum_BP))
    assert all(
        not torch.equal(other[answer], wanted[answer]) for answer in wanted if answer not in net.constant
    )


@every_net
def test_the_order_within_a_batch_changes_nothing(name: str) -> None:
    batch, order = spectra(ROWS, PIXELS), torch.tensor([3, 0, 4, 1, 2])
    net = ready(name)
    found = asked(net, (batch[0][order], batch[1][order], batch[2][order]))
    assert_alike(found, {answer: value[order] for answer, value in asked(net, batch).items()}, net.constant)


@every_net
def test_a_batch_of_one_gives_what_the_batch_of_many_gives(name: str) -> None:
    batch, net = spectra(ROWS, PIXELS), ready(name)
    alone = [asked(net, (batch[0][[row]], batch[1][[row]], batch[2][[row]])) for row in range(ROWS)]
    together = asked(net, batch)
    assert_alike(
        {answer: torch.cat([one[answer] for one in alone]) for answer in together}, together, net.constant
    )


@every_net
@every_task
def test_save_and_load_gives_the_same_numbers(name: str, kind: str, tmp_path: Path) -> None:
    net, other = ready(name, kind), made(name, kind, seed=8)
    batch = spectra(ROWS, PIXELS)
    wanted = asked(net, batch)
    assert any(not torch.equal(value, wanted[answer]) for answer, value in asked(other, batch).items())
    assert all(isinstance(value, Tensor) for value in net.state_dict().values()), (
        "what is no tensor would need pickle"
    )
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    found = asked(other, batch)
    assert all(torch.equal(found[answer], value) for answer, value in wanted.items())


@every_net
def test_double_precision_agrees_with_single(name: str) -> None:
    batch, single = spectra(ROWS, PIXELS), ready(name)
    double = made(name).double()
    found = asked(double, (batch[0].double(), batch[1].double(), batch[2].double()))
    assert {value.dtype for answer, value in found.items() if answer != "attention"} == {torch.float64}
    assert_alike(
        {answer: value.float() for answer, value in found.items()}, asked(single, batch), single.constant
    )


@every_trained_net
def test_half_precision_trains(name: str) -> None:
    net = made(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        answers = net(*spectra(ROWS, PIXELS))
    loss({answer: value.float() for answer, value in answers.items()}).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters()
    )


@every_net
def test_one_seed_makes_one_net(name: str) -> None:
    first, second, other = made(name).state_dict(), made(name).state_dict(), made(name, seed=8).state_dict()
    assert all(torch.equal(first[path], second[path]) for path in first)
    assert not all(torch.equal(first[path], other[path]) for path in first)


@every_net
def test_in_evaluation_nothing_is_drawn_and_nothing_is_kept(name: str) -> None:
    net, batch = made(name), spectra(ROWS, PIXELS)
    before = {path: value.clone() for path, value in net.state_dict().items()}
    first, second = asked(net, batch), asked(net, batch)
    assert all(torch.equal(first[answer], second[answer]) for answer in first)
    assert all(torch.equal(before[path], value) for path, value in net.state_dict().items())


@every_net
def test_dropout_does_not_depend_on_the_number_of_workers(name: str) -> None:
    for path, module in ready(name).named_modules():
        assert not isinstance(module, nn.modules.dropout._DropoutNd), (
            f"{path}: use survey.models.network.Dropout"
        )
        assert not (isinstance(module, nn.RNNBase) and module.dropout), (
            f"{path}: put survey.models.network.Dropout between layers"
        )
        assert not (isinstance(module, nn.MultiheadAttention) and module.dropout), (
            f"{path}: put survey.models.network.Dropout after it"
        )
        assert not isinstance(module, Dropout) or module.share == (0, 1)


@every_trained_net
@every_task
def test_the_heads_hold_the_last_layers_and_the_body_the_rest(name: str, kind: str) -> None:
    net = ready(name, kind)
    heads = {path for path, _ in net.named_parameters() if path.startswith("heads.")}
    assert heads
    assert {path for path, _ in net.named_parameters()} - heads


@every_net
def test_spectra_of_another_grid_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"model: spectra of 600 pixels, built for 601; give a store of the same grid"
    ):
        ready(name)(*spectra(2, PIXELS - 1))


@every_net
def test_a_continuum_is_asked_for_by_nets_that_look_at_it_only(name: str) -> None:
    net, (flux_BP, ivar_BP, continuum_BP) = ready(name), spectra(ROWS, PIXELS)
    if "continuum" in net.inputs:
        with pytest.raises(ValueError, match=f"model: {name} needs continua; ingest with"):
            net(flux_BP, ivar_BP)
        return
    with torch.no_grad():
        found, wanted = net(flux_BP, ivar_BP), net(flux_BP, ivar_BP, continuum_BP)
    assert all(torch.equal(found[answer], wanted[answer]) for answer in wanted)


@every_net
def test_options_are_settings_with_defaults_and_descriptions(name: str) -> None:
    options = plugins.load("models", name).Options
    assert issubclass(options, Settings)
    assert options() == options.checked("x", {})
    assert not [field for field, about in options.model_fields.items() if not about.description]
    with pytest.raises(SettingsError, match=r"train\.model: no_such_option: unknown setting \(value 1\)"):
        options.checked("train.model", {"no_such_option": 1})
