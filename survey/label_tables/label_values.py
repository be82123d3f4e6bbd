"""The labels of a catalogue: cells -> numbers in our units, with errors; what is no measurement is counted.

log eps(X) becomes [X/H] and [X/Fe] by the abundances of the Sun. Shapes: R rows of the catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import labels
from survey.label_tables import cuts
from survey.label_tables.catalogue_settings import LabelColumn, LabelSource
from survey.label_tables.solar import SolarScale, element_of, solar_scale, solar_value
from survey.labelling import keys
from survey.labelling.values import has_content
from survey.tables import cells

Floats = NDArray[np.float64]

SENTINELS = (*cells.SENTINELS, 99.99, -99.99, 99.9, 999.9, 999.99, -999.99, 9999.9, 9999.99, -9999.99)
"""Numbers that catalogues write where nothing was measured; each is in the range of no abundance."""
FEW = 5
"""Below so many values nothing is concluded from their size."""
CLOSEST_LOG_EPS = 3.0
"""[X/H] of stars is below this; log eps of iron and carbon is nearly always above."""


@dataclass
class ReadLabels:
    """Labels and errors in our units, NaN where there is none; how many cells were left out, by reason."""

    label: dict[str, Floats] = field(default_factory=dict)
    error: dict[str, Floats] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


def read_labels(
    source: LabelSource, columns: Mapping[str, LabelColumn], table: pa.Table, solar: SolarScale, path: str
) -> ReadLabels:
    """The labels of a catalogue; [X/Fe] of a column of [X/H] or log eps needs [Fe/H] in the same row."""
    read = ReadLabels()
    own = solar_scale(source.solar) if source.solar else solar
    ordered = sorted(columns, key=lambda name: name != "FeH")
    for name in ordered:
        _read_label(read, name, columns[name], source, table, (own, solar), path)
    _complete_carbon(read)
    return read


def _read_label(
    read: ReadLabels,
    name: str,
    column: LabelColumn,
    source: LabelSource,
    table: pa.Table,
    scales: tuple[SolarScale, SolarScale],
    path: str,
) -> None:
    own, solar = scales
    where = f"{path}: {column.column[0]}"
    cell = table[column.column[0]].combine_chunks()
    counted: dict[str, int] = {}
    number_R = _numbers(cell, source, column, table, counted)
    number_R = _good(number_R, column, table, where, counted)
    with np.errstate(over="ignore", invalid="ignore"):
        number_R = column.factor * (10.0**number_R if column.unit == "log10" else number_R)
    _check_unit(number_R, name, column, where)
    if column.scale == "log_eps":
        number_R = number_R - solar_value(own, name, where)
    if own is not solar:
        number_R = number_R + _shift(own, solar, name, column, where)
    relative_to_h = column.scale != "as_is" and name.endswith("Fe")
    if relative_to_h and "FeH" not in read.label:
        raise ValueError(
            f"labels: {where}: {name} needs [Fe/H] in the same table; give labels.FeH.column= of the source"
        )
    if relative_to_h:
        if name == "CFe":
            read.label["CH"] = labels.values(labels.label("CH"), number_R)
        number_R = number_R - read.label["FeH"]
    value_R = labels.values(labels.label(name), number_R)
    counted["outside its range"] = int(np.isfinite(number_R).sum() - np.isfinite(value_R).sum())
    _check_range(number_R, value_R, name, where)
    read.label[name] = value_R
    read.error[name] = _errors(value_R, name, column, table)
    if relative_to_h and name == "CFe":
        read.error["CH"] = read.error[name]
    read.left_out[name] = {reason: count for reason, count in counted.items() if count}


def _numbers(
    cell: pa.Array, source: LabelSource, column: LabelColumn, table: pa.Table, counted: dict[str, int]
) -> Floats:
    """The cells as numbers, NaN for limits and for what stands for no measurement."""
    is_limit_R = np.zeros(len(cell), bool)
    if pa.types.is_string(cell.type):
        is_limit_R = pc.fill_null(pc.match_substring_regex(cell, r"^\s*[<>]"), False).to_numpy(False)
    if column.limit:
        is_limit_R |= _is_marked(table[column.limit[0]].combine_chunks())
    number_R = keys.to_floats(cell)
    is_sentinel_R = np.isin(np.round(number_R, 4), [*SENTINELS, *source.missing])
    counted["no measurement (-9999 and the like)"] = int(is_sentinel_R.sum())
    counted["limits"] = int((is_limit_R & ~is_sentinel_R).sum())
    no_number_R = has_content(cell) & ~np.isfinite(number_R) & ~is_limit_R
    counted["no number"] = int(no_number_R.sum())
    return np.where(is_sentinel_R | is_limit_R, np.nan, number_R)


def _is_marked(column: pa.Array) -> NDArray[np.bool_]:
    """Where a column that marks limits is filled with something else than 0 or false."""
    text = pc.fill_null(cells.text(column), "")
    is_zero = pc.fill_null(pc.equal(cells.numbers(column), 0.0), False)
    is_empty = pc.is_in(pc.utf8_lower(text), pa.array(["", "false", "n"]))
    marked = pc.invert(pc.or_(is_zero, is_empty))
    return np.asarray(marked.to_numpy(zero_copy_only=False), bool)


def _good(
    number_R: Floats, column: LabelColumn, table: pa.Table, where: str, counted: dict[str, int]
) -> Floats:
    for name, cut in column.good.items():
        bad_R = ~cuts.passes(table[name].combine_chunks(), cut, where) & np.isfinite(number_R)
        counted[f"cut on {name}"] = int(bad_R.sum())
        number_R = np.where(bad_R, np.nan, number_R)
    return number_R


def _shift(own: SolarScale, solar: SolarScale, name: str, column: LabelColumn, where: str) -> float:
    """What is added to [X/H] or [X/Fe] when the Sun has other abundances."""
    if element_of(name) is None:
        return 0.0
    shift = solar_value(own, name, where) - solar_value(solar, name, where)
    if column.scale == "as_is" and name.endswith("Fe"):
        shift -= own["Fe"] - solar["Fe"]
    return shift


def _check_unit(number_R: Floats, name: str, column: LabelColumn, where: str) -> None:
    """An error where the numbers cannot be what the settings say."""
    finite = number_R[np.isfinite(number_R)]
    if not finite.size:
        return
    middle = float(np.median(finite))
    if name in ("FeH", "CH") or (name == "CFe" and column.scale != "as_is"):
        if column.scale != "log_eps" and middle > CLOSEST_LOG_EPS:
            raise ValueError(
                f"labels: {where}: the median is {middle:.3g}: this seems to be log eps, not "
                f"{_words(name, column)}; give labels.{name}.scale=log_eps of the source"
            )
        if column.scale == "log_eps" and middle < 1.0:
            raise ValueError(
                f"labels: {where}: the median is {middle:.3g}: this seems to be [X/H], not log eps; "
                f"give labels.{name}.scale=x_h of the source (as_is for FeH)"
            )
    if name == "Teff" and column.unit != "log10" and middle < 10:
        raise ValueError(
            f"labels: {where}: the median is {middle:.3g}: this seems to be log Teff or Teff in 1,000 K; "
            "give labels.Teff.unit=log10, or labels.Teff.factor=1000, of the source"
        )


def _words(name: str, column: LabelColumn) -> str:
    return "[X/H]" if column.scale == "x_h" else {"FeH": "[Fe/H]", "CH": "[C/H]"}.get(name, name)


def _check_range(number_R: Floats, value_R: Floats, name: str, where: str) -> None:
    """An error where most numbers are outside the range of the label."""
    finite = np.isfinite(number_R)
    inside = int(np.isfinite(value_R).sum())
    if finite.sum() >= FEW and inside * 2 < finite.sum():
        row = labels.label(name)
        raise ValueError(
            f"labels: {where}: {finite.sum() - inside:,} of {finite.sum():,} values (median "
            f"{np.median(number_R[finite]):.4g}) are outside {row.low:g} to {row.high:g} {row.unit} of {name}"
            f"; is it another unit, or log eps? give labels.{name}.scale=, .unit= or .factor= of the source"
        )


def _errors(value_R: Floats, name: str, column: LabelColumn, table: pa.Table) -> Floats:
    """The errors of the values; the default where there is none, NaN without a default."""
    row = labels.label(name)
    default = np.nan if column.default_error is None else column.default_error
    error_R = np.full(len(value_R), np.nan)
    if column.error:
        error_R = keys.to_floats(table[column.error[0]].combine_chunks())
        if column.unit == "log10":
            error_R = error_R * np.log(10) * value_R
        error_R = error_R * (1.0 if column.unit == "log10" else column.factor)
    with np.errstate(invalid="ignore"):
        is_error_R = (error_R > 0) & (error_R < row.high - row.low) & ~np.isin(error_R, SENTINELS)
    return np.where(np.isfinite(value_R), np.where(is_error_R, error_R, default), np.nan)


def _complete_carbon(read: ReadLabels) -> None:
    """[C/Fe] from [C/H] and [Fe/H] of the same row, where the catalogue has no other."""
    if not {"CH", "FeH"} <= read.label.keys():
        return
    computed_R = labels.values(labels.label("CFe"), labels.carbon_label("CFe", read.label))
    missing_R = np.full(len(computed_R), np.nan)
    given_R = read.label.get("CFe", missing_R)
    is_new_R = np.isnan(given_R) & np.isfinite(computed_R)
    read.label["CFe"] = np.where(is_new_R, computed_R, given_R)
    read.error["CFe"] = np.where(is_new_R, read.error["CH"], read.error.get("CFe", missing_R))
    # [C/H] without [Fe/H] stays, for another catalogue may have [Fe/H]
    read.label["CH"] = np.where(np.isfinite(read.label["FeH"]), np.nan, read.label["CH"])
