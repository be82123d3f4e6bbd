"""Catalogues of labels of the stars of a mock survey, as archives have them, with the mistakes of archives.

archives/
  allStar-dr17-synspec_rev1.fits  as APOGEE: flags, S/N, -9999, a second row of some stars
  saga_cleaned_catalog.tsv        as SAGA: [Fe/H] and [C/H] of metal-poor stars, limits, several papers
  lamost_subaru.csv               as Li et al. 2022: very metal-poor stars by their names in LAMOST
  JINAbase_2021.csv               as JINAbase: log eps, positions like 10 13 34.7
  lamost_stellar.csv.gz           as LAMOST's catalogue of labels: text with |, a row for each visit
  planted.parquet                 each mistake: file, row, kind, star, label, size
  scales.parquet                  the scale of each: value = true + offset + slope * (true - pivot)

Kinds of mistakes: `contradiction` (a value is wrong by more than its error), `wrong_position` (that of
another star), `empty_sky` (that of no star), `duplicate` (a second row of a star). SAGA is on the true scale.
All follows from the seed and the label table.
"""

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from isal import igzip

from survey import files
from survey.mock.settings import Mock
from survey.mock.truth_table import parquet

FOLDER = "archives"
APOGEE, SAGA = "allStar-dr17-synspec_rev1.fits", "saga_cleaned_catalog.tsv"
SUBARU, JINA, LASP = "lamost_subaru.csv", "JINAbase_2021.csv", "lamost_stellar.csv.gz"
PLANTED, SCALES = "planted.parquet", "scales.parquet"

LABELS = ("Teff", "logg", "FeH", "CFe")
PIVOT = {"Teff": 5000.0, "logg": 2.5, "FeH": -1.5, "CFe": 0.0}
SCALE: dict[str, dict[str, tuple[float, float]]] = {
    APOGEE: {"Teff": (70.0, 0.0), "logg": (0.08, 0.0), "FeH": (0.10, 0.04), "CFe": (-0.06, 0.0)},
    SAGA: dict.fromkeys(LABELS, (0.0, 0.0)),
    SUBARU: {"Teff": (20.0, 0.0), "logg": (0.0, 0.0), "FeH": (0.03, 0.0), "CFe": (0.0, 0.0)},
    JINA: {"Teff": (30.0, 0.0), "logg": (0.0, 0.0), "FeH": (-0.05, 0.0), "CFe": (0.10, 0.0)},
    LASP: {"Teff": (-40.0, 0.0), "logg": (0.05, 0.0), "FeH": (-0.08, -0.06)},
}
"""Offset and slope of the labels of each catalogue."""
ERROR = {
    APOGEE: {"Teff": 60.0, "logg": 0.08, "FeH": 0.05, "CFe": 0.08},
    SAGA: {"Teff": 100.0, "logg": 0.2, "FeH": 0.08, "CFe": 0.12},
    SUBARU: {"Teff": 70.0, "logg": 0.15, "FeH": 0.08, "CFe": 0.12},
    JINA: {"Teff": 100.0, "logg": 0.25, "FeH": 0.15, "CFe": 0.2},
    LASP: {"Teff": 70.0, "logg": 0.12, "FeH": 0.08},
}
SHIFT = {"FeH": 1.2, "CFe": 1.3, "Teff": 900.0}
"""By how much a contradicting value is wrong."""
SUN = {"Fe": 7.50, "C": 8.43}

Frame = pd.DataFrame


