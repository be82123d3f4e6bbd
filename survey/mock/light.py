"""Labels become a spectrum without noise: continuum x exp(-sum of strengths x profiles), shifted by the
velocity.

Every species of `lines` has one profile on the grid of a spectrograph, blurred by its resolution beforehand.
So a star costs a sum of 23 profiles. The sums are plain array arithmetic, not a matrix product: the bytes do
not depend on the linear algebra library or its threads. Shapes: B stars, K species, P pixels.
"""

from functools import cache, partial
from typing import NamedTuple

import numpy as np

from survey.mock import lines

FAST = 600.0
"""km/s; no star moves faster."""
LIGHT_SPEED = 299792.458
TAPS = 6
"""Points of the interpolation that shifts a spectrum; the error is below 2 % of the narrowest lines' depth.
"""


class Window(NamedTuple):
    """The pixels 10**(start + step i) of one spectrograph, and its line spread (standard deviation in
    pixels)."""

    start: float
    step: float
    size: int
    blur: float

    @property
    def margin(self) -> int:
        """Pixels beyond each end that the shift of a fast star needs."""
        return int(np.ceil(np.log10(1 + FAST / LIGHT_SPEED) / self.step)) + TAPS

    def wave(self, margin: int = 0) -> np.ndarray:
        """Vacuum angstrom."""
        return np.asarray(10 ** (self.start + self.step * np.arange(-margin, self.size + margin)))


COOLEST = 3850.0
"""Kelvin. The laws of `lines` are fits for hotter stars; below, only the molecules TiO and CaH grow on."""
COOL_MOLECULES = ("tio", "cah")

LOW = Window(3.5682, 1e-4, 3909, 1.02)
MEDIUM_BLUE = Window(3.6905, 1e-5, 4136, 2.5)
MEDIUM_RED = Window(3.7995, 1e-5, 4136, 2.5)
"""R = 1800 over 3700-9099 angstrom; R = 7500 over 4903-5393 and 6302-6932."""

Labels = dict[str, np.ndarray]


def strengths(labels: Labels) -> np.ndarray:
    """Equivalent widths in units of each profile, [B, K]."""
    theta = 5040.0 / np.maximum(labels["Teff"], COOLEST) - 1.0
    theta_molecules = 5040.0 / labels["Teff"] - 1.0
    gravity = labels["logg"] - 2.5
    abundance = abundances(labels)
    columns = []
    for species in lines.SPECIES:
        log = (
            species.log
            + sum(abundance[element] for element in species.made_of.split())
            + species.heat * (theta_molecules if species.name in COOL_MOLECULES else theta)
            + species.weight * gravity
        )
        x = 10 ** np.clip(log, -8.0, 6.0)
        columns.append(x if species.law == "linear" else np.log1p(x) + 0.06 * np.sqrt(x) * x / (x + 100.0))
    return np.column_stack(columns).astype(np.float32)


def abundances(labels: Labels) -> dict[str, np.ndarray]:
    """Logarithmic abundances, relative to the sun, of the elements in the species.

    Carbon and oxygen are without the part that is bound in carbon monoxide.
    """
    iron = labels["FeH"]
    carbon, oxygen = 10 ** (iron + labels["CFe"] + 8.43), 10 ** (iron + labels["MgFe"] + 8.69)
    bound = np.minimum(carbon, oxygen) * 0.92 / (1 + np.exp((labels["Teff"] - 5250.0) / 170.0))
    alpha = iron + labels["MgFe"]
    return {
        "H": np.zeros_like(iron),
        "C": np.log10(carbon - bound) - 8.43,
        "N": iron + labels["NFe"],
        "O": np.log10(oxygen - bound) - 8.69,
        "Mg": iron + labels["MgFe"],
        "Ca": iron + labels["CaFe"],
        "Na": iron,
        "Ti": alpha,
        "Fe": iron,
        "s": iron + labels["sFe"],
    }


