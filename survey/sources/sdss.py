"""Spectra of SDSS and BOSS: spec-PLATE-MJD-FIBER.fits, a table of the co-added pixels and a table of one row that says what was seen.

Legacy files call the second table SPECOBJ, BOSS files SPALL; column names come in either case. Wavelengths are vacuum.
"""

from typing import Any

import numpy as np

from survey.settings import Settings
from survey.sources import visit as visits
from survey.sources import wavelengths
from survey.sources.fits import Cards, Hdu, Hdus
from survey.spectrum import LogWave, Refused, Spectrum

FEWEST, MOST = 100, 100_000

UNUSABLE = sum(1 << bit for bit in (0, 1, 3, 18, 22, 23, 26, 28))
"""SPPIXMASK bits after which a pixel is no measurement of the object: NOPLUG, BADTRACE, BADARC, FULLREJECT, NOSKY, BRIGHTSKY, BADFLUXFACTOR,
REDMONSTER. The survey has set the inverse variance of the worst pixels to 0 already and names BRIGHTSKY as the one to look at besides
(sdss.org, bitmask SPPIXMASK). The other bits of a whole fibre (BADFLAT, MANYBADCOLUMNS, WHOPPER, ...) are set over thousands of sound pixels,
NODATA is to be ignored, and the rest tell of rejected exposures that the inverse variance accounts for."""

SKY_OR_UNPLUGGED = 1 << 0 | 1 << 7
"""ZWARNING bits."""

COLUMNS = {
    "obsid": ("SPECOBJID",),
    "ra": ("PLUG_RA", "RA"),
    "dec": ("PLUG_DEC", "DEC"),
    "lmjd": ("MJD",),
    "planid": ("PLATE",),
    "spid": ("SPECTROGRAPHID",),
    "fiberid": ("FIBERID",),
    "class": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "z": ("Z",),
    "z_err": ("Z_ERR",),
}
"""Which column of SPECOBJ or SPALL holds each column of a visit."""

CARDS = {
    "release": "RUN2D",
    "ra": "PLUG_RA",
    "dec": "PLUG_DEC",
    "lmjd": "MJD",
    "planid": "PLATEID",
    "fiberid": "FIBERID",
}
"""The same for the cards of the first header, which count where the table says nothing."""


class Options(Settings):
    """How SDSS files are read; there is nothing to choose."""


def read(hdus: Hdus, name: str, settings: Options) -> list[Spectrum] | None:
    """The co-added spectrum of an SDSS file; None if it is none."""
    coadd = hdus.at(1)
    if coadd is None or coadd.name.upper() != "COADD" or not {"FLUX", "LOGLAM", "IVAR"} <= set(coadd.columns):
        return None
    seen = hdus.at(2)
    cards = hdus[0].cards
    visit = _visit(cards, seen if seen is not None and "CLASS" in seen.columns else None, name)
    flux, ivar, loglam = (_pixels(coadd, column) for column in ("FLUX", "IVAR", "LOGLAM"))
    if not FEWEST <= len(flux) <= MOST:
        raise Refused("unknown_layout", f"{len(flux)} pixels; {FEWEST} to {MOST} make a spectrum")
    bad, suspect = (_mask(coadd, column) for column in ("AND_MASK", "OR_MASK"))
    return [Spectrum(_wave(loglam, cards), flux, ivar, bad, suspect, visit)]


def _pixels(table: Hdu, column: str) -> np.ndarray:
    found = table.column(column)
    if found.ndim != 1 or found.dtype.kind not in "fiu":
        raise Refused(
            "bad_header", f"the column {column} holds {found.shape} {found.dtype}, not a number a row"
        )
    return found


def _mask(table: Hdu, column: str) -> np.ndarray | None:
    if column not in table.columns:
        return None
    found = _pixels(table, column)
    if found.dtype.kind == "f":
        raise Refused("bad_header", f"the column {column} holds {found.dtype}, not bits")
    masked: np.ndarray = (found.astype(np.int64) & UNUSABLE) != 0
    return masked


def _wave(loglam: np.ndarray, cards: Cards) -> LogWave | np.ndarray:
    """Wavelengths on the survey's fixed log grid; float32 holds them to 0.0025 angstrom, beyond 10,000 angstrom to 0.0057."""
    start, step = cards.get("COEFF0"), cards.get("COEFF1")
    plate = wavelengths.from_coefficients(start, step, len(loglam))
    if plate is not None and 0 < loglam[0] < 9:
        start, step = plate.start, plate.step
        start += step * round(
            (float(loglam[0]) - start) / step
        )  # COEFF0 is of the plate; a fibre may start some pixels later
    wave = wavelengths.settled(wavelengths.angstrom(loglam), start, step, wavelengths.rounding(loglam))
    if cards.get("VACUUM") not in (False, "F"):
        return wave
    return wavelengths.vacuum(wave.angstrom() if isinstance(wave, LogWave) else wave)


def _visit(cards: Cards, seen: Hdu | None, name: str) -> dict[str, Any]:
    """What the file says of the visit; refused where it says that no object was seen."""
    row = _row(seen) if seen is not None else {}
    for column in ("SOURCETYPE", "OBJTYPE"):
        if (visits.text(row.get(column)) or "").upper() == "SKY":
            raise Refused("no_object", f"{column} = SKY")
    warning = visits.number(row.get("ZWARNING"))
    if isinstance(warning, int) and warning & SKY_OR_UNPLUGGED:
        raise Refused("no_object", f"ZWARNING = {warning}: sky or unplugged")
    visit = visits.sound((column, cards.get(card)) for column, card in CARDS.items())
    for column, sources in COLUMNS.items():
        visit |= visits.sound((column, row[source]) for source in reversed(sources) if source in row)
    ratios = row.get("SN_MEDIAN")
    if isinstance(ratios, list) and len(ratios) == 5:
        visit |= visits.sound((f"snr_{band}", ratio) for band, ratio in zip("ugriz", ratios, strict=True))
    thing = visits.number(row.get("THING_ID"))
    star = visits.text(thing) if thing and thing > 0 else visits.text(row.get("BESTOBJID"))
    if star not in (None, "0"):
        visit["star"] = star
    where = [visit.get(column) for column in ("planid", "lmjd", "fiberid")]
    visit["visit"] = visits.stem(name) if None in where else "-".join(map(str, where))
    visit["survey"] = "sdss"
    visit["layout"] = "sdss_boss" if seen is not None and seen.name.upper() == "SPALL" else "sdss_legacy"
    return visit


WANTED = (
    "SOURCETYPE",
    "OBJTYPE",
    "ZWARNING",
    "SN_MEDIAN",
    "THING_ID",
    "BESTOBJID",
    *(source for sources in COLUMNS.values() for source in sources),
)


def _row(table: Hdu) -> dict[str, Any]:
    """The wanted values of the only row of a table, as Python's own."""
    row = {}
    for column in WANTED:
        if column in table.cards.fields:
            values = table.column(column)
            if len(values) != 1:
                raise Refused("bad_header", f"{table.name} has {len(values)} rows; a spectrum has one")
            row[column] = values[0].tolist() if hasattr(values[0], "tolist") else values[0]
    return row