class _Catalogue:
    """Rows of a catalogue while they are made, and the mistakes planted in them."""

    def __init__(self, name: str, stars: Frame, draw: np.random.Generator) -> None:
        self.name, self.draw = name, draw
        self.rows = stars.reset_index(drop=True).copy()
        self.planted: list[dict[str, Any]] = []
        for label, (offset, slope) in SCALE[name].items():
            true = self.rows[label].to_numpy()
            noise = draw.normal(0, ERROR[name][label], len(true))
            self.rows[label] = true + offset + slope * (true - PIVOT[label]) + noise
        self.rows["true_star"] = self.rows["star"]

    def some(self, share: float, free: bool = True) -> np.ndarray:
        """Random rows; with `free`, none that has a mistake already."""
        taken = {mistake["row"] for mistake in self.planted} if free else set()
        index = self.draw.permutation(len(self.rows))[: round(share * len(self.rows))]
        return np.array([row for row in index.tolist() if row not in taken], np.int64)

    def plant(self, row: int, kind: str, label: str = "", value: float = np.nan, other: str = "") -> None:
        """Note a mistake."""
        star = self.rows["true_star"].iat[row]
        self.planted.append(
            {
                "file": self.name,
                "row": int(row),
                "kind": kind,
                "star": star,
                "label": label,
                "value": value,
                "other_star": other,
            }
        )

    def repeat(self, share: float) -> None:
        """Second rows of some stars, with noise of their own, at the end."""
        index = self.some(share)
        more = self.rows.iloc[index].copy()
        for label in SCALE[self.name]:
            more[label] += self.draw.normal(0, 0.5 * ERROR[self.name][label], len(more))
        first = len(self.rows)
        self.rows = pd.concat([self.rows, more], ignore_index=True)
        for row in range(first, len(self.rows)):
            self.plant(row, "duplicate")

    def move(self, share: float) -> None:
        """Some rows get the position of another star."""
        index = self.some(share)
        others = (index + 1 + self.draw.integers(0, max(len(self.rows) - 1, 1), len(index))) % len(self.rows)
        source = self.rows[["ra", "dec", "true_star"]].to_numpy()
        for row, other in zip(index.tolist(), others.tolist(), strict=True):
            if source[row, 2] == source[other, 2]:
                continue
            self.rows.loc[row, ["ra", "dec"]] = source[other, :2]
            self.plant(row, "wrong_position", other=source[other, 2])

    def lose(self, share: float) -> None:
        """Some rows get a position half a degree north, where no star is."""
        for row in self.some(share).tolist():
            self.rows.loc[[row], "dec"] += 0.5123
            self.plant(row, "empty_sky")

    def contradict(self, share: float, labels: tuple[str, ...]) -> None:
        """Some values are wrong."""
        for number, row in enumerate(self.some(share).tolist()):
            label = labels[number % len(labels)]
            shift = SHIFT[label] * (1 if self.draw.random() < 0.5 else -1)
            self.rows.loc[[row], label] += shift
            self.plant(row, "contradiction", label, shift)


def write_catalogues(settings: Mock) -> dict[str, int]:
    """Write the catalogues of a finished mock survey; the number of rows of each."""
    table = files.read_table(files.join(settings.out, "labels.parquet"))
    visits = table.to_pandas()
    stars = visits.drop_duplicates("star").reset_index(drop=True)
    folder = files.join(settings.out, FOLDER)
    makers = (_apogee, _saga, _subaru, _jina)
    made = [*(maker(settings, stars) for maker in makers), _lasp(settings, visits)]
    for catalogue, data in made:
        files.write(files.join(folder, catalogue.name), data)
    planted = pd.DataFrame([mistake for catalogue, _ in made for mistake in catalogue.planted])
    columns = ["file", "row", "kind", "star", "label", "value", "other_star"]
    planted = planted.reindex(columns=columns)
    files.write(
        files.join(folder, PLANTED), parquet(pa.Table.from_pandas(planted, preserve_index=False))
    )  # fmt: skip
    scales = [
        {"file": name, "label": label, "offset": offset, "slope": slope, "pivot": PIVOT[label]}
        for name, labels in SCALE.items()
        for label, (offset, slope) in labels.items()
    ]
    files.write(files.join(folder, SCALES), parquet(pa.Table.from_pylist(scales)))
    return {catalogue.name: len(catalogue.rows) for catalogue, _ in made}


def _draw(settings: Mock, number: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, 8, number])


def _part(stars: Frame, share: np.ndarray | float, draw: np.random.Generator) -> Frame:
    """A random part of the stars; the share may depend on the star."""
    return stars[draw.random(len(stars)) < share]