def continuum(teff: np.ndarray, window: Window) -> np.ndarray:
    """Black body of the layers that emit the continuum, in units of its value at 5500 angstrom, [B, P].

    Below 3850 K it is cooler than that: the bands of M dwarfs leave little light in the blue and green.
    """
    wave = window.wave()
    factor = 1.07 - 2.0 * np.maximum(1.0 - teff / COOLEST, 0.0)
    heat = 1.438777e8 / (factor * teff)[:, None]
    return np.asarray(
        (5500.0 / wave) ** 5 * np.expm1(heat / 5500.0) / np.expm1(heat / wave), dtype=np.float32
    )


def transmission(labels: Labels, window: Window) -> np.ndarray:
    """The light that lines and bands let through at the velocity `rv` of each star, [B, P]; 1 = all of it."""
    strength_BK = strengths(labels)
    size = window.size + 2 * window.margin
    depth_BP = np.zeros((len(strength_BK), size), np.float32)
    product_BP = np.empty_like(depth_BP)
    for number, (first, profile) in enumerate(profiles(window)):
        span = slice(first, first + len(profile))
        product = product_BP[:, : len(profile)]
        np.multiply(strength_BK[:, number, None], profile, out=product)
        np.add(depth_BP[:, span], product, out=depth_BP[:, span])
    shifted_BP = shift(depth_BP, labels["rv"], window)
    np.exp(np.negative(shifted_BP, out=shifted_BP), out=shifted_BP)
    return shifted_BP


def shift(depth_BP: np.ndarray, velocity: np.ndarray, window: Window) -> np.ndarray:
    """Rows on the grid with margins become rows on the grid, shifted by their velocity (six-point
    interpolation)."""
    pixels = np.log10(1 + velocity / LIGHT_SPEED) / window.step
    integer = np.floor(-pixels).astype(int)
    nodes = np.arange(TAPS) - (TAPS // 2 - 1)
    fraction = -pixels - integer
    weights = np.ones((len(depth_BP), TAPS), np.float64)
    for column, node in enumerate(nodes):
        for other in nodes[nodes != node]:
            weights[:, column] *= (fraction - other) / (node - other)
    taps = weights.astype(np.float32)
    out_BP = np.empty((len(depth_BP), window.size), np.float32)
    for row, first in enumerate(window.margin + integer + nodes[0]):
        out_BP[row] = np.convolve(
            depth_BP[row, first : first + window.size + TAPS - 1], taps[row, ::-1], "valid"
        )
    return out_BP


@cache
def profiles(window: Window) -> tuple[tuple[int, np.ndarray], ...]:
    """First pixel (on the grid with margins) and profile of every species."""
    wave = window.wave(window.margin)
    shapes = _shapes(wave, window)
    all_profiles = []
    for species in lines.SPECIES:
        shape = shapes[species.name]
        inside = np.flatnonzero(shape > 1e-4 * max(float(shape.max()), 1e-30))
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 1)
        all_profiles.append((first, (species.scale * shape[first:stop]).astype(np.float32)))
    return tuple(all_profiles)


