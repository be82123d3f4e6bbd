"""What can be told of a star, one row each, and what metal-poor and carbon-enhanced mean.

Heads, scaling, metrics and catalog columns read the rows; no other code knows an element by name. A new element is a new row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Criterion = Literal["carbon_0.7", "carbon_1.0", "aoki2007"]


@dataclass(frozen=True)
class Label:
    """A parameter or an abundance: its column, the names that tables give it, its unit, the range outside which a value is no label, its UCD."""

    name: str
    aliases: tuple[str, ...]
    unit: str
    low: float
    high: float
    about: str
    ucd: str = "phys.abund"


def _element(symbol: str, english: str, low: float, high: float) -> Label:
    upper = symbol.upper()
    aliases = (f"{upper}_FE", f"{symbol}_Fe", f"[{symbol}/Fe]", f"{symbol.lower()}_fe", f"{symbol.lower()}fe")
    return Label(f"{symbol}Fe", aliases, "dex", low, high, f"{english} relative to iron, [{symbol}/Fe]")


LABELS = (
    Label(
        "Teff",
        ("TEFF", "teff", "t_eff", "Temp"),
        "K",
        2500.0,
        60000.0,
        "effective temperature",
        "phys.temperature.effective",
    ),
    Label("logg", ("LOGG", "log_g", "logG"), "log10(cm s-2)", -1.0, 9.0, "surface gravity", "phys.gravity"),
    Label(
        "FeH",
        ("FE_H", "FE", "feh", "Fe_H", "[Fe/H]", "fe_h", "M_H", "MH"),
        "dex",
        -7.0,
        1.0,
        "iron relative to hydrogen, [Fe/H]",
    ),
    Label(
        "CH",
        ("C_H", "[C/H]", "c_h", "ch"),
        "dex",
        -7.0,
        3.0,
        "carbon relative to hydrogen, [C/H] = [Fe/H] + [C/Fe]",
    ),
    _element("C", "carbon", -2.0, 5.0),
    _element("N", "nitrogen", -2.0, 5.0),
    _element("O", "oxygen", -2.0, 4.0),
    _element("Na", "sodium", -2.0, 3.0),
    _element("Mg", "magnesium", -1.5, 2.5),
    _element("Al", "aluminium", -2.5, 2.5),
    _element("Si", "silicon", -1.5, 2.5),
    _element("S", "sulphur", -1.5, 2.5),
    _element("K", "potassium", -2.0, 2.5),
    _element("Ca", "calcium", -1.5, 2.0),
    _element("Ti", "titanium", -1.5, 2.0),
    _element("Cr", "chromium", -2.0, 2.0),
    _element("Mn", "manganese", -2.5, 2.0),
    _element("Ni", "nickel", -1.5, 2.0),
    _element("Cu", "copper", -2.5, 2.0),
    _element("Sr", "strontium", -3.5, 3.0),
    _element("Ba", "barium", -3.5, 4.0),
    _element("Eu", "europium", -2.5, 3.0),
    Label(
        "aFe",
        ("ALPHA_FE", "alpha_fe", "[a/Fe]", "alphafe", "A_FE"),
        "dex",
        -1.0,
        1.5,
        "alpha elements relative to iron",
    ),
    Label("sFe", ("S_PROCESS_FE", "[s/Fe]"), "dex", -3.0, 4.0, "s-process elements relative to iron"),
    Label("vmic", ("VMIC", "vturb", "xi"), "km s-1", 0.0, 20.0, "microturbulence", "phys.veloc.microTurb"),
    Label(
        "rv",
        ("RV", "radial_velocity"),
        "km s-1",
        -2000.0,
        2000.0,
        "radial velocity",
        "spect.dopplerVeloc.opt",
    ),
)

CLASSES = ("MP", "CEMP", "NMP")
"""Classes by number as the users' f_CEMP counts them: 0 metal-poor, 1 carbon-enhanced metal-poor, 2 neither."""

MISSING = -1
"""The class of a star whose labels do not say."""


