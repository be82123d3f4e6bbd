"""The planes of cut-outs in the order of their wavelengths, as headers of cut-out services name them."""

from typing import Any

import numpy as np
import pytest

from survey.images import decode
from survey.images.planes import band_names, reddest_first
from survey.images.settings import PrepareImages
from survey.images.stretch import prepare
from survey.mock.telescopes import fits_image
from survey.sources import images
from survey.sources.reading import image

LEGACY = {"BANDS": "grz     ", "BAND0": "g", "BAND1": "r", "BAND2": "z"}


@pytest.mark.parametrize(
    ("cards", "names"),
    [
        (LEGACY, ("g", "r", "z")),
        ({"BANDS": "g,r,i,z"}, ("g", "r", "i", "z")),
        ({"BANDS": "W1 W2"}, ("W1", "W2")),
        ({"BAND1": "i", "BAND2": "r", "BAND3": "g"}, ("i", "r", "g")),
        ({"BAND0": "g"}, ("g",)),
        ({"BANDS": " ", "FILTER": "r"}, ()),
        ({"BANDS": 3}, ()),
    ],
)
def test_a_header_names_its_planes(cards: dict[str, Any], names: tuple[str, ...]) -> None:
    assert band_names(cards.get) == names


@pytest.mark.parametrize(
    ("bands", "planes", "order"),
    [
        (("g", "r", "z"), 3, [2, 1, 0]),
        (("i", "r", "g"), 3, [0, 1, 2]),
        (("G", "R", "I", "Z"), 4, [3, 2, 1, 0]),
        (("W1", "W2"), 2, [1, 0]),
        ((), 3, [0, 1, 2]),
        (("g", "r"), 3, [0, 1, 2]),
        (("g", "F606W", "z"), 3, [0, 1, 2]),
        (("g", "g", "z"), 3, [0, 1, 2]),
    ],
)
def test_planes_of_known_bands_have_an_order(bands: tuple[str, ...], planes: int, order: list[int]) -> None:
    assert reddest_first(bands, planes) == order


def red_galaxy(bands: tuple[str, ...]) -> np.ndarray:
    """A galaxy that is the brighter the redder the band is."""
    y, x = np.mgrid[:32, :32] - 16
    light = np.exp(-np.hypot(x, y) / 4)
    noise = np.random.default_rng(0).normal(0, 0.01, (len(bands), 32, 32))
    return np.stack([light * (1 + "ugrizy".index(band)) for band in bands]) + noise


@pytest.mark.parametrize("bands", [("g", "r", "z"), ("g", "r", "i", "z"), ("z", "r", "g")])
def test_a_red_galaxy_is_red(bands: tuple[str, ...]) -> None:
    """Of four bands, z, r and g are kept: those of the other cut-outs."""
    pixels = decode.from_planes(red_galaxy(bands).astype(">f4"), 16, 512, bands)
    peaks = prepare(pixels, PrepareImages(size=32))[:, 16, 16].astype(float)
    assert peaks / 255 == pytest.approx(np.array([5, 3, 2]) / 5, abs=0.02)


def test_the_bands_of_a_file_of_the_mock_survey_are_read() -> None:
    """Its planes are g, r, z, as those of the Legacy Survey."""
    values = {"survey": "decals", "ra": 10.0, "dec": 20.0}
    data = fits_image(red_galaxy(("g", "r", "z")).astype("f4"), values)
    found = image(data, "galaxy.fits", {"images": images.Options()})
    red, _, blue = found.pixels[:, 16, 16].tolist()
    assert red / blue == pytest.approx(5 / 2, abs=0.1)


def test_planes_of_unknown_bands_keep_their_order() -> None:
    pixels = decode.from_planes(red_galaxy(("g", "r", "z")), 16, 512)
    red, _, blue = prepare(pixels, PrepareImages(size=32))[:, 16, 16].tolist()
    assert red < blue
