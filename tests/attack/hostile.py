"""Hostile values: of settings, of cells, of columns and of tables in files."""

import datetime
import decimal
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest

T = TypeVar("T")

ROW = 7
"""The row of a table whose cell is hostile."""


def attempt(path: Path, read: Callable[[], T]) -> T | None:
    """What is read; None if it is refused. The error must name the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        message = str(error)
    assert path.name in message, f"the error does not name {path.name}"
    return None


def some(short: int, *values: Any) -> list[Any]:
    """Values of a test's parameter; only the first few belong to its short form."""
    return [
        pytest.param(value, marks=[pytest.mark.long] * (number >= short))
        for number, value in enumerate(values)
    ]


def _nested(kind: type, levels: int = 1000) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


SETTINGS: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**300, 1e308, -1e308, math.nan, math.inf),
    *("", " ", "nan", "1e308", "x" * 100_000, "\0", "\ud800", "%s{}{0}", "../..", "s3://", "s3://k:p@b/x"),
    *([], [[]], [None], [math.nan], [-1], [{}], ["a", "a"], [1, 2, 3], _nested(list)),
    *({}, {"": ""}, {1: 2}, {"a": math.nan}, {"a": {"b": 1}}, _nested(dict)),
    *(b"\xff", {1, 2}),
)
"""Values of settings: of wrong types, too large, too long, too deep, empty, and no text."""

YAML = (
    *("null", "5", "[[1]]", "text", "{}", "{a: null}", "{a: {b: null}}", "{1: 2}", "{null: 1}", "[{a: 1}]"),
    *("!!set {a}", "!!binary /w==", "!!python/name:os.system", '"\\uD800"', ".nan", "1e999", "[" * 300),
)
"""Values of a recipe: of wrong types, unusual types, and damaged."""

CELLS = (
    *("", " ", "nan", "NaN", "inf", "-inf", "1e308", "-1e308", "1e400", "9" * 400, "-9999", "-9999.0", "99"),
    *("null", "None", "N/A", "--", "*", "true", "0x10", "1_000", "1,5", "١", "−1", "1e", "1 2", "=1+1"),
    *("é" * 1000, "\ufeff", "\u202e", "\U0001f600", "%s", "{0}", "../../etc/passwd", "'; drop table", "\t"),
)
"""Cells of a CSV file: numbers that are none, and text that is more than text elsewhere."""


def columns(count: int) -> Iterator[tuple[str, pa.Array]]:
    """Columns of so many cells, of every type that a Parquet file may have, by the name of the type."""

    def cycle(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([values[number % len(values)] for number in range(count)], kind)

    numbers = [1.5, None, math.nan, math.inf, -1e308]
    whole, text, raw = [1, None, -1, 100], ["1", None, "x", "1e999", "é"], [b"1", None, b"\xff", b""]
    times = [datetime.datetime(2011, 10, 24), None]
    decimals = [decimal.Decimal("1.50"), None, decimal.Decimal(10) ** 20]
    types: list[tuple[Sequence[Any], pa.DataType]] = [
        *((numbers, kind) for kind in (pa.float32(), pa.float64())),
        *((whole, kind) for kind in (pa.int8(), pa.int64())),
        *(([1, None, 2**64 - 1], kind) for kind in (pa.uint64(),)),
        *((text, kind) for kind in (pa.string(), pa.large_string())),
        *((raw, kind) for kind in (pa.binary(), pa.large_binary())),
        ([b"12", None, b"\xff\xfe"], pa.binary(2)),
        *((decimals, kind) for kind in (pa.decimal128(38, 10), pa.decimal256(76, 5))),
        *(
            (times, kind)
            for kind in (pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.date32(), pa.date64())
        ),
        *(([1, None], kind) for kind in (pa.time32("s"), pa.time64("ns"), pa.duration("s"))),
        ([True, None], pa.bool_()),
        ([None], pa.null()),
        *(([[1.0], None, []], kind) for kind in (pa.list_(pa.float64()), pa.large_list(pa.float64()))),
        ([[1.0], None], pa.list_(pa.float64(), 1)),
        ([{"a": 1}, None], pa.struct({"a": pa.int64()})),
        ([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    ]
    for values, kind in types:
        yield str(kind), cycle(values, kind)
    yield "halffloat", pa.array(np.resize(np.array([1.5, np.nan, np.inf, -2], np.float16), count))
    yield "dictionary of text", cycle(text, pa.string()).dictionary_encode()
    yield "dictionary of numbers", cycle(numbers, pa.float64()).dictionary_encode()


def csv_files(header: list[str], rows: list[list[str]]) -> Iterator[tuple[str, bytes]]:
    """A table as CSV files that are written in an unusual or a wrong way, by what is unusual."""
    lines = [",".join(row) for row in (header, *rows)]
    text = "\n".join(lines) + "\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-7", "cp037"):
        yield encoding, text.encode(encoding)
    yield "latin-1", text.replace("x", "é").replace(header[-1], "Größe").encode("latin-1")
    yield "CRLF", text.replace("\n", "\r\n").encode()
    yield "CR", text.replace("\n", "\r").encode()
    yield "no end of the last line", text.rstrip("\n").encode()
    yield "blank lines", text.replace("\n", "\n\n").encode()
    yield "NUL", text.replace(rows[ROW][0], "\0").encode()
    yield "a quote that is not closed", text.replace(lines[ROW], f'"{lines[ROW]}').encode()
    yield "quotes", "\n".join(",".join(f'"{cell}"' for cell in row) for row in (header, *rows)).encode()
    note = [f'{line},"a ""b""\nc,d"' if number else f"{line},note" for number, line in enumerate(lines)]
    yield "line ends in cells", "\n".join(note).encode()
    yield (
        "a line end in a name",
        f'{lines[0]},"a\nb"\n'.encode() + "".join(f"{x},1\n" for x in lines[1:]).encode(),
    )
    yield "a short line", text.replace(lines[ROW], lines[ROW].partition(",")[0]).encode()
    yield "a long line", text.replace(lines[ROW], f"{lines[ROW]},1,2,3").encode()
    yield "a line of 2 MB", text.replace(rows[ROW][1], "9" * (2 << 20)).encode()
    yield "a name of 2 MB", text.replace(header[0], "x" * (2 << 20)).encode()
    yield "no rows", f"{lines[0]}\n".encode()
    yield "empty", b""
    yield "line ends", b"\n" * 1000
    yield "names twice", "\n".join(f"{line},{line}" for line in lines).encode()
    yield "names without letters", text.replace(header[1], "").encode()
    wide = [f"{line},{',' * 1500}" for line in lines]
    yield "1,500 columns without names", "\n".join(wide).encode()
    extra = ",".join(f"c{number}" for number in range(1500))
    wide = [f"{line},{extra if not number else ','.join('1' * 1500)}" for number, line in enumerate(lines)]
    yield "1,500 columns", "\n".join(wide).encode()
