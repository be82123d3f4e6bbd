"""The rows of a label table: their labels and keys, and which rows are kept. Shapes: R rows of the table."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import labels
from survey.labelling import keys, star_id, values
from survey.labelling.counts import Counts
from survey.labelling.keys import KeyColumns
from survey.labelling.settings import Join, label_or_key
from survey.labelling.values import LabelValues
from survey.labelling.wrong_units import all_positive
from survey.labels import CARBON_LABELS
from survey.tables import cells
from survey.tables.read import TableFile, open_table


@dataclass
class TableRows:
    """All rows of a label table.

    `columns` are the cells that were read, `part_R` the codes of the user's column of parts in `part_words`
    (-1: empty), `keep_R` the rows that are kept, `store_limits` those limits of `where` that are about
    columns of the store.
    """

    table: TableFile
    key_columns: KeyColumns
    columns: pa.Table
    values: LabelValues
    part_R: NDArray[np.int64]
    part_words: pa.Array
    keep_R: NDArray[np.bool_]
    store_limits: dict[str, tuple[float, float]]


def available_labels(settings: Join, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the labels that the table has a column for, or that can be computed from two others."""
    table = open_table(settings.table)
    user_columns = _user_columns(settings, table)
    candidates = (*names, *CARBON_LABELS)
    present = {name for name in candidates if values.label_column(table, name, user_columns)}
    return tuple(name for name in names if name in present or _is_computable(settings, name, present))


def add_columns(settings: Join, names: Iterable[Mapping[str, str]]) -> Join:
    """The settings with more names of columns, as far as the table has them and none is given yet."""
    in_table = open_table(settings.table).names
    given = {label_or_key(name) for name in settings.columns}
    added: dict[str, str] = {}
    for columns in names:
        for name, column in columns.items():
            if column in in_table and label_or_key(name) not in given:
                added.setdefault(label_or_key(name), column)
    return settings.model_copy(update={"columns": settings.columns | added})


def _is_computable(settings: Join, name: str, present: Collection[str]) -> bool:
    return settings.identity and name in CARBON_LABELS and set(CARBON_LABELS) - {name} <= set(present)


def read_rows(
    settings: Join,
    names: Sequence[str],
    part_column: str | None,
    store_columns: Sequence[str],
    counts: Counts,
    extra_labels: Sequence[str] = (),
) -> TableRows:
    """The rows of the table with these labels; extra labels are read where they exist, but decide nothing."""
    table = open_table(settings.table)
    user_columns = _user_columns(settings, table)
    key_columns = keys.key_columns(table, user_columns, settings.star)
    class_columns = values.class_columns(table, settings.classes)
    if part_column is not None and part_column not in table.names:
        raise ValueError(
            f"split: {table.path}: there is no column {part_column!r} of parts; "
            f"{table.similar(part_column)}; give split.column="
        )
    label_columns, error_columns = _label_columns(settings, table, user_columns, names, extra_labels)
    others = [*class_columns, *key_columns.names(), *(name for name in settings.where if name in table.names)]
    if part_column:
        others.append(part_column)
    columns = table.read([*label_columns.values(), *error_columns.values(), *others])
    read = values.read_values(columns, label_columns, error_columns, settings.identity)
    values.read_classes(
        read, table.path, columns, class_columns, settings.classes, settings.criterion, settings.class_names
    )
    counts.rows, counts.classes_from = columns.num_rows, read.classes_from
    counts.identity_broken = read.identity_broken
    counts.out_of_range, counts.computed = dict(read.out_of_range), dict(read.computed)
    counts.unread, counts.all_positive = dict(read.unread), all_positive(read.label)
    parts = pa.nulls(columns.num_rows, pa.string())
    if part_column:
        parts = cells.text(columns[part_column].combine_chunks())
    part_R, part_words = star_id.encode(parts)
    keep_R = np.ones(columns.num_rows, bool)
    rows = TableRows(table, key_columns, columns, read, part_R, part_words, keep_R, {})
    _drop(rows, "plan", keys.file_contradicts_visit(columns, key_columns), counts.refused)
    _apply_limits(rows, settings.where, store_columns, counts)
    _drop(rows, "no label", _is_unlabelled(read, names), counts.refused)
    return rows


def _is_unlabelled(read: LabelValues, names: Sequence[str]) -> NDArray[np.bool_]:
    has_label_R = np.zeros(len(read.class_R), bool)
    for name in names:
        has_label_R |= np.isfinite(read.label[name])
    return np.asarray(~has_label_R & (read.class_R == labels.MISSING))


def _user_columns(settings: Join, table: TableFile) -> dict[str, str]:
    """The columns that the user names, by label or key; each is a column of the table."""
    columns = {}
    for name, column in settings.columns.items():
        if column not in table.names:
            raise ValueError(
                f"labels: {table.path}: there is no column {column!r} (for {name}); {table.similar(column)}; "
                "give join.columns="
            )
        columns[label_or_key(name)] = column
    return columns


def _label_columns(
    settings: Join,
    table: TableFile,
    user_columns: Mapping[str, str],
    names: Sequence[str],
    extra_labels: Sequence[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of all labels that are needed, and the columns of their errors."""
    limited = [name for name in settings.where if values.is_label(name)]
    for_classes: tuple[str, ...] = ()
    if settings.classes == "auto":
        for_classes = ("FeH", "CFe", *labels.CRITERION_LABELS[settings.criterion])
    needed = values.with_identity_labels([*names, *limited, *for_classes], settings.identity)
    needed = list(dict.fromkeys([*needed, *extra_labels]))
    label_columns, error_columns = {}, {}
    for name in needed:
        if column := values.label_column(table, name, user_columns):
            label_columns[name] = column
            if error := values.error_column(table, name, user_columns):
                error_columns[name] = error
    missing = [name for name in names if name not in label_columns]
    missing = [name for name in missing if not _is_computable(settings, name, label_columns)]
    if missing:
        raise ValueError(
            f"labels: {table.path}: there is no column for {', '.join(missing)}; "
            f"{table.similar(missing[0])}; give join.columns={{{missing[0]}: its column}}, "
            "or targets=[...] without it (the recipe stellar needs no carbon)"
        )
    return label_columns, error_columns


def _drop(rows: TableRows, reason: str, wrong_R: NDArray[np.bool_], counted: dict[str, int]) -> None:
    """Drops rows, and counts those that were kept until now."""
    counted[reason] = int((rows.keep_R & wrong_R).sum())
    rows.keep_R &= ~wrong_R


def _apply_limits(
    rows: TableRows, where: Mapping[str, tuple[float, float]], store_columns: Sequence[str], counts: Counts
) -> None:
    """Drops rows outside the limits; limits of columns of the store are kept for its spectra."""
    for name, (low, high) in where.items():
        if values.is_label(name) and labels.label(name).name in rows.values.label:
            numbers_R = rows.values.label[labels.label(name).name]
        elif name in store_columns:
            rows.store_limits[name] = (low, high)
            continue
        elif name in rows.columns.column_names:
            numbers_R = keys.to_floats(rows.columns[name].combine_chunks())
        else:
            raise ValueError(
                f"labels: {rows.table.path}: where: no label and no column {name!r} in the table or "
                f"the store; {rows.table.similar(name)}; give the name of one of these"
            )
        outside_R = ~((numbers_R >= low) & (numbers_R <= high))
        _drop(rows, f"{name} {low:g} to {high:g}", outside_R, counts.left_out_rows)