def _apogee(settings: Mock, stars: Frame) -> tuple[_Catalogue, bytes]:
    """As the file of APOGEE: mostly giants, few of them very metal-poor."""
    draw = _draw(settings, 1)
    share = np.where(stars["FeH"] > -2.3, 0.7, 0.1) * np.where(stars["logg"] < 3.8, 1.0, 0.5)
    catalogue = _Catalogue(APOGEE, _part(stars, share, draw), draw)
    catalogue.contradict(0.02, ("FeH", "CFe"))
    catalogue.move(0.02)
    catalogue.repeat(0.03)
    rows, count = catalogue.rows, len(catalogue.rows)
    is_second = np.zeros(count, bool)
    is_second[[mistake["row"] for mistake in catalogue.planted if mistake["kind"] == "duplicate"]] = True
    snr = np.where(is_second, 75.0, np.clip(draw.lognormal(5.0, 0.5, count), 40, 600))
    is_bad = draw.random(count) < 0.02
    columns = {
        "APOGEE_ID": [_apogee_id(name) for name in rows["true_star"]],
        "RA": rows["ra"].to_numpy(),
        "DEC": rows["dec"].to_numpy(),
        "GAIAEDR3_SOURCE_ID": 4_000_000_000_000_000_000 + pd.factorize(rows["true_star"])[0].astype(np.int64),
        "GAIAEDR3_PMRA": draw.normal(0, 8, count),
        "GAIAEDR3_PMDEC": draw.normal(0, 8, count),
        "SNR": snr.astype(np.float32),
        "STARFLAG": np.where(draw.random(count) < 0.01, 1 << 3, 0),
        "ASPCAPFLAG": np.where(is_bad, 1 << 23, 0),
        "EXTRATARG": np.where(is_second, 1 << 4, 0).astype(np.int32),
        "FE_H_FLAG": np.where(draw.random(count) < 0.01, 1, 0).astype(np.int32),
        "FELEM": np.stack([rows["FeH"], rows["CFe"]], 1).astype(np.float32),
    }
    for name, column in (("Teff", "TEFF"), ("logg", "LOGG"), ("FeH", "FE_H"), ("CFe", "C_FE")):
        lost = draw.random(count) < (0.03 if name == "CFe" else 0.0)
        columns[column] = np.where(lost, -9999.0, rows[name]).astype(np.float32)
        columns[f"{column}_ERR"] = np.full(count, ERROR[APOGEE][name], np.float32)
    for column in ("C_FE", "N_FE", "O_FE", "MG_FE", "SI_FE", "CA_FE"):
        columns[f"{column}_FLAG"] = np.zeros(count, np.int32)
        if column not in columns:
            columns[column] = columns[f"{column}_ERR"] = np.full(count, np.nan, np.float32)
    return catalogue, _fits(columns)


def _apogee_id(designation: str) -> str:
    """2M and the position, as in 2MASS, of a star that the survey calls J063821.27+183858.8."""
    return "2M" + designation.removeprefix("J").replace(".", "")[:-1] + "0"


def _fits(columns: dict[str, Any]) -> bytes:
    """The bytes of a FITS file with a binary table."""
    from astropy.io import fits
    from astropy.table import Table

    sink = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(Table(columns))]).writeto(sink, checksum=False)
    return sink.getvalue()


def _saga(settings: Mock, stars: Frame) -> tuple[_Catalogue, bytes]:
    """As the table of SAGA: metal-poor stars without ids that the survey knows."""
    draw = _draw(settings, 2)
    catalogue = _Catalogue(SAGA, _part(stars[stars["FeH"] < -1.0], 0.7, draw), draw)
    catalogue.contradict(0.04, ("FeH", "CFe", "Teff"))
    catalogue.move(0.02)
    catalogue.lose(0.02)
    catalogue.repeat(0.06)
    rows, count = catalogue.rows, len(catalogue.rows)
    carbon = (rows["FeH"] + rows["CFe"]).round(3)
    is_limit = draw.random(count) < 0.05
    is_limit[[mistake["row"] for mistake in catalogue.planted if mistake["kind"] == "contradiction"]] = False
    pairs = zip(carbon.tolist(), is_limit.tolist(), strict=True)
    text = [f"<{value:.2f}" if limit else f"{value:.3f}" for value, limit in pairs]
    frame = pd.DataFrame(
        {
            "Object": [f"MOCK {number:05d}" for number in pd.factorize(rows["true_star"])[0]],
            "RAdeg": rows["ra"].round(6),
            "DECdeg": rows["dec"].round(6),
            "Teff": rows["Teff"].round(0),
            "logg": rows["logg"].round(2),
            "[Fe/H]": rows["FeH"].round(3),
            "[C/H]": text,
            "e_[Fe/H]": ERROR[SAGA]["FeH"],
            "e_[C/H]": ERROR[SAGA]["CFe"],
            "Reference": [f"Paper {number}" for number in draw.integers(1, 40, count)],
        }
    )
    return catalogue, frame.to_csv(sep="\t", index=False).encode()


