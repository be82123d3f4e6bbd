"""What the columns of a catalog mean, for every format that it is written in: description, unit and UCD of each, from the fields themselves.

Every stage names its columns where it makes them (`inference.predictions`, `visits`, `criteria`, `flags`; labels by their rows) and hands the
words on as metadata of the Parquet fields. Here they are checked, so that no column leaves without its meaning, and units are spelled as each
format wants them: astropy's way in Parquet (`dex(cm s-2)`), VOUnits in VOTable, the standard's way in FITS.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from astropy import units

Format = Literal["generic", "vounit", "fits"]
LOGARITHM = r"(?:log10|log|dex)\((?P<of>.+)\)"


@dataclass(frozen=True)
class Meaning:
    """What a column holds: its name, Arrow type, description, unit (empty: a pure number or no number), UCD1+."""

    name: str
    type: pa.DataType
    description: str
    unit: str
    ucd: str


def meanings(schema: pa.Schema) -> list[Meaning]:
    """What each column holds, as its field says."""
    found = []
    for field in schema:
        said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        if not said.get("description"):
            raise ValueError(
                f"catalog: column {field.name}: no description in its field's metadata; give one where the column is made"
            )
        found.append(
            Meaning(field.name, field.type, said["description"], said.get("unit", ""), said.get("ucd", ""))
        )
    return found


def described(schema: pa.Schema, about: Mapping[str, str]) -> pa.Schema:
    """The schema as it is written: units as astropy reads them, and in its metadata where all this comes from."""
    fields = []
    for meaning in meanings(schema):
        said = {
            "description": meaning.description,
            "unit": spelled(meaning.unit, "generic"),
            "ucd": meaning.ucd,
        }
        fields.append(
            pa.field(
                meaning.name, meaning.type, metadata={key: value for key, value in said.items() if value}
            )
        )
    return pa.schema(fields, metadata=dict(about))


def spelled(unit: str, style: Format) -> str:
    """A unit as a format wants it. `dex` and logarithms are in no standard that astropy reads; they are written as the archives write them."""
    if not unit or unit == "dex":
        return unit
    logarithm = re.fullmatch(LOGARITHM, unit)
    if logarithm:
        return f"{'dex' if style == 'generic' else 'log'}({spelled(logarithm['of'], style)})"
    return unit if style == "generic" else str(units.Unit(unit).to_string(style))


def dictionary(schema: pa.Schema) -> pa.Table:
    """The columns as a table for people: name, type, unit, UCD, description."""
    rows = meanings(schema)
    return pa.table(
        {
            "name": [row.name for row in rows],
            "type": [str(row.type) for row in rows],
            "unit": [spelled(row.unit, "generic") for row in rows],
            "ucd": [row.ucd for row in rows],
            "description": [row.description for row in rows],
        }
    )
