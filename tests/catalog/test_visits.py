"""Visits of a star as one row, against the obvious loop, scipy's chi2 and astropy's sphere."""

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.units import deg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.catalog.visits import COLUMNS, Visits, combined
from survey.labels import CLASSES
from tests.catalog.visit_tables import LABELS, visits

NAN = np.nan


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False).astype(float)


def loop_label(name: str, rows: list[dict]) -> dict[str, float]:
    """The obvious way for one label of one star's visits that are used."""
    told = [row for row in rows if row[name] is not None]
    if not told:
        return dict.fromkeys(("", "_err", "_err_data", "_err_model", "_low", "_high"), NAN)
    blind = any(not row[f"{name}_err_data"] for row in told)
    weight = np.array(
        [max(row["snr"] or 1, 1) ** 2 if blind else row[f"{name}_err_data"] ** -2 for row in told]
    )
    value, err, model, low, high = (
        np.array([row[f"{name}{kind}"] for row in told])
        for kind in ("", "_err", "_err_model", "_low", "_high")
    )
    mean = np.average(value, weights=weight)
    data = NAN if blind else weight.sum() ** -0.5
    model = np.sqrt(np.average(model**2, weights=weight))
    total = np.sqrt(np.average(err**2, weights=weight)) if blind else np.hypot(data, model)
    low, high = (
        mean - total * np.average((value - low) / err, weights=weight),
        mean + total * np.average((high - value) / err, weights=weight),
    )
    return {"": mean, "_err": total, "_err_data": data, "_err_model": model, "_low": low, "_high": high}


