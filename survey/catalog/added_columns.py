"""Columns of a survey's catalogue, such as the Gaia source_id and magnitudes, for the stars of ours.

The rows are matched by position: the nearest row within the radius is that of the star. A column keeps its
name in the catalogue. Shapes: R rows of the catalogue, S stars.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import files
from survey.answers import LINE_COLUMNS, answer_columns
from survey.catalog import crossmatch, kind_lists, ranked_purity, thresholds, vetted
from survey.catalog.crossmatch import nearest_rows
from survey.catalog.settings import LIST_NAMES
from survey.catalog.visits import Floats
from survey.labelling.keys import KeyColumns, key_columns, positions
from survey.labels import CLASSES, LABELS
from survey.settings import SettingsError
from survey.tables import cells
from survey.tables.columns import described_field, name_without_prefix
from survey.tables.read import TableFile, open_table

GAIA = ("gaia_source_id", "source_id", "gaia_id", "dr3_source_id", "dr2_source_id")
"""The names of the column with the number of the source in Gaia, best first."""
MAGNITUDE = re.compile(r"(^|_)mag(_|\d*$)|^magtype$|^[ugrizyjhkbv]mag$|^(bp_rp|g_rp|bp_g)$")
"""The names of magnitudes and colours, without the prefix of a survey and in lower case."""
PHOTOMETRY = ("gaia_source_id", "mag_g", "mag_r", "mag_i", "mag_gaia")
"""Columns that both a catalogue and the file of a spectrum may state."""
POSITION = ("_ra", "_dec")
"""The columns of the positions of a catalogue, besides those that are added."""
BRIGHTEST, FAINTEST = -5.0, 40.0
"""A magnitude beyond these was not measured: catalogues write 99 or -9999."""


@dataclass(frozen=True)
class AddedColumns:
    """Columns of catalogues, and the row of each star in them; -1 = none."""

    rows: pa.Table | None = None
    row_S: NDArray[np.int32] | None = None

    @classmethod
    def read(cls, path: str, names: tuple[str, ...], ra_S: Floats, dec_S: Floats, radius: float) -> Self:
        """The columns of these names (none = the usual ones) for stars at these positions."""
        table = open_table(path, "catalog: catalogue")
        keys = key_columns(table, {}, "auto")
        if not keys.ra or not keys.dec:
            raise ValueError(
                f"catalog: catalogue: {path}: no columns with positions among {', '.join(table.names[:60])}; "
                "name them ra and dec"
            )
        chosen = list(names) or _usual_columns(table)
        if missing := [name for name in chosen if name not in table.names]:
            raise SettingsError(
                f"catalog: catalogue_columns: {missing[0]}: {path} has no such column; "
                f"{table.similar(missing[0])}"
            )
        if not chosen:
            raise SettingsError(
                f"catalog: catalogue: {path}: no Gaia source_id and no magnitude among "
                f"{', '.join(table.names[:60])}; give catalogue_columns=[...]"
            )
        return cls._match([_read_rows(table, keys, chosen)], ra_S, dec_S, radius)

    @classmethod
    def of_inputs(
        cls, paths: Sequence[str], names: tuple[str, ...], ra_S: Floats, dec_S: Floats, radius: float
    ) -> Self:
        """The columns of these names (none = the usual ones) of those inputs that are catalogues with
        positions and such columns."""
        found = list(_catalogues(paths, names))
        if missing := [name for name in names if all(name not in chosen for _, _, chosen in found)]:
            raise SettingsError(
                f"catalog: catalogue_columns: {missing[0]}: no input that is a catalogue with positions has "
                f"such a column (inputs: {', '.join(paths) or 'none is known'}); give its name as it is "
                "there, or catalogue="
            )
        tables = [_read_rows(*one) for one in found]
        return cls._match(tables, ra_S, dec_S, radius) if tables else cls()

    @classmethod
    def _match(cls, tables: list[pa.Table], ra_S: Floats, dec_S: Floats, radius: float) -> Self:
        rows = pa.concat_tables(tables, promote_options="default").combine_chunks()
        ra_R, dec_R = (rows[name].to_numpy() for name in POSITION)
        return cls(rows.drop_columns(list(POSITION)), nearest_rows(ra_R, dec_R, ra_S, dec_S, radius)[0])

    def add_to(self, stars: pa.Table, start: int) -> pa.Table:
        """Stars from number `start` on with these columns. A Gaia source_id or a magnitude of the catalogue
        takes the place of that in the star's own file."""
        if self.rows is None or self.row_S is None:
            return stars
        row_N = self.row_S[start : start + stars.num_rows]
        found = self.rows.take(pa.array(row_N, mask=row_N < 0))
        for field, column in zip(found.schema, found.columns, strict=True):
            place = stars.schema.get_field_index(field.name)
            if field.name in PHOTOMETRY and stars.schema.field(place).type == field.type:
                stars = stars.set_column(place, stars.schema.field(place), pc.coalesce(column, stars[place]))
                continue
            name = _free_name(field.name, stars.column_names)
            stars = stars.append_column(field.with_name(name), column)
        return stars


