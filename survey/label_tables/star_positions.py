"""Positions of stars on the sky, and where a star was or will be in another year.

Shapes: R rows of a catalogue. Degrees, years, milliarcseconds per year.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.label_tables.catalogue_settings import SkyColumns
from survey.labelling import keys
from survey.labelling.star_id import has_position, unit_vectors
from survey.tables import cells

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

IN_NAME = (
    r"(?P<h>\d{2})(?P<m>\d{2})(?P<s>\d{2}\.?\d*)(?P<sign>[-+])(?P<d>\d{2})(?P<am>\d{2})(?P<as>\d{2}\.?\d*)"
)
"""Hours, minutes, seconds and degrees, minutes, seconds in a name; without a point, 561 means 56.1 s."""
NAME_LIMIT = 20.0
"""Arcsec. A name and the position of its row that are farther apart cannot both be right."""
SWAPPED_SHARE = 0.05
"""Share of rows with a declination beyond 90 degrees from which the columns seem to be swapped."""
FEW = 50
"""Below so many rows the range of right ascension says nothing of its unit."""


@dataclass(frozen=True)
class StarPositions:
    """Positions, where they are known. `epoch_R` is NaN where the year is unknown, `pm_R2` 0 where it is.

    `is_outside_R`: numbers that are no place on the sky. `name_disagrees_R`: the name of the row contains
    another position.
    """

    ra_R: Floats
    dec_R: Floats
    epoch_R: Floats
    pm_R2: Floats
    is_outside_R: Bools
    name_disagrees_R: Bools

    @property
    def known(self) -> Bools:
        """Where the position is known."""
        return has_position(self.ra_R, self.dec_R) & ~self.is_outside_R

    @property
    def has_motion(self) -> bool:
        """Whether any proper motion and its year are known."""
        return bool((np.any(self.pm_R2 != 0, axis=1) & np.isfinite(self.epoch_R)).any())

    def at(self, year: float | Floats) -> "StarPositions":
        """The positions in this year; those without a year or a motion stay where they are."""
        years = np.asarray(year, np.float64) - self.epoch_R
        moves = np.isfinite(years) & np.any(self.pm_R2 != 0, axis=1)
        if not moves.any():
            return self
        ra, dec = np.radians(self.ra_R[moves]), np.radians(self.dec_R[moves])
        east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], 1)
        north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], 1)
        step_R2 = np.radians(self.pm_R2[moves] * years[moves, None] / 3.6e6)
        moved = (
            unit_vectors(self.ra_R[moves], self.dec_R[moves]) + step_R2[:, :1] * east + step_R2[:, 1:] * north
        )
        new_ra, new_dec = self.ra_R.copy(), self.dec_R.copy()
        new_ra[moves] = np.degrees(np.arctan2(moved[:, 1], moved[:, 0])) % 360
        new_dec[moves] = np.degrees(np.arctan2(moved[:, 2], np.hypot(moved[:, 0], moved[:, 1])))
        epoch = np.where(moves, year, self.epoch_R)
        return replace(self, ra_R=new_ra, dec_R=new_dec, epoch_R=epoch)


def arcsec_between(ra1: Floats, dec1: Floats, ra2: Floats, dec2: Floats) -> Floats:
    """Angles between positions (arcsec)."""
    difference = unit_vectors(ra1, dec1) - unit_vectors(ra2, dec2)
    half = np.minimum(np.linalg.norm(difference, axis=1) / 2, 1)
    return np.asarray(np.degrees(2 * np.arcsin(half)) * 3600, np.float64)


def read_positions(sky: SkyColumns, columns: Mapping[str, str], table: pa.Table, path: str) -> StarPositions:
    """The positions of a table, from these columns by ra, dec, pmra, pmdec, epoch and name."""
    rows = table.num_rows
    ra_R, dec_R = np.full(rows, np.nan), np.full(rows, np.nan)
    is_outside_R = np.zeros(rows, bool)
    if "ra" in columns and "dec" in columns:
        ra_R, dec_R = _degrees(sky, columns, table, path)
        is_outside_R = np.isfinite(ra_R) & np.isfinite(dec_R)
        is_outside_R &= (np.abs(dec_R) > 90) | (ra_R < -180) | (ra_R > 360)
        _check_swapped(ra_R, dec_R, columns, path)
    disagrees_R = np.zeros(rows, bool)
    if "name" in columns:
        name_ra, name_dec = positions_in_names(table[columns["name"]].combine_chunks())
        both = has_position(ra_R, dec_R) & has_position(name_ra, name_dec) & ~is_outside_R
        disagrees_R[both] = (
            arcsec_between(ra_R[both], dec_R[both], name_ra[both], name_dec[both]) > NAME_LIMIT
        )
        only_name = ~has_position(ra_R, dec_R) & ~is_outside_R
        ra_R, dec_R = np.where(only_name, name_ra, ra_R), np.where(only_name, name_dec, dec_R)
    return StarPositions(
        ra_R, dec_R, _epochs(sky, columns, table), _motions(columns, table), is_outside_R, disagrees_R
    )


def _degrees(
    sky: SkyColumns, columns: Mapping[str, str], table: pa.Table, path: str
) -> tuple[Floats, Floats]:
    """Right ascension and declination in degrees, NaN where there is no number. A wrong unit is an error."""
    named = keys.KeyColumns(None, None, None, None, columns["ra"], columns["dec"])
    ra_R, dec_R = (_without_sentinels(values) for values in keys.positions(table, named))
    factor = {"hour": (15.0, 1.0), "rad": (180 / np.pi, 180 / np.pi)}.get(sky.unit, (1.0, 1.0))
    known = has_position(ra_R, dec_R)
    is_plain = _is_number(table[columns["ra"]])[known].all()
    if sky.unit == "auto" and known.sum() >= FEW and is_plain:
        widest = float(np.max(ra_R[known]))
        spread = float(np.ptp(dec_R[known]))
        units = {
            "hour": widest <= 24 and spread > 30,
            "rad": widest <= 2 * np.pi and spread <= np.pi and spread > 1,
        }
        for unit in (unit for unit in ("rad", "hour") if units[unit]):
            raise ValueError(
                f"labels: {path}: {columns['ra']}: no value above {widest:.4g}, with declinations over "
                f"{spread:.3g}: these seem to be no degrees; give position.unit={unit}, or deg if they are"
            )
    return (
        np.where(_is_number(table[columns["ra"]]), ra_R * factor[0], ra_R),
        np.where(_is_number(table[columns["dec"]]), dec_R * factor[1], dec_R),
    )


def _is_number(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which cells are plain numbers; others, such as 10 13 34.7, have become degrees already."""
    return np.asarray(np.isfinite(keys.to_floats(column.combine_chunks())))


