"""Classes by parameters against the definitions, star by star; probabilities of limits against draws."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.catalog.criteria import COLUMNS, judged
from survey.labels import luminosity

NAN = np.nan


def stars(**columns: list[float] | np.ndarray) -> pa.Table:
    return pa.table(
        {
            name: pa.array(np.asarray(values, float), pa.float32(), from_pandas=True)
            for name, values in columns.items()
        }
    )


value = st.floats(-4, 1, width=32).map(lambda x: round(x, 3)) | st.just(NAN)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            value, value.map(lambda x: x + 1), st.sampled_from([4500.0, 5500.0]), st.sampled_from([1.0, 4.5])
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_criterion_is_that_of_the_definition_star_by_star(rows: list[tuple[float, ...]]) -> None:
    feh, cfe, teff, logg = np.array(rows, np.float32).T
    found = judged(stars(FeH=feh, CFe=cfe, Teff=teff, logg=logg)).to_pylist()
    for (iron, carbon, hot, heavy), row in zip(zip(feh, cfe, teff, logg, strict=True), found, strict=True):
        assert row["feh_class"] == (
            None
            if np.isnan(iron)
            else "EMP"
            if iron < -3
            else "VMP"
            if iron < -2
            else "MP"
            if iron < -1
            else "NMP"
        )
        light = luminosity(hot, heavy)
        for column, least in (
            ("cemp_07", 0.7),
            ("cemp_10", 1.0),
            ("cemp_aoki", 0.7 if light <= 2.3 else 3 - light),
        ):
            known = not np.isnan(iron) and not (iron < -1 and np.isnan(carbon))
            assert row[column] == (bool(iron < -1 and carbon >= least) if known else None)
        assert row["said_labels"] == (
            -1 if row["cemp_07"] is None else 1 if row["cemp_07"] else 0 if iron < -1 else 2
        )


def test_the_criterion_decides_the_class_that_is_compared() -> None:
    table = stars(FeH=[-2, -2, -0.5, -2], CFe=[0.8, 0.8, 2, NAN]).append_column(
        "said", pa.array([1, 0, 2, 0], pa.int8())
    )
    assert judged(table)["said_labels"].to_pylist() == [1, 1, 2, -1]
    assert judged(table)["classes_disagree"].to_pylist() == [False, True, False, False]
    assert judged(table, "carbon_1.0")["said_labels"].to_pylist() == [0, 0, 2, -1]
    assert judged(table, "carbon_1.0")["classes_disagree"].to_pylist() == [True, False, False, False]


def test_a_class_that_is_not_known_disagrees_with_nothing() -> None:
    table = stars(FeH=[-2, -2], CFe=[0.8, 0.8]).append_column("said", pa.array([-1, None], pa.int8()))
    assert judged(table)["classes_disagree"].to_pylist() == [False, False]


def test_the_probability_of_a_limit_is_the_share_of_draws_below_it() -> None:
    random = np.random.default_rng(0)
    feh, error = random.uniform(-4, 0, 6), random.uniform(0.05, 1, 6)
    found = judged(stars(FeH=feh, FeH_err=error))
    drawn = random.normal(feh, error, (200_000, 6))
    for column, limit in (("p_feh_mp", -1), ("p_feh_vmp", -2), ("p_feh_emp", -3)):
        assert found[column].to_numpy() == pytest.approx((drawn < limit).mean(0), abs=0.005)
        assert found[column].to_numpy() == pytest.approx(stats.norm.cdf(limit, feh, error), abs=1e-6)


def test_a_limit_s_probability_is_sure_without_error_and_null_without_iron() -> None:
    found = judged(stars(FeH=[-1.5, -0.5, NAN, -1.5], FeH_err=[0, 0, 0.1, NAN]))
    assert found["p_feh_mp"].to_pylist() == [1, 0, None, None]


def test_the_identity_is_violated_beyond_its_errors_and_a_tenth_of_a_dex() -> None:
    table = stars(
        FeH=[-2, -2, -2, -2],
        CH=[-1, -1, -1, -1],
        CFe=[1.05, 1.2, 1.2, 1.2],
        FeH_err=[0.01, 0.01, 0.05, NAN],
        CH_err=[0.01, 0.01, 0.04, NAN],
        CFe_err=[0.01, 0.01, 0.02, NAN],
    )
    found = judged(table)
    assert found["identity"].to_numpy() == pytest.approx([0.05, 0.2, 0.2, 0.2], abs=1e-6)
    assert found["identity_violated"].to_pylist() == [False, True, False, True]


def test_an_identity_of_which_one_part_is_not_known_is_not_violated() -> None:
    found = judged(stars(FeH=[-2], CH=[NAN], CFe=[2.0]))
    assert (found["identity"].to_pylist(), found["identity_violated"].to_pylist()) == ([None], [False])


def test_carbon_comes_from_c_over_h_where_its_own_label_is_not_told() -> None:
    found = judged(stars(FeH=[-2, -2], CH=[-1.2, -1.9]))
    assert found["cemp_07"].to_pylist() == [True, False]
    assert not {"identity", "cemp_aoki", "classes_disagree", "p_feh_mp", "cemp_subclass"} & set(
        found.column_names
    )


@pytest.mark.parametrize("labels", [{}, {"Teff": [5000.0]}, {"CFe": [1.0]}, {"CH": [-1.0]}])
def test_nothing_is_invented_where_labels_are_absent(labels: dict[str, list[float]]) -> None:
    table = stars(**labels)
    assert judged(table).column_names == table.column_names


def test_iron_alone_gives_kinds_but_no_class() -> None:
    assert judged(stars(FeH=[-2.5])).column_names == ["FeH", "feh_class"]


def test_a_criterion_that_the_labels_do_not_allow_gives_no_class_but_the_others_stay() -> None:
    found = judged(stars(FeH=[-2], CFe=[1]), "aoki2007")
    assert found.column_names == ["FeH", "CFe", "cemp_07", "cemp_10", "feh_class"]


def test_kinds_of_cemp_stars_follow_barium_and_europium() -> None:
    table = stars(
        FeH=[-2.5] * 6,
        CFe=[1, 1, 1, 1, 1, 0.2],
        BaFe=[1.5, -0.5, 1.2, 0.5, NAN, 1.5],
        EuFe=[0.2, NAN, 1.0, 1.4, NAN, 0.2],
    )
    assert judged(table)["cemp_subclass"].to_pylist() == [
        "CEMP-s",
        "CEMP-no",
        "CEMP-r/s",
        "CEMP-r",
        None,
        None,
    ]
    alone = judged(stars(FeH=[-2.5, -2.5, -2.5], CFe=[1, 1, 1], BaFe=[1.5, -0.5, 0.5]))
    assert alone["cemp_subclass"].to_pylist() == ["CEMP-s", "CEMP-no", None]


def test_every_column_says_what_it_means() -> None:
    table = stars(
        **{name: [0.0] for name in ("FeH", "FeH_err", "CFe", "CH", "Teff", "logg", "BaFe")}
    ).append_column("said", pa.array([2], pa.int8()))
    found = judged(table)
    assert set(found.column_names) - set(table.column_names) == set(COLUMNS)
    for name in COLUMNS:
        field = found.schema.field(name)
        assert field.metadata[b"description"].decode() == COLUMNS[name][1]
        assert field.type == pa.type_for_alias(COLUMNS[name][0])


def test_an_unknown_criterion_is_told() -> None:
    with pytest.raises(
        ValueError,
        match=r"catalog: there is no carbon criterion 'beers'; there are carbon_0\.7, carbon_1\.0, aoki2007",
    ):
        judged(stars(FeH=[0.0]), "beers")
