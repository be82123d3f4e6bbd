"""What a file says of its visit becomes values of the `VISIT` columns: of the right type and in a range that makes sense, or not there.

Surveys write -9999, blanks, text for numbers and numbers beyond their own integers; none of it may reach a store.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

_NOT_MEASURED = {"", "-9999", "nan", "n/a", "none", "non", "null"}


def text(value: object) -> str | None:
    """A word or number as text, or None where it says nothing."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    elif isinstance(value, float) and value.is_integer():
        value = str(int(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    found = value.strip(" \0")
    return found if found.lower() not in _NOT_MEASURED and found.isprintable() else None


def number(value: object) -> float | int | None:
    """A finite number, also one written as text."""
    if isinstance(value, (str, bytes)):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def whole(low: int, high: int) -> Callable[[object], int | None]:
    """The check of a whole number in a range."""

    def check(value: object) -> int | None:
        found = value if type(value) is int else number(value)
        return int(found) if found is not None and low <= found <= high and found == int(found) else None

    return check


def real(low: float, high: float) -> Callable[[object], float | None]:
    """The check of a number in a range."""

    def check(value: object) -> float | None:
        found = value if type(value) is float else number(value)
        return float(found) if found is not None and low <= found <= high else None

    return check


_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1
_SNR = real(-999.0, 1e6)

CHECKS: dict[str, Callable[[object], object | None]] = {
    "obsid": whole(1, _INT64),
    "ra": real(0.0, 360.0),
    "dec": real(-90.0, 90.0),
    "lmjd": whole(1, 999_999),
    "spid": whole(0, _INT32),
    "fiberid": whole(0, _INT32),
    "fiber_mask": whole(0, _INT64),  # some LAMOST files say -1: not known
    "z": real(-0.99, 20.0),
    "z_err": real(0.0, 20.0),
    **dict.fromkeys(("snr_u", "snr_g", "snr_r", "snr_i", "snr_z"), _SNR),
}
"""The range of each column; text where there is none."""


def sound(facts: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """The facts that make sense, by `VISIT` column."""
    visit = {}
    for name, value in facts:
        if value is not None and (found := CHECKS.get(name, text)(value)) is not None:
            visit[name] = found
    return visit


def identity(visit: dict[str, Any], name: str) -> str:
    """Day, plan, spectrograph and fibre; the file's name where one of them is not known."""
    try:
        return f"{visit['lmjd']}-{visit['planid']}-{visit['spid']:02d}-{visit['fiberid']:03d}"
    except KeyError:
        return stem(name)


def stem(name: str) -> str:
    """The name of a file without folders and endings, the same for a plain and a gzipped file."""
    return name.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".fits")
