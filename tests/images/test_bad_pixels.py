"""Damaged pixels of FITS cut-outs take no contrast from an image; sound images stay as they are."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from survey.images import decode
from survey.images.bad_pixels import without_damage
from survey.images.settings import PrepareImages, Stretch
from survey.images.stretch import prepare

SIZE = 64


def cutout(seed: int = 0, sky: float = 0.0, width: float = 1.0) -> np.ndarray:
    """A galaxy and a bright star of this width (sigma, pixels) in three colours, on a noisy sky."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    light = 4 * np.exp(-np.hypot(x, 0.6 * y) / 5) + 90 * np.exp(-((x - 14) ** 2 + y**2) / (2 * width**2))
    colours = light * np.array([0.5, 0.8, 1.0])[:, None, None] + draw.normal(sky, 0.02, (3, SIZE, SIZE))
    return np.asarray(colours, np.float32)


@pytest.mark.parametrize("sky", [0.0, 100.0])
@pytest.mark.parametrize("width", [0.65, 1.0, 3.0])
def test_a_sound_image_stays_as_it_is(sky: float, width: float) -> None:
    for seed in range(20):
        image = cutout(seed, sky, width)
        assert without_damage(image) is image
    image[:, :, :30] = 0
    assert without_damage(image) is image, "0 = nothing was observed there"


@pytest.mark.parametrize("value", [-9999, -1e30, 1e5, 1e30, 3e38])
@pytest.mark.parametrize("stretch", ["joint", "channel", "midtone"])
def test_one_bad_pixel_takes_no_contrast(value: float, stretch: Stretch) -> None:
    settings = PrepareImages(size=SIZE, stretch=stretch)
    sound = prepare(decode.from_planes(cutout(), 16, 512), settings)
    for place in ((1, 5, 7), (0, 0, 0), (2, SIZE - 1, 30), (1, 34, 32)):
        image = cutout()
        image[place] = value
        found = prepare(decode.from_planes(image, 16, 512), settings)
        elsewhere = np.ones(found.shape, bool)
        elsewhere[place] = False
        assert np.abs(found.astype(int) - sound)[elsewhere].max() <= 1
        assert found.max() == 255


def test_a_block_and_a_pair_of_bad_pixels_are_found_too() -> None:
    image = cutout()
    image[1, :8, :20] = -32768
    image[2, 40, 10:12] = 6e4
    found = without_damage(image)
    assert found[1, :8, :20].max() == found.min() > -1
    assert found[2, 40, 10:12].max() < 0.1
    assert image[2, 40, 10] == np.float32(6e4), "the pixels that were given are not changed"


@pytest.mark.parametrize("value", [1e30, -1e30, 3e38, -9999, -32768])
@pytest.mark.parametrize("place", [(2, slice(30, 33), slice(40, 43)), (0, slice(None), 10)])
def test_a_block_or_a_column_without_a_measurement_takes_no_contrast(
    value: float, place: tuple[Any, ...]
) -> None:
    image = cutout()
    image[place] = value
    found = without_damage(image)
    is_damaged = image == np.float32(value)
    assert np.array_equal(found[~is_damaged], image[~is_damaged])
    assert (found[is_damaged] == image[~is_damaged].min()).all()


@pytest.mark.parametrize("value", [-500, 5e3])
def test_half_a_column_of_any_value_is_found(value: float) -> None:
    image = cutout()
    image[1, :30, 10] = value
    found = without_damage(image)
    assert np.abs(found[1, :, 10]).max() < 1
    assert np.array_equal(np.delete(found, 10, 2), np.delete(image, 10, 2))


def test_a_dark_block_in_an_image_with_light_is_damage() -> None:
    image = cutout()
    image[2, 8:11, 8:11] = -500
    assert without_damage(image).min() > -1


@pytest.mark.parametrize("width", [0.65, 2.0, 4.0, 8.0])
def test_the_dark_objects_of_a_negative_stay(width: float) -> None:
    """A bright even sky of 16 bits; the objects cover between 0.2 % and half of the image."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + draw.random((2, 1, 1))
        light = 40_000 * np.exp(-(x**2 + y**2) / (2 * width**2)) + draw.normal(60, 15, (SIZE, SIZE))
        image = (65_535 - light.clip(0, 65_535)).round().astype(np.float32)[None]
        assert without_damage(image) is image
        if width < 5:
            damaged = image.copy()
            damaged[0, 3, 5] = 100
            found = without_damage(damaged)
            assert found[0, 3, 5] == image.min()
            found[0, 3, 5] = image[0, 3, 5]
            assert np.array_equal(found, image)


def test_an_image_without_any_measurement_stays_as_it_is() -> None:
    image = np.full((1, SIZE, SIZE), -9999, np.float32)
    assert without_damage(image) is image


def test_bad_pixels_beside_unknown_ones_are_found() -> None:
    """Where most pixels are not finite, the lowest value of the others is no bad one."""
    image = cutout()
    image[:, :40] = np.nan
    image[0, 50, 50] = -9999
    found = decode.from_planes(image, 16, 512)
    assert np.isfinite(found).all()
    assert found.min() > -1


def test_grey_of_sixteen_bits_with_a_hot_pixel_keeps_its_contrast() -> None:
    grey = (1000 + 20 * cutout()[0]).clip(0, 65535).astype(np.uint16)
    sound, hot = grey.copy(), grey.copy()
    hot[3, 5] = 65535
    planes = []
    for pixels in (sound, hot):
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        planes.append(decode.decode(sink.getvalue(), 16, 512).astype(int))
    difference = np.abs(planes[0] - planes[1])
    difference[:, 3, 5] = 0
    assert difference.max() <= 1
