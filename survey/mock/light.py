"""Labels become noise-free light: a continuum times exp(-sum of strengths x profiles), shifted by the star's velocity.

Every species of `lines` has one profile on the grid of a spectrograph, spread by its resolution beforehand; a star only adds 23 of them up.
The sums are plain array arithmetic and no matrix product, so that the bytes do not depend on the linear algebra library or its threads.
Shapes: B stars, K species, P pixels.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from survey.mock import lines

FAST = 600.0
"""km/s; no star is faster."""
LIGHT_SPEED = 299792.458
TAPS = 6
"""Points of the interpolation that shifts a spectrum: within 2 % of the depth of the narrowest lines."""


class Window(NamedTuple):
    """The pixels 10**(start + step i) of one spectrograph and its line spread as a standard deviation in pixels."""

    start: float
    step: float
    size: int
    blur: float

    @property
    def margin(self) -> int:
        """Pixels beyond either end that a fast star moves into view."""
        return int(np.ceil(np.log10(1 + FAST / LIGHT_SPEED) / self.step)) + TAPS

    def wave(self, margin: int = 0) -> np.ndarray:
        """Vacuum angstrom."""
        return np.asarray(10 ** (self.start + self.step * np.arange(-margin, self.size + margin)))


LOW = Window(3.5682, 1e-4, 3909, 1.02)
MEDIUM_BLUE = Window(3.6905, 1e-5, 4136, 2.5)
MEDIUM_RED = Window(3.7995, 1e-5, 4136, 2.5)
"""R = 1800 over 3700-9099 angstrom; R = 7500 over 4903-5393 and 6302-6932."""

Labels = dict[str, np.ndarray]


def strengths(labels: Labels) -> np.ndarray:
    """Equivalent widths in units of each profile, [B, K]."""
    theta = 5040.0 / labels["Teff"] - 1.0
    light = labels["logg"] - 2.5
    content = abundances(labels)
    columns = []
    for species in lines.SPECIES:
        log = (
            species.log
            + sum(content[element] for element in species.made_of.split())
            + species.heat * theta
            + species.weight * light
        )
        x = 10 ** np.clip(log, -8.0, 6.0)
        columns.append(x if species.law == "linear" else np.log1p(x) + 0.06 * np.sqrt(x) * x / (x + 100.0))
    return np.column_stack(columns).astype(np.float32)


def abundances(labels: Labels) -> dict[str, np.ndarray]:
    """Logarithmic abundances relative to the sun of what the species are made of; carbon and oxygen without what carbon monoxide holds."""
    iron = labels["FeH"]
    carbon, oxygen = 10 ** (iron + labels["CFe"] + 8.43), 10 ** (iron + labels["MgFe"] + 8.69)
    locked = np.minimum(carbon, oxygen) * 0.92 / (1 + np.exp((labels["Teff"] - 5250.0) / 170.0))
    alpha = iron + labels["MgFe"]
    return {
        "H": np.zeros_like(iron),
        "C": np.log10(carbon - locked) - 8.43,
        "N": iron + labels["NFe"],
        "O": np.log10(oxygen - locked) - 8.69,
        "Mg": iron + labels["MgFe"],
        "Ca": iron + labels["CaFe"],
        "Na": iron,
        "Ti": alpha,
        "Fe": iron,
        "s": iron + labels["sFe"],
    }


def continuum(teff: np.ndarray, window: Window) -> np.ndarray:
    """Black body of the deep layers that the continuum comes from, in units of its value at 5500 angstrom, [B, P]."""
    wave = window.wave()
    heat = 1.438777e8 / (1.07 * teff[:, None])
    return np.asarray(
        (5500.0 / wave) ** 5 * np.expm1(heat / 5500.0) / np.expm1(heat / wave), dtype=np.float32
    )


def transmission(labels: Labels, window: Window) -> np.ndarray:
    """What the lines and bands leave, at the velocity `rv` of each star: [B, P], 1 = nothing absorbed."""
    strength_BK = strengths(labels)
    size = window.size + 2 * window.margin
    depth_BP = np.zeros((len(strength_BK), size), np.float32)
    part_BP = np.empty_like(depth_BP)
    for number, (first, profile) in enumerate(profiles(window)):
        span = slice(first, first + len(profile))
        part = np.multiply(strength_BK[:, number, None], profile, out=part_BP[:, : len(profile)])
        np.add(depth_BP[:, span], part, out=depth_BP[:, span])
    shifted_BP = shift(depth_BP, labels["rv"], window)
    np.exp(np.negative(shifted_BP, out=shifted_BP), out=shifted_BP)
    return shifted_BP


def shift(depth_BP: np.ndarray, velocity: np.ndarray, window: Window) -> np.ndarray:
    """Rows on the grid with margins -> rows on the grid, moved by their velocity with an interpolation over six points."""
    pixels = np.log10(1 + velocity / LIGHT_SPEED) / window.step
    whole = np.floor(-pixels).astype(int)
    nodes = np.arange(TAPS) - (TAPS // 2 - 1)
    rest = -pixels - whole
    weights = np.ones((len(depth_BP), TAPS), np.float64)
    for column, node in enumerate(nodes):
        for other in nodes[nodes != node]:
            weights[:, column] *= (rest - other) / (node - other)
    taps = weights.astype(np.float32)
    out_BP = np.empty((len(depth_BP), window.size), np.float32)
    for row, first in enumerate(window.margin + whole + nodes[0]):
        out_BP[row] = np.convolve(
            depth_BP[row, first : first + window.size + TAPS - 1], taps[row, ::-1], "valid"
        )
    return out_BP


@cache
def profiles(window: Window) -> tuple[tuple[int, np.ndarray], ...]:
    """First pixel (on the grid with margins) and profile of every species."""
    wave = window.wave(window.margin)
    shapes = _shapes(wave, window)
    found = []
    for species in lines.SPECIES:
        shape = shapes[species.name]
        inside = np.flatnonzero(shape > 1e-4 * max(float(shape.max()), 1e-30))
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 1)
        found.append((first, (species.scale * shape[first:stop]).astype(np.float32)))
    return tuple(found)


def _shapes(wave: np.ndarray, window: Window) -> dict[str, np.ndarray]:
    blur = window.blur * window.step * np.log(10)  # in d(wave) / wave

    def narrow(table: np.ndarray) -> np.ndarray:
        """Lines of one angstrom of equivalent width per unit of strength."""
        out = np.zeros(len(wave))
        for centre, strength in table:
            sigma = centre * np.hypot(blur, 2.5e-5)
            near = slice(*np.searchsorted(wave, [centre - 6 * sigma, centre + 6 * sigma]))
            out[near] += strength / (sigma * 2.5066) * np.exp(-0.5 * ((wave[near] - centre) / sigma) ** 2)
        return out

    def wings(table: np.ndarray, reach: float, power: float = 1.0) -> np.ndarray:
        """Lorentzian wings of half width `reach` angstrom."""
        distance = wave[:, None] - table[:, 0]
        return np.asarray((table[:, 1] / (1 + (distance / reach) ** 2) ** power).sum(1))

    def head(table: np.ndarray, scale: float, side: float, seed: int) -> np.ndarray:
        """Bands with a sharp head at each wavelength, fading over `scale` angstrom to the blue (side -1) or red (+1), with rotational lines."""
        rough = np.random.default_rng(seed).gamma(1.2, 1 / 1.2, 4000)
        grain = np.interp(np.log(wave), np.log(3500.0) + 2.5e-4 * np.arange(4000), rough)
        away = (wave[:, None] - table[:, 0]) * side
        edge = 1 / (1 + np.exp(-np.clip(away / (wave[:, None] * blur * 0.8), -50, 50)))
        return _blurred(
            np.asarray((table[:, 1] * edge * np.exp(-np.maximum(away, 0) / scale)).sum(1))
            * (0.45 + 0.55 * grain),
            window.blur,
        )

    def bump(centre: float, width: float) -> np.ndarray:
        return np.asarray(np.exp(-0.5 * ((wave - centre) / width) ** 2))

    table = {
        name: np.array(rows)
        for name, rows in vars(lines).items()
        if name.isupper() and name not in ("SPECIES", "IRON_STRONG")
    }
    shapes = {name: narrow(rows) for name, rows in lines.iron().items()}
    balmer = table["BALMER"]
    comb = head(np.array([(4450.0, 1.0)]), 1e9, -1.0, 4300)  # rotational lines of CH below 4450 angstrom
    return shapes | {
        "fe_ion": narrow(table["IRON_IONISED"]),
        "veil": np.exp(-(wave - 3700.0) / 260.0) + 0.08 * np.exp(-(wave - 3700.0) / 1100.0),
        "ca_k": narrow(table["CALCIUM_HK"]),
        "ca_k_wing": wings(table["CALCIUM_HK"], 7.0, 1.1),
        "ca_neutral": narrow(table["CALCIUM_NEUTRAL"]),
        "ca_triplet": narrow(table["CALCIUM_TRIPLET"]),
        "mg_b": narrow(table["MAGNESIUM"]),
        "mg_b_wing": wings(table["MAGNESIUM"][:6], 4.0, 1.2),
        "mgh": head(table["HYDRIDE_BANDS"], 35.0, -1.0, 5211),
        "sodium": narrow(table["SODIUM"]),
        "s_process": narrow(table["S_PROCESS"]),
        "ch": comb
        * (2.2 * bump(4309, 8) + 0.9 * bump(4322, 40) + 0.5 * bump(4250, 70) + 0.5 * bump(3890, 25)),
        "cn": head(table["CYANOGEN_BANDS"], 28.0, -1.0, 3883)
        + 0.6 * head(table["CYANOGEN_BANDS"][2:3], 500.0, -1.0, 4215),
        "c2": head(table["CARBON_BANDS"], 42.0, -1.0, 5165),
        "tio": head(table["TITANIUM_BANDS"], 75.0, 1.0, 7054),
        "cah": head(table["CALCIUM_HYDRIDE_BANDS"], 35.0, -1.0, 6975),
        "h_core": narrow(balmer[:, :2]),
        "h_wing": wings(balmer[:, [0, 2]], 9.0, 1.2),
    }


def _blurred(shape: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(np.convolve(np.pad(shape, reach, "edge"), kernel / kernel.sum(), "valid"))
