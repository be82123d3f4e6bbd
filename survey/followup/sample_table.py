"""The tables of a sample: the stars to observe, all others with the reason, and strata."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import ColumnSpec
from survey.followup.choice import RANDOM, YIELD, FollowupChoice
from survey.followup.vetted_candidates import VettedCandidates
from survey.tables.columns import described_field

CARRIED = (
    *("rank", "gaia_source_id", "score_cemp", "score_mp", "Teff", "logg", "FeH", "CFe", "snr_total"),
    *("verdict", "verdict_people", "verdict_quality", "verdict_notes", "path"),
)
"""Columns of the list that its sample has too."""
COLUMNS: dict[str, ColumnSpec] = {
    "chosen_for": ("string", "yield = its yield per hour, random = drawn at random", "", "meta.code"),
    "why": ("string", "why the star was chosen", "", "meta.note"),
    "inclusion_probability": (
        "float64",
        "probability to be in the sample: 1 if chosen by yield, else drawn / all others of the stratum",
        "",
        "stat.probability",
    ),
    "stratum": ("int32", "number of the stratum, 1 = the most probable stars", "", "meta.id"),
    "probability": ("float64", "probability that the star belongs in the list", "", "stat.probability"),
    "yield_per_hour": ("float64", "expected true stars per hour of observation", "1/h", "stat.value"),
    "magnitude": ("float64", "magnitude that the exposure follows from", "mag", "phot.mag"),
    "magnitude_from": ("string", "column of this magnitude", "", "meta.note"),
    "exposure": ("float64", "exposure for the wanted signal to noise at its best time", "s", "time.duration"),
    "time_needed": ("float64", "exposure with overheads", "s", "time.duration"),
    "hours_to_here": ("float64", "time of all stars down to this row", "h", "time.duration"),
    "best_time": ("string", "UTC of the middle of the exposure, where it is highest in the mean", "", "time"),
    "airmass": ("float64", "airmass at this time", "", "obs.airMass"),
    "moon_distance": (
        "float64",
        "distance from the moon at this time, above or below the horizon",
        "deg",
        "pos.angDistance",
    ),
    "hours_observable": ("float64", "hours in which it can be observed, in all nights", "h", "time.duration"),
    "nights_observable": ("int32", "nights in which it can be observed", "", "meta.number"),
}
REASON: ColumnSpec = ("string", "why the star is not in the sample", "", "meta.note")
NOT_CHOSEN = "its yield per hour is lower, and it was not drawn"
FIRST = ("star", "ra", "dec")
ORDER: ColumnSpec = ("int32", "place in the order of the observation", "", "meta.number")


def sample_tables(
    stars: VettedCandidates, rows_K: NDArray[np.int64], choice: FollowupChoice
) -> tuple[pa.Table, pa.Table]:
    """The sample in the order of the observation, and all other stars; `rows_K` are the stars to choose from.

    The choice is among these rows.
    """
    values = _numbers(stars, rows_K, choice)
    chosen_N = rows_K[choice.order]
    sample = {name: column[chosen_N] for name, column in values.items()}
    sample["hours_to_here"] = np.cumsum(stars.cost_N[chosen_N]) / 3600
    others_N = np.setdiff1d(np.arange(stars.table.num_rows), chosen_N)
    others = {name: column[others_N] for name, column in values.items()}
    reason = np.where(stars.reason_N[others_N] == "", NOT_CHOSEN, stars.reason_N[others_N])
    order = np.arange(1, len(chosen_N) + 1)
    names = [name for name in COLUMNS if name not in ("chosen_for", "why", "hours_to_here")]
    return (
        _table(stars.table.take(chosen_N), {"order": (ORDER, order)}, sample, list(COLUMNS)),
        _table(stars.table.take(others_N), {"reason": (REASON, reason)}, others, names),
    )


def _numbers(
    stars: VettedCandidates, rows_K: NDArray[np.int64], choice: FollowupChoice
) -> dict[str, NDArray[Any]]:
    """The columns of all stars of the list, except the sum of hours."""
    count = stars.table.num_rows
    why_N, inclusion_N = np.full(count, "", object), np.full(count, np.nan)
    stratum_N = np.zeros(count, np.int64)
    why_N[rows_K], inclusion_N[rows_K] = choice.why_N, choice.inclusion_N
    stratum_N[rows_K] = choice.stratum_N + 1
    has_time_N = ~np.isnat(stars.sky.best_N)
    per_hour_N = stars.p_N / stars.cost_N * 3600
    texts = {
        YIELD: lambda n: f"{per_hour_N[n]:.2f} true stars per hour are expected",
        RANDOM: lambda n: f"drawn at random in stratum {stratum_N[n]}, with probability {inclusion_N[n]:.3f}",
    }
    return {
        "chosen_for": why_N,
        "why": np.array([texts[why](n) if why else "" for n, why in enumerate(why_N)], object),
        "inclusion_probability": inclusion_N,
        "stratum": stratum_N,
        "probability": stars.p_N,
        "yield_per_hour": per_hour_N,
        "magnitude": stars.magnitudes.value_N,
        "magnitude_from": stars.magnitudes.column_N,
        "exposure": stars.seconds_N,
        "time_needed": stars.cost_N,
        "best_time": np.where(has_time_N, np.datetime_as_string(stars.sky.best_N, "m"), ""),
        "airmass": stars.sky.airmass_N,
        "moon_distance": stars.sky.moon_N,
        "hours_observable": stars.sky.hours_N,
        "nights_observable": stars.sky.nights_N,
    }


def _table(
    rows: pa.Table, first: dict[str, tuple[ColumnSpec, Any]], values: dict[str, Any], names: list[str]
) -> pa.Table:
    """Rows of the list with these columns; of the list's own columns those that matter."""
    columns = [(described_field(name, *spec), column) for name, (spec, column) in first.items()]
    columns += [(rows.schema.field(name), rows[name]) for name in FIRST]
    columns += [(described_field(name, *COLUMNS[name]), values[name]) for name in names]
    columns += [(rows.schema.field(name), rows[name]) for name in CARRIED if name in rows.column_names]
    arrays = [
        column.cast(field.type)
        if isinstance(column, pa.ChunkedArray)
        else pa.array(column, field.type, from_pandas=True)
        for field, column in columns
    ]
    return pa.table(arrays, schema=pa.schema([field for field, _ in columns]))
