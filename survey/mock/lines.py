"""The absorbers in a mock star: the lines and bands of every species, and how their strength depends on the
labels.

The strength x of a species is 10**(log + [X/H] + heat (theta - 1) + weight (logg - 2.5)), with theta = 5040
K / Teff and [X/H] the sum of the named abundances. The equivalent width grows as ln(1 + x) and, for large x,
as the square root of x: a curve of growth. The numbers are rounded fits of a few indices to computed
spectra: right in sign and size, but no substitute for a spectral synthesis. Wavelengths are vacuum angstrom.
"""

from typing import NamedTuple

import numpy as np


class Species(NamedTuple):
    """One absorber.

    `scale` is its depth per unit of growth: angstrom of equivalent width for lines, optical depth for bands
    and wings. `law` is "growth" for absorption that saturates, "linear" for wings and broad absorption that
    does not.
    """

    name: str
    made_of: str
    log: float
    heat: float
    weight: float
    scale: float
    law: str = "growth"


SPECIES = (
    Species("fe_faint_low", "Fe", -0.3, 4.0, 0.0, 0.17),
    Species("fe_low", "Fe", 0.8, 4.0, 0.0, 0.12),
    Species("fe_strong_low", "Fe", 2.4, 5.5, 0.2, 0.14),
    Species("fe_faint_high", "Fe", -0.3, 2.0, 0.0, 0.17),
    Species("fe_high", "Fe", 0.8, 2.0, 0.0, 0.12),
    Species("fe_ion", "Fe", 1.8, -0.9, -0.3, 0.06),
    Species("veil", "Fe", 0.9, 4.8, -0.3, 0.22),
    Species("ca_k", "Ca", 4.3, 2.0, -0.3, 0.7),
    Species("ca_k_wing", "Ca", 0.58, 2.2, -0.15, 0.8, "linear"),
    Species("ca_neutral", "Ca", 1.05, 5.8, 0.25, 1.1),
    Species("ca_triplet", "Ca", 2.9, 0.2, -0.3, 0.43),
    Species("mg_b", "Mg", 2.6, 4.2, 0.25, 0.27),
    Species("mg_b_wing", "Mg", -1.0, 3.5, 0.3, 0.9, "linear"),
    Species("mgh", "Mg", -0.7, 6.0, 0.4, 0.12),
    Species("sodium", "Na", 2.0, 4.3, 0.3, 0.2),
    Species("s_process", "s", 1.6, 0.7, -0.3, 0.1),
    Species("ch", "C", 2.6, 9.5, -0.1, 0.06),
    Species("cn", "C N", 2.8, 10.0, -0.3, 0.11),
    Species("c2", "C C", 1.0, 11.0, -0.1, 0.22),
    Species("tio", "Ti O", -3.0, 13.6, 0.05, 0.2),
    Species("cah", "Ca", -2.6, 12.0, 0.8, 0.2),
    Species("h_core", "H", 1.3, -5.0, -0.05, 0.33),
    Species("h_wing", "H", -1.6, -6.0, 0.0, 0.55, "linear"),
)
"""The absorbers, in the order of the columns of the strengths."""

