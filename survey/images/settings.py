"""The settings by which images are read and become rows of a store. Nothing heavy is imported."""

import re
from typing import Literal

from pydantic import Field, field_validator

from survey.settings import Settings

Stretch = Literal["none", "channel", "joint", "midtone"]

POSITION = r"ra=(?P<ra>\d+(?:\.\d+)?)&dec=(?P<dec>[-+]?\d+(?:\.\d+)?)"
"""A position in the name of a file, as the cut-out service of SDSS writes it."""


class ImageFiles(Settings):
    """How files of images are read."""

    survey: str = Field("images", description="name of the survey that is written with each image")
    name: str = Field(
        POSITION,
        description="regular expression of a file's name, whose named groups are values of the object "
        "(ra, dec, star, visit); a name that is different says nothing",
    )
    smallest: int = Field(16, ge=1, description="an image with a shorter side is refused")
    largest: int = Field(4096, ge=16, le=16384, description="an image with a longer side is refused")

    @field_validator("name")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from None
        if unknown := set(groups) - {"ra", "dec", "star", "visit"}:
            raise ValueError(f"has the group {min(unknown)}; give ra, dec, star or visit")
        return value


class PrepareImages(Settings):
    """How images are brought to one size and one range of brightness."""

    size: int = Field(
        0,
        ge=0,
        le=512,
        description="pixels of a side of the images in the store; 0 = the store has no images",
    )
    channels: Literal[1, 3] = Field(3, description="colours that are kept; 1 = the mean of all")
    crop: float = Field(
        1.0, gt=0, le=1, description="share of the side that is kept around the middle, before resizing"
    )
    stretch: Stretch = Field(
        "none",
        description="none = jpg and png as they are, FITS by joint; channel = each colour from its lowest to "
        "its highest value; joint = all colours together; midtone = 0.1 % black, the median at 1/8 (of the "
        "pixels above the lowest value)",
    )
    missing: Literal["flag", "refuse"] = Field(
        "flag",
        description="an object whose image is missing or damaged, but not its spectrum: keep it with a flag, "
        "or refuse it",
    )

    @property
    def is_used(self) -> bool:
        """Whether the store has images."""
        return self.size > 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Colours, height and width."""
        return (self.channels, self.size, self.size)
