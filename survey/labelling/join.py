"""Labels joined to a store: a table that somebody made, row by row matched to spectra, with everything that was left out counted.

Nothing is filled in: a missing label is NaN, a missing class -1. Shapes: R rows of the table, G groups of rows with one key, N spectra, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import labels
from survey.labelling import keys, star_id
from survey.labelling.counts import Counts as Counts
from survey.labelling.groups import Groups, grouped
from survey.labelling.rows import Labels as Labels
from survey.labelling.rows import Rows, read_rows
from survey.labelling.rows import present as present
from survey.tables import read

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

ABOUT = ("visit", "obsid", "survey", "layout", "ra", "dec", "snr", "snr_g", "flags")
"""Columns of the store that go with every labelled spectrum."""
BESIDE = ("Teff", "logg", "FeH")
"""What the table says of a star is kept too where it is no wanted label, as `true_Teff` and so on: answers are grouped and drawn by it."""
JOINING = ("path", "row", "visit", "star", "obsid", "ra", "dec")
NUMBERS = ("int", "float", "double")


class Shards(Protocol):
    """What labels can be joined to: a store, or any other folder of tables with its columns of who and where a spectrum is."""

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
    """Spectra of a store that have labels, in the store's order: where each is, whose it is, what is known of it, and what was left out.

    `row` is the place in the shard's table; `given_N` what the user's own column of parts says, None where it says nothing; `about` holds
    the store's columns `ABOUT`, and from the table those of `BESIDE`.
    """

    labels: tuple[str, ...]
    shard: Codes
    row: Codes
    star: NDArray[np.object_]
    label_NL: Floats
    error_NL: Floats
    class_N: NDArray[np.int8]
    given_N: NDArray[np.object_]
    about: pa.Table
    counts: Counts

    def __len__(self) -> int:
        return len(self.row)


@dataclass
class _Spectra:
    """What the store says of its spectra beside their pixels, with the shard and the place in it of each."""

    table: pa.Table
    shard_N: Codes
    row_N: Codes
    columns: list[str]


def join(settings: Labels, store: Shards, wanted: Sequence[str], part_column: str | None = None) -> Labelled:
    """The spectra of a store for which the table has a wanted label or a class; `part_column` says the part of each in a user's own split."""
    names = tuple(dict.fromkeys(labels.label(name).name for name in wanted))
    spectra = _spectra(store, settings)
    counts = Counts(settings.table, store.path, names, spectra=spectra.table.num_rows)
    rows = read_rows(settings, names, part_column, spectra.columns, counts, BESIDE)
    code_R, code_N = _matched(settings, rows, spectra.table, counts)
    keep_N = _kept(rows, spectra.table, counts)
    groups = grouped(names, rows.values, rows.part_R, code_R)
    found_N = _settle(counts, rows, groups, code_R, np.where(keep_N, code_N, -1))
    if not found_N.size:
        raise ValueError(_nothing(settings, rows, spectra.table, counts))
    return _labelled(names, rows, spectra, groups, code_N, found_N, counts)


def _spectra(store: Shards, settings: Labels) -> _Spectra:
    """Only the columns that are needed are read: pixels are a thousand times as much."""
    parts: list[pa.Table] = []
    columns: list[str] = []
    for shard in range(store.shards):
        with read.opened(store.file(shard)) as stream:
            file = pq.ParquetFile(stream)
            columns = [field.name for field in file.schema_arrow if str(field.type).startswith(NUMBERS)]
            names = dict.fromkeys((*JOINING, *ABOUT, *(name for name in settings.where if name in columns)))
            parts.append(file.read(columns=list(names)).replace_schema_metadata())
    sizes = [part.num_rows for part in parts]
    if not sum(sizes):
        raise ValueError(
            f"labels: {store.path}: a store without spectra; look at its refused files and ingest again"
        )
    rows = np.concatenate([np.arange(size) for size in sizes])
    return _Spectra(
        pa.concat_tables(parts).combine_chunks(), np.repeat(np.arange(len(sizes)), sizes), rows, columns
    )


def _matched(settings: Labels, rows: Rows, spectra: pa.Table, counts: Counts) -> keys.Sides:
    """The codes of both sides by the wanted key, or by the best."""
    offers = rows.known.offers()
    if settings.key != "auto" and settings.key not in offers:
        raise ValueError(
            f"labels: {rows.table.path}: no column for join.key={settings.key}; {rows.table.near(settings.key)}; "
            f"give join.columns= (or join.star=), or another key: {', '.join(offers) or 'none is there'}"
        )

    def sides(key: keys.Key) -> keys.Sides:
        code_R, code_N = keys.coded(key, rows.columns, rows.known, spectra)
        kept = np.zeros(code_R.max(initial=-1) + 2, bool)  # the last one: code -1
        kept[code_R[rows.keep_R & (code_R >= 0)]] = True
        return np.where(rows.keep_R, code_R, -1), np.where(kept[code_N], code_N, -1)

    best = keys.chosen(offers if settings.key == "auto" else [settings.key], sides)
    if best is None:
        raise ValueError(_nothing(settings, rows, spectra, counts))
    counts.key = best[0]
    return best[1]


def _kept(rows: Rows, spectra: pa.Table, counts: Counts) -> NDArray[np.bool_]:
    """Spectra within the limits of the store's columns."""
    keep_N = np.ones(spectra.num_rows, bool)
    for name, (low, high) in rows.store_limits.items():
        numbers = keys.degrees(spectra[name].combine_chunks())
        outside = ~((numbers >= low) & (numbers <= high))
        counts.left_out_spectra[f"{name} {low:g} to {high:g}"] = int((keep_N & outside).sum())
        keep_N &= ~outside
    return keep_N


