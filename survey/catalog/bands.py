"""What the bands of molecules say about a star: M subdwarfs by CaH and TiO, stars rich in carbon by C2.

CaH grows with the pressure of a dwarf, TiO with its metals too. So a metal-poor M star has little TiO for its
CaH, which zeta measures (Lepine, Rich & Shara 2007). The limits were looked for on spectra of real stars
(`docs/catalog-columns.md`). Shape: N stars.
"""

import numpy as np
import pyarrow as pa

from survey.catalog.flag_settings import FlagLimits
from survey.catalog.visits import Flags, Floats, float_column

SOLAR_TIO5 = (-0.164, 0.670, -0.118, -0.050)
"""TiO5 of M dwarfs like the Sun: a polynomial in CaH2 + CaH3, highest power first (Lepine et al. 2007)."""
SUBDWARFS = {"usdM": 0.2, "esdM": 0.5}
"""Below these values of zeta an M subdwarf is of this class; sdM above."""

NEEDED = ("tio5", "cah2", "cah3", "na_d", "c2_4668", "c2_5165", "g_band")
"""The columns that are read here."""


def zeta(table: pa.Table) -> Floats:
    """TiO for its CaH: 1 in M dwarfs like the Sun, 0 without any TiO; NaN where a band is not measured."""
    tio5_N = float_column(table, "tio5")
    solar_N = np.polyval(SOLAR_TIO5, float_column(table, "cah2") + float_column(table, "cah3"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((1 - tio5_N) / (1 - solar_N))


def is_m_subdwarf(table: pa.Table, limits: FlagLimits) -> Flags:
    """Rows with strong CaH and Na D of an M dwarf, but little TiO, and without C2."""
    cah_N = float_column(table, "cah2") + float_column(table, "cah3")
    is_dwarf_N = (cah_N < limits.cah) & (float_column(table, "na_d") > limits.dwarf_sodium)
    # in L dwarfs, whose TiO is weak for another reason, the blue end holds no light: its indices are wild
    return np.asarray(
        is_dwarf_N & (zeta(table) < limits.zeta) & ~(float_column(table, "c2_4668") > limits.c2)
    )


def subdwarf_class(zeta_N: Floats, limits: FlagLimits) -> list[str]:
    """The class of M subdwarfs by zeta: usdM, esdM, sdM; dM above the limit of subdwarfs."""
    steps = {**SUBDWARFS, "sdM": limits.zeta}
    class_N = np.select([zeta_N < limit for limit in steps.values()], list(steps), "dM")
    return [str(name) for name in class_N]


def is_rich_in_carbon(table: pa.Table, limits: FlagLimits) -> Flags:
    """Rows with both Swan bands of C2, and with CH: CEMP giants, CH stars, cool carbon stars."""
    bands_N2 = np.stack([float_column(table, name) for name in ("c2_4668", "c2_5165")], 1)
    return np.asarray((bands_N2 > limits.c2).all(1) & (float_column(table, "g_band") > limits.ch))


def is_cool_carbon_star(table: pa.Table, limits: FlagLimits) -> Flags:
    """Rows which are rich in carbon and have the sodium of a cool star: no CEMP star that was tested has."""
    return is_rich_in_carbon(table, limits) & (float_column(table, "na_d") > limits.carbon_sodium)
