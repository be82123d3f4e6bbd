"""Survey files -> a store, exactly once.

The manifest fixes which file belongs to which shard. A shard whose marker is there, of these settings and this version of the manifest, is
done; all others are made, by whatever the caller runs them with (`map` in this process, Ray on a cluster). `store.json` comes last.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from survey import __version__, files, plugins
from survey.progress import Progress
from survey.settings import JobError, SettingsError, differences
from survey.store import manifest, markers
from survey.store.make import Making, make_shard, readers
from survey.store.prepare import Prepare
from survey.store.store import SETTINGS, SHARDS, STORE, VERSION, Bits, part
from survey.tables import read

Run = Callable[[Callable[[int], dict[str, Any]], Iterable[int]], Iterator[dict[str, Any]]]
"""Applies a function to items and gives the results as they come, in any order; `map` is one."""


class Ingest(manifest.Input):
    """Settings of the ingest."""

    INERT: ClassVar[frozenset[str]] = manifest.Input.INERT | {"store", "refuse_above", "workers", "preview"}

    store: str = Field(description="folder or s3:// prefix of the store to make or to lengthen")
    sources: tuple[str, ...] = Field(
        ("lamost", "sdss"), strict=False, description="plugins asked in turn who knows a file"
    )
    options: dict[str, dict[str, Any]] = Field(
        {}, description="options of plugins, such as {lamost: {mrs: single}}"
    )
    prepare: Prepare = Field(Prepare(), description="how spectra are brought onto the grid")
    bits: Bits = Field(Bits(), description="how exactly numbers are kept")
    refuse_above: float = Field(
        0.05, ge=0, le=1, description="a larger share of refused files fails the job, after all is written"
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="shards made at a time; null = one per CPU of this machine or cluster; 1 = without Ray",
    )
    preview: int = Field(
        0,
        ge=0,
        le=1000,
        description="so many spectra are drawn, stage by stage, as PNG in the store's preview/",
    )


class RefusalsError(JobError):
    """The store is complete, but more was refused than the settings allow."""


@dataclass(frozen=True)
class Report:
    """What is in the store now, and what this run did."""

    store: str
    files: int
    rows_in: int
    written: int
    refused: dict[str, int]
    shards: int
    made: int
    plan: manifest.Plan

    @property
    def refused_share(self) -> float:
        """Share of the rows that were refused."""
        return sum(self.refused.values()) / max(self.rows_in, 1)


def ingest(settings: Ingest, run: Run = map) -> Report:
    """Make the store, lengthen it, or complete it; a run with nothing left to do does nothing."""
    plan, making = begin(settings)
    done = _markers(making)
    if settings.reread:
        done = {shard: marker for shard, marker in done.items() if not returned(making.store, marker)}
    missing = [shard for shard in range(making.manifest.shards) if shard not in done]
    if missing:
        check_tables(settings, making.manifest.shard(missing[0]))
        _withdraw(making.store, missing)
    for marker in _made(run, making, missing, done):
        done[marker["shard"]] = marker
    if len(done) != making.manifest.shards:
        raise RuntimeError(
            f"ingest: {making.store}: {len(done)} of {making.manifest.shards} shards were made; please report this"
        )
    report = _report(making.store, done, plan, len(missing))
    _finish(making, settings, report, done)
    if report.refused_share > settings.refuse_above:
        raise RefusalsError(_complaint(settings, report))
    return report


def begin(settings: Ingest) -> tuple[manifest.Plan, Making]:
    """Check everything, write the settings, list the input: what comes before the first shard."""
    check_sources(settings)
    settings = settings.model_copy(update={"store": read.absolute(settings.store)})
    _agree(settings)
    plan = manifest.plan(settings, settings.store, partial(_crc, settings.store))
    listed = manifest.open_manifest(settings.store)
    return plan, Making(
        listed.store,
        listed,
        settings.sources,
        settings.options,
        settings.prepare,
        settings.bits,
        settings.fingerprint(),
    )


def check_tables(settings: Ingest, rows: pa.Table) -> None:
    """Tables of spectra that cannot be read as a whole (no grid fits, no flux) end the job before any work."""
    options = readers(settings.sources, settings.options)["arrays"]
    paths = {row["path"] for row in rows.select(["path", "row"]).to_pylist() if row["row"] >= 0}
    for path in sorted(paths):
        with suppress(FileNotFoundError):  # its rows will be refused as missing
            plugins.load("sources", "arrays").count(path, options)


def check_sources(settings: Ingest) -> None:
    """Every source is there and its options are known, before any work."""
    there = plugins.names("sources")
    for name in (*settings.sources, *settings.options):
        if name not in there:
            raise SettingsError(f"ingest: sources: there is no source {name!r}; there are {', '.join(there)}")
    for name, options in settings.options.items():
        plugins.options("sources", name).checked(f"ingest: options.{name}", options)


def _agree(settings: Ingest) -> None:
    """The store is new or was made with the same settings; with others, as long as nothing was made."""
    path, lasting = (
        files.join(settings.store, SETTINGS),
        json.loads(json.dumps(settings.lasting(), default=str)),
    )
    if files.exists(path):
        before = files.read_json(path)
        if before["version"] != VERSION:
            raise SettingsError(
                f"ingest: store: {settings.store}: is of version {before['version']}, this code writes {VERSION}; give another store="
            )
        differing = list(differences(before["settings"], lasting))
        if not differing:
            return
        if files.names(files.join(settings.store, "markers")):
            raise SettingsError(
                f"ingest: store: {settings.store}: was made with other settings: {'; '.join(differing)}; give these again, or another store="
            )
    elif strangers := files.names(settings.store):
        raise SettingsError(
            f"ingest: store: {settings.store}: holds {', '.join(strangers[:3])} but is no store; give an empty or a new folder"
        )
    files.write_json(
        path,
        {"version": VERSION, "code": __version__, "fingerprint": settings.fingerprint(), "settings": lasting},
    )


def _crc(store: str, shard: int) -> pa.Table:
    """What is in the store of a shard's files: path, row, checksum; nothing if the shard is not made yet."""
    tables = []
    for kind in ("spectra", "refused"):
        path = part(store, kind, shard)
        if files.exists(path):
            tables.append(files.read_table(path, ["path", "row", "crc"]).replace_schema_metadata())
    empty = pa.table(
        {"path": pa.array([], "string"), "row": pa.array([], "int64"), "crc": pa.array([], "int64")}
    )
    return pa.concat_tables([empty, *(table.cast(empty.schema) for table in tables)])


