"""The position of a FITS image: astropy reads the same from its header."""

import io
import math
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from survey.images.position import position
from survey.sources import fits as own_fits
from survey.sources import images

SHAPE = (64, 101)
TANGENT = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 359.99,
    "CRVAL2": -41.5,
    "CRPIX1": 300.0,
    "CRPIX2": -120.5,
}
SCALES = {"CDELT1": -7e-5, "CDELT2": 7e-5}
CASES: dict[str, dict[str, Any]] = {
    "matrix": {"CD1_1": -7e-5, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 7e-5},
    "only a diagonal": {"CD1_1": -7e-5, "CD2_2": 7e-5},
    "scales": SCALES,
    "scales and an angle": SCALES | {"CROTA2": 33.0},
    "scales and a rotation": SCALES | {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
    "scales and a part of a rotation": SCALES | {"PC1_2": -0.2, "PC2_1": 0.2},
    "stereographic": SCALES | {"CTYPE1": "RA---STG", "CTYPE2": "DEC--STG"},
}


@pytest.mark.parametrize("name", CASES)
def test_the_middle_of_an_image_is_where_astropy_sees_it(name: str) -> None:
    cards = TANGENT | CASES[name]
    height, width = SHAPE
    expected = WCS(fits.Header(cards)).wcs_pix2world((width - 1) / 2, (height - 1) / 2, 0)
    found = position(cards.get, *SHAPE)
    assert [found["ra"], found["dec"]] == pytest.approx([float(value) for value in expected], abs=1e-9)


@pytest.mark.parametrize(
    ("ra", "dec"), [("10:13:34.7", "-02 07 57.9"), ("10h13m34.7s", "-00:07:57.9"), ("00 00 01", "+89 59 59")]
)
def test_sexagesimal_cards_are_hours_and_degrees(ra: str, dec: str) -> None:
    expected = SkyCoord(ra, dec, unit=("hourangle", "deg"))
    found = position({"RA": ra, "DEC": dec}.get, *SHAPE)
    assert [found["ra"], found["dec"]] == pytest.approx([expected.ra.deg, expected.dec.deg], abs=1e-9)


def test_decimal_text_is_degrees() -> None:
    assert position({"RA": " 153.5", "DEC": "-2.25 "}.get, *SHAPE) == {"ra": 153.5, "dec": -2.25}
    assert position({"RA": "153", "DEC": -2.25}.get, *SHAPE) == {"ra": 153.0, "dec": -2.25}


@pytest.mark.parametrize("text", ["", "  ", "unknown", "nan", "10 99 00"])
@pytest.mark.parametrize("card", ["RA", "DEC"])
def test_cards_that_say_nothing_leave_the_position_to_the_world_coordinates(card: str, text: str) -> None:
    expected = position((TANGENT | SCALES).get, *SHAPE)
    cards = {"RA": 10.0, "DEC": 10.0} | TANGENT | SCALES | {card: text}
    assert expected
    assert position(cards.get, *SHAPE) == expected


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"RA": "unknown", "DEC": "-02 07 57.9"},
        {"RA": "10 99 00", "DEC": "-02 07 57.9"},
        TANGENT,
        TANGENT | SCALES | {"CRVAL1": "north"},
        TANGENT | SCALES | {"CRPIX1": math.nan},
        TANGENT | {"CD1_1": 0.0, "CD2_2": 0.0},
        TANGENT | SCALES | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        TANGENT | SCALES | {"CTYPE1": "RA---QQQ", "CTYPE2": "DEC--QQQ"},
        TANGENT | SCALES | {"RADESYS": "FK4", "EQUINOX": 1950.0},
    ],
)
def test_a_header_that_says_no_position_of_j2000_gives_none(cards: dict[str, Any]) -> None:
    assert position(cards.get, *SHAPE) == {}


def test_the_object_of_a_cut_out_is_in_its_middle() -> None:
    """Cut-out services give world coordinates and neither RA nor DEC."""
    hdu = fits.PrimaryHDU(np.ones((3, *SHAPE), np.float32), fits.Header(TANGENT | SCALES))
    sink = io.BytesIO()
    hdu.writeto(sink)
    options = images.Options(smallest=16, largest=512)
    (image,) = images.read(own_fits.parse(sink.getvalue()), "galaxy.fits", options) or []
    assert {name: image.visit[name] for name in ("ra", "dec")} == position(hdu.header.get, *SHAPE)
