"""What a spectrum is, before and after it is resampled to a grid.

A source gives `Spectrum`s: the pixels of one visit at their own wavelengths (vacuum angstrom, observed
frame), with what the file says of the visit. A store keeps all spectra on one `Grid`. What cannot become a
spectrum is `Refused`, for one of the reasons in `REASONS`.
"""

import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

REASONS = {
    "missing": "the file of the manifest is not there or cannot be read",
    "not_a_file": "the path is a folder or another entry that holds no bytes",
    "empty": "the file has no bytes",
    "too_large": "the file, packed or unpacked, is larger than any survey file",
    "bad_gzip": "the gzip stream is damaged or incomplete",
    "not_fits": "the bytes are no FITS file",
    "truncated": "the file ends before the data that its header announces",
    "bad_header": "a required header card is missing, contradictory or no number",
    "damaged": "a source knows the file by its name, but cannot read it",
    "plugin_error": "the code of the source has an error: correct it, then give reread=true",
    "unknown_layout": "a valid file, but no source knows its layout",
    "no_object": "a sky fibre, a lamp or another exposure without an object",
    "bad_wavelength": "the wavelengths are not finite, positive and rising",
    "no_good_pixel": "no pixel is finite and unmasked with a positive inverse variance, or the flux is 0 or "
    "too large",
    "coverage": "too little of the grid is covered",
    "bad_pixels": "too many of the covered pixels are bad",
    "few_pixels": "too few good pixels",
    "low_snr": "the signal to noise is too low",
    "outliers": "too many outlying pixels",
    "bad_row": "the row of a table of spectra has the wrong length or type",
    "bad_image": "the bytes are no image, or a damaged one",
    "image_shape": "the image has another size or other planes than the settings allow",
    "blank_image": "the image shows nothing: all pixels are equal, or none is finite",
}
"""The closed list of reasons for which a file or a spectrum is refused."""

REMEDIES = {
    "plugin_error": "correct the source, then reread=true reads these files again",
    "unknown_layout": "name the right source with sources=[...], or add one (docs/extending.md)",
    "coverage": "give another prepare.grid=, or the unit of the wavelengths (options.SOURCE.wave=), or "
    "prepare.gates.coverage.then=flag; where a shift is named, look at that column (or "
    "prepare.velocity=none: no shift)",
    "bad_wavelength": "look at the column and the unit of the wavelengths (options.SOURCE.wave=)",
    **{
        name: f"prepare.gates.{name}.then=flag keeps such spectra"
        for name in ("low_snr", "bad_pixels", "few_pixels", "outliers")
    },
}
"""What may help where many files are refused for a reason."""


