"""Plans a store: lists the input and appends new rows to the manifest as further shards. Old shards stay.

Every listed row is new, or in the manifest already, or listed twice. A plan that was killed and started again
gives the same manifest.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.messages import counted
from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.manifest.changes import Changes, Checksums
from survey.store.manifest.copies import Copies, find_copies
from survey.store.manifest.forget import beyond_end, never_found, without_rows
from survey.store.manifest.listing import Listing
from survey.store.manifest.manifest import (
    ADVICE,
    ITEM,
    InputRecord,
    Manifest,
    ManifestPart,
    PartWriter,
    has_manifest,
    open_manifest,
    remove_unlisted_parts,
)
from survey.store.manifest.row_keys import KeySet, ListedKeys, keys_of
from survey.store.settings import Input


@dataclass(frozen=True)
class IngestPlan:
    """What a plan found and did: there are `rows` in `shards`, `new_rows` of them in shards of their own.

    `known` rows were in the manifest before, `duplicates` were listed twice, `nameless` rows of a catalogue
    name no file, `ignored` files are no spectra, such as `first_ignored`. `links` go to folders.
    Of `compared` files, `changed` differ from the manifest; `revised` rows have other values in a catalogue.
    `vanished` rows of this input are not listed any more, `forgotten` rows were taken out. `redo` shards hold
    changed files, or had rows that were taken out, and will be read again. `copies` of the new rows are in
    the manifest under another path as well. `rounded_ids` says which ids of stars are not used, and why,
    `unreadable` the same of cells that are no numbers, by the column of the manifest.
    """

    shards: int
    rows: int
    new_rows: int
    known: int
    duplicates: int
    nameless: int
    ignored: int
    changed: int
    examples: tuple[str, ...]
    compared: int
    vanished: int
    forgotten: int
    redo: tuple[int, ...]
    seconds: float
    first_ignored: str = ""
    revised: int = 0
    links: int = 0
    first_link: str = ""
    copies: int = 0
    rounded_ids: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        example = f" (such as {self.first_ignored})" if self.first_ignored else ""
        counts = {
            "copies of files that have another path": self.copies,
            "listed twice": self.duplicates,
            "without a file name": self.nameless,
            f"other files ignored{example}": self.ignored,
            f"links to folders not followed (such as {self.first_link})": self.links,
            "with other values in the catalogue": self.revised,
            "vanished": self.vanished,
            "taken out": self.forgotten,
        }
        new = f", {self.new_rows:,} of them new" if self.new_rows < self.rows else ""
        texts = [f"{self.rows:,} rows in {counted(self.shards, 'shard')}{new}"]
        texts += [f"{count:,} {text}" for text, count in counts.items() if count]
        if self.known and self.compared:
            texts.append(f"{self.changed:,} of {self.compared:,} compared files changed")
        elif self.known:
            texts.append(f"{self.known:,} known files not compared")
        if self.redo:
            texts.append(f"{counted(len(self.redo), 'shard')} to read again")
        notes = filter(None, [self.rounded_ids, *self.unreadable.values()])
        return "; ".join([", ".join(texts), *notes])


def plan(
    settings: Input, store: str, checksums: Checksums | None = None, section: str = "", output: str = "store"
) -> IngestPlan:
    """List the input and make or extend the manifest of the store. Without new rows the manifest stays.

    For another job than the ingest: the section of its settings that these stand in, and its output's key.
    """
    started = time.monotonic()
    old = _old_manifest(settings, files.absolute(store), checksums, (section, output))
    listing = Listing(settings, old.store)
    changes = Changes(old, settings.compare, settings.reread)
    sorter = _RowSorter(old, listing, changes)
    parts = sorter.write_new(PartWriter(old))
    if settings.compare == "hash" and checksums:
        changes.compare_contents(np.flatnonzero(sorter.keys.listed_again), checksums)
    elif settings.reread and checksums:
        changes.compare_unknown(checksums)
    updated, redo = changes.updated_manifest()
    listed = sorter.keys.listed_again
    forgotten = sorter.items_that_are_tables
    if settings.forget == "missing":
        forgotten = np.union1d(forgotten, never_found(old, np.flatnonzero(~listed)))
    if settings.reread or settings.forget == "missing":
        forgotten = np.union1d(forgotten, beyond_end(old, np.flatnonzero(~listed), listing.tables))
    updated, listed[forgotten] = without_rows(updated, forgotten), True
    copies = find_copies(old, parts, checksums)
    _check_copies(settings, old, parts, copies, (section, output))
    vanished = _vanished_rows(old, listing.root, listed)
    redo = tuple(sorted({*redo, *old.shards_of(forgotten).tolist()}))
    new_rows = sum(part.rows for part in parts)
    if new_rows or redo:
        record = InputRecord(listing.root, new_rows, old.shards, sorter.duplicates, folder=listing.folder)
        inputs = updated.inputs + ((record,) if new_rows else ())
        _save(replace(updated, parts=updated.parts + parts, inputs=inputs), old)
    return IngestPlan(
        shards=old.shards + sum(part.shards for part in parts),
        rows=old.rows + new_rows - forgotten.size,
        new_rows=new_rows,
        known=sorter.known,
        duplicates=sorter.duplicates,
        nameless=listing.nameless,
        ignored=listing.ignored,
        changed=changes.count,
        examples=changes.examples,
        compared=changes.compared,
        vanished=vanished,
        forgotten=forgotten.size,
        redo=redo,
        seconds=time.monotonic() - started,
        first_ignored=listing.first_ignored,
        revised=changes.revised,
        links=listing.links,
        first_link=listing.first_link,
        copies=copies.count,
        rounded_ids=listing.rounded_ids,
        unreadable=listing.unreadable,
    )


def _check_copies(
    settings: Input,
    old: Manifest,
    parts: tuple[ManifestPart, ...],
    copies: Copies,
    keys: tuple[str, str],
) -> None:
    """An error if many new rows are copies. Nothing of the plan stays."""
    (section, output), new_rows = keys, sum(part.rows for part in parts)
    if copies.count > settings.copies_above * new_rows:
        remove_unlisted_parts(old)
        raise SettingsError(
            f"ingest: input: {settings.input}: about {copies.count:,} of {new_rows:,} new rows are copies of "
            f"files that {old.store} has under another path ({copies.path} is {copies.old_path}), so spectra "
            f"would be there twice; give input= with the new files only, or another {output}=, or "
            f"{section}copies_above=1 to take them a second time"
        )


def _old_manifest(
    settings: Input, store: str, checksums: Checksums | None, keys: tuple[str, str]
) -> Manifest:
    """The manifest to extend: that of the store, or an empty one."""
    section, output = keys
    if not has_manifest(store):
        if files.names(files.join(store, "markers")):
            raise ValueError(
                f"ingest: {store}: manifest.json is missing, though there are finished shards; {ADVICE}"
            )
        return Manifest(store, settings.shard)
    old = open_manifest(store)
    if old.shard_size != settings.shard:
        raise SettingsError(
            f"ingest: shard: {settings.shard}, but {store} has shards of {old.shard_size}; "
            f"give {section}shard={old.shard_size} or another {output}="
        )
    if settings.compare == "hash" and checksums is None:
        raise SettingsError(
            f"ingest: compare: hash, but there are no checksums of {store}; "
            f"run the job first, or give {section}compare=time"
        )
    return old


class _RowSorter:
    """Sorts listed rows into new ones, known ones, and those listed twice."""

    def __init__(self, old: Manifest, listing: Listing, changes: Changes) -> None:
        self._listing, self._changes = listing, changes
        self._new_keys = KeySet()
        old_keys = (keys_of(old.read(part, ["path", "row"])) for part in old.parts)
        self.keys = ListedKeys(np.concatenate([np.empty(0, np.complex128), *old_keys]))
        self.known = self.duplicates = 0
        self.items_that_are_tables = np.empty(0, np.int64)
        """Rows of the manifest that are a table as one item: it could not be read while it was copied."""

    def write_new(self, writer: PartWriter) -> tuple[ManifestPart, ...]:
        """Write the new rows; the parts that hold them."""
        with Progress("manifest", None, "rows") as progress:
            for table in self._listing:
                writer.add(self._new_rows(table))
                progress.add(table.num_rows)
            return writer.close()

    def _new_rows(self, table: pa.Table) -> pa.Table:
        keys = keys_of(table)
        self._find_items(table)
        old_row, newly_listed = self.keys.look_up(keys)
        unknown = np.flatnonzero(old_row < 0)
        new = unknown[self._new_keys.add(keys[unknown])]
        known = int(newly_listed.sum())
        self.known += known
        self.duplicates += len(keys) - new.size - known
        if known:
            self._changes.compare_listing(table.filter(pa.array(newly_listed)), old_row[newly_listed])
        return table if new.size == len(keys) else table.take(pa.array(new))

    def _find_items(self, table: pa.Table) -> None:
        """Note the rows of the manifest that hold the tables of these rows as one item."""
        if not self.keys.listed_again.size:
            return
        paths = pc.unique(table.filter(pc.greater_equal(table["row"], 0))["path"])
        items = pa.table({"path": paths, "row": pa.repeat(pa.scalar(ITEM, pa.int64()), len(paths))})
        row, is_first = self.keys.look_up(keys_of(items))
        self.items_that_are_tables = np.union1d(self.items_that_are_tables, row[is_first])


def _vanished_rows(old: Manifest, root: str, listed_again: np.ndarray) -> int:
    """How many rows of earlier plans of this input are not listed any more."""
    return sum(
        int((~listed_again[rows.start : rows.stop]).sum())
        for record, rows in old.input_rows()
        if record.input == root
    )


def _save(new: Manifest, old: Manifest) -> None:
    """Make this the manifest, unless a plan of another input has changed it meanwhile."""
    now = open_manifest(new.store) if has_manifest(new.store) else Manifest(new.store, new.shard_size)
    if now == new:
        return
    if now != old:
        raise ValueError(
            f"ingest: {new.store}: another job has changed the manifest meanwhile; "
            "wait until it ends, then run this one again"
        )
    new.save()
    remove_unlisted_parts(new)
