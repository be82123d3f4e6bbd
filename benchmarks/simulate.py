"""A model of the full survey on 1 to 100 machines: hours, dollars, bytes, and what limits it.

    python -m benchmarks.simulate [n=32000] [scratch=FOLDER] [key=value ...]

The cost of a row in each stage is measured here, in some minutes: for one process, and for as many as there
are CPUs, beside each other and without Ray (benchmarks/side_by_side.py), because the CPUs of a machine share
caches, memory and perhaps their units. The model takes the second, as all CPUs of a machine work. What Ray
does for a shard is measured with shards of empty work. What cannot be measured on one machine is assumed, and
printed: latency and limits of S3, prices, networks, losses of spot machines; each of these is a setting (see
`Assumed`). What can be tested is tested: predicted rates of one and two workers beside those of real jobs, by
the times of their markers. The test needs a quiet machine. It prints tables for benchmarks/RESULTS.md.
"""

import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import side_by_side
from benchmarks.real_jobs import CPUS, EMPTY_SHARDS, Overhead, overhead, run_job
from benchmarks.side_by_side import SHARD, ingest_settings, predict_settings
from survey.catalog.catalog import make_catalog
from survey.catalog.settings import CatalogSettings
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.status.look import look
from survey.store.ingest import ingest
from survey.store.settings import Ingest

NODES = (1, 2, 5, 10, 20, 50, 100)


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
    """A stage of the model: its measured costs, those of Ray, and the GET and PUT requests of a shard."""

    name: str
    cost: Measured
    ray: Overhead
    gets: float
    puts: float


def processor_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(work: str, scratch: Path, shards: list[int], processes: int) -> Measured:
    """What a row costs while so many processes make shards beside each other."""
    cost = side_by_side.measure(work, scratch, shards, processes)
    store = scratch / "store" / "spectra"
    read = 0.0
    if work == "ingest":
        sizes = [path.stat().st_size for path in (scratch / "files").rglob("spec-*") if path.is_file()]
        read = sum(sizes) / len(sizes)
    elif work == "predict":
        read = size_of(store) / look(str(scratch / "store")).rows["spectra"]
    return Measured(cost.cpu, cost.clock, read, cost.written, cost.rows)


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


def limits(stage: Stage, nodes: int, assumed: Assumed) -> dict[str, float]:
    """Seconds that a stage needs on so many machines if only one resource were limited."""
    workers, shards = nodes * assumed.cpus, math.ceil(assumed.rows / assumed.shard)
    waves = math.ceil(shards / workers)
    gets, puts = stage.gets * shards, stage.puts * shards
    each = assumed.latency + stage.cost.read * assumed.shard / stage.gets / assumed.connection_mb / 1e6
    read = stage.cost.read * assumed.rows / 1e9
    return {
        "CPU": waves * (assumed.shard * stage.cost.cpu + stage.ray.cpu),
        "latency": waves * stage.gets * each / min(assumed.parallel, stage.gets),
        "network": read / (nodes * assumed.network_gb),
        "S3 requests": gets / (assumed.s3_gets * assumed.prefixes)
        + puts / (assumed.s3_puts * assumed.prefixes),
        "driver": shards * stage.ray.clock,
    }


def spot_seconds(stage: Stage, seconds: float, nodes: int, assumed: Assumed) -> float:
    """Seconds more by losses: half a shard of each worker, and a machine less until another has come."""
    lost = assumed.losses * nodes * seconds / 3600
    each = 0.5 * assumed.shard * stage.cost.cpu + assumed.noticed + assumed.start
    return lost * each / nodes


def simulate(stages: list[Stage], catalog: Measured, nodes: int, assumed: Assumed) -> str:
    """A row of the table: the stages one after the other, then the catalog on one machine."""
    cells, seconds, lost = [], assumed.start, 0.0
    dollars = 0.0
    for stage in stages:
        found = limits(stage, nodes, assumed)
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


def predicted_rate(cost: Measured, of_ray: Overhead, workers: int) -> float:
    """Rows per second of so many workers. One needs no Ray; where they have all CPUs, Ray shares these."""
    if workers == 1 or workers < CPUS:
        return workers / cost.clock
    return workers * SHARD / (SHARD * cost.clock + of_ray.cpu) * (1 - of_ray.idle / CPUS)


