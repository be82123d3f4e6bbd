"""Lists of known stars and a catalog, against the matches of astropy; lists as their authors wrote them."""

from collections.abc import Callable
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

from survey.catalog.crossmatch import COLUMNS, SCHEMA, CrossmatchList, crossmatch, read_list
from survey.metrics.intervals import wilson

NAN = np.nan


def list_of(ra: np.ndarray, dec: np.ndarray, name: str = "list.csv") -> CrossmatchList:
    """A list of stars at these positions."""
    names = pa.array([f"{name} {number}" for number in range(len(ra))], pa.string())
    return CrossmatchList(name, names, np.asarray(ra, float), np.asarray(dec, float), 0)


def near_points(
    random: np.random.Generator, count: int, pole: float, hour: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points within a few arcsec of each other, near a pole or 0 h or not."""
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
    (ra_S, dec_S), (ra_R, dec_R) = near_points(random, 30, pole, hour), near_points(random, 12, pole, hour)
    lists = [list_of(ra_R[:5], dec_R[:5], "one"), list_of(ra_R[5:], dec_R[5:], "two")]
    match = crossmatch(lists, ra_S, dec_S, radius)
    stars, known = SkyCoord(ra_S * deg, dec_S * deg), SkyCoord(ra_R * deg, dec_R * deg)
    check_match(match.row_S, stars, known, radius)
    check_match(match.star_R, known, stars, radius)
    matched = match.row_S >= 0
    nearest = stars.match_to_catalog_sky(known)[1].arcsec
    assert match.arcsec_S[matched] == pytest.approx(nearest[matched], abs=1e-5)


def check_match(index: np.ndarray, points: SkyCoord, others: SkyCoord, radius: float) -> None:
    """The index of the nearest of the others against astropy; of several equally near any is right."""
    nearest = points.match_to_catalog_sky(others)[1].arcsec
    matched = index >= 0
    assert (matched == (nearest <= radius)).all()
    distance = points[matched].separation(others[index[matched]]).arcsec
    assert distance == pytest.approx(nearest[matched], abs=1e-6)


def test_a_star_has_the_name_list_and_distance_of_the_nearest_known_star() -> None:
    lists = [
        list_of(np.array([10.0, 50.0]), np.array([0.0, 0.0]), "a.csv"),
        list_of(np.array([10.0003]), np.array([0.0]), "b.fits"),
    ]
    stars = pa.table({"ra": [10.0001, 10.0004, 80.0, NAN]})
    table = crossmatch(lists, stars["ra"].to_numpy(), np.zeros(4), 3).add_columns(stars)
    assert table.column_names == ["ra", *COLUMNS]
    assert table["is_known"].to_pylist() == [True, True, False, False]
    assert table["known_list"].to_pylist() == ["a.csv", "b.fits", None, None]
    assert table["known_name"].to_pylist() == ["a.csv 0", "b.fits 0", None, None]
    assert table["known_arcsec"].to_pylist() == [pytest.approx(0.36), pytest.approx(0.36), None, None]
    assert table.schema.field("known_arcsec").metadata[b"unit"] == b"arcsec"


def test_a_list_without_a_star_in_the_catalog_is_warned_of_and_swapped_positions_are_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ra_S, dec_S = np.array([10.0, 50.0, 80.0]), np.array([20.0, -5.0, 30.0])
    lists = [list_of(ra_S[:1], dec_S[:1], "right.csv"), list_of(dec_S, ra_S, "swapped.csv")]
    lists.append(list_of(ra_S + 1, dec_S, "far.csv"))
    crossmatch(lists, ra_S, dec_S, 3)
    assert "right.csv" not in caplog.text
    none = "none of its 3 stars is in the catalog"
    assert f"known: swapped.csv: {none}; 3 are with ra and dec swapped: rename the two columns" in caplog.text
    assert (
        f"known: far.csv: {none}; if it is of this part of the sky, give a larger radius= than 3"
        in caplog.text
    )


def test_a_part_of_the_stars_gets_its_own_values() -> None:
    ra = np.linspace(10, 11, 7)
    match = crossmatch([list_of(ra[[1, 4]], np.zeros(2))], ra, np.zeros(7), 3)
    stars = pa.table({"ra": ra})
    parts = [match.add_columns(stars.slice(start, 3), start) for start in (0, 3, 6)]
    assert pa.concat_tables(parts).equals(match.add_columns(stars))


def test_without_lists_nothing_is_added() -> None:
    match = crossmatch([], np.array([1.0]), np.array([1.0]), 3)
    assert match.add_columns(pa.table({"ra": [1.0]})).column_names == ["ra"]
    assert match.recovery({"MP": np.array([True])}).num_rows == 0


def test_recovery_counts_the_known_stars_in_the_catalog_and_among_the_candidates() -> None:
    random = np.random.default_rng(0)
    ra, dec = random.uniform(0, 360, 500), np.degrees(np.arcsin(random.uniform(-1, 1, 500)))
    candidates = {"MP": random.random(500) < 0.7, "CEMP": random.random(500) < 0.1}
    listed = np.r_[np.arange(40), np.arange(40)]  # each twice: the list has visits
    other_ra, other_dec = random.uniform(0, 360, 20), random.uniform(-80, 80, 20)
    jina = CrossmatchList(
        "jina", pa.array(["x"] * 100), np.r_[ra[listed], other_ra], np.r_[dec[listed], other_dec], 3
    )
    lists = [jina, list_of(np.array([5.0]), np.array([89.0]), "none")]
    rows = crossmatch(lists, ra, dec, 3).recovery(candidates).to_pylist()
    others = SkyCoord(other_ra * deg, other_dec * deg)
    distance = others.match_to_catalog_sky(SkyCoord(ra * deg, dec * deg))[1]
    observed = 40 + int((distance < 3 * arcsec).sum())
    for row, (name, chosen) in zip(rows[:2], candidates.items(), strict=True):
        hits = int(chosen[:40].sum())
        keys = ("list", "search", "stars", "no_position", "observed", "recovered")
        assert [row[key] for key in keys] == ["jina", name, 60, 3, observed, hits]
        assert row["recovery"] == hits / observed
        assert (row["low"], row["high"]) == tuple(float(bound) for bound in wilson(hits, observed))
    assert (rows[2]["observed"], rows[2]["recovery"], rows[2]["low"]) == (0, None, None)
    assert pa.Table.from_pylist(rows, SCHEMA).num_rows == 4


COLUMN_VALUES = {"name": ["HE 0107-5240", "HE 1327-2326"], "ra": [17.36, 202.52], "dec": [-52.41, -23.70]}
HOURS = "Name|RAJ2000|DEJ2000\nHE 0107-5240|1 9 26.4|-52 24 36\nHE 1327-2326|13 30 4.8|-23 42 00\n"
WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: Table(COLUMN_VALUES).write(path, format="ascii.csv"),
    "parquet": lambda path: pq.write_table(pa.table(COLUMN_VALUES), path),
    "fits": lambda path: Table(COLUMN_VALUES).write(path, format="fits"),
    "votable": lambda path: Table(COLUMN_VALUES).write(path, format="votable"),
    "hours": lambda path: path.write_text(HOURS),
}


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_of_a_list_gives_the_same_stars(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"known.{form}"
    WRITERS[form](path)
    stars = read_list(str(path))
    assert stars.name == f"known.{form}"
    assert stars.names.to_pylist() == COLUMN_VALUES["name"]
    assert stars.ra_R == pytest.approx(COLUMN_VALUES["ra"])
    assert stars.dec_R == pytest.approx(COLUMN_VALUES["dec"])


def test_rows_without_a_position_are_left_out_and_rows_without_a_name_get_their_number(
    tmp_path: Path,
) -> None:
    (tmp_path / "known.csv").write_text("ra,dec,object\n10,5,\n,,lost\n0,0,zero\n20,95,far\n30,5,here\n")
    stars = read_list(str(tmp_path / "known.csv"))
    assert (stars.names.to_pylist(), stars.no_position) == (["row 1", "here"], 3)
    (tmp_path / "bare.csv").write_text("ra,dec\n10,5\n")
    assert read_list(str(tmp_path / "bare.csv")).names.to_pylist() == ["row 1"]
    (tmp_path / "rounded.csv").write_text("source_id,ra,dec\n3.21099E+18,1,2\n3210990000000000001,1,2\n")
    assert read_list(str(tmp_path / "rounded.csv")).names.to_pylist() == ["row 1", "3210990000000000001"]


def test_lists_of_the_field_are_read_as_their_authors_wrote_them(shared: Path) -> None:
    jina, placco = (
        read_list(str(shared / "labels" / name)) for name in ("jinabase_2021.csv", "placco2014_cemp.csv")
    )
    assert len(jina) > 1000
    number = placco.names.to_pylist().index("BD+06:0648")
    position = SkyCoord(placco.ra_R[number] * deg, placco.dec_R[number] * deg)
    published = SkyCoord("04:13:13.1126 +06:36:01.768", unit="hourangle,deg")
    assert position.separation(published).arcsec < 0.01
    match = crossmatch([jina], placco.ra_R, placco.dec_R, 5)
    assert (match.row_S >= 0).sum() > 100  # not possible with positions rounded to 0.01 degrees


def test_a_list_without_positions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("name,Teff\na,5000\n")
    message = r"catalog: known: .*known\.csv: no columns with positions among name, Teff; name them"
    with pytest.raises(ValueError, match=message):
        read_list(str(tmp_path / "known.csv"))
    (tmp_path / "empty.csv").write_text("ra,dec\n-9999,-9999\n")
    message = r"catalog: known: .*empty\.csv: none of 1 rows has a position in ra, dec; give degrees"
    with pytest.raises(ValueError, match=message):
        read_list(str(tmp_path / "empty.csv"))
