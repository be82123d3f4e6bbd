"""The network of spectra and images: its contrastive loss, and objects that lack one of both."""

import numpy as np
import pytest
import torch
from torch import Tensor

from survey.models.fusion import Net, Options
from survey.models.settings import Task
from survey.models.views import compare

PIXELS, SIDE = 128, 16


def network(**options: object) -> Net:
    torch.manual_seed(1)
    small = {"width": 16, "layers": 1, "heads": 2, "spectrum_tokens": 4, "channels": [8, 16]}
    task = Task("cls", (), 5)
    return Net(PIXELS, task, Options.from_dict("options", small | options), (3, SIDE, SIDE)).eval()


def objects(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flux, ivar and images that differ from object to object."""
    generator = torch.Generator().manual_seed(2)
    flux_BP = 1 + 0.3 * torch.randn((count, PIXELS), generator=generator)
    image_BCHW = torch.rand((count, 3, SIDE, SIDE), generator=generator)
    return flux_BP, torch.full_like(flux_BP, 100.0), image_BCHW


def log_softmax(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - np.log(np.exp(values).sum(1, keepdims=True)))


def test_the_contrastive_loss_is_the_mean_of_two_cross_entropies() -> None:
    """Which image belongs to a spectrum, and which spectrum to an image; cosines over a temperature."""
    net = network(temperature=0.1, contrastive=0.3)
    flux_BP, ivar_BP, image_BCHW = objects(6)
    with torch.no_grad():
        outputs = net.compute_with_image(flux_BP, ivar_BP, None, image_BCHW)
        assert net.spectrum is not None
        assert net.matching is not None
        pooled = (net.spectrum(flux_BP, ivar_BP).mean(1), net._image_tokens(image_BCHW).mean(1))
        one, other = (layer(part).numpy() for layer, part in zip(net.matching, pooled, strict=True))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosine_NN = one @ other.T / 0.1
    expected_N = -(np.diag(log_softmax(cosine_NN)) + np.diag(log_softmax(cosine_NN.T))) / 2
    assert outputs["terms"][:, 0].numpy() == pytest.approx(expected_N, rel=1e-4)
    assert outputs["own_loss"][:, 0].numpy() == pytest.approx(0.3 * expected_N, rel=1e-4)


def test_losses_that_compare_rows_are_the_same_in_half_precision() -> None:
    net, generator = network(), torch.Generator().manual_seed(4)
    first_BTD, other_BTD = torch.randn((2, 6, 4, 16), generator=generator)
    both_B = torch.ones(6, dtype=torch.bool)
    with torch.no_grad():
        expected_B = net._contrastive(first_BTD, other_BTD, both_B)
        expected_3 = compare(first_BTD[:, 0], other_BTD[:, 0])
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(net._contrastive(first_BTD, other_BTD, both_B), expected_B)
            assert torch.equal(compare(first_BTD[:, 0], other_BTD[:, 0]), expected_3)


def test_an_object_alone_or_without_one_input_has_no_contrastive_loss() -> None:
    net = network()
    flux_BP, ivar_BP, image_BCHW = objects(4)
    ivar_BP[1], image_BCHW[2] = 0, 0
    with torch.no_grad():
        alone = net.compute_with_image(flux_BP[:1], ivar_BP[:1], None, image_BCHW[:1])
        outputs = net.compute_with_image(flux_BP, ivar_BP, None, image_BCHW)
    assert alone["own_loss"].tolist() == [[0.0]]
    has_loss_B = outputs["own_loss"][:, 0] != 0
    assert has_loss_B.tolist() == [True, False, False, True]


@pytest.mark.parametrize("missing", ["spectrum", "image"])
def test_an_input_that_is_missing_changes_no_output(missing: str) -> None:
    """Whatever stands in place of a missing spectrum, and whatever pictures the other objects have."""
    net = network()
    flux_BP, ivar_BP, image_BCHW = objects(3)
    if missing == "spectrum":
        ivar_BP[0] = 0
        others = [(torch.full_like(flux_BP[0], 7.0), image_BCHW[0]), (flux_BP[1], image_BCHW[0])]
    else:
        image_BCHW[0] = 0
        others = [(flux_BP[0], image_BCHW[0])]
    with torch.no_grad():
        before = net.compute_with_image(flux_BP, ivar_BP, None, image_BCHW)["logits"][0]
        for flux_P, image_CHW in others:
            flux_BP[0], image_BCHW[0] = flux_P, image_CHW
            image_BCHW[1:] = torch.rand_like(image_BCHW[1:])
            after = net.compute_with_image(flux_BP, ivar_BP, None, image_BCHW)["logits"][0]
            torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("use", "inputs"), [("both", ("spectrum", "image")), ("spectrum", ("spectrum",)), ("image", ("image",))]
)
def test_the_inputs_that_it_answers_from_are_those_that_it_looks_at(
    use: str, inputs: tuple[str, ...]
) -> None:
    assert network(use=use).answers_from == inputs
