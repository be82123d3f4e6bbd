"""Every column of a catalog has a meaning, a unit that all formats know and a UCD of the IVOA's list."""

import pyarrow as pa
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from survey.catalog import candidates, criteria, crossmatch, flags, next_best, sorting, thresholds, visits
from survey.labels import CLASSES, LABELS
from survey.predict import output
from survey.tables import columns


def all_columns() -> list[columns.Column]:
    """The columns of predictions of every label, and those that the catalog adds."""
    added = {
        **visits.COLUMNS,
        **criteria.COLUMNS,
        **flags.COLUMNS,
        **thresholds.COLUMNS,
        **candidates.COLUMNS,
    }
    added |= {**crossmatch.COLUMNS, "rank": candidates.RANK, "not_listed": next_best.NOT_LISTED}
    fields = [columns.described_field(name, *column) for name, column in added.items()]
    predicted = output.schema(CLASSES, tuple(row.name for row in LABELS), members=("one",))
    return columns.read_columns(pa.schema([sorting.PIXEL_FIELD, *predicted, *fields]))


@pytest.mark.parametrize("column", all_columns(), ids=lambda column: column.name)
def test_a_column_has_a_description_and_a_known_ucd(column: columns.Column) -> None:
    assert check_ucd(column.ucd, check_controlled_vocabulary=True), column.ucd
    first_word = column.description.split()[0]
    assert first_word[0].islower() or not first_word[0].isalpha() or first_word in ("HEALPix", "CRC-32")


@pytest.mark.parametrize(
    ("name", "ucd"),
    [
        ("FeH", "phys.abund.Fe"),
        ("FeH_err", "stat.error;phys.abund.Fe"),
        ("logg", "phys.gravity"),
        ("Teff", "phys.temperature.effective"),
        ("rv", "spect.dopplerVeloc.opt"),
        ("vmic", "phys.veloc.microTurb"),
        ("snr_u", "stat.snr;em.opt.U"),
        ("rank", "stat.rank"),
        ("score_cemp", "stat.probability;src.class"),
        ("subclass", "src.spType"),
        ("_healpix_29", "pos.healpix"),
    ],
)
def test_a_ucd_is_as_specific_as_the_vocabulary_allows(name: str, ucd: str) -> None:
    assert {column.name: column.ucd for column in all_columns()}[name] == ucd


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("", ""),
        ("dex", "dex"),
        ("deg", "deg"),
        ("km s-1", "km/s"),
        ("log10(cm s-2)", "dex"),
        ("dex(cm s-2)", "dex"),
    ],
)
def test_a_unit_has_one_spelling(unit: str, written: str) -> None:
    assert columns.written_unit(unit) == written


@pytest.mark.parametrize("format_", ["generic", "vounit", "fits"])
def test_each_written_unit_is_one_of_parquet_votable_and_fits(format_: str) -> None:
    """Only astropy has dex: FITS is written without it, VOTable with it, as by the Gaia archive."""
    written = {columns.written_unit(column.unit) for column in all_columns()} - {""}
    assert {"deg", "K", "km/s", "dex", "mag", "d"} <= written
    for unit in written - (set() if format_ == "generic" else {columns.DEX}):
        units.Unit(unit, format=format_, parse_strict="raise")


def test_a_described_schema_is_not_changed_again() -> None:
    schema = output.schema(CLASSES, ("Teff", "logg"))
    once = columns.described_schema(schema, {"ensemble": "abc"})
    assert once.names == schema.names
    assert once.types == schema.types
    assert once.metadata == {b"ensemble": b"abc"}
    assert once.field("logg").metadata[b"unit"] == b"dex"
    assert once.field("logg").metadata[b"description"] == b"surface gravity (log10 of cm s-2)"
    assert columns.described_schema(once, {"ensemble": "abc"}).equals(once, check_metadata=True)


def test_the_table_of_columns_has_a_row_for_each_column() -> None:
    schema = output.schema(CLASSES, ("logg",))
    table = columns.column_table(schema)
    assert table["name"].to_pylist() == schema.names
    row = table.to_pylist()[schema.names.index("logg_err")]
    assert (row["type"], row["unit"], row["ucd"]) == ("float", "dex", "stat.error;phys.gravity")


def test_a_field_without_a_description_is_an_error() -> None:
    with pytest.raises(ValueError, match="column a: its field has no description; give one"):
        columns.read_columns(pa.schema([pa.field("a", pa.int64())]))


def test_a_column_is_the_field_that_it_was_read_from() -> None:
    field = columns.described_field("logg", "float32", "surface gravity", "dex", "phys.gravity")
    (column,) = columns.read_columns(pa.schema([field]))
    assert column.field.equals(field, check_metadata=True)


def test_columns_without_a_prefix_come_before_those_with_the_prefix_of_a_survey() -> None:
    numbers = columns.numbers_by_name(["combined_RA", "ra", "Combined_obsid"])
    assert numbers == {"ra": [1, 0], "obsid": [2]}
    assert columns.name_without_prefix("combined_RA") == "ra"


@pytest.mark.parametrize(
    ("names", "is_magnitude"),
    [
        (["u", "g", "r", "i", "z", "redshift"], True),
        (["U", "G", "R", "I", "Z"], True),
        (["u", "g", "r", "i", "combined_z"], False),
        (["g", "r", "i", "z", "y"], True),
        (["g", "r", "i", "z"], False),
        (["ra", "dec", "z"], False),
    ],
)
def test_z_beside_four_other_bands_is_a_magnitude(names: list[str], is_magnitude: bool) -> None:
    assert columns.z_is_magnitude(names) is is_magnitude
    assert bool(columns.magnitude_note(names)) is is_magnitude
