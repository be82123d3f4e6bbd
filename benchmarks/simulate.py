"""A model of the full survey on 1 to 100 machines: hours, dollars, bytes, and what limits it.

    python benchmarks/simulate.py [n=8000] [scratch=FOLDER] [key=value ...]

The cost of a row in each stage, its bytes, and the work of the driver for a shard are measured here, in some
minutes. What cannot be measured on one machine is assumed, and printed: latency and limits of S3, prices,
networks, losses of spot machines; each of these is a setting (see `Assumed`). What can be tested is tested:
predicted rates of one and two workers beside those of real jobs, by the times of their markers. On a busy
machine the table uses CPU seconds, and the test needs a quiet minute. It prints tables for
benchmarks/RESULTS.md.
"""

import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from survey.catalog.catalog import make_catalog
from survey.catalog.settings import CatalogSettings
from survey.cluster import stream
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.predict import begin, make_spec, shipped_ensemble
from survey.predict.settings import Predict
from survey.predict.worker import Worker
from survey.predict.workers import local_workers
from survey.status.look import look
from survey.store.ingest import ingest, plan_shards
from survey.store.make import make_shard
from survey.store.settings import Ingest

ROOT = Path(__file__).resolve().parents[1]
NODES = (1, 2, 5, 10, 20, 50, 100)
SHARD = 500
"""Rows of a shard in the measurements."""


@dataclass(frozen=True)
class Assumed:
    """What was not measured."""

    rows: int = 11_200_000
    file_kb: float = 45.0
    """Bytes of a gzipped file: 0.5 TB in all."""
    shard: int = 2000
    cpus: int = 16
    """CPUs of a machine, each as fast as one here."""
    node_hour: float = 0.714
    spot_hour: float = 0.30
    get_1000: float = 0.0004
    put_1000: float = 0.005
    latency: float = 0.030
    """Seconds until S3 begins to answer a GET."""
    connection_mb: float = 60.0
    """MB per second of one connection to S3."""
    parallel: int = 32
    """Requests of a worker at a time: as the program sends them."""
    network_gb: float = 0.78
    """GB per second that a machine of 16 CPUs has all the time."""
    s3_gets: float = 5500.0
    s3_puts: float = 3500.0
    prefixes: int = 4
    """Partitions of the bucket, each with the requests per second above."""
    start: float = 240.0
    """Seconds until the machines are there and Ray has started."""
    losses: float = 0.05
    """Share of the spot machines that are taken away in an hour."""
    noticed: float = 30.0
    """Seconds until a lost machine counts as dead; a new one needs `start` too."""


@dataclass(frozen=True)
class Measured:
    """Costs of a stage, measured here. Seconds of a CPU, seconds of the clock, and bytes of a row."""

    cpu: float
    clock: float
    read: float
    written: float
    rows: int


@dataclass(frozen=True)
class Stage:
    """A stage of the model: its measured costs, GET and PUT requests of a shard, and bytes read of a row."""

    name: str
    cost: Measured
    gets: float
    puts: float


def processor_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(work: Callable[[int], Any], shards: Iterable[int], rows: Callable[[int], int]) -> Measured:
    """Costs of a row: the first shard is made before, because it sets up."""
    shards = list(shards)
    work(shards[0])
    cpu, clock = processor_seconds(), time.monotonic()
    for shard in shards:
        work(shard)
    count = sum(map(rows, shards))
    return Measured((processor_seconds() - cpu) / count, (time.monotonic() - clock) / count, 0.0, 0.0, count)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ingest_settings(scratch: Path, name: str) -> Ingest:
    """The ingest of the mock survey."""
    values = {
        "input": str(scratch / "files"),
        "store": str(scratch / name),
        "shard": SHARD,
        "refuse_above": 1.0,
    }
    return Ingest.from_dict("ingest", values)


def predict_settings(scratch: Path, store: str, name: str) -> Predict:
    """The prediction of a store with the shipped ensemble."""
    values = {"store": str(scratch / store), "predictions": str(scratch / name), "threads": 1, "gpu": "never"}
    return Predict.from_dict("predict", values | {"batch": 256, "precision": "float32"})


def measure_ingest(scratch: Path, shards: Iterable[int]) -> Measured:
    """Files -> a store, by one worker."""
    shutil.rmtree(scratch / "part", ignore_errors=True)
    _, spec = plan_shards(ingest_settings(scratch, "part"))
    cost = measure(lambda shard: make_shard(spec, shard), shards, spec.manifest.rows_in)
    written = sum(size_of(scratch / "part" / kind) for kind in ("spectra", "refused", "markers"))
    files = [path.stat().st_size for path in (scratch / "files").rglob("spec-*") if path.is_file()]
    return replace(cost, read=sum(files) / len(files), written=written / cost.rows)


