"""Cells of a catalogue as values: whatever type a column has and however a missing value is written, what is no value becomes null."""

import pyarrow as pa
import pyarrow.compute as pc

MISSING = (
    "",
    "-9999",
    "-9999.0",
    "-9999.00",
    "NULL",
    "Null",
    "null",
    "nan",
    "NaN",
    "NAN",
    "None",
    "N/A",
    "--",
    "*",
)
"""How the catalogues of surveys write that they do not know."""

SENTINELS = (-9999.0, 9999.0, -99999.0, 99999.0, -999.0, 999.0)
"""Measurements that stand for none."""

NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


def text(column: pa.Array) -> pa.Array:
    """Cells as trimmed text."""
    column = _plain(column)
    if pa.types.is_floating(column.type):
        column = pc.cast(
            _finite(column), pa.int64(), safe=False
        )  # pandas makes a float of a number with gaps
    values = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.is_in(values, pa.array(MISSING)), None, values)


def numbers(column: pa.Array) -> pa.Array:
    """Cells as finite float64."""
    column = _plain(column)
    if pa.types.is_string(column.type):
        try:
            values = pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            trimmed = pc.utf8_trim_whitespace(column)
            values = pc.cast(
                pc.if_else(pc.match_substring_regex(trimmed, NUMBER), trimmed, None), pa.float64()
            )
    else:
        values = pc.cast(column, pa.float64(), safe=False)
    return _finite(values)


def measured(column: pa.Array, lowest: float, highest: float) -> pa.Array:
    """Cells as float64 between these limits, without the numbers that stand for no number."""
    values = _within(numbers(column), lowest, highest)
    return pc.if_else(pc.is_in(values, pa.array(SENTINELS)), None, values)


def whole(column: pa.Array) -> pa.Array:
    """Cells as int64; 5.0 is 5, 5.5 is nothing."""
    column = _plain(column)
    if not pa.types.is_floating(column.type):
        try:
            return pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            pass  # some cell is not a whole number as it stands
    values = _within(numbers(column), -(2.0**53), 2.0**53)
    return pc.cast(pc.if_else(pc.equal(values, pc.floor(values)), values, None), pa.int64())


def dates(column: pa.Array) -> pa.Array:
    """Cells as timestamps: dates, or text that begins like 2011-10-24."""
    column = _plain(column)
    if pa.types.is_temporal(column.type):
        return pc.cast(column, pa.timestamp("s"), safe=False)
    day = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(pc.cast(column, pa.string())), 0, 10)
    return pc.strptime(day, format="%Y-%m-%d", unit="s", error_is_null=True)


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    known = (
        pa.types.is_string(column.type)
        or pa.types.is_primitive(column.type)
        or pa.types.is_decimal(column.type)
    )
    return column if known else column.cast(pa.string())


def _within(values: pa.Array, lowest: float, highest: float) -> pa.Array:
    return pc.if_else(pc.and_(pc.greater_equal(values, lowest), pc.less_equal(values, highest)), values, None)


def _finite(values: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_finite(values), values, None)
