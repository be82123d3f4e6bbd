"""The light of a mock galaxy in g, r and z, before the air and the telescope blur it.

A galaxy is a sum of parts: bulge, disc, arms, bar, companion, tidal tails. Each part is an image with a total
of 1, a share of the light in r, and two colours. Distances are in arcsec. Shapes: Y, X pixels.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import gamma, k1

PIXEL = 0.262
"""Arcsec in a pixel of the images."""
BANDS = ("g", "r", "z")
DUST = {"g": 1.25, "r": 1.0, "z": 0.6}
"""Optical depth of dust, relative to r."""
RED, BLUE = (0.85, 0.70), (0.38, 0.28)
"""g - r and r - z of old and of young stars."""

Draw = np.random.Generator
Galaxy = dict[str, Any]


class GalaxyPart(NamedTuple):
    """One part of a galaxy: its image with a total of 1, its share of the light in r, g - r and r - z."""

    image_YX: np.ndarray
    share: float
    colours: tuple[float, float]


class Coordinates(NamedTuple):
    """The coordinates of pixels, in arcsec along and across an axis, and the distance from the centre."""

    along: np.ndarray
    across: np.ndarray
    distance: np.ndarray


@cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(PIXEL)
    return axis[None, :], axis[:, None]


def plane(size: int, centre: tuple[float, float], angle: float, axis_ratio: float) -> Coordinates:
    """The pixels as seen from a centre: rotated by the angle in degrees, stretched across the axis."""
    x, y = _grid(size)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(np.radians(angle))), np.float32(np.sin(np.radians(angle)))
    along = x * cosine + y * sine
    across = (y * cosine - x * sine) / np.float32(axis_ratio)
    return Coordinates(along, across, np.sqrt(along**2 + across**2 + np.float32((0.3 * PIXEL) ** 2)))


def sersic(at: Coordinates, radius: float, index: float, axis_ratio: float) -> np.ndarray:
    """A Sersic profile of this half-light radius with a total of 1; light outside the image is lost."""
    b = 2 * index - 1 / 3 + 0.009876 / index
    total = 2 * np.pi * index * axis_ratio * radius**2 * np.exp(b) * b ** (-2 * index) * gamma(2 * index)
    profile = np.exp(-b * ((at.distance / np.float32(radius)) ** np.float32(1 / index) - 1))
    return np.asarray(profile * np.float32(PIXEL**2 / total))


def one(image_YX: np.ndarray) -> np.ndarray:
    """The image with a total of 1."""
    return np.asarray(image_YX / max(float(image_YX.sum()), 1e-30))


def mixed(share: float) -> tuple[float, float]:
    """The colours of a mixture: 0 = old stars, 1 = young ones."""
    return RED[0] + share * (BLUE[0] - RED[0]), RED[1] + share * (BLUE[1] - RED[1])


def scene(galaxy: Galaxy, size: int, draw: Draw) -> np.ndarray:
    """A galaxy in nanomaggies per pixel: [band, Y, X]."""
    parts = list(PARTS[galaxy["class"]](galaxy, size, draw))
    flux = 10 ** (0.4 * (22.5 - galaxy["mag_r"]))
    bands = np.zeros((len(BANDS), size, size), np.float32)
    for part in parts:
        by_band = (10 ** (-0.4 * part.colours[0]), 1.0, 10 ** (0.4 * part.colours[1]))
        for number, factor in enumerate(by_band):
            bands[number] += np.float32(flux * part.share * factor) * part.image_YX
    if galaxy["dust"] > 0:
        depth_YX = _dust(galaxy, size)
        for number, band in enumerate(BANDS):
            bands[number] *= np.exp(-DUST[band] * depth_YX)
    return bands


def _centre(galaxy: Galaxy) -> tuple[float, float]:
    return galaxy["x"], galaxy["y"]


def _smooth(galaxy: Galaxy, size: int, draw: Draw) -> Iterator[GalaxyPart]:
    """An elliptical galaxy or another without features."""
    at = plane(size, _centre(galaxy), galaxy["angle"], galaxy["axis_ratio"])
    light = sersic(at, galaxy["radius"], galaxy["sersic"], galaxy["axis_ratio"])
    yield GalaxyPart(light, 1.0, mixed(galaxy["young"]))


def _edge_on(galaxy: Galaxy, size: int, draw: Draw) -> Iterator[GalaxyPart]:
    """A disc seen from its side (van der Kruit and Searle 1981), with a bulge."""
    at = plane(size, _centre(galaxy), galaxy["angle"], 1.0)
    length = galaxy["radius"] / 1.2
    along = np.sqrt(at.along**2 + np.float32(PIXEL**2)) / np.float32(length)
    height = np.float32(max(galaxy["axis_ratio"] * length, 0.25))
    disc = along * k1(along) / np.cosh(np.clip(at.across / height, -30, 30)) ** 2
    yield GalaxyPart(one(disc), 1 - galaxy["bulge"], mixed(galaxy["young"]))
    yield from _bulge(galaxy, size, 0.75)


def _bulge(galaxy: Galaxy, size: int, axis_ratio: float) -> Iterator[GalaxyPart]:
    if galaxy["bulge"] > 0:
        at = plane(size, _centre(galaxy), galaxy["angle"], axis_ratio)
        radius = max(0.32 * galaxy["radius"], 0.3)
        yield GalaxyPart(sersic(at, radius, 2.0, axis_ratio), galaxy["bulge"], RED)


def _disc(galaxy: Galaxy, size: int, draw: Draw) -> Iterator[GalaxyPart]:
    """A disc with a bulge, and with arms and a bar if the galaxy has them."""
    at = plane(size, _centre(galaxy), galaxy["angle"], galaxy["axis_ratio"])
    length = np.float32(galaxy["radius"] / 1.68)
    disc = np.exp(-at.distance / length)
    young = galaxy["arms"] * (1 - galaxy["bulge"] - galaxy["bar"])
    old = 1 - galaxy["bulge"] - galaxy["bar"] - young
    yield GalaxyPart(one(disc), old, mixed(0.6 * galaxy["young"]))
    yield from _bulge(galaxy, size, (1 + galaxy["axis_ratio"]) / 2)
    if galaxy["arms"] > 0:
        yield GalaxyPart(one(disc * _arms(galaxy, at, length, draw)), young, mixed(galaxy["young"]))
    if galaxy["bar"] > 0:
        yield GalaxyPart(one(_bar(galaxy, at)), galaxy["bar"], mixed(0.2))


def _arms(galaxy: Galaxy, at: Coordinates, length: np.float32, draw: Draw) -> np.ndarray:
    """How much of the disc's light is in logarithmic spiral arms, with knots of young stars."""
    angle = np.arctan2(at.across, at.along)
    start = galaxy["bar_length"] if galaxy["bar"] > 0 else 0.5 * float(length)
    winding = np.log(np.maximum(at.distance, 0.1 * start) / start) / np.tan(np.radians(galaxy["pitch"]))
    phase = galaxy["arm_count"] * (angle - galaxy["turn"] * winding - np.radians(galaxy["bar_angle"]))
    ridge = np.exp(5.0 * (np.cos(phase) - 1))
    inner = 1 / (1 + np.exp(-np.clip((at.distance - np.float32(0.9 * start)) / (0.12 * start), -30, 30)))
    outer = np.exp(0.45 * np.minimum(at.distance / length, 3.0))
    white = draw.standard_normal(at.distance.shape, dtype=np.float32)
    knots = gaussian_filter(white, 1.6) * np.float32(1.6 * 2 * np.sqrt(np.pi))
    return np.asarray(ridge * inner * outer * np.exp(0.55 * knots))


