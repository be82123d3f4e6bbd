"""Columns of a table of labels -> labels, their errors and classes, in the units and ranges of `survey.labels`.

Shapes: R rows of the table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import labels
from survey.tables import cells
from survey.tables.label_table import LabelTable

Floats = NDArray[np.float64]

IDENTITY = ("CFe", "CH", "FeH")
"""CFe = CH - FeH: any two give the third."""
IDENTITY_HOLDS = 0.05
"""dex by which the identity may be off where all three are given: tables round."""
CLASS_COLUMNS = ("f_CEMP", "class")
"""Where classes are looked for unless a column is named."""


@dataclass
class Values:
    """What a table says of each of its rows: values by label (NaN: nothing of its range), errors, classes, and what had to be done to them."""

    label: dict[str, Floats] = field(default_factory=dict)
    error: dict[str, Floats] = field(default_factory=dict)
    class_R: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    out_of_range: dict[str, int] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    identity_broken: int = 0
    classes_from: str = "none"


def column_of(table: LabelTable, name: str, own: Mapping[str, str]) -> str | None:
    """The column of a label: the user's own, else its name or an alias. Names of two letters in exact case only: Fe is not FE."""
    row = labels.label(name)
    if row.name in own:
        return own[row.name]
    known = (row.name, *row.aliases)
    exact = next((name for name in known if name in table.names), None)
    return exact or next(
        (name for prefix in ("", "combined_") for name in table.names if _means(name, prefix, row)), None
    )


def _means(column: str, prefix: str, row: labels.Label) -> bool:
    """Whether a column's name, with such a prefix, is one of this row in another case, and of no other row."""
    name = column[len(prefix) :]
    if not column.lower().startswith(prefix) or (len(name) <= 2 and name not in (row.name, *row.aliases)):
        return False
    try:
        return labels.label(name) is row
    except ValueError:  # no label of that name, or of two
        return False


def error_column_of(table: LabelTable, name: str, own: Mapping[str, str]) -> str | None:
    """The column of a label's errors, such as e_FeH, feh_err, FEH_ERR, sigma_FeH."""
    row = labels.label(name)
    if f"e_{row.name}" in own:
        return own[f"e_{row.name}"]
    bases = [base for base in (column_of(table, name, own), row.name, *row.aliases) if base]
    return table.has(
        *(
            text
            for base in bases
            for text in (f"e_{base}", f"{base}_err", f"err_{base}", f"{base}_error", f"sigma_{base}")
        )
    )


def with_partners(wanted: Iterable[str], identity: bool) -> list[str]:
    """The labels, and those from which they may be computed."""
    names = list(dict.fromkeys(labels.label(name).name for name in wanted))
    return list(dict.fromkeys([*names, *IDENTITY])) if identity and set(names) & set(IDENTITY) else names


def read_values(
    columns: pa.Table, found: Mapping[str, str], errors: Mapping[str, str], identity: bool
) -> Values:
    """Labels by their columns, errors by theirs, the third of CFe, CH and FeH where two are there."""
    values = Values()
    for name, column in found.items():
        row, cell = labels.label(name), columns[column].combine_chunks()
        numbers = pc.fill_null(cells.numbers(cell), np.nan).to_numpy(zero_copy_only=False)
        values.label[name] = labels.values(row, numbers)
        values.out_of_range[name] = int(given(cell).sum() - np.isfinite(values.label[name]).sum())
        error = (
            columns[errors[name]].combine_chunks() if name in errors else pa.nulls(len(cell), pa.float64())
        )
        sigma = pc.fill_null(cells.numbers(error), np.nan).to_numpy(zero_copy_only=False)
        values.error[name] = np.where(
            (sigma >= 0) & (sigma < row.high - row.low) & np.isfinite(values.label[name]), sigma, np.nan
        )
    if identity and sum(name in values.label for name in IDENTITY) >= 2:
        _complete(values)
    return values


def given(column: pa.Array) -> NDArray[np.bool_]:
    """Where a cell says anything, sense or not."""
    known = column.is_valid()
    if pa.types.is_floating(column.type):
        known = pc.fill_null(pc.and_(known, pc.invert(pc.is_nan(column))), False)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        known = pc.and_(
            known, pc.invert(pc.is_in(pc.utf8_trim_whitespace(column.cast(pa.string())), pa.array(_UNSAID)))
        )
    found: NDArray[np.bool_] = known.to_numpy(zero_copy_only=False).astype(bool)
    return found


