"""Which files are wanted: a catalogue with cuts, ids, or what the archive has around a position.

A cut is applied block by block, so that only the rows that pass are held in memory.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.archives import plan_table
from survey.archives.copies import without_copies
from survey.archives.plan_table import BAD, KEY, NEEDED
from survey.archives.settings import Cut, Download, is_range, limits
from survey.archives.targets import BadRowError, Row
from survey.settings import SettingsError
from survey.tables import cells
from survey.tables.read import DAMAGE, TableFile, open_table

RA = ("ra", "ra_obs", "raj2000", "plug_ra", "catalogue_ra", "med_catalogue_ra")
DEC = ("dec", "dec_obs", "dej2000", "plug_dec", "catalogue_dec", "med_catalogue_dec")
OWN_COLUMNS = ("path", "image", "bytes", "crc32", KEY, BAD, NEEDED)
"""Columns that a download writes itself: the same ones of a catalogue get the prefix `catalogue_`."""
AskArchive = Callable[[str], str]
"""Fetches the list of files at an address into a file, and gives its path."""


@dataclass
class Selected:
    """The plan and what was left out: `read` rows of the catalogue, `cut` by cuts and circle, `twice`.

    `faults`: rows that named no file in earlier selections; `corrected`: those of them that name one now, or
    that have another key now.
    """

    table: pa.Table
    read: int = 0
    cut: int = 0
    twice: int = 0
    faults: frozenset[str] = frozenset()
    corrected: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        counts = {"left out by cuts": self.cut, "listed twice": self.twice}
        more = "".join(f", {count:,} {text}" for text, count in counts.items() if count)
        of_rows = f" of {self.read:,} rows" if self.read else ""
        return f"{self.table.num_rows:,} files{of_rows}{more}"

    def text_within(self, plan: pa.Table) -> str:
        """The counts, and how many files of earlier selections are in the plan besides."""
        earlier = plan.num_rows - self.table.num_rows
        return f"{self}, {earlier:,} more of earlier selections" if earlier > 0 else str(self)


def needed_names(archive: ModuleType, options: Any) -> dict[str, tuple[str, ...]]:
    """The columns that name a file, with their names in catalogues."""
    names: dict[str, tuple[str, ...]] = archive.needed(options)
    return names


def select(
    settings: Download, archive: ModuleType, options: Any, ask: AskArchive, before: pa.Table | None = None
) -> Selected:
    """The files that are wanted; `before` is the plan of earlier selections, whose files keep their names."""
    faults = plan_table.faults_of(before) if settings.input else frozenset[str]()
    found = Selected(pa.table({KEY: pa.array([], pa.string())}), faults=faults)
    tables = []
    if settings.input:
        tables.append(_from_catalogue(files.absolute(settings.input), settings, archive, options, found))
    elif settings.around:
        address = archive.circle(*settings.around, options)
        if not address:
            raise SettingsError(
                f"download: around: {settings.archive} is not asked for positions; "
                "give a catalogue as input= too"
            )
        tables.append(_from_catalogue(ask(address), settings, archive, options, found))
    rows = [_row_of_id(text, archive, options) for text in settings.ids]
    for name in settings.catalogues:
        try:
            rows.append((archive.catalogue(name, options).key, {}))
        except BadRowError as error:
            raise SettingsError(f"download: catalogues: {error}") from None
    if rows:
        tables.append(_of_ids(rows))
    joined = pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]
    found.table, found.twice = without_copies(joined, before, archive, options)
    if settings.most:
        found.table = found.table.slice(0, settings.most)
    if not found.table.num_rows:
        raise SettingsError(f"download: nothing is wanted: {found}; give other cuts, or another circle")
    return found


def _row_of_id(text: str, archive: ModuleType, options: Any) -> tuple[str, Row]:
    try:
        row: Row = archive.from_id(text, options)
        return archive.target(row, options).key, row
    except BadRowError as error:
        raise SettingsError(f"download: ids: {text}: {error}") from None


def _of_ids(rows: list[tuple[str, Row]]) -> pa.Table:
    names = sorted({name for _, row in rows for name in row})
    columns = {name: pa.array([row.get(name) for _, row in rows], pa.string()) for name in names}
    keys = pa.array([key for key, _ in rows], pa.string())
    needed = pa.array([json.dumps(row) for _, row in rows], pa.string())
    return _typed(pa.table({KEY: keys, NEEDED: needed} | columns))


def _from_catalogue(
    path: str, settings: Download, archive: ModuleType, options: Any, found: Selected
) -> pa.Table:
    table = open_table(path, "download")
    needed = _needed_columns(table, settings, archive, options)
    cuts = [(_find(table, name, "cuts"), cut) for name, cut in settings.cuts.items()]
    circle = [_find_any(table, names, "around") for names in (RA, DEC)] if settings.around else []
    numbers = list(range(len(table.names)))
    blocks, first = [], 1
    try:
        for columns in table.blocks(numbers):
            count = len(columns[0])
            kept = _passes(columns, cuts, circle, settings, count)
            chosen = {number: column.filter(kept) for number, column in columns.items()}
            kept_rows = [row for row, is_kept in enumerate(kept.to_pylist(), first) if is_kept]
            names = [f"{path}#row-{row}" for row in kept_rows]
            blocks.append(_planned(chosen, table, needed, archive, options, names))
            if found.faults:
                is_good = blocks[-1][BAD].is_null().to_pylist()
                earlier = _earlier_names(Path(path).name, first, kept_rows)
                found.corrected |= found.faults.intersection(chain(compress(names, is_good), earlier))
            found.read += count
            found.cut += count - blocks[-1].num_rows
            first += count
    except ConnectionError:
        raise
    except DAMAGE as error:
        raise ValueError(
            f"download: {path}: {str(error).strip()}, after {first - 1:,} good rows; "
            "correct or remove the line"
        ) from None
    if not found.read:
        raise SettingsError(f"download: {path}: has no rows, only the columns {', '.join(table.names[:10])}")
    joined = pa.concat_tables(blocks, promote_options="permissive")
    return _typed(joined) if table.kind == "csv" else joined


def _earlier_names(catalogue: str, first: int, rows: list[int]) -> Iterator[str]:
    """What the rows of a block that name no file were called in plans of earlier versions."""
    for index, row in enumerate(rows):
        yield f"{catalogue}#row-{row}"
        yield f"{catalogue}#row-{first}+{index}"


def _needed_columns(
    table: TableFile, settings: Download, archive: ModuleType, options: Any
) -> dict[str, int]:
    """The numbers of the columns that name a file."""
    names = needed_names(archive, options)
    if unknown := [name for name in settings.columns if name not in names]:
        raise SettingsError(
            f"download: columns: {unknown[0]}: is not needed; the columns are {', '.join(names)}"
        )
    numbers = {}
    for name, aliases in names.items():
        if given := settings.columns.get(name):
            numbers[name] = _find(table, given, "columns")
        elif column := table.find(*aliases):
            numbers[name] = table.names.index(column)
        elif name not in archive.OPTIONAL:
            raise SettingsError(
                f"download: {table.path}: no column {name}; {table.similar(name)}; "
                f"give columns={{{name}: YOURS}}"
            )
    return numbers


def _find(table: TableFile, name: str, setting: str) -> int:
    found = name if name in table.names else table.find(name)
    if found is None:
        raise SettingsError(f"download: {setting}: {table.path}: no column {name}; {table.similar(name)}")
    return table.names.index(found)


def _find_any(table: TableFile, names: tuple[str, ...], setting: str) -> int:
    found = table.find(*names)
    return table.names.index(found) if found else _find(table, names[0], setting)


def _passes(
    columns: dict[int, pa.Array],
    cuts: list[tuple[int, Cut]],
    circle: list[int],
    settings: Download,
    count: int,
) -> pa.Array:
    """Which rows of a block have all that is asked of them. A missing value never passes; 999 is a
    number like others."""
    kept = pa.array([True] * count) if not cuts and not circle else None
    masks = []
    for number, cut in cuts:
        if is_range(cut):
            values = cells.measured(columns[number], *limits(cut), cells.NEGATIVE_SENTINELS)
            masks.append(pc.is_valid(values))
        else:
            words = pa.array([str(word) for word in cut], pa.string())
            masks.append(pc.fill_null(pc.is_in(cells.text(columns[number]), words), False))
    if circle and settings.around:
        masks.append(_inside(columns[circle[0]], columns[circle[1]], settings.around))
    for mask in masks:
        kept = mask if kept is None else pc.and_(kept, mask)
    return kept


def _inside(ra: pa.Array, dec: pa.Array, around: tuple[float, float, float]) -> pa.Array:
    """Which positions are within a circle: the haversine formula, which is exact for small angles too."""
    east, north = cells.measured(ra, 0, 360), cells.measured(dec, -90, 90)
    lon, lat, radius = (math.radians(value) for value in around)
    rad = math.pi / 180
    half_lat = pc.sin(pc.divide(pc.subtract(pc.multiply(north, rad), lat), 2))
    half_lon = pc.sin(pc.divide(pc.subtract(pc.multiply(east, rad), lon), 2))
    scale = pc.multiply(pc.cos(pc.multiply(north, rad)), math.cos(lat))
    square = pc.add(pc.power(half_lat, 2.0), pc.multiply(scale, pc.power(half_lon, 2.0)))
    return pc.fill_null(pc.less_equal(square, math.sin(radius / 2) ** 2), False)


def _planned(
    columns: dict[int, pa.Array],
    table: TableFile,
    needed: dict[str, int],
    archive: ModuleType,
    options: Any,
    row_names: list[str],
) -> pa.Table:
    """Rows of a block with their keys; a row that names no file has its own name, and the reason is kept."""
    keys, rows = list[str](), list[str]()
    bad: list[str | None] = []
    texts = {name: cells.text(columns[number]).to_pylist() for name, number in needed.items()}
    for index in range(len(columns[0])):
        row = {name: values[index] for name, values in texts.items()}
        rows.append(json.dumps(row))
        try:
            keys.append(archive.target(row, options).key)
            bad.append(None)
        except BadRowError as error:
            keys.append(row_names[index])
            bad.append(str(error))
    named: dict[str, Any] = {
        name: pa.array(values, pa.string()) for name, values in ((KEY, keys), (NEEDED, rows), (BAD, bad))
    }
    for number, column in columns.items():
        named[_own_name(table.names[number], named)] = column
    return pa.table(named)


def _own_name(name: str, taken: dict[str, Any]) -> str:
    """The name of a column in the plan, which has each name once."""
    name = f"catalogue_{name}" if name.lower() in OWN_COLUMNS else name
    while name in taken:
        name += "_"
    return name


def _typed(plan: pa.Table) -> pa.Table:
    """Columns of text that hold numbers become numbers; ids with leading zeros or very many digits do not."""
    for index, name in enumerate(plan.column_names):
        if name not in (KEY, BAD, NEEDED):
            column = cells.text(plan[name].combine_chunks())
            plan = plan.set_column(index, name, _as_numbers(column))
    return plan


def _as_numbers(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(column, r"^[-+]?0\d")).as_py():
        return column
    integers = cells.integers(column)
    if integers.null_count == column.null_count:
        return integers
    numbers = cells.numbers(column)
    has_long = pc.any(pc.match_substring_regex(column, r"^[-+]?\d{16,}$")).as_py()
    return column if has_long or numbers.null_count != column.null_count else numbers