def used(rows: list[dict]) -> list[dict]:
    answered = [
        row for row in rows if row["p_mp"] is not None or any(row[name] is not None for name in LABELS)
    ]
    near = any(row["domain"] is not None and row["domain"] <= 1 for row in answered)
    return [row for row in answered if not (near and (row["domain"] or 0) > 2)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_stars_are_those_of_the_obvious_loop(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    star = random.integers(0, max(count // 3, 1), count)
    lost = random.random(count) < 0.15
    odd = {
        "domain": random.choice([0.5, 3.0, NAN], count),
        "snr": random.choice([0.0, 30.0, 55.5, NAN], count),
    }
    odd |= {
        f"p_{name.lower()}": np.where(lost, NAN, 1 / 3 + 0.1 * (number - 1))
        for number, name in enumerate(CLASSES)
    }
    odd |= {"FeH": np.where(lost | (random.random(count) < 0.1), NAN, random.normal(-1, 1, count))}
    odd |= {"CFe_err_data": np.where(random.random(count) < 0.2, NAN, 0.1)} | {
        name: np.where(lost, NAN, 0.3) for name in ("Teff", "CH", "CFe")
    }
    table = visits(star.tolist(), seed, **odd)
    table = (
        table.drop_columns(["Teff_err", "Teff_low"])
        .append_column("Teff_err", table["Teff_err"])
        .append_column("Teff_low", table["Teff_low"])
    )
    found = combined(table, star).to_pylist()
    assert len(found) == len(set(star.tolist()))
    for code, row in zip(sorted(set(star.tolist())), found, strict=True):
        mine = [one for one, number in zip(table.to_pylist(), star.tolist(), strict=True) if number == code]
        some = used(mine)
        assert (row["n_visits"], row["n_used"], row["no_answer"]) == (len(mine), len(some), not some)
        if len(mine) == 1:
            continue
        for name in LABELS:
            for kind, value in loop_label(name, some).items():
                assert (
                    row[f"{name}{kind}"] == pytest.approx(value, rel=1e-5, abs=1e-6)
                    if np.isfinite(value)
                    else row[f"{name}{kind}"] is None
                )
        snr = [one["snr"] or 0.0 for one in some]
        assert (row["snr_total"] or 0) == pytest.approx(np.sqrt(np.sum(np.square(snr))), rel=1e-6)
        assert (row["snr_best"] or 0) == pytest.approx(max(snr, default=0))
        assert row["flags"] == np.bitwise_or.reduce([one["flags"] for one in some or mine])
        domains = [one["domain"] for one in some if one["domain"] is not None]
        assert row["domain"] == (pytest.approx(min(domains)) if domains else None)


def test_a_star_with_one_visit_passes_through_as_it_is() -> None:
    table = visits([3, 1, 2, 2, 0])
    found = combined(table, [3, 1, 2, 2, 0])
    kept = [name for name in table.column_names if name not in ("shard", "place")]
    assert found.column_names == [*kept, *COLUMNS]
    alone = pa.array([0, 1, 3])
    assert found.select(kept).take(alone).equals(table.select(kept).take(pa.array([4, 1, 0])))
    assert found.schema.field("FeH_err").metadata == table.schema.field("FeH_err").metadata
    assert found["n_visits"].to_pylist() == [1, 1, 2, 1]


def test_the_same_visit_many_times_keeps_its_values_and_loses_error() -> None:
    once = visits([0])
    found = combined(pa.concat_tables([once] * 4), np.zeros(4, int))
    data, model = column(once, "FeH_err_data")[0], column(once, "FeH_err_model")[0]
    assert column(found, "FeH_err_data")[0] == pytest.approx(data / 2, rel=1e-6)
    assert column(found, "FeH_err_model")[0] == pytest.approx(model, rel=1e-6)
    assert column(found, "FeH_err")[0] == pytest.approx(np.hypot(data / 2, model), rel=1e-6)
    assert (column(found, "FeH_high") - column(found, "FeH"))[0] == pytest.approx(
        3 * np.hypot(data / 2, model), rel=1e-5
    )
    for name in ("FeH", "p_mp", "p_cemp", "entropy", "doubt", "egp", "ra", "dec"):
        assert column(found, name)[0] == pytest.approx(column(once, name)[0], rel=1e-5, abs=1e-9)


def test_probabilities_are_averaged_by_signal_to_noise_squared() -> None:
    table = visits(
        [0, 0],
        p_mp=np.array([0.7, 0.1]),
        p_cemp=np.array([0.2, 0.1]),
        p_nmp=np.array([0.1, 0.8]),
        snr=np.array([20.0, 10.0]),
    )
    found = combined(table, [0, 0]).to_pylist()[0]
    p = np.array([0.7 * 4 + 0.1, 0.2 * 4 + 0.1, 0.1 * 4 + 0.8]) / 5
    assert [found["p_mp"], found["p_cemp"], found["p_nmp"]] == pytest.approx(p.tolist())
    assert found["said"] == 0
    assert found["entropy"] == pytest.approx(stats.entropy(p))


def test_a_star_has_the_best_visit_for_all_that_is_no_mean() -> None:
    table = visits([0, 0, 0], snr=np.array([20.0, 80.0, 50.0]))
    found = combined(table, [0, 0, 0]).to_pylist()[0]
    assert (found["visit"], found["path"], found["obsid"]) == ("visit-1", "file-1", 10**17 + 1)


def test_visits_that_contradict_each_other_are_marked_by_chi2() -> None:
    apart = np.sqrt(stats.chi2.isf(1e-3, 1)) * np.hypot(0.1, 0.2)
    for factor, marked in ((0.99, False), (1.01, True)):
        table = visits(
            [0, 0],
            FeH=np.array([-1.0, -1.0 + factor * apart]),
            FeH_err_data=np.array([0.1, 0.2]),
            **same_but_for("FeH"),
        )
        assert combined(table, [0, 0])["visits_disagree"].to_pylist() == [marked]


def same_but_for(name: str) -> dict[str, np.ndarray]:
    """Visits that agree in all else."""
    values = {other: np.zeros(2) for other in LABELS if other != name}
    return values | dict(
        zip(("p_mp", "p_cemp", "p_nmp"), np.array([[0.5, 0.5], [0.2, 0.2], [0.3, 0.3]]), strict=True)
    )


@pytest.mark.parametrize(
    ("first", "second", "marked"), [(0.85, 0.9, True), (0.75, 0.9, False), (0.85, 0.05, False)]
)
def test_visits_that_are_sure_of_different_classes_are_marked(
    first: float, second: float, marked: bool
) -> None:
    p_mp, p_nmp = np.array([first, 1 - second]), np.array([1 - first, second])
    table = visits(
        [0, 0], **{name: np.zeros(2) for name in LABELS}, p_mp=p_mp, p_cemp=np.zeros(2), p_nmp=p_nmp
    )
    assert combined(table, [0, 0])["visits_disagree"].to_pylist() == [marked]


def test_agreeing_visits_are_marked_as_rarely_as_chance_has_it() -> None:
    random, size = np.random.default_rng(0), 4000
    star = np.repeat(np.arange(size), 3)
    data = random.uniform(0.05, 0.3, 3 * size)
    quiet = {name: np.zeros(3 * size) for name in ("Teff", "CH", "CFe")} | {
        "p_mp": np.full(3 * size, 0.4),
        "p_nmp": np.full(3 * size, 0.4),
    }
    table = visits(
        star.tolist(), FeH=random.normal(0, data), FeH_err_data=data, p_cemp=np.full(3 * size, 0.2), **quiet
    )
    found = combined(table, star, Visits(disagree=0.02))
    share = column(found, "visits_disagree").mean()
    assert 0.01 < share < 0.03
    pull = column(found, "FeH") / column(found, "FeH_err_data")
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_positions_are_means_on_the_sphere_across_zero_hours_and_poles() -> None:
    ra = np.array([359.9999, 0.0001, 10.0, 190.0, 45.0, 135.0, 120.0])
    dec = np.array([5.0, 5.0, 89.9999, 89.9999, -89.9998, -89.9998, 30.0])
    star = [0, 0, 1, 1, 2, 2, 3]
    found = combined(visits(star, ra=ra, dec=dec), star)
    there = SkyCoord(column(found, "ra") * deg, column(found, "dec") * deg)
    for code in range(4):
        chosen = np.array(star) == code
        points = SkyCoord(ra[chosen] * deg, dec[chosen] * deg).cartesian.mean()
        mean = SkyCoord(points.represent_as(UnitSphericalRepresentation))
        assert mean.separation(there[code]).arcsec < 1e-6
    assert 0 <= column(found, "ra").min() <= column(found, "ra").max() < 360


def test_visits_without_position_do_not_move_a_star() -> None:
    found = combined(
        visits([0, 0, 1, 1], ra=np.array([0.0, 50.0, NAN, NAN]), dec=np.array([0.0, 10.0, NAN, NAN])),
        [0, 0, 1, 1],
    )
    assert column(found, "ra")[0] == pytest.approx(50)
    assert found["dec"].to_pylist()[1] is None


def test_visits_without_an_answer_are_left_out_and_a_star_of_such_alone_says_so() -> None:
    lost = np.array([True, False, True, True, True])
    nothing = {name: np.where(lost, NAN, 1.0) for name in (*LABELS, "p_mp", "p_cemp", "p_nmp")}
    table = visits(
        [0, 0, 1, 1, 2],
        **nothing
        | {
            "p_mp": np.where(lost, NAN, 0.6),
            "p_cemp": np.where(lost, NAN, 0.3),
            "p_nmp": np.where(lost, NAN, 0.1),
        },
    )
    found = combined(table, [0, 0, 1, 1, 2])
    assert found["no_answer"].to_pylist() == [False, True, True]
    assert found["n_used"].to_pylist() == [1, 0, 0]
    assert found["p_mp"].to_pylist() == [pytest.approx(0.6), None, None]
    assert found["Teff_err"].to_pylist()[1] is None
    assert found["visit"].to_pylist()[0] == "visit-1"


def test_a_visit_far_out_of_the_domain_is_left_out_where_another_is_within() -> None:
    table = visits(
        [0, 0, 1, 1],
        FeH=np.array([-1.0, 5.0, -1.0, -2.0]),
        domain=np.array([0.8, 2.5, 2.5, 2.5]),
        snr=np.array([10.0, 99.0, 10.0, 10.0]),
    )
    found = combined(table, [0, 0, 1, 1])
    assert column(found, "FeH")[0] == pytest.approx(-1)
    assert found["visit"].to_pylist()[0] == "visit-0"
    assert found["n_used"].to_pylist() == [1, 2]
    assert column(found, "domain").tolist() == pytest.approx([0.8, 2.5])


def test_the_order_of_visits_changes_nothing() -> None:
    star = np.random.default_rng(1).integers(0, 10, 50)
    table = visits(star.tolist())
    order = np.random.default_rng(2).permutation(50)
    one, two = combined(table, star), combined(table.take(pa.array(order)), star[order])
    for name in one.column_names:
        if pa.types.is_floating(one.schema.field(name).type):
            assert column(one, name) == pytest.approx(column(two, name), rel=1e-5)
        else:
            assert one[name].equals(two[name])


def test_predictions_without_classes_or_without_errors_are_combined_too() -> None:
    table = visits([0, 0, 1]).select(["path", "snr", "FeH"])
    found = combined(table, [0, 0, 1])
    assert found.column_names == ["path", "snr", "FeH", *COLUMNS]
    snr = column(table, "snr")
    assert column(found, "FeH")[0] == pytest.approx(
        np.average(column(table, "FeH")[:2], weights=snr[:2] ** 2), rel=1e-5
    )


def test_no_prediction_is_no_star() -> None:
    found = combined(visits([]), np.empty(0, int))
    assert (found.num_rows, found.column_names[-1]) == (0, "no_answer")


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"catalog: 2 predictions beside star codes of shape \(3,\); give one code for each prediction",
    ):
        combined(visits([0, 0]), [0, 1, 2])
    with pytest.raises(ValueError, match=r"catalog: star codes are float64; give whole numbers"):
        combined(visits([0, 0]), [0.0, 1.5])


def test_a_visit_that_is_there_twice_counts_once_by_its_best_spectrum() -> None:
    once = visits([0, 0, 1], snr=[20.0, 30.0, 40.0], row=[-1, -1, -1])
    worse = visits([0, 0, 1], seed=1, snr=[15.0, 25.0, 35.0], row=[-1, -1, -1])
    twice = combined(pa.concat_tables([worse, once]), [0, 0, 1, 0, 0, 1])
    assert twice.equals(combined(once, [0, 0, 1]))
    assert twice["n_visits"].to_pylist() == [2, 1]


def test_rows_of_one_table_are_spectra_of_their_own_whatever_visit_they_are_called_by() -> None:
    table = visits([0, 0, 0], visit=["night", "night", None], row=[0, 1, 2])
    assert combined(table, [0, 0, 0])["n_visits"].to_pylist() == [3]
