"""Which stars a mock survey observes, what they are made of, and which visit of which star every file is.

All is drawn for blocks of 1,000 files, from the seed and the number of the block alone. So no file depends
on how the work is divided. Classes and defects are not drawn at random: item i gets the fractional part of
offset + i x an irrational number (a golden-ratio sequence), so that their shares hold in every stretch of
files.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

BLOCK = 1000
"""Files of a block. Four blocks share a field of the sky with 16 spectrographs x 250 fibres."""
BALANCES = {"reference": (4865, 167, 4723), "balanced": (1, 1, 1), "survey": (38, 2, 960)}
"""Relative numbers of MP, CEMP and NMP: as in the published reference set, a third each, or as a survey meets
them."""
M_BALANCES = {"reference": (47, 36, 49, 72, 58), "balanced": (1, 1, 1, 1, 1)}
"""Relative numbers of the subclasses M0 to M4: as in a published list of SDSS M stars, or a fifth each."""
M_STEP = 125.0
"""Kelvin from one M subclass to the next; M0 begins at 3850 K."""
M_COLOURS = {
    "u": (2.45, 2.50, 2.55, 2.60, 2.65),
    "g": (1.39, 1.42, 1.43, 1.46, 1.50),
    "i": (0.72, 0.87, 1.01, 1.22, 1.40),
    "z": (0.40, 0.48, 0.56, 0.64, 0.78),
}
"""u - g, g - r, r - i, i - z in the middle of each M subclass: medians of the same list, u - g smoothed."""
CARBON_LIMIT = 0.7
"""The lowest [C/Fe] of a mock CEMP star."""
LABELS = ("Teff", "logg", "FeH", "CFe", "NFe", "MgFe", "CaFe", "sFe")
GOLDEN = (
    *(0.6180339887498949, 0.7548776662466927, 0.5698402909980532),
    *(0.4142135623730951, 0.7320508075688772, 0.6457513110645907),
)
"""Steps of the sequences for classes, defects and kinds of defect; then of images: which are missing, which
are defective, and how. No sum of whole multiples of them is a whole number, so that they are independent."""

Table = dict[str, np.ndarray]


class StarSettings(NamedTuple):
    """The settings that the stars depend on."""

    seed: int
    balance: str
    visits: float
    objects: str = "stars"


def even_spread(seed: int, purpose: int, first: int, count: int) -> np.ndarray:
    """Evenly spread numbers in [0, 1) for the items first, first + 1, ..."""
    return even_spread_of(seed, purpose, first + np.arange(count))


def even_spread_of(seed: int, purpose: int, items: np.ndarray) -> np.ndarray:
    """Evenly spread numbers in [0, 1) for the items of these numbers."""
    offset = np.random.default_rng([seed, 100 + purpose]).random()
    return np.asarray((offset + GOLDEN[purpose] * items) % 1.0)


@lru_cache(maxsize=4)
def block(settings: StarSettings, number: int) -> Table:
    """The files of a block: labels and name of the star; night, plan, fibre and number of the visit."""
    draw = np.random.default_rng([settings.seed, 1, number])
    star = (draw_m_stars if settings.objects == "m_stars" else draw_stars)(settings, number, draw)
    visits = np.where(draw.random(BLOCK) < settings.visits, draw.integers(2, 5, BLOCK), 1)
    row = np.repeat(np.arange(BLOCK), visits)[:BLOCK]
    nth = np.arange(BLOCK) - (np.cumsum(visits) - visits)[row]
    files = {name: column[row] for name, column in star.items()}
    files |= {"index": number * BLOCK + np.arange(BLOCK), "star_index": number * BLOCK + row, "nth": nth}
    return files | observed(settings.seed, number, row, nth, files)


def kinds(weights: tuple[int, ...], seed: int, first: int, count: int) -> np.ndarray:
    """The class of the items first, first + 1, ..., for the relative numbers of the classes."""
    edges = np.cumsum(weights)
    return np.asarray(np.searchsorted(edges, even_spread(seed, 0, first, count) * edges[-1], side="right"))


def draw_stars(settings: StarSettings, number: int, draw: np.random.Generator) -> Table:
    """1,000 stars: mostly giants, with abundances that fit their class."""
    kind = kinds(BALANCES[settings.balance], settings.seed, number * BLOCK, BLOCK)
    poor, rich = kind != 2, kind == 1
    iron = np.where(rich, draw.normal(-2.15, 0.5, BLOCK), -1.001 - draw.gamma(1.15, 0.37, BLOCK))
    iron_poor = np.clip(iron, -4.0, -1.02 + 0.01 * draw.random(BLOCK))
    iron = np.where(poor, iron_poor, _normal_within(draw, -0.28, 0.27, -1.0, 0.5))
    stage = draw.random(BLOCK)
    giant, turning = stage < 0.76, stage > 0.94
    teff, logg = _teff_and_logg(draw, giant, turning, iron, rich)
    mixed = np.clip(2.0 - logg, 0.0, 1.2)  # carbon turns into nitrogen on the upper giant branch
    carbon = (
        draw.normal(np.where(poor, -0.03, -0.04), np.where(poor, 0.20, 0.11))
        - np.where(poor, 0.4, 0.12) * mixed
    )
    carbon = np.clip(
        np.where(rich, CARBON_LIMIT + 0.005 + draw.gamma(1.8, 0.37, BLOCK), carbon),
        -0.7,
        np.where(rich, 3.0, 0.68),
    )
    alpha = np.clip(0.02 - 0.27 * iron, -0.05, 0.30) + draw.normal(0.0, 0.085, BLOCK)
    slow = np.where(
        rich & (draw.random(BLOCK) < 0.6), draw.uniform(0.7, 2.0, BLOCK), draw.normal(0.0, 0.15, BLOCK)
    )
    labels = {
        "Teff": teff,
        "logg": logg,
        "FeH": iron,
        "CFe": carbon,
        "NFe": draw.normal(0.05, 0.15, BLOCK) + np.where(rich, 0.5, 0.3 * mixed),
        "MgFe": alpha + 0.02 + draw.normal(0.0, 0.045, BLOCK),
        "CaFe": alpha - 0.01 + draw.normal(0.0, 0.045, BLOCK),
        "sFe": slow,
    }
    labels = {name: np.round(column, 1 if name == "Teff" else 4) for name, column in labels.items()}
    return labels | {
        "f_CEMP": kind,
        "CH": np.round(labels["FeH"] + labels["CFe"], 4),
        "rv": np.clip(draw.normal(0.0, np.where(poor, 120.0, 40.0)), -550, 550).round(2),
        "brightness": draw.normal(0.0, 0.65, BLOCK),
        "reddening": np.minimum(draw.exponential(0.09, BLOCK), 0.8),
        "star_draw": draw.random(BLOCK),
    }


def draw_m_stars(settings: StarSettings, number: int, draw: np.random.Generator) -> Table:
    """1,000 M dwarfs of the subclasses M0 to M4, with magnitudes in u, g, r, i and z.

    The colours depend on the temperature and a little on the metallicity. Their scatter is about half the
    step from one subclass to the next, so that colours alone often miss the subclass by one.
    """
    kind = kinds(M_BALANCES[settings.balance], settings.seed, number * BLOCK, BLOCK)
    subclass = kind + draw.uniform(0.001, 0.999, BLOCK)
    iron = np.clip(draw.normal(-0.15, 0.2, BLOCK), -0.9, 0.4)
    brightness = draw.normal(-1.2, 0.6, BLOCK)
    alpha = np.clip(-0.25 * iron, -0.1, 0.2)
    labels = {
        "Teff": np.round(3850.0 - M_STEP * subclass, 1),
        "logg": np.round(4.68 + 0.06 * subclass + draw.normal(0.0, 0.04, BLOCK), 4),
        "FeH": np.round(iron, 4),
        "CFe": np.zeros(BLOCK),
        "NFe": np.zeros(BLOCK),
        "MgFe": np.round(alpha + draw.normal(0.0, 0.05, BLOCK), 4),
        "CaFe": np.round(alpha + draw.normal(0.0, 0.05, BLOCK), 4),
        "sFe": np.zeros(BLOCK),
    }
    reddening = np.minimum(draw.exponential(0.04, BLOCK), 0.3)
    return (
        labels
        | {
            "f_CEMP": np.full(BLOCK, 2),
            "CH": labels["FeH"],
            "rv": np.clip(draw.normal(0.0, 40.0, BLOCK), -550, 550).round(2),
            "brightness": brightness,
            "reddening": reddening,
            "star_draw": draw.random(BLOCK),
        }
        | _m_magnitudes(subclass, iron, brightness, reddening, draw)
    )


def _m_magnitudes(
    subclass: np.ndarray,
    iron: np.ndarray,
    brightness: np.ndarray,
    reddening: np.ndarray,
    draw: np.random.Generator,
) -> Table:
    """The magnitudes of M dwarfs as SDSS measures them; the errors grow for faint stars, most of all in u."""
    middle = np.arange(5) + 0.5
    scatter = {"u": 0.25, "g": 0.06, "i": 0.09, "z": 0.05}
    slope = {"u": 0.3, "g": 0.15, "i": -0.1, "z": -0.05}
    red = {"u": 1.0, "g": 1.0, "i": 0.6, "z": 0.6}
    colour = {
        band: np.interp(subclass, middle, values)
        + (slope[band] * (iron + 0.15) + red[band] * reddening)
        + draw.normal(0.0, scatter[band], BLOCK)
        for band, values in M_COLOURS.items()
    }
    magnitude = {"r": 18.3 - 1.4 * (brightness + 1.2)}
    magnitude["g"] = magnitude["r"] + colour["g"]
    magnitude["u"] = magnitude["g"] + colour["u"]
    magnitude["i"] = magnitude["r"] - colour["i"]
    magnitude["z"] = magnitude["i"] - colour["z"]
    deep = {"u": 22.0, "g": 22.2, "r": 22.2, "i": 21.3, "z": 20.5}
    columns = {}
    for band in "ugriz":
        error = np.hypot(0.015, 0.2 * 10 ** (0.4 * np.minimum(magnitude[band] - deep[band], 1.0)))
        columns[f"mag_{band}"] = np.round(magnitude[band] + error * draw.normal(0.0, 1.0, BLOCK), 4)
    return columns


def _teff_and_logg(
    draw: np.random.Generator, giant: np.ndarray, turning: np.ndarray, iron: np.ndarray, rich: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Temperature and gravity: a giant branch (cooler at higher [Fe/H]), a turn-off and a main sequence."""
    clump = draw.random(BLOCK) < 0.2
    logg_giant = np.where(clump, draw.normal(2.45, 0.12, BLOCK), draw.triangular(0.6, 2.1, 3.6, BLOCK))
    teff_giant = (
        4920.0
        + 420.0 * (logg_giant - 2.5)
        - 180.0 * (np.maximum(iron, -2.2) + 1.0)
        + draw.normal(0, 120, BLOCK)
        + 100.0 * rich
    )
    teff_dwarf = draw.normal(5300.0, 680.0, BLOCK) - 120.0 * (np.maximum(iron, -2.0) + 0.8)
    logg_dwarf = 4.68 - np.maximum(teff_dwarf - 5150.0, 0.0) * 3.2e-4 + draw.normal(0, 0.06, BLOCK)
    teff_turnoff = draw.normal(5750.0, 320.0, BLOCK) - 120.0 * (np.maximum(iron, -2.0) + 0.8)
    teff = np.where(giant, teff_giant, np.where(turning, teff_turnoff, teff_dwarf))
    logg = np.where(giant, logg_giant, np.where(turning, draw.uniform(3.5, 4.15, BLOCK), logg_dwarf))
    return np.clip(teff, 3850.0, 7000.0), np.clip(logg, 0.6, 4.95)


