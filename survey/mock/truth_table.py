"""The truth about a mock survey as a table, and its catalogue as the survey would publish it."""

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip
from pyarrow import csv as arrow_csv

from survey.mock import damage, layouts, population
from survey.mock.population import Table

CSV_LIMIT = 100_000
"""Files up to which the label table is written as text as well."""

SCHEMA = pa.schema(
    [
        *(
            ("path", pa.string()),
            ("visit", pa.string()),
            ("obsid", pa.int64()),
            ("star", pa.string()),
            ("layout", pa.string()),
        ),
        *(
            ("defect", pa.string()),
            ("expected_reason", pa.string()),
            ("class", pa.string()),
            ("f_CEMP", pa.int8()),
        ),
        *(
            (name, pa.float64())
            for name in (
                "Teff",
                "logg",
                "FeH",
                "CFe",
                "CH",
                "NFe",
                "MgFe",
                "CaFe",
                "sFe",
                "rv",
                "z",
                "z_survey",
                "z_err",
            )
        ),
        *(("ra", pa.float64()), ("dec", pa.float64())),
        *((f"snr_{band}", pa.float32()) for band in "ugriz"),
        *(
            ("lmjd", pa.int32()),
            ("planid", pa.string()),
            ("spid", pa.int32()),
            ("fiberid", pa.int32()),
            ("subclass", pa.string()),
        ),
    ]
)
"""The label table; `star` and `visit` are what the readers of the files give, `z_survey` is what the header says."""

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


def named(table: Table) -> Table:
    """The table with the names that follow from the rest: visit, path, numbers as each survey counts them."""
    sdss = table["layout"] == "sdss"
    plate = 1000 + 4 * (table["plan_number"] - 1) + table["quarter"]
    local = table["fiberid"] + 250 * ((table["spid"] - 1) % 4)
    table["plate"] = plate
    table["fiberid"] = np.where(sdss, local, table["fiberid"])
    table["spid"] = np.where(sdss, 1 + (local > 500), table["spid"])
    table["obsid"] = np.where(
        sdss,
        plate * 10_000 + table["fiberid"],
        table["plan_number"] * 100_000 + table["spid"] * 1000 + table["fiberid"],
    ).astype(np.int64)
    table["thing"] = 100_000_000 + table["star_index"]
    rows = [_names(*row) for row in zip(*(table[name].tolist() for name in _NAMED), strict=True)]
    for position, name in enumerate(("path", "visit", "star", "designation", "subclass")):
        table[name] = np.array([row[position] for row in rows])
    table["planid"] = np.where(sdss, plate.astype(str), table["planid"])
    table["class"] = np.array(population.CLASSES)[table["f_CEMP"]]
    return table


_NAMED = ("layout", "lmjd", "planid", "plate", "spid", "fiberid", "star", "thing", "gz", "Teff")


def _names(
    layout: str,
    lmjd: int,
    planid: str,
    plate: int,
    spid: int,
    fibre: int,
    star: str,
    thing: int,
    gz: bool,
    teff: float,
) -> tuple[str, ...]:
    folder, end = layouts.night(lmjd)["folder"], ".gz" if gz else ""
    if layout == "sdss":
        name = f"spec-{plate:04d}-{lmjd:05d}-{fibre:04d}.fits"
        return (
            f"{folder}/{plate:04d}/{name}{end}",
            f"{plate}-{lmjd}-{fibre}",
            str(thing),
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


def card_values(known: dict[str, Any]) -> dict[str, Any]:
    """What header cards need beyond the columns of the tables."""
    magnitude = 15.0 - 1.4 * known["brightness"]
    colour = 0.45 + (5777.0 - known["Teff"]) / 2600.0
    missing = {f"snr_{band}": -9999.0 for band in "ugriz" if known[f"snr_{band}"] != known[f"snr_{band}"]}
    return missing | {
        "filename": known["path"].rsplit("/", 1)[-1].removesuffix(".gz"),
        "cell": f"{'ABCDEFGH'[known['fiberid'] % 8]}{known['spid']:02d}{known['fiberid'] % 97:02d}",
        "object": str(222_000_000_000_000 + known["star_index"]),
        "objtype": "Star",
        "fibertype": "Obj",
        "fibermask": 0 if known["unit"] else 128,
        "mag_g": magnitude + 0.4 * colour,
        "mag_r": magnitude - 0.4 * colour,
        "mag_i": magnitude - 0.7 * colour,
    }


def labels(table: Table) -> pa.Table:
    """The label table of these files."""
    reasons = {name: defect.reasons for name, defect in damage.DEFECTS.items()}
    columns: dict[str, Any] = {name: table[name] for name in SCHEMA.names if name != "expected_reason"}
    columns["expected_reason"] = [reasons.get(name) for name in table["defect"].tolist()]
    columns["defect"] = [name or None for name in table["defect"].tolist()]
    for band in "ugriz":
        columns[f"snr_{band}"] = pa.array(table[f"snr_{band}"], from_pandas=True, type=pa.float32())
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def parquet(table: pa.Table) -> bytes:
    """The bytes of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def csv(table: pa.Table, delimiter: str, head: bool) -> bytes:
    """Lines of text, a line of names before them if wanted."""
    out = io.BytesIO()
    options = arrow_csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    arrow_csv.write_csv(table, out, options)
    return (delimiter.join(table.column_names) + "\n").encode() * head + out.getvalue()


def catalog_head() -> bytes:
    """The names of the catalogue's columns, packed."""
    return bytes(igzip.compress(("|".join(CATALOG) + "\n").encode(), 1, mtime=0))


def catalog(part: pa.Table) -> bytes:
    """Rows of the catalogue, packed; members of gzip may follow one another."""
    frame = part.to_pandas()
    known = frame["z_survey"] > -9999
    frame["designation"] = np.where(frame["layout"] == "sdss", frame["star"], "LAMOST " + frame["star"])
    frame["obsdate"] = [layouts.night(day)["obsdate"] for day in frame["lmjd"].tolist()]
    frame["class"], frame["z"] = "STAR", frame["z_survey"]
    frame["rv"] = np.where(known, (frame["z_survey"] * 299792.458).round(2), -9999.0)
    for band in "ugriz":
        frame[f"snr{band}"] = frame[f"snr_{band}"].astype(float).round(2).fillna(-9999.0)
    return bytes(
        igzip.compress(
            csv(pa.Table.from_pandas(frame[CATALOG], preserve_index=False), "|", head=False), 1, mtime=0
        )
    )
