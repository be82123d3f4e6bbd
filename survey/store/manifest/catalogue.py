"""A survey's catalogue as manifest rows: which of its columns says what, under the many names that surveys give them.

Names are compared without case and without the ``combined_`` that LAMOST puts before them; where a catalogue has a column both with and
without it, the one without counts and the other fills its gaps. A row that does not say which file is its spectrum is kept under a path
that does not exist, so that ingest refuses and counts it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from survey.settings import SettingsError
from survey.store.manifest import pattern, rows
from survey.tables import cells, read

PATHS = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "fits_file",
    "spec_file",
    "lamost_file",
    "fits_name",
    "fits",
    "spec",
)
"""The names of a column that holds the spectrum's file, best first."""

ALIASES = {
    "obsid": ("obsid", "obs_id"),
    "star": (
        "gaia_source_id",
        "source_id",
        "designation",
        "lamost",
        "uid",
        "apogee_id",
        "thing_id",
        "thingid",
        "bestobjid",
        "objid",
    ),
    "ra": ("ra", "ra_obs", "raj2000", "ra_deg", "ra_lamost", "ra_gaia"),
    "dec": ("dec", "dec_obs", "dej2000", "dec_deg", "dec_lamost", "dec_gaia"),
    "rv": (
        "rv",
        "radial_velocity",
        "helio_rv",
        "heliocentric_rv",
        "rv_helio",
        "vhelio",
        "vhelio_avg",
        "pred_rv",
    ),
    "z": ("z", "redshift"),
}
"""The names of the columns that say what a manifest holds, best first; the second best fills the gaps of the best."""

LIMITS = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0), "rv": (-299792.458, 299792.458), "z": (-1.0, 20.0)}

OWN = ("row", "size", "stamp")
"""What a catalogue that is itself a manifest (it has a column `path`) says besides."""


@dataclass
class Catalogue:
    """One catalogue file and what its columns mean; `nameless` counts the rows that did not say which file is theirs."""

    path: str
    root: str
    names: list[str]
    delimiter: str
    pieces: tuple[pattern.Piece, ...] = ()
    fields: dict[str, int] = field(default_factory=dict)
    values: dict[str, list[int]] = field(default_factory=dict)
    nameless: int = 0

    def rows(self) -> Iterator[pa.Table]:
        """Manifest rows, in the order of the catalogue."""
        wanted = sorted(
            {*self.fields.values(), *(number for numbers in self.values.values() for number in numbers)}
        )
        first = 1
        try:
            for columns in self._cells(wanted):
                count = len(columns[wanted[0]])
                yield self._rows(columns, first, count)
                first += count
        except ConnectionError:
            raise
        except read.DAMAGE as error:
            raise ValueError(
                f"ingest: {self.path}: {str(error).strip()}, after {first - 1} sound rows; mend or drop the line or file"
            ) from None

    def _cells(self, wanted: list[int]) -> Iterator[read.Columns]:
        if self.delimiter:
            return read.csv_cells(self.path, self.delimiter, len(self.names), wanted)
        return read.parquet_cells(self.path, self.names, wanted)

    def _rows(self, columns: read.Columns, first: int, count: int) -> pa.Table:
        path = self._paths(columns)
        if path.null_count:
            self.nameless += path.null_count
            number = pc.cast(pa.array(range(first, first + count)), pa.string())
            path = pc.coalesce(path, pc.binary_join_element_wise(f"{self.path}#row-", number, ""))
        found = {"path": path, "row": rows.ITEM}
        for name, numbers in self.values.items():
            readings = [_reading(name, columns[number]) for number in numbers]
            found[name] = pc.coalesce(*readings) if len(readings) > 1 else readings[0]
        found["row"] = pc.fill_null(found["row"], rows.ITEM) if "row" in self.values else rows.ITEM
        return rows.table(count, found)

    def _paths(self, columns: read.Columns) -> pa.Array:
        name = pattern.paths(self.pieces, {column: columns[number] for column, number in self.fields.items()})
        lone = pc.or_(pc.starts_with(name, "/"), pc.match_substring(name, "://"))
        inside = pc.binary_join_element_wise(self.root.rstrip("/") + "/", name, "")
        return _tidy(pc.if_else(lone, name, inside) if pc.any(lone).as_py() else inside)


