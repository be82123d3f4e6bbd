"""LAMOST spectra: low resolution in the three layouts of its releases, medium resolution as co-added arms or single exposures.

The layout is told by what is in the file, never by a release number: an image of five rows, whose third is the wavelength or, in DR1's time,
the flux divided by the continuum; a table of one row with columns FLUX, IVAR, WAVELENGTH; or a table for each arm and exposure.
Flux and inverse variance are views of the file's bytes.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from survey.settings import Settings
from survey.sources import visit as visits
from survey.sources import wavelengths
from survey.sources.fits import Cards, Hdu, Hdus
from survey.spectrum import LogWave, Refused, Spectrum

FEWEST, MOST = 100, 100_000
"""Pixels of a spectrum; real ones have 3,700 to 4,200 in an arm or file."""

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
"""Which card, by age of the pipeline, holds each column of a visit."""
WANTED = tuple(CARDS.values())

NO_OBJECT = ("sky", "unused", "poserr", "dead")
"""What FIBERTYP, FIB_TYPE or OBJTYPE say of a fibre that sees no object of the input catalogue."""


class Options(Settings):
    """How LAMOST files are read."""

    mrs: Literal["coadd", "single"] = Field(
        "coadd", description="of medium-resolution files: the co-added spectrum, or every single exposure"
    )


def read(hdus: Hdus, name: str, settings: Options) -> list[Spectrum] | None:
    """The spectra of a LAMOST file; None if it is none."""
    first = hdus[0]
    telescope = first.cards.get("TELESCOP")
    if isinstance(telescope, str) and not telescope.upper().startswith("LAMOST"):
        return None
    if len(first.shape) == 2 and first.shape[0] == 5:
        return _image(first, name, isinstance(telescope, str))
    second = hdus.at(1)
    if second is None or not second.is_table:
        return None
    if _exposure(second.name):
        return _medium(hdus, name, settings)
    if {"FLUX", "IVAR", "WAVELENGTH"} <= set(second.columns) and second.shape[0] == 1:
        return _table(first.cards, second, name)
    return None


def _image(hdu: Hdu, name: str, is_lamost: bool) -> list[Spectrum] | None:
    """An image: flux, inverse variance, wavelength or flux over continuum, and-mask, or-mask."""
    cards = hdu.cards
    _check_size(hdu.shape[1])
    rows = hdu.image()
    start, step = cards.first(("COEFF0", "CRVAL1")), cards.first(("COEFF1", "CD1_1"))
    wave: LogWave | np.ndarray | None = wavelengths.log_linear(rows[2], start, step)
    layout = "lrs_image"
    if wave is None and (_mostly_wavelengths(rows[2]) or "wavelength" in str(cards.get("EXTEN0")).lower()):
        wave = wavelengths.settled(rows[2])
    elif wave is None:
        wave, layout = wavelengths.from_coefficients(start, step, hdu.shape[1]), "lrs_image_subcont"
        if not is_lamost:
            return None  # five rows without wavelengths: spSpec files of old SDSS look like this
        if wave is None:
            raise Refused(
                "bad_wavelength", f"no row of wavelengths, and COEFF0 = {start!r}, COEFF1 = {step!r}"
            )
    masked = rows[3:5] != 0  # NaN is not 0: bad
    return [
        Spectrum(_vacuum(wave, cards), rows[0], rows[1], masked[0], masked[1], _visit(cards, layout, name))
    ]


def _mostly_wavelengths(row: np.ndarray) -> bool:
    """Whether a row is a series of rising optical wavelengths, a few damaged ones aside."""
    sample = row[:: max(1, len(row) // 64)].astype(float)
    inside = (sample > 1000) & (sample < 20000)
    return bool(inside.mean() > 0.5 and (np.diff(sample[inside]) > 0).mean() > 0.5)


def _table(cards: Cards, table: Hdu, name: str) -> list[Spectrum]:
    """A table of one row with an array in each column."""
    flux, ivar, wave = (_pixels(table, column) for column in ("FLUX", "IVAR", "WAVELENGTH"))
    _check_size(len(flux), len(ivar), len(wave))
    start, step = cards.first(("COEFF0", "CRVAL1")), cards.first(("COEFF1", "CD1_1"))
    settled = wavelengths.settled(wave, start, step)
    bad, suspect = (_mask(table, column, len(flux)) for column in ("ANDMASK", "ORMASK"))
    return [Spectrum(_vacuum(settled, cards), flux, ivar, bad, suspect, _visit(cards, "lrs_table", name))]


def _pixels(table: Hdu, column: str) -> np.ndarray:
    """A column as one series of numbers, whether it is one array or one number a row."""
    found = table.column(column)
    if found.dtype.kind not in "fiu":
        raise Refused("bad_header", f"the column {column} holds no numbers")
    return found.reshape(-1) if found.ndim > 1 else found


def _mask(table: Hdu, column: str, size: int) -> np.ndarray | None:
    if column not in table.columns:
        return None
    found = _pixels(table, column)
    _check_size(size, len(found))
    masked: np.ndarray = found != 0  # NaN is not 0: bad
    return masked


def _check_size(size: int, *others: int) -> None:
    if not FEWEST <= size <= MOST or any(other != size for other in others):
        raise Refused(
            "unknown_layout", f"{(size, *others)} pixels; {FEWEST} to {MOST} of each kind make a spectrum"
        )


def _vacuum(wave: LogWave | np.ndarray, cards: Cards) -> LogWave | np.ndarray:
    """The wavelengths as they are, or converted where the file says that they are in air."""
    if cards.get("VACUUM") not in (False, "F"):
        return wave
    return wavelengths.vacuum(wave.angstrom() if isinstance(wave, LogWave) else wave)


def _visit(cards: Cards, layout: str, name: str) -> dict[str, Any]:
    """What the header says of the visit; refused where it says that no object was seen."""
    kind = cards.get("OBS_TYPE")
    if (
        isinstance(kind, str) and kind.strip() and kind.strip().upper() != "OBJ"
    ):  # two sound files of the survey say 0
        raise Refused("no_object", f"OBS_TYPE = {kind!r}")
    for card in ("FIBERTYP", "FIB_TYPE", "OBJTYPE"):
        kind = cards.get(card)
        if isinstance(kind, str) and kind.strip().lower() in NO_OBJECT:
            raise Refused("no_object", f"{card} = {kind!r}")
    visit = visits.sound(zip(CARDS, cards.each(WANTED), strict=True))
    if "star" in visit:
        visit["star"] = visit["star"].removeprefix("LAMOST ").strip()
    visit["visit"] = visits.identity(visit, name)
    visit["survey"] = "lamost-mrs" if layout.startswith("mrs") else "lamost-lrs"
    visit["layout"] = layout
    return visit


def _exposure(name: str) -> tuple[str, str] | None:
    """Arm and exposure that an extension of a medium-resolution file holds; the co-added spectrum is the exposure COADD."""
    if name in ("COADD_B", "COADD_R"):
        return name[-1], "COADD"
    return (name[0], name[2:]) if name[:2] in ("B-", "R-") and name[2:].isdigit() else None


def _medium(hdus: Hdus, name: str, settings: Options) -> list[Spectrum]:
    """The co-added spectrum of both arms, or one for each exposure."""
    exposures: dict[str, dict[str, Hdu]] = {}
    for hdu in hdus:
        found = _exposure(hdu.name) if hdu.is_table else None
        if found and (found[1] == "COADD") == (settings.mrs == "coadd"):
            exposures.setdefault(found[1], {})[found[0]] = hdu
    if not exposures:
        raise Refused("unknown_layout", f"no {settings.mrs} spectrum in {hdus.outline()}")
    return [_joined(hdus[0].cards, exposure, exposures[exposure], name) for exposure in sorted(exposures)]


def _joined(cards: Cards, exposure: str, tables: dict[str, Hdu], name: str) -> Spectrum:
    """One spectrum of the arms of an exposure."""
    arms = [_arm(tables[letter], cards) for letter in "BR" if letter in tables]
    whole = arms[0] if len(arms) == 1 else _side_by_side(*arms)
    whole.visit = _visit(cards, "mrs_coadd" if exposure == "COADD" else "mrs_single", name)
    whole.visit |= visits.sound(
        (f"snr_{'g' if letter == 'B' else 'r'}", table.cards.get("SNR")) for letter, table in tables.items()
    )
    if exposure != "COADD":
        whole.visit["visit"] += f"-{exposure}"
    return whole


def _side_by_side(blue: Spectrum, red: Spectrum) -> Spectrum:
    """Both arms, blue before red; red pixels that blue has covered are left out."""
    new = int(np.searchsorted(red.angstrom, blue.angstrom[-1], side="right"))

    def joined(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
        return None if left is None or right is None else np.concatenate((left, right[new:]))

    wave = np.concatenate((blue.angstrom, red.angstrom[new:]))
    flux, ivar = np.concatenate((blue.flux, red.flux[new:])), np.concatenate((blue.ivar, red.ivar[new:]))
    return Spectrum(wave, flux, ivar, joined(blue.bad, red.bad), joined(blue.suspect, red.suspect))


def _arm(table: Hdu, cards: Cards) -> Spectrum:
    """One arm in rising wavelength; red single exposures are stored from red to blue."""
    flux, ivar = _pixels(table, "FLUX"), _pixels(table, "IVAR")
    wave = (
        wavelengths.angstrom(_pixels(table, "LOGLAM"))
        if "LOGLAM" in table.columns
        else _pixels(table, "WAVELENGTH").astype(float)
    )
    _check_size(len(flux), len(ivar), len(wave))
    bad = _mask(table, "ANDMASK" if "ANDMASK" in table.columns else "PIXMASK", len(flux))
    suspect = _mask(table, "ORMASK", len(flux))
    order = slice(None, None, -1 if wave[0] > wave[-1] else 1)
    wave = wave[order]
    wavelengths.check(wave)
    vacuum = _vacuum(wave, cards)
    return Spectrum(
        vacuum,
        flux[order],
        ivar[order],
        None if bad is None else bad[order],
        None if suspect is None else suspect[order],
    )
