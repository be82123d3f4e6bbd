"""Predictions of visits -> one row per star.

A star with one visit keeps its row. Of several visits, each label is the mean weighted by the inverse
variance that comes from the spectrum (`_err_data`). Of that error only the part shrinks with the number of
visits that is new in each (`survey.catalog.visit_scatter`); the rest is common to all visits, as the
disagreement of the members about the star (`_err_model`) is.
[Fe/H] from lines is weighted by its inverse variance.
Class probabilities are averaged with the square of the signal to noise as weight. They are not multiplied:
what misleads the networks in one visit misleads them in the next, so visits are not independent. A visit
that occurs more than once (in two releases, say) counts once, with its best spectrum. A cascade has ruled out
a star if it has ruled out all its visits. All other columns are those of the best visit.

Shapes: N visits (rows), V rows of stars with several visits, M such stars, S stars, C classes.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from survey.answers import LINE_COLUMNS, RULED_OUT, ColumnSpec
from survey.catalog.settings import VisitSettings
from survey.catalog.visit_groups import VisitGroups, VisitScatter
from survey.ensemble.label_errors import NoiseLaw
from survey.labelling.star_id import encode, has_position, unit_vectors
from survey.labelling.visit_names import visits_of_files
from survey.labels import CLASSES, LABELS
from survey.store.indices import INDICES
from survey.tables.columns import described_field

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
Values = dict[str, NDArray[Any]]
"""Columns by name."""

PROBABILITIES = tuple(f"p_{name.lower()}" for name in CLASSES)

COLUMNS: dict[str, ColumnSpec] = {
    "n_visits": (
        "int32",
        "number of visits of the star; a visit that occurs more than once counts once",
        "",
        "meta.number;obs",
    ),
    "n_used": (
        "int32",
        "number of visits that the values come from: those with an answer, "
        "without those far out of the domain if another one is in it",
        "",
        "meta.number;obs",
    ),
    "snr_best": ("float32", "signal to noise of the best visit that is used", "", "stat.snr;stat.max"),
    "snr_total": (
        "float32",
        "root of the sum of the squared signal to noise of the visits that are used",
        "",
        "stat.snr",
    ),
    "visits_disagree": (
        "bool",
        "visits differ in a label by more than their errors allow, or are sure of different classes",
        "",
        "meta.code.qual",
    ),
    "no_answer": ("bool", "no visit has a class or a label", "", "meta.code.qual"),
}
"""The columns of a star in addition to those of a prediction."""


def label_names(table: pa.Table) -> list[str]:
    """The labels that a table has columns of."""
    names = set(table.column_names)
    return [row.name for row in LABELS if row.name in names]


def float_column(table: pa.Table, name: str) -> Floats:
    """A column as float64, NaN for null; all NaN if there is no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def class_probabilities(table: pa.Table) -> Floats:
    """Class probabilities (N, C), NaN in rows where one is missing; no columns if the table has none."""
    if not set(PROBABILITIES) <= set(table.column_names):
        return np.empty((table.num_rows, 0))
    p_NC = np.stack([float_column(table, name) for name in PROBABILITIES], 1)
    return np.where(np.isfinite(p_NC).all(1, keepdims=True), p_NC, np.nan)


def is_ruled_out(table: pa.Table) -> Flags:
    """Spectra that one member of a cascade answered alone, and stars of which all visits are so."""
    if RULED_OUT not in table.column_names:
        return np.zeros(table.num_rows, bool)
    return np.asarray(table[RULED_OUT].to_numpy(), bool)


def combine_visits(
    table: pa.Table,
    star_N: ArrayLike,
    settings: VisitSettings | None = None,
    scatter: VisitScatter | None = None,
) -> pa.Table:
    """One row per star, in the order of the star codes; rows with the same code are visits of one star."""
    settings, scatter = settings or VisitSettings(), scatter or {}
    code_N = _star_codes(star_N, table.num_rows)
    repeated_N = repeated_visits(table, code_N)
    if repeated_N.any():
        table, code_N = table.filter(pa.array(~repeated_N)), code_N[~repeated_N]
    answered_N, used_N = _used_visits(table, code_N, settings)
    snr_N = float_column(table, "snr")
    order_N = np.lexsort((-np.nan_to_num(snr_N, nan=-np.inf), ~used_N, code_N))
    first_S = np.flatnonzero(np.diff(code_N[order_N], prepend=-1))
    groups = VisitGroups.from_order(order_N, first_S, used_N, snr_N)
    stars = table.take(pa.array(order_N[first_S]))
    values, disagree_M = _combined_values(table, groups, settings, scatter)
    stars = _replace_values(stars, values, groups.star_M)
    return _add_columns(stars, groups, disagree_M, answered_N[order_N[first_S]])