def understood(path: str, root: str, chosen: str) -> Catalogue:
    """The catalogue of that path with the meaning of its columns; `chosen` is the pattern asked for, if any."""
    is_parquet = read.head(path).startswith(b"PAR1")
    delimiter, names = ("", read.parquet_names(path)) if is_parquet else read.csv_header(path)
    place = _places(names)
    file = next((names[place[name][0]] for name in PATHS if name in place), "")
    chosen = chosen or ("" if file else _default(place))
    if not chosen and not file:
        raise SettingsError(
            f"ingest: {path}: no column says where the spectra are, found {', '.join(names)[:300]}; needed are a column "
            f"{', '.join(PATHS[:4])}, or lmjd, planid, spid and fiberid, or plate, mjd and fiberid; or give pattern= with columns of your own"
        )
    pieces = pattern.parse(chosen) if chosen else (pattern.Piece(column=file),)
    fields = {piece.column: _field(path, place, piece.column, names) for piece in pieces if piece.column}
    values = {
        name: numbers
        for name, aliases in ALIASES.items()
        if (numbers := [number for alias in aliases for number in place.get(alias, [])][:2])
    }
    if file.lower() == "path" and not chosen:
        values |= {name: place[name][:1] for name in OWN if name in place}
    return Catalogue(path, root, names, delimiter, pieces, fields, values)


def _places(names: list[str]) -> dict[str, list[int]]:
    """Where the columns of each name are, the one without ``combined_`` first."""
    place: dict[str, list[int]] = {}
    for prefix in ("", "combined_"):
        for number, name in enumerate(names):
            if name.lower().startswith("combined_") == bool(prefix):
                place.setdefault(name.lower().removeprefix("combined_"), []).append(number)
    return place


def _default(place: dict[str, list[int]]) -> str:
    for candidate in (pattern.LAMOST, pattern.SDSS):
        if all(piece.column in place for piece in pattern.parse(candidate) if piece.column):
            return candidate
    return ""


def _field(path: str, place: dict[str, list[int]], column: str, names: list[str]) -> int:
    numbers = place.get(column.lower().removeprefix("combined_"))
    if column in names:
        return names.index(column)
    if not numbers:
        raise SettingsError(
            f"ingest: {path}: the pattern needs the column {column}, found {', '.join(names)[:300]}; give another pattern="
        )
    return numbers[0]


def _reading(name: str, column: pa.Array) -> pa.Array:
    """A column's cells as what they mean in a manifest."""
    if name in LIMITS:
        return cells.measured(column, *LIMITS[name])
    if name == "star":
        return _stars(cells.text(column))
    if name == "stamp":
        return cells.numbers(column)
    number = cells.whole(column)
    return pc.if_else(pc.greater(number, 0), number, None) if name == "obsid" else number


def _stars(names: pa.Array) -> pa.Array:
    """Names of sources without the survey's own before them; a number that pandas took for a float is a whole number again."""
    for marker, dropped, kept in (("LAMOST ", r"^LAMOST\s+", ""), (".0", r"^(\d+)\.0+$", r"\1")):
        if pc.any(pc.match_substring(names, marker)).as_py():
            names = pc.replace_substring_regex(names, dropped, kept)
    return pc.if_else(pc.is_in(names, pa.array(["0", "-1"])), None, names)


def _tidy(paths: pa.Array) -> pa.Array:
    """The same paths without ``//``, ``/./`` and ``/../``; few have them, so only those are taken one by one."""
    local = pc.invert(pc.match_substring(paths, "://"))
    untidy = pc.and_(local, pc.or_(pc.match_substring(paths, "//"), pc.match_substring(paths, "/.")))
    if not pc.any(untidy).as_py():
        return paths
    mask = pc.fill_null(untidy, False)
    return pc.replace_with_mask(
        paths, mask, pa.array([read.absolute(path) for path in paths.filter(mask).to_pylist()], pa.string())
    )
