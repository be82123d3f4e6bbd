"""The tables of an explanation: their columns with their meaning, and the mean spectra.

Shapes: B spectra, P pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.tables.columns import described_field
from survey.training.batches import Spectra

Columns = dict[str, tuple[str, str]]

_TARGET = ("string", "label, or p_ and the name of a class")
_BLOCK: Columns = {
    "block": ("int32", "number of the block of wavelength"),
    "low": ("float64", "blue end of the block (vacuum angstrom, at rest)"),
    "high": ("float64", "red end of the block"),
    "features": ("string", "lines and bands in the block"),
    "size": ("float64", "mean size of the change of the target without the block, in its unit"),
    "change": ("float64", "mean change, with its sign"),
    "share": ("float64", "share of the block in the sizes of all blocks"),
}
IMPORTANCE: Columns = {
    "method": ("string", "how the block was taken away"),
    "target": _TARGET,
    "group": ("string", "spectra over which is averaged: all, a predicted class, a range of S/N"),
    "spectra": ("int64", "how many these are"),
    **_BLOCK,
}
BATCHES: Columns = {"batch": ("int32", "part of the spectra, in the order of the store"), **IMPORTANCE}
SINGLE: Columns = {**IMPORTANCE, "value": ("float64", "what is predicted of the spectrum")}
DEPENDENCE: Columns = {
    "target": _TARGET,
    "element": ("string", "element or molecule whose lines were taken away"),
    "size": ("float64", "mean size of the change of the target, in its unit"),
    "change": ("float64", "mean change, with its sign"),
    "share": ("float64", "share of the element in the sizes of all elements"),
    "is_own": ("bool", "whether the label is an abundance of this element"),
}
STRENGTH: Columns = {
    "column": _TARGET,
    "blocks": ("int32", "how many blocks were taken away"),
    "important": ("float64", "mean size of the change without the most important blocks"),
    "random": ("float64", "the same without as many random blocks"),
    "ratio": ("float64", "the one over the other"),
    "low": ("float64", "lower end of the 95 % interval of the ratio"),
    "high": ("float64", "upper end"),
}
ATTENTION: Columns = {
    "member": ("string", "name of the network"),
    "group": ("string", "spectra over which is averaged"),
    "step": ("int32", "number of the step of the network's sequence"),
    "low": ("float64", "blue end of what the step sees (vacuum angstrom, at rest), about"),
    "high": ("float64", "red end"),
    "weight": ("float64", "mean weight of the step in the attention of all steps; all weights sum to 1"),
}


def table(rows: Sequence[Mapping[str, Any]], columns: Columns) -> pa.Table:
    """Rows as a table with these columns."""
    schema = pa.schema([described_field(name, *column) for name, column in columns.items()])
    return pa.table({name: [row[name] for row in rows] for name in columns}, schema=schema)


def mean_spectra(
    wave_P: NDArray[np.float64], spectra: Spectra, group_of: Mapping[str, NDArray[np.bool_]]
) -> pa.Table:
    """The mean normalised flux of each group; null where no spectrum of it has a good pixel."""
    flux_BP, good_BP = spectra.flux.numpy().astype(float), spectra.ivar.numpy() > 0
    columns: dict[str, Any] = {"wavelength": wave_P}
    for name, chosen_B in group_of.items():
        count_P = good_BP[chosen_B].sum(0)
        sum_P = np.where(good_BP[chosen_B], flux_BP[chosen_B], 0.0).sum(0)
        mean_P = sum_P / np.maximum(count_P, 1)
        columns[name] = pa.array(mean_P, mask=count_P == 0)
    return pa.table(columns)