def _star_codes(star_N: ArrayLike, rows: int) -> Rows:
    """The star of each row as a number from 0 on."""
    star_N = np.asarray(star_N)
    if star_N.shape != (rows,):
        raise ValueError(
            f"catalog: {rows:,} predictions, but star codes of shape {star_N.shape}; "
            "give one code per prediction"
        )
    if star_N.dtype.kind not in "iu":
        raise ValueError(f"catalog: star codes are {star_N.dtype}; give whole numbers")
    return np.unique(star_N, return_inverse=True)[1]


def repeated_visits(table: pa.Table, code_N: Rows) -> Flags:
    """Rows of a visit that has other rows of the same star, except the row with the highest signal to noise.

    Rows of one table are different spectra, even if their visits have the same name; so are files that
    have one name in different folders.
    """
    repeated_N = np.zeros(len(code_N), bool)
    if not {"visit", "row"} <= set(table.column_names):
        return repeated_N
    row_V = np.flatnonzero((np.bincount(code_N)[code_N] > 1) & table["visit"].is_valid().to_numpy())
    names = [name for name in ("visit", "row", "path") if name in table.column_names]
    several = table.select(names).take(pa.array(row_V))
    visit_V = encode(visits_of_files(several))[0]
    key_V3 = (np.nan_to_num(float_column(several, "row"), nan=-1), visit_V, code_N[row_V])
    order_V = np.lexsort((-np.nan_to_num(float_column(table, "snr")[row_V], nan=-np.inf), *key_V3))
    same_V = np.logical_and.reduce([np.diff(key_V[order_V], prepend=np.nan) == 0 for key_V in key_V3])
    repeated_N[row_V[order_V[same_V]]] = True
    return repeated_N


def _used_visits(table: pa.Table, code_N: Rows, settings: VisitSettings) -> tuple[Flags, Flags]:
    """Rows with an answer, and those of them that are used.

    A row far out of the domain is not used if another visit of the star is in the domain.
    """
    answered_N = np.asarray(np.isfinite(class_probabilities(table)).any(1))
    for name in label_names(table):
        answered_N |= np.isfinite(float_column(table, name))
    domain_N = np.where(answered_N, float_column(table, "domain"), np.nan)
    nearest_S = np.full(code_N.max(initial=-1) + 1, np.inf)
    np.fmin.at(nearest_S, code_N, domain_N)
    return answered_N, answered_N & ~((domain_N > settings.domain_limit) & (nearest_S[code_N] <= 1))


def _combined_values(
    table: pa.Table, groups: VisitGroups, settings: VisitSettings, scatter: VisitScatter
) -> tuple[Values, Flags]:
    """What replaces the values of the best visit, by column, and which stars have visits that disagree."""
    needed = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) or field.name in ("flags", RULED_OUT)
    ]
    rows = table.select(needed).take(pa.array(groups.row_V))
    values, disagree_M = _combined_classes(class_probabilities(rows), groups, settings)
    for name in label_names(rows):
        columns, chance_M = _combined_label(rows, name, groups, scatter.get(name))
        values |= columns
        disagree_M |= chance_M < settings.disagree
    for name in (
        "class_entropy_model",
        "other_kind",
        "egp",
        *(name for name in INDICES if name in rows.column_names),
    ):
        values[name] = groups.mean(float_column(rows, name), groups.weight_V)
    values |= _combined_lines(rows, groups)
    domain_V = np.where(groups.used_V, float_column(rows, "domain"), np.nan)
    values["domain"] = groups.reduce(np.fmin, domain_V)
    if "anomaly" in rows.column_names:
        anomaly_V = np.where(groups.used_V, float_column(rows, "anomaly"), np.nan)
        values["anomaly"] = groups.reduce(np.fmin, anomaly_V)
    if RULED_OUT in rows.column_names:
        values[RULED_OUT] = ~groups.reduce(np.logical_or, groups.used_V & ~is_ruled_out(rows))
    if "flags" in rows.column_names:
        any_used_M = groups.reduce(np.logical_or, groups.used_V)
        counts_V = groups.used_V | ~any_used_M[groups.group_V]
        flags_V = rows["flags"].fill_null(0).to_numpy()
        values["flags"] = groups.reduce(np.bitwise_or, np.where(counts_V, flags_V, 0))
    return values | _combined_position(rows, groups), disagree_M


