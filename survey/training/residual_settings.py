"""Settings of what training spectra get of the real sky: residuals of real spectra, and gaps in ranges."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from survey.models.settings import Window
from survey.settings import Settings


class Residuals(Settings):
    """Residuals of real spectra are added to those of the main source.

    A residual is what is left of a labelled spectrum of another source when the spectrum that the main source
    has for the same Teff, logg and [Fe/H] is subtracted.
    """

    probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the spectra of the main source that get a residual of another source; 0 = none",
    )
    strength: float = Field(
        1.0, gt=0, le=5, description="largest factor of a residual; it is drawn from 0 on"
    )
    nearest: int = Field(
        20,
        ge=1,
        description="a residual is drawn from so many spectra with the most similar labels",
    )
    smooth: float = Field(
        2.0,
        ge=0,
        le=50,
        description="width of the Gaussian (its sigma, in pixels) that takes the noise out of residuals",
    )
    snr: float = Field(20.0, ge=0, description="lowest signal to noise of a spectrum whose residual is used")


class Regions(Settings):
    """Ranges of wavelength that become bad in some spectra, so that a network learns to do without them."""

    probability: float = Field(
        0.0, ge=0, le=1, description="chance of each range to become bad in a spectrum; 0 = none"
    )
    ranges: tuple[Window, ...] = Field(
        (),
        strict=False,
        description="the ranges, in vacuum angstrom, such as [[3700, 3850], [6555, 6575]]",
    )

    @field_validator("ranges")
    @classmethod
    def _rising(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in value:
            if not 0 < low < high:
                raise ValueError(
                    f"the range {low:g} to {high:g} is empty; give [low, high], such as [6555, 6575]"
                )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.probability > 0 and not self.ranges:
            raise ValueError("probability without ranges changes nothing; give ranges, or probability=0")
        return self
