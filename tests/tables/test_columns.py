"""Every column of a catalog has a meaning, a unit that astropy reads and a UCD of the IVOA's list."""

import pyarrow as pa
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from survey.catalog import criteria, flags, sorting, visits
from survey.labels import CLASSES, LABELS
from survey.predict import output
from survey.tables import columns


def all_columns() -> list[columns.Meaning]:
    """Of predictions of every label, and what the catalog adds."""
    own = {**visits.COLUMNS, **criteria.COLUMNS, **flags.COLUMNS}
    added = [
        pa.field(name, pa.type_for_alias(kind), metadata={"description": words, "unit": unit, "ucd": ucd})
        for name, (kind, words, unit, ucd) in own.items()
    ]
    told = output.schema(CLASSES, tuple(row.name for row in LABELS), members=("one",))
    return columns.meanings(pa.schema([sorting.PIXEL_FIELD, *told, *added]))


@pytest.mark.parametrize("meaning", all_columns(), ids=lambda meaning: meaning.name)
def test_a_column_has_a_unit_and_a_ucd_that_others_know(meaning: columns.Meaning) -> None:
    units.Unit(columns.spelled(meaning.unit, "generic"))
    assert check_ucd(meaning.ucd, check_controlled_vocabulary=True), meaning.ucd
    assert meaning.description[0] not in " ABCDEFGHIJKLMNOPQRSTUVWXYZ" or meaning.description.split()[0] in (
        "HEALPix",
        "CRC-32",
    )


@pytest.mark.parametrize(
    ("unit", "generic", "vounit", "fits"),
    [
        ("", "", "", ""),
        ("dex", "dex", "dex", "dex"),
        ("deg", "deg", "deg", "deg"),
        ("km s-1", "km s-1", "km.s**-1", "km s-1"),
        ("log10(cm s-2)", "dex(cm s-2)", "log(cm.s**-2)", "log(cm s-2)"),
        ("dex(cm s-2)", "dex(cm s-2)", "log(cm.s**-2)", "log(cm s-2)"),
    ],
)
def test_units_are_spelled_as_each_format_wants_them(unit: str, generic: str, vounit: str, fits: str) -> None:
    assert columns.spelled(unit, "generic") == generic
    assert columns.spelled(unit, "vounit") == vounit
    assert columns.spelled(unit, "fits") == fits


def test_a_schema_is_described_once_and_stays_so() -> None:
    schema = output.schema(CLASSES, ("Teff", "logg"))
    once = columns.described(schema, {"ensemble": "abc"})
    assert once.names == schema.names
    assert once.types == schema.types
    assert once.metadata == {b"ensemble": b"abc"}
    assert once.field("logg").metadata[b"unit"] == b"dex(cm s-2)"
    assert columns.described(once, {"ensemble": "abc"}).equals(once, check_metadata=True)


def test_the_dictionary_has_a_row_for_each_column() -> None:
    schema = output.schema(CLASSES, ("logg",))
    table = columns.dictionary(schema)
    assert table["name"].to_pylist() == schema.names
    row = table.to_pylist()[schema.names.index("logg_err")]
    assert (row["type"], row["unit"], row["ucd"]) == ("float", "dex(cm s-2)", "stat.error;phys.gravity")
