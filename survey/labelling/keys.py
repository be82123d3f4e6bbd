"""The keys that match rows of a label table to spectra of a store, and their values on both sides.

A key is obsid, file, visit, star or position. Shapes: R rows of the table, N spectra of the store.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.labelling import star_id
from survey.labelling.settings import KEY_COLUMNS, Key
from survey.sources.naming import Naming, namings
from survey.tables import cells
from survey.tables.columns import CATALOGUE_COLUMNS, FILE_COLUMNS, IMAGE_COLUMNS
from survey.tables.read import TableFile

Floats = NDArray[np.float64]

STAR_COLUMNS = (
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
"""The usual names of the column that identifies the star, best first."""

SEXAGESIMAL = r"^(?P<sign>[-+]?)(?P<units>\d+)[ :hd]+(?P<minutes>\d+)[ :m']+(?P<seconds>\d+\.?\d*)[s\"]?$"
ENDING = r"(?i)(\.fits?|\.jpe?g|\.png)?(\.gz)?$"


@dataclass(frozen=True)
class KeyColumns:
    """The columns of a table that identify the spectrum of a row; None where there is no such column.

    `parts` are the columns of the parts of a visit's name, as the survey of `naming` composes it. `image` is
    the file of the image, which stands in for the file of an object without a spectrum.
    """

    obsid: str | None
    file: str | None
    visit: str | None
    star: str | None
    ra: str | None
    dec: str | None
    naming: Naming | None = None
    parts: tuple[str, ...] = ()
    image: str | None = None

    def names(self) -> list[str]:
        """All columns that exist."""
        columns = (self.obsid, self.file, self.visit, self.star, self.ra, self.dec, *self.parts, self.image)
        return [name for name in columns if name]

    def keys(self) -> list[Key]:
        """The keys that these columns give."""
        columns: dict[Key, object] = {
            "obsid": self.obsid,
            "file": self.file or self.image,
            "visit": self.visit or self.parts or self.file,
            "star": self.star,
            "position": self.ra and self.dec,
        }
        return [key for key, column in columns.items() if column]


def key_columns(table: TableFile, user_columns: Mapping[str, str], star: str) -> KeyColumns:
    """The key columns of a table: the user's columns, else those of the usual names."""
    usual = {
        "obsid": CATALOGUE_COLUMNS["obsid"],
        "file": FILE_COLUMNS,
        "visit": ("visit",),
        "ra": CATALOGUE_COLUMNS["ra"],
        "dec": CATALOGUE_COLUMNS["dec"],
    }
    columns: dict[str, Any] = {}
    for name in KEY_COLUMNS:
        columns[name] = user_columns.get(name) or table.find(*usual[name])
    if star != "auto" and star not in table.names:
        raise ValueError(
            f"labels: {table.path}: there is no column {star!r} of stars; {table.similar(star)}; "
            "give join.star="
        )
    columns["star"] = table.find(*STAR_COLUMNS) if star == "auto" else star
    without_parts = KeyColumns(**columns, image=table.find(*IMAGE_COLUMNS))
    for naming in namings():
        parts = tuple(column for part in naming.parts if (column := table.find(part)))
        if len(parts) == len(naming.parts):
            return replace(without_parts, naming=naming, parts=parts)
    return without_parts


def file_stems(paths: pa.Array) -> pa.Array:
    """Names of files without folders and endings, in lower case."""
    return pc.utf8_lower(_stems(paths))


def _stems(paths: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(paths, pa.string()))
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"^.*[/\\]", ""), ENDING, "")


def file_contradicts_visit(table: pa.Table, columns: KeyColumns) -> NDArray[np.bool_]:
    """Rows in which the name of the file is that of another visit than the columns of its parts."""
    wrong_R = np.zeros(table.num_rows, bool)
    if columns.file is None or columns.naming is None:
        return wrong_R
    in_file = pc.extract_regex(_stems(table[columns.file].combine_chunks()), columns.naming.file)
    for (part, digits), column in zip(columns.naming.parts.items(), columns.parts, strict=True):
        read = cells.text if digits is None else cells.integers
        differs = pc.not_equal(read(pc.struct_field(in_file, part)), read(table[column].combine_chunks()))
        wrong_R |= pc.fill_null(differs, False).to_numpy(zero_copy_only=False)
    return wrong_R