# vacuum angstrom, relative strength
CALCIUM_HK = ((3934.777, 1.0), (3969.592, 0.75))
CALCIUM_NEUTRAL = (
    (4227.919, 1.0),
    (4427.0, 0.15),
    (4456.2, 0.25),
    (5590.3, 0.12),
    (6104.4, 0.1),
    (6123.9, 0.15),
    (6163.9, 0.18),
    (6440.9, 0.15),
)
CALCIUM_TRIPLET = ((8500.360, 0.6), (8544.442, 1.0), (8664.525, 0.85))
MAGNESIUM = (
    (5168.763, 0.7),
    (5174.126, 0.9),
    (5185.049, 1.0),
    (3830.4, 0.6),
    (3833.4, 0.8),
    (3839.4, 0.9),
    (5530.0, 0.15),
    (8809.2, 0.3),
)
SODIUM = ((5891.586, 1.0), (5897.560, 0.85), (8185.510, 0.1), (8197.068, 0.15), (5689.7, 0.06))
S_PROCESS = (
    (4078.866, 1.0),
    (4216.712, 0.7),
    (4555.310, 0.8),
    (4935.454, 0.5),
    (6143.415, 0.3),
    (6498.7, 0.3),
)
IRON_IONISED = (
    (4925.3, 0.7),
    (5019.8, 0.9),
    (5170.5, 1.0),
    (4584.9, 0.6),
    (4233.3, 0.7),
    (4550.7, 0.6),
    (5277.4, 0.5),
    (5318.0, 0.5),
    (6457.9, 0.3),
)
BALMER = (
    (6564.616, 1.35, 1.0),
    (4862.692, 1.0, 1.0),
    (4341.693, 0.85, 1.1),
    (4102.892, 0.75, 1.2),
    (3971.198, 0.6, 1.15),
    (3890.16, 0.5, 0.95),
    (3836.48, 0.4, 0.8),
    (3798.99, 0.3, 0.6),
    (3771.71, 0.22, 0.4),
    (3751.23, 0.15, 0.25),
    (3735.45, 0.1, 0.15),
)
"""Vacuum angstrom, strength of the core, strength of the wings."""
IRON_STRONG = (
    *(
        3720.99,
        3735.93,
        3738.19,
        3746.63,
        3750.55,
        3759.29,
        3764.86,
        3816.92,
        3821.51,
        3826.97,
        3841.52,
        3857.46,
        3861.00,
        3879.66,
        3887.38,
        3924.02,
    ),
    *(
        3929.03,
        3931.41,
        4006.37,
        4046.96,
        4064.74,
        4072.89,
        4144.99,
        4203.21,
        4251.32,
        4261.68,
        4272.96,
        4309.12,
        4326.98,
        4384.78,
        4405.99,
        4416.36,
    ),
    *(
        4529.88,
        4892.86,
        4921.88,
        4958.98,
        5007.52,
        5041.16,
        5228.6,
        5271.01,
        5329.52,
        5372.98,
        5398.63,
        5407.28,
        5431.21,
        5436.04,
        5448.43,
        5457.12,
    ),
)
CARBON_BANDS = (
    (4738.426, 1.0),
    (4716.6, 0.45),
    (5166.640, 1.3),
    (5130.8, 0.5),
    (5637.066, 0.7),
    (5587.0, 0.35),
    (6192.916, 0.25),
    (4384.0, 0.25),
)
CYANOGEN_BANDS = ((3884.501, 1.0), (3872.5, 0.6), (4217.188, 0.42), (4198.2, 0.22))
HYDRIDE_BANDS = ((5212.5, 1.0), (5188.0, 0.35), (4781.5, 0.3))
TITANIUM_BANDS = (
    (4956.3, 0.5),
    (5168.7, 0.6),
    (5449.3, 0.5),
    (5849.0, 0.4),
    (6160.207, 0.9),
    (6653.0, 0.7),
    (7056.449, 1.2),
    (7591.0, 0.8),
    (8434.0, 0.8),
)
CALCIUM_HYDRIDE_BANDS = ((6831.888, 0.6), (6976.927, 1.0))


def iron() -> dict[str, np.ndarray]:
    """A fixed list of 1,500 neutral iron lines by species, denser in the blue: [line, (wavelength,
    strength)]."""
    draw = np.random.default_rng(5270)
    wave = 3660.0 - 1250.0 * np.log(1 - draw.random(1500) * (1 - np.exp(-(6900.0 - 3660.0) / 1250.0)))
    kind = draw.choice(4, 1500, p=[0.4, 0.18, 0.27, 0.15])
    strength = np.exp(draw.normal(-0.2, 0.6, 1500)) * (1.3 - (wave - 3660.0) / 4500.0)
    names = ("fe_faint_low", "fe_low", "fe_faint_high", "fe_high")
    tables = {
        name: np.column_stack([wave[kind == number], strength[kind == number]])
        for number, name in enumerate(names)
    }
    strong = [(line, 1.0 + max(0.0, 4500.0 - line) / 500.0) for line in IRON_STRONG]
    return tables | {"fe_strong_low": np.array(strong)}
