"""Predictions of visits -> one row per star.

A star with one visit passes through as it is. Of several, each label is the mean weighted by the inverse variance that the data leave
(`_err_data`), which shrinks with visits; the members' disagreement about the star (`_err_model`) is one and the same in every visit and does
not. Class probabilities are averaged by the square of the signal to noise, not multiplied: what misleads the networks in one visit misleads
them in the next, so visits are no independent witnesses. A visit that is there more than once (in two releases, say) is one witness: its best
spectrum counts. Everything else is that of the best visit. Shapes: N visits (rows), V rows of stars
with several visits, M such stars, C classes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.special import chdtrc, entr

from survey.labelling.star_id import codes_of, placed, unit_vectors
from survey.labels import CLASSES, LABELS
from survey.predict.output import Column, described
from survey.settings import Settings

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
Values = dict[str, NDArray[Any]]
"""Columns by name."""

PROBABILITIES = tuple(f"p_{name.lower()}" for name in CLASSES)

COLUMNS: dict[str, Column] = {
    "n_visits": (
        "int32",
        "visits of the star; one that is there more than once counts once",
        "",
        "meta.number;obs",
    ),
    "n_used": (
        "int32",
        "visits that the values rest on: those with an answer, and without far stranger ones than the others",
        "",
        "meta.number;obs",
    ),
    "snr_best": ("float32", "signal to noise of the best visit used", "", "stat.snr;stat.max"),
    "snr_total": ("float32", "root of the sum of squared signal to noise of the visits used", "", "stat.snr"),
    "visits_disagree": (
        "bool",
        "visits differ in a label by more than their errors allow, or are sure of different classes",
        "",
        "meta.code.qual",
    ),
    "no_answer": ("bool", "no visit has any class or label", "", "meta.code.qual"),
}
"""What a star's row has beside the columns of a prediction."""

DROPPED = ("shard", "place")
"""Columns that mean nothing for a star."""


class Visits(Settings):
    """How visits of a star become one."""

    disagree: float = Field(
        1e-3, gt=0, lt=1, description="visits whose chi2 in a label is rarer than this disagree"
    )
    sure: float = Field(
        0.8, gt=0.5, lt=1, description="visits that are surer than this of different classes disagree"
    )
    strange: float = Field(
        2.0,
        ge=1,
        description="a visit farther out of the domain is left out where another one lies within (1)",
    )


def label_names(table: pa.Table) -> list[str]:
    """The labels that a table has columns of."""
    return [row.name for row in LABELS if row.name in table.column_names]


def numbers(table: pa.Table, name: str) -> Floats:
    """A column as float64, NaN where null; all NaN where there is no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def probabilities(table: pa.Table) -> Floats:
    """Class probabilities (N, C), NaN rows where one of them is not known; no columns where none are told."""
    if not set(PROBABILITIES) <= set(table.column_names):
        return np.empty((table.num_rows, 0))
    p_NC = np.stack([numbers(table, name) for name in PROBABILITIES], 1)
    return np.where(np.isfinite(p_NC).all(1, keepdims=True), p_NC, np.nan)


def combined(table: pa.Table, star_N: ArrayLike, settings: Visits | None = None) -> pa.Table:
    """One row per star, in the order of the stars' codes; rows of equal code are visits of one star."""
    settings = settings or Visits()
    star_N = np.asarray(star_N)
    if star_N.shape != (table.num_rows,):
        raise ValueError(
            f"catalog: {table.num_rows:,} predictions beside star codes of shape {star_N.shape}; give one code for each prediction"
        )
    if star_N.dtype.kind not in "iu":
        raise ValueError(f"catalog: star codes are {star_N.dtype}; give whole numbers")
    _, code_N = np.unique(star_N, return_inverse=True)
    again_N = _again(table, code_N)
    if again_N.any():
        table, code_N = table.filter(pa.array(~again_N)), code_N[~again_N]
    answered_N, used_N = _used(table, code_N, settings)
    snr_N = numbers(table, "snr")
    order_N = np.lexsort((-np.nan_to_num(snr_N, nan=-np.inf), ~used_N, code_N))
    first_S = np.flatnonzero(np.diff(code_N[order_N], prepend=-1))
    several = _Several.of(order_N, first_S, used_N, snr_N)
    stars = table.take(pa.array(order_N[first_S])).drop_columns(
        [name for name in DROPPED if name in table.column_names]
    )
    values, disagree_M = _values(table, several, settings)
    stars = _laid(stars, values, several.star_M)
    return _counted(stars, several, disagree_M, answered_N[order_N[first_S]])