_UNSAID = [word for word in cells.MISSING if not word.startswith("-9999")]


def _complete(values: Values) -> None:
    """The one of CFe, CH and FeH that is missing, from the other two; its error from both of theirs."""
    rows = len(next(iter(values.label.values())))
    label = {name: values.label.get(name, np.full(rows, np.nan)) for name in IDENTITY}
    error = {name: values.error.get(name, np.full(rows, np.nan)) for name in IDENTITY}
    cfe, ch, feh = (label[name] for name in IDENTITY)
    values.identity_broken = int((np.abs(cfe - ch + feh) > IDENTITY_HOLDS).sum())
    sums = {"CFe": ch - feh, "CH": cfe + feh, "FeH": ch - cfe}
    for name, numbers in sums.items():
        first, second = (other for other in IDENTITY if other != name)
        filled = labels.values(labels.label(name), np.where(np.isnan(label[name]), numbers, np.nan))
        new = np.isfinite(filled)
        if new.any() or name in values.label:
            values.computed[name] = int(new.sum())
            values.label[name] = np.where(new, filled, label[name])
            values.error[name] = np.where(new, np.hypot(error[first], error[second]), error[name])
            values.out_of_range.setdefault(name, 0)


def class_column(table: LabelTable, classes: str) -> list[str]:
    """The columns that may hold classes: the named one, or in auto those of the usual names."""
    if classes == "none":
        return []
    if classes != "auto":
        if classes not in table.names:
            raise ValueError(
                f"labels: {table.path}: there is no column {classes!r} of classes; {table.near(classes)}; give join.classes="
            )
        return [classes]
    return [name for usual in CLASS_COLUMNS if (name := table.has(usual))]


def put_classes(
    values: Values,
    path: str,
    columns: pa.Table,
    candidates: list[str],
    classes: str,
    criterion: labels.Criterion,
) -> None:
    """Classes from the first column that holds such, else from [Fe/H] and [C/Fe]."""
    values.class_R = np.full(columns.num_rows, labels.MISSING, np.int8)
    for name in candidates:
        numbers, strange = _numbered(columns[name].combine_chunks())
        if not strange and (numbers != labels.MISSING).any():
            values.class_R, values.classes_from = numbers, f"column {name}"
            return
        if classes != "auto":
            found = f"holds {', '.join(map(repr, strange[:5]))}" if strange else "is empty"
            raise ValueError(
                f"labels: {path}: the column {name} {found}; classes are {_NUMBERS} or {', '.join(labels.CLASSES)}; give join.classes="
            )
    if classes != "auto" or not {"FeH", "CFe"} <= set(values.label):
        return
    feh, cfe, teff, logg = (values.label.get(name) for name in ("FeH", "CFe", "Teff", "logg"))
    if feh is None or cfe is None or (criterion == "aoki2007" and (teff is None or logg is None)):
        raise ValueError(
            f"labels: {path}: classes by {criterion} need Teff and logg beside FeH and CFe; give join.criterion=carbon_0.7"
        )
    numbers = labels.classes(feh, cfe, criterion, teff, logg)
    if criterion == "aoki2007" and teff is not None and logg is not None:
        numbers[(numbers == 0) & (np.isnan(teff) | np.isnan(logg))] = labels.MISSING  # its limit is not known
    values.class_R, values.classes_from = numbers, f"FeH and CFe by {criterion}"


_NUMBERS = ", ".join(f"{number} {name}" for number, name in enumerate(labels.CLASSES))


def _numbered(column: pa.Array) -> tuple[NDArray[np.int8], list[str]]:
    """Class numbers of numbers or words, and what is neither."""
    text = pc.utf8_upper(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    text = pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    unsaid = pa.array([*{word.upper() for word in cells.MISSING}, str(labels.MISSING), "UNKNOWN"])
    text = pc.if_else(pc.is_in(text, unsaid), None, text)
    number = pc.coalesce(
        *(
            pc.index_in(text, pa.array(words))
            for words in (labels.CLASSES, [str(n) for n in range(len(labels.CLASSES))])
        )
    )
    strange = pc.unique(text.filter(pc.and_(pc.is_valid(text), pc.is_null(number)))).to_pylist()
    return pc.fill_null(number, labels.MISSING).to_numpy(zero_copy_only=False).astype(np.int8), strange


def is_label(name: str) -> bool:
    """Whether a name is that of a label."""
    try:
        labels.label(name)
    except ValueError:
        return False
    return True
