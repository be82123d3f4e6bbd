"""One form of answers: in memory, as columns, and read again from a table."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.answers import UNCALIBRATED, Answers, label_names

LABELS, CLASSES = ("Teff", "FeH"), ("MP", "CEMP", "NMP")
ROWS = 5


def answers() -> Any:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.uniform(0.1, 1, (ROWS, 2)) for name in ("value_NL", "spread_NL", "low_NL", "high_NL")
    }
    arrays |= {"err_data_NL": rng.uniform(0.1, 1, (ROWS, 2)), "err_model_NL": rng.uniform(0.1, 1, (ROWS, 2))}
    return Answers(
        LABELS,
        CLASSES,
        p_NC=rng.dirichlet([1.0, 1.0, 1.0], ROWS),
        class_entropy_N=rng.uniform(0, 1, ROWS),
        class_entropy_model_N=rng.uniform(0, 1, ROWS),
        domain_N=rng.uniform(0, 2, ROWS),
        **arrays,
    )


def table_of(*columns: dict[str, np.ndarray]) -> pa.Table:
    arrays = {name: array for part in columns for name, array in part.items()}
    return pa.table({name: pa.array(array, from_pandas=True) for name, array in arrays.items()})


def test_the_whole_error_follows_from_its_two_parts() -> None:
    first = answers()
    assert first.err_NL == pytest.approx(np.hypot(first.err_data_NL, first.err_model_NL))
    doubled = replace(first, err_data_NL=2 * first.err_data_NL, err_NL=None)
    assert doubled.err_NL == pytest.approx(np.hypot(2 * first.err_data_NL, first.err_model_NL))


def test_a_table_gives_back_the_answers_in_float32() -> None:
    first = answers()
    again: Any = Answers.from_table(table_of(first.to_columns()), LABELS, CLASSES)
    for name, array in first.arrays().items():
        assert np.array_equal(getattr(again, name), array.astype(np.float32).astype(float)), name
    assert np.array_equal(again.predicted_class_N, first.predicted_class_N)
    assert {column.type for column in table_of(first.to_columns()).columns} == {pa.float32(), pa.int8()}
    assert label_names(list(first.to_columns())) == list(LABELS)


def test_answers_before_calibration_have_columns_with_a_suffix() -> None:
    after, before = answers(), replace(answers(), p_NC=np.full((ROWS, 3), 1 / 3), err_NL=None)
    table = table_of(after.to_columns(), before.to_columns(UNCALIBRATED))
    again: Any = Answers.from_table(table, LABELS, CLASSES, UNCALIBRATED)
    assert again.p_NC == pytest.approx(before.p_NC)
    assert again.value_NL == pytest.approx(after.value_NL)
    assert (again.low_NL, again.high_NL) == (None, None)
    assert "Teff_raw" not in table.column_names
    assert "predicted_class_raw" not in table.column_names


def test_unknown_numbers_are_null_and_missing_parts_none() -> None:
    first = replace(answers(), low_NL=None, domain_N=None)
    first.value_NL[2] = first.p_NC[3] = np.nan
    table = table_of(first.to_columns())
    assert table["Teff"].null_count == 1
    assert table["domain"].null_count == ROWS
    again: Any = Answers.from_table(table, LABELS, CLASSES)
    assert (again.low_NL, again.domain_N) == (None, None)
    assert again.predicted_class_N[3] == -1
    assert again.is_complete_N.tolist() == [True, True, False, False, True]


def test_empty_labels_and_classes_can_be_removed() -> None:
    first = answers()
    first.value_NL[:, 0] = first.p_NC[:] = np.nan
    kept: Any = first.without_empty()
    assert (kept.labels, kept.p_NC) == (("FeH",), None)
    assert np.array_equal(kept.err_NL, first.err_NL[:, 1:])
    first.value_NL[:] = np.nan
    assert not first.is_complete_N.any()
    assert (first.without_empty().labels, first.without_empty().value_NL) == ((), None)


def test_rows_and_labels_can_be_chosen() -> None:
    first = answers()
    some = first.at(np.array([3, 1])).with_labels(["FeH"])
    assert (len(some), some.labels) == (2, ("FeH",))
    assert np.array_equal(some.high_NL, first.high_NL[[3, 1], 1:])
    assert np.array_equal(some.domain_N, first.domain_N[[3, 1]])


def test_arrays_of_different_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"answers: value_NL has shape \(4, 2\); 5 spectra, 3 classes"):
        replace(answers(), value_NL=np.zeros((4, 2)))
