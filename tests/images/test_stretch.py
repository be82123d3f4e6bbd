"""Images of one size and one range, against what the settings say."""

import numpy as np
import pytest
import torch

from survey.images.settings import ImageFiles, PrepareImages
from survey.images.similarity import ssim
from survey.images.stretch import prepare, stretch
from survey.spectrum import Refused


def light(seed: int = 0, size: int = 96) -> np.ndarray:
    """A round source on a noisy sky, as a telescope counts it."""
    rng, place = np.random.default_rng(seed), np.arange(size) - size / 2
    source = 4000 * np.exp(-np.hypot(place[:, None], place) / 5)
    return (np.stack([source, 0.7 * source, 0.4 * source]) + rng.normal(100, 5, (3, size, size))).astype("f4")


def test_a_picture_stays_as_it_is_but_for_its_size() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    assert np.array_equal(prepare(pixels, PrepareImages(size=64)), pixels)
    means = pixels.reshape(3, 32, 2, 32, 2).astype(float).mean((2, 4))
    assert np.abs(prepare(pixels, PrepareImages(size=32)).astype(float) - means).max() <= 0.5


def test_the_middle_is_cropped() -> None:
    pixels = np.zeros((3, 60, 100), np.uint8)
    pixels[:, 15:45, 35:65] = 200
    pixels[0, 30, 50] = 100
    middle = prepare(pixels, PrepareImages(size=30, crop=0.5))
    assert middle.shape == (3, 30, 30)
    assert middle[1].min() == 200


def test_colours_are_kept_repeated_or_averaged() -> None:
    pixels = light()
    assert prepare(pixels, PrepareImages(size=32, channels=1)).shape == (1, 32, 32)
    grey = prepare(pixels[:1], PrepareImages(size=32))
    assert np.array_equal(grey[0], grey[2])
    assert prepare(np.concatenate([pixels, pixels]), PrepareImages(size=32)).shape == (3, 32, 32)


def test_stretches_have_their_ranges() -> None:
    image = light()
    by_channel, joint, midtone = (stretch(image, method) for method in ("channel", "joint", "midtone"))
    assert all((plane.min(), plane.max()) == (0, 1) for plane in by_channel)
    assert (joint.min(), joint.max()) == (0, 1)
    assert joint[2].max() < 0.6, "the colours keep their ratios"
    assert np.median(midtone) == pytest.approx(1 / 8, abs=0.01)
    assert midtone.min() == 0
    assert midtone.max() == pytest.approx(1)
    order = np.argsort(image.ravel())
    assert (np.diff(midtone.ravel()[order]) >= -1e-6).all(), "a stretch changes no order"


@pytest.mark.parametrize("empty", [0.0, -50.0])
def test_the_midtone_of_an_image_that_is_half_empty_is_that_of_its_other_half(empty: float) -> None:
    image = light()
    image[:, :, :60] = empty
    midtone = stretch(image, "midtone")
    assert np.median(midtone[:, :, 60:]) == pytest.approx(1 / 8, abs=0.01)
    assert midtone[:, :, :60].max() == 0
    assert midtone.max() == pytest.approx(1)
    resized = prepare(image, PrepareImages(size=70, stretch="midtone"))
    assert np.median(resized[:, :, 46:]) == pytest.approx(255 / 8, abs=4)


def test_the_midtone_of_two_values_keeps_both() -> None:
    image = np.zeros((1, 32, 32), np.float32)
    image[:, 4:9] = 3
    assert np.unique(stretch(image, "midtone")).tolist() == [0, 1]


def test_an_image_without_contrast_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        prepare(np.full((3, 40, 40), 7, np.uint8), PrepareImages(size=32))
    assert caught.value.reason == "blank_image"


def test_a_pattern_of_names_is_checked() -> None:
    assert ImageFiles(name=r"(?P<star>\w+)\.jpg").name
    with pytest.raises(ValueError, match="is no regular expression"):
        ImageFiles(name="(")
    with pytest.raises(ValueError, match="has the group mag; give ra, dec, star or visit"):
        ImageFiles(name="(?P<mag>.)")


def test_similarity_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(2)
    first = rng.random((2, 3, 24, 24))
    second = np.clip(first + rng.normal(0, 0.1, first.shape), 0, 1)
    offset = np.arange(11) - 5
    line = np.exp(-(offset**2) / (2 * 1.5**2))
    kernel = np.outer(line, line) / line.sum() ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(values, (11, 11))
        return np.asarray((windows * kernel).sum((-2, -1)))

    likeness = []
    for a, b in zip(first, second, strict=True):
        mean_a, mean_b = (np.stack([mean(plane) for plane in each]) for each in (a, b))
        var_a, var_b, both = (
            np.stack([mean(plane) for plane in each]) - product
            for each, product in ((a * a, mean_a**2), (b * b, mean_b**2), (a * b, mean_a * mean_b))
        )
        top = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
        likeness.append((top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))).mean())
    found = ssim(torch.from_numpy(first), torch.from_numpy(second))
    assert found.numpy() == pytest.approx(np.array(likeness), abs=1e-9)
    assert ssim(torch.from_numpy(first), torch.from_numpy(first)).numpy() == pytest.approx(1)


def test_similarity_is_as_exact_in_an_autocast() -> None:
    """Computed in bfloat16, these two smooth galaxies were more alike than equal ones: 1.094 for 0.996."""
    axis = torch.arange(64.0) - 32
    first_BCHW, second_BCHW = (
        0.9 * torch.exp(-((axis[:, None] - shift) ** 2 + axis**2) / (2 * 15**2)).expand(1, 3, 64, 64)
        for shift in (0, 1)
    )
    exact_B = ssim(first_BCHW, second_BCHW)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ssim(first_BCHW, second_BCHW), exact_B)
    assert float(exact_B) == pytest.approx(0.9957, abs=1e-4)
    half_B = ssim(first_BCHW.bfloat16(), second_BCHW.bfloat16())
    assert half_B.dtype == torch.float32
    assert float(half_B) == pytest.approx(float(exact_B), abs=0.02)
