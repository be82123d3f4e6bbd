"""The labels of a star, one row each, and the definitions of metal-poor and carbon-enhanced.

Heads, scaling, metrics and catalog columns read the rows; no other code knows an element by name. A new
element is a new row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.settings import similar

Criterion = Literal["carbon_0.7", "carbon_1.0", "aoki2007"]


@dataclass(frozen=True)
class Label:
    """A parameter or an abundance: its name, the column names that tables use for it, its unit and its UCD.

    A value outside `low` to `high` counts as missing.
    """

    name: str
    aliases: tuple[str, ...]
    unit: str
    low: float
    high: float
    description: str
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
        "phys.abund.Fe",
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
"""Classes by number, as in the column f_CEMP: 0 metal-poor, 1 carbon-enhanced metal-poor, 2 neither."""

LIST_CLASSES: dict[Literal["MP", "CEMP"], tuple[str, ...]] = {"MP": ("MP", "CEMP"), "CEMP": ("CEMP",)}
"""The classes that belong in each list of candidates."""

MISSING = -1
"""The class number of a star whose labels do not decide it."""


def label(name: str) -> Label:
    """The row of that name or alias. Letter case is ignored unless it decides: SFe is sulphur, sFe the
    s-process; and in names of two letters: FE is [Fe/H] in LAMOST's tables, Fe may be anything."""
    exact = [row for row in LABELS if name in (row.name, *row.aliases)]
    matching = exact or [
        row
        for row in LABELS
        if len(name) > 2 and name.lower() in (alias.lower() for alias in (row.name, *row.aliases))
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = " or ".join(row.name for row in matching)
        raise ValueError(f"{name!r} may be the label {names}; give one of these")
    begun = [row.name for row in LABELS if row.name.lower().startswith(name.lower())]
    raise ValueError(
        f"there is no label {name!r}; {similar(name, begun or (row.name for row in LABELS))} "
        "(a new label is a row of survey/labels.py)"
    )


def values(row: Label, column: ArrayLike) -> NDArray[np.float64]:
    """A column as numbers; NaN where it is no number of the row's range, such as -9999, 999 or text."""
    array = np.asarray(column)
    if array.dtype.kind in "fiub":
        numbers = array.astype(np.float64)
    else:
        numbers = np.array([_number(value) for value in array.tolist()], np.float64)
    return np.where((numbers >= row.low) & (numbers <= row.high), numbers, np.nan)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


CARBON_LABELS = ("CFe", "CH", "FeH")
"""The labels of the identity [C/Fe] = [C/H] - [Fe/H]. Any two of them give the third."""


def carbon_label(name: str, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """One of CFe, CH and FeH, computed from the other two."""
    if name == "CFe":
        return values["CH"] - values["FeH"]
    if name == "CH":
        return values["CFe"] + values["FeH"]
    if name == "FeH":
        return values["CH"] - values["CFe"]
    raise ValueError(f"labels: {name} is not one of {', '.join(CARBON_LABELS)}; give one of these")


def carbon_to_iron(values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """[C/Fe] from its own values, else from [C/H] and [Fe/H]; None if neither is there."""
    if "CFe" in values:
        return values["CFe"]
    return carbon_label("CFe", values) if {"CH", "FeH"} <= set(values) else None


def carbon_residual(
    cfe: NDArray[np.float64], ch: NDArray[np.float64], feh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[C/Fe] - ([C/H] - [Fe/H]): zero where the three labels agree."""
    return cfe - ch + feh


METAL_POOR = {"MP": -1.0, "VMP": -2.0, "EMP": -3.0}
"""Below this [Fe/H] a star is metal-poor, very metal-poor, extremely metal-poor."""


def metal_poor(feh: ArrayLike, kind: Literal["MP", "VMP", "EMP"] = "MP") -> NDArray[np.bool_]:
    """Whether [Fe/H] is below the limit of the kind; false where it is unknown."""
    return np.asarray(feh, np.float64) < METAL_POOR[kind]


def luminosity(teff: ArrayLike, logg: ArrayLike, mass: float = 0.8) -> NDArray[np.float64]:
    """log10 of the luminosity in suns, from temperature, gravity and mass (0.8 suns: an old halo star)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.log10(mass)
            + 4 * np.log10(np.asarray(teff, np.float64) / 5772.0)
            - (np.asarray(logg, np.float64) - 4.438)
        )


def _at_least(limit: float) -> Callable[..., NDArray[np.bool_]]:
    return lambda cfe, teff, logg: np.asarray(cfe, np.float64) >= limit


def _aoki(cfe: ArrayLike, teff: ArrayLike | None, logg: ArrayLike | None) -> NDArray[np.bool_]:
    """Aoki et al. 2007: the limit falls with luminosity, because giants dredge up carbon-poor matter."""
    if teff is None or logg is None:
        raise ValueError("labels: aoki2007 needs Teff and logg beside [C/Fe]; give them, or use carbon_0.7")
    log_luminosity = luminosity(teff, logg)
    return np.asarray(cfe, np.float64) >= np.where(log_luminosity <= 2.3, 0.7, 3.0 - log_luminosity)


CRITERIA: dict[Criterion, Callable[..., NDArray[np.bool_]]] = {
    "carbon_0.7": _at_least(0.7),
    "carbon_1.0": _at_least(1.0),
    "aoki2007": _aoki,
}
"""When [C/Fe] counts as enhanced: from 0.7 on, from 1.0 on, or by luminosity."""


CRITERION_LABELS: dict[Criterion, tuple[str, ...]] = {
    "carbon_0.7": (),
    "carbon_1.0": (),
    "aoki2007": ("Teff", "logg"),
}
"""The labels that a criterion needs in addition to [Fe/H] and [C/Fe]."""

CRITERION_TEXT: dict[Criterion, str] = {
    "carbon_0.7": "[C/Fe] >= 0.7",
    "carbon_1.0": "[C/Fe] >= 1.0",
    "aoki2007": "[C/Fe] >= 0.7, or 3.0 - log L where log L > 2.3 suns (Aoki et al. 2007)",
}
"""The criteria in words."""


def carbon_enhanced(
    cfe: ArrayLike,
    criterion: Criterion = "carbon_0.7",
    teff: ArrayLike | None = None,
    logg: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Whether [C/Fe] is enhanced by the criterion; false where it is unknown."""
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
    """Class numbers as in `CLASSES`; `MISSING` where the labels do not decide.

    [Fe/H] is always needed; for a metal-poor star also [C/Fe] and what the criterion needs.
    """
    feh, cfe = np.asarray(feh, np.float64), np.asarray(cfe, np.float64)
    poor = metal_poor(feh)
    unknown = np.isnan(feh) | (poor & np.isnan(cfe))
    if CRITERION_LABELS[criterion] and teff is not None and logg is not None:
        unknown |= poor & np.isnan(luminosity(teff, logg))
    number = np.where(poor, np.where(carbon_enhanced(cfe, criterion, teff, logg), 1, 0), 2)
    return np.where(unknown, MISSING, number).astype(np.int8)