def measure_predict(scratch: Path, shards: Iterable[int]) -> Measured:
    """A store -> predictions, by one worker with one thread."""
    shutil.rmtree(scratch / "answers", ignore_errors=True)
    settings = predict_settings(scratch, "store", "answers")
    begun = begin(settings, shipped_ensemble())
    spec = replace(make_spec(settings, begun, local_workers(1, False)), compares_threads=False)
    cost = measure(Worker(spec, 1, 1, False), shards, begun.inputs.rows_in)
    rows = sum(map(begun.inputs.rows_in, range(begun.inputs.shards)))
    written = sum(size_of(scratch / "answers" / kind) for kind in ("predictions", "markers"))
    return replace(cost, read=size_of(scratch / "store" / "spectra") / rows, written=written / cost.rows)


def measure_catalog(scratch: Path, small: str, large: str) -> Measured:
    """Predictions -> a catalog: what the rows of the large one cost more than those of the small one."""
    seconds: list[tuple[float, float, int, int]] = []
    for name in (small, large):
        catalog = scratch / f"catalog-{name}"
        shutil.rmtree(catalog, ignore_errors=True)
        values = {"predictions": str(scratch / name), "catalog": str(catalog)}
        cpu, clock = processor_seconds(), time.monotonic()
        make_catalog(CatalogSettings.from_dict("catalog", values))
        rows = look(str(scratch / name)).rows["spectra"]
        seconds.append((processor_seconds() - cpu, time.monotonic() - clock, rows, size_of(catalog)))
    (cpu, clock, rows, size), (cpu_2, clock_2, rows_2, size_2) = seconds
    more = rows_2 - rows
    read = size_of(scratch / large / "predictions") / rows_2
    return Measured((cpu_2 - cpu) / more, (clock_2 - clock) / more, read, (size_2 - size) / more, more)


def driver_seconds() -> float:
    """Seconds of the driver for a shard without work: what no number of workers makes faster."""
    run = stream.make_map(2)
    list(run(_nothing, range(32)))
    started = time.monotonic()
    count = sum(1 for _ in run(_nothing, range(1000)))
    return (time.monotonic() - started) / count


def _nothing(shard: int) -> dict[str, Any]:
    return {"shard": shard}


def limits(stage: Stage, nodes: int, driver: float, assumed: Assumed) -> dict[str, float]:
    """Seconds that a stage needs on so many machines if only one resource were limited."""
    workers, shards = nodes * assumed.cpus, math.ceil(assumed.rows / assumed.shard)
    waves = math.ceil(shards / workers)
    gets, puts = stage.gets * shards, stage.puts * shards
    each = assumed.latency + stage.cost.read * assumed.shard / stage.gets / assumed.connection_mb / 1e6
    read = stage.cost.read * assumed.rows / 1e9
    return {
        "CPU": waves * assumed.shard * stage.cost.cpu,
        "latency": waves * stage.gets * each / min(assumed.parallel, stage.gets),
        "network": read / (nodes * assumed.network_gb),
        "S3 requests": gets / (assumed.s3_gets * assumed.prefixes)
        + puts / (assumed.s3_puts * assumed.prefixes),
        "driver": shards * driver,
    }


def spot_seconds(stage: Stage, seconds: float, nodes: int, assumed: Assumed) -> float:
    """Seconds more by losses: half a shard of each worker, and a machine less until another has come."""
    lost = assumed.losses * nodes * seconds / 3600
    each = 0.5 * assumed.shard * stage.cost.cpu + assumed.noticed + assumed.start
    return lost * each / nodes


def simulate(stages: list[Stage], catalog: Measured, nodes: int, driver: float, assumed: Assumed) -> str:
    """A row of the table: the stages one after the other, then the catalog on one machine."""
    cells, seconds, lost = [], assumed.start, 0.0
    dollars = 0.0
    for stage in stages:
        found = limits(stage, nodes, driver, assumed)
        name = max(found, key=lambda key: found[key])
        seconds, lost = seconds + found[name], lost + spot_seconds(stage, found[name], nodes, assumed)
        cells.append(f"{found[name] / 3600:.2f} h ({name})")
        shards = assumed.rows / assumed.shard
        dollars += shards * (stage.gets * assumed.get_1000 + stage.puts * assumed.put_1000) / 1000
    last = catalog.cpu * assumed.rows
    hours, alone = seconds / 3600, last / 3600
    demand = dollars + (nodes * hours + alone) * assumed.node_hour
    spot = dollars + nodes * (hours + lost / 3600) * assumed.spot_hour + alone * assumed.node_hour
    total = hours + alone
    return (
        f"| {nodes} | {' | '.join(cells)} | {alone:.2f} h | {total:.2f} h | {total + lost / 3600:.2f} h "
        f"| {demand:.0f} | {spot:.0f} |"
    )


