"""SpectralResCNN: the parameters of the originals, and the differences from them."""

import pytest
import torch

from survey.models.network import FeatureDropout
from survey.models.rescnn import VERSIONS, Net, Options
from survey.models.settings import Task
from tests.models.batches import count_parameters

ONE = Task("reg", ("MgFe",))


@pytest.mark.parametrize("pixels", [256, 601, 3921])
@pytest.mark.parametrize(("version", "parameters"), [("first", 1_277_825), ("second", 314_273)])
def test_it_has_the_parameters_of_the_original_at_any_length(
    version: str, parameters: int, pixels: int
) -> None:
    net = Net(pixels, ONE, Options.from_dict("rescnn", {"version": version}))
    assert count_parameters(net) == parameters


@pytest.mark.parametrize("version", VERSIONS)
def test_the_edge_of_a_flat_spectrum_is_no_feature(version: str) -> None:
    net, outputs = Net(256, ONE, Options.from_dict("rescnn", {"version": version})), []
    net.stem[0].register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    flux = torch.ones(1, 256)
    net.eval()(flux, flux)
    torch.testing.assert_close(outputs[0], outputs[0][:, :, :1].expand_as(outputs[0]))


def dropouts(**options: float | str) -> set[float]:
    net = Net(256, ONE, Options.from_dict("rescnn", options))
    return {layer.p for layer in net.modules() if isinstance(layer, FeatureDropout)}


def test_dropout_is_that_of_the_version_unless_it_is_given() -> None:
    assert dropouts() == {0.2, 0.5}
    assert dropouts(version="second") == {0.1, 0.2}
    assert dropouts(dropout=0.7, dropout_body=0.0) == {0.7, 0.0}


def test_the_second_version_starts_with_the_weights_that_leaky_layers_need() -> None:
    torch.manual_seed(0)
    state = Net(256, ONE, Options(version="second")).state_dict()
    expected = (2 / (1 + 0.1**2) / 128) ** 0.5
    assert state["heads.perceptron.0.weight"].std().item() == pytest.approx(expected, rel=0.02)
    assert not state["heads.perceptron.0.bias"].any()


@pytest.mark.parametrize(("version", "least"), [("first", 64), ("second", 8)])
def test_too_few_pixels_are_an_error_that_gives_the_least(version: str, least: int) -> None:
    options = Options.from_dict("rescnn", {"version": version})
    message = f"rescnn: spectra have {least - 1} pixels, it needs at least {least}; take"
    with pytest.raises(ValueError, match=message):
        Net(least - 1, ONE, options)
    flux = torch.ones(2, least)
    assert Net(least, ONE, options)(flux, flux)["mu"].shape == (2, 1)
