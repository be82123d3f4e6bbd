"""Legacy Survey: cut-outs around positions, as JPEG pictures or as FITS images of the bands."""

import math
from typing import ClassVar, Literal, Self
from urllib.parse import urlencode

from pydantic import Field, model_validator

from survey.archives.addresses import BaseAddress
from survey.archives.targets import (
    BadRowError,
    Form,
    Row,
    WantedFile,
    image_name,
    position,
    position_of_id,
)
from survey.files import LARGEST
from survey.settings import Settings
from survey.sources import fits
from survey.sources.reading import unpack

TOKEN = ""
NEEDED = {
    "ra": ("ra", "raj2000", "target_ra"),
    "dec": ("dec", "dej2000", "target_dec"),
    "name": ("name", "dr8_id", "iauname", "targetid", "uid"),  # objid is a number within a brick
}
OPTIONAL = ("name",)
HEADER = 20_000
"""Bytes of a FITS image besides its pixels, at most."""


class Options(Settings):
    """Which cut-outs."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"base"})

    base: BaseAddress = Field(
        "https://www.legacysurvey.org", description="address of the archive or of a mirror"
    )
    format: Literal["jpg", "fits"] = Field("jpg", description="colour pictures, or an image of each band")
    layer: str = Field(
        "ls-dr10", pattern=r"^[\w.-]{1,40}$", description="layer of the viewer, such as ls-dr9 or sdss"
    )
    pixscale: float = Field(0.262, gt=0, le=100, description="arcseconds per pixel")
    size: int = Field(256, ge=8, le=3000, description="pixels of a side")
    bands: str = Field("grz", pattern=r"^[a-z0-9]{1,8}$", description="bands, such as grz or griz")

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        """A file larger than any that an ingest reads is no use."""
        size, bands = self.size, len(self.bands)
        if self.format == "fits" and size**2 * 4 * bands + HEADER > LARGEST:
            most = math.isqrt((LARGEST - HEADER) // (4 * bands))
            raise ValueError(
                f"size: {size} pixels of a side in {bands} bands are {size**2 * 4 * bands:,} bytes, and an "
                f"ingest reads files up to {LARGEST:,}; give size={most} or less, or fewer bands"
            )
        return self


def base_of(options: Options) -> str:
    """The address of the archive."""
    return options.base


def is_image(options: Options) -> bool:
    """Whether the files are images of objects."""
    del options
    return True


def needed(options: Options) -> dict[str, tuple[str, ...]]:
    """The columns that name a file."""
    del options
    return NEEDED


def from_id(text: str, options: Options) -> Row:
    """A position."""
    del options
    return position_of_id(text)


def target(row: Row, options: Options) -> WantedFile:
    """The cut-out around a position."""
    ra, dec = position(row)
    pairs = {"ra": f"{ra:.7f}", "dec": f"{dec:.7f}", "layer": options.layer}
    pairs |= {"pixscale": f"{options.pixscale:g}", "size": str(options.size), "bands": options.bands}
    service = "jpeg-cutout" if options.format == "jpg" else "fits-cutout"
    form = Form(f"{options.base}/viewer/{service}?{urlencode(pairs)}")
    ending = f".{options.format}"
    path = image_name(row, ending)
    return WantedFile(path.removesuffix(ending), (form,), path=path)


def path(target: WantedFile, form: Form, suggested: str, data: bytes) -> str:
    """By degrees of right ascension."""
    del form, suggested, data
    return target.path


def circle(ra: float, dec: float, radius: float, options: Options) -> str:
    """This archive is not asked for positions."""
    del ra, dec, radius, options
    return ""


def catalogue(name: str, options: Options) -> WantedFile:
    """This archive's catalogues are not fetched here."""
    del options
    raise BadRowError(
        f"{name}: catalogues of the Legacy Survey are not fetched; give a file of yours as input="
    )


def problem(target: WantedFile, name: str, data: bytes, options: Options) -> str:
    """Why a FITS file is no cut-out of this size; empty if it is one. JPEG is looked at for all archives."""
    del target, name
    if options.format == "jpg":
        return ""
    hdus = fits.parse(unpack(data))
    images = [hdu for hdu in hdus if not hdu.is_table and len(hdu.shape) in (2, 3)]
    if not images:
        return f"no image, but {hdus.summary()}"
    is_right = images[0].shape[-2:] == (options.size, options.size)
    return (
        "" if is_right else f"an image of {images[0].shape}, {options.size} pixels of a side were asked for"
    )


def expected_bytes(options: Options) -> int:
    """Bytes of a file."""
    pixels = options.size**2
    return pixels // 4 + 2_000 if options.format == "jpg" else pixels * 4 * len(options.bands) + HEADER
