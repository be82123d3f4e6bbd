"""The stars of a list as they are vetted: their numbers, the order of the work, and blind second looks."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from survey import files
from survey.catalog.document import CATALOG, CatalogDocument
from survey.catalog.flags import flag_table
from survey.catalog.settings import ListName
from survey.catalog.visits import label_names
from survey.folder import Folder
from survey.labels import CLASSES, label
from survey.pages.page_text import digits_of, plain_symbol, plain_unit
from survey.pages.settings import ReportSettings, VettedList
from survey.pages.star_columns import absolute_carbon
from survey.settings import SettingsError

LIST_FILES: dict[VettedList, str] = {
    "cemp": "cemp_candidates",
    "mp": "mp_candidates",
    "next_cemp": "next_cemp",
    "next_mp": "next_mp",
    "carbon_stars": "carbon_stars",
    "m_subdwarfs": "m_subdwarfs",
}
LIST_TEXTS: dict[VettedList, str] = {
    "cemp": "CEMP candidates",
    "mp": "MP candidates",
    "next_cemp": "stars next to the CEMP list",
    "next_mp": "stars next to the MP list",
    "carbon_stars": "carbon stars",
    "m_subdwarfs": "M subdwarfs",
}
SEARCHES: dict[VettedList, ListName] = {
    "cemp": "CEMP",
    "next_cemp": "CEMP",
    "carbon_stars": "CEMP",
    "mp": "MP",
    "next_mp": "MP",
    "m_subdwarfs": "MP",
}
"""What is searched for in each list; it decides what a normal star is."""
FEWEST_BETWEEN = 8
"""Candidates between the first and the second look at a star, if there are so many."""
SIGNIFICANT = 5
"""Digits of a number in a page."""
TEXTS = (
    *("star", "subclass", "survey", "path", "kind", "feh_class", "cemp_subclass", "asked_why", "not_listed"),
    *("m_class", "carbon_by", "mag_system"),
)
INTEGERS = (
    "rank",
    "obsid",
    "gaia_source_id",
    "lmjd",
    "n_visits",
    "n_used",
    "flag_warn",
    "flag_bad",
    "flag_info",
)
NUMBERS = (
    *("ra", "dec", "score_cemp", "score_mp", "purity_to_here", "purity_to_here_low", "purity_to_here_high"),
    *(
        "snr_total",
        "snr_best",
        "snr_u",
        "snr_g",
        "snr_r",
        "snr_i",
        "snr_z",
        "velocity",
        "domain",
        "other_kind",
    ),
    *("p_cemp", "p_mp", "p_nmp", "class_entropy", "FeH_lines", "FeH_lines_err", "zeta"),
    *("g_band", "c2_4668", "c2_5165", "ca_k", "mg_b", "na_d", "tio5", "cah2"),
)
"""Columns of a list that a page has, as far as they exist; besides labels and members."""


@dataclass(frozen=True)
class VettedStars:
    """A list of a finished catalog, best first, and what identifies it."""

    folder: str
    document: CatalogDocument
    name: VettedList
    table: pa.Table
    total: int

    @property
    def id(self) -> str:
        """The same for the same list of the same catalog: verdicts belong to it."""
        text = f"{self.document.id} {self.name}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def labels(self) -> list[str]:
        """The labels that are predicted."""
        return label_names(self.table)

    @property
    def members(self) -> list[str]:
        """The names of the members whose answers are in the list."""
        names = [member.name for member in self.document.ensemble.members]
        starts = {name.partition("_")[0] for name in self.table.column_names}
        return names if names and all(f"m{number}" in starts for number in range(len(names))) else []


def read_list_of(settings: ReportSettings, path: str) -> VettedStars:
    """The list that the settings name. A list without a star is an error that says what else there is."""
    assert settings.list_ is not None
    folder = Folder(path, CATALOG)
    document = folder.document()
    name = f"{LIST_FILES[settings.list_]}.parquet"
    if name not in document.content:
        raise SettingsError(f"report: list: {settings.list_!r}: {path} has no {name}; make the catalog again")
    table = folder.table(name, document=document)
    if not table.num_rows:
        others = [
            other
            for other, file in LIST_FILES.items()
            if folder.table(f"{file}.parquet", ["star"], document).num_rows
        ]
        advice = f"give list={' or '.join(others)}" if others else "no list of it has any star"
        raise SettingsError(f"report: list: {settings.list_!r}: the list of {path} has no star; {advice}")
    return VettedStars(path, document, settings.list_, table.slice(0, settings.most), table.num_rows)


def work_order(stars: Sequence[str], list_id: str, again: float) -> list[tuple[int, int]]:
    """Candidates in the order of the work: (number of the candidate, first or second look).

    Which stars come again, and where, follows from the list and the star. So it is the same for everybody.
    The last candidates come again only if the others are too few.
    """
    count = len(stars)
    missing = [max(number + FEWEST_BETWEEN + 1 - count, 0) for number in range(count)]
    chance = [_chance(list_id, star) for star in stars]
    ordered = sorted(range(count), key=lambda number: (missing[number], chance[number]))
    repeated = ordered[: round(again * count)]
    places = [(float(number), number, 1) for number in range(count)]
    for number in repeated:
        first = min(number + FEWEST_BETWEEN, count - 1)
        place = first + _chance(list_id, f"place of {stars[number]}") * (count - first)
        places.append((place + 0.5, number, 2))
    return [(number, look) for _, number, look in sorted(places)]


def _chance(list_id: str, text: str) -> float:
    """A number from 0 to 1 that is always the same for this text."""
    return int.from_bytes(hashlib.sha256(f"{list_id}\n{text}".encode()).digest()[:7]) / 2**56


def candidate_columns(stars: VettedStars) -> dict[str, list[Any]]:
    """The columns of the candidates as a page has them; null where a value is unknown."""
    table = stars.table
    columns: dict[str, list[Any]] = {}
    for name in TEXTS:
        if name in table.column_names:
            columns[name] = [str(value or "") for value in table[name].to_pylist()]
    for name in INTEGERS:
        if name in table.column_names:
            exact = name in ("obsid", "gaia_source_id")  # a browser's numbers have 53 bits
            columns[name] = [
                None if value is None else str(value) if exact else value for value in table[name].to_pylist()
            ]
    labels = [f"{name}{ending}" for name in stars.labels for ending in ("", "_err", "_low", "_high")]
    members = [
        f"m{number}_{name}"
        for number in range(len(stars.members))
        for name in (*stars.labels, "p_cemp", "p_mp", "p_nmp")
    ]
    magnitudes = [name for name in table.column_names if name.startswith("mag_") and name != "mag_system"]
    for name in (*NUMBERS, *labels, *members, *magnitudes):
        if name in table.column_names:
            columns[name] = _rounded(table, name)
    if "predicted_class" in table.column_names:
        columns["class"] = [
            "" if number is None or number < 0 else CLASSES[number]
            for number in table["predicted_class"].to_pylist()
        ]
    if {"FeH", "CFe"} <= set(stars.labels):
        columns["AC"] = [_significant(value) for value in absolute_carbon(table).tolist()]
        columns["AC_err"] = columns.get("CH_err", [None] * table.num_rows)
    return columns


def _rounded(table: pa.Table, name: str) -> list[float | None]:
    if name in ("ra", "dec"):
        return [None if value is None else round(value, 6) for value in table[name].to_pylist()]
    return [_significant(value) for value in table[name].cast(pa.float64()).to_pylist()]


def _significant(value: float | None) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.{SIGNIFICANT}g}")


def label_rows(stars: VettedStars) -> list[dict[str, Any]]:
    """The labels as rows of a table: name, symbol, unit, digits, description."""
    return [
        {
            "name": name,
            "text": plain_symbol(name),
            "unit": plain_unit(name),
            "digits": digits_of(name),
            "about": label(name).description,
        }
        for name in stars.labels
    ]


def flag_rows() -> list[dict[str, Any]]:
    """All flags with their meaning."""
    return [
        {name: row[name] for name in ("value", "name", "severity", "description")}
        for row in flag_table().to_pylist()
    ]


def table_columns(stars: VettedStars) -> Iterator[dict[str, Any]]:
    """The columns of the table of candidates, as far as they exist."""
    wanted: list[tuple[str, str, int | None, str, bool, str]] = [
        ("star", "star", None, "minmax(72px, 1fr)", False, "name of the star"),
        ("FeH", "Fe/H", 2, "50px", False, "[Fe/H]"),
        ("CFe", "C/Fe", 2, "50px", True, "[C/Fe]"),
        ("snr_best", "S/N", 0, "42px", True, "signal to noise of the best visit"),
    ]
    yield {
        "name": "#",
        "title": "#",
        "digits": 0,
        "width": "40px",
        "falls": False,
        "about": "place in the order of the work",
    }
    for name, title, digits, width, falls, about in wanted:
        if name in stars.table.column_names:
            yield {
                "name": name,
                "title": title,
                "digits": digits,
                "width": width,
                "falls": falls,
                "about": about,
            }


def more_columns(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Numbers that few readers need, as far as they exist."""
    wanted = [
        ("obsid", "obsid", 0, "the survey's number of the observation"),
        ("gaia_source_id", "Gaia source", 0, ""),
        ("subclass", "survey's type", 0, ""),
        ("kind", "kind", 0, "by bands, lines and the survey's own type"),
        ("feh_class", "class by [Fe/H]", 0, ""),
        ("class", "class by probability", 0, ""),
        ("p_cemp", "p(CEMP)", 3, "calibrated probability"),
        ("p_mp", "p(MP)", 3, "calibrated probability"),
        ("p_nmp", "p(NMP)", 3, "calibrated probability"),
        ("score_cemp", "score CEMP", 3, ""),
        ("score_mp", "score MP", 3, ""),
        ("FeH_lines", "[Fe/H] from lines", 2, "without the networks"),
        ("domain", "domain", 2, "above 1: farther from the training spectra than 99 % of validation"),
        ("other_kind", "other kind", 3, "probability of another kind of star"),
        ("velocity", "velocity (km/s)", 1, ""),
        ("g_band", "CH G band (Å)", 2, "equivalent width"),
        ("c2_4668", "C2 4668 (Å)", 2, "equivalent width"),
        ("c2_5165", "C2 5165 (Å)", 2, "equivalent width"),
        ("ca_k", "Ca K (Å)", 2, "equivalent width"),
        ("mg_b", "Mg b (Å)", 2, "equivalent width"),
        ("na_d", "Na D (Å)", 2, "equivalent width"),
        ("tio5", "TiO5", 3, "ratio; M stars are below 0.9"),
        ("cah2", "CaH2", 3, "ratio"),
        ("lmjd", "date (LMJD)", 0, "of the best visit"),
        ("path", "file", 0, "of the best visit"),
    ]
    for name, text, digits, about in wanted:
        if name in columns:
            yield {"name": name, "text": text, "digits": digits, "about": about}


def list_text(stars: VettedStars) -> str:
    """What the list is, in a sentence."""
    name = SEARCHES[stars.name]
    shown = stars.table.num_rows
    part = f"the first {shown:,} of {stars.total:,}" if shown < stars.total else f"{shown:,}"
    definition = stars.document.definitions.get(name, "")
    return f"{part} {LIST_TEXTS[stars.name]} of {files.relative(stars.folder)}; {name}: {definition}."
