"""Lines and bands of stars: what a block of wavelengths shows, in words that an astronomer knows.

Windows are in vacuum angstrom at rest. Lines: the NIST Atomic Spectra Database; bands: the heads of the
molecules' systems (Pearse & Gaydon), as wide as a spectrum of R = 1800 shows them in a cool giant.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """A line or a band of an element, from `low` to `high`."""

    name: str
    element: str
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The middle of the window."""
        return (self.low + self.high) / 2


def _line(name: str, element: str, wave: float, half: float) -> Feature:
    return Feature(name, element, wave - half, wave + half)


AIR = "air"
"""In place of an element: bands of the Earth's atmosphere. They are at rest for the telescope, so their
windows hold for stars of small velocity."""

FEATURES = (
    Feature("CN 3883", "C", 3847.0, 3885.0),
    _line("Ca II K", "Ca", 3934.8, 15),
    _line("Ca II H", "Ca", 3969.6, 12),
    _line("Sr II 4077", "Sr", 4078.9, 4),
    _line("H delta", "H", 4102.9, 18),
    Feature("CN 4215", "C", 4143.0, 4212.0),
    _line("Sr II 4215", "Sr", 4216.7, 4),
    _line("Ca I 4227", "Ca", 4227.9, 6),
    Feature("CH G band", "C", 4275.0, 4320.0),
    _line("H gamma", "H", 4341.7, 18),
    _line("Fe I 4383", "Fe", 4384.8, 10),
    _line("Ba II 4554", "Ba", 4555.3, 4),
    Feature("C2 Swan 4737", "C", 4620.0, 4740.0),
    _line("H beta", "H", 4862.7, 18),
    _line("Ba II 4934", "Ba", 4935.5, 4),
    Feature("C2 Swan 5165", "C", 5060.0, 5164.0),
    Feature("Mg b", "Mg", 5164.0, 5192.0),
    _line("Fe I 5270", "Fe", 5271.0, 20),
    _line("Fe I 5328", "Fe", 5332.0, 18),
    Feature("C2 Swan 5636", "C", 5501.0, 5638.0),
    _line("Na D", "Na", 5894.6, 12),
    _line("Ba II 6142", "Ba", 6143.4, 4),
    Feature("TiO 6158", "TiO", 6160.0, 6280.0),
    _line("H alpha", "H", 6564.6, 20),
    Feature("TiO 6651", "TiO", 6653.0, 6705.0),
    _line("Li I 6708", "Li", 6709.7, 4),
    Feature("TiO 7054", "TiO", 7056.0, 7165.0),
    Feature("O2 B of the air", AIR, 6866.0, 6946.0),
    Feature("H2O of the air 7200", AIR, 7170.0, 7342.0),
    Feature("O2 A of the air", AIR, 7594.0, 7702.0),
    Feature("H2O of the air 8200", AIR, 8132.0, 8352.0),
    _line("Na I 8190", "Na", 8190.0, 12),
    _line("Ca II 8498", "Ca", 8500.4, 12),
    _line("Ca II 8542", "Ca", 8544.4, 14),
    _line("Ca II 8662", "Ca", 8664.5, 14),
)
"""All features."""

MATTER = 0.2
"""A feature is in a block if so much of the one lies in the other."""

OWN_ELEMENT = {"FeH": "Fe", "CFe": "C", "CH": "C", "MgFe": "Mg", "CaFe": "Ca", "NaFe": "Na", "BaFe": "Ba"}
"""The element whose lines a label should follow from; a temperature or gravity has none."""


def elements() -> tuple[str, ...]:
    """The elements and molecules that have a feature, in the order of wavelength."""
    return tuple(dict.fromkeys(feature.element for feature in FEATURES))


def features_between(low: float, high: float) -> list[Feature]:
    """The features that lie in a block, or in which it lies; the one that fills most of it first."""
    found = []
    for feature in FEATURES:
        common = min(high, feature.high) - max(low, feature.low)
        if common > MATTER * min(high - low, feature.high - feature.low):
            found.append((common, feature))
    return [feature for _, feature in sorted(found, key=lambda pair: -pair[0])]


def named(features: Iterable[Feature]) -> str:
    """The names of some features, for a text."""
    return ", ".join(feature.name for feature in features)
