"""What a spectrum is, before and after it lies on a grid.

A source gives `Spectrum`s: one visit's pixels at their own wavelengths, in vacuum angstrom and in the observed frame, with what the
file says of the visit. The store keeps spectra on one `Grid`. What cannot become a spectrum is `Refused` for one of `REASONS`.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

REASONS = {
    "missing": "the file of the manifest is not there or may not be read",
    "not_a_file": "the path is a folder or something else that holds no bytes",
    "empty": "the file has no bytes",
    "too_large": "the file, or what it unpacks to, is larger than any survey file",
    "bad_gzip": "the gzip stream is damaged or cut short",
    "not_fits": "the bytes are no FITS file",
    "truncated": "the file ends before the data that its header announces",
    "bad_header": "a header card that is needed is missing, contradictory or no number",
    "unknown_layout": "a sound file, but in no layout that a source knows",
    "no_object": "a sky fibre, a lamp or another exposure without an object",
    "bad_wavelength": "the wavelengths are not finite, positive and rising",
    "no_good_pixel": "no pixel is finite, unmasked and of positive inverse variance, or the flux is 0 in all of them",
    "coverage": "too little of the grid is covered",
    "bad_pixels": "too many of the covered pixels are bad",
    "few_pixels": "too few good pixels",
    "low_snr": "the signal to noise is too low",
    "outliers": "too many outlying pixels",
    "bad_row": "the row of a table of spectra has the wrong length or type",
}
"""The closed list of reasons for which a file or a spectrum is refused."""


class Refused(Exception):  # noqa: N818 - the domain word; nobody calls it an error
    """A file or spectrum that is left out, with the reason and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of the reasons {', '.join(REASONS)}")
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Grid:
    """Wavelengths that all spectra of a store share, in vacuum angstrom; `start`, `stop` (included) and `step` are log10 for a log grid."""

    start: float
    stop: float
    step: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if self.scale not in ("linear", "log"):
            raise ValueError(f"grid: the scale is {self.scale!r}; give linear or log")
        lowest, highest = (2.0, 6.0) if self.scale == "log" else (100.0, 1e6)
        if (
            not all(map(math.isfinite, (self.start, self.stop, self.step)))
            or not lowest <= self.start < self.stop <= highest
        ):
            raise ValueError(
                f"grid: {self.scale} from {self.start} to {self.stop}: needs {lowest:g} <= start < stop <= {highest:g}"
            )
        if not 0 < self.step <= self.stop - self.start or (self.stop - self.start) / self.step > 1e6:
            raise ValueError(
                f"grid: step {self.step} between {self.start} and {self.stop}: needs 2 to 1,000,000 points"
            )

    def __len__(self) -> int:
        return math.floor((self.stop - self.start) / self.step + 1e-6) + 1

    @cached_property
    def wave(self) -> np.ndarray:
        """Vacuum angstrom of every point."""
        points = self.start + self.step * np.arange(len(self))
        return 10**points if self.scale == "log" else points


GRIDS = {
    "cemp4900": Grid(3900.0, 8799.0, 1.0),
    "log3921": Grid(math.log10(3690.0), math.log10(9100.0), 1e-4, "log"),
    "sdss3522": Grid(3.5820, 3.9341, 1e-4, "log"),
}
"""The named grids: system 0's 4,900 points, system 1's 3,921 and system 2's 3,522 (3819 to 8592 angstrom, which SDSS and BOSS both cover)."""


@dataclass(frozen=True)
class LogWave:
    """Wavelengths 10**(start + step * i): how most surveys sample; exact, and far cheaper to look up than a list."""

    start: float
    step: float
    size: int

    def __len__(self) -> int:
        return self.size

    def angstrom(self) -> np.ndarray:
        """Vacuum angstrom of every pixel."""
        return 10 ** (self.start + self.step * np.arange(self.size))


@dataclass
class Spectrum:
    """One visit as its file gives it.

    `flux` and `ivar` are what the file holds (any float type and byte order); `bad` is true where the survey's own mask says so in all
    exposures (and-mask), `suspect` where in any (or-mask); either may be None. `visit` holds values of `VISIT` columns; absent = not known.
    """

    wave: LogWave | np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    bad: np.ndarray | None = None
    suspect: np.ndarray | None = None
    visit: dict[str, Any] = field(default_factory=dict)

    @property
    def angstrom(self) -> np.ndarray:
        """Vacuum angstrom of every pixel, observed frame."""
        return self.wave.angstrom() if isinstance(self.wave, LogWave) else self.wave


VISIT = {
    "visit": (
        "string",
        "identity of the visit: lmjd-plan-spectrograph-fibre (SDSS: plate-mjd-fibre), or the file's name where those are missing",
    ),
    "star": ("string", "the survey's name of the source (designation, thing id), where there is one"),
    "obsid": ("int64", "the survey's number of the observation; null where missing or broken"),
    "survey": ("string", "lamost-lrs, lamost-mrs, sdss, arrays ..."),
    "layout": ("string", "how the file is built"),
    "release": ("string", "data release as the file states it"),
    "ra": ("float64", "right ascension, degrees"),
    "dec": ("float64", "declination, degrees"),
    "lmjd": ("int32", "local modified Julian day (SDSS: MJD)"),
    "planid": ("string", "plan (SDSS: plate)"),
    "spid": ("int32", "spectrograph"),
    "fiberid": ("int32", "fibre"),
    "fiber_mask": ("int64", "the survey's bitmask of the fibre; 0 = good"),
    "class": ("string", "class by the survey's pipeline"),
    "subclass": ("string", "subclass by the survey's pipeline"),
    "z": ("float64", "redshift by the survey's pipeline; null where not measured"),
    "z_err": ("float64", "its error"),
    "snr_u": ("float32", "signal to noise in u by the survey's pipeline"),
    "snr_g": ("float32", "the same in g"),
    "snr_r": ("float32", "the same in r"),
    "snr_i": ("float32", "the same in i"),
    "snr_z": ("float32", "the same in z"),
}
"""What a source may say of a visit: column, Arrow type, meaning. A store has all of these columns."""
