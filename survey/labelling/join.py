"""A label table joined to a store: rows are matched to spectra, and everything left out is counted.

Nothing is filled in: a missing label is NaN, a missing class is -1.
Shapes: R rows of the table, G groups of rows with one key, N spectra, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files, labels
from survey.labelling import keys, star_id
from survey.labelling.counts import Counts
from survey.labelling.match import (
    Groups,
    Match,
    add_match,
    best_match,
    group_rows,
    match_by,
    match_by_row,
)
from survey.labelling.no_match import no_match_message
from survey.labelling.rows import TableRows, read_rows
from survey.labelling.settings import Join, Key
from survey.labelling.shared_names import NAME_KEYS, has_unclear_name
from survey.labelling.star_id import Codes, Floats
from survey.labelling.visit_names import FOLDER, visits_of_files, with_folders

READ_COLUMNS = ("visit", "obsid", "survey", "layout", "ra", "dec", "snr", "snr_g", "flags")
STORE_COLUMNS = (*READ_COLUMNS, FOLDER)
"""Columns of the store that are kept with every labelled spectrum, and the folder after which it is named."""

EXTRA_LABELS = ("Teff", "logg", "FeH")
"""Labels that are kept as `true_Teff` and so on even if they are not wanted: reports group by them."""

KEYS: tuple[Key, ...] = ("obsid", "file", "visit", "star", "position")
"""All keys, the most exact ones first."""

KEY_COLUMNS = ("path", "row", "visit", "star", "obsid", "ra", "dec")
NUMBER_TYPES = ("int", "float", "double")


class Shards(Protocol):
    """What labels can be joined to: a store, or another folder of tables that has its identity columns."""

    @property
    def path(self) -> str:
        """The folder."""

    @property
    def shards(self) -> int:
        """Number of tables."""

    def file(self, shard: int) -> str:
        """The path of a table."""


@dataclass
class Labelled:
    """The spectra of a store that have labels, in the order of the store, and the counts of the join.

    `user_part_N` holds the words of the user's column of parts, None for an empty cell. `extra` holds
    the columns `STORE_COLUMNS` of the store and the labels `EXTRA_LABELS` of the table.
    """

    labels: tuple[str, ...]
    shard_N: Codes
    row_in_shard_N: Codes
    star_N: NDArray[np.object_]
    label_NL: Floats
    error_NL: Floats
    class_N: NDArray[np.int8]
    user_part_N: NDArray[np.object_]
    extra: pa.Table
    counts: Counts

    def __len__(self) -> int:
        return len(self.row_in_shard_N)


@dataclass
class StoreRows:
    """All spectra of a store without their pixels, and the columns of numbers that the store has."""

    table: pa.Table
    shard_N: Codes
    row_in_shard_N: Codes
    number_columns: list[str]


def join(settings: Join, store: Shards, wanted: Sequence[str], part_column: str | None = None) -> Labelled:
    """The spectra of a store for which the table has a wanted label or a class.

    `part_column` is the column of a user's own split.
    """
    names = tuple(dict.fromkeys(labels.label(name).name for name in wanted))
    spectra = read_store_rows(store, settings)
    counts = Counts(
        settings.table, store.path, names, spectra=spectra.table.num_rows, class_names=settings.class_names
    )
    rows = read_rows(settings, names, part_column, spectra.number_columns, counts, EXTRA_LABELS)
    match = _match(settings, rows, spectra.table, counts)
    no_code_R = rows.keep_R & (match.code_R < 0)
    if set(NAME_KEYS) & {counts.key, *counts.by_other_keys} and no_code_R.any():
        unclear_R = has_unclear_name(rows.columns, rows.key_columns, spectra.table)
        counts.refused["same name"] = int((unclear_R & no_code_R).sum())
    keep_N = _inside_limits(rows, spectra.table, counts)
    groups = group_rows(names, rows.values, rows.part_R, match.code_R)
    chosen = _choose(counts, rows, groups, Match(match.code_R, np.where(keep_N, match.code_N, -1)))
    if not chosen.size:
        raise ValueError(no_match_message(settings, rows, spectra.table, counts))
    return _labelled(names, rows, spectra, groups, match.code_N[chosen], chosen, counts)


def read_store_rows(store: Shards, settings: Join) -> StoreRows:
    """All spectra of a store; only the columns that are needed: pixels are a thousand times as large."""
    tables: list[pa.Table] = []
    number_columns: list[str] = []
    for shard in range(store.shards):
        with files.open_file(store.file(shard)) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            fields = file.schema_arrow
            number_columns = [field.name for field in fields if str(field.type).startswith(NUMBER_TYPES)]
            limited = (name for name in settings.where if name in number_columns)
            names = dict.fromkeys((*KEY_COLUMNS, *READ_COLUMNS, *limited))
            tables.append(file.read(columns=list(names), use_threads=False).replace_schema_metadata())
    sizes = [table.num_rows for table in tables]
    if not sum(sizes):
        raise ValueError(
            f"labels: {store.path}: the store has no spectra; look at its refused files and ingest again"
        )
    return StoreRows(
        pa.concat_tables(tables).combine_chunks(),
        shard_N=np.repeat(np.arange(len(sizes)), sizes),
        row_in_shard_N=np.concatenate([np.arange(size) for size in sizes]),
        number_columns=number_columns,
    )


def _match(settings: Join, rows: TableRows, spectra: pa.Table, counts: Counts) -> Match:
    """The match by the key of the settings, or by the best key; without one, by the row of a file."""
    offered = rows.key_columns.keys()
    if settings.key != "auto" and settings.key not in offered:
        raise ValueError(
            f"labels: {rows.table.path}: there is no column for join.key={settings.key}; "
            f"{rows.table.similar(settings.key)}; give join.columns= (or join.star=), "
            f"or another key: {', '.join(offered) or 'there is none'}"
        )

    def match(key: Key, free_R: NDArray[np.bool_] | None = None) -> Match:
        keep_R = rows.keep_R if free_R is None else rows.keep_R & free_R
        return match_by(key, rows.columns, rows.key_columns, spectra, keep_R)

    best = best_match(offered if settings.key == "auto" else [settings.key], match)
    if best is None and settings.key == "auto":
        table = files.absolute(rows.table.path)
        if by_row := match_by_row(table, bool(offered), spectra, rows.keep_R):
            counts.key = "row"
            return by_row
    if best is None:
        raise ValueError(no_match_message(settings, rows, spectra, counts))
    counts.key = best[0]
    if settings.key == "auto":
        return _match_rest(best, offered, match, spectra, counts)
    counts.without_key = int(_without_key(best[0], spectra, best[1]).sum())
    others = [key for key in offered if key in KEYS[KEYS.index(best[0]) + 1 :]]
    counts.key_advice = f" (join.key=auto matches them by {' or '.join(others)})" if others else ""
    return best[1]


def _match_rest(
    best: tuple[Key, Match],
    offered: Sequence[Key],
    match: Callable[[Key, NDArray[np.bool_]], Match],
    spectra: pa.Table,
    counts: Counts,
) -> Match:
    """The match by the best key, and for spectra that lack this key by the next keys.

    Only rows without a spectrum are used: an exact key counts before one that is less exact.
    """
    key, found = best
    for next_key in KEYS[KEYS.index(key) + 1 :]:
        lacking_N = _without_key(key, spectra, found)
        if next_key not in offered or not lacking_N.any():
            continue
        added = add_match(found, match(next_key, ~found.are_matched()), lacking_N)
        if count := int((lacking_N & (added.code_N >= 0)).sum()):
            counts.by_other_keys[next_key] = count
            found = added
    counts.without_key = int(_without_key(key, spectra, found).sum())
    return found


def _without_key(key: Key, spectra: pa.Table, found: Match) -> NDArray[np.bool_]:
    """Which spectra have no value of a key, and are not matched."""
    if key == "position":
        return np.zeros(spectra.num_rows, bool)
    no_value_N: NDArray[np.bool_] = keys.store_keys(key, spectra).is_null().to_numpy(zero_copy_only=False)
    return no_value_N & (found.code_N < 0)


def _inside_limits(rows: TableRows, spectra: pa.Table, counts: Counts) -> NDArray[np.bool_]:
    """Which spectra are inside the limits of the store's columns."""
    keep_N = np.ones(spectra.num_rows, bool)
    for name, (low, high) in rows.store_limits.items():
        numbers_N = keys.to_floats(spectra[name].combine_chunks())
        outside_N = ~((numbers_N >= low) & (numbers_N <= high))
        counts.left_out_spectra[f"{name} {low:g} to {high:g}"] = int((keep_N & outside_N).sum())
        keep_N &= ~outside_N
    return keep_N