def label(name: str) -> Label:
    """The row of that name or alias; letter case matters only where rows differ by nothing else (SFe is sulphur, sFe the s-process)."""
    exact = [row for row in LABELS if name in (row.name, *row.aliases)]
    alike = exact or [
        row for row in LABELS if name.lower() in (known.lower() for known in (row.name, *row.aliases))
    ]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise ValueError(
            f"labels: {name!r} may be {' or '.join(row.name for row in alike)}; write it as one of these"
        )
    raise ValueError(
        f"labels: there is no label {name!r}; there are {', '.join(row.name for row in LABELS)} (add a row to survey/labels.py)"
    )


def values(row: Label, column: ArrayLike) -> NDArray[np.float64]:
    """A column as numbers, NaN where it holds none of the row's range (-9999, 999, text that is no number)."""
    array = np.asarray(column)
    numbers = (
        array.astype(np.float64)
        if array.dtype.kind in "fiub"
        else np.array([_number(value) for value in array.tolist()], np.float64)
    )
    return np.where((numbers >= row.low) & (numbers <= row.high), numbers, np.nan)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


METAL_POOR = {"MP": -1.0, "VMP": -2.0, "EMP": -3.0}
"""[Fe/H] below this is metal-poor, very metal-poor, extremely metal-poor."""


def metal_poor(feh: ArrayLike, kind: Literal["MP", "VMP", "EMP"] = "MP") -> NDArray[np.bool_]:
    """Whether [Fe/H] is below the limit of the kind; false where it is not known."""
    return np.asarray(feh, np.float64) < METAL_POOR[kind]


def luminosity(teff: ArrayLike, logg: ArrayLike, mass: float = 0.8) -> NDArray[np.float64]:
    """log10 L in suns of a star of that mass (0.8: an old halo star), from temperature and gravity."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.log10(mass)
            + 4 * np.log10(np.asarray(teff, np.float64) / 5772.0)
            - (np.asarray(logg, np.float64) - 4.438)
        )


def _over(limit: float) -> Callable[..., NDArray[np.bool_]]:
    return lambda cfe, teff, logg: np.asarray(cfe, np.float64) >= limit


def _aoki(cfe: ArrayLike, teff: ArrayLike | None, logg: ArrayLike | None) -> NDArray[np.bool_]:
    """Aoki et al. 2007: the limit falls with luminosity, as giants mix processed, carbon-poor matter up."""
    if teff is None or logg is None:
        raise ValueError("labels: aoki2007 needs Teff and logg beside [C/Fe]; give them, or use carbon_0.7")
    light = luminosity(teff, logg)
    return np.asarray(cfe, np.float64) >= np.where(light <= 2.3, 0.7, 3.0 - light)


CRITERIA: dict[Criterion, Callable[..., NDArray[np.bool_]]] = {
    "carbon_0.7": _over(0.7),
    "carbon_1.0": _over(1.0),
    "aoki2007": _aoki,
}
"""When [C/Fe] counts as enhanced: at least 0.7, at least 1.0, or by luminosity."""


def carbon_enhanced(
    cfe: ArrayLike,
    criterion: Criterion = "carbon_0.7",
    teff: ArrayLike | None = None,
    logg: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Whether [C/Fe] is enhanced by the named criterion; false where it is not known."""
    if criterion not in CRITERIA:
        raise ValueError(
            f"labels: there is no carbon criterion {criterion!r}; there are {', '.join(CRITERIA)}"
        )
    return CRITERIA[criterion](cfe, teff, logg)


def classes(
    feh: ArrayLike,
    cfe: ArrayLike,
    criterion: Criterion = "carbon_0.7",
    teff: ArrayLike | None = None,
    logg: ArrayLike | None = None,
) -> NDArray[np.int8]:
    """Class numbers of `CLASSES`; `MISSING` where [Fe/H], or for a metal-poor star [C/Fe] or what the criterion needs, is not known."""
    feh, cfe = np.asarray(feh, np.float64), np.asarray(cfe, np.float64)
    poor = metal_poor(feh)
    unknown = np.isnan(feh) | (poor & np.isnan(cfe))
    if criterion == "aoki2007" and teff is not None and logg is not None:
        unknown |= poor & np.isnan(luminosity(teff, logg))
    number = np.where(poor, np.where(carbon_enhanced(cfe, criterion, teff, logg), 1, 0), 2)
    return np.where(unknown, MISSING, number).astype(np.int8)
