"""What every network has to do, whatever its architecture; a new file in survey/models/ is tested at once."""

import copy
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import survey.models
from survey import plugins
from survey.models import network
from survey.models.network import DrawingModule, FeatureDropout, Network, Outputs
from survey.models.options import is_baseline
from survey.models.settings import Task
from survey.settings import Settings, SettingsError
from tests.models import batches
from tests.models.batches import TRAINED, assert_same_outputs, images, spectra

PIXELS, ROWS, FEW = 301, 5, 2
SHAPE = (3, 32, 32)
LABELS = ("FeH", "CH")
TASKS = {
    "cls": Task("cls"),
    "reg": Task("reg", LABELS),
    "cls_reg": Task("cls_reg", LABELS),
    "sigma": Task("reg", LABELS, sigma=True),
    "cls_sigma": Task("cls_reg", LABELS, sigma=True),
}

every_model = pytest.mark.parametrize("name", plugins.names("models"))
every_trained_model = pytest.mark.parametrize("name", TRAINED)
every_task = pytest.mark.parametrize("kind", TASKS)


Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Flux, ivar and continuum, (B, P) each, and images (B, C, H, W)."""

OF_A_BATCH = {"own_loss", "terms"}
"""Outputs that may depend on the other rows of a batch."""


def objects(rows: int, pixels: int) -> Batch:
    return *spectra(rows, pixels), images(rows, SHAPE)


def build(
    name: str, kind: str = "cls_sigma", pixels: int = PIXELS, seed: int = 7, fit_rows: int = 96
) -> Network:
    module = plugins.load("models", name)
    torch.manual_seed(seed)
    image = (SHAPE,) if "image" in module.Net.extra_inputs else ()
    net: Network = module.Net(pixels, TASKS[kind], module.Options(), *image)
    return batches.fit_if_baseline(net, seed, fit_rows).eval()


def shared(name: str, kind: str = "cls_sigma", seed: int = 7) -> Network:
    """A network that a test does not change."""
    return _built(name, kind, seed)


@cache
def _built(name: str, kind: str, seed: int) -> Network:
    return build(name, kind, seed=seed)


def own(name: str, kind: str = "cls_sigma", seed: int = 7) -> Network:
    """A network that a test may change; a copy takes less time than drawing its weights or fitting it."""
    return copy.deepcopy(shared(name, kind, seed))


@torch.no_grad()
def predict(net: Network, batch: Batch) -> Outputs:
    outputs: Outputs = net(*batch)
    return outputs


def own_row(outputs: Outputs) -> Outputs:
    """The outputs that depend on the own row of a batch only."""
    return {output: value for output, value in outputs.items() if output not in OF_A_BATCH}


def loss(outputs: Outputs) -> Tensor:
    """A loss of all trained outputs; `latent` and `attention` are not trained."""
    trained = [name for name in ("logits", "mu", "log_var", "own_loss") if name in outputs]
    return torch.stack([(outputs[name] - 1).square().mean() for name in trained]).sum()


@every_model
@every_task
def test_the_outputs_are_those_of_the_task(name: str, kind: str) -> None:
    task, outputs = TASKS[kind], predict(shared(name, kind), objects(ROWS, PIXELS))
    shapes = {"logits": (ROWS, 3)} if task.classifies else {}
    shapes |= {"mu": (ROWS, len(LABELS))} if task.regresses else {}
    shapes |= {"log_var": (ROWS, len(LABELS))} if task.sigma else {}
    assert outputs.keys() - {"attention", "anomaly", *OF_A_BATCH} == shapes.keys() | {"latent"}
    assert {output: tuple(outputs[output].shape) for output in shapes} == shapes
    assert outputs["latent"].shape[0] == ROWS
    assert outputs["latent"].ndim == 2
    assert "attention" not in outputs or len(outputs["attention"]) == ROWS
    assert all(value.isfinite().all() for value in outputs.values())


@every_model
@pytest.mark.parametrize("pixels", [256, 4900])
def test_a_network_takes_spectra_of_any_length(name: str, pixels: int) -> None:
    outputs = predict(build(name, pixels=pixels, fit_rows=32), objects(FEW, pixels))
    assert outputs["mu"].shape == (2, len(LABELS))
    assert all(value.isfinite().all() for value in outputs.values())


@every_trained_model
@every_task
def test_every_parameter_gets_a_finite_gradient(name: str, kind: str) -> None:
    net = own(name, kind).train()
    loss(net(*objects(FEW, PIXELS))).backward()
    gradients = {path: parameter.grad for path, parameter in net.named_parameters()}
    missing = [path for path, gradient in gradients.items() if gradient is None]
    assert not missing, "workers would wait for these gradients"
    assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)
    assert sum(gradient.abs().sum() for gradient in gradients.values() if gradient is not None) > 0


@every_model
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e30, 0.0])
def test_a_masked_pixel_changes_nothing_whatever_its_flux(name: str, value: float) -> None:
    flux_BP, ivar_BP, continuum_BP, image_BCHW = objects(ROWS, PIXELS)
    spoilt_BP = torch.where(ivar_BP > 0, flux_BP, value)
    net = shared(name)
    outputs = predict(net, (spoilt_BP, ivar_BP, continuum_BP, image_BCHW))
    expected = predict(net, (flux_BP, ivar_BP, continuum_BP, image_BCHW))
    for output in expected:
        assert torch.equal(outputs[output], expected[output])


@every_model
def test_good_pixels_change_the_outputs(name: str) -> None:
    flux_BP, ivar_BP, continuum_BP, image_BCHW = objects(ROWS, PIXELS)
    net = shared(name)
    before = predict(net, (flux_BP, ivar_BP, continuum_BP, image_BCHW))
    other_BP = torch.where(ivar_BP > 0, 2 - flux_BP, flux_BP)
    after = predict(net, (other_BP, ivar_BP, continuum_BP, 255 - image_BCHW))
    changing = [output for output in before if output not in net.constant_outputs]
    assert all(not torch.equal(after[output], before[output]) for output in changing)


@every_model
def test_the_order_within_a_batch_changes_nothing(name: str) -> None:
    batch, order = objects(ROWS, PIXELS), torch.tensor([3, 0, 4, 1, 2])
    net = shared(name)
    outputs = own_row(predict(net, (batch[0][order], batch[1][order], batch[2][order], batch[3][order])))
    expected = {output: value[order] for output, value in own_row(predict(net, batch)).items()}
    assert_same_outputs(outputs, expected, net.constant_outputs)


@every_model
def test_a_batch_of_one_gives_the_same_as_a_batch_of_many(name: str) -> None:
    batch, net = objects(ROWS, PIXELS), shared(name)
    flux, ivar, continuum, image = batch
    single = [predict(net, (flux[[row]], ivar[[row]], continuum[[row]], image[[row]])) for row in range(ROWS)]
    expected = own_row(predict(net, batch))
    joined = {output: torch.cat([outputs[output] for outputs in single]) for output in expected}
    assert_same_outputs(joined, expected, net.constant_outputs)


@every_model
def test_save_and_load_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    net, other = shared(name), own(name, seed=8)
    batch = objects(ROWS, PIXELS)
    expected = predict(net, batch)
    before = predict(other, batch)
    assert any(not torch.equal(value, expected[output]) for output, value in before.items())
    tensors_only = all(isinstance(value, Tensor) for value in net.state_dict().values())
    assert tensors_only, "anything else would need pickle"
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    outputs = predict(other, batch)
    assert all(torch.equal(outputs[output], value) for output, value in expected.items())


@every_model
def test_double_precision_agrees_with_single(name: str) -> None:
    batch, single = objects(ROWS, PIXELS), shared(name)
    double = own(name).double()
    outputs = predict(double, (batch[0].double(), batch[1].double(), batch[2].double(), batch[3]))
    types = {value.dtype for output, value in outputs.items() if output != "attention"}
    assert types == {torch.float64}
    as_single = {output: value.float() for output, value in outputs.items()}
    assert_same_outputs(own_row(as_single), own_row(predict(single, batch)), single.constant_outputs)


@every_trained_model
def test_half_precision_trains(name: str) -> None:
    net = own(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(*objects(FEW, PIXELS))
    loss({output: value.float() for output, value in outputs.items()}).backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@every_model
def test_one_seed_gives_one_network(name: str) -> None:
    first, second = shared(name).state_dict(), build(name).state_dict()
    other = shared(name, seed=8).state_dict()
    assert all(torch.equal(first[path], second[path]) for path in first)
    assert not all(torch.equal(first[path], other[path]) for path in first)


@every_model
def test_evaluation_draws_nothing_and_changes_nothing(name: str) -> None:
    net, batch = own(name), objects(ROWS, PIXELS)
    before = {path: value.clone() for path, value in net.state_dict().items()}
    first, second = predict(net, batch), predict(net, batch)
    assert all(torch.equal(first[output], second[output]) for output in first)
    assert all(torch.equal(before[path], value) for path, value in net.state_dict().items())


@every_model
def test_dropout_does_not_depend_on_the_number_of_workers(name: str) -> None:
    advice = "use survey.models.network.FeatureDropout"
    for path, module in shared(name).named_modules():
        assert not isinstance(module, nn.modules.dropout._DropoutNd), f"{path}: {advice}"
        with_own = isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout
        assert not with_own, f"{path}: {advice} between layers"
        if isinstance(module, FeatureDropout):
            assert (module.rank, module.world_size) == (0, 1)


@pytest.mark.parametrize("name", ["fusion", "specvae", "vae", "views"])
def test_what_a_network_draws_does_not_depend_on_the_number_of_workers(name: str) -> None:
    """Two workers with half of the rows get the outputs of one with all."""
    net, batch = own(name).train(), objects(4, PIXELS)

    def outputs(rank: int, workers: int) -> Outputs:
        for layer in net.modules():
            if isinstance(layer, DrawingModule):
                layer.rank, layer.world_size = rank, workers
        rows = slice(4 * rank // workers, 4 * (rank + 1) // workers)
        torch.manual_seed(3)
        return own_row(predict(net, (batch[0][rows], batch[1][rows], batch[2][rows], batch[3][rows])))

    whole, halves = outputs(0, 1), [outputs(rank, 2) for rank in range(2)]
    assert_same_outputs({key: torch.cat([half[key] for half in halves]) for key in whole}, whole)


@every_trained_model
@every_task
def test_the_heads_hold_the_last_layers_and_the_body_the_rest(name: str, kind: str) -> None:
    paths = {path for path, _ in shared(name, kind).named_parameters()}
    heads = {path for path in paths if path.startswith("heads.")}
    assert heads
    assert paths - heads


@every_model
def test_spectra_of_another_grid_are_refused(name: str) -> None:
    message = "model: spectra have 300 pixels, the network is built for 301; give a store of the same grid"
    with pytest.raises(ValueError, match=message):
        shared(name)(*objects(2, PIXELS - 1))


@every_model
def test_only_networks_that_use_the_continuum_need_it(name: str) -> None:
    net, (flux_BP, ivar_BP, continuum_BP, image_BCHW) = shared(name), objects(ROWS, PIXELS)
    if "image" in net.extra_inputs:
        with pytest.raises(ValueError, match=f"model: {name} needs images of .* the store has no images"):
            net(flux_BP, ivar_BP)
        return
    if "continuum" in net.extra_inputs:
        with pytest.raises(ValueError, match=f"model: {name} needs continua, the store has none"):
            net(flux_BP, ivar_BP)
        return
    with torch.no_grad():
        outputs, expected = net(flux_BP, ivar_BP), net(flux_BP, ivar_BP, continuum_BP, image_BCHW)
    assert all(torch.equal(outputs[output], expected[output]) for output in expected)


@every_model
def test_options_are_settings_with_defaults_and_descriptions(name: str) -> None:
    options = plugins.load("models", name).Options
    assert issubclass(options, Settings)
    assert options() == options.from_dict("x", {})
    assert not [field for field, info in options.model_fields.items() if not info.description]
    with pytest.raises(SettingsError, match=r"train\.model: no_such_option: unknown setting"):
        options.from_dict("train.model", {"no_such_option": 1})


@every_model
def test_options_are_read_without_the_rest_of_the_file(name: str) -> None:
    light, loaded = plugins.options("models", name), plugins.load("models", name).Options
    assert light().model_dump() == loaded().model_dump()
    assert is_baseline(name) == (name not in TRAINED)


def test_no_option_of_any_model_loads_a_heavy_library() -> None:
    code = (
        "import sys\nfrom survey import plugins\n"
        "for name in plugins.names('models'):\n    plugins.options('models', name)()\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'pyarrow', 'xgboost', 'lightgbm'}\n"
        "sys.stdout.write(' '.join(sorted(heavy & sys.modules.keys())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


# The example of "How to add a network"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The network that the docstring of `network.py` prints, as a plugin."""
    lines = (network.__doc__ or "").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("    import"))
    last = next(number for number, line in enumerate(lines[first:], first) if line.startswith("- "))
    shutil.copytree(plugins.FOLDER / "models", tmp_path / "models")
    (tmp_path / "models" / "printed.py").write_text(textwrap.dedent("\n".join(lines[first:last])))
    monkeypatch.setattr(plugins, "FOLDER", tmp_path)
    monkeypatch.setattr(survey.models, "__path__", [str(tmp_path / "models")])
    assert "printed" in plugins.names("models")
    assert plugins.options("models", "printed").from_dict("x", {"hidden": 64})
    yield build("printed").train()
    sys.modules.pop("survey.models.printed", None)


def test_the_printed_example_gives_the_outputs_of_its_task(example: Network) -> None:
    outputs = predict(example, objects(ROWS, PIXELS))
    assert outputs.keys() == {"logits", "mu", "log_var", "latent"}
    assert outputs["latent"].shape == (ROWS, 128)


def test_the_printed_example_learns(example: Network) -> None:
    optimiser = torch.optim.AdamW(example.parameters(), example.learning_rate)
    losses = []
    for _ in range(20):
        value = loss(example(*objects(ROWS, PIXELS)))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.5 * losses[0]
