"""What a star's parameters make of it, beside what the class probabilities say: metal-poor and carbon-enhanced by the named criteria.

Both answers are kept; where they differ the star is marked, and where [C/Fe] = [C/H] - [Fe/H] does not hold too. A column is there only if the
labels that it needs are: nothing is invented. Shapes: N stars.
"""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from survey.catalog.visits import Flags, Floats, numbers
from survey.labels import CLASSES, METAL_POOR, MISSING, Criterion, classes
from survey.predict.output import NUMBERED, Column, described

SHORT: dict[Criterion, str] = {"carbon_0.7": "cemp_07", "carbon_1.0": "cemp_10", "aoki2007": "cemp_aoki"}
"""The column of each criterion."""

ENHANCED: dict[Criterion, str] = {
    "carbon_0.7": "[C/Fe] >= 0.7",
    "carbon_1.0": "[C/Fe] >= 1.0",
    "aoki2007": "[C/Fe] >= 0.7, or 3.0 - log L where log L > 2.3 suns (Aoki et al. 2007)",
}
"""What each criterion asks for."""

SIGMAS, SLACK = 3.0, 0.1
"""[C/Fe] and [C/H] - [Fe/H] that differ by more than so many of their errors, and by more than so many dex, contradict each other."""

COLUMNS: dict[str, Column] = {
    "said_labels": (
        "int8",
        f"number of the class by [Fe/H] and [C/Fe] ({NUMBERED}); -1 = not known",
        "",
        "src.class",
    ),
    "feh_class": ("string", "by [Fe/H]: EMP (< -3), VMP (< -2), MP (< -1), NMP (neither)", "", "src.class"),
    **{
        f"p_feh_{kind.lower()}": (
            "float32",
            f"probability that [Fe/H] < {limit:g}, by its value and error",
            "",
            "stat.probability",
        )
        for kind, limit in METAL_POOR.items()
    },
    **{
        column: (
            "bool",
            f"metal-poor and carbon-enhanced by parameters, criterion {name}",
            "",
            "meta.code.class",
        )
        for name, column in SHORT.items()
    },
    "cemp_subclass": (
        "string",
        "of CEMP stars by parameters: CEMP-s, CEMP-r, CEMP-r/s, CEMP-no (Beers & Christlieb 2005)",
        "",
        "src.class",
    ),
    "classes_disagree": (
        "bool",
        "class by probabilities and class by parameters differ",
        "",
        "meta.code.qual",
    ),
    "identity": ("float32", "[C/Fe] - ([C/H] - [Fe/H]), which ought to be 0", "dex", "phys.abund;arith.diff"),
    "identity_violated": (
        "bool",
        f"it differs from 0 by more than {SIGMAS:g} of its errors and {SLACK:g} dex",
        "",
        "meta.code.qual",
    ),
}


def definitions(criterion: Criterion) -> dict[str, str]:
    """What the classes are, in words."""
    limit = METAL_POOR["MP"]
    told = {kind: f"[Fe/H] < {below:g}" for kind, below in METAL_POOR.items()}
    return told | {
        "CEMP": f"[Fe/H] < {limit:g} and {ENHANCED[criterion]} (criterion {criterion})",
        "NMP": f"[Fe/H] >= {limit:g}",
    }


def judged(table: pa.Table, criterion: Criterion = "carbon_0.7") -> pa.Table:
    """The table with those columns of `COLUMNS` that its labels allow; the criterion decides the class that is compared."""
    if criterion not in get_args(Criterion):
        raise ValueError(
            f"catalog: there is no carbon criterion {criterion!r}; there are {', '.join(get_args(Criterion))}"
        )
    for name, values in _columns(table, criterion):
        field = described(name, COLUMNS[name])
        table = table.append_column(
            field, values if isinstance(values, pa.Array) else pa.array(values, field.type, from_pandas=True)
        )
    return table


def _columns(table: pa.Table, criterion: Criterion) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    there = set(table.column_names)
    cfe_N = _carbon(table)
    if cfe_N is not None:
        yield from _by_labels(table, cfe_N, criterion)
    if "FeH" in there:
        yield from _iron(table)
    if {"CFe", "CH", "FeH"} <= there:
        yield from _identity(table)