@dataclass(frozen=True)
class _Several:
    """The rows (V) of stars with several visits, star by star, the best visit first, and the weights of their visits by signal to noise."""

    visits_S: Rows
    star_M: Rows
    row_V: Rows
    start_M: Rows
    used_V: Flags
    snr_V: Floats

    @classmethod
    def of(cls, order_N: Rows, first_S: Rows, used_N: Flags, snr_N: Floats) -> "_Several":
        """Of all rows in their order, and where in it each star begins."""
        visits_S = np.diff(first_S, append=len(order_N))
        row_V = order_N[np.repeat(visits_S > 1, visits_S)]
        star_M = np.flatnonzero(visits_S > 1)
        start_M = np.cumsum(visits_S[star_M]) - visits_S[star_M]
        return cls(visits_S, star_M, row_V, start_M, used_N[row_V], snr_N[row_V])

    @cached_property
    def owner(self) -> Rows:
        """The number among M of the star of each row."""
        return np.repeat(np.arange(len(self.star_M)), self.visits_S[self.star_M])

    @cached_property
    def weight(self) -> Floats:
        """Signal to noise squared, 1 where it is lower or not known, 0 for visits that are left out."""
        return np.where(self.used_V, np.fmax(self.snr_V, 1.0) ** 2, 0.0)

    def reduced(self, how: np.ufunc, values_V: NDArray[Any]) -> NDArray[Any]:
        """Values of each star's rows as one."""
        return np.asarray(how.reduceat(values_V, self.start_M)) if len(self.start_M) else values_V[:0]

    def mean(self, values_V: Floats, weight_V: Floats) -> Floats:
        """Weighted means over the rows whose value is known; NaN where none is."""
        known_V = np.isfinite(values_V) & (weight_V > 0)
        with np.errstate(invalid="ignore"):
            sums_M = self.reduced(np.add, np.where(known_V, weight_V * values_V, 0.0))
            return np.asarray(sums_M / self.reduced(np.add, np.where(known_V, weight_V, 0.0)))


def _again(table: pa.Table, code_N: Rows) -> Flags:
    """Rows of a visit that another row of the star is of as well, all but the one of the highest signal to noise.

    Rows of one table are spectra of their own, whatever visit they are called by.
    """
    again_N = np.zeros(len(code_N), bool)
    if not {"visit", "row"} <= set(table.column_names):
        return again_N
    row_V = np.flatnonzero((np.bincount(code_N)[code_N] > 1) & table["visit"].is_valid().to_numpy())
    several = table.select(["visit", "row"]).take(pa.array(row_V))
    visit_V = codes_of(several["visit"])[0]
    key_V3 = (np.nan_to_num(numbers(several, "row"), nan=-1), visit_V, code_N[row_V])
    order_V = np.lexsort((-np.nan_to_num(numbers(table, "snr")[row_V], nan=-np.inf), *key_V3))
    same_V = np.logical_and.reduce([np.diff(key_V[order_V], prepend=np.nan) == 0 for key_V in key_V3])
    again_N[row_V[order_V[same_V]]] = True
    return again_N


