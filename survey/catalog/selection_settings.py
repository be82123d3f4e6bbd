"""Settings of the selection function of a catalog."""

from itertools import pairwise

from pydantic import Field, field_validator

from survey.settings import Settings


class SelectionBins(Settings):
    """Edges of the bins of the selection function. The first and the last bin are open."""

    snr: tuple[float, ...] = Field(
        (10.0, 20.0, 30.0, 50.0, 100.0), strict=False, description="edges in signal to noise"
    )
    teff: tuple[float, ...] = Field(
        (4500.0, 5000.0, 5500.0, 6000.0, 6500.0), strict=False, description="edges in temperature (K)"
    )

    @field_validator("snr", "teff")
    @classmethod
    def _check_rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(high <= low for low, high in pairwise(value)):
            edges = ", ".join(f"{edge:g}" for edge in value)
            raise ValueError(f"edges {edges} do not rise; give each edge above the one before")
        return value
