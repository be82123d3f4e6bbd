"""What the labels of a star say about its class, in addition to the class probabilities.

Stars are called metal-poor and carbon-enhanced by the criteria in `survey.labels`. Both answers are kept. A
star is marked if they differ, and if [C/Fe] = [C/H] - [Fe/H] does not hold. A column exists only if the
labels that it needs are predicted. Shapes: N stars.
"""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from survey.answers import ColumnSpec
from survey.catalog.visits import Flags, Floats, float_column
from survey.labels import (
    CARBON_LABELS,
    CLASSES,
    CRITERION_LABELS,
    CRITERION_TEXT,
    METAL_POOR,
    MISSING,
    Criterion,
    carbon_residual,
    carbon_to_iron,
    classes,
)
from survey.tables.columns import described_field

_NUMBERED_CLASSES = ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES))

CRITERION_COLUMNS: dict[Criterion, str] = {
    "carbon_0.7": "cemp_07",
    "carbon_1.0": "cemp_10",
    "aoki2007": "cemp_aoki",
}
"""The column of each criterion."""

SIGMAS, SLACK = 3.0, 0.1
"""[C/Fe] and [C/H] - [Fe/H] are inconsistent if they differ by more than this many errors and dex."""

COLUMNS: dict[str, ColumnSpec] = {
    "class_by_labels": (
        "int8",
        f"number of the class by [Fe/H] and [C/Fe] ({_NUMBERED_CLASSES}); -1 = unknown",
        "",
        "src.class",
    ),
    "feh_class": (
        "string",
        "class by [Fe/H]: EMP (< -3), VMP (< -2), MP (< -1), NMP (not metal-poor)",
        "",
        "src.class",
    ),
    **{
        f"p_feh_{kind.lower()}": (
            "float32",
            f"probability that [Fe/H] < {limit:g}, from its value and error",
            "",
            "stat.probability;phys.abund.Fe",
        )
        for kind, limit in METAL_POOR.items()
    },
    **{
        column: (
            "bool",
            f"metal-poor and carbon-enhanced by labels, criterion {name}",
            "",
            "meta.code.class",
        )
        for name, column in CRITERION_COLUMNS.items()
    },
    "cemp_subclass": (
        "string",
        "subclass of CEMP stars by labels: CEMP-s, CEMP-r, CEMP-r/s, CEMP-no (Beers & Christlieb 2005)",
        "",
        "src.class",
    ),
    "classes_disagree": (
        "bool",
        "the class by probabilities and the class by labels differ",
        "",
        "meta.code.qual",
    ),
    "carbon_residual": (
        "float32",
        "[C/Fe] - ([C/H] - [Fe/H]), which should be 0",
        "dex",
        "phys.abund;arith.diff",
    ),
    "carbon_inconsistent": (
        "bool",
        f"carbon_residual differs from 0 by more than {SIGMAS:g} of its errors and {SLACK:g} dex",
        "",
        "meta.code.qual",
    ),
}


def definitions(criterion: Criterion) -> dict[str, str]:
    """The definition of each class in words."""
    limit = METAL_POOR["MP"]
    by_iron = {kind: f"[Fe/H] < {below:g}" for kind, below in METAL_POOR.items()}
    return by_iron | {
        "CEMP": f"[Fe/H] < {limit:g} and {CRITERION_TEXT[criterion]} (criterion {criterion})",
        "NMP": f"[Fe/H] >= {limit:g}",
    }


def add_criteria(table: pa.Table, criterion: Criterion = "carbon_0.7") -> pa.Table:
    """The table with those columns of `COLUMNS` for which it has the labels.

    The criterion decides the class by labels.
    """
    if criterion not in get_args(Criterion):
        criteria = ", ".join(get_args(Criterion))
        raise ValueError(f"catalog: there is no carbon criterion {criterion!r}; give one of {criteria}")
    for name, values in _columns(table, criterion):
        field = described_field(name, *COLUMNS[name])
        array = values if isinstance(values, pa.Array) else pa.array(values, field.type, from_pandas=True)
        table = table.append_column(field, array)
    return table


