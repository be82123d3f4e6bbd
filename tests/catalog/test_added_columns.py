"""Columns of the survey's catalogue in ours: the Gaia source_id, magnitudes, and what the user names."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table

from survey.catalog.added_columns import AddedColumns
from survey.catalog.catalog_inputs import added_columns, catalog_id, input_catalogues, is_made_of
from survey.catalog.provenance import input_manifest
from survey.catalog.stars import find_stars
from survey.folder import Folder
from survey.predict import output
from survey.settings import SettingsError
from survey.store.manifest import plan
from survey.store.settings import Input
from tests.catalog.test_catalog import ALL_FORMATS, all_stars, list_of, run, settings_in, write_survey

FIRST_ID = 3_089_803_084_812_330_368
"""Needs 62 bits: as a float64 it would be another star."""


def write_catalogue(folder: Path) -> pd.DataFrame:
    """A catalogue of the stars of a survey in another order, without the first 20 of them."""
    truth = pd.read_csv(folder / "truth.csv")
    frame = pd.DataFrame(
        {
            "combined_ra": truth["ra"] + 1e-5,
            "combined_dec": truth["dec"],
            "combined_gaia_source_id": FIRST_ID + np.arange(len(truth)),
            "phot_g_mean_mag": np.where(np.arange(len(truth)) % 7, 14.25, -9999.0),
            "magtype": "ugriz",
            "mag1": np.where(np.arange(len(truth)) % 5, 18.5, 99.0),
            "bp_rp": 0.75,
            "star": truth["star"],
            "note": "x",
        }
    )
    frame = frame.iloc[20:].sample(frac=1, random_state=0)
    frame.to_csv(folder / "catalogue.csv", index=False)
    return frame.set_index("star")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("added")
    write_survey(folder)
    frame = write_catalogue(folder)
    return Path(run(folder, catalogue=str(folder / "catalogue.csv"), exports=ALL_FORMATS).folder), frame


def test_each_star_has_the_values_of_its_row(made: tuple[Path, pd.DataFrame]) -> None:
    folder, frame = made
    stars = pq.read_table(folder / "hats" / "stars" / "dataset").to_pylist()
    known = [star for star in stars if star["star"] in frame.index]
    assert len(known) == len(frame) < len(stars)
    for star in known:
        row = frame.loc[star["star"]]
        assert star["combined_gaia_source_id"] == row["combined_gaia_source_id"]
        magnitude = row["phot_g_mean_mag"]
        assert star["phot_g_mean_mag"] == (magnitude if magnitude > 0 else None)
        assert star["mag1"] == (row["mag1"] if row["mag1"] < 99 else None)
        assert (star["magtype"], star["bp_rp"]) == ("ugriz", 0.75)
    assert "note" not in stars[0]
    others = [star["combined_gaia_source_id"] for star in stars if star["star"] not in frame.index]
    assert set(others) == {None}


def test_a_source_id_is_exact_in_each_format(made: tuple[Path, pd.DataFrame]) -> None:
    folder, frame = made
    name = "combined_gaia_source_id"
    expected = {star: int(number) for star, number in frame[name].items()}
    readers: list[Any] = [
        pd.read_parquet(folder / "mp_candidates.parquet", dtype_backend="pyarrow"),
        parse_single_table(folder / "mp_candidates.vot").to_table(),
        Table.read(folder / "mp_candidates.fits"),
    ]
    for table in readers:
        pairs = dict(zip(table["star"], table[name], strict=True))
        listed = {star: number for star, number in pairs.items() if star in expected}
        assert len(listed) > 100
        assert all(int(number) == expected[star] for star, number in listed.items())


def test_a_column_of_ours_is_not_replaced(tmp_path: Path) -> None:
    write_survey(tmp_path)
    write_catalogue(tmp_path)
    columns = ["star", "note"]
    result = run(tmp_path, catalogue=str(tmp_path / "catalogue.csv"), catalogue_columns=columns)
    stars = all_stars(result).to_pylist()
    with_row = [star for star in stars if star["note"] is not None]
    assert len(with_row) == len(stars) - 20
    assert all(star["star_catalogue"] == star["star"] for star in with_row)
    assert "note" in list_of(result, "MP").column_names


def test_cells_keep_their_meaning(tmp_path: Path) -> None:
    lines = ["ra,dec,uid,size,word", f"5,1,{2**60 + 1},1.5,a", "6,1,-9999,-9999,7", "7,1,,,"]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    ra, dec = np.arange(5.0, 9.0), np.ones(4)
    columns = AddedColumns.read(str(tmp_path / "own.csv"), ("uid", "size", "word"), ra, dec, 3.0)
    stars = columns.add_to(pa.table({"ra": ra}), 0).drop_columns(["ra"]).to_pydict()
    assert stars == {
        "uid": [2**60 + 1, None, None, None],
        "size": [1.5, None, None, None],
        "word": ["a", "7", None, None],
    }


def test_the_catalogue_that_was_the_input_is_used_without_asking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_survey(tmp_path)
    frame = write_catalogue(tmp_path).reset_index()
    frame["path"] = [f"{tmp_path}/night/{star}.fits" for star in frame["star"]]
    frame.to_csv(tmp_path / "catalogue.csv", index=False)
    predictions = Folder(str(tmp_path / "predictions"), output.PREDICTIONS)
    source = output.InputReference(kind="files", path="catalogue.csv", id="f1")
    predictions.finish(predictions.document().model_copy(update={"source": source}))
    plan(Input(input=str(tmp_path / "catalogue.csv")), predictions.path)
    made = run(tmp_path)
    stars = all_stars(made)
    assert stars["combined_gaia_source_id"].null_count == 20
    assert not run(tmp_path).created
    named = settings_in(tmp_path, catalogue_columns=["note"])
    sky = find_stars(output.open_predictions(predictions.path))
    manifest = input_manifest(output.open_predictions(predictions.path))
    assert added_columns(named, sky, manifest).add_to(stars.select(["ra"]), 0).column_names == ["ra", "note"]
    with pytest.raises(SettingsError, match=r"catalogue_columns: nore: no input .*/catalogue\.csv\); give"):
        added_columns(settings_in(tmp_path, catalogue_columns=["nore"]), sky, manifest)
    opened = output.open_predictions(predictions.path)
    without = settings_in(tmp_path, catalogue="none")
    found = find_stars(opened)
    assert added_columns(without, found, input_manifest(opened)).add_to(stars.select(["ra"]), 0) == (
        stars.select(["ra"])
    )
    text, document, settings = (tmp_path / "catalogue.csv").read_text(), made.document, settings_in(tmp_path)
    assert document.id == catalog_id(settings, opened, input_catalogues(settings, opened))
    assert input_catalogues(without, opened) == {}
    (tmp_path / "catalogue.csv").write_text(text.replace("18.5", "17.5"))
    assert not is_made_of(document, settings, opened), "a corrected catalogue"
    (tmp_path / "catalogue.csv").unlink()
    assert not run(tmp_path).created, "a catalogue that is not there any more takes no columns away"
    assert "catalogue.csv (input 1): is not there any more; the finished catalog keeps" in caplog.text
    added_columns(settings, found, input_manifest(opened))
    assert "catalogue.csv: this input is not there any more; if it was a catalogue" in caplog.text


def test_an_input_that_is_no_catalogue_adds_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.zeros((2, 3)))
    (tmp_path / "plain.csv").write_text("ra,dec,rv\n0,0,1\n")
    inputs = [str(tmp_path), str(tmp_path / "X.npy"), str(tmp_path / "plain.csv"), str(tmp_path / "gone.csv")]
    stars = pa.table({"ra": [0.0]})
    assert AddedColumns.of_inputs(inputs, (), np.zeros(1), np.zeros(1), 3.0).add_to(stars, 0).equals(stars)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("star,mag\na,1\n", (), r"no columns with positions among star, mag; name them ra and dec"),
        (
            "ra,dec,x\n1,2,3\n",
            (),
            r"no Gaia source_id and no magnitude among ra, dec, x; give catalogue_columns",
        ),
        ("ra,dec,mag1\n1,2,3\n", ("mag2",), r"catalogue_columns: mag2: .* no such column; similar: mag1"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_reported(
    tmp_path: Path, text: str, columns: tuple[str, ...], message: str
) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises((SettingsError, ValueError), match=message):
        AddedColumns.read(str(tmp_path / "own.csv"), columns, np.zeros(1), np.zeros(1), 3.0)


def test_real_catalogues_give_gaia_ids_and_magnitudes(shared: Path) -> None:
    path = shared / "labels" / "gaia_lamost_halo_features.csv"
    frame = pd.read_csv(path)
    ra, dec = (frame[name].to_numpy() for name in ("ra_lamost", "dec_lamost"))
    added = AddedColumns.read(str(path), (), ra, dec, 3.0)
    stars = added.add_to(pa.table({"ra": ra}), 0)
    assert {"source_id", "phot_g_mean_mag", "bp_rp", "absolute_g_mag"} <= set(stars.column_names)
    same = np.array(stars["source_id"].to_pylist()) == frame["source_id"].to_numpy()
    assert same.mean() > 0.95


def test_a_value_of_the_catalogue_takes_the_place_of_the_files_and_nothing_erases_it() -> None:
    stars = pa.table(
        {
            "gaia_source_id": pa.array([1, 2, None], pa.int64()),
            "mag_g": pa.array([10.0, None, 12.0], pa.float32()),
        }
    )
    rows = pa.table({"gaia_source_id": pa.array([None, 5], pa.int64()), "mag_g": pa.array([9.5, 11.0])})
    added = AddedColumns(rows, np.array([0, 1, -1], np.int32)).add_to(stars, 0)
    assert added["gaia_source_id"].to_pylist() == [1, 5, None]
    assert added["mag_g"].to_pylist() == [10.0, None, 12.0]  # of another type: a column of its own
    assert added["mag_g_catalogue"].to_pylist() == [9.5, 11.0, None]


def test_a_column_named_like_one_of_ours_that_comes_later_or_is_not_predicted_gets_an_ending() -> None:
    names = ["logg", "rv", "TEFF_err", "rank", "purity_to_here", "verdict", "not_listed", "carbon_by", "zeta"]
    rows = pa.table({name: ["n/d"] for name in [*names, "gmag", "rv_catalogue"]})
    added = AddedColumns(rows, np.zeros(1, np.int32)).add_to(pa.table({"star": ["a"]}), 0)
    own = [f"{name}_catalogue" for name in names]
    assert added.column_names == ["star", *own, "gmag", "rv_catalogue_catalogue"]


def test_a_column_of_words_is_no_magnitude_whatever_its_name(tmp_path: Path) -> None:
    lines = ["ra,dec,phot_mag_flag,gmag", "5,1,good,14.5", "6,1,bad,> 20", "7,1,,15.5"]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    added = AddedColumns.read(str(tmp_path / "own.csv"), (), np.arange(5.0, 8.0), np.ones(3), 3.0)
    stars = added.add_to(pa.table({"n": [0, 1, 2]}), 0)
    assert stars["phot_mag_flag"].to_pylist() == ["good", "bad", None]
    assert stars["gmag"].to_pylist() == [14.5, None, 15.5]
    units = [stars.schema.field(name).metadata.get(b"unit", b"") for name in ("phot_mag_flag", "gmag")]
    assert units == [b"", b"mag"]
