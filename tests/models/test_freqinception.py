"""FreqInceptionLNet: the parameters of the original, its Fourier transform, and its inputs."""

import numpy as np
import pytest
import torch

from survey.models.freqinception import Net, Options, fourier
from survey.models.settings import Task
from tests.models.batches import count_parameters

FOUR = Task("reg", ("Teff", "logg", "FeH", "CFe"))


@pytest.mark.parametrize("pixels", [256, 2000, 4700])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_it_has_the_parameters_of_the_original_at_any_length(pixels: int, norm: str) -> None:
    net = Net(pixels, FOUR, Options.from_dict("freqinception", {"norm": norm}))
    assert count_parameters(net) == 3_748_372


@pytest.mark.parametrize("pixels", [300, 301])
def test_the_fourier_transform_is_that_of_numpy(pixels: int) -> None:
    curve = np.random.default_rng(0).normal(size=(2, pixels))
    expected = np.fft.rfft(curve, norm="ortho")
    output = fourier(torch.from_numpy(curve))
    assert output.shape == (2, 2, pixels // 2 + 1)
    np.testing.assert_allclose(output.numpy(), np.stack([expected.real, expected.imag], 1), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_loses_precision(dtype: torch.dtype) -> None:
    """The sum of 3,000 values of 100 is beyond float16, before it is divided by the root of their number."""
    curve = torch.full((1, 3000), 100.0, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        output = fourier(curve)
    assert output.dtype == torch.float32
    assert output[0, 0, 0].item() == pytest.approx(100 * 3000**0.5)


def test_the_continuum_goes_to_the_frequencies_and_the_flux_to_the_shapes() -> None:
    torch.manual_seed(0)
    net = Net(300, FOUR, Options()).eval()
    flux, other = 1 + 0.1 * torch.randn(2, 1, 300)
    inputs: dict[str, torch.Tensor] = {}
    for name in ("frequencies", "shapes"):
        getattr(net, name).register_forward_hook(
            lambda _module, arguments, _output, name=name: inputs.update({name: arguments[0]})
        )
    net(flux, torch.ones_like(flux), other)
    assert torch.equal(inputs["frequencies"], other - 1)
    assert torch.equal(inputs["shapes"], flux[:, None] - 1)


def test_it_needs_continua_unless_it_takes_the_frequencies_of_the_flux() -> None:
    flux = 1 + 0.1 * torch.randn(2, 300)
    with pytest.raises(ValueError, match="freqinception needs continua"):
        Net(300, FOUR, Options())(flux, torch.ones_like(flux))
    net = Net(300, FOUR, Options(frequency_of="flux")).eval()
    assert net.extra_inputs == ()
    assert Net.extra_inputs == ("continuum",)
    outputs = [net(flux, torch.ones_like(flux), continuum)["mu"] for continuum in (None, 5 * flux)]
    assert torch.equal(*outputs)


def test_the_edge_of_a_flat_spectrum_is_no_feature() -> None:
    outputs: list[torch.Tensor] = []
    net = Net(256, FOUR, Options())
    for branch in range(3):
        net.get_submodule(f"shapes.0.0.branches.{branch}.0").register_forward_hook(
            lambda _layer, _inputs, output: outputs.append(output)
        )
    flux = torch.ones(1, 256)
    net.eval()(flux, flux, flux)
    assert len(outputs) == 3
    for output in outputs:
        torch.testing.assert_close(output, output[:, :, :1].expand_as(output))


def test_too_few_pixels_are_an_error_that_gives_the_least() -> None:
    with pytest.raises(ValueError, match="freqinception: spectra have 7 pixels, it needs at least 8; take"):
        Net(7, FOUR, Options())
