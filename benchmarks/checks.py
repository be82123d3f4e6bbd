"""What it costs to believe a folder: checksums when files are read, fsync when they are written, and a claim.

    python -m benchmarks.checks [shards=24] [rounds=7]

Each pair is measured in turns in one run, and the table shows the median ratio: 1.03 means 3 % more time.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from survey import files
from survey.checked import WrittenFile
from survey.claim import claim
from survey.spectrum import GRIDS
from survey.store.schema import array_column, spectra_schema
from survey.store.store import round_mantissa, to_parquet

ROWS = 1000
GRID = GRIDS["cemp4900"]


def shard(seed: int) -> pa.Buffer:
    """The Parquet file of a shard of noise."""
    rng, schema = np.random.default_rng(seed), spectra_schema(GRID, False)
    pixels = [rng.normal(1, 0.05, (ROWS, len(GRID))).astype(np.float32) for _ in range(2)]
    arrays = {
        "flux": array_column(round_mantissa(pixels[0], 14)),
        "ivar": array_column(round_mantissa(np.abs(pixels[1]), 7)),
    }
    columns = [arrays.get(field.name, pa.nulls(ROWS, field.type)) for field in schema]
    return to_parquet(pa.table(columns, names=schema.names))


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(plain: Callable[[], object], checked: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median time of the plain work, and the median ratio of the two, measured in turns."""
    pairs = [(seconds(plain), seconds(checked)) for _ in range(rounds)]
    return median(first for first, _ in pairs), median(second / first for first, second in pairs)


@dataclass
class Shards:
    """Shards on the disk, their bytes, and what was written down of them."""

    folder: str
    data: list[pa.Buffer]

    @cached_property
    def files(self) -> list[tuple[str, WrittenFile, pa.Buffer]]:
        """Path, size and checksum, and bytes of each."""
        return [
            (f"{self.folder}/part-{number}.parquet", WrittenFile.of(data), data)
            for number, data in enumerate(self.data)
        ]

    def read(self, checks: bool) -> None:
        """Read the pixels of all shards, as a training does."""
        for path, file, _ in self.files:
            data = file.read(path, "") if checks else files.read(path)
            files.parse_table(data, path, ["flux", "ivar"])

    def write(self, durable: bool) -> None:
        """Write all shards."""
        for path, _, data in self.files:
            files.write(path, memoryview(data), durable)

    def verify(self) -> None:
        """Compare all checksums, as a job does that is run again."""
        if not all(file.matches(path) for path, file, _ in self.files):
            raise ValueError("a file has changed meanwhile")

    def claim(self) -> None:
        """Take and release a claim."""
        with claim(f"{self.folder}/claimed", "ingest", "store", {}):
            pass


def main(shards: int = 24, rounds: int = 7) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        work = Shards(folder, [shard(number) for number in range(shards)])
        size = sum(data.size for data in work.data)
        work.write(False)
        print(f"{shards} shards of {ROWS} spectra, {size / 1e6:.0f} MB\n")
        print("| what | seconds | ratio |\n| --- | --- | --- |")
        plain, times = ratio(lambda: work.read(False), lambda: work.read(True), rounds)
        print(f"| read all shards; with checksums | {plain:.2f} | {times:.3f} |")
        plain, times = ratio(lambda: work.write(False), lambda: work.write(True), rounds)
        print(f"| write all shards; with fsync | {plain:.2f} | {times:.2f} |")
        spent = median(seconds(work.verify) for _ in range(rounds))
        print(f"| compare all checksums (`verify=true`), per GB | {spent / size * 1e9:.2f} | |")
        spent = median(seconds(work.claim) for _ in range(rounds))
        print(f"| take and release a claim | {spent:.4f} | |")


if __name__ == "__main__":
    main(**{key: int(value) for key, _, value in (item.partition("=") for item in sys.argv[1:])})
