"""Colour pictures of mock M stars as the SDSS image server shows them.

Each band is drawn with the pixels of the camera (0.4 arcsec): the star, its neighbours and the sky, blurred
by the seeing of the night. The three bands i, r, g become red, green and blue with an asinh stretch (Lupton
et al. 2004), on pixels of half that size. The magnitudes of the star decide its colour in the picture.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from survey.mock import image_damage
from survey.mock.population import Table, even_spread_of
from survey.mock.seeing import blurred, point_spread
from survey.mock.settings import Mock

CAMERA_PIXEL = 0.4
"""Arcsec. The picture has twice as many pixels along each side."""
BANDS = ("g", "r", "i")
NOISE = {"g": 0.022, "r": 0.030, "i": 0.045}
"""Standard deviation of the sky in a pixel, in nanomaggies (magnitude 22.5)."""
GAIN = {"g": 900.0, "r": 900.0, "i": 700.0}
"""Electrons per nanomaggie."""
BLUR = {"g": 1.07, "r": 1.0, "i": 0.95}
"""Seeing relative to that in r."""
BRIGHTNESS = {"g": 1.5, "r": 0.9, "i": 0.6}
BLACK = 0.005
SOFTENING = 20.0
NEIGHBOURS = 40.0
"""Objects brighter than magnitude 23 in i, per square arcminute: 7 on a picture of 128 pixels."""
QUALITY = 92
MARGIN = 16
"""Half pixels of the camera beyond each edge of the picture: their light is blurred into it."""
REACH = 9
"""Half pixels of the camera from the middle of a source to the edge of its light."""


def describe(settings: Mock, table: Table) -> Table:
    """Which M stars have an image and a spectrum, the path of the image, and its defect."""
    share, defective, kind = (
        even_spread_of(settings.seed, purpose, table["star_index"]) for purpose in (3, 4, 5)
    )
    names = np.array(list(image_damage.JPEG_DEFECTS))
    has_image = share >= settings.image_missing
    damaged = has_image & (defective < settings.broken)
    paths = np.array([f"images/{number}.jpg" for number in table["source_id"].tolist()])
    has_spectrum = ~has_image | (share >= settings.image_missing + settings.spectrum_missing)
    return {
        "has_spectrum": has_spectrum,
        "defect": np.where(has_spectrum, table["defect"], ""),
        "image": np.where(has_image, paths, ""),
        "image_defect": np.where(damaged, names[(kind * len(names)).astype(int)], ""),
    }


def images(settings: Mock, table: Table) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of the images; all visits of a star share one."""
    for row in np.flatnonzero((table["nth"] == 0) & (table["image"] != "")):
        star = {name: column[row].item() for name, column in table.items()}
        data = jpeg(star, settings.seed, settings.pixels)
        if star["image_defect"]:
            draw = np.random.default_rng([settings.seed, 8, star["star_index"]])
            data = image_damage.JPEG_DEFECTS[star["image_defect"]](data, draw)
        yield star["image"], data


def jpeg(star: dict[str, Any], seed: int, pixels: int) -> bytes:
    """The picture of a star with the magnitudes mag_g, mag_r and mag_i as the bytes of a JPEG file."""
    return encode(rgb(exposures(star, seed, pixels), pixels))


