"""Indices of spectral lines and bands, measured on the flux of a spectrum in the rest frame.

They need no network and no training, so they check what networks say. A band ratio is the mean flux in one
window over that in another. An equivalent width (angstrom) is the light that a line takes from the straight
line between two side bands. Windows are in angstrom in air, as their authors give them.

Sources: Worthey & Ottaviani 1997 and Trager et al. 1998 (Lick indices), Reid et al. 1995 (TiO5, CaH2, CaH3),
Beers et al. 1999 (Ca K), Cenarro et al. 2001 (Ca triplet).
"""

from dataclasses import dataclass

Window = tuple[float, float]


@dataclass(frozen=True)
class Index:
    """An index: the windows of the feature, and those that it is compared with. One of these = a ratio."""

    description: str
    feature: tuple[Window, ...]
    sides: tuple[Window, ...]

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio of two means, and not an equivalent width."""
        return len(self.sides) == 1


CALCIUM_SIDES = ((8474.0, 8484.0), (8563.0, 8577.0), (8619.0, 8642.0), (8700.0, 8725.0), (8776.0, 8792.0))

INDICES = {
    "ca_k": Index("Ca II K", ((3927.7, 3939.7),), ((3903.0, 3923.0), (4000.0, 4020.0))),
    "h_delta": Index("H delta", ((4083.5, 4122.25),), ((4041.6, 4081.5), (4128.5, 4161.0))),
    "cn_4160": Index("CN 4160", ((4142.125, 4177.125),), ((4083.875, 4096.375), (4244.125, 4284.125))),
    "ca_4227": Index("Ca I 4227", ((4222.25, 4234.75),), ((4211.0, 4219.75), (4241.0, 4251.0))),
    "g_band": Index("CH G band", ((4281.375, 4316.375),), ((4266.375, 4282.625), (4317.625, 4335.125))),
    "h_gamma": Index("H gamma", ((4319.75, 4363.5),), ((4283.5, 4319.75), (4367.25, 4419.75))),
    "fe_4383": Index("Fe I 4383", ((4369.125, 4420.375),), ((4359.125, 4370.375), (4442.875, 4455.375))),
    "c2_4668": Index("C2 Swan band 4668", ((4634.0, 4720.25),), ((4611.5, 4630.25), (4742.75, 4756.5))),
    "h_beta": Index("H beta", ((4847.875, 4876.625),), ((4827.875, 4847.875), (4876.625, 4891.625))),
    "c2_5165": Index("C2 Swan band 5165", ((5085.0, 5160.0),), ((5035.0, 5060.0), (5195.0, 5225.0))),
    "mg_b": Index("Mg I b", ((5160.125, 5192.625),), ((5117.625, 5142.625), (5191.375, 5206.375))),
    "fe_5270": Index("Fe I 5270", ((5245.65, 5285.65),), ((5233.15, 5248.15), (5285.65, 5318.15))),
    "fe_5335": Index("Fe I 5335", ((5312.125, 5352.125),), ((5304.625, 5317.25), (5353.375, 5363.375))),
    "na_d": Index("Na I D", ((5876.875, 5909.375),), ((5860.625, 5875.675), (5922.125, 5948.125))),
    "h_alpha": Index("H alpha", ((6548.0, 6578.0),), ((6420.0, 6455.0), (6600.0, 6640.0))),
    "cah2": Index("CaH2 band", ((6814.0, 6846.0),), ((7042.0, 7046.0),)),
    "cah3": Index("CaH3 band", ((6960.0, 6990.0),), ((7042.0, 7046.0),)),
    "tio5": Index("TiO5 band", ((7126.0, 7135.0),), ((7042.0, 7046.0),)),
    "ca_t": Index(
        "Ca II triplet, sum of three lines",
        ((8484.0, 8513.0), (8522.0, 8562.0), (8642.0, 8682.0)),
        CALCIUM_SIDES,
    ),
}
"""The indices by the name of their column, in the order of wavelength."""


def index_columns() -> dict[str, tuple[str, str]]:
    """The Arrow type and the description of the column of each index."""
    columns = {}
    for name, index in INDICES.items():
        windows = ", ".join(f"{low:g}-{high:g}" for low, high in index.feature)
        if index.is_ratio:
            low, high = index.sides[0]
            text = f"ratio of the mean flux in {windows} to that in {low:g}-{high:g} ({index.description})"
        else:
            text = f"equivalent width of {index.description} in {windows}, in angstrom"
        columns[name] = ("float32", f"{text}; windows in angstrom in air; null where not covered")
    return columns
