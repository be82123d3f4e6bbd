"""Columns of a label table as labels, their errors and classes, in the units and ranges of `survey.labels`.

Shapes: R rows of the table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import labels
from survey.labelling.keys import to_floats
from survey.labelling.wrong_units import IDENTITY_TOLERANCE, check_logarithmic, unread_cell
from survey.labels import CARBON_LABELS
from survey.tables import cells
from survey.tables.read import TableFile

Floats = NDArray[np.float64]

CLASS_COLUMNS = ("f_CEMP", "class")
"""The usual names of the column of classes."""

_EMPTY_CELLS = [word for word in cells.MISSING if not word.startswith("-9999")]


@dataclass
class LabelValues:
    """Labels and classes of all rows, and what was changed in reading them.

    `label` and `error` hold an array for each label; NaN = no value inside the range of the label. `unread`
    shows, for each label with such cells, one of them and what may be wrong with it.
    """

    label: dict[str, Floats] = field(default_factory=dict)
    error: dict[str, Floats] = field(default_factory=dict)
    class_R: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    out_of_range: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    identity_broken: int = 0
    classes_from: str = "none"


def is_label(name: str) -> bool:
    """Whether a name is that of a label."""
    try:
        labels.label(name)
    except ValueError:
        return False
    return True


def label_column(table: TableFile, name: str, user_columns: Mapping[str, str]) -> str | None:
    """The column of a label: the user's column, else one with the label's name or an alias.

    A name of two letters must agree in case too: Fe is not FE.
    """
    row = labels.label(name)
    if row.name in user_columns:
        return user_columns[row.name]
    exact = next((known for known in (row.name, *row.aliases) if known in table.names), None)
    if exact:
        return exact
    prefixed = ((column, prefix) for prefix in ("", "combined_") for column in table.names)
    return next((column for column, prefix in prefixed if _is_column_of(column, prefix, row)), None)


def _is_column_of(column: str, prefix: str, row: labels.Label) -> bool:
    """Whether a column's name, without the prefix, means this label and no other, in any case."""
    name = column[len(prefix) :]
    if not column.lower().startswith(prefix) or (len(name) <= 2 and name not in (row.name, *row.aliases)):
        return False
    try:
        return labels.label(name) is row
    except ValueError:  # the name of no label, or of two
        return False


def error_column(table: TableFile, name: str, user_columns: Mapping[str, str]) -> str | None:
    """The column of a label's errors, such as e_FeH, feh_err, FEH_ERR or sigma_FeH."""
    row = labels.label(name)
    if f"e_{row.name}" in user_columns:
        return user_columns[f"e_{row.name}"]
    bases = [base for base in (label_column(table, name, user_columns), row.name, *row.aliases) if base]
    forms = ("e_{}", "{}_err", "err_{}", "{}_error", "sigma_{}")
    return table.find(*(form.format(base) for base in bases for form in forms))


def with_identity_labels(wanted: Iterable[str], identity: bool) -> list[str]:
    """The wanted labels, and the labels that they can be computed from."""
    names = list(dict.fromkeys(labels.label(name).name for name in wanted))
    if identity and set(names) & set(CARBON_LABELS):
        return list(dict.fromkeys([*names, *CARBON_LABELS]))
    return names


def read_values(
    columns: pa.Table, label_columns: Mapping[str, str], error_columns: Mapping[str, str], identity: bool
) -> LabelValues:
    """The labels and errors of these columns; with `identity`, a missing CFe, CH or FeH is computed."""
    values = LabelValues()
    for name, column in label_columns.items():
        row, cell = labels.label(name), columns[column].combine_chunks()
        label_R = labels.values(row, to_floats(cell))
        values.label[name] = label_R
        wrong_R = has_content(cell) & ~np.isfinite(label_R)
        values.out_of_range[name] = int(wrong_R.sum())
        if example := unread_cell(row, column, cell.filter(pa.array(wrong_R))):
            values.unread[name] = example
        sigma_R = np.full(len(cell), np.nan)
        if name in error_columns:
            sigma_R = to_floats(columns[error_columns[name]].combine_chunks())
        is_error_R = (sigma_R >= 0) & (sigma_R < row.high - row.low) & np.isfinite(label_R)
        values.error[name] = np.where(is_error_R, sigma_R, np.nan)
    check_logarithmic(values.label, label_columns)
    if identity and sum(name in values.label for name in CARBON_LABELS) >= 2:
        _complete(values)
    return values


def has_content(column: pa.Array) -> NDArray[np.bool_]:
    """Which cells are not empty, whether they hold a sensible value or not."""
    filled = column.is_valid()
    if pa.types.is_floating(column.type):
        filled = pc.fill_null(pc.and_(filled, pc.invert(pc.is_nan(column))), False)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        filled = pc.and_(filled, pc.invert(pc.is_in(text, pa.array(_EMPTY_CELLS))))
    flags: NDArray[np.bool_] = filled.to_numpy(zero_copy_only=False).astype(bool)
    return flags


