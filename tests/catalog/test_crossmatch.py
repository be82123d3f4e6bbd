"""Lists of known stars beside a catalog, against astropy's matches; lists of the field as their authors wrote them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.units import arcsec, deg
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.catalog.crossmatch import COLUMNS, SCHEMA, Known, matched, read
from survey.metrics.intervals import wilson

NAN = np.nan


def a_list(ra: np.ndarray, dec: np.ndarray, name: str = "list.csv") -> Known:
    return Known(
        name,
        pa.array([f"{name} {number}" for number in range(len(ra))], pa.string()),
        np.asarray(ra, float),
        np.asarray(dec, float),
        0,
    )


def sky(random: np.random.Generator, count: int, pole: float, hour: float) -> tuple[np.ndarray, np.ndarray]:
    """Points within a few arcsec of each other, next to a pole or to 0 h or not."""
    dec = np.clip(pole + random.uniform(-10, 10, count) / 3600, -90, 90)
    return (hour + random.uniform(-10, 10, count) / 3600 / max(np.cos(np.radians(pole)), 1e-3)) % 360, dec


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pole=st.sampled_from([-90.0, -35.0, 0.0, 89.9995]),
    hour=st.sampled_from([0.0, 120.0]),
    radius=st.sampled_from([0.5, 3.0]),
)
def test_matches_are_those_of_astropy(seed: int, pole: float, hour: float, radius: float) -> None:
    random = np.random.default_rng(seed)
    (ra_S, dec_S), (ra_R, dec_R) = sky(random, 30, pole, hour), sky(random, 12, pole, hour)
    found = matched(
        [a_list(ra_R[:5], dec_R[:5], "one"), a_list(ra_R[5:], dec_R[5:], "two")], ra_S, dec_S, radius
    )
    stars, known = SkyCoord(ra_S * deg, dec_S * deg), SkyCoord(ra_R * deg, dec_R * deg)
    for mine, index, here, there in (
        (found.arcsec_S, found.row_S, stars, known),
        (None, found.star_R, known, stars),
    ):
        least = here.match_to_catalog_sky(there)[1].arcsec
        assert ((index >= 0) == (least <= radius)).all()
        hit = index >= 0
        assert here[hit].separation(there[index[hit]]).arcsec == pytest.approx(
            least[hit], abs=1e-6
        )  # of several as near any will do
        assert mine is None or mine[hit] == pytest.approx(least[hit], abs=1e-5)


def test_a_star_has_the_name_list_and_distance_of_the_nearest_known_one() -> None:
    lists = [
        a_list(np.array([10.0, 50.0]), np.array([0.0, 0.0]), "a.csv"),
        a_list(np.array([10.0003]), np.array([0.0]), "b.fits"),
    ]
    stars = pa.table({"ra": [10.0001, 10.0004, 80.0, NAN]})
    found = matched(lists, stars["ra"].to_numpy(), np.zeros(4)).beside(stars)
    assert found.column_names == ["ra", *COLUMNS]
    assert found["known"].to_pylist() == [True, True, False, False]
    assert found["known_list"].to_pylist() == ["a.csv", "b.fits", None, None]
    assert found["known_name"].to_pylist() == ["a.csv 0", "b.fits 0", None, None]
    assert found["known_arcsec"].to_pylist() == [pytest.approx(0.36), pytest.approx(0.36), None, None]
    assert found.schema.field("known_arcsec").metadata[b"unit"] == b"arcsec"


def test_a_part_of_the_stars_gets_its_own_columns() -> None:
    ra = np.linspace(10, 11, 7)
    whole = matched([a_list(ra[[1, 4]], np.zeros(2))], ra, np.zeros(7))
    stars = pa.table({"ra": ra})
    parts = [whole.beside(stars.slice(start, 3), start) for start in (0, 3, 6)]
    assert pa.concat_tables(parts).equals(whole.beside(stars))


def test_without_lists_nothing_is_added() -> None:
    stars = pa.table({"ra": [1.0]})
    found = matched([], np.array([1.0]), np.array([1.0]))
    assert found.beside(stars).column_names == ["ra"]
    assert found.recovery({"MP": np.array([True])}).num_rows == 0


def test_recovery_counts_known_stars_that_the_catalog_has_and_those_that_are_candidates() -> None:
    random = np.random.default_rng(0)
    ra, dec = random.uniform(0, 360, 500), np.degrees(np.arcsin(random.uniform(-1, 1, 500)))
    candidates = {"MP": random.random(500) < 0.7, "CEMP": random.random(500) < 0.1}
    listed = np.r_[np.arange(40), np.arange(40)]  # each twice: visits of the list's own
    elsewhere = random.uniform(0, 360, 20), random.uniform(-80, 80, 20)
    one = Known(
        "jina", pa.array(["x"] * 100), np.r_[ra[listed], elsewhere[0]], np.r_[dec[listed], elsewhere[1]], 3
    )
    rows = (
        matched([one, a_list(np.array([5.0]), np.array([89.0]), "none")], ra, dec)
        .recovery(candidates)
        .to_pylist()
    )
    far = SkyCoord(elsewhere[0] * deg, elsewhere[1] * deg).match_to_catalog_sky(
        SkyCoord(ra * deg, dec * deg)
    )[1]
    observed = 80 + int((far < 3 * arcsec).sum())
    for row, (kind, chosen) in zip(rows[:2], candidates.items(), strict=True):
        hits = int(chosen[listed].sum())
        assert (row["list"], row["search"], row["stars"], row["unplaced"], row["observed"], row["found"]) == (
            "jina",
            kind,
            100,
            3,
            observed,
            hits,
        )
        assert row["recovery"] == hits / observed
        assert (row["low"], row["high"]) == tuple(float(bound) for bound in wilson(hits, observed))
    assert (rows[2]["observed"], rows[2]["recovery"], rows[2]["low"]) == (0, None, None)
    assert pa.Table.from_pylist(rows, SCHEMA).num_rows == 4


FRAME = {"name": ["HE 0107-5240", "HE 1327-2326"], "ra": [17.36, 202.52], "dec": [-52.41, -23.70]}


def _votable(path: Path) -> None:
    Table(FRAME).write(path, format="votable")


def _fits(path: Path) -> None:
    Table(FRAME).write(path, format="fits")


FORMS = {
    "csv": lambda path: Table(FRAME).write(path, format="ascii.csv"),
    "parquet": lambda path: pq.write_table(pa.table(FRAME), path),
    "fits": _fits,
    "votable": _votable,
    "hours": lambda path: path.write_text(
        "Name|RAJ2000|DEJ2000\nHE 0107-5240|1 9 26.4|-52 24 36\nHE 1327-2326|13 30 4.8|-23 42 00\n"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_gives_the_same_stars(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"known.{form}"
    FORMS[form](path)
    found = read(str(path))
    assert found.name == f"known.{form}"
    assert found.names.to_pylist() == FRAME["name"]
    assert found.ra_R == pytest.approx(FRAME["ra"])
    assert found.dec_R == pytest.approx(FRAME["dec"])


def test_rows_without_position_are_left_out_and_rows_without_name_have_their_number(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("ra,dec,object\n10,5,\n,,lost\n0,0,zero\n20,95,far\n30,5,here\n")
    found = read(str(tmp_path / "known.csv"))
    assert (found.names.to_pylist(), found.unplaced) == (["row 1", "here"], 3)
    (tmp_path / "bare.csv").write_text("ra,dec\n10,5\n")
    assert read(str(tmp_path / "bare.csv")).names.to_pylist() == ["row 1"]


def test_lists_of_the_field_are_read_as_their_authors_wrote_them(shared: Path) -> None:
    jina, placco = (
        read(str(shared / "labels" / name)) for name in ("jinabase_2021.csv", "placco2014_cemp.csv")
    )
    assert len(jina) > 1000
    number = placco.names.to_pylist().index("BD+06:0648")
    assert (
        SkyCoord(placco.ra_R[number] * deg, placco.dec_R[number] * deg)
        .separation(SkyCoord("04:13:13.1126 +06:36:01.768", unit="hourangle,deg"))
        .arcsec
        < 0.01
    )
    both = matched([jina], placco.ra_R, placco.dec_R, 5)
    assert (both.row_S >= 0).sum() > 100  # not possible with positions rounded to 0.01 degrees


def test_a_list_without_positions_is_told(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("name,Teff\na,5000\n")
    with pytest.raises(
        ValueError,
        match=r"catalog: known=.*known\.csv: no columns of positions, the columns are name, Teff; name them ra and dec",
    ):
        read(str(tmp_path / "known.csv"))
    (tmp_path / "empty.csv").write_text("ra,dec\n-9999,-9999\n")
    with pytest.raises(
        ValueError,
        match=r"catalog: known=.*empty\.csv: none of 1 rows has a position in ra, dec; give degrees, or hours",
    ):
        read(str(tmp_path / "empty.csv"))
