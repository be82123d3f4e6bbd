"""LAMOST spectra: low resolution in three layouts, medium resolution as co-added arms or single exposures.

The layout follows from the content of the file, never from a release number. It is an image of five rows,
whose third row is the wavelength or, in DR1, flux / continuum; or a table of one row with columns FLUX,
IVAR, WAVELENGTH; or a table for each arm and exposure. Flux and inverse variance are views of the file's
bytes.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from survey.settings import Settings
from survey.sources import wavelengths
from survey.sources.fits import Hdu, Hdus
from survey.sources.header import Cards
from survey.sources.naming import Naming
from survey.sources.photometry import lamost_photometry
from survey.sources.visit import valid_values, visit_name
from survey.spectrum import LogWave, Refused, Spectrum

FEWEST, MOST = 100, 100_000
"""Pixels of a spectrum. Real ones have 3,700 to 4,200 in an arm or file."""

NAMING = Naming(
    file=r"^(?:spec|med)-(?P<lmjd>\d+)-(?P<planid>.+)_sp(?P<spid>\d+)-(?P<fiberid>\d+)$",
    parts={"lmjd": 1, "planid": None, "spid": 2, "fiberid": 3},
    path="{planid}/spec-{lmjd:05d}-{planid}_sp{spid:02d}-{fiberid:03d}.fits.gz",
    star_prefix="LAMOST",
    column_prefix="combined_",
)
"""A visit is named day-plan-spectrograph-fibre."""

CARDS = {
    "star": ("DESIG",),
    "obsid": ("OBSID",),
    "release": ("DATA_V",),
    "ra": ("RA", "RA_OBS", "OBS_RA"),
    "dec": ("DEC", "DEC_OBS", "OBS_DEC"),
    "lmjd": ("LMJD",),
    "planid": ("PLANID",),
    "spid": ("SPID",),
    "fiberid": ("FIBERID",),
    "fiber_mask": ("FIBERMAS", "FIB_MASK"),
    "class": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "z": ("Z",),
    "z_err": ("Z_ERR",),
    "snr_u": ("SNRU", "SN_U"),
    "snr_g": ("SNRG", "SN_G"),
    "snr_r": ("SNRR", "SN_R"),
    "snr_i": ("SNRI", "SN_I"),
    "snr_z": ("SNRZ", "SN_Z"),
}
"""The cards of each column of a visit; their names depend on the age of the pipeline."""
CARD_NAMES = tuple(CARDS.values())

NO_OBJECT = ("sky", "unused", "poserr", "dead")
"""Values of FIBERTYP, FIB_TYPE or OBJTYPE for a fibre without an object of the input catalogue."""


class Options(Settings):
    """How LAMOST files are read."""

    mrs: Literal["coadd", "single"] = Field(
        "coadd", description="in medium-resolution files, read the co-added spectrum or every single exposure"
    )


def read(hdus: Hdus, name: str, settings: Options) -> list[Spectrum] | None:
    """The spectra of a LAMOST file; None if it is no LAMOST file."""
    first = hdus[0]
    telescope = first.cards.get("TELESCOP")
    if isinstance(telescope, str) and not telescope.upper().startswith("LAMOST"):
        return None
    if len(first.shape) == 2 and first.shape[0] == 5:
        return _image(first, name, isinstance(telescope, str))
    second = hdus.by_index(1)
    if second is None or not second.is_table:
        return None
    if _arm_and_exposure(second.name):
        return _medium_resolution(hdus, name, settings)
    if {"FLUX", "IVAR", "WAVELENGTH"} <= set(second.columns) and second.shape[0] == 1:
        return _table(first.cards, second, name)
    return None


def _image(hdu: Hdu, name: str, is_lamost: bool) -> list[Spectrum] | None:
    """An image of flux, inverse variance, wavelength (or flux / continuum), and-mask and or-mask."""
    cards = hdu.cards
    _check_size(hdu.shape[1])
    rows = hdu.image()
    start, step = cards.first(("COEFF0", "CRVAL1")), cards.first(("COEFF1", "CD1_1"))
    wave: LogWave | np.ndarray | None = wavelengths.log_linear(rows[2], start, step)
    layout = "lrs_image"
    if wave is None and (_mostly_wavelengths(rows[2]) or "wavelength" in str(cards.get("EXTEN0")).lower()):
        wave = wavelengths.log_linear_or_list(rows[2])
    elif wave is None:
        wave, layout = wavelengths.from_coefficients(start, step, hdu.shape[1]), "lrs_image_subcont"
        if not is_lamost:
            return None  # spSpec files of old SDSS also have five rows without wavelengths
        if wave is None:
            raise Refused(
                "bad_wavelength", f"no row of wavelengths, and COEFF0 = {start!r}, COEFF1 = {step!r}"
            )
    bad, suspect = rows[3:5] != 0  # a NaN is not 0, so it counts as bad
    visit = _visit(cards, layout, name)
    return [Spectrum(_vacuum(wave, cards), rows[0], rows[1], bad, suspect, visit)]


def _mostly_wavelengths(row: np.ndarray) -> bool:
    """Whether a row holds optical wavelengths that rise, except for a few damaged ones, or fall: these are
    refused later."""
    sample = row[:: max(1, len(row) // 64)].astype(float)
    inside = (sample > 1000) & (sample < 20000)
    steps = np.diff(sample[inside])
    return bool(inside.mean() > 0.5 and ((steps > 0).mean() > 0.5 or (steps < 0).mean() > 0.9))


def _table(cards: Cards, table: Hdu, name: str) -> list[Spectrum]:
    """A table of one row with an array in each column."""
    flux, ivar, listed = (_pixels(table, column) for column in ("FLUX", "IVAR", "WAVELENGTH"))
    _check_size(len(flux), len(ivar), len(listed))
    start, step = cards.first(("COEFF0", "CRVAL1")), cards.first(("COEFF1", "CD1_1"))
    wave = _vacuum(wavelengths.log_linear_or_list(listed, start, step), cards)
    bad, suspect = (_mask(table, column, len(flux)) for column in ("ANDMASK", "ORMASK"))
    return [Spectrum(wave, flux, ivar, bad, suspect, _visit(cards, "lrs_table", name))]


def _pixels(table: Hdu, column: str) -> np.ndarray:
    """A column as one series of numbers: it holds one array, or one number in each row."""
    values = table.column(column)
    if values.dtype.kind not in "fiu":
        raise Refused("bad_header", f"the column {column} holds no numbers")
    return values.reshape(-1) if values.ndim > 1 else values


def _mask(table: Hdu, column: str, size: int) -> np.ndarray | None:
    if column not in table.columns:
        return None
    values = _pixels(table, column)
    _check_size(size, len(values))
    masked: np.ndarray = values != 0  # a NaN is not 0, so it counts as bad
    return masked


def _check_size(size: int, *others: int) -> None:
    if not FEWEST <= size <= MOST or any(other != size for other in others):
        raise Refused(
            "unknown_layout", f"{(size, *others)} pixels; a spectrum has {FEWEST} to {MOST} of each"
        )


def _vacuum(wave: LogWave | np.ndarray, cards: Cards) -> LogWave | np.ndarray:
    """The wavelengths in vacuum: they are converted if the file says that they are in air."""
    if cards.get("VACUUM") not in (False, "F"):
        return wave
    return wavelengths.air_to_vacuum(wave.angstrom() if isinstance(wave, LogWave) else wave)


def _visit(cards: Cards, layout: str, name: str) -> dict[str, Any]:
    """What the header says of the visit; refused if the fibre had no object."""
    kind = cards.get("OBS_TYPE")
    # two valid files of the survey have the number 0 here
    if isinstance(kind, str) and kind.strip() and kind.strip().upper() != "OBJ":
        raise Refused("no_object", f"OBS_TYPE = {kind!r}")
    for card in ("FIBERTYP", "FIB_TYPE", "OBJTYPE"):
        kind = cards.get(card)
        if isinstance(kind, str) and kind.strip().lower() in NO_OBJECT:
            raise Refused("no_object", f"{card} = {kind!r}")
    visit = valid_values(zip(CARDS, cards.each(CARD_NAMES), strict=True))
    visit |= valid_values(lamost_photometry(cards).items())
    if "star" in visit:
        visit["star"] = visit["star"].removeprefix("LAMOST ").strip()
    visit["visit"] = visit_name(visit, name)
    visit["survey"] = "lamost-mrs" if layout.startswith("mrs") else "lamost-lrs"
    visit["layout"] = layout
    return visit


def _arm_and_exposure(name: str) -> tuple[str, str] | None:
    """Arm and exposure of an extension of a medium-resolution file; COADD means the co-added spectrum."""
    if name in ("COADD_B", "COADD_R"):
        return name[-1], "COADD"
    return (name[0], name[2:]) if name[:2] in ("B-", "R-") and name[2:].isdigit() else None


def _medium_resolution(hdus: Hdus, name: str, settings: Options) -> list[Spectrum]:
    """The co-added spectrum of both arms, or one spectrum for each exposure."""
    exposures: dict[str, dict[str, Hdu]] = {}
    for hdu in hdus:
        found = _arm_and_exposure(hdu.name) if hdu.is_table else None
        if found and (found[1] == "COADD") == (settings.mrs == "coadd"):
            exposures.setdefault(found[1], {})[found[0]] = hdu
    if not exposures:
        raise Refused("unknown_layout", f"no {settings.mrs} spectrum in {hdus.summary()}")
    cards = hdus[0].cards
    return [_join_arms(cards, exposure, exposures[exposure], name) for exposure in sorted(exposures)]


def _join_arms(cards: Cards, exposure: str, tables: dict[str, Hdu], name: str) -> Spectrum:
    """One spectrum from the arms of an exposure."""
    arms = [_arm(tables[letter], cards) for letter in "BR" if letter in tables]
    spectrum = arms[0] if len(arms) == 1 else _concatenate(*arms)
    visit = _visit(cards, "mrs_coadd" if exposure == "COADD" else "mrs_single", name)
    snr_names = {"B": "snr_g", "R": "snr_r"}
    visit |= valid_values((snr_names[letter], table.cards.get("SNR")) for letter, table in tables.items())
    if exposure != "COADD":
        visit["visit"] += f"-{exposure}"
    spectrum.visit = visit
    return spectrum


def _concatenate(blue: Spectrum, red: Spectrum) -> Spectrum:
    """Both arms, blue before red, without the red pixels that the blue arm covers."""
    first = int(np.searchsorted(red.angstrom, blue.angstrom[-1], side="right"))

    def join(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.concatenate((left, right[first:]))

    def join_masks(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
        return None if left is None or right is None else join(left, right)

    return Spectrum(
        join(blue.angstrom, red.angstrom),
        join(blue.flux, red.flux),
        join(blue.ivar, red.ivar),
        join_masks(blue.bad, red.bad),
        join_masks(blue.suspect, red.suspect),
    )


def _arm(table: Hdu, cards: Cards) -> Spectrum:
    """One arm in rising wavelength. Single exposures of the red arm are stored from red to blue."""
    flux, ivar = _pixels(table, "FLUX"), _pixels(table, "IVAR")
    if "LOGLAM" in table.columns:
        wave = wavelengths.from_log10(_pixels(table, "LOGLAM"))
    else:
        wave = _pixels(table, "WAVELENGTH").astype(float)
    _check_size(len(flux), len(ivar), len(wave))
    bad = _mask(table, "ANDMASK" if "ANDMASK" in table.columns else "PIXMASK", len(flux))
    suspect = _mask(table, "ORMASK", len(flux))
    order = slice(None, None, -1 if wave[0] > wave[-1] else 1)
    wave = wave[order]
    wavelengths.check(wave)
    bad, suspect = (None if mask is None else mask[order] for mask in (bad, suspect))
    return Spectrum(_vacuum(wave, cards), flux[order], ivar[order], bad, suspect)