def _used(table: pa.Table, code_N: Rows, settings: Visits) -> tuple[Flags, Flags]:
    """Rows with an answer, and those of them that are used: not far out of the domain where another visit of the star lies within."""
    answered_N = np.asarray(np.isfinite(probabilities(table)).any(1))
    for name in label_names(table):
        answered_N |= np.isfinite(numbers(table, name))
    domain_N = np.where(answered_N, numbers(table, "domain"), np.nan)
    nearest_S = np.full(code_N.max(initial=-1) + 1, np.inf)
    np.fmin.at(nearest_S, code_N, domain_N)
    return answered_N, answered_N & ~((domain_N > settings.strange) & (nearest_S[code_N] <= 1))


def _values(table: pa.Table, several: _Several, settings: Visits) -> tuple[Values, Flags]:
    """What stars with several visits have in place of the best visit's values, by column, and whose visits disagree."""
    needed = [
        field.name for field in table.schema if pa.types.is_floating(field.type) or field.name == "flags"
    ]
    rows = table.select(needed).take(pa.array(several.row_V))
    values, disagree_M = _classes(probabilities(rows), several, settings)
    for name in label_names(rows):
        told, chance_M = _label(rows, name, several)
        values |= told
        disagree_M |= chance_M < settings.disagree
    for name in ("doubt", "egp"):
        values[name] = several.mean(numbers(rows, name), several.weight)
    domain_V = np.where(several.used_V, numbers(rows, "domain"), np.nan)
    values["domain"] = several.reduced(np.fmin, domain_V)
    if "flags" in rows.column_names:
        any_M = several.reduced(np.logical_or, several.used_V)
        flags_V = rows["flags"].fill_null(0).to_numpy()
        values["flags"] = several.reduced(
            np.bitwise_or, np.where(several.used_V | ~any_M[several.owner], flags_V, 0)
        )
    return values | _position(rows, several), disagree_M


def _classes(p_VC: Floats, several: _Several, settings: Visits) -> tuple[Values, Flags]:
    """Mean probabilities, the class and entropy that follow from them, and the stars whose visits are sure of different classes."""
    disagree_M = np.zeros(len(several.star_M), bool)
    if not p_VC.shape[1]:
        return {}, disagree_M
    p_MC = np.stack([several.mean(p_V, several.weight) for p_V in p_VC.T], 1)
    p_MC /= p_MC.sum(1, keepdims=True)
    known_M = np.isfinite(p_MC).all(1)
    said_M = np.where(known_M, np.nan_to_num(p_MC).argmax(1), -1)
    sure_V = several.used_V & (np.nan_to_num(p_VC).max(1) > settings.sure)
    said_V = np.nan_to_num(p_VC).argmax(1)
    lowest_M = several.reduced(np.minimum, np.where(sure_V, said_V, p_VC.shape[1]))
    highest_M = several.reduced(np.maximum, np.where(sure_V, said_V, -1))
    values = dict(zip(PROBABILITIES, p_MC.T, strict=True)) | {"said": said_M, "entropy": entr(p_MC).sum(1)}
    return values, lowest_M < highest_M


