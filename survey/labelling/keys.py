"""Which rows of a table of labels are of which spectra of a store.

A key is what both sides know: obsid, file, visit, star or position. Either side becomes codes in one numbering, so that joining is a look-up
in arrays. Shapes: R rows of the table, N spectra of the store.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey.labelling import star_id
from survey.store.manifest.catalogue import ALIASES, PATHS
from survey.tables import cells
from survey.tables.label_table import LabelTable

Key = Literal["obsid", "file", "visit", "star", "position"]
Codes = NDArray[np.int64]
Sides = tuple[Codes, Codes]

SHARPNESS: tuple[tuple[Key, ...], ...] = (("obsid", "file", "visit"), ("star",), ("position",))
"""Keys that name a visit come before those that name a star, whose visits may have labels of their own."""

STARS = (
    "gaia_source_id",
    "source_id",
    "designation",
    "desig",
    "star",
    "lamost",
    "uid",
    "apogee_id",
    "thing_id",
    "thingid",
    "groupid",
)
"""The names of a column of stars' ids, best first."""

LAMOST_PLAN, SDSS_PLAN = ("lmjd", "planid", "spid", "fiberid"), ("plate", "mjd", "fiberid")
LAMOST_FILE = r"^(?:spec|med)-(?P<lmjd>\d+)-(?P<planid>.+)_sp(?P<spid>\d+)-(?P<fiberid>\d+)$"
SDSS_FILE = r"^spec-(?P<plate>\d+)-(?P<mjd>\d+)-(?P<fiberid>\d+)$"
SEXAGESIMAL = r"^(?P<sign>[-+]?)(?P<whole>\d+)[ :hd]+(?P<minutes>\d+)[ :m']+(?P<seconds>\d+\.?\d*)[s\"]?$"
ENDING = r"(?i)(\.fits?)?(\.gz)?$"


@dataclass(frozen=True)
class KeyColumns:
    """The columns of a table that say which spectrum a row is of; None where there is none."""

    obsid: str | None
    file: str | None
    visit: str | None
    star: str | None
    ra: str | None
    dec: str | None
    plan: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All of them that are there."""
        return [
            name
            for name in (self.obsid, self.file, self.visit, self.star, self.ra, self.dec, *self.plan)
            if name
        ]

    def offers(self) -> list[Key]:
        """The keys that these columns give."""
        there: dict[Key, object] = {
            "obsid": self.obsid,
            "file": self.file,
            "visit": self.visit or self.plan or self.file,
            "star": self.star,
            "position": self.ra and self.dec,
        }
        return [key for key, found in there.items() if found]


OWN = ("obsid", "file", "visit", "ra", "dec")
"""Key columns that may be named by the user beside the labels'."""


def key_columns(table: LabelTable, own: Mapping[str, str], star: str) -> KeyColumns:
    """The key columns of a table, the user's own before the usual ones."""
    usual = {
        "obsid": ALIASES["obsid"],
        "file": PATHS,
        "visit": ("visit",),
        "ra": ALIASES["ra"],
        "dec": ALIASES["dec"],
    }
    found = {name: own.get(name) or table.has(*usual[name]) for name in OWN}
    if star != "auto" and star not in table.names:
        raise ValueError(
            f"labels: {table.path}: there is no column {star!r} of stars; {table.near(star)}; give join.star="
        )
    plan = next(
        (
            columns
            for wanted in (LAMOST_PLAN, SDSS_PLAN)
            if len(columns := [name for part in wanted if (name := table.has(part))]) == len(wanted)
        ),
        [],
    )
    return KeyColumns(**found, star=table.has(*STARS) if star == "auto" else star, plan=tuple(plan))


def stems(paths: pa.Array) -> pa.Array:
    """Names of files without folders and endings, in small letters."""
    text = pc.utf8_trim_whitespace(pc.cast(paths, pa.string()))
    return pc.utf8_lower(
        pc.replace_substring_regex(pc.replace_substring_regex(text, r"^.*[/\\]", ""), ENDING, "")
    )