def checks(scratch: Path, shards: list[int], rays: dict[str, Overhead]) -> Iterator[str]:
    """Predicted and real rates of one and two workers. The costs are measured before and after each job."""
    yield "| real job | workers | predicted | real | predicted / real | CPU of a row | with start and end |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    arguments = {
        "ingest": ingest_settings(scratch, "real"),
        "predict": predict_settings(scratch, "store", "real"),
    }
    for job, settings in arguments.items():
        words = [f"{key}={value}" for key, value in settings.items()]
        for workers in (1, 2):
            before = measure(job, scratch, shards, workers)
            real = run_job(job, scratch / "real", workers, *words)
            after = measure(job, scratch, shards, workers)
            mean = replace(before, clock=(before.clock + after.clock) / 2)
            predicted = predicted_rate(mean, rays[job], workers)
            yield (
                f"| {job} | {workers} | {predicted:,.0f} rows/s | {real.rate:,.0f} rows/s "
                f"| {predicted / real.rate:.2f} | workers {1000 * real.of_workers:.3f} ms, "
                f"rest {1000 * real.of_ray:.3f} ms | {real.seconds:.1f} s |"
            )


def prepare(scratch: Path, n: int) -> None:
    """A mock survey, its store, and predictions of a part and of all of it."""
    make(Mock(out=str(scratch / "files"), n=n))
    make(Mock(out=str(scratch / "files-small"), n=max(n // 8, 200)))
    for name in ("", "-small"):
        settings = ingest_settings(scratch, f"store{name}") | {"input": str(scratch / f"files{name}")}
        ingest(Ingest.from_dict("ingest", settings))
        settings = predict_settings(scratch, f"store{name}", f"predictions{name}")
        predict(Predict.from_dict("predict", settings))


def tables(scratch: Path, assumed: Assumed) -> Iterator[str]:
    """The inputs, the model, and its checks."""
    shards = look(str(scratch / "store")).done
    chosen = list(range(0, shards, max(shards // 8, 1)))[:8]
    yield "| measured here | processes | CPU per row | clock per row | read per row | written | rows |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    costs: dict[str, Measured] = {}
    for work in ("count", "copy", "ingest", "predict"):
        for processes in sorted({1, CPUS}):
            costs[work] = measure(work, scratch, chosen, processes)
            yield row_of(work, processes, costs[work])
    costs["catalog"] = measure_catalog(scratch, "predictions-small", "predictions")
    yield row_of("catalog", 1, costs["catalog"])
    rays = {job: overhead(job) for job in ("ingest", "predict")}
    for job, cost in rays.items():
        yield (
            f"| Ray, {job} | | {1000 * cost.cpu:.1f} ms per shard, {cost.idle:.2f} CPUs without work "
            f"| {1000 * cost.clock:.1f} ms per shard | | | {EMPTY_SHARDS:,} shards |"
        )
    yield "\nassumed: " + ", ".join(f"{name}={value:g}" for name, value in asdict(assumed).items()) + "\n"
    costs["ingest"] = replace(costs["ingest"], read=1000 * assumed.file_kb)
    stages = [
        Stage("ingest", costs["ingest"], rays["ingest"], gets=assumed.shard + 3, puts=3),
        Stage("predict", costs["predict"], rays["predict"], gets=1, puts=2),
    ]
    yield "| machines | ingest (limit) | predict (limit) | catalog | all | all, spot | $ | $, spot |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for nodes in NODES:
        yield simulate(stages, costs["catalog"], nodes, assumed)
    rows = assumed.rows / 1e9
    read = [f"{stage.name} {stage.cost.read * rows:,.0f}" for stage in stages]
    written = [f"{name} {costs[name].written * rows:,.0f}" for name in ("ingest", "predict", "catalog")]
    yield f"\nGB read: {', '.join(read)}; written: {', '.join(written)}.\n"
    yield from checks(scratch, chosen, rays)


def row_of(work: str, processes: int, cost: Measured) -> str:
    """What was measured of some work, as a row of the table."""
    times = f"{1000 * cost.cpu:.3f} ms | {1000 * cost.clock:.3f} ms"
    sizes = f"{cost.read / 1000:.1f} kB | {cost.written / 1000:.2f} kB"
    return f"| {work} | {processes} | {times} | {sizes} | {cost.rows:,} |"


def main() -> None:
    """Measure, then print the tables."""
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    n, given = int(arguments.pop("n", 32000)), arguments.pop("scratch", "")
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
