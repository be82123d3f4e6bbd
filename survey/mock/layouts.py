"""The bytes of a mock spectrum in each layout of the surveys, with the cards and types of real files."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from survey.mock.cards import Card, header, padded, table, text
from survey.mock.lamost_cards import SECTION_TITLES, lamost, log_grid, results

CardValues = dict[str, Any]
"""What fills the slots of the cards of one file."""
Pixels = dict[str, np.ndarray]
"""flux, ivar, wave (log10 for mrs and sdss), bad, suspect and continuum of one spectrum; equally long."""


@cache
def _image_template(layout: str, pipeline: str) -> str:
    bits = "-64" if pipeline == "dr2" else "-32"
    first: list[Card] = [
        ("SIMPLE", "T", "a FITS file"),
        ("BITPIX", bits, "floating point"),
        ("NAXIS", "2", ""),
        ("NAXIS1", "%(size)20d", "pixels"),
        ("NAXIS2", "5", "rows"),
    ]
    version = {"dr1": "v2.6.4", "dr2": "2.7.5", "new": "v2.9.7"}[pipeline]
    ratio = "SNR" if pipeline == "new" else "SN_"
    cards = lamost(first, layout, pipeline) + log_grid() + results(version, ratio)
    return header(cards, SECTION_TITLES)


def lrs_image(values: CardValues, parts: list[Pixels]) -> bytes:
    """An image of five rows; the third holds the wavelengths. Early files (DR2) hold float64 and no OBSID."""
    return _image(values, parts[0], "lrs_image", "dr2" if values["early"] else "new")


def lrs_image_subcont(values: CardValues, parts: list[Pixels]) -> bytes:
    """An image of five rows; the third is flux / continuum. The wavelengths follow from COEFF0 and COEFF1."""
    return _image(values, parts[0], "lrs_image_subcont", "dr1")


def _image(values: CardValues, pixels: Pixels, layout: str, pipeline: str) -> bytes:
    size = len(pixels["flux"])
    rows = np.empty((5, size), ">f8" if pipeline == "dr2" else ">f4")
    rows[0], rows[1], rows[3], rows[4] = pixels["flux"], pixels["ivar"], pixels["bad"], pixels["suspect"]
    rows[2] = pixels["wave"] if layout == "lrs_image" else pixels["flux"] / pixels["continuum"]
    head = _image_template(layout, pipeline) % (values | {"size": size})
    return head.encode("ascii") + padded(rows.tobytes())


@cache
def _table_template() -> tuple[str, str]:
    first: list[Card] = [
        ("SIMPLE", "T", "a FITS file"),
        ("BITPIX", "16", ""),
        ("NAXIS", "0", "no image here"),
        ("NAXIS1", "%(size)20d", "pixels of the table's arrays"),
        ("NAXIS2", "5", ""),
    ]
    columns = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK", "NORMALIZATION")
    front = header(lamost(first, "lrs_table", "new") + log_grid() + results("v2.9.8", "SNR"), SECTION_TITLES)
    return front, table("COADD", dict.fromkeys(columns, "'%(size)4dE   '"), "1", "%(row_bytes)20d")


def lrs_table(values: CardValues, parts: list[Pixels]) -> bytes:
    """An empty image and a table COADD of one row with six arrays."""
    pixels = parts[0]
    size = len(pixels["flux"])
    rows = np.empty((6, size), ">f4")
    rows[0], rows[1], rows[2], rows[3], rows[4] = (
        pixels[name] for name in ("flux", "ivar", "wave", "bad", "suspect")
    )
    rows[5] = pixels["flux"] / pixels["continuum"]
    front, back = _table_template()
    head = (front + back) % (values | {"size": size, "row_bytes": 24 * size})
    return head.encode("ascii") + padded(rows.tobytes())


@cache
def _medium_template(coadd: bool) -> tuple[str, np.dtype[Any]]:
    masks = ["ANDMASK", "ORMASK"] if coadd else ["PIXMASK"]
    columns = dict.fromkeys(("FLUX", "IVAR", "LOGLAM"), "E") | dict.fromkeys(masks, "I")
    cell = np.dtype([(name, ">f4" if form == "E" else ">i2") for name, form in columns.items()])
    extra: list[Card] = [("SNR", "%(part_snr)20.2f", "signal to noise"), ("LAMPLIST", "'lampthar.dat'", "")]
    extra += (
        []
        if coadd
        else [("LMJM", text(8, "lmjm"), "local modified Julian minute"), ("EXPTIME", "1200", "[s]")]
    )
    return table(text(10, "part_name"), columns, "%(rows)20d", str(cell.itemsize), extra), cell


@cache
def _medium_front() -> str:
    first: list[Card] = [
        ("SIMPLE", "T", "a FITS file"),
        ("BITPIX", "16", ""),
        ("NAXIS", "0", "no image here"),
    ]
    return header(lamost(first, "mrs", "new"), SECTION_TITLES)


def mrs(values: CardValues, parts: list[Pixels]) -> bytes:
    """Tables COADD_B and COADD_R, then the single exposures of both arms; red exposures run from red to
    blue."""
    pieces = [(_medium_front() % values).encode("ascii")]
    names = ["COADD_B", "COADD_R"] + [f"{arm}-{minute}" for arm in "BR" for minute in values["exposures"]]
    for name, pixels in zip(names, parts, strict=True):
        template, cell = _medium_template(name.startswith("COADD"))
        rows = np.zeros(len(pixels["flux"]), cell)
        rows["FLUX"], rows["IVAR"], rows["LOGLAM"] = pixels["flux"], pixels["ivar"], pixels["wave"]
        rows["ANDMASK" if name.startswith("COADD") else "PIXMASK"] = pixels["bad"]
        if name.startswith("COADD"):
            rows["ORMASK"] = pixels["suspect"]
        elif name.startswith("R"):
            rows = rows[::-1]
        quality = float(values["snr_g"] if name.endswith("B") or name.startswith("B") else values["snr_r"])
        quality /= 1.0 if name.startswith("COADD") else len(values["exposures"]) ** 0.5
        slots = {"part_name": name, "rows": len(rows), "part_snr": quality, "lmjm": name[2:]}
        pieces += [(template % slots).encode("ascii"), padded(rows.tobytes())]
    return b"".join(pieces)


_COADD = np.dtype(
    [
        ("flux", ">f4"),
        ("loglam", ">f4"),
        ("ivar", ">f4"),
        ("and_mask", ">i4"),
        ("or_mask", ">i4"),
        ("wdisp", ">f4"),
        ("sky", ">f4"),
        ("model", ">f4"),
    ]
)
_FORMS = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K", "u1": "B"}
_OBSERVED = [
    ("PLATE", ">i4"),
    ("MJD", ">i4"),
    ("FIBERID", ">i4"),
    ("PLUG_RA", ">f8"),
    ("PLUG_DEC", ">f8"),
    ("CLASS", "S6"),
    ("SUBCLASS", "S21"),
]
_OBSERVED += [
    ("Z", ">f4"),
    ("Z_ERR", ">f4"),
    ("RCHI2", ">f4"),
    ("ZWARNING", ">i4"),
    ("SN_MEDIAN_ALL", ">f4"),
    ("SPECTROGRAPHID", ">i2"),
]
_TABLES: dict[str, np.dtype[Any]] = {
    "SPECOBJ": np.dtype(
        [
            ("SURVEY", "S6"),
            ("INSTRUMENT", "S4"),
            ("SPECOBJID", "S22"),
            ("BESTOBJID", "S19"),
            ("SOURCETYPE", "S19"),
            *_OBSERVED,
        ]
    ),
    "SPALL": np.dtype(
        [
            ("PROGRAMNAME", "S27"),
            ("OBJTYPE", "S16"),
            *_OBSERVED,
            ("SPECOBJID", ">i8"),
            ("THING_ID", ">i4"),
            ("RUN2D", "S7"),
        ]
    ),
}


@cache
def _sdss_templates(kind: str) -> tuple[str, str, str]:
    rows: list[Card] = [
        ("SIMPLE", "T", "a FITS file"),
        ("BITPIX", "8", ""),
        ("NAXIS", "0", "no image here"),
        ("EXTEND", "T", ""),
        ("TELESCOP", "'SDSS 2.5-M'", ""),
        ("FLAVOR", "'science '", "a mock file, made by survey"),
        ("MJD", "%(lmjd)20d", "modified Julian day"),
        ("RA", "%(ra)20.6f", "[deg] of the plate"),
        ("DEC", "%(dec)20.6f", "[deg] of the plate"),
        ("EQUINOX", "2000.00", ""),
        ("RADECSYS", "'FK5     '", ""),
        ("PLATEID", "%(plate)20d", "plate"),
        ("TILEID", "%(plate)20d", "tile"),
        ("CARTID", "14", "cartridge"),
        ("NEXP", "6", "exposures"),
        ("EXPTIME", "5405.01", "[s]"),
        ("RUN2D", "'26      '" if kind == "SPECOBJ" else "'v5_10_0 '", "reduction that this imitates"),
        ("HELIO_RV", "%(helio)20.5f", "[km/s]"),
        ("VACUUM", "T", "wavelengths in vacuum"),
        ("NWORDER", "2", "coefficients"),
        ("WFITTYPE", "'LOG-LINEAR'", ""),
        ("COEFF0", "3.5802", "log10 of the first wavelength"),
        ("COEFF1", "0.0001", "log10 step"),
        ("DC-FLAG", "1", "logarithmic"),
        ("BUNIT", "'1E-17 erg/cm^2/s/Ang'", ""),
        ("PLUG_RA", "%(ra)20.6f", "[deg] of the fibre"),
        ("PLUG_DEC", "%(dec)20.6f", "[deg] of the fibre"),
        ("THING_ID", "%(source_id)20d", "source"),
        ("FIBERID", "%(fiberid)20d", "fibre"),
    ]
    coadd = {name: _FORMS[_COADD[name].str[1:]] for name in _COADD.names or ()}
    cell = _TABLES[kind]
    forms = {
        name: f"{cell[name].itemsize}A" if cell[name].kind == "S" else _FORMS[cell[name].str[1:]]
        for name in cell.names or ()
    }
    return (
        header(rows),
        table("COADD", coadd, "%(size)20d", str(_COADD.itemsize)),
        table(kind, forms, "1", str(cell.itemsize)),
    )


def sdss(values: CardValues, parts: list[Pixels]) -> bytes:
    """A table of co-added pixels and a table of one row, called SPECOBJ in legacy and SPALL in BOSS files."""
    kind = "SPALL" if values["early"] else "SPECOBJ"
    front, pixels_head, row_head = _sdss_templates(kind)
    pixels = parts[0]
    coadd = np.zeros(len(pixels["flux"]), _COADD)
    coadd["flux"], coadd["ivar"], coadd["loglam"] = pixels["flux"], pixels["ivar"], pixels["wave"]
    coadd["and_mask"], coadd["or_mask"] = pixels["bad"] * (1 << 22), (pixels["suspect"] > 0) * (1 << 16)
    coadd["wdisp"], coadd["model"] = 1.02, pixels["continuum"]
    row = np.zeros(1, _TABLES[kind])
    columns = {
        "PLATE": values["plate"],
        "MJD": values["lmjd"],
        "FIBERID": values["fiberid"],
        "PLUG_RA": values["ra"],
        "PLUG_DEC": values["dec"],
        "CLASS": "STAR",
        "SUBCLASS": values["subclass"],
        "Z": values["z_survey"],
        "Z_ERR": values["z_err"],
        "RCHI2": 1.0,
        "SN_MEDIAN_ALL": values["snr_r"],
        "SPECTROGRAPHID": values["spid"],
        "SPECOBJID": values["obsid"],
        "THING_ID": values["source_id"],
        "SURVEY": "mock",
        "INSTRUMENT": "SDSS",
        "BESTOBJID": values["source_id"],
        "PROGRAMNAME": "mock",
        "RUN2D": "v5_10_0",
        "SOURCETYPE": values["objtype"].upper(),
        "OBJTYPE": values["objtype"].upper(),
    }
    for name in row.dtype.names or ():
        row[name] = str(columns.get(name, "")) if row.dtype[name].kind == "S" else columns.get(name, 0)
    heads = (front % values).encode("ascii"), (pixels_head % {"size": len(coadd)}).encode("ascii")
    return heads[0] + heads[1] + padded(coadd.tobytes()) + row_head.encode("ascii") + padded(row.tobytes())


WRITERS: dict[str, Callable[[CardValues, list[Pixels]], bytes]] = {
    "lrs_image": lrs_image,
    "lrs_image_subcont": lrs_image_subcont,
    "lrs_table": lrs_table,
    "mrs": mrs,
    "sdss": sdss,
}
"""By layout: the values of the cards and the pixels of each part become the bytes of a file."""

DAY_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


@cache
def night(lmjd: int) -> dict[str, Any]:
    """The values of a night's cards: dates, minutes, moon, weather. All follow from the day."""
    start = DAY_ZERO + timedelta(days=lmjd, hours=3, minutes=lmjd % 97)
    minute = lmjd * 1440 + 180 + lmjd % 97
    exposures = [minute, minute + 24, minute + 48]
    return {
        "folder": start.strftime("%Y%m%d"),
        "obsdate": start.strftime("%Y-%m-%d"),
        "middle": (start - timedelta(hours=8) + timedelta(minutes=36)).strftime("%Y-%m-%dT%H:%M:%S"),
        "begin": start.strftime("%Y-%m-%dT%H:%M:%S.0"),
        "end": (start + timedelta(minutes=72)).strftime("%Y-%m-%dT%H:%M:%S.0"),
        "created": (start + timedelta(days=200)).strftime("%Y-%m-%dT%H:%M:%S"),
        "mjd": lmjd - 1,
        "exposures": exposures,
        "minutes": "-".join(map(str, exposures)),
        "moon": lmjd % 29.53,
        "seeing": 2.5 + lmjd % 17 / 10,
        "air": lmjd % 31 - 8.0,
        "helio": 25.0 * np.sin(lmjd / 58.13),
    }