def _settle(counts: Counts, rows: Rows, groups: Groups, code_R: Codes, code_N: Codes) -> Codes:
    """The spectra that get labels; every row and every spectrum is counted once."""
    matched = code_N >= 0
    wanted_G = np.zeros(len(groups.sound_G), bool)
    wanted_G[code_N[matched]] = True
    matched[matched] = groups.sound_G[code_N[matched]]
    counts.refused["no key"] = int((rows.keep_R & (code_R < 0)).sum())
    counts.refused["contradicting"] = int(groups.size_G[~groups.sound_G].sum())
    counts.used = int((groups.sound_G & wanted_G).sum())
    counts.merged = int((groups.size_G - 1)[groups.sound_G & wanted_G].sum())
    counts.unused = int(groups.size_G[groups.sound_G & ~wanted_G].sum())
    counts.matched = int(matched.sum())
    counts.unmatched = counts.spectra - sum(counts.left_out_spectra.values()) - counts.matched
    told = (
        counts.used
        + counts.merged
        + counts.unused
        + sum(counts.refused.values())
        + sum(counts.left_out_rows.values())
    )
    if told != counts.rows:
        raise RuntimeError(
            f"labels: {counts.table}: {counts.rows} rows, {told} accounted for; this is a fault of ours, please report it"
        )
    return np.flatnonzero(matched)


def _labelled(
    names: tuple[str, ...],
    rows: Rows,
    spectra: _Spectra,
    groups: Groups,
    code_N: Codes,
    found_N: Codes,
    counts: Counts,
) -> Labelled:
    chosen, group_N = spectra.table.take(pa.array(found_N)), code_N[found_N]
    columns = {name: chosen[name].combine_chunks() for name in ("star", "visit", "ra", "dec")}
    own = (
        [rows.columns[rows.known.star].combine_chunks().take(pa.array(groups.first_G[group_N]))]
        if rows.known.star
        else []
    )
    star = star_id.identities(
        [*own, columns["star"]], keys.degrees(columns["ra"]), keys.degrees(columns["dec"]), columns["visit"]
    )
    part_N = groups.part_G[group_N]
    counts.tally(
        groups.label_GL[group_N], groups.class_G[group_N], star_id.codes_of(pa.array(star, pa.string()))[0]
    )
    about = chosen.select(ABOUT)
    for name in (name for name in BESIDE if name in rows.values.label and name not in names):
        beside_N = rows.values.label[name][groups.first_G[group_N]]
        about = about.append_column(f"true_{name}", pa.array(beside_N, from_pandas=True))
    return Labelled(
        labels=names,
        shard=spectra.shard_N[found_N],
        row=spectra.row_N[found_N],
        star=star,
        label_NL=groups.label_GL[group_N],
        error_NL=groups.error_GL[group_N],
        class_N=groups.class_G[group_N],
        given_N=rows.part_words.take(pa.array(part_N, mask=part_N < 0))
        .to_numpy(zero_copy_only=False)
        .astype(object),
        about=about,
        counts=counts,
    )


def _nothing(settings: Labels, rows: Rows, spectra: pa.Table, counts: Counts) -> str:
    """The message where no row goes with any spectrum: a few values of either side."""
    offers = rows.known.offers() if settings.key == "auto" else [settings.key]
    sides = [
        f"{key}: {_some(key, rows, None)} in the table, {_some(key, rows, spectra)} in the store"
        for key in offers
    ]
    lost = {**counts.refused, **counts.left_out_rows, **counts.left_out_spectra}
    left = ", ".join(f"{count} {name}" for name, count in lost.items() if count)
    found = "; ".join(sides) or f"the table has no column of a key; {rows.table.near('obsid')}"
    return (
        f"labels: {counts.table}: none of {counts.rows} rows goes with any of {counts.spectra} spectra of {counts.store}; {found}"
        f"{f'; left out before: {left}' if left else ''}; give join.key= and join.columns={{obsid: ...}}, or the store of these stars"
    )


def _some(key: keys.Key, rows: Rows, spectra: pa.Table | None) -> str:
    """Three values of a key on one side."""
    if key == "position":
        ra, dec = (
            (spectra["ra"], spectra["dec"])
            if spectra is not None
            else (rows.columns[rows.known.ra], rows.columns[rows.known.dec])
        )
        return (
            ", ".join(f"({x} {y})" for x, y in zip(ra[:3].to_pylist(), dec[:3].to_pylist(), strict=True))
            or "none"
        )
    words = keys.words(key, rows.columns, rows.known) if spectra is None else keys.store_words(key, spectra)
    return ", ".join(map(str, pc.drop_null(words)[:3].to_pylist())) or "none"


def check(labelled: Labelled, kind: Literal["cls", "reg", "cls_reg"]) -> None:
    """An error where the labels cannot teach the task: a class without a sample, a label without a value."""
    counts = labelled.counts
    absent = [name for name in labels.CLASSES if not counts.per_class[name]]
    if kind != "reg" and absent:
        raise ValueError(
            f"labels: {counts.table}: no spectrum of class {', '.join(absent)} (from {counts.classes_from}: {counts.of_classes()}); "
            f"add such stars, look at join.classes and join.where, or train task=reg"
        )
    empty = [name for name in labelled.labels if counts.missing[name] == len(labelled)]
    if kind != "cls" and (empty or not labelled.labels):
        wrong = ", ".join(
            f"{name} ({counts.out_of_range.get(name, 0)} cells out of its range)" for name in empty
        )
        raise ValueError(
            f"labels: {counts.table}: none of {len(labelled)} spectra has a value for {wrong or 'a label, for none is asked for'}; "
            f"look at join.columns and join.where, or leave it out of the labels"
        )
