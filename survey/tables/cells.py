"""Cells of a catalogue as values.

A column may have any type, and a missing value may be written in many ways. What is no value becomes null.
"""

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
"""What the catalogues of surveys write for a missing value."""

EMPTY = tuple(word for word in MISSING if not word.startswith("-9999"))
"""The same without -9999, which is a wrong value; a reader of labels counts it."""

SENTINELS = (-9999.0, 9999.0, -99999.0, 99999.0, -999.0, 999.0)
"""Numbers that stand for no measurement."""

NEGATIVE_SENTINELS = tuple(number for number in SENTINELS if number < 0)
"""The same where a positive number may be a value: a plate, a fibre, or the signal to noise at which LAMOST
cuts off."""

_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)

LARGEST_INTEGER = 2.0**63
"""Whole numbers below this fit into int64."""

INTEGER = r"^[-+]?\d{1,38}$"
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


def is_single(kind: pa.DataType) -> bool:
    """Whether a cell of this type holds one value, not a list or a structure of values."""
    if pa.types.is_dictionary(kind):
        return is_single(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return is_single(kind.storage_type)
    return not pa.types.is_nested(kind) and not pa.types.is_interval(kind)


def as_read(column: pa.Array) -> pa.Array:
    """Cells in one of the types that this module handles. A cell of bytes that are no text is null."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind) and not pa.types.is_string(kind.value_type):
        return as_read(column.cast(kind.value_type))
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if "binary" not in str(kind):
        return column
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_decoded(cell) for cell in column.to_pylist()], pa.string())


def _decoded(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def text(column: pa.Array) -> pa.Array:
    """Cells as trimmed text. Of floats, whole numbers have no `.0`, others have all their digits."""
    column = _simple(column)
    if pa.types.is_floating(column.type):
        values = _float_text(column)
    else:
        values = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.is_in(values, pa.array(MISSING)), None, values)


def _float_text(column: pa.Array) -> pa.Array:
    """Whole numbers as such, for pandas turns a column of whole numbers with gaps into floats."""
    if pa.types.is_float16(column.type):
        column = pc.cast(column, pa.float32())
    values = _finite(column)
    is_integer = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), LARGEST_INTEGER))
    integers = pc.cast(pc.if_else(is_integer, values, None), pa.int64())
    return pc.if_else(is_integer, pc.cast(integers, pa.string()), pc.cast(values, pa.string()))


def numbers(column: pa.Array) -> pa.Array:
    """Cells as finite float64."""
    column = _simple(column)
    if pa.types.is_temporal(column.type):
        return pa.nulls(len(column), pa.float64())
    if not pa.types.is_string(column.type):
        return _finite(pc.cast(column, pa.float64(), safe=False))
    try:
        values = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:  # some cell is no number
        trimmed = pc.utf8_trim_whitespace(column)
        is_number = pc.match_substring_regex(trimmed, NUMBER)
        values = pc.cast(pc.if_else(is_number, trimmed, None), pa.float64())
    return _finite(values)


def measured(
    column: pa.Array, lowest: float, highest: float, sentinels: tuple[float, ...] = SENTINELS
) -> pa.Array:
    """Cells as float64 between these limits, without the numbers that stand for no measurement."""
    values = _within(numbers(column), lowest, highest)
    return pc.if_else(pc.is_in(values, pa.array(sentinels)), None, values)


def integers(column: pa.Array) -> pa.Array:
    """Cells as int64; 5.0 becomes 5, 5.5 becomes null. No cell costs the others their digits."""
    column = _simple(column)
    if pa.types.is_temporal(column.type):
        return pa.nulls(len(column), pa.int64())
    if pa.types.is_floating(column.type):
        return _exact_integers(column)
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid:  # some cell is not written as an integer
        if not pa.types.is_string(column.type):
            return _exact_integers(column)
    trimmed = pc.utf8_trim_whitespace(column)
    is_integer = pc.match_substring_regex(trimmed, INTEGER)
    digits = pc.cast(pc.if_else(is_integer, trimmed, None), pa.decimal128(38))
    written = pc.cast(_within(digits, -(2**63), 2**63 - 1), pa.int64())
    return pc.coalesce(written, _exact_integers(pc.if_else(is_integer, None, trimmed)))


def _exact_integers(column: pa.Array) -> pa.Array:
    """The whole numbers that a float holds exactly as int64."""
    values = _within(numbers(column), -(2.0**53), 2.0**53)
    return pc.cast(pc.if_else(pc.equal(values, pc.floor(values)), values, None), pa.int64())


def dates(column: pa.Array) -> pa.Array:
    """Cells as timestamps: dates, or text that begins like 2011-10-24."""
    column = _simple(column)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return pc.cast(column, pa.timestamp("s"), safe=False)
    day = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(pc.cast(column, pa.string())), 0, 10)
    return pc.strptime(day, format="%Y-%m-%d", unit="s", error_is_null=True)


def _simple(column: pa.Array) -> pa.Array:
    """The column without a dictionary; types that are not handled here become text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    is_handled = pa.types.is_string(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    return column if is_handled else column.cast(pa.string())


def _within(values: pa.Array, lowest: float, highest: float) -> pa.Array:
    inside = pc.and_(pc.greater_equal(values, lowest), pc.less_equal(values, highest))
    return pc.if_else(inside, values, None)


def _finite(values: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_finite(values), values, None)