def real_rate(job: str, folder: Path, workers: int, *arguments: str) -> tuple[float, float]:
    """Rows per second of a real job by the times of its markers, and its seconds with start and end."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments, f"workers={workers}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    state = look(str(folder))
    return (state.rate or 0.0) * state.rows_each, time.monotonic() - started


def checks(scratch: Path, shards: list[int]) -> Iterator[str]:
    """Predicted and real rates of one and two workers. The costs are measured before and after each job."""
    yield "| real job | workers | predicted | real | predicted / real | all of it, with start and end |"
    yield "| --- | --- | --- | --- | --- | --- |"
    sources = {
        "ingest": (
            measure_ingest,
            [f"input={scratch / 'files'}", f"store={scratch / 'real'}", "refuse_above=1.0"],
        ),
        "predict": (
            measure_predict,
            [
                f"store={scratch / 'store'}",
                f"predictions={scratch / 'real'}",
                "threads=1",
                "gpu=never",
                "batch=256",
            ],
        ),
    }
    for job, (cost_of, arguments) in sources.items():
        extra = [f"shard={SHARD}"] if job == "ingest" else ["precision=float32"]
        for workers in (1, 2):
            before = cost_of(scratch, shards).clock
            rate, seconds = real_rate(job, scratch / "real", workers, *arguments, *extra)
            mean = (before + cost_of(scratch, shards).clock) / 2
            predicted = workers / mean
            yield (
                f"| {job} | {workers} | {predicted:,.0f} rows/s | {rate:,.0f} rows/s "
                f"| {predicted / rate:.2f} | {seconds:.1f} s |"
            )


def prepare(scratch: Path, n: int) -> None:
    """A mock survey, its store, and predictions of a part and of all of it."""
    make(Mock(out=str(scratch / "files"), n=n))
    make(Mock(out=str(scratch / "files-small"), n=max(n // 8, 200)))
    ingest(ingest_settings(scratch, "store"))
    small = ingest_settings(scratch, "store-small")
    ingest(small.model_copy(update={"input": str(scratch / "files-small")}))
    from survey.predict.predict import predict

    for store, name in (("store", "predictions"), ("store-small", "predictions-small")):
        predict(predict_settings(scratch, store, name))


def tables(scratch: Path, assumed: Assumed) -> Iterator[str]:
    """The inputs, the model, and its checks."""
    shards = look(str(scratch / "store")).done
    chosen = list(range(0, shards, max(shards // 4, 1)))[:4]
    costs = {
        "ingest": measure_ingest(scratch, chosen),
        "predict": measure_predict(scratch, chosen),
        "catalog": measure_catalog(scratch, "predictions-small", "predictions"),
    }
    driver = driver_seconds()
    yield "| measured here | CPU per row | clock per row | bytes read per row | written per row | rows |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, cost in costs.items():
        times = f"{1000 * cost.cpu:.3f} ms | {1000 * cost.clock:.3f} ms"
        sizes = f"{cost.read / 1000:.1f} kB | {cost.written / 1000:.2f} kB"
        yield f"| {name} | {times} | {sizes} | {cost.rows:,} |"
    yield f"| driver | | {1000 * driver:.1f} ms per shard | | | 1,000 shards |"
    yield "\nassumed: " + ", ".join(f"{name}={value:g}" for name, value in asdict(assumed).items()) + "\n"
    costs["ingest"] = replace(costs["ingest"], read=1000 * assumed.file_kb)
    stages = [
        Stage("ingest", costs["ingest"], gets=assumed.shard + 3, puts=3),
        Stage("predict", costs["predict"], gets=1, puts=2),
    ]
    yield "| machines | ingest (limit) | predict (limit) | catalog | all | all, spot | $ | $, spot |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for nodes in NODES:
        yield simulate(stages, costs["catalog"], nodes, driver, assumed)
    rows = assumed.rows / 1e9
    read = [f"{stage.name} {stage.cost.read * rows:,.0f}" for stage in stages]
    written = [f"{name} {cost.written * rows:,.0f}" for name, cost in costs.items()]
    yield f"\nGB read: {', '.join(read)}; written: {', '.join(written)}.\n"
    yield from checks(scratch, chosen)


def main() -> None:
    """Measure, then print the tables."""
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    n, given = int(arguments.pop("n", 8000)), arguments.pop("scratch", "")
    kinds = {name: type(value) for name, value in asdict(Assumed()).items()}
    assumed = Assumed(**{name: kinds[name](value) for name, value in arguments.items()})
    scratch = Path(given or tempfile.mkdtemp(prefix="survey-bench-"))
    if not (scratch / "predictions" / "predictions.json").exists():
        prepare(scratch, n)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    for row in tables(scratch, assumed):
        print(row, flush=True)
    if not given:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