def catalogues_among(paths: Sequence[str], names: tuple[str, ...] = ()) -> list[str]:
    """Those of these inputs that `AddedColumns.of_inputs` reads."""
    return [table.path for table, _, _ in _catalogues(paths, names)]


def _catalogues(
    paths: Sequence[str], names: tuple[str, ...]
) -> Iterator[tuple[TableFile, KeyColumns, list[str]]]:
    """The inputs that are catalogues with positions and columns of these names (none = a Gaia source_id or
    magnitudes), and these columns."""
    for path in paths:
        if files.is_folder(path) or not files.exists(path):
            continue
        try:
            table = open_table(path, "catalog: catalogue")
        except ValueError:
            continue  # an input of another kind, such as an array
        keys, usual = key_columns(table, {}, "auto"), _usual_columns(table)
        chosen = [name for name in names if name in table.names] if names else usual
        if keys.ra and keys.dec and chosen:
            yield table, keys, chosen


def _read_rows(table: TableFile, keys: KeyColumns, chosen: list[str]) -> pa.Table:
    """The chosen columns of a catalogue, with their meaning, and the positions."""
    rows = table.read([*([keys.ra] if keys.ra else []), *([keys.dec] if keys.dec else []), *chosen])
    fields, values = [], []
    for name in chosen:
        values.append(_values(name, rows[name].combine_chunks()))
        kind = values[-1].type
        fields.append(described_field(name, kind, *_meaning(name, table.path, pa.types.is_string(kind))))
    for name, degrees_R in zip(POSITION, positions(rows, keys), strict=True):
        values.append(pa.array(degrees_R))
        fields.append(pa.field(name, pa.float64()))
    return pa.table(values, pa.schema(fields))


def _usual_columns(table: TableFile) -> list[str]:
    """The Gaia source_id and the magnitudes of a table."""
    gaia = table.find(*GAIA)
    magnitudes = [name for name in table.names if MAGNITUDE.search(name_without_prefix(name))]
    return [*([gaia] if gaia else []), *magnitudes]


@cache
def _own_names() -> frozenset[str]:
    """The names that columns of ours have or get later, in lower case: of all answers, and of the lists."""
    names = [row.name for row in LABELS]
    later = (
        ranked_purity.COLUMNS,
        vetted.COLUMNS,
        kind_lists.COLUMNS,
        crossmatch.COLUMNS,
        thresholds.COLUMNS,
    )
    columns = [*answer_columns(names, CLASSES), *LINE_COLUMNS, *chain(*later), "rank", "not_listed"]
    columns += [*(f"true_{name}" for name in names), *(f"belongs_{name}" for name in LIST_NAMES)]
    return frozenset(map(str.lower, columns))


def _free_name(name: str, taken: Sequence[str]) -> str:
    """The name; with an ending if a column of ours has it or may get it, in any case of letters."""
    others = _own_names().union(map(str.lower, taken))
    while name.lower() in others:
        name += "_catalogue"
    return name


def _values(name: str, column: pa.Array) -> pa.Array:
    """The cells: a Gaia source_id as a whole number, magnitudes as floats, the rest as numbers or text.

    What is named like a magnitude but has more words than numbers (`mag_flag`) is text.
    """
    bare = name_without_prefix(name)
    if bare in GAIA:
        number = cells.integers(column)
        return pc.if_else(pc.greater(number, 0), number, None)
    text, numbers, integers = cells.text(column), cells.numbers(column), cells.integers(column)
    has_words = 2 * (len(column) - numbers.null_count) < len(column) - text.null_count
    if MAGNITUDE.search(bare) and bare != "magtype" and not has_words:
        values = cells.measured(column, BRIGHTEST, FAINTEST)
        return pc.cast(values, pa.float32())
    if numbers.null_count > text.null_count:  # some cell is a word
        return text
    numbers = integers if integers.null_count == numbers.null_count else numbers
    return pc.if_else(pc.is_in(numbers, pa.array(cells.SENTINELS).cast(numbers.type)), None, numbers)


def _meaning(name: str, path: str, is_text: bool) -> tuple[str, str, str]:
    """Description, unit and UCD of a column of a catalogue."""
    bare, file = name_without_prefix(name), path.rstrip("/").rpartition("/")[2]
    if bare in GAIA:
        return f"number of the source in Gaia, from {file}", "", "meta.id.cross"
    if bare == "magtype":
        return f"bands of mag1, mag2 and so on, from {file}", "", "meta.note;phot"
    if MAGNITUDE.search(bare) and not is_text:
        ucd = "phot.color" if bare in ("bp_rp", "g_rp", "bp_g") else "phot.mag"
        return f"column {name} of {file}", "mag", ucd
    return f"column {name} of {file}", "", ""