def _combined_classes(p_VC: Floats, groups: VisitGroups, settings: VisitSettings) -> tuple[Values, Flags]:
    """Mean probabilities, class and entropy, and the stars whose visits are sure of different classes."""
    if not p_VC.shape[1]:
        return {}, np.zeros(len(groups.star_M), bool)
    p_MC = np.stack([groups.mean(p_V, groups.weight_V) for p_V in p_VC.T], 1)
    p_MC /= p_MC.sum(1, keepdims=True)
    known_M = np.isfinite(p_MC).all(1)
    class_M = np.where(known_M, np.nan_to_num(p_MC).argmax(1), -1)
    sure_V = groups.used_V & (np.nan_to_num(p_VC).max(1) > settings.sure)
    class_V = np.nan_to_num(p_VC).argmax(1)
    lowest_M = groups.reduce(np.minimum, np.where(sure_V, class_V, p_VC.shape[1]))
    highest_M = groups.reduce(np.maximum, np.where(sure_V, class_V, -1))
    values: Values = dict(zip(PROBABILITIES, p_MC.T, strict=True))
    return values | {"predicted_class": class_M, "class_entropy": entr(p_MC).sum(1)}, lowest_M < highest_M


def _combined_label(
    rows: pa.Table, name: str, groups: VisitGroups, law: NoiseLaw | None
) -> tuple[Values, Floats]:
    """A label of several visits with its errors and interval, and the probability that chance explains the
    spread.

    That probability is 1 where it cannot be computed. If the part of the error from the spectrum is unknown
    for a visit, signal to noise is the weight instead, and errors do not shrink. Without a `law` of what is
    new in each visit they do not shrink either, and chance explains as much as the whole error does.
    """
    value_V = np.where(groups.used_V, float_column(rows, name), np.nan)
    err_V, data_V, model_V, spread_V, low_V, high_V = (
        float_column(rows, f"{name}_{suffix}")
        for suffix in ("err", "err_data", "err_model", "spread", "low", "high")
    )
    known_V = np.isfinite(value_V)
    no_data_error_M = groups.reduce(np.logical_or, known_V & ~(data_V > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_V = np.where(known_V & (data_V > 0), 1 / data_V**2, 0.0)
        precision_M = groups.reduce(np.add, precision_V)
        new_V = groups.independent_errors(data_V, law)
        common_M = groups.mean(np.sqrt(data_V**2 - new_V**2), precision_V)
        new_M = np.sqrt(groups.reduce(np.add, np.nan_to_num(precision_V * new_V) ** 2)) / precision_M
        data_M = np.where(no_data_error_M | (precision_M == 0), np.nan, np.hypot(common_M, new_M))
        chance_V = precision_V if law is None else np.where(precision_V > 0, new_V**-2.0, 0.0)
        half_V2 = np.stack([value_V - low_V, high_V - value_V], 1) / err_V[:, None]
    weight_V = np.where(no_data_error_M[groups.group_V], groups.weight_V, precision_V)
    weight_V = np.where(known_V, weight_V, 0.0)
    mean_M = groups.mean(value_V, weight_V)
    model_M = np.sqrt(groups.mean(model_V**2, weight_V))
    err_M = np.where(
        no_data_error_M,
        np.sqrt(groups.mean(err_V**2, weight_V)),
        np.sqrt(data_M**2 + np.nan_to_num(model_M) ** 2),
    )
    below_M, above_M = (groups.mean(half_V, weight_V) * err_M for half_V in half_V2.T)
    columns = {
        "": mean_M,
        "_err": err_M,
        "_err_data": data_M,
        "_err_model": model_M,
        "_low": mean_M - below_M,
        "_high": mean_M + above_M,
        "_spread": np.sqrt(groups.mean(spread_V**2, weight_V)),
    }
    chance_M = groups.chance(value_V, chance_V)
    return (
        {f"{name}{suffix}": array_M for suffix, array_M in columns.items()},
        np.where(no_data_error_M, 1.0, chance_M),
    )


def _combined_lines(rows: pa.Table, groups: VisitGroups) -> Values:
    """[Fe/H] from lines, weighted by the inverse variance, with the mean of the variances.

    The error does not shrink: most of it is of the formula, so it is the same in each visit.
    """
    value_V, err_V = (float_column(rows, name) for name in LINE_COLUMNS)
    with np.errstate(divide="ignore"):
        weight_V = np.where(groups.used_V & np.isfinite(value_V) & (err_V > 0), err_V**-2.0, 0.0)
    values_M = groups.mean(value_V, weight_V), np.sqrt(groups.mean(err_V**2, weight_V))
    return dict(zip(LINE_COLUMNS, values_M, strict=True))


def _combined_position(rows: pa.Table, groups: VisitGroups) -> Values:
    """The mean direction of the visits, safe at 0 h and at the poles; NaN if no visit has a position."""
    if not {"ra", "dec"} <= set(rows.column_names):
        return {}
    ra_V, dec_V = float_column(rows, "ra"), float_column(rows, "dec")
    known_V = has_position(ra_V, dec_V)
    x_M, y_M, z_M = (
        groups.mean(np.where(known_V, axis_V, np.nan), known_V.astype(np.float64))
        for axis_V in unit_vectors(ra_V, dec_V).T
    )
    ra_M = np.degrees(np.arctan2(y_M, x_M)) % 360  # 360 itself if it is below 0 by less than rounding
    dec_M = np.degrees(np.arctan2(z_M, np.hypot(x_M, y_M)))
    return {"ra": np.where(ra_M == 360, 0.0, ra_M), "dec": dec_M}


def _replace_values(stars: pa.Table, values: Values, star_M: Rows) -> pa.Table:
    """The stars with these values in rows `star_M`, in the columns that exist; NaN becomes null."""
    for number, field in enumerate(stars.schema if len(star_M) else ()):
        if field.name in values:
            is_integer = pa.types.is_integer(field.type)
            column = stars[field.name].fill_null(0) if is_integer else stars[field.name]
            array = column.to_numpy(zero_copy_only=False).copy()
            array[star_M] = values[field.name]
            stars = stars.set_column(number, field, pa.array(array, field.type, from_pandas=not is_integer))
    return stars


def _add_columns(stars: pa.Table, groups: VisitGroups, disagree_M: Flags, answered_S: Flags) -> pa.Table:
    """The stars with the columns of `COLUMNS`."""
    best_S = np.where(answered_S, float_column(stars, "snr"), np.nan)
    total_S, used_S = best_S.copy(), answered_S.astype(np.int32)
    disagree_S = np.zeros(len(best_S), bool)
    known_V = groups.used_V & np.isfinite(groups.snr_V)
    square_M = groups.reduce(np.add, np.where(known_V, groups.snr_V, 0.0) ** 2)
    total_S[groups.star_M] = np.where(groups.reduce(np.logical_or, known_V), np.sqrt(square_M), np.nan)
    used_S[groups.star_M] = groups.reduce(np.add, groups.used_V.astype(np.int64))
    disagree_S[groups.star_M] = disagree_M
    arrays: tuple[NDArray[Any], ...] = (groups.visits_S, used_S, best_S, total_S, disagree_S, ~answered_S)
    for (name, column), array in zip(COLUMNS.items(), arrays, strict=True):
        field = described_field(name, *column)
        stars = stars.append_column(field, pa.array(array, field.type, from_pandas=array.dtype.kind == "f"))
    return stars
