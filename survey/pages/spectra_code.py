"""Spectra as few bytes, for a browser that draws thousands of them: in steps that are small beside the noise.

A page has full resolution where lines and bands of interest are, and the mean of two pixels elsewhere. The
flux is stored in steps of a quarter of the noise, which adds 0.5 % to its variance. Steps are differences
from the pixel before, as numbers without a sign, first all low bytes and then all high bytes. The noise is
stored in steps of 10 %. 64 spectra are packed together by gzip, without a search for repetitions: noise has
none.

Shapes: N spectra, P pixels of the grid, Q pixels of the page, B blocks of 64 pixels of the page.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

PER_CHUNK = 64
"""Spectra that are packed together."""
BLOCK = 64
"""Pixels of a page that share one step of the flux."""
LOWEST, RATIO = 1e-4, 1.1
"""The lowest noise, and the ratio of two steps of the noise."""
CONTINUUM = 1.0
"""The flux that is stored as 0."""


@dataclass(frozen=True)
class PagePixels:
    """The wavelengths of a page: all pixels of the grid in the windows, the mean of two elsewhere."""

    wave_P: Floats
    windows: tuple[tuple[float, float], ...]

    @cached_property
    def start_Q(self) -> NDArray[np.int64]:  # noqa: N802
        """The first pixel of the grid in each pixel of the page."""
        full_P = np.zeros(len(self.wave_P) + 1, bool)
        for low, high in self.windows:
            full_P[:-1] |= (self.wave_P >= low) & (self.wave_P <= high)
        full_P[-1] = True  # no pixel follows the last one
        starts, pixel = [], 0
        while pixel < len(self.wave_P):
            starts.append(pixel)
            pixel += 1 if full_P[pixel] or full_P[pixel + 1] else 2
        return np.asarray(starts, np.int64)

    @cached_property
    def wave_Q(self) -> Floats:  # noqa: N802
        """The wavelength of each pixel of the page."""
        size_Q = np.diff(self.start_Q, append=len(self.wave_P))
        return np.asarray(np.add.reduceat(self.wave_P, self.start_Q) / size_Q)

    def reduce(self, flux_NP: Floats, ivar_NP: Floats) -> tuple[Floats, Floats]:
        """Flux and noise on the pixels of the page: weighted means of good pixels; noise 0 where none is."""
        ivar_NP = np.where(np.isfinite(flux_NP) & (ivar_NP > 0), ivar_NP, 0.0)
        flux_NP = np.where(ivar_NP > 0, flux_NP, 0.0)
        ivar_NQ = np.add.reduceat(ivar_NP, self.start_Q, axis=1)
        good_NQ = ivar_NQ > 0
        safe_NQ = np.where(good_NQ, ivar_NQ, 1.0)
        flux_NQ = np.add.reduceat(flux_NP * ivar_NP, self.start_Q, axis=1) / safe_NQ
        return np.where(good_NQ, flux_NQ, CONTINUUM), np.where(good_NQ, safe_NQ**-0.5, 0.0)


@dataclass(frozen=True)
class Precision:
    """How exactly spectra are stored: steps per sigma of noise, the smallest step, with noise or not."""

    steps: float = 4.0
    smallest: float = 2e-4
    noise: bool = True


EXACT, SKETCH = Precision(), Precision(1.5, 5e-3, noise=False)
"""Of a candidate; of spectra behind it, for which the eye needs less."""


@dataclass(frozen=True)
class Chunk:
    """Packed spectra, and what a reader must know to unpack them."""

    about: dict[str, Any]
    data: bytes


def noise_code(sigma: Floats) -> Bytes:
    """The noise as a number of steps from 1 on."""
    steps = np.log(np.maximum(sigma, LOWEST) / LOWEST) / np.log(RATIO)
    return np.asarray(np.clip(1 + np.round(steps), 1, 255), np.uint8)


def noise_of(code: Bytes) -> Floats:
    """The noise of a number of steps."""
    return np.asarray(LOWEST * RATIO ** (code.astype(np.float64) - 1))


def _blocks(sigma_NQ: Floats) -> Bytes:
    """The code of the median noise of each block; of a block without a good pixel, that of the one before."""
    rows, pixels = sigma_NQ.shape
    blocks = -(-pixels // BLOCK)
    padded = np.full((rows, blocks * BLOCK), np.nan)
    padded[:, :pixels] = np.where(sigma_NQ > 0, sigma_NQ, np.nan)
    by_block = padded.reshape(rows, blocks, BLOCK)
    known_NB = np.asarray(np.isfinite(by_block).any(2))
    median_NB = np.nanmedian(np.where(known_NB[..., None], by_block, 1.0), axis=2)
    code_NB = noise_code(median_NB)
    last_NB = np.maximum.accumulate(np.where(known_NB, np.arange(blocks), 0), axis=1)
    return np.asarray(np.take_along_axis(code_NB, last_NB, axis=1))


def _step_NQ(block_NB: Bytes, pixels: int, precision: Precision) -> Floats:  # noqa: N802
    step_NB = np.maximum(noise_of(block_NB) / precision.steps, precision.smallest)
    return np.repeat(step_NB, BLOCK, axis=1)[:, :pixels]


def pack(flux_NQ: Floats, sigma_NQ: Floats, precision: Precision = EXACT) -> Chunk:
    """Spectra on the pixels of a page as few bytes; sigma 0 = a bad pixel."""
    rows, pixels = flux_NQ.shape
    good_NQ = sigma_NQ > 0
    block_NB = _blocks(sigma_NQ)
    step_NQ = _step_NQ(block_NB, pixels, precision)
    level_NQ = np.clip(np.round((flux_NQ - CONTINUUM) / step_NQ), -32768, 32767)
    level_NQ = _filled(np.where(good_NQ, level_NQ, 0), good_NQ).astype(np.int16)
    change_NQ = np.diff(level_NQ, axis=1, prepend=np.int16(0)).astype(np.int32)
    change_NQ = (
        (change_NQ + 32768) & 0xFFFF
    ) - 32768  # differences wrap around, as they do when they are undone
    unsigned_NQ = ((change_NQ << 1) ^ (change_NQ >> 31)).astype("<u2")
    parts = [(unsigned_NQ & 0xFF).astype(np.uint8), (unsigned_NQ >> 8).astype(np.uint8), block_NB]
    parts.append(np.packbits(~good_NQ, axis=1, bitorder="little"))
    if precision.noise:
        parts.append(_noise_codes(sigma_NQ))
    about = {
        "rows": rows,
        "pixels": pixels,
        "steps": precision.steps,
        "smallest": precision.smallest,
        "noise": precision.noise,
    }
    return Chunk(about, squeeze(b"".join(part.tobytes() for part in parts)))


def _filled(level_NQ: Floats, good_NQ: NDArray[np.bool_]) -> Floats:
    """Bad pixels repeat the good one before them, so that they cost nothing."""
    last_NQ = np.maximum.accumulate(np.where(good_NQ, np.arange(level_NQ.shape[1]), 0), axis=1)
    return np.asarray(np.take_along_axis(level_NQ, last_NQ, axis=1))


def _noise_codes(sigma_NQ: Floats) -> Bytes:
    """The noise of two pixels each, as differences of codes."""
    rows, pixels = sigma_NQ.shape
    even = np.zeros((rows, pixels + pixels % 2))
    even[:, :pixels] = sigma_NQ
    pair = np.where(even > 0, even, np.nan).reshape(rows, -1, 2)
    known = np.asarray(np.isfinite(pair).any(2))
    mean = np.nanmean(np.where(known[..., None], pair, 1.0), axis=2)
    code = _filled(np.where(known, noise_code(mean), 0).astype(np.float64), known).astype(np.uint8)
    return np.diff(code, axis=1, prepend=np.uint8(0)).astype(np.uint8)


def squeeze(data: bytes) -> bytes:
    """Bytes packed by gzip. Only runs of equal bytes are looked for: noise does not repeat."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_RLE)
    return packer.compress(data) + packer.flush()


