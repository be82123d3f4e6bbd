"""Right ascensions and declinations in degrees, also from sexagesimal text: 10 13 34.7 (hours), -2:07:57.9.

A right ascension may be counted from -180 or from 0; as a result it lies between 0 and 360.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.tables import cells

HOUR = 15.0
"""Degrees of an hour of right ascension."""

SEXAGESIMAL = r"^(?P<sign>[-+]?)(?P<units>\d+)[ :hd]+(?P<minutes>\d+)[ :m']+(?P<seconds>\d+\.?\d*)[s\"]?$"
"""Hours or degrees, minutes and seconds, for `re` and for pyarrow."""

Floats = NDArray[np.float64]


def degrees_of_text(text: str, unit: float) -> float | None:
    """The angle of sexagesimal text in a `unit` of so many degrees; None if it is no such text."""
    found = re.match(SEXAGESIMAL, text.strip())
    if found is None:
        return None
    degrees = unit * (float(found["units"]) + float(found["minutes"]) / 60 + float(found["seconds"]) / 3600)
    return -degrees if found["sign"] == "-" else degrees


def degrees_of_column(column: pa.Array, unit: float) -> Floats:
    """The same of a column, in which a number is in degrees; NaN where there is no angle."""
    degrees_R = _floats(column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text or np.isfinite(degrees_R).all():
        return degrees_R
    parts = pc.extract_regex(pc.utf8_trim_whitespace(column.cast(pa.string())), SEXAGESIMAL)
    names = ("units", "minutes", "seconds")
    units, minutes, seconds = (_floats(pc.struct_field(parts, name)) for name in names)
    is_negative = pc.equal(pc.struct_field(parts, "sign"), "-").fill_null(False)
    signed_unit = np.where(is_negative.to_numpy(zero_copy_only=False), -unit, unit)
    sexagesimal_R = signed_unit * (units + minutes / 60 + seconds / 3600)
    return np.where(np.isfinite(degrees_R), degrees_R, sexagesimal_R)


def right_ascensions(column: pa.Array) -> pa.Array:
    """Right ascensions of a column, from 0 to 360 degrees; null where there is none."""
    ra_R = degrees_of_column(column, HOUR)
    ra_R = np.where((ra_R >= -180) & (ra_R < 0), ra_R % 360, ra_R)
    return pa.array(ra_R, mask=~((ra_R >= 0) & (ra_R <= 360)))


def declinations(column: pa.Array) -> pa.Array:
    """Declinations of a column, from -90 to 90 degrees; null where there is none."""
    dec_R = degrees_of_column(column, 1.0)
    return pa.array(dec_R, mask=~(np.abs(dec_R) <= 90))


def _floats(column: pa.Array) -> Floats:
    numbers: Floats = pc.fill_null(cells.numbers(column), np.nan).to_numpy(zero_copy_only=False)
    return numbers