def _carbon(table: pa.Table) -> Floats | None:
    """[C/Fe]: its own column, else [C/H] - [Fe/H]; None where it, or [Fe/H], is not told."""
    there = set(table.column_names)
    if not {"FeH"} <= there or not there & {"CFe", "CH"}:
        return None
    return numbers(table, "CFe") if "CFe" in there else numbers(table, "CH") - numbers(table, "FeH")


def _by_labels(
    table: pa.Table, cfe_N: Floats, criterion: Criterion
) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    """The class by parameters, CEMP by every criterion that can be told, the kind of CEMP, and whether it is that of the probabilities."""
    feh_N, teff_N, logg_N = (numbers(table, name) for name in ("FeH", "Teff", "logg"))
    light = {"Teff", "logg"} <= set(table.column_names)
    class_by = {
        name: classes(feh_N, cfe_N, name, teff_N, logg_N) for name in SHORT if light or name != "aoki2007"
    }
    if criterion in class_by:
        yield "said_labels", class_by[criterion]
    for name, class_N in class_by.items():
        yield SHORT[name], pa.array(class_N == CLASSES.index("CEMP"), mask=class_N == MISSING)
    if criterion not in class_by:
        return
    if {"BaFe", "EuFe"} & set(table.column_names):
        yield (
            "cemp_subclass",
            _subclass(
                class_by[criterion] == CLASSES.index("CEMP"), numbers(table, "BaFe"), numbers(table, "EuFe")
            ),
        )
    if "said" in table.column_names:
        said_N = table["said"].fill_null(MISSING).to_numpy()
        known_N = (said_N != MISSING) & (class_by[criterion] != MISSING)
        yield "classes_disagree", known_N & (said_N != class_by[criterion])


def _subclass(cemp_N: Flags, ba_N: Floats, eu_N: Floats) -> pa.Array:
    """By [Ba/Fe] and [Eu/Fe]; where europium is not known, by barium alone. Null where it is none of the kinds."""
    ratio_N = np.where(np.isnan(eu_N), np.inf, ba_N - eu_N)
    kinds = {
        "CEMP-s": (ba_N > 1) & (ratio_N > 0.5),
        "CEMP-r": (eu_N > 1) & (ratio_N < 0),
        "CEMP-no": ba_N < 0,
        "CEMP-r/s": (ratio_N >= 0) & (ratio_N <= 0.5),
    }
    found = np.select(list(kinds.values()), list(kinds), "")
    return pa.array(found.astype(object), pa.string(), mask=~cemp_N | (found == ""))


def _iron(table: pa.Table) -> Iterator[tuple[str, NDArray[Any] | pa.Array]]:
    """The kind of metal-poor star by [Fe/H], and with its error how sure each limit is passed."""
    feh_N, err_N = numbers(table, "FeH"), numbers(table, "FeH_err")
    kinds = sorted(METAL_POOR, key=lambda kind: METAL_POOR[kind])
    found = np.select([feh_N < METAL_POOR[kind] for kind in kinds], kinds, "NMP")
    yield "feh_class", pa.array(found.astype(object), pa.string(), mask=np.isnan(feh_N))
    if "FeH_err" not in table.column_names:
        return
    for kind, limit in METAL_POOR.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            away_N = (limit - feh_N) / err_N  # an error of 0 is sure, and at the limit itself not known
        yield f"p_feh_{kind.lower()}", ndtr(away_N)


def _identity(table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
    """How far [C/Fe] is from [C/H] - [Fe/H], and whether that is too far; an error that is not known counts as 0."""
    residual_N = numbers(table, "CFe") - numbers(table, "CH") + numbers(table, "FeH")
    error_N = np.sqrt(sum(np.nan_to_num(numbers(table, f"{name}_err")) ** 2 for name in ("CFe", "CH", "FeH")))
    yield "identity", residual_N
    yield "identity_violated", np.abs(residual_N) > np.maximum(SIGMAS * error_N, SLACK)