def contradicted(columns: pa.Table, known: KeyColumns) -> NDArray[np.bool_]:
    """Rows whose file's name is that of another visit than their own plan, spectrograph and fibre say."""
    wrong = np.zeros(columns.num_rows, bool)
    if known.file is None or not known.plan:
        return wrong
    pattern = LAMOST_FILE if len(known.plan) == len(LAMOST_PLAN) else SDSS_FILE
    parts = pc.extract_regex(_stem_in_case(columns[known.file].combine_chunks()), pattern)
    for name, column in zip(LAMOST_PLAN if pattern == LAMOST_FILE else SDSS_PLAN, known.plan, strict=True):
        in_file, in_row = pc.struct_field(parts, name), columns[column].combine_chunks()
        read = cells.text if name == "planid" else cells.whole
        other = pc.not_equal(read(in_file), read(in_row))
        wrong |= pc.fill_null(other, False).to_numpy(zero_copy_only=False)
    return wrong


def _stem_in_case(paths: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(paths, pa.string()))
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"^.*[/\\]", ""), ENDING, "")


def _visits(columns: pa.Table, known: KeyColumns) -> pa.Array:
    """Identities of visits as the store writes them: from the plan, or from the file's name."""
    if known.visit:
        return stems(columns[known.visit].combine_chunks())
    if known.plan:
        parts = [columns[name].combine_chunks() for name in known.plan]
        if len(parts) == len(LAMOST_PLAN):
            return _visit(_digits(parts[0]), cells.text(parts[1]), _digits(parts[2]), _digits(parts[3]))
        return pc.binary_join_element_wise(*map(_digits, parts), "-")
    name = _stem_in_case(columns[known.file].combine_chunks())
    lamost, sdss = pc.extract_regex(name, LAMOST_FILE), pc.extract_regex(name, SDSS_FILE)
    from_sdss = pc.binary_join_element_wise(
        *(_digits(pc.struct_field(sdss, part)) for part in SDSS_PLAN), "-"
    )
    first, planid, third, fourth = (pc.struct_field(lamost, part) for part in LAMOST_PLAN)
    return pc.coalesce(_visit(_digits(first), planid, _digits(third), _digits(fourth)), from_sdss)


def _digits(column: pa.Array) -> pa.Array:
    return pc.cast(cells.whole(column), pa.string())


def _visit(lmjd: pa.Array, planid: pa.Array, spid: pa.Array, fiberid: pa.Array) -> pa.Array:
    return pc.utf8_lower(
        pc.binary_join_element_wise(
            lmjd, planid, pc.utf8_lpad(spid, 2, "0"), pc.utf8_lpad(fiberid, 3, "0"), "-"
        )
    )


def words(key: Key, columns: pa.Table, known: KeyColumns) -> pa.Array:
    """A table's side of a key other than position."""
    if key == "obsid":
        cell = columns[known.obsid].combine_chunks()
        number = cells.whole(
            stems(cell) if pa.types.is_string(cell.type) or pa.types.is_large_string(cell.type) else cell
        )
        return pc.if_else(pc.greater(number, 0), number, None)
    if key == "file":
        return _said(stems(columns[known.file].combine_chunks()))
    return (
        _said(_visits(columns, known))
        if key == "visit"
        else star_id.ids(columns[known.star].combine_chunks())
    )


def store_words(key: Key, spectra: pa.Table) -> pa.Array:
    """A store's side of a key other than position. A spectrum in a table of many has no file of its own: its visit stands for it."""
    if key == "obsid":
        return spectra["obsid"].combine_chunks()
    if key == "file":
        alone = pc.less(spectra["row"].combine_chunks(), 0)
        return stems(pc.if_else(alone, spectra["path"].combine_chunks(), spectra["visit"].combine_chunks()))
    return (
        stems(spectra["visit"].combine_chunks())
        if key == "visit"
        else star_id.ids(spectra["star"].combine_chunks())
    )


def _said(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(text, ""), None, text)


