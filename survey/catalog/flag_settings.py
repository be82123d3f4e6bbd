"""Settings of flags and kinds of stars: bits, kinds, and the limits beyond which a star gets a bit."""

from collections.abc import Sequence
from enum import IntFlag
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from survey.labels import label
from survey.settings import Settings

SecondKey = Literal["flag", "require"]
Kind = Literal["FGK", "unknown", "hot", "M", "carbon", "white_dwarf", "galaxy", "quasar", "sky"]
"""What a star is, as far as its bands, its lines and the survey's own pipeline tell."""
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS: tuple[Kind, ...] = ("FGK", "unknown")
"""The kinds that are asked whether they are metal-poor."""


class CatalogFlag(IntFlag):
    """Bits of `flag_warn`, `flag_bad` and `flag_info`. `survey.catalog.flags` says what each one means."""

    SPECTRUM = 1
    NO_VELOCITY = 2
    LOW_SNR = 4
    VERY_LOW_SNR = 8
    OUT_OF_DOMAIN = 16
    FAR_OUT_OF_DOMAIN = 32
    MEMBERS_DISAGREE = 64
    VISITS_DISAGREE = 128
    CLASSES_DISAGREE = 256
    CARBON_INCONSISTENT = 512
    LARGE_ERROR = 1024
    WIDE_INTERVAL = 2048
    EDGE = 4096
    NO_ANSWER = 8192
    NOT_A_STAR = 16384
    UNKNOWN_OBJECT = 32768
    FIBER = 65536
    NOISE_ESTIMATED = 131072
    LOW_CONTINUUM = 262144
    EXTRAPOLATED = 524288
    MOLECULAR_BANDS = 1048576
    HOT_STAR = 2097152
    KEYS_DISAGREE = 4194304
    SURVEY_TYPE = 8388608
    CARBON_BANDS = 16777216
    M_SUBDWARF = 33554432
    ONE_KEY = 67108864


def flag_bits(names: Sequence[str]) -> int:
    """The sum of the flags with these names, in upper or lower case."""
    bits = 0
    for name in names:
        if name.upper() not in CatalogFlag.__members__:
            flags = ", ".join(CatalogFlag.__members__).lower()
            raise ValueError(f"there is no flag {name!r}; the flags are {flags}")
        bits |= CatalogFlag[name.upper()]
    return bits


LARGEST_ERRORS = {"Teff": 250.0, "logg": 0.5, "vmic": 0.5, "rv": 20.0}
"""The largest errors of labels without a warning, in the units of the labels."""


class FlagLimits(Settings):
    """The limits beyond which a star gets a flag."""

    snr_warn: float = Field(10.0, ge=0, description="lowest signal to noise without a warning")
    snr_bad: float = Field(3.0, ge=0, description="lowest signal to noise that can be used")
    domain_warn: float = Field(
        1.0,
        gt=0,
        description="largest distance from the training spectra without a warning; 1 % of the validation "
        "spectra are beyond 1",
    )
    domain_bad: float = Field(
        2.0, gt=0, description="largest distance from the training spectra that can be used"
    )
    class_entropy_model: float = Field(
        0.2, gt=0, description="largest disagreement of the members on the class without a warning (nats)"
    )
    error: dict[str, float] = Field(
        LARGEST_ERRORS,
        description="largest error of a label without a warning, in the unit of the label; labels that are "
        "not given keep theirs",
    )
    error_dex: float = Field(
        0.35, gt=0, description="the same for each label in dex that `error` does not name"
    )
    interval: float = Field(
        3.0,
        gt=0,
        description="an interval is wide if it is wider than this many largest errors on both sides",
    )
    tio5: float = Field(
        0.90,
        gt=0,
        description="with TiO5 and CaH2 both below their limits, the star is too cool for the lists",
    )
    cah2: float = Field(0.85, gt=0, description="limit of CaH2, see tio5")
    zeta: float = Field(
        0.825,
        gt=0.5,
        description="an M star with a smaller zeta (TiO5 for its CaH2 + CaH3, Lepine et al. 2007) is a "
        "subdwarf: sdM; below 0.5 esdM, below 0.2 usdM",
    )
    cah: float = Field(1.6, gt=0, description="largest CaH2 + CaH3 of an M subdwarf; above, zeta says little")
    dwarf_sodium: float = Field(8.0, description="least Na D (angstrom) of an M subdwarf")
    c2: float = Field(
        15.0,
        gt=0,
        description="with C2 4668 and C2 5165 both above this (angstrom), a star is rich in carbon",
    )
    ch: float = Field(
        2.0, description="least G band (angstrom) of such a star: white dwarfs with C2 have none"
    )
    carbon_sodium: float = Field(
        3.0,
        description="a star that is rich in carbon, with Na D above this (angstrom), is a cool carbon star, "
        "for which the lists were not tested",
    )
    h_delta: float = Field(
        7.5, gt=0, description="with a wider H delta (angstrom), the star is too hot for the lists"
    )
    teff: float = Field(
        7500.0,
        gt=0,
        description="with a higher Teff by the networks, less its error, the star is too hot for the lists",
    )
    keys: float = Field(
        3.0,
        gt=0,
        description="[Fe/H] by the networks and by indices of lines contradict each other if they differ by "
        "more than this many joint errors, and by more than keys_dex",
    )
    keys_dex: float = Field(0.5, ge=0, description="the same in dex, see keys")
    edge: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description="share of the training range of a label that counts as its edge, at each end",
    )

    @field_validator("error")
    @classmethod
    def _complete_errors(cls, value: dict[str, float]) -> dict[str, float]:
        for name, error in value.items():
            if label(name).name != name:
                raise ValueError(f"{name}: give the label as {label(name).name}")
            if error <= 0:
                raise ValueError(f"{name}={error:g} is not above 0; give a number above 0")
        return LARGEST_ERRORS | value

    def key_difference(self, error_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest difference of two values of [Fe/H] with this joint error without a warning."""
        return np.maximum(self.keys * error_N, self.keys_dex)

    def largest_error(self, name: str) -> float:
        """The largest error of a label without a warning; infinite if there is no limit."""
        return self.error.get(name, self.error_dex if label(name).unit == "dex" else np.inf)
