"""What one would pick instead, on one core: laspec for files of LAMOST, hats-import for a catalog.

    pip install hats-import                       # into an environment of its own
    python -m benchmarks.peers rows=300000 [scratch=FOLDER]
    pip install laspec joblib scikit-learn matplotlib lmfit emcee 'numpy<2' 'scipy<1.13' 'astropy<7'
    python -m benchmarks.peers files=FOLDER [few=300]

laspec reads a file and divides its flux by a polynomial (`normalize_spectrum_general`); it writes nothing and
measures no quality. It reads one of the layouts: files that it cannot read are counted. hats-import makes a
HATS catalog of made-up rows with as many columns as a prediction has; it combines no visits, tests no list
and flags nothing. Prints ms of CPU per file and per row, all processes together, for benchmarks/RESULTS.md;
`road.py` has ours.
"""

import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = 65
"""Columns of numbers besides the position."""
PARTS = 10


def spent() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def laspec(paths: list[Path]) -> str:
    """Files to normalised spectra."""
    for name, kind in (("int", int), ("bool", bool)):
        setattr(np, name, kind)  # laspec uses these, which numpy has no more
    from laspec.normalization import normalize_spectrum_general
    from laspec.read_spectrum import read_spectrum

    failed, begun, read = Counter[str](), spent(), 0
    for path in paths:
        try:
            table = read_spectrum(str(path))
            wave, flux = (np.asarray(table[name], float) for name in ("wave", "flux"))
            normalize_spectrum_general(wave, flux, norm_type="poly")
            read += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the file cannot be read
            failed[type(error).__name__] += 1
    cost = (spent() - begun) / max(read, 1) * 1e3
    others = ", ".join(f"{count} {name}" for name, count in failed.items()) or "none"
    text = f"{read} files; failed: {others}"
    return f"| laspec {version('laspec')}: file → normalised | {cost:.3f} | {text} |"


def hats_import(rows: int, scratch: Path) -> str:
    """Rows to a HATS catalog."""
    from dask.distributed import Client
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.pipeline import pipeline_with_client

    rng = np.random.default_rng(0)
    (scratch / "rows").mkdir(parents=True)
    for part in range(PARTS):
        count = rows // PARTS
        dec = np.degrees(np.arcsin(rng.uniform(-0.17, 0.95, count)))
        columns = {"ra": rng.uniform(0, 360, count), "dec": dec}
        columns |= {f"c{number}": rng.normal(size=count).astype(np.float32) for number in range(COLUMNS)}
        pd.DataFrame(columns).to_parquet(scratch / "rows" / f"{part}.parquet")
    arguments = ImportArguments(
        output_path=str(scratch),
        output_artifact_name="sky",
        input_path=str(scratch / "rows"),
        file_reader="parquet",
        ra_column="ra",
        dec_column="dec",
        pixel_threshold=1_000_000,
        progress_bar=False,
    )
    begun, clock = spent(), time.perf_counter()
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as client:
        pipeline_with_client(arguments, client)
    cost = (spent() - begun) / rows * 1e3
    text = f"{rows:,} rows, {time.perf_counter() - clock:.0f} s"
    return f"| hats-import {version('hats-import')}: rows → HATS | {cost:.4f} | {text} |"


def main(files: str = "", few: str = "300", rows: str = "0", scratch: str = "") -> None:
    """Print a row for each program that is asked for."""
    warnings.simplefilter("ignore")
    folder = Path(scratch or tempfile.mkdtemp(prefix="survey-peers-"))
    print("| what | ms of CPU per file or row | |\n| --- | --- | --- |")
    if files:
        print(laspec(sorted(Path(files).rglob("*.fits.gz"))[: int(few)]), flush=True)
    if int(rows):
        print(hats_import(int(rows), folder), flush=True)
    if not scratch:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
