"""Magnitudes of stars, and how long each must be exposed. Shapes: N stars."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.added_columns import BRIGHTEST, FAINTEST
from survey.followup.settings import ExposureSettings, FollowupSettings
from survey.settings import SettingsError
from survey.tables import cells
from survey.tables.ids import exact_ids
from survey.tables.read import open_table

Floats = NDArray[np.float64]
EXPONENT = {"source": 0.4, "sky": 0.8}
"""The exposure grows by this power of 10 for each magnitude."""


@dataclass(frozen=True)
class Magnitudes:
    """A magnitude of each star (NaN = none) and the column that it comes from."""

    value_N: Floats
    column_N: NDArray[np.object_]

    @classmethod
    def of(cls, stars: pa.Table, settings: FollowupSettings) -> Self:
        """The first measured magnitude of each star, in the columns that the settings name."""
        table = _read_magnitudes(stars, settings) if settings.magnitudes else stars
        names = [name for name in settings.magnitude if name in table.column_names]
        value_N = np.full(stars.num_rows, np.nan)
        column_N = np.full(stars.num_rows, "", object)
        for name in names:
            column = cells.measured(cells.as_read(table[name].combine_chunks()), BRIGHTEST, FAINTEST)
            measured_N = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
            new_N = np.isnan(value_N) & np.isfinite(measured_N)
            value_N[new_N], column_N[new_N] = measured_N[new_N], name
        if stars.num_rows and np.isnan(value_N).all():
            where = settings.magnitudes or f"{settings.of}: list {settings.list_}"
            there = "missing" if not names else "empty, or of other stars" if settings.magnitudes else "empty"
            raise SettingsError(
                f"followup: {where}: no star has a magnitude: {', '.join(names or settings.magnitude)} "
                f"{'is' if len(names or settings.magnitude) == 1 else 'are'} {there}; give "
                "magnitudes=TABLE with a column star, or magnitude=[COLUMN], or make the catalog with "
                "catalogue=TABLE"
            )
        return cls(value_N, column_N)


def _read_magnitudes(stars: pa.Table, settings: FollowupSettings) -> pa.Table:
    """The magnitudes of a table, in the order of the stars. Of a star with several rows, the first counts."""
    path = settings.magnitudes or ""
    table = open_table(path, "followup: magnitudes")
    names = [name for name in settings.magnitude if name in table.names]
    if "star" not in table.names or not names:
        missing = "star" if "star" not in table.names else settings.magnitude[0]
        raise SettingsError(f"followup: magnitudes: {path}: no column {missing}; {table.similar(missing)}")
    rows = table.read(["star", *names])
    ids = exact_ids(rows["star"].combine_chunks(), "star", f"followup: magnitudes: {path}")
    place = {name: row for row, name in reversed(list(enumerate(ids)))}
    row_N = [place.get(star) for star in stars["star"].to_pylist()]
    return rows.select(names).take(pa.array(row_N, pa.int64()))


def exposures(magnitude_N: Floats, airmass_N: Floats, rules: ExposureSettings) -> Floats:
    """Seconds in which each star gets the wanted signal to noise; NaN without a magnitude."""
    above_N = np.where(np.isfinite(airmass_N), airmass_N, 1.0) - 1
    fainter_N = magnitude_N + rules.extinction * above_N - rules.magnitude
    seconds_N = rules.seconds * 10 ** (EXPONENT[rules.limited] * np.clip(fainter_N, -20, 20))
    return np.asarray(np.where(np.isfinite(magnitude_N), np.maximum(seconds_N, rules.least), np.nan))