def _without_sentinels(values: Floats) -> Floats:
    return np.where(np.isin(values, [*cells.SENTINELS]), np.nan, values)


def _check_swapped(ra_R: Floats, dec_R: Floats, columns: Mapping[str, str], path: str) -> None:
    finite = np.isfinite(ra_R) & np.isfinite(dec_R)
    beyond = finite & (np.abs(dec_R) > 90)
    if beyond.sum() > SWAPPED_SHARE * max(finite.sum(), 1):
        raise ValueError(
            f"labels: {path}: {columns['dec']}: {beyond.sum():,} of {finite.sum():,} declinations are beyond "
            f"90 degrees, such as {dec_R[beyond][0]:.6g}; are ra and dec swapped? if so, give "
            f"position.ra={columns['dec']} position.dec={columns['ra']}"
        )


def _epochs(sky: SkyColumns, columns: Mapping[str, str], table: pa.Table) -> Floats:
    if "epoch" in columns:
        year_R = keys.to_floats(table[columns["epoch"]].combine_chunks())
        return np.where((year_R > 1800) & (year_R < 2200), year_R, np.nan)
    return np.full(table.num_rows, np.nan if sky.epoch is None else float(sky.epoch))


def _motions(columns: Mapping[str, str], table: pa.Table) -> Floats:
    if "pmra" not in columns:
        return np.zeros((table.num_rows, 2))
    pair = [keys.to_floats(table[columns[name]].combine_chunks()) for name in ("pmra", "pmdec")]
    motion_R2 = np.stack(pair, 1)
    # the fastest star moves by 10,393 mas/yr; -9999 and the like are no motions
    is_motion_R2 = (np.abs(motion_R2) < 11_000) & ~np.isin(motion_R2, cells.SENTINELS)
    is_motion_R = is_motion_R2[:, 0] & is_motion_R2[:, 1]
    return np.where(is_motion_R[:, None], motion_R2, 0.0)


def positions_in_names(names: pa.Array) -> tuple[Floats, Floats]:
    """The positions in names such as 2M06561343+2737243 or J221103.75+290739.6; NaN where there is none."""
    found = pc.extract_regex(pc.cast(names, pa.string()), IN_NAME)

    def part(name: str, digits: int = 0) -> Floats:
        text = pc.struct_field(found, name)
        number = keys.to_floats(text)
        if not digits:
            return number
        length = keys.to_floats(pc.utf8_length(text).cast(pa.float64()))
        has_point = pc.fill_null(pc.match_substring(text, "."), False).to_numpy(zero_copy_only=False)
        return np.where(has_point, number, number / 10.0 ** np.clip(np.nan_to_num(length) - digits, 0, None))

    hours = part("h") + part("m") / 60 + part("s", 2) / 3600
    degrees = part("d") + part("am") / 60 + part("as", 2) / 3600
    is_south = pc.fill_null(pc.equal(pc.struct_field(found, "sign"), "-"), False)
    sign = np.where(is_south.to_numpy(zero_copy_only=False), -1.0, 1.0)
    is_place = (hours < 24) & (degrees <= 90)
    return np.where(is_place, 15 * hours, np.nan), np.where(is_place, sign * degrees, np.nan)
