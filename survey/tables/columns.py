"""The columns of tables: their names in catalogues of surveys, and the meaning of those that we write.

Each room describes its columns where it makes them. The description, the unit and the UCD travel as metadata
of the Parquet fields. They are checked here, so that no column is published without its meaning, and units
get one spelling that is valid in Parquet, VOTable and FITS (`km/s`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from survey import plugins

FILE_COLUMNS = (
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
    "spectrum",
)
"""The names of a catalogue's column that holds the file of a spectrum, best first."""

IMAGE_COLUMNS = ("image", "image_file", "image_path", "cutout", "cutout_file", "jpg")
"""The names of a catalogue's column that holds the file of an image, best first."""

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
    "bestobjid",
    "objid",
)
"""The names of the column that identifies the star in any table, best first."""

CATALOGUE_COLUMNS = {
    "obsid": ("obsid", "obs_id"),
    "star": STAR_COLUMNS,
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
    "z": ("redshift", "z"),
}
"""The names that catalogues give to the columns we know, best first. For `z` see `z_is_magnitude`."""

MAGNITUDES = (frozenset("ugri"), frozenset("griy"))
"""Beside columns of these names (SDSS; Pan-STARRS and Rubin), a column `z` is a magnitude as well."""

LOGARITHM = r"(?:log10|log|dex)\((?P<of>.+)\)"
QUOTIENT = r"(?P<over>\w+) (?P<under>\w+)-1"
DEX = "dex"
"""The unit of logarithms. The FITS standard has no such unit."""


def column_prefixes() -> tuple[str, ...]:
    """What surveys write before the names of their columns, shortest first; nothing is one of them."""
    namings = plugins.constants("sources", "NAMING").values()
    return tuple(sorted({"", *(naming.column_prefix for naming in namings)}))


def numbers_by_name(names: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the columns by lower-case name without prefix. Columns without a prefix come first."""
    numbers: dict[str, list[int]] = {}
    prefix_of = [_prefix(name.lower()) for name in names]
    for prefix in column_prefixes():
        for number, name in enumerate(names):
            if prefix_of[number] == prefix:
                numbers.setdefault(name.lower().removeprefix(prefix), []).append(number)
    return numbers


def name_without_prefix(name: str) -> str:
    """The lower-case name of a column without the prefix of a survey."""
    return name.lower().removeprefix(_prefix(name.lower()))


def z_is_magnitude(names: Iterable[str]) -> bool:
    """Whether the column `z` of a table is a magnitude, as in the usual query u, g, r, i, z of SDSS."""
    lower = {name.lower() for name in names}
    return "z" in lower and any(bands <= lower for bands in MAGNITUDES)


def magnitude_note(names: Iterable[str]) -> str:
    """What is said of a column `z` that is no redshift; empty if there is none."""
    lower = {name.lower() for name in names}
    if not z_is_magnitude(lower):
        return ""
    advice = "" if "redshift" in lower else "; name it redshift if it is the redshift"
    bands = ", ".join(sorted(next(bands for bands in MAGNITUDES if bands <= lower)))
    return f"column z: taken as a magnitude, because the columns {bands} are there{advice}"


def _prefix(name: str) -> str:
    return max((prefix for prefix in column_prefixes() if name.startswith(prefix)), key=len)


@dataclass(frozen=True)
class Column:
    """A column of a table. The unit is empty for a pure number and for text; the UCD is one of UCD1+."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    ucd: str = ""

    @property
    def field(self) -> pa.Field:
        """The column as a field of a schema."""
        return described_field(self.name, self.type, self.description, self.unit, self.ucd)


def described_field(
    name: str, kind: str | pa.DataType, description: str, unit: str = "", ucd: str = ""
) -> pa.Field:
    """A field of a schema with its meaning as metadata."""
    values = {"description": description, "unit": unit, "ucd": ucd}
    return pa.field(
        name,
        pa.type_for_alias(kind) if isinstance(kind, str) else kind,
        metadata={key: value for key, value in values.items() if value},
    )


def read_columns(schema: pa.Schema) -> list[Column]:
    """The columns of a schema. A field without a description is an error."""
    columns = []
    for field in schema:
        values = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        if not values.get("description"):
            raise ValueError(
                f"catalog: column {field.name}: its field has no description; "
                "give one where the column is made"
            )
        unit, ucd = values.get("unit", ""), values.get("ucd", "")
        columns.append(Column(field.name, field.type, values["description"], unit, ucd))
    return columns


def described_schema(schema: pa.Schema, metadata: Mapping[str, str]) -> pa.Schema:
    """The schema as it is written: the units as they are written, and this metadata."""
    return pa.schema([_written(column).field for column in read_columns(schema)], metadata=dict(metadata))


def written_unit(unit: str) -> str:
    """A unit in the one spelling for all formats; a logarithm is in dex, of what is in its description."""
    if re.fullmatch(LOGARITHM, unit):
        return DEX
    quotient = re.fullmatch(QUOTIENT, unit)
    return f"{quotient['over']}/{quotient['under']}" if quotient else unit


def _written(column: Column) -> Column:
    """The column with the unit as it is written."""
    logarithm = re.fullmatch(LOGARITHM, column.unit)
    text = f"{column.description} (log10 of {logarithm['of']})" if logarithm else column.description
    return replace(column, unit=written_unit(column.unit), description=text)


def column_table(schema: pa.Schema) -> pa.Table:
    """The columns as a table for people: name, type, unit, UCD, description."""
    columns = [_written(column) for column in read_columns(schema)]
    return pa.table(
        {
            "name": [column.name for column in columns],
            "type": [str(column.type) for column in columns],
            "unit": [column.unit for column in columns],
            "ucd": [column.ucd for column in columns],
            "description": [column.description for column in columns],
        }
    )
