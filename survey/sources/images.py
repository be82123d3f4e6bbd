"""Images of objects: JPEG, PNG and FITS cut-outs.

FITS cut-outs have planes (C, H, W) or one plane in the first HDU that has an image, as the cut-out services
of Legacy Survey and SDSS give them; the bands in its header put the planes in order, the reddest first. What
an image is of comes from the name of its file and, in FITS, from OBJECT, RA and DEC or world coordinates.
"""

import re
from typing import Any

import numpy as np

from survey.images import decode
from survey.images.planes import band_names
from survey.images.position import position
from survey.images.settings import ImageFiles
from survey.sources import fits
from survey.sources.visit import valid_values
from survey.spectrum import ImageOfObject

FILES = ("*.jpg", "*.jpeg", "*.png")

FLATTEST = 16
"""A plane with a shorter side is no image: old files of LAMOST have five rows."""


class Options(ImageFiles):
    """Options of this source."""


def read_bytes(data: bytes, name: str, settings: ImageFiles) -> list[ImageOfObject] | None:
    """The image of a JPEG or PNG file."""
    pixels = decode.decode(data, settings.smallest, settings.largest)
    return [ImageOfObject(pixels, visit_of(name, settings))]


def read(hdus: fits.Hdus, name: str, settings: ImageFiles) -> list[ImageOfObject] | None:
    """The image of a FITS file; None if it has no HDU with an image."""
    for hdu in hdus:
        if hdu.is_table or len(hdu.shape) not in (2, 3) or min(hdu.shape[-2:]) < FLATTEST:
            continue
        bands = band_names(hdu.cards.get)
        pixels = decode.from_planes(hdu.image(), settings.smallest, settings.largest, bands)
        cards = position(hdu.cards.get, *hdu.shape[-2:]) | {"star": hdu.cards.get("OBJECT")}
        visit = visit_of(name, settings) | _given(cards)
        return [ImageOfObject(pixels, valid_values(visit.items()))]
    return None


def visit_of(name: str, settings: ImageFiles) -> dict[str, Any]:
    """What the name of a file says of the object."""
    stem = name.rpartition("/")[2].removesuffix(".gz")
    stem = stem.rpartition(".")[0] or stem
    found = re.search(settings.name, name)
    layout = "tar" if ".tar" in name else name.lower().removesuffix(".gz").rpartition(".")[2]
    return {"visit": stem, "survey": settings.survey, "layout": layout} | _given(
        found.groupdict() if found else {}
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def example() -> tuple[str, bytes]:
    """A small valid file."""
    import io

    from PIL import Image

    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    sink = io.BytesIO()
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp.T], 2)).save(sink, "PNG")
    return "galaxy.png", sink.getvalue()
