"""Bytes of images as arrays, of every mode, and every kind of bytes that are none."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from survey.images import decode
from survey.spectrum import Refused

SMALLEST, LARGEST = 16, 512


def ramp(height: int = 24, width: int = 40) -> np.ndarray:
    """Colours that differ in every pixel and in every colour."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x, 6 * y, 255 - 4 * x], 2).astype(np.uint8)


def encoded(array: np.ndarray, form: str = "PNG", mode: str | None = None) -> bytes:
    sink = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(sink, form)
    return sink.getvalue()


def refused(data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode.decode(data, SMALLEST, LARGEST)
    return caught.value


def test_colours_come_first_and_png_is_exact() -> None:
    pixels = decode.decode(encoded(ramp()), SMALLEST, LARGEST)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, ramp().transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_three_colours(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert decode.decode(encoded(ramp(), form, mode), SMALLEST, LARGEST).shape == (3, 24, 40)


def test_grey_of_sixteen_bits_keeps_its_range() -> None:
    grey = np.linspace(1000, 50_000, 24 * 40).reshape(24, 40).astype(np.uint16)
    pixels = decode.decode(encoded(grey), SMALLEST, LARGEST)
    assert (pixels[0].min(), pixels[0].max()) == (0, 255)
    assert np.array_equal(pixels[0], pixels[2])


def test_what_is_transparent_is_black() -> None:
    colours = np.dstack([ramp(), np.zeros((24, 40), np.uint8)])
    assert decode.decode(encoded(colours), SMALLEST, LARGEST).max() == 0


def test_bytes_that_are_no_image_have_a_reason() -> None:
    jpeg = encoded(ramp(), "JPEG")
    assert refused(b"").reason == "empty"
    assert refused(b"<html>not found</html>").reason == "bad_image"
    assert refused(jpeg[: len(jpeg) // 2]).reason == "bad_image"
    assert refused(b"GIF89a" + bytes(99)).reason == "bad_image"
    assert refused(encoded(ramp(8, 40))).reason == "image_shape"
    assert refused(encoded(ramp(24, 600))).reason == "image_shape"


def test_a_header_that_claims_a_huge_image_is_refused_before_it_is_unpacked() -> None:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    problem = refused(b"\x89PNG\r\n\x1a\n" + chunk + encoded(ramp())[33:])
    assert problem.reason == "image_shape"


def test_random_damage_never_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG"):
        data = encoded(ramp(), form)
        for _ in range(150):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                damaged[place] = rng.integers(256)
            try:
                pixels = decode.decode(damaged[: rng.integers(20, len(data) + 1)], SMALLEST, LARGEST)
            except Refused:
                continue
            assert pixels.shape[0] == 3


def test_planes_of_fits_are_finite_numbers() -> None:
    planes = np.random.default_rng(0).normal(0, 1, (3, 24, 40)).astype(">f4")
    planes[1, 3, 4], planes[0, 0, 0] = np.nan, np.inf
    values = decode.from_planes(planes, SMALLEST, LARGEST)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values[1, 3, 4] == np.nanmin(np.where(np.isfinite(planes), planes, np.nan))
    assert decode.from_planes(planes[0], SMALLEST, LARGEST).shape == (1, 24, 40)


@pytest.mark.parametrize(
    ("planes", "reason"),
    [
        (np.full((3, 24, 40), np.nan), "blank_image"),
        (np.zeros((2, 3, 24, 40)), "image_shape"),
        (np.zeros((9, 24, 40)), "image_shape"),
        (np.zeros((5, 3909)), "image_shape"),
    ],
)
def test_planes_that_show_nothing_have_a_reason(planes: np.ndarray, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        decode.from_planes(planes, SMALLEST, LARGEST)
    assert caught.value.reason == reason
