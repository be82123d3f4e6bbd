"""Settings of the checks of a catalog: how many CEMP stars can there be, what cannot be metal-poor, and where
does the ground end on which the ensemble was tested.
"""

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from survey.settings import Settings


class CempFrequency(Settings):
    """How many metal-poor stars are CEMP, by [Fe/H], as published: the CEMP list should not be longer."""

    edges: tuple[float, ...] = Field(
        (-1.5, -2.0, -2.5, -3.0),
        strict=False,
        description="edges of the bins in [Fe/H], falling; the first and the last bin are open",
    )
    least: tuple[float, ...] = Field(
        (0.0, 0.01, 0.06, 0.06, 0.10),
        strict=False,
        description="least share of CEMP stars in each bin: Ardern-Arentsen et al. 2025 (0.06 at -3 to -2), "
        "turn-off stars of Lee et al. 2013 (0.10)",
    )
    most: tuple[float, ...] = Field(
        (0.02, 0.08, 0.20, 0.32, 0.60),
        strict=False,
        description="largest share: Carollo et al. 2012 (0.08), Placco et al. 2014 (0.20 below -2), giants "
        "of Lee et al. 2013 (0.32), Pristine survey (0.6 below -3)",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(second >= first for first, second in pairwise(self.edges)):
            raise ValueError("the edges do not fall; give them from high to low [Fe/H]")
        bins = len(self.edges) + 1
        if not len(self.least) == len(self.most) == bins:
            raise ValueError(
                f"{len(self.edges)} edges make {bins} bins; give as many shares in least and most"
            )
        if any(not 0 <= low <= high <= 1 for low, high in zip(self.least, self.most, strict=True)):
            raise ValueError("a share is not between 0 and 1, or least is above most")
        return self


class MirrorSettings(Settings):
    """Which stars are so rich in metals by their lines that none of them can be in a list."""

    feh: float = Field(-0.5, description="least [Fe/H] from lines of a star that cannot be metal-poor")
    sigmas: float = Field(
        1.0, ge=0, description="so many of its errors are taken off [Fe/H] from lines first"
    )


class GroundSettings(Settings):
    """Where a survey leaves the ground on which the ensemble was tested: nothing is promised beyond."""

    domain: float = Field(
        0.1,
        gt=0,
        le=1,
        description="largest share of the stars of asked kinds that are out of the domain, in addition to "
        "the share of the validation stars",
    )
    shift: float = Field(
        0.5,
        gt=0,
        le=1,
        description="largest share of the stars of asked kinds that are farther from the training spectra "
        "than three quarters of the validation spectra; in a survey like these it is a quarter",
    )
    snr: float = Field(
        0.2,
        gt=0,
        le=1,
        description="largest share of the asked stars whose signal to noise is outside that of the "
        "validation stars (their middle 99 %)",
    )
    listed: float = Field(
        0.5, gt=0, le=1, description="largest share of the stars of a list that are out of the domain"
    )