def _visits(table: pa.Table, columns: KeyColumns) -> pa.Array:
    """Names of visits as the store writes them, from a column, from the parts, or from the file's name."""
    if columns.visit:
        return file_stems(table[columns.visit].combine_chunks())
    if columns.naming:
        parts = [table[name].combine_chunks() for name in columns.parts]
        texts = [
            cells.text(part) if digits is None else part
            for part, digits in zip(parts, columns.naming.parts.values(), strict=True)
        ]
        return _visit_name(columns.naming, texts)
    stems = _stems(table[columns.file].combine_chunks())
    names = []
    for naming in namings():
        in_file = pc.extract_regex(stems, naming.file)
        names.append(_visit_name(naming, [pc.struct_field(in_file, part) for part in naming.parts]))
    return pc.coalesce(*names)


def _visit_name(naming: Naming, parts: list[pa.Array]) -> pa.Array:
    texts = [
        part if digits is None else pc.utf8_lpad(pc.cast(cells.integers(part), pa.string()), digits, "0")
        for part, digits in zip(parts, naming.parts.values(), strict=True)
    ]
    return pc.utf8_lower(pc.binary_join_element_wise(*texts, "-"))


def table_keys(key: Key, table: pa.Table, columns: KeyColumns) -> pa.Array:
    """The values of a key in a label table; not for position."""
    if key == "obsid":
        cell = table[columns.obsid].combine_chunks()
        number = cells.integers(file_stems(cell) if _is_text(cell) else cell)
        return pc.if_else(pc.greater(number, 0), number, None)
    if key == "file":
        named = [name for name in (columns.file, columns.image) if name]
        return pc.coalesce(*(_null_if_empty(file_stems(table[name].combine_chunks())) for name in named))
    if key == "visit":
        return _null_if_empty(_visits(table, columns))
    return star_id.clean_ids(table[columns.star].combine_chunks(), str(columns.star))


def store_keys(key: Key, spectra: pa.Table) -> pa.Array:
    """The values of a key in a store; not for position.

    A spectrum in a table of many spectra has no file of its own. Its visit stands in for the file.
    """
    if key == "obsid":
        return spectra["obsid"].combine_chunks()
    if key == "file":
        is_own_file = pc.less(spectra["row"].combine_chunks(), 0)
        paths, visits = spectra["path"].combine_chunks(), spectra["visit"].combine_chunks()
        return file_stems(pc.if_else(is_own_file, paths, visits))
    if key == "visit":
        return file_stems(spectra["visit"].combine_chunks())
    return star_id.clean_ids(spectra["star"].combine_chunks())


def file_keys(table: pa.Table, columns: KeyColumns, spectra: pa.Table) -> tuple[pa.Array, pa.Array]:
    """The values of the key `file` in a label table and in a store: the names of files, without folders.

    Files of the store that share a name have their paths instead. A row of the table with such a name gets
    the path that ends as what the table gives; none if no path does, or several do.
    """
    name_R, name_N = table_keys("file", table, columns), store_keys("file", spectra)
    is_own_file = pc.less(spectra["row"].combine_chunks(), 0)
    name_of_file_N = pc.if_else(is_own_file, name_N, None)
    if pc.count_distinct(name_of_file_N).as_py() == pc.sum(is_own_file).as_py():
        return name_R, name_N
    path_N = _paths(pc.if_else(is_own_file, spectra["path"].combine_chunks(), None))
    files = pa.table({"name": name_of_file_N, "path": path_N}).drop_null()
    counted = files.group_by("name", use_threads=False).aggregate([("path", "count_distinct")])
    shared = counted.filter(pc.greater(counted["path_count_distinct"], 1))["name"].combine_chunks()
    is_shared_R, is_shared_N = (pc.is_in(names, value_set=shared) for names in (name_R, name_N))
    named = [name for name in (columns.file, columns.image) if name]
    given_R = pc.coalesce(*(_null_if_empty(_paths(table[name].combine_chunks())) for name in named))
    given_R, path_N = pc.if_else(is_shared_R, given_R, None), pc.if_else(is_shared_N, path_N, None)
    full_R = pa.array(
        _full_paths(given_R.to_pylist(), pc.unique(path_N.drop_null()).to_pylist()), pa.string()
    )
    return pc.if_else(is_shared_R, full_R, name_R), pc.coalesce(path_N, name_N)


