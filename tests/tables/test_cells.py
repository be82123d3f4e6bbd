"""Cells of catalogues as values: whatever a cell holds, the result is a value or null."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.tables import cells

CELLS = st.one_of(st.text(max_size=8), st.floats().map(str), st.integers().map(str), st.dates().map(str))


@given(st.lists(CELLS))
@settings(deadline=None)
def test_any_cell_is_a_value_or_null(values: list[str]) -> None:
    column = pa.array(values, pa.string())
    numbers = cells.numbers(column).to_pylist()
    measured = cells.measured(column, -90, 90).to_pylist()
    for text, number, measurement in zip(values, numbers, measured, strict=True):
        assert number is None or number == float(text)
        assert measurement == (number if number is not None and -90 <= number <= 90 else None)
    for text, integer in zip(values, cells.integers(column).to_pylist(), strict=True):
        assert integer is None or integer == float(text) or integer == int(text)
    assert len(cells.dates(column)) == len(cells.text(column)) == len(values)


@pytest.mark.parametrize("word", cells.MISSING)
def test_a_missing_value_is_null_in_every_reading(word: str) -> None:
    column = pa.array([word])
    for values in (cells.text(column), cells.measured(column, -1e9, 1e9), cells.dates(column)):
        assert values.to_pylist() == [None]


def test_numbers_that_pandas_has_made_floats_are_whole_again() -> None:
    assert cells.text(pa.array([5.0, None])).to_pylist() == ["5", None]
    assert cells.integers(pa.array(["5.0", "5.5", "6"])).to_pylist() == [5, None, 6]


@pytest.mark.parametrize("other", ["n/a", " 7", "5.0", "7 ", "", "1e3", str(2**63), "9" * 38, "9" * 60, "+7"])
def test_a_cell_that_is_no_number_leaves_the_digits_of_the_others(other: str) -> None:
    """Above 2^53 a float does not hold all digits of an id."""
    ids = ["3210987654321098765", "3210987654321098766", str(2**63 - 1), str(-(2**63))]
    found = cells.integers(pa.array([*ids, other, None])).to_pylist()
    expected = {" 7": 7, "7 ": 7, "+7": 7, "5.0": 5, "1e3": 1000}.get(other)
    assert found == [*map(int, ids), expected, None]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@settings(deadline=None)
def test_the_text_of_a_float_is_the_same_number(values: list[float]) -> None:
    for value, text in zip(values, cells.text(pa.array(values, pa.float64())).to_pylist(), strict=True):
        assert text is None if value == -9999 else float(text) == value


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_fractions_stay_fractions_as_text(kind: pa.DataType) -> None:
    column = pa.array([150.123, -0.5, 266.0, -9999.0, float("nan"), None], kind)
    assert cells.text(column).to_pylist() == ["150.123", "-0.5", "266", None, None, None]
