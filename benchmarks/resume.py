"""A restart at 99 %: what it costs to find what is done, beside Ray Data's own checkpoints; and scheduling.

    python -m benchmarks.resume [rows=11200000] [scratch=FOLDER] [parts=ours,ray,schedule]

ours      11.2 million files in a catalogue, 5,600 shards of 2,000, 5,544 of them finished: `survey ingest`
          with empty work, from its call to the first missing shard and to the end. The manifest and the
          markers are written by the project's own code.
ray       the same rows in Ray Data with `CheckpointConfig` (Ray 2.60): 5,544 checkpoint files of 2,000 ids,
          an empty `map_batches`, `write_parquet`. Ids are whole numbers, and paths as in our catalogue.
schedule  seconds for 100 to 10,000 shards of empty work: the map and the actors of survey/cluster, and one
          dataset of Ray Data.

Takes 15 to 70 minutes and 3 GB of scratch space on two cores. Each measurement is a process of its own;
memory is the largest sum over it and all its children (proportional set size). Prints tables for
benchmarks/RESULTS.md.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.checked import WrittenFile
from survey.cluster import stream
from survey.store.ingest import ingest, plan_shards
from survey.store.make import ShardSpec
from survey.store.markers import IngestMarker, shard_file, write_marker
from survey.store.settings import Ingest

ROOT = Path(__file__).resolve().parents[1]
ROWS, SHARD, LEFT = 11_200_000, 2000, 0.01
PART = 64
"""Shards of one file of the input."""
LONGEST = 1200
"""Seconds after which a measurement is given up."""
EMPTY = b"no spectra"


def path_of(number: int) -> str:
    """The path of a file in the catalogue."""
    return f"{number // 5000:05d}/spec-{number:08d}.fits.gz"


def write_input(scratch: Path, rows: int) -> Path:
    """The rows as Parquet files: a number, a path, a position."""
    folder = scratch / "input"
    if not folder.exists():
        folder.mkdir(parents=True)
        for first in range(0, rows, PART * SHARD):
            numbers = np.arange(first, min(first + PART * SHARD, rows))
            paths = [path_of(number) for number in numbers.tolist()]
            table = pa.table({"obsid": numbers, "file": paths, "ra": numbers * 1e-5, "dec": numbers * 1e-6})
            pq.write_table(table, folder / f"part-{first:08d}.parquet", row_group_size=SHARD)
    return folder


def write_catalogue(scratch: Path, rows: int) -> Path:
    """The same rows as one catalogue, as an ingest takes it."""
    path = scratch / "catalogue.parquet"
    if not path.exists():
        parts = sorted(write_input(scratch, rows).iterdir())
        with pq.ParquetWriter(path, pq.read_schema(parts[0])) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))
    return path


def settings_of(scratch: Path, verify: bool) -> Ingest:
    """An ingest of the catalogue."""
    values = {"input": str(scratch / "catalogue.parquet"), "files": str(scratch), "shard": SHARD}
    return Ingest.from_dict("ingest", values | {"store": str(scratch / "store"), "verify": verify})


def make_empty(spec: ShardSpec, shard: int) -> dict[str, Any]:
    """The files and the marker of a shard, without any work."""
    for kind in ("spectra", "refused"):
        files.write(shard_file(spec.store, kind, shard), EMPTY)
    rows, written = spec.manifest.rows_in(shard), WrittenFile.of(EMPTY)
    marker = IngestMarker(
        shard=shard,
        files=rows,
        rows_in=rows,
        written=rows,
        refused={},
        settings=spec.fingerprint,
        version=0,
        spectra=written,
        refused_files=written,
    )
    write_marker(spec.store, marker)
    return marker.model_dump(mode="json")


def prepare_ours(scratch: Path, rows: int) -> None:
    """A store of which 99 % of the shards are finished."""
    write_catalogue(scratch, rows)
    _, spec = plan_shards(settings_of(scratch, True))
    for shard in range(spec.manifest.shards):
        path = shard_file(spec.store, "markers", shard)
        if shard % 100 == 50:
            Path(path).unlink(missing_ok=True)
        elif not Path(path).exists():
            make_empty(spec, shard)


def restart_ours(scratch: Path, verify: bool) -> dict[str, float]:
    """A restart: seconds to the list of the input, to the first missing shard, and to the end."""
    started, first = time.monotonic(), 0.0
    count = 0

    def run(function: Callable[[int], Any], shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        nonlocal first, count
        assert isinstance(function, partial)
        for shard in shards:
            first = first or time.monotonic() - started
            count += 1
            yield make_empty(function.args[0], shard)

    result = ingest(settings_of(scratch, verify), run)
    seconds = {"list": result.plan.seconds, "first": first, "end": time.monotonic() - started}
    return seconds | {"shards": count, "rows": result.document.rows_in}


def prepare_ray(scratch: Path, rows: int, column: str) -> None:
    """Checkpoint files of 99 % of the rows, as Ray Data writes them: a Parquet file of ids for each block."""
    folder = scratch / f"checkpoint-{column}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for shard in range(rows // SHARD):
        if shard % 100 != 50:
            numbers = np.arange(shard * SHARD, (shard + 1) * SHARD)
            ids = pa.array(numbers) if column == "obsid" else [path_of(number) for number in numbers.tolist()]
            pq.write_table(pa.table({column: ids}), folder / f"block-{shard:05d}.parquet")


def restart_ray(scratch: Path, column: str) -> dict[str, float]:
    """A restart of Ray Data from its checkpoints."""
    import ray
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    out = scratch / "ray-out"
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=os.cpu_count())
    connected = time.monotonic() - started
    stream.prepare_context()
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column=column,
        checkpoint_path=str(scratch / f"checkpoint-{column}"),
        delete_checkpoint_on_success=False,
    )
    data = ray.data.read_parquet(str(scratch / "input"), columns=[column])
    data.map_batches(lambda batch: batch, batch_size=None).write_parquet(str(out))
    seconds = time.monotonic() - started
    made = sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet"))
    return {"list": connected, "first": float("nan"), "end": seconds, "shards": float("nan"), "rows": made}


def schedule(shards: int, how: str) -> dict[str, float]:
    """Seconds for so many shards of empty work on two workers, without the start of Ray."""
    import ray

    from survey.cluster import connection
    from survey.cluster.work import make_map, shard_workers

    connection.connect()
    stream.prepare_context()
    warm = list(make_map(2)(_nothing, range(16)))
    started = time.monotonic()
    if how == "map":
        done = sum(1 for _ in make_map(2)(_nothing, range(shards)))
    elif how == "actors":
        done = sum(1 for _ in shard_workers(2, 1, False)(_worker, range(shards)))
    else:
        numbers = ray.data.range(shards, override_num_blocks=shards)
        done = sum(1 for _ in numbers.map_batches(lambda batch: batch, batch_size=None).iter_rows())
    assert len(warm) == 16
    return {"seconds": time.monotonic() - started, "done": done}


def _nothing(shard: int) -> dict[str, Any]:
    return {"shard": shard}


def _worker(threads: Any, cpus: int, gpu: bool) -> Callable[[int], dict[str, Any]]:
    del threads, cpus, gpu
    return _nothing


def measured(*arguments: str) -> tuple[dict[str, float], float]:
    """The result of a measurement in a process of its own, with its CPU seconds; its largest memory in GB."""
    command = [sys.executable, __file__, "measure", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
        family, peak, started = psutil.Process(process.pid), 0, time.monotonic()
        cpu: dict[int, float] = {}
        while process.poll() is None and time.monotonic() - started < LONGEST:
            members = (family, *family.children(recursive=True))
            peak = max(peak, sum(map(_memory, members)))
            cpu |= {member.pid: seconds for member in members if (seconds := _cpu(member))}
            time.sleep(0.3)
        if process.poll() is None:
            for member in (*family.children(recursive=True), family):
                member.kill()
            return {}, peak / 1e9
        out.seek(0)
        lines = [line for line in out.read().splitlines() if line.startswith("{")]
    if not lines or process.returncode:
        return {}, peak / 1e9
    return json.loads(lines[-1]) | {"cpu": sum(cpu.values())}, peak / 1e9


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def rows_restart(scratch: Path, rows: int, parts: list[str]) -> Iterator[str]:
    """The rows of the table of restarts."""
    yield "| restart at 99 % | input listed | first missing shard | end | CPU | memory | rows |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    cases: list[tuple[str, Callable[[], None], tuple[str, ...]]] = []
    if "ours" in parts:
        cases.append(("survey ingest, verify=true", partial(prepare_ours, scratch, rows), ("ours", "true")))
        cases.append(("survey ingest, verify=false", partial(prepare_ours, scratch, rows), ("ours", "false")))
    if "ray" in parts:
        for column, name in (("obsid", "whole numbers"), ("file", "paths")):
            begin = partial(prepare_ray, scratch, rows, column)
            cases.append((f"Ray Data, CheckpointConfig, ids are {name}", begin, ("ray", column)))
    for title, prepare, arguments in cases:
        write_input(scratch, rows)
        prepare()
        result, memory = measured(*arguments, str(scratch))
        if not result:
            yield f"| {title} | | | failed, or not done after {LONGEST} s | | {memory:.2f} GB | |"
            continue
        listed = f"{result['list']:.1f} s" + (" (Ray's start)" if arguments[0] == "ray" else "")
        first = f"{result['first']:.1f} s" if result["first"] == result["first"] else ""
        end = f"{result['end']:.1f} s | {result['cpu']:.0f} s | {memory:.2f} GB | {result['rows']:,.0f}"
        yield f"| {title} | {listed} | {first} | {end} |"


def rows_schedule() -> Iterator[str]:
    """The rows of the table of scheduling."""
    yield "| shards of empty work, 2 workers | map of survey/cluster | actors | one dataset of Ray Data |"
    yield "| --- | --- | --- | --- |"
    for shards in (100, 1000, 5600, 10_000):
        cells = []
        for how in ("map", "actors", "dataset"):
            result, _ = measured("schedule", how, str(shards))
            text = (
                f"{result['seconds']:.1f} s, {1000 * result['seconds'] / shards:.1f} ms each"
                if result
                else "failed"
            )
            cells.append(text)
        yield f"| {shards:,} | {' | '.join(cells)} |"


def measure(arguments: list[str]) -> None:
    """One measurement; its result is a line of JSON."""
    if arguments[0] == "ours":
        result = restart_ours(Path(arguments[2]), arguments[1] == "true")
    elif arguments[0] == "ray":
        result = restart_ray(Path(arguments[2]), arguments[1])
    else:
        result = schedule(int(arguments[2]), arguments[1])
    print(f"\n{json.dumps(result)}")


def main() -> None:
    """The requested parts as tables."""
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
        return
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    rows, parts = int(arguments.get("rows", ROWS)), arguments.get("parts", "ours,ray,schedule").split(",")
    scratch = Path(arguments.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    scratch.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {load:.1f}, {rows:,} rows\n", flush=True
    )
    if {"ours", "ray"} & set(parts):
        for row in rows_restart(scratch, rows, parts):
            print(row, flush=True)
    if "schedule" in parts:
        print()
        for row in rows_schedule():
            print(row, flush=True)
    if "scratch" not in arguments:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
