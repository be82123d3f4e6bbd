"""Cells of a label table that are no value of their label, and what may be wrong with them: a decimal comma,
another unit, a linear abundance.

Shapes: R rows of the table.
"""

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import labels
from survey.labels import CARBON_LABELS, Label
from survey.tables import cells

Floats = NDArray[np.float64]

IDENTITY_TOLERANCE = 0.05
"""dex. CFe = CH - FeH may be broken by this much where all three are given, because tables round."""
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*")
KILOKELVIN, LOGARITHM = (2.5, 60.0), (3.3, 4.8)
"""What temperatures of stars are in 1000 K, and as the logarithm of K."""
LEAST = 10
"""From so many rows on, abundances that are all positive and break the identity are called linear."""


def unread_cell(row: Label, column: str, wrong: pa.Array) -> str:
    """One of the cells that hold no value of a label, with what may be wrong; empty if there is none to show.

    The usual signs of a missing value are not shown.
    """
    for cell in wrong.to_pylist():
        if str(cell).strip() in cells.MISSING or cell in cells.SENTINELS:
            continue
        if DECIMAL_COMMA.fullmatch(str(cell)):
            point = str(cell).strip().replace(",", ".")
            return f"{cell!r}, a decimal comma in column {column}: write {point}"
        try:
            number = float(cell)
        except (TypeError, ValueError):
            return f"{str(cell)[:40]!r} in column {column}, which is no number"
        if number in cells.SENTINELS:
            continue
        unit = "" if row.unit == "dex" else f" {row.unit}"
        limits = f"{row.low:g} to {row.high:g}{unit}{_hint(row, number)}"
        return f"{number:g} in column {column}; {row.name} is {limits}"
    return ""


def _hint(row: Label, number: float) -> str:
    """What unit a number outside the range may be in."""
    if row.name != "Teff" or not KILOKELVIN[0] <= number <= KILOKELVIN[1]:
        return ""
    unit = "the logarithm, or in 1000 K" if LOGARITHM[0] <= number <= LOGARITHM[1] else "in 1000 K"
    return f": is it {unit}? Give K"


def check_logarithmic(label: Mapping[str, Floats], columns: Mapping[str, str]) -> None:
    """An error if abundances are linear, 10**[Fe/H]: all are positive, and most break CFe = CH - FeH.

    Where the identity holds, [Fe/H] of all rows may well be positive. [C/Fe] alone is no proof: it is
    positive in any list of carbon-enhanced stars.
    """
    if not set(CARBON_LABELS) <= set(label):
        return
    residual_R = labels.carbon_residual(label["CFe"], label["CH"], label["FeH"])
    compared = int(np.isfinite(residual_R).sum())
    broken = int((np.abs(residual_R) > IDENTITY_TOLERANCE).sum())
    if compared < LEAST or 2 * broken < compared:
        return
    for name in all_positive(label):
        finite_R = label[name][np.isfinite(label[name])]
        if name in columns:
            raise ValueError(
                f"labels: column {columns[name]}: all {len(finite_R):,} values of {name} are above 0 "
                f"({finite_R.min():.3g} to {finite_R.max():.3g}) and {broken:,} of {compared:,} rows break "
                f"CFe = CH - FeH, so they seem to be linear; give the logarithm, log10 of the column"
            )


def all_positive(label: Mapping[str, Floats]) -> tuple[str, ...]:
    """[Fe/H] and [C/H], where all of their values, and not just a few, are above 0."""
    finite = {name: label[name][np.isfinite(label[name])] for name in ("FeH", "CH") if name in label}
    return tuple(name for name, values in finite.items() if len(values) >= LEAST and (values > 0).all())