def _subaru(settings: Mock, stars: Frame) -> tuple[_Catalogue, bytes]:
    """As the table of Li et al. 2022: very metal-poor stars by their names in LAMOST."""
    draw = _draw(settings, 5)
    catalogue = _Catalogue(SUBARU, _part(stars[stars["FeH"] < -1.8], 0.4, draw), draw)
    rows = catalogue.rows
    frame = pd.DataFrame({"LAMOST": rows["true_star"], "RAJ2000": rows["ra"], "DEJ2000": rows["dec"]})
    names = {"Teff": "Teff", "logg": "logg", "FeH": "[Fe/H]", "CFe": "[C/Fe]"}
    for label, column in names.items():
        frame[column] = rows[label].round(0 if label == "Teff" else 3)
        frame[f"e_{column}"] = ERROR[SUBARU][label]
    return catalogue, frame.to_csv(index=False).encode()


def _jina(settings: Mock, stars: Frame) -> tuple[_Catalogue, bytes]:
    """As the table of JINAbase: log eps, `*` for none, positions in hours and degrees."""
    draw = _draw(settings, 3)
    catalogue = _Catalogue(JINA, _part(stars[stars["FeH"] < -1.0], 0.4, draw), draw)
    catalogue.contradict(0.02, ("FeH", "CFe"))
    rows, count = catalogue.rows, len(catalogue.rows)
    carbon = SUN["C"] + rows["FeH"] + rows["CFe"]
    lost = draw.random(count) < 0.2
    kept = {mistake["row"] for mistake in catalogue.planted}
    frame = pd.DataFrame(
        {
            "Priority": np.where(draw.random(count) < 0.05, 2.0, 1.0),
            "Name": [f"JM{number:05d}" for number in range(count)],
            "Simbad_Identifier": "*",
            "RA": [_sexagesimal(value / 15, 3) for value in rows["ra"]],
            "DEC": [_sexagesimal(value, 2) for value in rows["dec"]],
            "Teff": rows["Teff"].round(0),
            "logg": rows["logg"].round(2),
            "C": [
                "*" if lost[row] and row not in kept else f"{value:.3f}" for row, value in enumerate(carbon)
            ],
            **dict.fromkeys(("N", "Mg", "Ca"), ""),
            "Fe": (SUN["Fe"] + rows["FeH"]).round(3),
            **dict.fromkeys(("Sr", "Ba", "Eu"), ""),
        }
    )
    return catalogue, frame.to_csv(index=False).encode()


def _sexagesimal(value: float, digits: int) -> str:
    """Hours or degrees, minutes and seconds with blanks between."""
    seconds = round(abs(value) * 3600, digits)
    minutes, second = divmod(seconds, 60)
    sign = "-" if value < 0 else ""
    return f"{sign}{int(minutes) // 60} {int(minutes) % 60} {second:.{digits}f}"


def _lasp(settings: Mock, visits: Frame) -> tuple[_Catalogue, bytes]:
    """As LAMOST's catalogue of labels: a row for each visit, without carbon."""
    draw = _draw(settings, 4)
    catalogue = _Catalogue(LASP, visits[visits["layout"] != "sdss"], draw)
    catalogue.move(0.01)
    rows, count = catalogue.rows, len(catalogue.rows)
    lost = draw.random(count) < 0.04
    frame = pd.DataFrame(
        {
            "obsid": rows["obsid"],
            "designation": "LAMOST " + rows["true_star"],
            "ra": rows["ra"],
            "dec": rows["dec"],
            "snrg": rows["snr_g"].astype(float).round(2).fillna(-9999.0),
        }
    )
    for label, column, digits in (("Teff", "teff", 2), ("logg", "logg", 3), ("FeH", "feh", 3)):
        frame[column] = np.where(lost, -9999.0, rows[label].round(digits))
        frame[f"{column}_err"] = np.where(lost, -9999.0, ERROR[LASP][label])
    return catalogue, bytes(igzip.compress(frame.to_csv(sep="|", index=False).encode(), 1, mtime=0))
