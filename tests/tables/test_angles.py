"""Angles as people write them: the numbers are those of astropy."""

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Angle

from survey.sources.visit import valid_values
from survey.tables import angles

HOURS = ["00:40:00.0", "10 13 34.7", "23h59m59.5s", "1:2:3"]
DEGREES = ["+20 00 00", "-2:07:57.9", "-00:30:00", "89d59m59.5s"]


def test_sexagesimal_text_is_read_as_astropy_does_alone_and_in_a_column() -> None:
    for texts, unit, name in ((HOURS, angles.HOUR, "hourangle"), (DEGREES, 1.0, "deg")):
        wanted = [Angle(text, name).degree for text in texts]
        found = [angles.degrees_of_text(text, unit) or np.nan for text in texts]
        np.testing.assert_allclose(found, wanted)
        column = pa.array([*texts, "12.5", "no angle", None])
        read = angles.degrees_of_column(column, unit)
        np.testing.assert_allclose(read, [*wanted, 12.5, np.nan, np.nan])
        np.testing.assert_array_equal(angles.degrees_of_column(column.dictionary_encode(), unit), read)


def test_right_ascensions_from_minus_180_become_those_from_0() -> None:
    column = pa.array([-10.0, 0.0, 350.0, 360.0, -180.5, 361.0, np.nan, -9999.0])
    assert angles.right_ascensions(column).to_pylist() == [350.0, 0.0, 350.0, 360.0, None, None, None, None]
    assert angles.declinations(pa.array(["-2:30:00", "90", "-91", "x"])).to_pylist() == [-2.5, 90, None, None]


@pytest.mark.parametrize(
    ("ra", "dec", "degrees"),
    [
        (-10.0, 20.0, (350.0, 20.0)),
        (-10, "20", (350.0, 20.0)),
        ("00:40:00.0", "+20 00 00", (10.0, 20.0)),
        (b"23 20 00", "-00:30:00", (350.0, -0.5)),
        (360.0, -90.0, (360.0, -90.0)),
        (-9999.0, 91.0, (None, None)),
        ("-9999", "n/a", (None, None)),
        (np.nan, True, (None, None)),
    ],
)
def test_the_position_of_a_visit_may_be_written_in_all_these_ways(
    ra: object, dec: object, degrees: tuple[float | None, float | None]
) -> None:
    visit = valid_values([("ra", ra), ("dec", dec)])
    assert (visit.get("ra"), visit.get("dec")) == degrees
