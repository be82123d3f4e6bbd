"""Classes by labels against the definitions, star by star; probabilities of limits against draws."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.catalog.criteria import COLUMNS, add_criteria
from survey.labels import luminosity

NAN = np.nan


def stars(**columns: Sequence[float] | np.ndarray) -> pa.Table:
    """A table of stars with these labels."""
    return pa.table(
        {
            name: pa.array(np.asarray(values, float), pa.float32(), from_pandas=True)
            for name, values in columns.items()
        }
    )


def with_class(table: pa.Table, numbers: list[int | None]) -> pa.Table:
    """The stars with a class by probabilities."""
    return table.append_column("predicted_class", pa.array(numbers, pa.int8()))


value = st.floats(-4, 1, width=32).map(lambda x: round(x, 3)) | st.just(NAN)


def feh_class(iron: float) -> str | None:
    """The class by [Fe/H] from its definition."""
    if np.isnan(iron):
        return None
    return "EMP" if iron < -3 else "VMP" if iron < -2 else "MP" if iron < -1 else "NMP"


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
def test_each_criterion_is_that_of_the_definition_star_by_star(rows: list[tuple[float, ...]]) -> None:
    feh, cfe, teff, logg = np.array(rows, np.float32).T
    classified = add_criteria(stars(FeH=feh, CFe=cfe, Teff=teff, logg=logg)).to_pylist()
    for iron, carbon, hot, gravity, row in zip(feh, cfe, teff, logg, classified, strict=True):
        assert row["feh_class"] == feh_class(iron)
        light = luminosity(hot, gravity)
        aoki = 0.7 if light <= 2.3 else 3 - light
        known = not np.isnan(iron) and not (iron < -1 and np.isnan(carbon))
        for column, limit in (("cemp_07", 0.7), ("cemp_10", 1.0), ("cemp_aoki", aoki)):
            assert row[column] == (bool(iron < -1 and carbon >= limit) if known else None)
        number = -1 if not known else 1 if row["cemp_07"] else 0 if iron < -1 else 2
        assert row["class_by_labels"] == number


def test_the_criterion_decides_the_class_that_is_compared() -> None:
    table = with_class(stars(FeH=[-2, -2, -0.5, -2], CFe=[0.8, 0.8, 2, NAN]), [1, 0, 2, 0])
    by_default = add_criteria(table)
    assert by_default["class_by_labels"].to_pylist() == [1, 1, 2, -1]
    assert by_default["classes_disagree"].to_pylist() == [False, True, False, False]
    strict = add_criteria(table, "carbon_1.0")
    assert strict["class_by_labels"].to_pylist() == [0, 0, 2, -1]
    assert strict["classes_disagree"].to_pylist() == [True, False, False, False]


def test_an_unknown_class_disagrees_with_nothing() -> None:
    table = with_class(stars(FeH=[-2, -2], CFe=[0.8, 0.8]), [-1, None])
    assert add_criteria(table)["classes_disagree"].to_pylist() == [False, False]


def test_the_probability_of_a_limit_is_the_share_of_draws_below_it() -> None:
    random = np.random.default_rng(0)
    feh, error = random.uniform(-4, 0, 6), random.uniform(0.05, 1, 6)
    table = add_criteria(stars(FeH=feh, FeH_err=error))
    drawn = random.normal(feh, error, (200_000, 6))
    for column, limit in (("p_feh_mp", -1), ("p_feh_vmp", -2), ("p_feh_emp", -3)):
        assert table[column].to_numpy() == pytest.approx((drawn < limit).mean(0), abs=0.005)
        assert table[column].to_numpy() == pytest.approx(stats.norm.cdf(limit, feh, error), abs=1e-6)


def test_the_probability_of_a_limit_is_certain_without_error_and_null_without_iron() -> None:
    table = add_criteria(stars(FeH=[-1.5, -0.5, NAN, -1.5], FeH_err=[0, 0, 0.1, NAN]))
    assert table["p_feh_mp"].to_pylist() == [1, 0, None, None]


def test_carbon_is_inconsistent_beyond_its_errors_and_a_tenth_of_a_dex() -> None:
    table = add_criteria(
        stars(
            FeH=[-2, -2, -2, -2],
            CH=[-1, -1, -1, -1],
            CFe=[1.05, 1.2, 1.2, 1.2],
            FeH_err=[0.01, 0.01, 0.05, NAN],
            CH_err=[0.01, 0.01, 0.04, NAN],
            CFe_err=[0.01, 0.01, 0.02, NAN],
        )
    )
    assert table["carbon_residual"].to_numpy() == pytest.approx([0.05, 0.2, 0.2, 0.2], abs=1e-6)
    assert table["carbon_inconsistent"].to_pylist() == [False, True, False, True]


def test_carbon_with_an_unknown_label_is_not_inconsistent() -> None:
    table = add_criteria(stars(FeH=[-2], CH=[NAN], CFe=[2.0]))
    assert table["carbon_residual"].to_pylist() == [None]
    assert table["carbon_inconsistent"].to_pylist() == [False]


def test_carbon_comes_from_carbon_over_hydrogen_if_its_own_label_is_not_predicted() -> None:
    table = add_criteria(stars(FeH=[-2, -2], CH=[-1.2, -1.9]))
    assert table["cemp_07"].to_pylist() == [True, False]
    absent = {"carbon_residual", "cemp_aoki", "classes_disagree", "p_feh_mp", "cemp_subclass"}
    assert not absent & set(table.column_names)


@pytest.mark.parametrize("labels", [{}, {"Teff": [5000.0]}, {"CFe": [1.0]}, {"CH": [-1.0]}])
def test_nothing_is_added_without_the_labels(labels: dict[str, list[float]]) -> None:
    table = stars(**labels)
    assert add_criteria(table).column_names == table.column_names


def test_iron_alone_gives_a_class_by_iron_only() -> None:
    assert add_criteria(stars(FeH=[-2.5])).column_names == ["FeH", "feh_class"]


def test_a_criterion_without_its_labels_gives_no_class_but_the_others_stay() -> None:
    table = add_criteria(stars(FeH=[-2], CFe=[1]), "aoki2007")
    assert table.column_names == ["FeH", "CFe", "cemp_07", "cemp_10", "feh_class"]


def test_subclasses_of_cemp_stars_follow_barium_and_europium() -> None:
    table = stars(
        FeH=[-2.5] * 6,
        CFe=[1, 1, 1, 1, 1, 0.2],
        BaFe=[1.5, -0.5, 1.2, 0.5, NAN, 1.5],
        EuFe=[0.2, NAN, 1.0, 1.4, NAN, 0.2],
    )
    subclasses = ["CEMP-s", "CEMP-no", "CEMP-r/s", "CEMP-r", None, None]
    assert add_criteria(table)["cemp_subclass"].to_pylist() == subclasses
    barium = add_criteria(stars(FeH=[-2.5, -2.5, -2.5], CFe=[1, 1, 1], BaFe=[1.5, -0.5, 0.5]))
    assert barium["cemp_subclass"].to_pylist() == ["CEMP-s", "CEMP-no", None]


def test_each_column_has_its_type_and_description() -> None:
    labels = ("FeH", "FeH_err", "CFe", "CH", "Teff", "logg", "BaFe")
    table = with_class(stars(**{name: [0.0] for name in labels}), [2])
    classified = add_criteria(table)
    assert set(classified.column_names) - set(table.column_names) == set(COLUMNS)
    for name in COLUMNS:
        field = classified.schema.field(name)
        assert field.metadata[b"description"].decode() == COLUMNS[name][1]
        assert field.type == pa.type_for_alias(COLUMNS[name][0])


def test_an_unknown_criterion_is_refused() -> None:
    message = r"there is no carbon criterion 'beers'; give one of carbon_0\.7, carbon_1\.0, aoki2007"
    with pytest.raises(ValueError, match=message):
        add_criteria(stars(FeH=[0.0]), "beers")  # type: ignore[arg-type]
