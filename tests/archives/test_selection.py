"""Which files are wanted: cuts, circles, ids, and what cannot be used."""

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from survey.archives import plan_table, selection
from survey.archives.plan_table import KEY, rows_of
from survey.archives.settings import Download
from survey.archives.targets import load_archive
from survey.settings import SettingsError

HEADER = "obsid|lmjd|planid|spid|fiberid|combined_ra|combined_dec|snrg|combined_teff|class"
ROWS = [
    "101|55859|F5902|1|5|10.0|20.0|25.5|5000|STAR",
    "102|55859|F5902|1|6|10.1|20.1|-9999|5100|STAR",
    "103|55859|F5902|1|7|10.2|20.2|30|-9999|STAR",
    "104|55859|F5902|1|8|190.0|20.3|19.99|5200|GALAXY",
    "101|55859|F5902|1|5|10.0|20.0|25.5|5000|STAR",
    "|55859|F5902|1|9|10.4|20.4|40|5300|QSO",
    "x7|55859|F5902|1|10|10.5|20.5|50|5400|STAR",
    "105|55859|F5902|1|11|10.6|20.6|60|7001|STAR",
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *ROWS, ""]).encode()))
    return path


def keys(**values: Any) -> list[str]:
    return [str(key) for key in selected(**values).table[KEY].to_pylist()]


def selected(**values: Any) -> selection.Selected:
    settings = Download.from_dict("download", {"archive": "lamost", "out": "o"} | values)
    options = settings.archive_options()
    return selection.select(settings, load_archive(settings.archive), options, lambda address: address)


def test_rows_are_cut_by_numbers_and_words_and_a_missing_value_never_passes(catalogue: Path) -> None:
    path = str(catalogue)
    assert keys(input=path, cuts={"snrg": [20, None], "class": "STAR"})[:2] == ["101", "103"]
    assert keys(input=path, cuts={"teff": [4000, 7000], "snrg": [None, 30]}) == ["101", "104"]
    assert keys(input=path, cuts={"class": ["GALAXY", "QSO"]}) == ["104", f"{path}#row-6"]
    assert keys(input=path, cuts={"snrg": [20, 45]}, most=1) == ["101"]


def test_rows_that_name_no_file_are_kept_with_their_fault_and_copies_are_counted(catalogue: Path) -> None:
    found = selected(input=str(catalogue))
    assert (found.read, found.cut, found.twice, found.table.num_rows) == (8, 0, 1, 7)
    faults = {key: bad for key, _, bad in rows_of(found.table) if bad}
    assert list(faults.values()) == [
        "obsid = nothing: is no number from 1 to 1000000000000000000",
        "obsid = x7: is no number from 1 to 1000000000000000000",
    ]


def test_numbers_of_a_csv_are_numbers_in_the_plan_and_ids_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "obsid,teff,uid,long,path\n1,5000.5,007,123456789012345678901,a\n2,-9999,G12,1,b\n3,6000,G13,2,c\n"
    )
    table = selected(input=str(path)).table
    assert table["obsid"].to_pylist() == [1, 2, 3]
    assert table["teff"].to_pylist() == [5000.5, None, 6000.0]
    assert table["uid"].to_pylist() == ["007", "G12", "G13"]
    assert table["long"].to_pylist()[0] == "123456789012345678901"
    assert table["catalogue_path"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["fits", "votable", "parquet"])
def test_other_formats_give_the_same_files(tmp_path: Path, kind: str) -> None:
    columns = {"OBSID": np.arange(1, 6), "snrg": np.array([5.0, 15, 25, 35, np.nan])}
    path = tmp_path / f"c.{kind}"
    write(path, kind, columns)
    assert keys(input=str(path), cuts={"snrg": [15, None]}) == ["2", "3", "4"]


POSITIONS = {"RA": [150.123, 150.5, 10.0], "DEC": [2.1, -2.00025, -30.0]}


def write(path: Path, kind: str, columns: dict[str, Any]) -> None:
    """A catalogue in one of the formats."""
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "csv":
        Table(columns).write(path, format="ascii.csv")
    else:
        Table(columns).write(path, format=kind)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ([20, None], ["1", "2", "3", "5"]),
        ([None, 1000], ["1", "3", "5"]),
        ([-100_000, 1000], ["1", "3", "5"]),
        ([999, 999], ["1"]),
        ([9000, 10_000], ["2"]),
    ],
)
def test_999_is_a_number_and_only_what_is_missing_never_passes(
    tmp_path: Path, cut: list[float | None], expected: list[str]
) -> None:
    values = ["999", "9999", "20", "-9999", "21", "", "-999", "-99999", "nan"]
    path = tmp_path / "c.csv"
    path.write_text("obsid,snrg\n" + "".join(f"{n},{value}\n" for n, value in enumerate(values, 1)))
    assert keys(input=str(path), cuts={"snrg": cut}) == expected


