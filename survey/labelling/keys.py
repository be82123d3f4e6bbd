"""The keys that match rows of a label table to spectra of a store, and their values on both sides.

A key is obsid, file, visit, star or position. Shapes: R rows of the table, N spectra of the store.
"""

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
from survey.tables import angles, cells
from survey.tables.columns import CATALOGUE_COLUMNS, FILE_COLUMNS, IMAGE_COLUMNS, STAR_COLUMNS
from survey.tables.read import TableFile

Floats = NDArray[np.float64]

GROUP = "groupid"
"""A column that numbers the stars of one table, as a match of a table with itself writes it. Its numbers
mean nothing in another table, so that no store keeps them."""
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
    columns["star"] = table.find(*STAR_COLUMNS, GROUP) if star == "auto" else star
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
        return pc.coalesce(*(null_if_empty(file_stems(table[name].combine_chunks())) for name in named))
    if key == "visit":
        return null_if_empty(_visits(table, columns))
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


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def null_if_empty(text: pa.Array) -> pa.Array:
    """Null in place of an empty text."""
    return pc.if_else(pc.equal(text, ""), None, text)


def to_floats(column: pa.Array) -> Floats:
    """The numbers of a column, NaN where a cell is not a number."""
    numbers: Floats = pc.fill_null(cells.numbers(column), np.nan).to_numpy(zero_copy_only=False)
    return numbers


def positions(table: pa.Table, columns: KeyColumns) -> tuple[Floats, Floats]:
    """Right ascension and declination in degrees, also from sexagesimal text."""
    ra, dec = (table[name].combine_chunks() for name in (columns.ra, columns.dec))
    return angles.degrees_of_column(ra, angles.HOUR), angles.degrees_of_column(dec, 1.0)