def _complete(values: LabelValues) -> None:
    """Computes a missing CFe, CH or FeH from the other two, and its error from their errors."""
    rows = len(next(iter(values.label.values())))
    label = {name: values.label.get(name, np.full(rows, np.nan)) for name in CARBON_LABELS}
    error = {name: values.error.get(name, np.full(rows, np.nan)) for name in CARBON_LABELS}
    residual_R = labels.carbon_residual(label["CFe"], label["CH"], label["FeH"])
    values.identity_broken = int((np.abs(residual_R) > IDENTITY_TOLERANCE).sum())
    for name in CARBON_LABELS:
        first, second = (other for other in CARBON_LABELS if other != name)
        computed_R = np.where(np.isnan(label[name]), labels.carbon_label(name, label), np.nan)
        computed_R = labels.values(labels.label(name), computed_R)
        is_computed_R = np.isfinite(computed_R)
        if is_computed_R.any() or name in values.label:
            values.computed[name] = int(is_computed_R.sum())
            values.label[name] = np.where(is_computed_R, computed_R, label[name])
            error_R = np.hypot(error[first], error[second])
            values.error[name] = np.where(is_computed_R, error_R, error[name])
            values.out_of_range.setdefault(name, 0)


def class_columns(table: TableFile, classes: str) -> list[str]:
    """The columns that may hold classes: the named column, or with `auto` those of the usual names."""
    if classes == "none":
        return []
    if classes != "auto":
        if classes not in table.names:
            raise ValueError(
                f"labels: {table.path}: there is no column {classes!r} of classes; {table.similar(classes)}; "
                "give join.classes="
            )
        return [classes]
    return [column for name in CLASS_COLUMNS if (column := table.find(name))]


def read_classes(
    values: LabelValues,
    path: str,
    columns: pa.Table,
    candidates: Sequence[str],
    classes: str,
    criterion: labels.Criterion,
    names: Sequence[str] = labels.CLASSES,
) -> None:
    """Puts classes into the values: from the first column that holds classes, else from FeH and CFe.

    With the names of other classes than ours, cells with other words have no class.
    """
    is_ours = tuple(names) == labels.CLASSES
    values.class_R = np.full(columns.num_rows, labels.MISSING, np.int8)
    for name in candidates:
        class_R, unknown = _class_numbers(columns[name].combine_chunks(), names)
        if not (unknown and is_ours) and (class_R != labels.MISSING).any():
            values.class_R, values.classes_from = class_R, f"column {name}"
            return
        if classes != "auto":
            content = f"holds {', '.join(map(repr, unknown[:5]))}" if unknown else "is empty"
            numbered = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise ValueError(
                f"labels: {path}: the column {name} {content}; "
                f"classes are {numbered} or {', '.join(names)}; give join.classes= or join.class_names="
            )
    if classes == "auto" and is_ours and {"FeH", "CFe"} <= set(values.label):
        _compute_classes(values, path, criterion)


def _compute_classes(values: LabelValues, path: str, criterion: labels.Criterion) -> None:
    needed = labels.CRITERION_LABELS[criterion]
    if not set(needed) <= set(values.label):
        raise ValueError(
            f"labels: {path}: classes by {criterion} need {' and '.join(needed)} besides FeH and CFe; "
            "give join.criterion=carbon_0.7"
        )
    label = values.label
    class_R = labels.classes(label["FeH"], label["CFe"], criterion, label.get("Teff"), label.get("logg"))
    for name in needed:  # the limit of [C/Fe] depends on it
        class_R[(class_R == 0) & np.isnan(label[name])] = labels.MISSING
    values.class_R, values.classes_from = class_R, f"FeH and CFe by {criterion}"


def _class_numbers(column: pa.Array, names: Sequence[str]) -> tuple[NDArray[np.int8], list[str]]:
    """The classes of a column of numbers or words, and the cells that are neither.

    A word is looked for among the names of classes first: one of them may be "unknown" or "none".
    """
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    text = pc.utf8_upper(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    text = pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    missing = pa.array([*{word.upper() for word in cells.MISSING}, str(labels.MISSING), "UNKNOWN"])
    by_word = pc.index_in(text, pa.array([name.strip().upper() for name in names]))
    by_number = pc.index_in(text, pa.array([str(number) for number in range(len(names))]))
    class_R = pc.coalesce(by_word, by_number)
    is_unknown = pc.and_(pc.is_null(class_R), pc.invert(pc.is_in(text, missing)))
    unknown = pc.unique(text.filter(pc.and_(pc.is_valid(text), is_unknown))).to_pylist()
    return pc.fill_null(class_R, labels.MISSING).to_numpy(zero_copy_only=False).astype(np.int8), unknown