def _shapes(wave: np.ndarray, window: Window) -> dict[str, np.ndarray]:
    """The profile of every species without its scale."""
    narrow, wings = partial(_narrow_lines, wave, window), partial(_wings, wave)
    bands, bump = partial(_bands, wave, window), partial(_bump, wave)
    table = {
        name: np.array(rows)
        for name, rows in vars(lines).items()
        if name.isupper() and name not in ("SPECIES", "IRON_STRONG")
    }
    balmer = table["BALMER"]
    ch_lines = bands(np.array([(4450.0, 1.0)]), 1e9, -1.0, 4300)  # rotational lines below 4450 angstrom
    ch_band = 2.2 * bump(4309, 8) + 0.9 * bump(4322, 40) + 0.5 * bump(4250, 70) + 0.5 * bump(3890, 25)
    cn_violet = bands(table["CYANOGEN_BANDS"], 28.0, -1.0, 3883)
    cn_blue = bands(table["CYANOGEN_BANDS"][2:3], 500.0, -1.0, 4215)
    return {name: narrow(rows) for name, rows in lines.iron().items()} | {
        "fe_ion": narrow(table["IRON_IONISED"]),
        "veil": np.exp(-(wave - 3700.0) / 260.0) + 0.08 * np.exp(-(wave - 3700.0) / 1100.0),
        "ca_k": narrow(table["CALCIUM_HK"]),
        "ca_k_wing": wings(table["CALCIUM_HK"], 7.0, 1.1),
        "ca_neutral": narrow(table["CALCIUM_NEUTRAL"]),
        "ca_triplet": narrow(table["CALCIUM_TRIPLET"]),
        "mg_b": narrow(table["MAGNESIUM"]),
        "mg_b_wing": wings(table["MAGNESIUM"][:6], 4.0, 1.2),
        "mgh": bands(table["HYDRIDE_BANDS"], 35.0, -1.0, 5211),
        "sodium": narrow(table["SODIUM"]),
        "s_process": narrow(table["S_PROCESS"]),
        "ch": ch_lines * ch_band,
        "cn": cn_violet + 0.6 * cn_blue,
        "c2": bands(table["CARBON_BANDS"], 42.0, -1.0, 5165),
        "tio": bands(table["TITANIUM_BANDS"], 75.0, 1.0, 7054),
        "cah": bands(table["CALCIUM_HYDRIDE_BANDS"], 35.0, -1.0, 6975),
        "h_core": narrow(balmer[:, :2]),
        "h_wing": wings(balmer[:, [0, 2]], 9.0, 1.2),
    }


def _relative_blur(window: Window) -> float:
    """The line spread as d(wave) / wave."""
    return float(window.blur * window.step * np.log(10))


def _narrow_lines(wave: np.ndarray, window: Window, table: np.ndarray) -> np.ndarray:
    """Lines of one angstrom of equivalent width per unit of strength."""
    out = np.zeros(len(wave))
    for centre, strength in table:
        sigma = centre * np.hypot(_relative_blur(window), 2.5e-5)
        near = slice(*np.searchsorted(wave, [centre - 6 * sigma, centre + 6 * sigma]))
        out[near] += strength / (sigma * 2.5066) * np.exp(-0.5 * ((wave[near] - centre) / sigma) ** 2)
    return out


def _wings(wave: np.ndarray, table: np.ndarray, half_width: float, power: float = 1.0) -> np.ndarray:
    """Lorentzian wings of this half width in angstrom."""
    distance = wave[:, None] - table[:, 0]
    return np.asarray((table[:, 1] / (1 + (distance / half_width) ** 2) ** power).sum(1))


def _bands(
    wave: np.ndarray, window: Window, table: np.ndarray, scale: float, side: float, seed: int
) -> np.ndarray:
    """Bands with a sharp head at each wavelength and rotational lines.

    They fade over `scale` angstrom, to the blue (side -1) or to the red (+1).
    """
    rough = np.random.default_rng(seed).gamma(1.2, 1 / 1.2, 4000)
    grain = np.interp(np.log(wave), np.log(3500.0) + 2.5e-4 * np.arange(4000), rough)
    distance = (wave[:, None] - table[:, 0]) * side
    edge = 1 / (1 + np.exp(-np.clip(distance / (wave[:, None] * _relative_blur(window) * 0.8), -50, 50)))
    smooth = np.asarray((table[:, 1] * edge * np.exp(-np.maximum(distance, 0) / scale)).sum(1))
    return _blurred(smooth * (0.45 + 0.55 * grain), window.blur)


def _bump(wave: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * ((wave - centre) / width) ** 2))


def _blurred(shape: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(np.convolve(np.pad(shape, reach, "edge"), kernel / kernel.sum(), "valid"))
