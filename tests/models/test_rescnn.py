"""SpectralResCNN: the parameters of the originals, and what was mended."""

import pytest
import torch

from survey.models.network import Dropout, Task
from survey.models.rescnn import VERSIONS, Net, Options

ONE = Task("reg", ("MgFe",))


@pytest.mark.parametrize("pixels", [256, 601, 3921])
@pytest.mark.parametrize(("version", "parameters"), [("first", 1_277_825), ("second", 314_273)])
def test_it_has_the_parameters_of_the_original_at_any_length(
    version: str, parameters: int, pixels: int
) -> None:
    net = Net(pixels, ONE, Options.checked("rescnn", {"version": version}))
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("version", VERSIONS)
def test_the_edge_of_a_featureless_spectrum_is_no_feature(version: str) -> None:
    net, seen = Net(256, ONE, Options.checked("rescnn", {"version": version})), []
    net.stem[0].register_forward_hook(lambda _layer, _given, made: seen.append(made))
    flux = torch.ones(1, 256)
    net.eval()(flux, flux)
    torch.testing.assert_close(seen[0], seen[0][:, :, :1].expand_as(seen[0]))


def test_dropout_is_that_of_the_version_unless_it_is_given() -> None:
    def shares(**options: float | str) -> set[float]:
        return {
            layer.p
            for layer in Net(256, ONE, Options.checked("rescnn", options)).modules()
            if isinstance(layer, Dropout)
        }

    assert shares() == {0.2, 0.5}
    assert shares(version="second") == {0.1, 0.2}
    assert shares(dropout=0.7, dropout_body=0.0) == {0.7, 0.0}


def test_the_second_version_starts_with_the_spread_that_leaky_layers_need() -> None:
    torch.manual_seed(0)
    started = Net(256, ONE, Options(version="second")).state_dict()
    assert started["heads.perceptron.0.weight"].std().item() == pytest.approx(
        (2 / (1 + 0.1**2) / 128) ** 0.5, rel=0.02
    )
    assert not started["heads.perceptron.0.bias"].any()


@pytest.mark.parametrize(("version", "fewest"), [("first", 64), ("second", 8)])
def test_too_few_pixels_are_an_error_that_names_how_many_it_takes(version: str, fewest: int) -> None:
    options = Options.checked("rescnn", {"version": version})
    with pytest.raises(
        ValueError, match=f"rescnn: spectra of {fewest - 1} pixels; it needs at least {fewest}; take"
    ):
        Net(fewest - 1, ONE, options)
    flux = torch.ones(2, fewest)
    assert Net(fewest, ONE, options)(flux, flux)["mu"].shape == (2, 1)