@pytest.mark.parametrize("kind", ["fits", "votable", "parquet", "csv"])
@pytest.mark.parametrize(
    ("archive", "product"), [("legacy", {}), ("sdss", {"product": "images"})], ids=["legacy", "sdss"]
)
def test_cutouts_are_of_the_positions_in_any_format(
    tmp_path: Path, kind: str, archive: str, product: dict[str, str]
) -> None:
    path = tmp_path / f"c.{kind}"
    write(path, kind, POSITIONS)
    plan = selected(archive=archive, options=product, input=str(path)).table
    module = load_archive(archive)
    options = module.Options(**product)
    wanted = [module.target(row, options) for _, row, _ in rows_of(plan)]
    assert [parse_qs(urlsplit(one.forms[0].address).query)["ra"] for one in wanted] == [
        ["150.1230000"],
        ["150.5000000"],
        ["10.0000000"],
    ]
    assert [parse_qs(urlsplit(one.forms[0].address).query)["dec"] for one in wanted] == [
        ["2.1000000"],
        ["-2.0002500"],
        ["-30.0000000"],
    ]
    assert plan[KEY].to_pylist() == [
        "150/150.12300+2.10000",
        "150/150.50000-2.00025",
        "010/10.00000-30.00000",
    ]


def test_a_circle_contains_the_same_rows_as_astropy_says(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    ra, dec = draw.uniform(0, 360, 5000), np.degrees(np.arcsin(draw.uniform(-1, 1, 5000)))
    ra[:2000], dec[:2000] = draw.uniform(0, 360, 2000), draw.uniform(88, 90, 2000)
    ra[2000:3000], dec[2000:3000] = draw.normal(0, 1, 1000) % 360, draw.normal(20, 1, 1000)
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"obsid": np.arange(1, 5001), "ra": ra, "dec": dec}), path)
    places = SkyCoord(ra, dec, unit="deg")
    for centre in ((0.3, 20.1, 1.0), (123.0, 89.5, 1.0), (359.9, 19.0, 0.2), (200.0, -60.0, 30.0)):
        near = places.separation(SkyCoord(*centre[:2], unit="deg")) <= centre[2] * units.deg
        found = keys(input=str(path), around=list(centre))
        assert found == [str(number + 1) for number in np.flatnonzero(near)]
        assert found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing is wanted; give input=, ids=, around= or catalogues="),
        ({"ids": ["1"], "cuts": {"snrg": [1, 2]}}, "cuts: are for the rows of a catalogue"),
        ({"input": "c", "cuts": {"snrg": [9, 2]}}, r"snrg: the range \[9, 2\] is empty"),
        ({"input": "c", "cuts": {"snrg": [1, "a"]}}, "snrg: .* is no cut"),
        ({"around": [400, 0, 1]}, "needs 0 <= ra < 360"),
        ({"ids": ["1"], "archive": "gaia"}, "there is no plugin 'gaia'"),
        ({"ids": ["1"], "options": {"releas": "dr8"}}, "did you mean options.release"),
        ({"ids": ["1"], "options": {"forms": ["{base}/x"]}}, "names {obsid}"),
        ({"ids": ["1"], "options": {"forms": ["{base}/{obsid}/{x}"]}}, "has no field 'x'"),
        ({"ids": ["1"], "out": "s3://bucket/x"}, "a bucket; give a folder on a disk"),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Download.from_dict("download", {"archive": "lamost", "out": "o"} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuts": {"snr": [1, None]}}, "cuts: .* no column snr; similar: snrg"),
        ({"columns": {"obsid": "obs"}}, "columns: .* no column obs"),
        ({"columns": {"teff": "obsid"}}, "teff: is not needed; the columns are obsid"),
        ({"archive": "sdss"}, "no column plate; .*give columns={plate: YOURS}"),
        ({"cuts": {"snrg": [500, None]}}, "nothing is wanted: 0 files of 8 rows, 8 left out by cuts"),
        ({"input": "nowhere.csv"}, "nowhere.csv: no such file"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_one_sentence(
    catalogue: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        selected(**{"input": str(catalogue)} | values)


def test_sdss_is_not_asked_for_positions() -> None:
    with pytest.raises(SettingsError, match="sdss is not asked for positions"):
        selected(archive="sdss", around=[1, 2, 3])


def test_a_damaged_line_is_named_after_the_good_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("obsid,ra\n1,2\n2,3,4,5\n")
    with pytest.raises(ValueError, match="good rows; correct or remove the line"):
        selected(input=str(path))


def images(path: Path, rows: list[str], before: pa.Table | None = None, **values: Any) -> selection.Selected:
    """The cut-outs of a catalogue of name, ra and dec."""
    path.write_text("\n".join(["name,ra,dec", *rows]) + "\n")
    given = {"archive": "legacy", "out": "o", "input": str(path)} | values
    settings = Download.from_dict("download", given)
    options = settings.archive_options()
    return selection.select(settings, load_archive("legacy"), options, lambda address: address, before)


GROUP = ["COSMOS,150.1,2.1", "COSMOS,150.5,2.1", "COSMOS,150.9,2.1", "COSMOS,150.5,2.1", "G1,150.5,2.2"]


def test_objects_that_share_a_name_have_a_cutout_each(tmp_path: Path) -> None:
    found = images(tmp_path / "c.csv", GROUP)
    assert str(found) == "4 files of 5 rows, 1 listed twice"
    assert found.table[KEY].to_pylist() == [
        "150/COSMOS",
        "150/COSMOS_150.50000+2.10000",
        "150/COSMOS_150.90000+2.10000",
        "150/G1",
    ]
    module = load_archive("legacy")
    targets = [module.target(row, module.Options()) for _, row, _ in rows_of(found.table)]
    assert [one.key for one in targets] == found.table[KEY].to_pylist()
    assert ["ra=150.5" in one.forms[0].address for one in targets] == [False, True, False, True]
    assert images(tmp_path / "c.csv", ["NGC 1*,10.1,2", "NGC 1,10.2,2"]).table[KEY].to_pylist() == [
        "010/NGC_1",
        "010/NGC_1_10.20000+2.00000",
    ]


def test_an_object_keeps_the_name_of_its_cutout_in_a_folder_that_grows(tmp_path: Path) -> None:
    before = images(tmp_path / "c.csv", GROUP[1:3]).table
    assert before[KEY].to_pylist() == ["150/COSMOS", "150/COSMOS_150.90000+2.10000"]
    grown = images(tmp_path / "c.csv", GROUP, before).table
    assert grown[KEY].to_pylist() == [
        "150/COSMOS_150.10000+2.10000",
        "150/COSMOS",
        "150/COSMOS_150.90000+2.10000",
        "150/G1",
    ]


def test_positions_without_a_name_are_one_file_each(tmp_path: Path) -> None:
    rows = ["-9999,150.1,2.1", ",150.2,2.1", "0,150.1,2.1"]
    assert images(tmp_path / "c.csv", rows).table[KEY].to_pylist() == [
        "150/150.10000+2.10000",
        "150/150.20000+2.10000",
    ]


def grown(before: pa.Table | None, **values: Any) -> pa.Table:
    """The plan with another selection."""
    settings = Download.from_dict("download", {"archive": "lamost", "out": "o"} | values)
    archive, options = load_archive("lamost"), settings.archive_options()
    found = selection.select(settings, archive, options, lambda address: address, before)
    return plan_table.grow(before, found.table, found.corrected)


def test_bad_rows_of_two_catalogues_of_one_name_are_two(tmp_path: Path) -> None:
    plan, paths = None, [tmp_path / folder / "c.csv" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("obsid,ra\n7,1\nx,2\n")
        plan = grown(plan, input=str(path))
    assert plan is not None
    assert plan[KEY].to_pylist() == ["7", *(f"{path}#row-2" for path in paths)]


@pytest.mark.parametrize("form", ["c.csv#row-{row}", "c.csv#row-1+{index}"])
def test_bad_rows_of_plans_of_earlier_versions_are_known_again(form: str, tmp_path: Path) -> None:
    """They were called by the number within the file, or by that among the rows that passed the cuts."""
    path = tmp_path / "c.csv"
    path.write_text("obsid,snrg\n1,9\n2,1\nx,9\ny,9\n")
    cuts = {"snrg": [5, None]}
    plan = grown(None, input=str(path), cuts=cuts)
    assert plan[KEY].to_pylist() == ["1", f"{path}#row-3", f"{path}#row-4"]
    earlier = ["1", *(form.format(row=3 + number, index=1 + number) for number in range(2))]
    plan = plan.set_column(plan.column_names.index(KEY), KEY, pa.array(earlier))
    path.write_text("obsid,snrg\n1,9\n2,1\n3,9\ny,9\n")
    assert grown(plan, input=str(path), cuts=cuts)[KEY].to_pylist() == ["1", "3", f"{path}#row-4"]