class Refused(Exception):  # noqa: N818 - the word of the domain: a refused file is counted, it is no failure
    """A file or spectrum that is left out, with the reason and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of the reasons {', '.join(REASONS)}")
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Grid:
    """The wavelengths that all spectra of a store share, in vacuum angstrom.

    `stop` is included. For a log grid, `start`, `stop` and `step` are log10 angstrom.
    """

    start: float
    stop: float
    step: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if self.start == self.stop == self.step == 0:
            return  # the grid of a store without spectra
        if self.scale not in ("linear", "log"):
            raise ValueError(f"grid: the scale is {self.scale!r}; give linear or log")
        lowest, highest = (2.0, 6.0) if self.scale == "log" else (100.0, 1e6)
        finite = all(map(math.isfinite, (self.start, self.stop, self.step)))
        if not finite or not lowest <= self.start < self.stop <= highest:
            raise ValueError(
                f"grid: {self.scale} from {self.start} to {self.stop}: "
                f"needs {lowest:g} <= start < stop <= {highest:g}"
            )
        if not 0 < self.step <= self.stop - self.start or (self.stop - self.start) / self.step > 1e6:
            raise ValueError(
                f"grid: step {self.step} between {self.start} and {self.stop}: needs 2 to 1,000,000 points"
            )

    def __len__(self) -> int:
        if not self.step:
            return 0
        return math.floor((self.stop - self.start) / self.step + 1e-6) + 1

    def __str__(self) -> str:
        """The grid in a message."""
        if not self.step:
            return "no wavelengths"
        return f"{len(self)} {self.scale} points from {self.start:g} to {self.stop:g}"

    @cached_property
    def wave(self) -> np.ndarray:
        """Vacuum angstrom of every point."""
        points = self.start + self.step * np.arange(len(self))
        return 10**points if self.scale == "log" else points

    def to_dict(self) -> dict[str, Any]:
        """The grid as JSON stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The grid of `to_dict`."""
        return cls(**values)


GRIDS = {
    "cemp4900": Grid(3900.0, 8799.0, 1.0),
    "log3921": Grid(math.log10(3690.0), math.log10(9100.0), 1e-4, "log"),
    "sdss3522": Grid(3.5820, 3.9341, 1e-4, "log"),
    "none": Grid(0.0, 0.0, 0.0),
}
"""The named grids: 4,900 points of system 0, 3,921 of system 1, and 3,522 of system 2, which are the
wavelengths that SDSS and BOSS have in common (3819 to 8592 angstrom). `none` has no points: a store of images
only."""


@dataclass(frozen=True)
class LogWave:
    """Wavelengths 10**(start + step * i), as most surveys sample: exact, and faster than a list."""

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

    `flux` and `ivar` are the arrays of the file, of any float type and byte order. `bad` marks pixels that
    the survey masks in all exposures (and-mask), `suspect` those that it masks in any (or-mask); each may be
    None. `visit` holds values of `VISIT_KEYS`; what is not known is absent. `noise_estimated` means that
    the file gives no errors: `ivar` was estimated from the flux (`survey.sources.noise`).
    """

    wave: LogWave | np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    bad: np.ndarray | None = None
    suspect: np.ndarray | None = None
    visit: dict[str, Any] = field(default_factory=dict)
    noise_estimated: bool = False

    @property
    def angstrom(self) -> np.ndarray:
        """Vacuum angstrom of every pixel, observed frame."""
        return self.wave.angstrom() if isinstance(self.wave, LogWave) else self.wave


@dataclass
class ImageOfObject:
    """One image as its file gives it: colours (C, H, W), bytes or numbers, and values of `VISIT_COLUMNS`."""

    pixels: np.ndarray
    visit: dict[str, Any] = field(default_factory=dict)


VISIT_COLUMNS = {
    "visit": (
        "string",
        "name of the visit: day-plan-spectrograph-fibre, SDSS: plate-day-fibre; or the file's name",
    ),
    "star": ("string", "the survey's name of the source (designation, thing id), if any"),
    "obsid": ("int64", "the survey's number of the observation; null if missing or invalid"),
    "survey": ("string", "lamost-lrs, lamost-mrs, sdss, arrays ..."),
    "layout": ("string", "the layout of the file"),
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
    "z": ("float64", "redshift by the survey's pipeline; null if not measured"),
    "z_err": ("float64", "error of the redshift"),
    "snr_u": ("float32", "signal to noise in u by the survey's pipeline"),
    "snr_g": ("float32", "signal to noise in g by the survey's pipeline"),
    "snr_r": ("float32", "signal to noise in r by the survey's pipeline"),
    "snr_i": ("float32", "signal to noise in i by the survey's pipeline"),
    "snr_z": ("float32", "signal to noise in z by the survey's pipeline"),
    "gaia_source_id": ("int64", "number of the source in Gaia (DR2 or later), as the file states it"),
    "mag_g": ("float32", "magnitude in g, as the file states it from its input catalogue"),
    "mag_r": ("float32", "magnitude in r, as the file states it from its input catalogue"),
    "mag_i": ("float32", "magnitude in i, as the file states it from its input catalogue"),
    "mag_gaia": ("float32", "magnitude in G of Gaia, as the file states it from its input catalogue"),
    "mag_system": ("string", "bands of the file's magnitudes: ugrizjh, gri, gbprp; ps = Pan-STARRS; sdss"),
}
"""What a source may say of a visit: column, Arrow type, meaning. A store has all of these columns."""

VISIT_KEYS = (*VISIT_COLUMNS, "rv")
"""All that a source may say of a visit. `rv` is the radial velocity in km/s: it shifts the spectrum to the
rest frame where the catalogue has none, and the store has it as `velocity`."""
