"""FreqInceptionLNet: the parameters of the original, its Fourier transform, and what it looks at."""

import numpy as np
import pytest
import torch

from survey.models.freqinception import Net, Options, parts
from survey.models.network import Task

FOUR = Task("reg", ("Teff", "logg", "FeH", "CFe"))


@pytest.mark.parametrize("pixels", [256, 2000, 4700])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_it_has_the_parameters_of_the_original_at_any_length(pixels: int, norm: str) -> None:
    net = Net(pixels, FOUR, Options.checked("freqinception", {"norm": norm}))
    assert sum(p.numel() for p in net.parameters()) == 3_748_372


@pytest.mark.parametrize("pixels", [300, 301])
def test_the_frequencies_are_those_of_numpy(pixels: int) -> None:
    curve = np.random.default_rng(0).normal(size=(2, pixels))
    wanted = np.fft.rfft(curve, norm="ortho")
    found = parts(torch.from_numpy(curve))
    assert found.shape == (2, 2, pixels // 2 + 1)
    np.testing.assert_allclose(found.numpy(), np.stack([wanted.real, wanted.imag], 1), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_coarsens_the_frequencies(dtype: torch.dtype) -> None:
    """A sum of 3,000 values of 100 is beyond float16 before it is divided by the root of their number."""
    curve = torch.full((1, 3000), 100.0, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = parts(curve)
    assert found.dtype == torch.float32
    assert found[0, 0, 0].item() == pytest.approx(100 * 3000**0.5)


def test_the_continuum_goes_to_the_frequencies_and_the_flux_to_the_shapes() -> None:
    torch.manual_seed(0)
    net = Net(300, FOUR, Options()).eval()
    flux, other = 1 + 0.1 * torch.randn(2, 1, 300)
    seen: dict[str, torch.Tensor] = {}
    for name in ("frequencies", "shapes"):
        getattr(net, name).register_forward_hook(
            lambda _module, given, _made, name=name: seen.update({name: given[0]})
        )
    net(flux, torch.ones_like(flux), other)
    assert torch.equal(seen["frequencies"], other - 1)
    assert torch.equal(seen["shapes"], flux[:, None] - 1)


def test_without_continua_it_says_so_unless_it_takes_the_frequencies_of_the_flux() -> None:
    flux = 1 + 0.1 * torch.randn(2, 300)
    with pytest.raises(ValueError, match="freqinception needs continua"):
        Net(300, FOUR, Options())(flux, torch.ones_like(flux))
    net = Net(300, FOUR, Options(frequency_of="flux")).eval()
    assert (net.inputs, Net.inputs) == ((), ("continuum",))
    given = [net(flux, torch.ones_like(flux), continuum)["mu"] for continuum in (None, 5 * flux)]
    assert torch.equal(*given)


def test_the_edge_of_a_featureless_spectrum_is_no_feature() -> None:
    seen: list[torch.Tensor] = []
    net = Net(256, FOUR, Options())
    for side in range(3):
        net.get_submodule(f"shapes.0.0.sides.{side}.0").register_forward_hook(
            lambda _layer, _given, made: seen.append(made)
        )
    flux = torch.ones(1, 256)
    net.eval()(flux, flux, flux)
    assert len(seen) == 3
    for made in seen:
        torch.testing.assert_close(made, made[:, :, :1].expand_as(made))


def test_too_few_pixels_are_an_error_that_names_how_many_it_takes() -> None:
    with pytest.raises(ValueError, match="freqinception: spectra of 7 pixels; it needs at least 8; take"):
        Net(7, FOUR, Options())
