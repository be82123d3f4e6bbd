"""How long a look at a folder takes: `survey status` of a store of 5,600 shards, on a disk and in a bucket.

    python -m benchmarks.status [shards=5600] [bucket=5600] [scratch=FOLDER]

The store is empty work with markers as an ingest writes them. The bucket is that of a server on this machine
(moto), without any latency, so the requests are counted: they decide the time elsewhere. Takes some minutes.
Prints a table for benchmarks/RESULTS.md.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from benchmarks.resume import make_empty, path_of
from survey import files
from survey.status.look import look
from survey.store.ingest import plan_shards
from survey.store.settings import Ingest

ROOT = Path(__file__).resolve().parents[1]
SHARD = 100
RUNS = 5


def make_store(scratch: Path, shards: int, store: str) -> None:
    """A store of which 99 % of the shards are finished."""
    numbers = np.arange(shards * SHARD)
    table = pa.table({"obsid": numbers, "file": [path_of(number) for number in numbers.tolist()]})
    pq.write_table(table, scratch / "catalogue.parquet")
    values = {"input": str(scratch / "catalogue.parquet"), "files": str(scratch), "shard": SHARD}
    _, spec = plan_shards(Ingest.from_dict("ingest", values | {"store": store}))
    for shard in range(shards):
        if shard % 100 != 50:
            make_empty(spec, shard)


def on_disk(scratch: Path, shards: int) -> str:
    """CPU and clock of the command, median of runs."""
    store = scratch / "store"
    make_store(scratch, shards, str(store))
    seconds: list[tuple[float, float]] = []
    for _ in range(RUNS):
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(ROOT / "jobs" / "status.py"), str(store)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seconds.append((cpu, time.monotonic() - started))
    cpu, clock = (statistics.median(values) for values in zip(*seconds, strict=True))
    return f"| a disk, {shards:,} shards | {cpu:.2f} s | {clock:.2f} s | |"


def in_bucket(scratch: Path, shards: int) -> str:
    """Requests of a look at a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.get_host_and_port()[1]}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    files.bucket_system().call_s3("create_bucket", Bucket="sky")
    make_store(scratch, shards, "s3://sky/store")
    sent, call = Counter[str](), S3FileSystem._call_s3

    async def count(self: S3FileSystem, method: str, *rest: Any, **request: Any) -> Any:
        sent[method] += 1
        return await call(self, method, *rest, **request)

    S3FileSystem._call_s3 = count
    started = time.monotonic()
    state = look("s3://sky/store")
    seconds = time.monotonic() - started
    server.stop()
    assert state.done == shards - len(range(50, shards, 100))
    requests = ", ".join(f"{number} {name}" for name, number in sent.most_common())
    return f"| a bucket, {shards:,} shards | | {seconds:.2f} s | {requests} |"


def main() -> None:
    """Both tables."""
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    shards = int(arguments.get("shards", 5600))
    scratch = Path(arguments.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    scratch.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {load:.1f}\n", flush=True)
    print("| survey status of a store on | CPU | clock | requests |\n| --- | --- | --- | --- |")
    print(on_disk(scratch, shards), flush=True)
    print(in_bucket(scratch, int(arguments.get("bucket", shards))), flush=True)
    if "scratch" not in arguments:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