def has_labels(criterion: Criterion, names: set[str]) -> bool:
    """Whether these labels include all that a criterion needs in addition to [Fe/H] and [C/Fe]."""
    return set(CRITERION_LABELS[criterion]) <= names


def _columns(table: pa.Table, criterion: Criterion) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    names = set(table.column_names)
    carbon = {name: float_column(table, name) for name in CARBON_LABELS if name in names}
    cfe_N = carbon_to_iron(carbon)
    if "FeH" in names and cfe_N is not None:
        yield from _by_labels(table, cfe_N, criterion)
    if "FeH" in names:
        yield from _iron(table)
    if set(CARBON_LABELS) <= names:
        yield from _consistency(table)


def _by_labels(
    table: pa.Table, cfe_N: Floats, criterion: Criterion
) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    """The class by labels, CEMP by each criterion, its subclass, and whether the two classes differ."""
    feh_N, teff_N, logg_N = (float_column(table, name) for name in ("FeH", "Teff", "logg"))
    class_by = {
        name: classes(feh_N, cfe_N, name, teff_N, logg_N)
        for name in CRITERION_COLUMNS
        if has_labels(name, set(table.column_names))
    }
    if criterion in class_by:
        yield "class_by_labels", class_by[criterion]
    for name, class_N in class_by.items():
        is_cemp = pa.array(class_N == CLASSES.index("CEMP"), mask=class_N == MISSING)
        yield CRITERION_COLUMNS[name], is_cemp
    if criterion not in class_by:
        return
    if {"BaFe", "EuFe"} & set(table.column_names):
        cemp_N = class_by[criterion] == CLASSES.index("CEMP")
        yield "cemp_subclass", _subclass(cemp_N, float_column(table, "BaFe"), float_column(table, "EuFe"))
    if "predicted_class" in table.column_names:
        predicted_N = table["predicted_class"].fill_null(MISSING).to_numpy()
        known_N = (predicted_N != MISSING) & (class_by[criterion] != MISSING)
        yield "classes_disagree", known_N & (predicted_N != class_by[criterion])


def _subclass(cemp_N: Flags, ba_N: Floats, eu_N: Floats) -> pa.Array:
    """The subclass by [Ba/Fe] and [Eu/Fe]; by barium alone if europium is unknown. Null if none applies."""
    ratio_N = np.where(np.isnan(eu_N), np.inf, ba_N - eu_N)
    conditions = {
        "CEMP-s": (ba_N > 1) & (ratio_N > 0.5),
        "CEMP-r": (eu_N > 1) & (ratio_N < 0),
        "CEMP-no": ba_N < 0,
        "CEMP-r/s": (ratio_N >= 0) & (ratio_N <= 0.5),
    }
    subclass_N = np.select(list(conditions.values()), list(conditions), "")
    return pa.array(subclass_N.astype(object), pa.string(), mask=~cemp_N | (subclass_N == ""))


def _iron(table: pa.Table) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    """The class by [Fe/H], and the probability, from its error, that [Fe/H] is below each limit."""
    feh_N, err_N = float_column(table, "FeH"), float_column(table, "FeH_err")
    kinds = sorted(METAL_POOR, key=lambda kind: METAL_POOR[kind])
    class_N = np.select([feh_N < METAL_POOR[kind] for kind in kinds], kinds, "NMP")
    yield "feh_class", pa.array(class_N.astype(object), pa.string(), mask=np.isnan(feh_N))
    if "FeH_err" not in table.column_names:
        return
    for kind, limit in METAL_POOR.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            sigmas_N = (limit - feh_N) / err_N  # an error of 0 is certain, and unknown at the limit itself
        yield f"p_feh_{kind.lower()}", ndtr(sigmas_N)


def _consistency(table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
    """How far [C/Fe] is from [C/H] - [Fe/H], and whether that is too far; an unknown error counts as 0."""
    residual_N = carbon_residual(*(float_column(table, name) for name in CARBON_LABELS))
    errors = [np.nan_to_num(float_column(table, f"{name}_err")) for name in CARBON_LABELS]
    error_N = np.sqrt(sum(error**2 for error in errors))
    yield "carbon_residual", residual_N
    yield "carbon_inconsistent", np.abs(residual_N) > np.maximum(SIGMAS * error_N, SLACK)
