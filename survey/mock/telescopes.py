"""A mock scene seen by two imaging surveys: blurred by the seeing, with noise, as FITS images of g, r and z.

DECaLS has the better seeing and less noise. BASS took g and r with larger pixels (0.454 arcsec), which are
resampled to those of DECaLS, so that the noise of neighbours is correlated; MzLS took z. Both images cover
the same field with the same number of pixels. Shapes: Y, X pixels.
"""

from typing import Any, NamedTuple

import numpy as np

from survey.mock.cards import Card, header, padded
from survey.mock.galaxy_light import BANDS, PIXEL
from survey.mock.seeing import blurred, point_spread

MARGIN = 12
"""Pixels of the scene beyond each edge of the image: their light is blurred into it."""
GAIN = 1500.0
"""Electrons per nanomaggie."""

Draw = np.random.Generator


class Telescope(NamedTuple):
    """What one survey does to the light in g, r and z.

    `seeing` is the median full width at half maximum in arcsec, `noise` the standard deviation of the sky in
    a pixel in nanomaggies, `zero` the error of the zero points in magnitudes, `colour` their change with
    g - r, `pixels` those of the camera in arcsec.
    """

    seeing: tuple[float, float, float]
    noise: tuple[float, float, float]
    zero: tuple[float, float, float]
    colour: tuple[float, float, float]
    pixels: tuple[float, float, float]
    tail: float


TELESCOPES = {
    "decals": Telescope(
        (1.29, 1.18, 1.11), (0.0070, 0.0125, 0.028), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (PIXEL,) * 3, 3.6
    ),
    "bass": Telescope(
        (1.75, 1.62, 1.15),
        (0.0105, 0.0175, 0.032),
        (0.06, -0.05, 0.04),
        (-0.06, 0.03, 0.05),
        (0.454, 0.454, PIXEL),
        2.7,
    ),
}


def expose(name: str, scene: np.ndarray, pixels: int, draw: Draw, snr: float = 1.0) -> np.ndarray:
    """The image [band, Y, X] that a survey has of a scene with margins, in nanomaggies per pixel."""
    telescope = TELESCOPES[name]
    tail = telescope.tail * draw.uniform(0.9, 1.1)
    night = np.exp(draw.normal(0.0, 0.10))
    colour = 2.5 * np.log10(max(float(scene[1].sum()), 1e-9) / max(float(scene[0].sum()), 1e-9)) - 0.6
    inner = slice(MARGIN, MARGIN + pixels)
    out = np.empty((len(BANDS), pixels, pixels), np.float32)
    for number in range(len(BANDS)):
        seeing = telescope.seeing[number] * night * np.exp(draw.normal(0.0, 0.05))
        stamp = point_spread(round(float(seeing), 2), round(float(tail), 1), telescope.pixels[number], PIXEL)
        image = blurred(scene[number], stamp)[inner, inner]
        sky = telescope.noise[number] / snr
        spread = np.sqrt(sky**2 + np.maximum(image, 0.0) / (GAIN * snr**2))
        zero = telescope.zero[number] + telescope.colour[number] * colour + draw.normal(0.0, 0.01)
        noise = _noise(pixels, telescope.pixels[number], draw)
        out[number] = 10 ** (0.4 * zero) * image + spread * noise + sky * draw.normal(0.0, 0.1)
    return out


def _noise(pixels: int, pixel: float, draw: Draw) -> np.ndarray:
    """Noise of standard deviation 1; that of larger pixels is interpolated."""
    if pixel == PIXEL:
        return draw.standard_normal((pixels, pixels), dtype=np.float32)
    scale = PIXEL / pixel
    size = int(np.ceil(pixels * scale)) + 3
    coarse = draw.standard_normal((size, size), dtype=np.float32)
    at = np.arange(pixels) * scale + draw.random()
    first = at.astype(int)
    share = (at - first).astype(np.float32)
    rows = coarse[first] * (1 - share)[:, None] + coarse[first + 1] * share[:, None]
    both = rows[:, first] * (1 - share) + rows[:, first + 1] * share
    return np.asarray(both * np.float32(1.5))


def add_neighbours(scene: np.ndarray, draw: Draw, density: float = 16.0) -> None:
    """Stars and small galaxies of the field, so many per square arcminute brighter than 23 in r."""
    size = scene.shape[1]
    for _ in range(draw.poisson(density * (size * PIXEL / 60.0) ** 2)):
        magnitude = max(23.0 + 2.9 * np.log10(1.0 - draw.random()), 16.5)
        is_galaxy = draw.random() < 0.65
        red = draw.normal(0.75, 0.35) if is_galaxy else draw.choice([0.35, 1.3]) + draw.normal(0.0, 0.15)
        colours = red, draw.normal(0.6, 0.3) if is_galaxy else 0.15 + 0.7 * red
        y, x = draw.uniform(4, size - 5, 2)
        stamp = _spot(y % 1, x % 1, draw.uniform(0.8, 2.2) if is_galaxy else 0.35, draw.uniform(0.35, 1.0))
        place = np.s_[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
        for number, offset in enumerate((-colours[0], 0.0, colours[1])):
            scene[number][place] += (
                np.float32(10 ** (0.4 * (22.5 - magnitude + offset)))
                * stamp[: scene[number][place].shape[0], : scene[number][place].shape[1]]
            )


def _spot(y: float, x: float, radius: float, axis_ratio: float) -> np.ndarray:
    axis = np.arange(-4, 5, dtype=np.float32)
    distance = np.hypot(axis[None, :] - x, (axis[:, None] - y) / (axis_ratio if radius > 0.5 else 1.0))
    light = np.exp(-1.68 * distance / radius)
    return np.asarray(light / light.sum(), dtype=np.float32)


def fits_image(image: np.ndarray, values: dict[str, Any]) -> bytes:
    """The bytes of a FITS file of three bands, with the cards that tell place and bands."""
    bands, height, width = image.shape
    rows: list[Card] = [
        ("SIMPLE", "T", "a FITS file"),
        ("BITPIX", "-32", "floating point"),
        ("NAXIS", "3", "columns, rows, bands"),
        ("NAXIS1", f"{width:20d}", "columns"),
        ("NAXIS2", f"{height:20d}", "rows"),
        ("NAXIS3", f"{bands:20d}", "bands"),
        ("BANDS", "'grz     '", "order of the bands"),
        ("BAND0", "'g       '", ""),
        ("BAND1", "'r       '", ""),
        ("BAND2", "'z       '", ""),
        ("SURVEY", f"'{values['survey']:<8}'", "a mock image, made by survey"),
        ("BUNIT", "'nanomaggy'", "flux of magnitude 22.5"),
        ("CTYPE1", "'RA---TAN'", ""),
        ("CTYPE2", "'DEC--TAN'", ""),
        ("CRVAL1", f"{values['ra']:20.8f}", "[deg]"),
        ("CRVAL2", f"{values['dec']:20.8f}", "[deg]"),
        ("CRPIX1", f"{(width + 1) / 2:20.1f}", ""),
        ("CRPIX2", f"{(height + 1) / 2:20.1f}", ""),
        ("CD1_1", f"{-PIXEL / 3600:20.12f}", "[deg]"),
        ("CD1_2", "0.0", ""),
        ("CD2_1", "0.0", ""),
        ("CD2_2", f"{PIXEL / 3600:20.12f}", "[deg]"),
    ]
    return header(rows).encode("ascii") + padded(image.astype(">f4").tobytes())