def _choose(counts: Counts, rows: TableRows, groups: Groups, match: Match) -> Codes:
    """The indices of the spectra that get labels; counts every row and every spectrum once."""
    is_matched_N = match.code_N >= 0
    has_spectrum_G = np.zeros(len(groups.consistent_G), bool)
    has_spectrum_G[match.code_N[is_matched_N]] = True
    is_matched_N[is_matched_N] = groups.consistent_G[match.code_N[is_matched_N]]
    used_G = groups.consistent_G & has_spectrum_G
    no_key = int((rows.keep_R & (match.code_R < 0)).sum())
    counts.refused["no key"] = no_key - counts.refused.get("same name", 0)
    counts.refused["contradicting"] = int(groups.rows_G[~groups.consistent_G].sum())
    counts.used = int(used_G.sum())
    counts.merged = int((groups.rows_G - 1)[used_G].sum())
    counts.unused = int(groups.rows_G[groups.consistent_G & ~has_spectrum_G].sum())
    counts.matched = int(is_matched_N.sum())
    counts.unmatched = counts.spectra - sum(counts.left_out_spectra.values()) - counts.matched
    counts.check_rows()
    return np.flatnonzero(is_matched_N)


def _labelled(
    names: tuple[str, ...],
    rows: TableRows,
    spectra: StoreRows,
    groups: Groups,
    group_N: Codes,
    chosen: Codes,
    counts: Counts,
) -> Labelled:
    table = spectra.table.take(pa.array(chosen))
    first_row_N = groups.first_row_G[group_N]
    visits = visits_of_files(spectra.table).take(pa.array(chosen))
    star_N = _stars(rows, table, first_row_N, visits)
    label_NL, class_N, part_N = groups.label_GL[group_N], groups.class_G[group_N], groups.part_G[group_N]
    counts.add_spectra(label_NL, class_N, star_id.encode(pa.array(star_N, pa.string()))[0])
    extra = with_folders(table).select(STORE_COLUMNS)
    for name in EXTRA_LABELS:
        if name in rows.values.label and name not in names:
            label_N = rows.values.label[name][first_row_N]
            extra = extra.append_column(f"true_{name}", pa.array(label_N, from_pandas=True))
    words = rows.part_words.take(pa.array(part_N, mask=part_N < 0))
    return Labelled(
        labels=names,
        shard_N=spectra.shard_N[chosen],
        row_in_shard_N=spectra.row_in_shard_N[chosen],
        star_N=star_N,
        label_NL=label_NL,
        error_NL=groups.error_GL[group_N],
        class_N=class_N,
        user_part_N=words.to_numpy(zero_copy_only=False).astype(object),
        extra=extra,
        counts=counts,
    )