def _markers(making: Making) -> dict[int, dict[str, Any]]:
    """Markers of the shards that are done: of these settings and this version of their rows, with both files there in full."""

    def current(marker: dict[str, Any]) -> bool:
        return bool(
            marker["settings"] == making.fingerprint
            and marker["version"] == making.manifest.versions.get(marker["shard"], 0)
        )

    there = markers.whole(making.store, {"spectra": "spectra", "refused": "refused_files"})
    return {
        shard: marker for shard, marker in there.items() if current(marker) and shard < making.manifest.shards
    }


def returned(store: str, marker: dict[str, Any]) -> bool:
    """Whether a shard has files that were missing and are there now."""
    if not marker["refused"].get("missing"):
        return False
    table = files.read_table(part(store, "refused", marker["shard"]), ["path", "reason"])
    return any(row["reason"] == "missing" and files.stat_of(row["path"]) for row in table.to_pylist())


def _withdraw(store: str, missing: list[int]) -> None:
    """A store of which shards are to be made again is not finished until they are."""
    path = files.join(store, STORE)
    if missing and files.exists(path) and missing[0] < files.read_json(path)["shards"]:
        files.remove(path)


def _made(
    run: Run, making: Making, missing: list[int], done: dict[int, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Make the missing shards and say how it goes."""
    refused = sum(sum(marker["refused"].values()) for marker in done.values())
    total = sum(making.manifest.rows_in(shard) for shard in missing)
    if not missing:
        return
    results = run(partial(make_shard, making), missing)
    with Progress("ingest", total, "files") as progress:
        for marker in results:
            refused += sum(marker["refused"].values())
            progress.add(marker["files"], f"{refused:,} refused")
            yield marker


def _report(store: str, done: dict[int, dict[str, Any]], plan: manifest.Plan, made: int) -> Report:
    refused: Counter[str] = Counter()
    for marker in done.values():
        refused.update(marker["refused"])
    rows_in, written = (sum(marker[name] for marker in done.values()) for name in ("rows_in", "written"))
    if rows_in != written + refused.total():
        raise RuntimeError(
            f"ingest: {store}: {rows_in} rows in, {written} written and {refused.total()} refused; please report this"
        )
    counted = dict(sorted(refused.items(), key=lambda item: -item[1]))
    return Report(
        store,
        sum(marker["files"] for marker in done.values()),
        rows_in,
        written,
        counted,
        len(done),
        made,
        plan,
    )


def _finish(making: Making, settings: Ingest, report: Report, done: dict[int, dict[str, Any]]) -> None:
    """Write the table of shards and, last, what the store is."""
    path = files.join(making.store, STORE)
    rows = [done[shard] for shard in sorted(done)]
    digest = hashlib.sha256(making.fingerprint.encode())
    for row in rows:
        digest.update(f"{row['shard']} {row['spectra']['crc']} {row['refused_files']['crc']}\n".encode())
    grid = settings.prepare.points()
    about = {
        "version": VERSION,
        "id": digest.hexdigest()[:16],
        "code": __version__,
        "shards": report.shards,
        "files": report.files,
        "rows_in": report.rows_in,
        "written": report.written,
        "refused": report.refused,
        "grid": {
            "start": grid.start,
            "stop": grid.stop,
            "step": grid.step,
            "scale": grid.scale,
            "points": len(grid),
        },
        "fingerprint": making.fingerprint,
        "settings": settings.lasting(),
    }
    if files.exists(path) and files.read_json(path).get("id") == about["id"]:
        return
    flat = [row | {"refused": json.dumps(row["refused"])} for row in rows]
    files.write_table(files.join(making.store, SHARDS), pa.Table.from_pylist(flat))
    files.write_json(path, about)


def _complaint(settings: Ingest, report: Report) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.refused.items())
    share = report.refused_share
    return (
        f"ingest: {report.store}: the store is complete, but {sum(report.refused.values()):,} of {report.rows_in:,} rows ({share:.1%}) were refused, "
        f"more than refuse_above={settings.refuse_above:g} allows ({reasons}); look into {files.join(report.store, 'refused')}, "
        f"then mend the input or give refuse_above={min(1.0, share * 1.1):.2g}"
    )
