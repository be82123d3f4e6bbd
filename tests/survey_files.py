"""Small LAMOST files made with astropy, for the tests of the store, the cluster and the buckets."""

import functools
import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits

PIXELS = 3909
BROKEN = {
    "broken-0.fits": b"",
    "broken-1.fits": b"no FITS at all" * 300,
    "broken-2.fits.gz": gzip.compress(b"SIMPLE  =", mtime=0)[:20],
}
"""Files that are refused: empty, not FITS, truncated."""


def spectrum(number: int) -> np.ndarray:
    """The image of one LAMOST file: flux, inverse variance, wavelength, and-mask, or-mask."""
    random = np.random.default_rng(number)
    wave = 10 ** (3.5682 + 1e-4 * np.arange(PIXELS))
    light = (
        1000 * (1 + 0.4 * np.sin(wave / 900 + number)) * (1 - 0.5 * np.exp(-(((wave - 4861.3) / 12) ** 2)))
    )
    noise = 0.02 * light
    masks = np.zeros((2, PIXELS))
    masks[1, random.integers(0, PIXELS, 20)] = 1
    return np.vstack([light + random.normal(0, noise), 1 / noise**2, wave, masks]).astype(np.float32)


@functools.lru_cache(maxsize=300)
def file(number: int) -> bytes:
    """The bytes of one LAMOST file; everything in it follows from the number."""
    image = spectrum(number).astype(">f4")
    cards = {
        "SIMPLE": True,
        "BITPIX": -32,
        "NAXIS": 2,
        "NAXIS1": image.shape[1],
        "NAXIS2": image.shape[0],
        "EXTEND": True,
        "TELESCOP": "LAMOST",
        "OBS_TYPE": "OBJ",
        "OBJTYPE": "STAR",
        "CLASS": "STAR",
        "PLANID": "TEST01",
        "LMJD": 55859,
        "SPID": 1 + number // 250,
        "OBSID": 1000 + number,
        "FIBERID": 1 + number % 250,
        "RA": 10.0 + number,
        "DEC": -5.0,
        "Z": 1e-5 * number,
        "SNRG": 50.0,
    }
    header = fits.Header([fits.Card(*card) for card in cards.items()])
    text: str = header.tostring()
    return text.encode("ascii") + image.tobytes() + bytes(-image.nbytes % 2880)


def name(number: int) -> str:
    """The file's name; every third is gzipped."""
    ending = ".fits.gz" if number % 3 == 0 else ".fits"
    return f"spec-55859-TEST01_sp{1 + number // 250:02d}-{1 + number % 250:03d}{ending}"


@functools.lru_cache(maxsize=300)
def _content(number: int) -> bytes:
    return gzip.compress(file(number), 1, mtime=0) if number % 3 == 0 else file(number)


def named(numbers: range) -> dict[str, bytes]:
    """The bytes of these files by name."""
    return {name(number): _content(number) for number in numbers}


def write(folder: Path, numbers: range, broken: bool = False) -> Path:
    """Write a folder with these files and, if wanted, the broken ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in (named(numbers) | (BROKEN if broken else {})).items():
        (folder / path).write_bytes(data)
    return folder
