"""What a file says of its visit becomes values of `VISIT_COLUMNS`: of the right type and in a plausible
range.

Surveys write -9999, blanks, text for numbers, and numbers beyond their own integers. Such values are left
out.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from survey.tables.angles import HOUR, degrees_of_text
from survey.tables.cells import SENTINELS
from survey.tables.ids import has_all_digits

_NO_ID = {"0", "-1"}
_NO_VALUE = {"", "-9999", "nan", "n/a", "none", "non", "null"}


def text_or_none(value: object) -> str | None:
    """A word or number as text; None if it holds no information."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    elif isinstance(value, float) and value.is_integer():
        value = str(int(value)) if abs(value) < _EXACT else None
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    text = value.strip(" \0")
    return text if text.lower() not in _NO_VALUE and text.isprintable() else None


def id_or_none(value: object) -> str | None:
    """The name of a star; None for a number that lost digits, such as 3.21099E+18: it is that of several."""
    text = text_or_none(value)
    return text if text and text not in _NO_ID and has_all_digits(text) else None


def number_or_none(value: object) -> float | int | None:
    """A finite number, also if it is written as text; else None."""
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


def integer_between(low: int, high: int) -> Callable[[object], int | None]:
    """A function that gives a whole number of this range, else None."""

    def check(value: object) -> int | None:
        number = value if type(value) is int else number_or_none(value)
        if number is None or not low <= number <= high or number != int(number):
            return None
        if isinstance(number, float) and number >= _EXACT:
            return None
        return int(number)

    return check


def number_between(low: float, high: float) -> Callable[[object], float | None]:
    """A function that gives a number of this range, else None."""

    def check(value: object) -> float | None:
        number = value if type(value) is float else number_or_none(value)
        return float(number) if number is not None and low <= number <= high else None

    return check


_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1
_EXACT = 1 << 53
"""A number from here on has lost its last digits in a float: it names another source of Gaia."""
_LIGHT = 299792.458
_SNR = number_between(-999.0, 1e6)


def _magnitude(value: object) -> float | None:
    """A magnitude that was measured; surveys write 99, -9999 or 0 if it was not."""
    number = number_between(-5.0, 40.0)(value)
    return number if number else None


def _right_ascension(value: object) -> float | None:
    """Degrees from 0 to 360, also of a number from -180 and of text in hours, minutes and seconds."""
    if type(value) is float and 0 <= value <= 360:
        return value
    number = _angle(value, HOUR)
    if number is not None and -180 <= number < 0:
        number %= 360
    return number if number is not None and 0 <= number <= 360 else None


def _declination(value: object) -> float | None:
    """Degrees, also of text in degrees, minutes and seconds."""
    number = value if type(value) is float else _angle(value, 1.0)
    return number if number is not None and -90 <= number <= 90 else None


def _angle(value: object, unit: float) -> float | None:
    number = number_or_none(value)
    if number is not None:
        return float(number)
    text = text_or_none(value)
    return degrees_of_text(text, unit) if text else None


def _velocity(value: object) -> float | None:
    """A velocity in km/s that was measured; tables write -9999, 999 and the like if it was not."""
    number = number_between(-_LIGHT, _LIGHT)(value)
    return None if number in SENTINELS else number


CHECKS: dict[str, Callable[[object], object | None]] = {
    "star": id_or_none,
    "obsid": integer_between(1, _INT64),
    "ra": _right_ascension,
    "dec": _declination,
    "lmjd": integer_between(1, 999_999),
    "spid": integer_between(0, _INT32),
    "fiberid": integer_between(0, _INT32),
    "fiber_mask": integer_between(0, _INT64),  # some LAMOST files say -1: unknown
    "rv": _velocity,
    "z": number_between(-0.99, 20.0),
    "z_err": number_between(0.0, 20.0),
    **dict.fromkeys(("snr_u", "snr_g", "snr_r", "snr_i", "snr_z"), _SNR),
    "gaia_source_id": integer_between(1, _INT64),
    **dict.fromkeys(("mag_g", "mag_r", "mag_i", "mag_gaia"), _magnitude),
}
"""The range of each column. A column that is not listed is text."""


def valid_values(values: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """The valid values among these, by column of the visit. An `rv` of exactly 0 beside another z is none."""
    visit = {}
    for column, value in values:
        if value is None:
            continue
        valid = CHECKS.get(column, text_or_none)(value)
        if valid is not None:
            visit[column] = valid
    if visit.get("rv") == 0 and visit.get("z"):
        del visit["rv"]
    return visit


def visit_name(visit: dict[str, Any], file_name: str) -> str:
    """Day, plan, spectrograph and fibre; the name of the file if one of them is unknown."""
    try:
        return f"{visit['lmjd']}-{visit['planid']}-{visit['spid']:02d}-{visit['fiberid']:03d}"
    except KeyError:
        return file_stem(file_name)


def file_stem(name: str) -> str:
    """The name of a file without folders and endings; the same for a plain and a gzipped file."""
    return name.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".fits")