def _bar(galaxy: Galaxy, at: Coordinates) -> np.ndarray:
    """A bar with flat ends, in the plane of the disc."""
    turned = np.radians(galaxy["bar_angle"])
    along = at.along * np.cos(turned) + at.across * np.sin(turned)
    across = at.across * np.cos(turned) - at.along * np.sin(turned)
    half, width = galaxy["bar_length"], 0.27 * galaxy["bar_length"]
    return np.asarray(np.exp(-(np.abs(along / half) ** 3) - np.abs(across / width) ** 1.6))


def _merger(galaxy: Galaxy, size: int, draw: Draw) -> Iterator[GalaxyPart]:
    """Two galaxies close together, with tidal tails."""
    ratio = galaxy["companion"]
    main = galaxy | {"x": galaxy["x"] - 0.4 * galaxy["apart_x"], "y": galaxy["y"] - 0.4 * galaxy["apart_y"]}
    other = galaxy | {
        "x": galaxy["x"] + 0.6 * galaxy["apart_x"],
        "y": galaxy["y"] + 0.6 * galaxy["apart_y"],
        "angle": galaxy["angle"] + draw.uniform(40, 140),
        "axis_ratio": draw.uniform(0.45, 0.95),
        "radius": galaxy["radius"] * ratio**0.4 * 0.8,
        "young": draw.random(),
    }
    tails = draw.uniform(0.10, 0.25)
    for member, share in ((main, 1 / (1 + ratio)), (other, ratio / (1 + ratio))):
        kind = _disc if member["arms"] > 0 else _smooth
        for part in kind(member, size, draw):
            yield part._replace(share=part.share * share * (1 - tails))
        yield GalaxyPart(_tail(member, size, draw), share * tails, mixed(0.5 + 0.5 * member["young"]))


def _tail(galaxy: Galaxy, size: int, draw: Draw) -> np.ndarray:
    """An arc of stars that a close passage pulled out of a galaxy; it widens and fades outwards."""
    x, y = _grid(size)
    away = np.arctan2(galaxy["y"], galaxy["x"])
    sweep = draw.uniform(0.6, 1.9) * galaxy["turn"]
    image = np.zeros((size, size), np.float32)
    for step in np.linspace(0.0, 1.0, 16):
        reach = galaxy["radius"] * (0.7 + 2.6 * step)
        place = (
            galaxy["x"] + reach * np.cos(away + sweep * step),
            galaxy["y"] + reach * np.sin(away + sweep * step),
        )
        width = galaxy["radius"] * (0.22 + 0.22 * step)
        across = np.exp(-0.5 * ((y - np.float32(place[1])) / np.float32(width)) ** 2)
        image += (
            np.float32((1 - 0.75 * step) / width**2)
            * across
            * np.exp(-0.5 * ((x - np.float32(place[0])) / np.float32(width)) ** 2)
        )
    return one(image)


def _dust(galaxy: Galaxy, size: int) -> np.ndarray:
    """The optical depth in r of a lane of dust along the axis."""
    at = plane(size, _centre(galaxy), galaxy["angle"], 1.0)
    length, height = galaxy["radius"] / 1.2, max(0.35 * galaxy["axis_ratio"] * galaxy["radius"], 0.25)
    offset = galaxy["lane"] * height
    lane = np.exp(-0.5 * ((at.across - np.float32(offset)) / np.float32(height)) ** 2)
    return np.asarray(
        np.float32(galaxy["dust"]) * lane * np.exp(-np.abs(at.along) / np.float32(1.6 * length))
    )


PARTS = {
    "smooth_round": _smooth,
    "smooth_in_between": _smooth,
    "cigar": _smooth,
    "edge_on": _edge_on,
    "barred": _disc,
    "spiral": _disc,
    "merger": _merger,
}
"""By class: what a galaxy consists of."""
CLASSES = tuple(PARTS)