def unpack(chunk: Chunk) -> tuple[Floats, Floats]:
    """Flux (NaN where bad) and noise of packed spectra, as the browser reads them."""
    rows, pixels = chunk.about["rows"], chunk.about["pixels"]
    raw = np.frombuffer(zlib.decompress(chunk.data, 31), np.uint8)
    blocks, half = -(-pixels // BLOCK), -(-pixels // 2)
    sizes = [pixels, pixels, blocks, -(-pixels // 8), half if chunk.about["noise"] else 0]
    ends = np.cumsum([0, *(rows * size for size in sizes)])
    low, high, block, bad, noise = (
        raw[start:end].reshape(rows, size) for start, end, size in zip(ends, ends[1:], sizes, strict=False)
    )
    unsigned_NQ = low.astype(np.int32) | high.astype(np.int32) << 8
    change_NQ = (unsigned_NQ >> 1) ^ -(unsigned_NQ & 1)
    level_NQ = np.cumsum(change_NQ, axis=1, dtype=np.int64).astype(np.int16)
    precision = Precision(chunk.about["steps"], chunk.about["smallest"], chunk.about["noise"])
    flux_NQ = CONTINUUM + level_NQ * _step_NQ(block, pixels, precision)
    bad_NQ = np.unpackbits(bad, axis=1, count=pixels, bitorder="little").astype(bool)
    code = np.cumsum(noise, axis=1, dtype=np.int64).astype(np.uint8)
    sigma_NQ = np.repeat(noise_of(code), 2, axis=1)[:, :pixels]
    return np.where(bad_NQ, np.nan, flux_NQ), sigma_NQ


def chunk_starts(count: int) -> Sequence[int]:
    """The first spectrum of each chunk."""
    return range(0, count, PER_CHUNK)