def _normal_within(
    draw: np.random.Generator, mean: float, spread: float, low: float, high: float
) -> np.ndarray:
    """Normal numbers; those outside the range are replaced by uniform ones inside."""
    drawn = draw.normal(mean, spread, BLOCK)
    return np.where((drawn < low) | (drawn > high), draw.uniform(low, high, BLOCK), drawn)


def observed(seed: int, number: int, row: np.ndarray, nth: np.ndarray, files: Table) -> Table:
    """Place and time: the field of the block, a plan and a night for each round of visits, the fibre of a
    star."""
    field, quarter = divmod(number, 4)
    sky = np.random.default_rng([seed, 2, field])
    ra0, dec0 = 360.0 * sky.random(), np.degrees(np.arcsin(sky.uniform(-0.15, 0.86)))
    nights = 55860 + sky.integers(0, 3300) + np.cumsum(np.append(0, sky.integers(3, 160, 3)))
    draw = np.random.default_rng([seed, 3, number])
    slot = draw.permutation(BLOCK)
    distance, angle = 2.45 * np.sqrt(draw.random(BLOCK)), 2 * np.pi * draw.random(BLOCK)
    dec = dec0 + distance * np.sin(angle)
    ra = (ra0 + distance * np.cos(angle) / np.cos(np.radians(dec))) % 360.0
    ra, dec = ra.round(6), dec.round(6)
    names = np.array([designation(*position) for position in zip(ra, dec, strict=True)])
    clock, arc = sexagesimal(ra0 / 15.0, 0), sexagesimal(abs(dec0), 0)
    plans = np.array([f"HD{clock}{'N' if dec0 >= 0 else 'S'}{arc}{letter}01" for letter in "VBMF"])
    snr = np.clip(32.0 * np.exp(files["brightness"] + draw.normal(0.0, 0.28, BLOCK)), 5.0, 150.0)
    return {
        "ra": ra[row],
        "dec": dec[row],
        "star": names[row],
        "lmjd": nights[nth],
        "planid": plans[nth],
        "plan_number": 4 * field + nth + 1,
        "spid": 4 * quarter + slot[row] // 250 + 1,
        "fiberid": slot[row] % 250 + 1,
        "quarter": np.full(BLOCK, quarter),
        "snr": snr,
    }


def designation(ra: float, dec: float) -> str:
    """The name that the survey gives to a position: LAMOST Jhhmmss.ss+ddmmss.s."""
    return f"LAMOST J{sexagesimal(ra / 15.0, 2)}{'+' if dec >= 0 else '-'}{sexagesimal(abs(dec), 1)}"


def sexagesimal(value: float, digits: int) -> str:
    """Hours or degrees, minutes and seconds, truncated after so many digits."""
    unit = 10**digits
    minutes, second = divmod(int(value * 3600 * unit + 1e-4), 60 * unit)
    seconds = f"{second / unit:0{3 + digits if digits else 2}.{digits}f}"
    return f"{minutes // 60:02d}{minutes % 60:02d}{seconds}"
