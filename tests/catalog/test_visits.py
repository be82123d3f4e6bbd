"""Visits of a star as one row, against the obvious loop, scipy's chi2 and astropy's sphere."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.units import deg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.catalog.settings import VisitSettings
from survey.catalog.visits import COLUMNS, combine_visits
from survey.ensemble.label_errors import NoiseLaw
from survey.labels import CLASSES
from tests.catalog.visit_tables import LABELS, visits

NAN = np.nan
Row = dict[str, Any]


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), float)


def label_by_loop(name: str, rows: list[Row]) -> dict[str, float]:
    """The obvious way for one label of the used visits of one star."""
    rows = [row for row in rows if row[name] is not None]
    if not rows:
        return dict.fromkeys(("", "_err", "_err_data", "_err_model", "_low", "_high"), NAN)
    no_data_error = any(not row[f"{name}_err_data"] for row in rows)
    weight = np.array(
        [max(row["snr"] or 1, 1) ** 2 if no_data_error else row[f"{name}_err_data"] ** -2 for row in rows]
    )
    value, err, model, low, high = (
        np.array([row[f"{name}{suffix}"] for row in rows])
        for suffix in ("", "_err", "_err_model", "_low", "_high")
    )
    mean = np.average(value, weights=weight)
    data = NAN if no_data_error else np.average(weight**-0.5, weights=weight)
    model = np.sqrt(np.average(model**2, weights=weight))
    total = np.sqrt(np.average(err**2, weights=weight)) if no_data_error else np.hypot(data, model)
    return {
        "": mean,
        "_err": total,
        "_err_data": data,
        "_err_model": model,
        "_low": mean - total * np.average((value - low) / err, weights=weight),
        "_high": mean + total * np.average((high - value) / err, weights=weight),
    }


def used_by_loop(rows: list[Row]) -> list[Row]:
    """The visits of one star that are used."""
    answered = [
        row for row in rows if row["p_mp"] is not None or any(row[name] is not None for name in LABELS)
    ]
    any_inside = any(row["domain"] is not None and row["domain"] <= 1 for row in answered)
    return [row for row in answered if not (any_inside and (row["domain"] or 0) > 2)]


def odd_visits(star: np.ndarray, seed: int) -> pa.Table:
    """Visits with unknown values, without answers, and out of the domain."""
    random, count = np.random.default_rng(seed), len(star)
    lost = random.random(count) < 0.15
    replaced: dict[str, np.ndarray] = {
        "domain": random.choice([0.5, 3.0, NAN], count),
        "snr": random.choice([0.0, 30.0, 55.5, NAN], count),
        "FeH": np.where(lost | (random.random(count) < 0.1), NAN, random.normal(-1, 1, count)),
        "CFe_err_data": np.where(random.random(count) < 0.2, NAN, 0.1),
    }
    for number, name in enumerate(CLASSES):
        replaced[f"p_{name.lower()}"] = np.where(lost, NAN, 1 / 3 + 0.1 * (number - 1))
    replaced |= {name: np.where(lost, NAN, 0.3) for name in ("Teff", "CH", "CFe")}
    return visits(star.tolist(), seed, **replaced)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_stars_are_those_of_the_obvious_loop(seed: int, count: int) -> None:
    star = np.random.default_rng(seed).integers(0, max(count // 3, 1), count)
    table = odd_visits(star, seed)
    for name in ("Teff_err", "Teff_low"):  # in another order
        table = table.drop_columns([name]).append_column(name, table[name])
    stars, rows = combine_visits(table, star).to_pylist(), table.to_pylist()
    codes = sorted(set(star.tolist()))
    assert len(stars) == len(codes)
    for code, row in zip(codes, stars, strict=True):
        of_star = [visit for visit, number in zip(rows, star.tolist(), strict=True) if number == code]
        used = used_by_loop(of_star)
        assert (row["n_visits"], row["n_used"], row["no_answer"]) == (len(of_star), len(used), not used)
        if len(of_star) > 1:
            check_star(row, of_star, used)


def check_star(row: Row, of_star: list[Row], used: list[Row]) -> None:
    """The row of a star with several visits against the loop."""
    for name in LABELS:
        for suffix, value in label_by_loop(name, used).items():
            if np.isfinite(value):
                assert row[f"{name}{suffix}"] == pytest.approx(value, rel=1e-5, abs=1e-6)
            else:
                assert row[f"{name}{suffix}"] is None
    snr = [visit["snr"] or 0.0 for visit in used]
    assert (row["snr_total"] or 0) == pytest.approx(np.sqrt(np.sum(np.square(snr))), rel=1e-6)
    assert (row["snr_best"] or 0) == pytest.approx(max(snr, default=0))
    assert row["flags"] == np.bitwise_or.reduce([visit["flags"] for visit in used or of_star])
    domains = [visit["domain"] for visit in used if visit["domain"] is not None]
    assert row["domain"] == (pytest.approx(min(domains)) if domains else None)


def test_a_star_with_one_visit_keeps_its_row() -> None:
    table = visits([3, 1, 2, 2, 0])
    stars = combine_visits(table, [3, 1, 2, 2, 0])
    kept = table.column_names
    assert stars.column_names == [*kept, *COLUMNS]
    single = stars.select(kept).take(pa.array([0, 1, 3]))
    assert single.equals(table.take(pa.array([4, 1, 0])))
    assert stars.schema.field("FeH_err").metadata == table.schema.field("FeH_err").metadata
    assert stars["n_visits"].to_pylist() == [1, 1, 2, 1]


def test_equal_visits_keep_their_values_and_reduce_the_part_of_the_error_that_is_new_in_each() -> None:
    visit = visits([0])
    data = column(visit, "FeH_err_data")[0]
    for new, expected in ((0.0, 1.0), (0.6, np.sqrt(0.64 + 0.36 / 4)), (2.0, 0.5)):
        law = {"FeH": NoiseLaw(new * data, 0.0)} if new else {}
        star = combine_visits(pa.concat_tables([visit] * 4), np.zeros(4, int), scatter=law)
        assert column(star, "FeH_err_data")[0] == pytest.approx(expected * data, rel=1e-6)
    data, model = column(visit, "FeH_err_data")[0], column(visit, "FeH_err_model")[0]
    assert column(star, "FeH_err_data")[0] == pytest.approx(data / 2, rel=1e-6)
    assert column(star, "FeH_err_model")[0] == pytest.approx(model, rel=1e-6)
    error = np.hypot(data / 2, model)
    assert column(star, "FeH_err")[0] == pytest.approx(error, rel=1e-6)
    assert (column(star, "FeH_high") - column(star, "FeH"))[0] == pytest.approx(3 * error, rel=1e-5)
    for name in ("FeH", "p_mp", "p_cemp", "class_entropy", "class_entropy_model", "egp", "ra", "dec"):
        assert column(star, name)[0] == pytest.approx(column(visit, name)[0], rel=1e-5, abs=1e-9)


def test_the_second_key_is_weighted_by_its_errors_and_keeps_the_size_of_its_error() -> None:
    unknown = float("nan")
    columns = {
        "FeH_lines": [-1.0, -2.0, unknown, unknown, unknown],
        "FeH_lines_err": [0.2, 0.4, unknown, unknown, unknown],
    }
    stars = combine_visits(visits([0, 0, 0, 1, 1], **columns), [0, 0, 0, 1, 1])
    assert column(stars, "FeH_lines") == pytest.approx([-1.2, unknown], nan_ok=True)
    assert column(stars, "FeH_lines_err") == pytest.approx([np.sqrt(0.064), unknown], nan_ok=True)
    assert stars["FeH_lines"].null_count == 1


def test_probabilities_are_averaged_with_the_square_of_the_signal_to_noise() -> None:
    probabilities = {"p_mp": [0.7, 0.1], "p_cemp": [0.2, 0.1], "p_nmp": [0.1, 0.8]}
    table = visits([0, 0], snr=[20.0, 10.0], **probabilities)
    star = combine_visits(table, [0, 0]).to_pylist()[0]
    mean = np.array([0.7 * 4 + 0.1, 0.2 * 4 + 0.1, 0.1 * 4 + 0.8]) / 5
    assert [star["p_mp"], star["p_cemp"], star["p_nmp"]] == pytest.approx(mean.tolist())
    assert star["predicted_class"] == 0
    assert star["class_entropy"] == pytest.approx(stats.entropy(mean))


def test_columns_without_a_mean_are_those_of_the_best_visit() -> None:
    table = visits([0, 0, 0], snr=[20.0, 80.0, 50.0])
    star = combine_visits(table, [0, 0, 0]).to_pylist()[0]
    assert (star["visit"], star["path"], star["obsid"]) == ("visit-1", "file-1", 10**17 + 1)


def equal_except(name: str) -> dict[str, np.ndarray]:
    """Two visits that agree in everything except this label."""
    values = {label: np.zeros(2) for label in LABELS if label != name}
    return values | {"p_mp": np.full(2, 0.5), "p_cemp": np.full(2, 0.2), "p_nmp": np.full(2, 0.3)}


@pytest.mark.parametrize(("factor", "marked"), [(0.99, False), (1.01, True)])
def test_visits_that_contradict_each_other_are_marked_by_chi2(factor: float, marked: bool) -> None:
    limit = np.sqrt(stats.chi2.isf(1e-3, 1)) * np.hypot(0.1, 0.2)
    feh = np.array([-1.0, -1.0 + factor * limit])
    table = visits([0, 0], FeH=feh, FeH_err_data=np.array([0.1, 0.2]), **equal_except("FeH"))
    assert combine_visits(table, [0, 0])["visits_disagree"].to_pylist() == [marked]


@pytest.mark.parametrize(
    ("first", "second", "marked"), [(0.85, 0.9, True), (0.75, 0.9, False), (0.85, 0.05, False)]
)
def test_visits_that_are_sure_of_different_classes_are_marked(
    first: float, second: float, marked: bool
) -> None:
    p_mp, p_nmp = np.array([first, 1 - second]), np.array([1 - first, second])
    labels = {name: np.zeros(2) for name in LABELS}
    table = visits([0, 0], p_mp=p_mp, p_cemp=np.zeros(2), p_nmp=p_nmp, **labels)
    assert combine_visits(table, [0, 0])["visits_disagree"].to_pylist() == [marked]


def test_agreeing_visits_are_marked_as_seldom_as_chance_has_it() -> None:
    random, size = np.random.default_rng(0), 4000
    star, data = np.repeat(np.arange(size), 3), random.uniform(0.05, 0.3, 3 * size)
    equal = {name: np.zeros(3 * size) for name in ("Teff", "CH", "CFe")}
    equal |= {"p_mp": np.full(3 * size, 0.4), "p_nmp": np.full(3 * size, 0.4)}
    equal["p_cemp"] = np.full(3 * size, 0.2)
    table = visits(star.tolist(), FeH=random.normal(0, data), FeH_err_data=data, **equal)
    law = {"FeH": NoiseLaw(1.0, 0.0)}
    stars = combine_visits(table, star, VisitSettings(disagree=0.02), law)
    assert 0.01 < column(stars, "visits_disagree").mean() < 0.03
    pull = column(stars, "FeH") / column(stars, "FeH_err_data")
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_positions_are_means_on_the_sphere_across_zero_hours_and_poles() -> None:
    ra = np.array([359.9999, 0.0001, 10.0, 190.0, 45.0, 135.0, 120.0])
    dec = np.array([5.0, 5.0, 89.9999, 89.9999, -89.9998, -89.9998, 30.0])
    star = [0, 0, 1, 1, 2, 2, 3]
    stars = combine_visits(visits(star, ra=ra, dec=dec), star)
    positions = SkyCoord(column(stars, "ra") * deg, column(stars, "dec") * deg)
    for code in range(4):
        of_star = np.array(star) == code
        points = SkyCoord(ra[of_star] * deg, dec[of_star] * deg).cartesian.mean()
        mean = SkyCoord(points.represent_as(UnitSphericalRepresentation))
        assert mean.separation(positions[code]).arcsec < 1e-6
    assert 0 <= column(stars, "ra").min() <= column(stars, "ra").max() < 360


def test_visits_without_a_position_do_not_move_a_star() -> None:
    ra, dec = np.array([0.0, 50.0, NAN, NAN]), np.array([0.0, 10.0, NAN, NAN])
    stars = combine_visits(visits([0, 0, 1, 1], ra=ra, dec=dec), [0, 0, 1, 1])
    assert column(stars, "ra")[0] == pytest.approx(50)
    assert stars["dec"].to_pylist()[1] is None


def test_visits_without_an_answer_are_not_used_and_a_star_without_any_is_marked() -> None:
    lost = np.array([True, False, True, True, True])
    answers = {name: np.where(lost, NAN, 1.0) for name in LABELS}
    answers |= {
        name: np.where(lost, NAN, value) for name, value in (("p_mp", 0.6), ("p_cemp", 0.3), ("p_nmp", 0.1))
    }
    stars = combine_visits(visits([0, 0, 1, 1, 2], **answers), [0, 0, 1, 1, 2])
    assert stars["no_answer"].to_pylist() == [False, True, True]
    assert stars["n_used"].to_pylist() == [1, 0, 0]
    assert stars["p_mp"].to_pylist() == [pytest.approx(0.6), None, None]
    assert stars["Teff_err"].to_pylist()[1] is None
    assert stars["visit"].to_pylist()[0] == "visit-1"


def test_a_visit_far_out_of_the_domain_is_not_used_if_another_is_inside() -> None:
    table = visits(
        [0, 0, 1, 1],
        FeH=np.array([-1.0, 5.0, -1.0, -2.0]),
        domain=np.array([0.8, 2.5, 2.5, 2.5]),
        snr=np.array([10.0, 99.0, 10.0, 10.0]),
    )
    stars = combine_visits(table, [0, 0, 1, 1])
    assert column(stars, "FeH")[0] == pytest.approx(-1)
    assert stars["visit"].to_pylist()[0] == "visit-0"
    assert stars["n_used"].to_pylist() == [1, 2]
    assert column(stars, "domain").tolist() == pytest.approx([0.8, 2.5])


def test_the_order_of_visits_changes_nothing() -> None:
    star = np.random.default_rng(1).integers(0, 10, 50)
    table = visits(star.tolist())
    order = np.random.default_rng(2).permutation(50)
    first, second = combine_visits(table, star), combine_visits(table.take(pa.array(order)), star[order])
    for name in first.column_names:
        if pa.types.is_floating(first.schema.field(name).type):
            assert column(first, name) == pytest.approx(column(second, name), rel=1e-5)
        else:
            assert first[name].equals(second[name])


def test_predictions_without_classes_or_errors_are_combined_too() -> None:
    table = visits([0, 0, 1]).select(["path", "snr", "FeH"])
    stars = combine_visits(table, [0, 0, 1])
    assert stars.column_names == ["path", "snr", "FeH", *COLUMNS]
    weights = column(table, "snr")[:2] ** 2
    mean = np.average(column(table, "FeH")[:2], weights=weights)
    assert column(stars, "FeH")[0] == pytest.approx(mean, rel=1e-5)


def test_no_prediction_gives_no_star() -> None:
    stars = combine_visits(visits([]), np.empty(0, int))
    assert (stars.num_rows, stars.column_names[-1]) == (0, "no_answer")


def test_codes_that_do_not_fit_are_refused() -> None:
    message = r"catalog: 2 predictions, but star codes of shape \(3,\); give one code per prediction"
    with pytest.raises(ValueError, match=message):
        combine_visits(visits([0, 0]), [0, 1, 2])
    with pytest.raises(ValueError, match=r"catalog: star codes are float64; give whole numbers"):
        combine_visits(visits([0, 0]), [0.0, 1.5])


def test_a_visit_that_occurs_twice_counts_once_with_its_best_spectrum() -> None:
    better = visits([0, 0, 1], snr=[20.0, 30.0, 40.0], row=[-1, -1, -1])
    worse = visits([0, 0, 1], seed=1, snr=[15.0, 25.0, 35.0], row=[-1, -1, -1])
    stars = combine_visits(pa.concat_tables([worse, better]), [0, 0, 1, 0, 0, 1])
    assert stars.equals(combine_visits(better, [0, 0, 1]))
    assert stars["n_visits"].to_pylist() == [2, 1]


def test_rows_of_one_table_are_different_spectra_even_with_equal_visit_names() -> None:
    table = visits([0, 0, 0], visit=["night", "night", None], row=[0, 1, 2])
    assert combine_visits(table, [0, 0, 0])["n_visits"].to_pylist() == [3]


def test_files_of_one_name_in_two_nights_are_different_spectra_of_a_star() -> None:
    paths = ["/n1/HD12.txt", "/n2/HD12.txt", "/n2/HD12.txt"]
    table = visits([0, 0, 0], visit=["HD12"] * 3, path=paths, row=[-1] * 3)
    assert combine_visits(table, [0, 0, 0])["n_visits"].to_pylist() == [2]


def test_a_star_is_ruled_out_if_all_visits_that_count_are() -> None:
    table = visits([0, 0, 1, 1, 2, 2, 3], snr=[50.0] * 7, domain=[0.1] * 5 + [9.0, 0.1])
    ruled_out = pa.array([True, False, True, True, True, False, True])
    stars = combine_visits(table.append_column("ruled_out", ruled_out), [0, 0, 1, 1, 2, 2, 3])
    assert stars["ruled_out"].to_pylist() == [False, True, True, True]
    assert "ruled_out" not in combine_visits(table, [0, 0, 1, 1, 2, 2, 3]).column_names


def test_the_probability_of_another_kind_is_averaged_as_those_of_the_classes_are() -> None:
    table = visits([0, 0], snr=[20.0, 10.0], other_kind=[0.5, 0.0])
    assert column(combine_visits(table, [0, 0]), "other_kind") == pytest.approx([0.4])