def _stars(rows: TableRows, spectra: pa.Table, first_row_N: Codes, visits: pa.Array) -> NDArray[np.object_]:
    """The star of each spectrum, by the id in the label table first, then by the store."""
    ids = [spectra["star"].combine_chunks()]
    if rows.key_columns.star:
        ids.insert(0, rows.columns[rows.key_columns.star].combine_chunks().take(pa.array(first_row_N)))
    ra_N, dec_N = (keys.to_floats(spectra[name].combine_chunks()) for name in ("ra", "dec"))
    return star_id.identify(ids, ra_N, dec_N, visits)


def has_classes(labelled: Labelled) -> bool:
    """Whether any spectrum has a class."""
    return any(labelled.counts.per_class[name] for name in labelled.counts.class_names)


def check_task(labelled: Labelled, kind: Literal["cls", "reg", "cls_reg"]) -> None:
    """Refuses labels that cannot train the task: a class without a spectrum, a label without a value."""
    counts = labelled.counts
    absent = [name for name in counts.class_names if not counts.per_class[name]]
    if kind != "reg" and absent:
        raise ValueError(
            f"labels: {counts.table}: no spectrum of class {', '.join(absent)} "
            f"(from {counts.classes_from}: {counts.classes_text()}); "
            "add such stars, check join.classes and join.where, or train task=reg"
        )
    empty = [name for name in labelled.labels if counts.missing[name] == len(labelled)]
    if kind != "cls" and (empty or not labelled.labels):
        cells = [_unread_text(counts, name) for name in empty]
        raise ValueError(
            f"labels: {counts.table}: none of {len(labelled)} spectra has a value for "
            f"{', '.join(cells) or 'a label, and no label is wanted'}; "
            "check join.columns and join.where, or leave it out of the labels"
        )


def _unread_text(counts: Counts, name: str) -> str:
    """How many cells hold no value of a label, and one of them."""
    example = f", such as {counts.unread[name]}" if name in counts.unread else ""
    return f"{name} ({counts.out_of_range.get(name, 0)} cells out of its range{example})"