def degrees(column: pa.Array) -> NDArray[np.float64]:
    """Angles as numbers, NaN where they are none."""
    found: NDArray[np.float64] = pc.fill_null(cells.numbers(column), np.nan).to_numpy(zero_copy_only=False)
    return found


def angles(columns: pa.Table, known: KeyColumns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of a table's rows in degrees, also where they are written as 10 13 34.7 (hours) and -2:07:57.9."""
    ra, dec = (
        _angle(columns[name].combine_chunks(), hours) for name, hours in ((known.ra, 15.0), (known.dec, 1.0))
    )
    return ra, dec


def _angle(column: pa.Array, hours: float) -> NDArray[np.float64]:
    """Numbers are degrees; some tables hold both kinds of cells."""
    numbers = degrees(column)
    if (
        not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type))
        or np.isfinite(numbers).all()
    ):
        return numbers
    parts = pc.extract_regex(pc.utf8_trim_whitespace(column), SEXAGESIMAL)
    whole, minutes, seconds = (
        degrees(pc.struct_field(parts, name)) for name in ("whole", "minutes", "seconds")
    )
    sign = pc.equal(pc.struct_field(parts, "sign"), "-").fill_null(False).to_numpy(zero_copy_only=False)
    return np.where(
        np.isfinite(numbers), numbers, np.where(sign, -hours, hours) * (whole + minutes / 60 + seconds / 3600)
    )


def coded(key: Key, columns: pa.Table, known: KeyColumns, spectra: pa.Table) -> Sides:
    """The codes of a key for the table's rows (-1: no value) and for the store's spectra (-1: no such row)."""
    if key == "position":
        return _by_position(*angles(columns, known), spectra)
    code_R, distinct = star_id.codes_of(words(key, columns, known))
    code_N = pc.fill_null(pc.index_in(store_words(key, spectra), value_set=distinct, skip_nulls=True), -1)
    return code_R, code_N.to_numpy(zero_copy_only=False).astype(np.int64)


def _by_position(ra_R: NDArray[np.float64], dec_R: NDArray[np.float64], spectra: pa.Table) -> Sides:
    """Rows of one star share a code; a spectrum gets that of the nearest row within 3 arcsec."""
    code_R = star_id.near(ra_R, dec_R)
    ra_N, dec_N = (degrees(spectra[name].combine_chunks()) for name in ("ra", "dec"))
    code_N = np.full(len(ra_N), -1, np.int64)
    rows, wanted = np.flatnonzero(code_R >= 0), np.flatnonzero(star_id.placed(ra_N, dec_N))
    if rows.size and wanted.size:
        tree = cKDTree(star_id.unit_vectors(ra_R[rows], dec_R[rows]))
        far, nearest = tree.query(
            star_id.unit_vectors(ra_N[wanted], dec_N[wanted]),
            distance_upper_bound=star_id.chord(star_id.ARCSEC),
        )
        hit = np.isfinite(far)
        code_N[wanted[hit]] = code_R[rows[nearest[hit]]]
    return code_R, code_N


def chosen(offers: list[Key], sides: Callable[[Key], Sides]) -> tuple[Key, Sides] | None:
    """The sharpest key by which at least half as many rows are matched as by any other; among those equally sharp, the one that matches most."""
    best: tuple[Key, Sides] | None = None
    most = 0
    for group in SHARPNESS:
        needed = 2 * most
        for key in (key for key in group if key in offers):
            code_R, code_N = sides(key)
            used = matched_rows(code_R, code_N)
            if used > needed:
                best, most, needed = (key, (code_R, code_N)), used, used
            if used and (used == len(code_R) or (code_N >= 0).all()):
                return best
        if best and (2 * most >= len(best[1][0]) or 2 * (best[1][1] >= 0).sum() >= len(best[1][1])):
            return best  # hardly another can match twice as many
    return best


def matched_rows(code_R: Codes, code_N: Codes) -> int:
    """How many rows of the table have a spectrum in the store."""
    there = np.zeros(code_R.max(initial=-1) + 1, bool)
    there[code_N[code_N >= 0]] = True
    return int(there[code_R[code_R >= 0]].sum())