def has_unclear_file(table: pa.Table, columns: KeyColumns, spectra: pa.Table) -> NDArray[np.bool_]:
    """Rows with the name of several files of the store, and a path that does not tell which of them it is."""
    if not (columns.file or columns.image):
        return np.zeros(table.num_rows, bool)
    key_R, name_R = file_keys(table, columns, spectra)[0], table_keys("file", table, columns)
    unclear_R: NDArray[np.bool_] = pc.and_(key_R.is_null(), name_R.is_valid()).to_numpy(zero_copy_only=False)
    return unclear_R


def _paths(paths: pa.Array) -> pa.Array:
    """Paths as they are compared: without ./ and ../ before them, the name as `file_stems` gives it."""
    text = pc.replace_substring(pc.utf8_trim_whitespace(pc.cast(paths, pa.string())), "\\", "/")
    folders = pc.replace_substring_regex(pc.replace_substring_regex(text, r"[^/]*$", ""), r"^(\.{1,2}/)+", "")
    return pc.binary_join_element_wise(folders, file_stems(text), "")


def _full_paths(given: list[str | None], paths: list[str]) -> list[str | None]:
    """For each given path the only path that ends so, None if there is none, or more than one.

    Leading folders that no path has are left out, but one folder stays: a table may be from another machine.
    Of given paths that then mean one path, the one that agrees longest is right.
    """
    path_of_end = _paths_by_end(paths)
    full_of: dict[str, str | None] = {}
    shortened = defaultdict[str, list[tuple[int, str]]](list)
    for path in {path for path in given if path}:
        parts = path.split("/")
        ends = ("/".join(parts[first:]) for first in range(max(len(parts) - 1, 1)))
        end = next((end for end in ends if end in path_of_end), "")
        full = path_of_end.get(end)
        if end == path:
            full_of[path] = full
        elif full:
            shortened[full].append((end.count("/"), path))
    for full in shortened.keys() - full_of.values():
        most = max(agreeing for agreeing, _ in shortened[full])
        best = [path for agreeing, path in shortened[full] if agreeing == most]
        if all(max(best, key=len).endswith(path) for path in best):  # else they are several files
            full_of |= dict.fromkeys(best, full)
    return [full_of.get(path) if path else None for path in given]


def _paths_by_end(paths: list[str]) -> dict[str, str | None]:
    """The path of each end of a path; None for an end of several."""
    path_of_end: dict[str, str | None] = {}
    for path in paths:
        parts = path.split("/")
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            path_of_end[end] = path if path_of_end.get(end, path) == path else None
    return path_of_end


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _null_if_empty(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(text, ""), None, text)


def to_floats(column: pa.Array) -> Floats:
    """The numbers of a column, NaN where a cell is not a number."""
    numbers: Floats = pc.fill_null(cells.numbers(column), np.nan).to_numpy(zero_copy_only=False)
    return numbers


def positions(table: pa.Table, columns: KeyColumns) -> tuple[Floats, Floats]:
    """Right ascension and declination in degrees, also from 10 13 34.7 (hours) and -2:07:57.9."""
    return _angle(table[columns.ra].combine_chunks(), 15.0), _angle(table[columns.dec].combine_chunks(), 1.0)


def _angle(column: pa.Array, unit: float) -> Floats:
    """Angles in degrees. A number is in degrees; sexagesimal text is in a `unit` of so many degrees."""
    degrees_R = to_floats(column)
    if not _is_text(column) or np.isfinite(degrees_R).all():
        return degrees_R
    parts = pc.extract_regex(pc.utf8_trim_whitespace(column), SEXAGESIMAL)
    names = ("units", "minutes", "seconds")
    units, minutes, seconds = (to_floats(pc.struct_field(parts, name)) for name in names)
    is_negative = pc.equal(pc.struct_field(parts, "sign"), "-").fill_null(False)
    signed_unit = np.where(is_negative.to_numpy(zero_copy_only=False), -unit, unit)
    sexagesimal_R = signed_unit * (units + minutes / 60 + seconds / 3600)
    return np.where(np.isfinite(degrees_R), degrees_R, sexagesimal_R)