def encode(picture: np.ndarray) -> bytes:
    """The bytes of a JPEG file of an RGB picture."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def exposures(star: dict[str, Any], seed: int, pixels: int) -> dict[str, np.ndarray]:
    """The field of a star in each band, in nanomaggies per pixel of the camera."""
    draw = np.random.default_rng([seed, 6, star["star_index"]])
    size = -(-pixels // 2)
    scene = _scene(star, 2 * size + 2 * MARGIN, draw)
    seeing, tail = 1.25 * np.exp(draw.normal(0.0, 0.15)), draw.uniform(2.8, 4.5)
    noise, gradient = np.exp(draw.normal(0.0, 0.15)), draw.normal(0.0, 0.15, (3, 2))
    slope = np.linspace(-1.0, 1.0, size)
    fields = {}
    for number, band in enumerate(BANDS):
        width = round(float(seeing * BLUR[band]), 2)
        stamp = point_spread(width, round(float(tail), 1), CAMERA_PIXEL, CAMERA_PIXEL / 2)
        image = (
            4 * blurred(scene[number], stamp)[MARGIN : MARGIN + 2 * size : 2, MARGIN : MARGIN + 2 * size : 2]
        )
        sky = NOISE[band] * noise
        image += sky * (gradient[number, 0] * slope + gradient[number, 1] * slope[:, None])
        spread = np.sqrt(sky**2 + np.maximum(image, 0.0) / GAIN[band])
        fields[band] = image + spread * draw.standard_normal((size, size))
    return fields


def _scene(star: dict[str, Any], size: int, draw: np.random.Generator) -> np.ndarray:
    """The star and its neighbours before any blur, in nanomaggies on half pixels of the camera: [band, Y, X].

    Faint neighbours are frequent; more than half of all are galaxies.
    """
    scene = np.zeros((len(BANDS), size, size))
    middle = (size - 1) / 2 + draw.normal(0.0, 0.5, 2)
    _add(scene, middle, 0.0, [star[f"mag_{band}"] for band in BANDS])
    for _ in range(draw.poisson(NEIGHBOURS * (size * CAMERA_PIXEL / 120.0) ** 2)):
        place = draw.uniform(REACH, size - REACH - 1, 2)
        magnitude_i = max(23.0 + 2.8 * np.log10(1.0 - draw.random()), 14.5)
        is_galaxy = draw.random() < 0.6
        red = draw.normal(0.4, 0.15) if is_galaxy else draw.gamma(2.0, 0.22)
        blue = draw.normal(0.8, 0.3) if is_galaxy else min(0.35 + 1.6 * red, 1.5)
        radius = draw.uniform(1.5, 4.5) if is_galaxy else 0.0
        _add(scene, place, radius, [magnitude_i + red + blue, magnitude_i + red, magnitude_i])
    return scene


def _add(scene: np.ndarray, place: np.ndarray, radius: float, magnitudes: list[float]) -> None:
    """Add a star (radius 0: its light falls on the four nearest pixels) or a small galaxy."""
    first = np.floor(place).astype(int) - REACH
    axis = np.arange(2 * REACH + 1)
    y, x = (np.abs(axis + first[number] - place[number]) for number in range(2))
    if radius:
        light = np.exp(-1.68 * np.hypot(y[:, None], x) / radius)
        light /= light.sum()
    else:
        light = np.maximum(1 - y[:, None], 0.0) * np.maximum(1 - x, 0.0)
    for band, magnitude in zip(scene, magnitudes, strict=True):
        band[first[0] : first[0] + len(axis), first[1] : first[1] + len(axis)] += light * 10 ** (
            0.4 * (22.5 - magnitude)
        )


def rgb(fields: dict[str, np.ndarray], pixels: int) -> np.ndarray:
    """The picture [pixels, pixels, 3] of the bands: the colour stays the same up to the brightest pixel."""
    channels = np.stack([_enlarged(fields[band], pixels) * BRIGHTNESS[band] for band in reversed(BANDS)], -1)
    channels = np.maximum(channels - BLACK, 0.0)
    mean = channels.mean(-1, keepdims=True)
    stretch = np.arcsinh(SOFTENING * mean) / np.sqrt(SOFTENING)
    channels *= np.where(mean > 0, stretch / np.maximum(mean, 1e-12), 0.0)
    channels /= np.maximum(channels.max(-1, keepdims=True), 1.0)
    return np.asarray(np.round(255.0 * channels), dtype=np.uint8)


def _enlarged(field: np.ndarray, pixels: int) -> np.ndarray:
    """A field on pixels of half the size, by linear interpolation, with north up."""
    at = np.clip((np.arange(pixels) + 0.5) / 2 - 0.5, 0, len(field) - 1)
    first = np.minimum(at.astype(int), len(field) - 2)
    share = at - first
    rows = field[first] * (1 - share)[:, None] + field[first + 1] * share[:, None]
    both = rows[:, first] * (1 - share) + rows[:, first + 1] * share
    return np.asarray(both[::-1])
