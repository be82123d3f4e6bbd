"""Plans a store: lists the input and appends what is new to the manifest as further shards; old shards stay as they are.

Every listed row is new, known already or listed twice; what comes out is the same whether the plan was killed before or not.
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.manifest.changes import Changes, Checksums
from survey.store.manifest.listing import Input, Listing
from survey.store.manifest.manifest import Listed, Manifest, Part, Writer, begun, clear, open_manifest
from survey.store.manifest.row_keys import Known, Seen, keys_of
from survey.tables import read


@dataclass(frozen=True)
class Plan:
    """What a plan found and did: `rows` in `shards` in all, of them `new_rows` from shard `new_first_shard` on.

    `known` rows were in the manifest before, `duplicates` were listed twice, `nameless` catalogue rows say no file, `ignored` files are no
    spectra, `changed` files are others than the manifest says (among `compared` ones), `vanished` rows of this input are listed no more,
    `redo` shards hold changed files and were told to be read again.
    """

    shards: int
    rows: int
    new_rows: int
    new_first_shard: int
    known: int
    duplicates: int
    nameless: int
    ignored: int
    changed: int
    examples: tuple[str, ...]
    compared: int
    vanished: int
    redo: tuple[int, ...]
    seconds: float

    def __str__(self) -> str:
        said = [f"{self.rows:,} rows in {self.shards:,} shards, {self.new_rows:,} of them new"]
        counts = {
            "listed twice": self.duplicates,
            "without a file name": self.nameless,
            "other files ignored": self.ignored,
        }
        said += [
            f"{count:,} {what}" for what, count in (counts | {"vanished": self.vanished}).items() if count
        ]
        if self.known:
            said.append(
                f"{self.changed:,} of {self.compared:,} compared files changed"
                if self.compared
                else f"{self.known:,} known ones not compared"
            )
        if self.redo:
            said.append(f"{len(self.redo):,} shards to read again")
        return ", ".join(said)


def plan(settings: Input, store: str, known_crc: Checksums | None = None) -> Plan:
    """List the input and make or lengthen the manifest of the store; with nothing new the manifest stays untouched."""
    started = time.monotonic()
    old = _begin(settings, read.absolute(store), known_crc)
    before = old.text()
    listing = Listing(settings, old.store)
    changes = Changes(old, settings.compare, settings.reread)
    tally = _Tally(old, listing, changes)
    parts = tally.fill(Writer(old))
    if settings.compare == "hash" and known_crc:
        changes.read_again(np.flatnonzero(tally.known.met), known_crc)
    vanished = _vanished(old, listing.root, tally.known.met)
    righted, redo = changes.put_right()
    new_rows = sum(part.rows for part in parts)
    if new_rows or redo:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        added = (Listed(listing.root, new_rows, old.shards, tally.duplicates, when),) if new_rows else ()
        _commit(replace(righted, parts=righted.parts + parts, inputs=righted.inputs + added), before)
    return Plan(
        shards=old.shards + sum(part.shards for part in parts),
        rows=old.rows + new_rows,
        new_rows=new_rows,
        new_first_shard=old.shards,
        known=tally.again,
        duplicates=tally.duplicates,
        nameless=listing.nameless,
        ignored=listing.ignored,
        changed=changes.count,
        examples=changes.examples,
        compared=changes.compared,
        vanished=vanished,
        redo=redo,
        seconds=time.monotonic() - started,
    )


def _begin(settings: Input, store: str, known_crc: Checksums | None) -> Manifest:
    """The manifest to be lengthened: that of the store, or an empty one."""
    if not begun(store):
        return Manifest(store, settings.shard)
    old = open_manifest(store)
    if old.shard_size != settings.shard:
        raise SettingsError(
            f"ingest: shard: {settings.shard}, but the store {store} is cut into shards of {old.shard_size}; "
            f"give shard={old.shard_size} or another store="
        )
    if settings.compare == "hash" and known_crc is None:
        raise SettingsError(
            f"ingest: compare: hash, but nothing says the checksums of {store}; ingest it first or give compare=time"
        )
    return old


class _Tally:
    """Sorts listed rows into new, known and listed twice."""

    def __init__(self, old: Manifest, listing: Listing, changes: Changes) -> None:
        self._listing, self._changes = listing, changes
        self._seen = Seen()
        self.known = Known(
            np.concatenate(
                [
                    np.empty(0, np.complex128),
                    *(keys_of(old.read(part, ["path", "row"])) for part in old.parts),
                ]
            )
        )
        self.again = self.duplicates = 0

    def fill(self, writer: Writer) -> tuple[Part, ...]:
        """Write the new rows; the parts that hold them."""
        with Progress("manifest", None, "rows") as progress:
            for table in self._listing:
                writer.add(self._new(table))
                progress.add(table.num_rows)
            return writer.close()

    def _new(self, table: pa.Table) -> pa.Table:
        keys = keys_of(table)
        position, newly = self.known.meet(keys)
        unknown = np.flatnonzero(position < 0)
        fresh = unknown[self._seen.fresh(keys[unknown])]
        self.again += int(newly.sum())
        self.duplicates += len(keys) - fresh.size - int(newly.sum())
        if newly.any():
            self._changes.look(table.filter(pa.array(newly)), position[newly])
        return table if fresh.size == len(keys) else table.take(pa.array(fresh))


def _vanished(old: Manifest, root: str, met: np.ndarray) -> int:
    """How many rows that this input once gave it gives no more."""
    return sum(
        int((~met[stretch.start : stretch.stop]).sum())
        for listed, stretch in old.stretches()
        if listed.input == root
    )


def _commit(new: Manifest, before: str) -> None:
    now = open_manifest(new.store).text() if begun(new.store) else Manifest(new.store, new.shard_size).text()
    if now != before:
        raise ValueError(
            f"ingest: {new.store}: another plan has changed the manifest meanwhile; run one at a time, then this one again"
        )
    new.save()
    clear(new, new.parts)
