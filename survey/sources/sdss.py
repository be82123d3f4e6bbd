"""Spectra of SDSS and BOSS: spec-PLATE-MJD-FIBER.fits.

A file has a table of the co-added pixels and a table of one row that describes the object. Legacy files call
the second table SPECOBJ, BOSS files SPALL. Column names come in upper or lower case. Wavelengths are vacuum.
"""

from typing import Any

import numpy as np

from survey.settings import Settings
from survey.sources import wavelengths
from survey.sources.fits import Hdu, Hdus
from survey.sources.header import Cards
from survey.sources.naming import Naming
from survey.sources.photometry import sdss_photometry
from survey.sources.visit import file_stem, number_or_none, text_or_none, valid_values
from survey.spectrum import LogWave, Refused, Spectrum

FEWEST, MOST = 100, 100_000
"""Pixels of a spectrum."""
PIXEL_COLUMNS = ("FLUX", "IVAR", "LOGLAM")

NAMING = Naming(
    file=r"^spec-(?P<plate>\d+)-(?P<mjd>\d+)-(?P<fiberid>\d+)$",
    parts={"plate": 1, "mjd": 1, "fiberid": 1},
    path="spec-{plate:04d}-{mjd:05d}-{fiberid:04d}.fits",
)
"""A visit is named plate-mjd-fibre."""

UNUSABLE = sum(1 << bit for bit in (0, 1, 3, 18, 22, 23, 26, 28))
"""The bits of SPPIXMASK that make a pixel useless: NOPLUG, BADTRACE, BADARC, FULLREJECT, NOSKY, BRIGHTSKY,
BADFLUXFACTOR, REDMONSTER. The survey itself sets the inverse variance of the worst pixels to 0 and
recommends to check BRIGHTSKY as well (sdss.org, bitmask SPPIXMASK). Other bits of a complete fibre (BADFLAT,
MANYBADCOLUMNS, WHOPPER, ...) are set on thousands of good pixels. NODATA is to be ignored. The remaining
bits mark rejected exposures, which the inverse variance accounts for."""

SKY_OR_UNPLUGGED = 1 << 0 | 1 << 7
"""Bits of ZWARNING."""

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
"""The columns of SPECOBJ or SPALL for each column of a visit."""

CARDS = {
    "release": "RUN2D",
    "ra": "PLUG_RA",
    "dec": "PLUG_DEC",
    "lmjd": "MJD",
    "planid": "PLATEID",
    "fiberid": "FIBERID",
}
"""The cards of the first header for each column of a visit; they count if the table has no value."""


class Options(Settings):
    """How SDSS files are read. There are no settings."""


def read(hdus: Hdus, name: str, settings: Options) -> list[Spectrum] | None:
    """The co-added spectrum of an SDSS file; None if it is no SDSS file."""
    coadd = hdus.by_index(1)
    if coadd is None or coadd.name.upper() != "COADD" or not set(PIXEL_COLUMNS) <= set(coadd.columns):
        return None
    table, cards = hdus.by_index(2), hdus[0].cards
    visit = _visit(cards, table if table is not None and "CLASS" in table.columns else None, name)
    flux, ivar, loglam = (_pixels(coadd, column) for column in PIXEL_COLUMNS)
    if not FEWEST <= len(flux) <= MOST:
        raise Refused("unknown_layout", f"{len(flux)} pixels; a spectrum has {FEWEST} to {MOST}")
    bad, suspect = (_mask(coadd, column) for column in ("AND_MASK", "OR_MASK"))
    return [Spectrum(_wave(loglam, cards), flux, ivar, bad, suspect, visit)]


def _pixels(table: Hdu, column: str) -> np.ndarray:
    values = table.column(column)
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise Refused(
            "bad_header", f"the column {column} holds {values.shape} {values.dtype}, not one number per row"
        )
    return values


def _mask(table: Hdu, column: str) -> np.ndarray | None:
    if column not in table.columns:
        return None
    values = _pixels(table, column)
    if values.dtype.kind == "f":
        raise Refused("bad_header", f"the column {column} holds {values.dtype}, not bits")
    masked: np.ndarray = (values.astype(np.int64) & UNUSABLE) != 0
    return masked


def _wave(loglam: np.ndarray, cards: Cards) -> LogWave | np.ndarray:
    """Wavelengths on the survey's fixed log grid.

    float32 keeps them to 0.0025 angstrom, beyond 10,000 angstrom to 0.0057.
    """
    start, step = cards.get("COEFF0"), cards.get("COEFF1")
    plate = wavelengths.from_coefficients(start, step, len(loglam))
    if plate is not None and 0 < loglam[0] < 9:
        start, step = plate.start, plate.step
        # COEFF0 belongs to the plate; a fibre may start some pixels later
        start += step * round((float(loglam[0]) - start) / step)
    tolerance = wavelengths.rounding_error(loglam)
    wave = wavelengths.log_linear_or_list(wavelengths.from_log10(loglam), start, step, tolerance)
    if cards.get("VACUUM") not in (False, "F"):
        return wave
    return wavelengths.air_to_vacuum(wave.angstrom() if isinstance(wave, LogWave) else wave)


def _visit(cards: Cards, table: Hdu | None, name: str) -> dict[str, Any]:
    """What the file says of the visit; refused if the fibre had no object."""
    row = _row(table) if table is not None else {}
    for column in ("SOURCETYPE", "OBJTYPE"):
        if (text_or_none(row.get(column)) or "").upper() == "SKY":
            raise Refused("no_object", f"{column} = SKY")
    warning = number_or_none(row.get("ZWARNING"))
    if isinstance(warning, int) and warning & SKY_OR_UNPLUGGED:
        raise Refused("no_object", f"ZWARNING = {warning}: sky or unplugged")
    visit = valid_values((column, cards.get(card)) for column, card in CARDS.items())
    for column, names in COLUMNS.items():
        visit |= valid_values((column, row[source]) for source in reversed(names) if source in row)
    ratios = row.get("SN_MEDIAN")
    if isinstance(ratios, list) and len(ratios) == 5:
        visit |= valid_values((f"snr_{band}", ratio) for band, ratio in zip("ugriz", ratios, strict=True))
    visit |= valid_values(sdss_photometry(row.get("CALIBFLUX")).items())
    source_id = number_or_none(row.get("THING_ID"))
    has_source_id = source_id is not None and source_id > 0
    star = text_or_none(source_id) if has_source_id else text_or_none(row.get("BESTOBJID"))
    if star not in (None, "0"):
        visit["star"] = star
    parts = [visit.get(column) for column in ("planid", "lmjd", "fiberid")]
    visit["visit"] = file_stem(name) if None in parts else "-".join(map(str, parts))
    visit["survey"] = "sdss"
    is_boss = table is not None and table.name.upper() == "SPALL"
    visit["layout"] = "sdss_boss" if is_boss else "sdss_legacy"
    return visit


ROW_COLUMNS = (
    "SOURCETYPE",
    "OBJTYPE",
    "ZWARNING",
    "SN_MEDIAN",
    "THING_ID",
    "BESTOBJID",
    "CALIBFLUX",
    *(name for names in COLUMNS.values() for name in names),
)


def _row(table: Hdu) -> dict[str, Any]:
    """The values of the only row of a table, as types of Python."""
    row = {}
    for column in ROW_COLUMNS:
        if column in table.cards.columns:
            values = table.column(column)
            if len(values) != 1:
                raise Refused("bad_header", f"{table.name} has {len(values)} rows; one is expected")
            row[column] = values[0].tolist() if hasattr(values[0], "tolist") else values[0]
    return row