def _label(rows: pa.Table, name: str, several: _Several) -> tuple[Values, Floats]:
    """A label of several visits with its errors and interval, and how likely its visits differ as much by chance (1: not to be told).

    Where the data's part of the error is not known of every visit, signal to noise weights them instead, and errors do not shrink.
    """
    value_V = np.where(several.used_V, numbers(rows, name), np.nan)
    err_V, data_V, model_V, spread_V, low_V, high_V = (
        numbers(rows, f"{name}_{kind}") for kind in ("err", "err_data", "err_model", "spread", "low", "high")
    )
    told_V = np.isfinite(value_V)
    blind_M = several.reduced(np.logical_or, told_V & ~(data_V > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_V = np.where(told_V & (data_V > 0), 1 / data_V**2, 0.0)
        precision_M = several.reduced(np.add, precision_V)
        data_M = np.where(blind_M | (precision_M == 0), np.nan, precision_M**-0.5)
        half_V2 = np.stack([value_V - low_V, high_V - value_V], 1) / err_V[:, None]
    weight_V = np.where(told_V, np.where(blind_M[several.owner], several.weight, precision_V), 0.0)
    mean_M = several.mean(value_V, weight_V)
    model_M = np.sqrt(several.mean(model_V**2, weight_V))
    err_M = np.where(
        blind_M, np.sqrt(several.mean(err_V**2, weight_V)), np.sqrt(data_M**2 + np.nan_to_num(model_M) ** 2)
    )
    below_M, above_M = (several.mean(half_V, weight_V) * err_M for half_V in half_V2.T)
    chi2_M = several.reduced(
        np.add, np.where(told_V, (value_V - mean_M[several.owner]) ** 2 * precision_V, 0.0)
    )
    freedom_M = several.reduced(np.add, told_V.astype(np.int64)) - 1
    chance_M = np.where(blind_M | (freedom_M < 1), 1.0, chdtrc(np.maximum(freedom_M, 1), chi2_M))
    told = {
        "": mean_M,
        "_err": err_M,
        "_err_data": data_M,
        "_err_model": model_M,
        "_low": mean_M - below_M,
        "_high": mean_M + above_M,
    }
    told["_spread"] = np.sqrt(several.mean(spread_V**2, weight_V))
    return {f"{name}{kind}": array_M for kind, array_M in told.items()}, chance_M


def _position(rows: pa.Table, several: _Several) -> Values:
    """The mean of the visits' directions, which knows neither 0 h nor poles; NaN where no visit has a position."""
    if not {"ra", "dec"} <= set(rows.column_names):
        return {}
    ra_V, dec_V = numbers(rows, "ra"), numbers(rows, "dec")
    known_V = placed(ra_V, dec_V)
    x, y, z = (
        several.mean(np.where(known_V, part, np.nan), known_V.astype(np.float64))
        for part in unit_vectors(ra_V, dec_V).T
    )
    ra_M = np.degrees(np.arctan2(y, x)) % 360  # 360 itself where it is less than 0 by less than rounding
    return {"ra": np.where(ra_M == 360, 0.0, ra_M), "dec": np.degrees(np.arctan2(z, np.hypot(x, y)))}


def _laid(stars: pa.Table, values: Values, star_M: Rows) -> pa.Table:
    """The values in the rows of these stars, in columns that are there; NaN becomes null."""
    for number, field in enumerate(stars.schema if len(star_M) else ()):
        if field.name in values:
            whole = pa.types.is_integer(field.type)
            column = (
                (stars[field.name].fill_null(0) if whole else stars[field.name])
                .to_numpy(zero_copy_only=False)
                .copy()
            )
            column[star_M] = values[field.name]
            stars = stars.set_column(number, field, pa.array(column, field.type, from_pandas=not whole))
    return stars


def _counted(stars: pa.Table, several: _Several, disagree_M: Flags, answered_S: Flags) -> pa.Table:
    """The stars with the columns of `COLUMNS`."""
    snr_S = numbers(stars, "snr")
    total_S, used_S, disagree_S = (
        np.where(answered_S, snr_S, np.nan),
        answered_S.astype(np.int32),
        np.zeros(len(snr_S), bool),
    )
    known_V = several.used_V & np.isfinite(several.snr_V)
    square_M = several.reduced(np.add, np.where(known_V, several.snr_V, 0.0) ** 2)
    total_S[several.star_M] = np.where(several.reduced(np.logical_or, known_V), np.sqrt(square_M), np.nan)
    used_S[several.star_M] = several.reduced(np.add, several.used_V.astype(np.int64))
    disagree_S[several.star_M] = disagree_M
    best_S = np.where(answered_S, snr_S, np.nan)
    columns: tuple[NDArray[Any], ...] = (several.visits_S, used_S, best_S, total_S, disagree_S, ~answered_S)
    for (name, column), array in zip(COLUMNS.items(), columns, strict=True):
        field = described(name, column)
        stars = stars.append_column(field, pa.array(array, field.type, from_pandas=array.dtype.kind == "f"))
    return stars
