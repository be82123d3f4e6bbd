"""The true labels of a mock survey as a table, and its catalogue as the survey would publish it."""

import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip
from pyarrow import csv as arrow_csv

from survey.labels import CLASSES
from survey.mock import damage, layouts
from survey.mock.population import Table

CSV_LIMIT = 100_000
"""Up to this number of files, the label table is also written as text."""

_LABELS = ("Teff", "logg", "FeH", "CFe", "CH", "NFe", "MgFe", "CaFe", "sFe")
_NUMBERS = (*_LABELS, "rv", "z", "z_survey", "z_err")
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("visit", pa.string()),
        ("obsid", pa.int64()),
        ("star", pa.string()),
        ("layout", pa.string()),
        ("defect", pa.string()),
        ("expected_reason", pa.string()),
        ("class", pa.string()),
        ("f_CEMP", pa.int8()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("ra", pa.float64()),
        ("dec", pa.float64()),
        *((f"snr_{band}", pa.float32()) for band in "ugriz"),
        ("lmjd", pa.int32()),
        ("planid", pa.string()),
        ("spid", pa.int32()),
        ("fiberid", pa.int32()),
        ("subclass", pa.string()),
    ]
)
"""The label table. `star` and `visit` are as the readers give them; `z_survey` is the redshift in the
header."""

_M_STAR_FIELDS = [
    *((f"mag_{band}", pa.float64()) for band in "ugriz"),
    ("image", pa.string()),
    ("image_defect", pa.string()),
]

OBJECTS = ("name", "subclass", "plate", "mjd", "fiberID", "ra", "dec", *"ugriz", "spectrum", "image")
"""The columns of the table of M stars; a star without spectrum or image has an empty cell."""

CATALOG = [
    *("obsid", "designation", "obsdate", "lmjd", "planid", "spid", "fiberid", "ra", "dec"),
    *("snru", "snrg", "snrr", "snri", "snrz", "class", "subclass", "z", "z_err", "rv"),
]
_TYPES = ((7400.0, "F"), (6000.0, "G"), (5250.0, "K"), (3850.0, "M"), (2600.0, "M"))


def subclass(teff: float) -> str:
    """Spectral type of a temperature."""
    for (hot, letter), (cool, _) in pairwise(_TYPES):
        if teff > cool:
            return f"{letter}{min(9, max(0, int(10 * (hot - teff) / (hot - cool))))}"
    return "M9"


def add_names(table: Table) -> Table:
    """The table with the names that follow from its columns: visit, path, and the numbers of each survey."""
    is_sdss = table["layout"] == "sdss"
    plate = 1000 + 4 * (table["plan_number"] - 1) + table["quarter"]
    local = table["fiberid"] + 250 * ((table["spid"] - 1) % 4)
    table["plate"] = plate
    table["fiberid"] = np.where(is_sdss, local, table["fiberid"])
    table["spid"] = np.where(is_sdss, 1 + (local > 500), table["spid"])
    table["obsid"] = np.where(
        is_sdss,
        plate * 10_000 + table["fiberid"],
        table["plan_number"] * 100_000 + table["spid"] * 1000 + table["fiberid"],
    ).astype(np.int64)
    table["source_id"] = 100_000_000 + table["star_index"]
    rows = [_names(*row) for row in zip(*(table[name].tolist() for name in _NAMED), strict=True)]
    for position, name in enumerate(("path", "visit", "star", "designation", "subclass")):
        table[name] = np.array([row[position] for row in rows])
    table["planid"] = np.where(is_sdss, plate.astype(str), table["planid"])
    table["class"] = np.array(CLASSES)[table["f_CEMP"]]
    return table


_NAMED = ("layout", "lmjd", "planid", "plate", "spid", "fiberid", "star", "source_id", "gz", "Teff")


def _names(
    layout: str,
    lmjd: int,
    planid: str,
    plate: int,
    spid: int,
    fibre: int,
    star: str,
    source_id: int,
    gz: bool,
    teff: float,
) -> tuple[str, ...]:
    folder, end = layouts.night(lmjd)["folder"], ".gz" if gz else ""
    if layout == "sdss":
        name = f"spec-{plate:04d}-{lmjd:05d}-{fibre:04d}.fits"
        return (
            f"{folder}/{plate:04d}/{name}{end}",
            f"{plate}-{lmjd}-{fibre}",
            str(source_id),
            star,
            subclass(teff),
        )
    name = f"{'med' if layout == 'mrs' else 'spec'}-{lmjd}-{planid}_sp{spid:02d}-{fibre:03d}.fits"
    return (
        f"{folder}/{planid}/{name}{end}",
        f"{lmjd}-{planid}-{spid:02d}-{fibre:03d}",
        star.removeprefix("LAMOST "),
        star,
        subclass(teff),
    )


