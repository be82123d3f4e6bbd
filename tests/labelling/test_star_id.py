"""The star of each spectrum, compared with groups that a survey published and with a plain loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey.labelling import star_id


def star_names(
    *ids: str | None,
    ra: list[float] | None = None,
    dec: list[float] | None = None,
    visit: Sequence[str | None] | None = None,
) -> list[str]:
    size = len(ids)
    unknown = [np.nan] * size
    visits = pa.array(visit or [f"v{number}" for number in range(size)], pa.string())
    position = [np.array(unknown if values is None else values, float) for values in (ra, dec)]
    return list(star_id.identify([pa.array(ids, pa.string())], position[0], position[1], visits))


def test_visits_that_a_survey_grouped_are_one_star_each(shared: Path) -> None:
    table = pd.read_csv(shared / "labels" / "dr8_repeat_groups.csv")
    found = star_id.friends_of_friends(
        table["combined_ra_obs"].to_numpy(), table["combined_dec_obs"].to_numpy()
    )
    pairs = set(zip(found.tolist(), table["GroupID"].tolist(), strict=True))
    assert len(pairs) == len(set(found.tolist())) == table["GroupID"].nunique() == 94


def separation(ra: np.ndarray, dec: np.ndarray) -> Any:
    """arcsec between all pairs, by haversines."""
    a, d = np.radians(ra), np.radians(dec)
    half = (
        np.sin((d[:, None] - d) / 2) ** 2 + np.cos(d[:, None]) * np.cos(d) * np.sin((a[:, None] - a) / 2) ** 2
    )
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))) * 3600


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pole=st.sampled_from([-90.0, -30.0, 0.0, 89.9995, 90.0]),
    start=st.sampled_from([0.0, 120.0, 359.9995]),
)
def test_friends_of_friends_equal_those_of_a_plain_loop(seed: int, pole: float, start: float) -> None:
    random = np.random.default_rng(seed)
    dec = np.clip(pole + random.uniform(-20, 20, 30) / 3600, -90, 90)
    ra = (start + random.uniform(-20, 20, 30) / 3600 / max(np.cos(np.radians(pole)), 1e-2)) % 360
    near = separation(ra, dec) < star_id.ARCSEC
    group = np.arange(30)
    for _ in range(30):
        group = np.array([group[near[i]].min() for i in range(30)])
    found = star_id.friends_of_friends(ra, dec)
    assert ((found[:, None] == found) == (group[:, None] == group)).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pole=st.sampled_from([-30.0, 0.0, 89.9995]),
    spread=st.sampled_from([0.3, 1.5, 5.0, 12.0]),
)
def test_crowds_of_visits_have_the_friends_of_all_pairs(seed: int, pole: float, spread: float) -> None:
    """Hundreds of positions within some arcsec, of which not all pairs are looked at."""
    random = np.random.default_rng(seed)
    centre = random.normal(0, 4 * spread / 3600, (2, 4))[:, random.integers(0, 4, 400)]
    x, y = centre + random.normal(0, spread / 3600, (2, 400))
    ra, dec = (x / np.cos(np.radians(pole))) % 360, np.clip(pole + y, -90, 90)
    found = star_id.friends_of_friends(ra, dec)
    points, radius = star_id.unit_vectors(ra, dec), star_id.chord(star_id.ARCSEC)
    expected = star_id.components(400, cKDTree(points).query_pairs(radius, output_type="ndarray"))
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(found.tolist())) == len(set(expected.tolist()))


def test_thousands_of_visits_of_a_star_need_few_pairs() -> None:
    random = np.random.default_rng(0)
    points = star_id.unit_vectors(*(random.normal(10, 0.3 / 3600, (2, 3000))))
    assert len(star_id._near_pairs(points, star_id.chord(star_id.ARCSEC))) < 100 * 3000


def test_friends_are_connected_across_zero_hours_and_the_pole() -> None:
    codes = star_id.friends_of_friends(
        np.array([359.9999, 0.0001, 10.0, 190.0]), np.array([5.0, 5.0, 89.9999, 89.9999])
    )
    assert codes[0] == codes[1]
    assert codes[2] == codes[3]
    assert codes[0] != codes[2]


def test_unknown_positions_have_no_friends() -> None:
    assert star_id.friends_of_friends(
        np.array([0.0, 0.0, np.nan, np.nan]), np.array([0.0, 0.0, 5.0, 5.0])
    ).tolist() == [
        -1,
        -1,
        -1,
        -1,
    ]


def test_a_visit_without_an_id_belongs_to_the_star_within_3_arcsec() -> None:
    found = star_names("7", None, None, ra=[10, 10 + 2 / 3600, 10.1], dec=[0.1, 0.1, 0.1])
    assert found[:2] == ["7", "7"]
    assert found[2].startswith("position 010.1000+00.1000")


def test_visits_of_one_id_are_one_star_at_any_position() -> None:
    assert star_names("7", "7", ra=[10, 10.01], dec=[0.1, 0.1]) == ["7", "7"]


def test_two_ids_within_3_arcsec_are_one_star_with_the_smaller_name() -> None:
    assert star_names("b", "a", ra=[10, 10], dec=[1, 1]) == ["a", "a"]


def test_the_first_column_of_ids_names_the_star() -> None:
    columns = [pa.array([None, "900"]), pa.array(["J1", "J1"])]
    nowhere = np.full(2, np.nan)
    assert star_id.identify(columns, nowhere, nowhere, pa.array(["v", "w"])).tolist() == ["900", "900"]


def test_without_id_and_position_each_distinct_visit_is_a_star() -> None:
    assert star_names(None, None, None, visit=["v", "w", "v"]) == ["visit v", "visit w", "visit v"]


def test_a_spectrum_without_id_position_and_visit_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"stars: 1 spectra have neither id nor position nor visit; give join\.star="
    ):
        star_names(None, "a", visit=[None, "v"])


def test_ids_are_compared_as_text_without_the_survey_s_prefix() -> None:
    assert star_id.clean_ids(
        pa.array(["LAMOST J01", " J01 ", "12.0", "0", "-9999", "", None])
    ).to_pylist() == [
        "J01",
        "J01",
        "12",
        None,
        None,
        None,
        None,
    ]
    assert star_id.clean_ids(pa.array([12.0, np.nan])).to_pylist() == ["12", None]
    assert star_id.clean_ids(pa.array([3089803084812330368])).to_pylist() == ["3089803084812330368"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_names_depend_neither_on_the_order_of_rows_nor_on_other_stars(seed: int) -> None:
    random = np.random.default_rng(seed)
    star = random.integers(0, 12, 40)
    ra, dec = 15.0 + star * 0.01 + random.normal(0, 0.3, 40) / 3600, np.full(40, 20.0)
    ids = [f"id{number}" if number % 3 == 0 and random.random() < 0.7 else None for number in star.tolist()]
    visit = [f"v{number}" for number in range(40)]
    found: NDArray[Any] = np.array(star_names(*ids, ra=ra.tolist(), dec=dec.tolist(), visit=visit))
    assert ((found[:, None] == found) == (star[:, None] == star)).all()
    order = random.permutation(40)
    again = star_names(
        *[ids[i] for i in order],
        ra=ra[order].tolist(),
        dec=dec[order].tolist(),
        visit=[visit[i] for i in order],
    )
    assert again == found[order].tolist()
    chosen = np.flatnonzero(star < 6)
    assert (
        star_names(
            *[ids[i] for i in chosen],
            ra=ra[chosen].tolist(),
            dec=dec[chosen].tolist(),
            visit=[visit[i] for i in chosen],
        )
        == found[chosen].tolist()
    )


def test_a_float_that_does_not_hold_all_digits_of_an_id_is_no_id(caplog: pytest.LogCaptureFixture) -> None:
    """An id of SDSS has 19 digits: as floating-point numbers these two stars are one."""
    sdss = [1237648720693755918.0, 1237648720693755919.0]
    assert sdss[0] == sdss[1]
    column = pa.array([*sdss, 2.0**53 - 1, 12.0, None, np.nan])
    assert star_id.clean_ids(column).to_pylist() == [None, None, "9007199254740991", "12", None, None]
    assert "2 ids, such as 1237648720693755904, are floating-point numbers" in caplog.text
    caplog.clear()
    for kind, exact in ((pa.float32(), 2**24), (pa.float16(), 2**11)):
        found = star_id.clean_ids(pa.array(np.array([exact - 1, exact], float), pa.float64()).cast(kind))
        assert found.to_pylist() == [str(exact - 1), None], kind
    caplog.clear()
    assert star_id.clean_ids(pa.array([1237648720693755918])).to_pylist() == ["1237648720693755918"]
    assert not caplog.text


def test_an_id_that_a_spreadsheet_has_rounded_is_no_id(caplog: pytest.LogCaptureFixture) -> None:
    """3210987654321098765 is 3.21099E+18 in a spreadsheet: that of all stars near it in the list of ids."""
    rounded = ["3.21099E+18", "3.21098765432110e+18", "3E+18", "3.2E18"]
    names = ["1E5", "J1", "1.50E+02", "3.210987654321098765E+18", "3210987654321098765", None]
    found = star_id.clean_ids(pa.array([*rounded, *names]), "source_id").to_pylist()
    assert found == [None] * 4 + names
    assert "column source_id: 4 ids, such as 3.21099E+18, are floating-point numbers" in caplog.text
    far_apart = star_names(*rounded[:1] * 3, ra=[10, 120, 250], dec=[0.1, 40, -30])
    assert len(set(far_apart)) == 3
    assert star_id.clean_ids(pa.nulls(2, pa.string()), "source_id").to_pylist() == [None, None]


def test_stars_with_inexact_ids_are_told_apart_by_their_positions() -> None:
    ids = pa.array([1237648720693755918.0, 1237648720693755919.0, 1237648720693755918.0])
    ra, dec = np.array([10.0, 20.0, 10.0]), np.zeros(3) + 5.0
    star_N = star_id.identify([ids], ra, dec, pa.array(["a", "b", "c"]))
    assert star_N[0] == star_N[2] != star_N[1]
