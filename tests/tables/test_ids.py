"""Numbers that lost digits are no ids, in whatever way they are written."""

import pyarrow as pa
import pytest

from survey.tables.ids import has_all_digits, id_texts, rounded_ids

LOST = ["3.21099E+18", "2134567890123456768.0", "2.1345678901234568e+18"]
WHOLE = ["2134567890123456789", "12345.0", "1.5E1", "J0123.4+56", "1234567890123456.0"]


@pytest.mark.parametrize("text", [*LOST, *WHOLE])
def test_a_number_without_all_its_digits_is_no_id(text: str) -> None:
    assert has_all_digits(text) is (text in WHOLE)
    texts, rounded = id_texts(pa.array([text, "other", None]))
    assert texts.to_pylist() == [text if text in WHOLE else None, "other", None]
    assert rounded.count == (text in LOST)


def test_columns_with_such_ids_are_named() -> None:
    message = rounded_ids([("a", pa.array(LOST)), ("b", pa.array(WHOLE))])
    assert message.startswith("column a: 3 ids, such as 3.21099E+18, are floating-point numbers")
    assert "column b" not in message