def card_values(row: dict[str, Any]) -> dict[str, Any]:
    """The values of header cards that are no columns of the table, for one row of it."""
    magnitude = 15.0 - 1.4 * row["brightness"]
    colour = 0.45 + (5777.0 - row["Teff"]) / 2600.0
    ratios = [f"snr_{band}" for band in "ugriz"]
    missing = {name: -9999.0 for name in ratios if math.isnan(row[name])}
    return missing | {
        "filename": row["path"].rsplit("/", 1)[-1].removesuffix(".gz"),
        "cell": f"{'ABCDEFGH'[row['fiberid'] % 8]}{row['spid']:02d}{row['fiberid'] % 97:02d}",
        "object": str(222_000_000_000_000 + row["star_index"]),
        "objtype": "Star",
        "fibertype": "Obj",
        "fibermask": 0 if row["unit"] else 128,
        "mag_g": magnitude + 0.4 * colour,
        "mag_r": magnitude - 0.4 * colour,
        "mag_i": magnitude - 0.7 * colour,
    }


def schema(objects: str) -> pa.Schema:
    """The columns of the label table of stars or of M stars."""
    return (
        pa.schema([*SCHEMA, *map(pa.field, *zip(*_M_STAR_FIELDS, strict=True))])
        if objects == "m_stars"
        else SCHEMA
    )


def labels(table: Table) -> pa.Table:
    """The label table of these files."""
    has_images = "image" in table
    wanted = schema("m_stars" if has_images else "stars")
    reasons = {name: defect.reasons for name, defect in damage.DEFECTS.items()}
    columns: dict[str, Any] = {name: table[name] for name in wanted.names if name != "expected_reason"}
    columns["expected_reason"] = [reasons.get(name) for name in table["defect"].tolist()]
    columns["defect"] = [name or None for name in table["defect"].tolist()]
    if has_images:
        written = np.where(table["has_spectrum"], table["path"], "")
        for name, values in (
            ("path", written),
            ("image", table["image"]),
            ("image_defect", table["image_defect"]),
        ):
            columns[name] = [value or None for value in values.tolist()]
    for band in "ugriz":
        columns[f"snr_{band}"] = pa.array(table[f"snr_{band}"], from_pandas=True, type=pa.float32())
    return pa.table({name: columns[name] for name in wanted.names}, schema=wanted)


def parquet(table: pa.Table) -> bytes:
    """The bytes of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def csv(table: pa.Table, delimiter: str, head: bool) -> bytes:
    """The table as lines of text, with a first line of names if `head`."""
    out = io.BytesIO()
    options = arrow_csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    arrow_csv.write_csv(table, out, options)
    return (delimiter.join(table.column_names) + "\n").encode() * head + out.getvalue()


def objects_head() -> bytes:
    """The names of the columns of the table of M stars."""
    return (",".join(OBJECTS) + "\n").encode()


def objects(part: pa.Table) -> bytes:
    """Rows of the table of M stars. The name is that of the star in its spectrum."""
    names = {"star": "name", "planid": "plate", "lmjd": "mjd", "fiberid": "fiberID", "path": "spectrum"}
    names |= {f"mag_{band}": band for band in "ugriz"}
    sources = {new: old for old, new in names.items()}
    columns = [part[sources.get(name, name)] for name in OBJECTS]
    return csv(pa.table(columns, names=list(OBJECTS)), ",", head=False)


def catalog_head() -> bytes:
    """The names of the catalogue's columns, gzipped."""
    return bytes(igzip.compress(("|".join(CATALOG) + "\n").encode(), 1, mtime=0))


def catalog(part: pa.Table) -> bytes:
    """Rows of the catalogue, gzipped; several members may follow one another in a gzip file."""
    frame = part.to_pandas()
    has_z = frame["z_survey"] > -9999
    frame["designation"] = np.where(frame["layout"] == "sdss", frame["star"], "LAMOST " + frame["star"])
    frame["obsdate"] = [layouts.night(day)["obsdate"] for day in frame["lmjd"].tolist()]
    frame["class"], frame["z"] = "STAR", frame["z_survey"]
    frame["rv"] = np.where(has_z, (frame["z_survey"] * 299792.458).round(2), -9999.0)
    for band in "ugriz":
        frame[f"snr{band}"] = frame[f"snr_{band}"].astype(float).round(2).fillna(-9999.0)
    rows = csv(pa.Table.from_pandas(frame[CATALOG], preserve_index=False), "|", head=False)
    return bytes(igzip.compress(rows, 1, mtime=0))
