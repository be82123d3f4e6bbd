"""Abundances of the Sun, log eps(X) with hydrogen at 12, by which log eps of a star becomes [X/H] and [X/Fe].

Each scale has the values of its paper for the photosphere; lodders2003 has the recommended ones.
"""

from collections.abc import Iterable
from pathlib import Path

from survey import labels
from survey.recipes import parse
from survey.settings import SettingsError, similar

SolarScale = dict[str, float]

ELEMENTS = (
    *(
        "C",
        "N",
        "O",
        "Na",
        "Mg",
        "Al",
        "Si",
        "S",
        "K",
        "Ca",
        "Ti",
        "Cr",
        "Mn",
        "Fe",
        "Ni",
        "Cu",
        "Sr",
        "Ba",
        "Eu",
    ),
)
_VALUES = {
    "asplund2009": (
        *(8.43, 7.83, 8.69, 6.24, 7.60, 6.45, 7.51, 7.12, 5.03, 6.34),
        *(4.95, 5.64, 5.43, 7.50, 6.22, 4.19, 2.87, 2.18, 0.52),
    ),
    "asplund2021": (
        *(8.46, 7.83, 8.69, 6.22, 7.55, 6.43, 7.51, 7.12, 5.07, 6.30),
        *(4.97, 5.62, 5.42, 7.46, 6.20, 4.18, 2.83, 2.27, 0.52),
    ),
    "grevesse2007": (
        *(8.39, 7.78, 8.66, 6.17, 7.53, 6.37, 7.51, 7.14, 5.08, 6.31),
        *(4.90, 5.64, 5.39, 7.45, 6.23, 4.21, 2.92, 2.17, 0.52),
    ),
    "grevesse1998": (
        *(8.52, 7.92, 8.83, 6.33, 7.58, 6.47, 7.55, 7.33, 5.12, 6.36),
        *(5.02, 5.67, 5.39, 7.50, 6.25, 4.21, 2.97, 2.13, 0.51),
    ),
    "lodders2003": (
        *(8.39, 7.83, 8.69, 6.30, 7.55, 6.46, 7.54, 7.19, 5.11, 6.34),
        *(4.92, 5.65, 5.50, 7.47, 6.22, 4.26, 2.91, 2.18, 0.52),
    ),
}
SCALES: dict[str, SolarScale] = {
    name: dict(zip(ELEMENTS, values, strict=True)) for name, values in _VALUES.items()
}
"""Asplund et al. 2009 and 2021, Grevesse, Asplund & Sauval 2007, Grevesse & Sauval 1998, Lodders 2003."""


def solar_scale(name: str) -> SolarScale:
    """The abundances of a scale by its name, or those in a YAML file."""
    if name in SCALES:
        return SCALES[name]
    path = Path(name)
    if not path.is_file():
        raise SettingsError(
            f"labels: solar: {name}: no scale and no file of this name; {similar(name, SCALES)}"
        )
    content = parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict) or "Fe" not in content:
        raise SettingsError(
            f"labels: solar: {path}: has no value for Fe; write it like {{Fe: 7.50, C: 8.43}}"
        )
    for element, value in content.items():
        if not isinstance(value, int | float) or not -5 <= value <= 12:
            raise SettingsError(
                f"labels: solar: {path}: {element}: {value!r} is no log eps; give a number such as 8.43"
            )
    return {str(element): float(value) for element, value in content.items()}


def own_scales(names: Iterable[str]) -> dict[str, SolarScale]:
    """The values of those of the scales that are in files of the user."""
    return {name: solar_scale(name) for name in sorted(set(names)) if name and name not in SCALES}


def element_of(label: str) -> str | None:
    """The element of an abundance: C for CFe and CH, Fe for FeH; None for other labels."""
    if label == "FeH":
        return "Fe"
    element = label.removesuffix("Fe") if label.endswith("Fe") else label.removesuffix("H")
    return element if element in ELEMENTS and label in {row.name for row in labels.LABELS} else None


def solar_value(scale: SolarScale, label: str, where: str) -> float:
    """log eps of the element of a label in the Sun."""
    element = element_of(label)
    if element is None or element not in scale:
        raise SettingsError(
            f"labels: {where}: {label}: the solar scale has no {element or 'element for it'}; "
            "give scale=as_is, or a table of your own as solar="
        )
    return scale[element]
