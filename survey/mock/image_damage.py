"""The kinds of defective image files: each changes the bytes of a valid file."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from survey.mock import damage

Draw = np.random.Generator
Damage = Callable[[bytes, Draw], bytes]


def cut_in_half(data: bytes, draw: Draw) -> bytes:
    """The file ends somewhere in its middle."""
    return data[: int(len(data) * draw.uniform(0.2, 0.8))]


def other_size(data: bytes, draw: Draw) -> bytes:
    """A picture of another size and shape."""
    picture = Image.open(io.BytesIO(data))
    out = io.BytesIO()
    picture.crop((0, 0, picture.width // 2, picture.height * 3 // 4)).save(out, "JPEG", quality=92)
    return out.getvalue()


def huge_by_header(data: bytes, draw: Draw) -> bytes:
    """The header of a JPEG file announces 65,500 x 65,500 pixels."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + (65_500).to_bytes(2, "big") * 2 + data[at + 4 :]


def flat_image(data: bytes, draw: Draw) -> bytes:
    """A FITS image of one band in place of three."""
    card, wanted = b"NAXIS3  =                    3", b"NAXIS3  =                    1"
    start = data.index(card)
    changed = data[:start] + wanted + data[start + len(wanted) :]
    pixels = int(data[data.index(b"NAXIS1  =") + 10 :][:20]) ** 2 * 4
    return changed[:2880] + changed[2880 : 2880 + pixels] + b"\0" * (-pixels % 2880)


def no_number(data: bytes, draw: Draw) -> bytes:
    """All pixels of a FITS image are NaN."""
    count = (len(data) - 2880) // 4
    return data[:2880] + np.full(count, np.nan, ">f4").tobytes()


JPEG_DEFECTS: dict[str, Damage] = {
    "truncated_image": cut_in_half,
    "wrong_size": other_size,
    "empty_image": damage.empty,
    "huge_by_header": huge_by_header,
    "web_page": damage.web_page,
}
FITS_DEFECTS: dict[str, Damage] = {
    "truncated_image": cut_in_half,
    "wrong_size": flat_image,
    "empty_image": damage.empty,
    "huge_by_header": damage.with_card(b"NAXIS1", b"1000000000000"),
    "web_page": damage.web_page,
    "nan_pixels": no_number,
}
"""Defects of JPEG and of FITS images by name. No reader can use such a file."""
