"""What a table of labels says of each of its rows, and which rows are kept.

Shapes: R rows of the table.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from survey import labels
from survey.labelling import keys, star_id
from survey.labelling import values as label_values
from survey.labelling.counts import Counts
from survey.labelling.keys import KeyColumns
from survey.labelling.values import IDENTITY, Values
from survey.settings import Settings
from survey.tables import cells
from survey.tables.label_table import LabelTable, open_table

Range = Annotated[tuple[float, float], Field(strict=False)]


class Labels(Settings):
    """The table of labels and how it goes with the store."""

    table: str = Field("", description="path of the labels: CSV, Parquet or a FITS table, local or s3://")
    key: Literal["auto", "obsid", "file", "visit", "star", "position"] = Field(
        "auto",
        description="what rows and spectra are matched by; auto = what both sides know and most rows are matched by",
    )
    columns: dict[str, str] = Field(
        {},
        description="own names of columns, {FeH: my_feh, e_FeH: my_err}; also for obsid, file, visit, ra, dec",
    )
    classes: str = Field(
        "auto",
        description="column of classes (0 MP, 1 CEMP, 2 NMP, or words), none, or auto = f_CEMP, class, else by FeH, CFe",
    )
    criterion: labels.Criterion = Field(
        "carbon_0.7", description="when [C/Fe] counts as enhanced, where classes are derived"
    )
    where: dict[str, Range] = Field(
        {}, description="keep only what lies in [low, high]: labels, columns of the store or of the table"
    )
    star: str = Field(
        "auto",
        description="column of the star's id; auto = gaia_source_id, source_id, designation, star ... where there is one",
    )
    identity: bool = Field(
        True, description="compute the one of CFe, CH, FeH that is missing from CFe = CH - FeH"
    )

    @field_validator("where")
    @classmethod
    def _low_to_high(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in value.items():
            if low > high:
                raise ValueError(f"{name}: from {low:g} to {high:g} lies nothing; give [low, high]")
        return value


@dataclass
class Rows:
    """All rows of a table: values, the cells that are needed beside them, the part each is put in by its user (-1: none), and which are kept."""

    table: LabelTable
    known: KeyColumns
    columns: pa.Table
    values: Values
    part_R: NDArray[np.int64]
    part_words: pa.Array
    keep_R: NDArray[np.bool_]
    store_limits: dict[str, tuple[float, float]]
    """limits of columns of the store, not of the table"""


def read_rows(
    settings: Labels,
    names: Sequence[str],
    part_column: str | None,
    store_columns: Sequence[str],
    counts: Counts,
    beside: Sequence[str] = (),
) -> Rows:
    """The rows of the table that the settings name, for these labels; those `beside` are read where they are there, and decide nothing."""
    table = open_table(settings.table)
    own = _own(settings, table)
    known = keys.key_columns(table, own, settings.star)
    candidates = label_values.class_column(table, settings.classes)
    if part_column is not None and part_column not in table.names:
        raise ValueError(
            f"split: {table.path}: there is no column {part_column!r} of parts; {table.near(part_column)}; give split.column="
        )
    found, errors = _label_columns(settings, table, own, names, beside)
    more = [name for name in settings.where if name in table.names]
    columns = table.read(
        [
            *found.values(),
            *errors.values(),
            *candidates,
            *known.names(),
            *more,
            *([part_column] if part_column else []),
        ]
    )
    values = label_values.read_values(columns, found, errors, settings.identity)
    label_values.put_classes(values, table.path, columns, candidates, settings.classes, settings.criterion)
    counts.rows, counts.classes_from, counts.identity_broken = (
        columns.num_rows,
        values.classes_from,
        values.identity_broken,
    )
    counts.out_of_range, counts.computed = dict(values.out_of_range), dict(values.computed)
    parts = (
        cells.text(columns[part_column].combine_chunks())
        if part_column
        else pa.nulls(columns.num_rows, pa.string())
    )
    part_R, part_words = star_id.codes_of(parts)
    made = Rows(table, known, columns, values, part_R, part_words, np.ones(columns.num_rows, bool), {})
    _drop(made, "plan", keys.contradicted(columns, known), counts.refused)
    _limit(made, settings.where, store_columns, counts)
    said = (
        np.any([np.isfinite(values.label[name]) for name in names], axis=0)
        if names
        else np.zeros(columns.num_rows, bool)
    )
    _drop(made, "no label", ~said & (values.class_R == labels.MISSING), counts.refused)
    return made


def present(settings: Labels, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the labels that the table has a column for, or two partners to compute them from."""
    table = open_table(settings.table)
    own = _own(settings, table)
    there = {name for name in (*names, *IDENTITY) if label_values.column_of(table, name, own)}
    return tuple(name for name in names if name in there or _computable(settings, name, there))


def _computable(settings: Labels, name: str, there: Collection[str]) -> bool:
    return settings.identity and name in IDENTITY and set(IDENTITY) - {name} <= set(there)


def _own(settings: Labels, table: LabelTable) -> dict[str, str]:
    """The user's names of columns by the names used here; each is a column of the table."""
    own = {}
    for name, column in settings.columns.items():
        if column not in table.names:
            raise ValueError(
                f"labels: {table.path}: there is no column {column!r} (for {name}); {table.near(column)}; give join.columns="
            )
        prefix, base = ("e_", name[2:]) if name.startswith("e_") else ("", name)
        own[name if name in keys.OWN else prefix + labels.label(base).name] = column
    return own


def _label_columns(
    settings: Labels, table: LabelTable, own: Mapping[str, str], names: Sequence[str], beside: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of all labels that are needed, and of their errors."""
    limits = [name for name in settings.where if label_values.is_label(name)]
    derived = (
        ("FeH", "CFe", *(("Teff", "logg") if settings.criterion == "aoki2007" else ()))
        if settings.classes == "auto"
        else ()
    )
    asked = label_values.with_partners([*names, *limits, *derived], settings.identity)
    asked = list(dict.fromkeys([*asked, *beside]))
    found = {name: column for name in asked if (column := label_values.column_of(table, name, own))}
    errors = {name: column for name in found if (column := label_values.error_column_of(table, name, own))}
    absent = [name for name in names if name not in found and not _computable(settings, name, found)]
    if absent:
        raise ValueError(
            f"labels: {table.path}: no column for {', '.join(absent)}; {table.near(absent[0])}; "
            f"give join.columns={{{absent[0]}: its column}}, or leave it out of the labels"
        )
    return found, errors


def _drop(rows: Rows, reason: str, wrong: NDArray[np.bool_], counted: dict[str, int]) -> None:
    """Rows that are kept no longer, counted once."""
    counted[reason] = int((rows.keep_R & wrong).sum())
    rows.keep_R &= ~wrong


def _limit(
    rows: Rows, where: Mapping[str, tuple[float, float]], store_columns: Sequence[str], counts: Counts
) -> None:
    """Rows outside the limits go; limits of columns of the store are left for its spectra."""
    for name, (low, high) in where.items():
        if label_values.is_label(name) and labels.label(name).name in rows.values.label:
            numbers = rows.values.label[labels.label(name).name]
        elif name in store_columns:
            rows.store_limits[name] = (low, high)
            continue
        elif name in rows.columns.column_names:
            numbers = keys.degrees(rows.columns[name].combine_chunks())
        else:
            raise ValueError(
                f"labels: {rows.table.path}: where: no label or column {name!r} there or in the store; {rows.table.near(name)}"
            )
        _drop(
            rows, f"{name} {low:g} to {high:g}", ~((numbers >= low) & (numbers <= high)), counts.left_out_rows
        )
