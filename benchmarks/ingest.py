"""Speed and memory of the ingest, compared with gunzip, an obvious loop and a plain process pool.

    python -m benchmarks.ingest [n=100000] [scratch=FOLDER] [parts=cpu,loops,ray,memory,plan]

`loops` compares the preparation by compiled loops with the same by torch, per spectrum. All parts take about
20 minutes and 12 GB of scratch space for n=100000 on two cores. Prints a table for benchmarks/RESULTS.md.
"""

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from astropy.io import fits
from isal import isal_zlib
from scipy.signal import medfilt
from threadpoolctl import threadpool_limits

from survey.cluster.work import make_map
from survey.machine import settle
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.sources import reading
from survey.sources.lamost import CARDS
from survey.spectrum import Spectrum
from survey.store.ingest import ingest, plan_shards
from survey.store.make import SLICE, make_shard
from survey.store.prepare import Preparer
from survey.store.settings import Ingest, Prepare

ROOT = Path(__file__).resolve().parents[1]
DR8 = 11_214_076


def ingest_settings(files: Path | str, store: Path, **changes: Any) -> Ingest:
    """The preparation of the recipe cemp, for a new store."""
    shutil.rmtree(store, ignore_errors=True)
    return Ingest(input=str(files), store=str(store), refuse_above=1.0, **changes)


def gunzip(paths: list[Path]) -> None:
    """(a) The lower limit: read and unpack."""
    for path in paths:
        isal_zlib.decompress(path.read_bytes(), 31)


def obvious(paths: list[Path]) -> None:
    """(b) The obvious loop: astropy, header cards, rest frame, the grid, the arithmetic of system 0.

    Nothing is written.
    """
    grid = np.arange(3900.0, 8800.0)
    x = np.log10(grid)
    x = (x - x.mean()) / x.std()
    for path in paths:
        with fits.open(path) as hdus:
            header = hdus[0].header
            values = {card: header.get(card) for names in CARDS.values() for card in names}
            if header["NAXIS"] == 2:
                flux, ivar, wave, mask = (np.array(hdus[0].data[row], float) for row in range(4))
            else:
                flux, ivar, wave, mask = (
                    np.array(hdus[1].data[name][0], float)
                    for name in ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK")
                )
        if wave[0] < 3000:
            wave = 10 ** (3.5682 + 1e-4 * np.arange(len(flux)))
        z = values["Z"] if isinstance(values["Z"], float) and values["Z"] > -1 else 0.0
        wave /= 1 + z
        ivar[mask != 0] = 0
        flux, ivar = np.interp(grid, wave, flux), np.interp(grid, wave, ivar)
        median = medfilt(flux, 3)
        residual = median - flux
        spike = (residual <= -4 * residual.std()) | (residual >= 3 * residual.std())
        flux[spike] = median[spike]
        kept = (flux - flux.mean()) / flux.std()
        for _ in range(60):
            fit = np.polyval(np.polyfit(x, kept, 5), x)
            residual = kept - fit
            outlier = (residual < -3 * residual.std()) | (residual > 4 * residual.std())
            if not outlier.any():
                break
            kept[outlier] = fit[outlier]
        (flux / (fit * flux.std() + flux.mean())).astype(np.float32)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds that this process needs for the work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def pool_seconds(settings: Ingest) -> float:
    """(e) Wall seconds of a plain pool of two processes with the same function, after its start."""
    _, spec = plan_shards(settings)
    with multiprocessing.get_context("forkserver").Pool(2) as workers:
        workers.map(_wait, range(8), chunksize=1)
        begin = time.monotonic()
        for _ in workers.imap_unordered(partial(make_shard, spec), range(spec.manifest.shards)):
            pass
        return time.monotonic() - begin


def ray_seconds(settings: Ingest) -> float:
    """(d) Wall seconds of the same shards on Ray with two CPUs, after its start."""
    _, spec = plan_shards(settings)
    run = make_map(2)
    list(run(_wait, range(8)))
    begin = time.monotonic()
    for _ in run(partial(make_shard, spec), range(spec.manifest.shards)):
        pass
    return time.monotonic() - begin


def _wait(number: int) -> dict[str, int]:
    """Makes a worker import what it needs."""
    time.sleep(0.2)
    return {"shard": number}


def rows_cpu(scratch: Path) -> list[str]:
    """(a), (b) and (c) on one core, by CPU time."""
    files = scratch / "sound"
    mock = make(Mock(out=str(files), n=4000, broken=0.0, gz=1.0))
    paths = sorted(files.rglob("*.fits.gz"))
    settle(1)
    ingest(ingest_settings(files, scratch / "store"))
    floors, ours = [], []
    for _ in range(5):
        floors.append(cpu_seconds(lambda: gunzip(paths)) / len(paths))
        new_store = ingest_settings(files, scratch / "store")
        ours.append(cpu_seconds(partial(ingest, new_store)) / mock["files"])
    with threadpool_limits(1):
        loop = cpu_seconds(lambda: obvious(paths[:300])) / 300
    floor, our = statistics.median(floors), statistics.median(ours)
    ratio = statistics.median(own / limit for own, limit in zip(ours, floors, strict=True))
    return [
        f"| (a) gunzip alone (isal), one core | {floor * 1e3:.3f} ms CPU/file | 1.0 |",
        "| (b) the obvious loop (astropy, system 0's arithmetic), nothing written "
        f"| {loop * 1e3:.2f} ms CPU/file | {loop / floor:.1f} × (a) |",
        f"| (c) files → store, one core | {our * 1e3:.3f} ms CPU/file ({1 / our:,.0f} files/s) "
        f"| {ratio:.2f} × (a); (b) / (c) = {loop / our:.1f} |",
    ]


def rows_loops(scratch: Path, turns: int = 9) -> list[str]:
    """The preparation of the same spectra by torch and by compiled loops, in turns; and how they differ."""
    files = scratch / "few"
    make(Mock(out=str(files), n=1000, broken=0.0, gz=1.0))
    settle(1)
    sources = reading.with_options(["lamost"], {})
    spectra = [
        spectrum
        for path in sorted(files.rglob("*.fits.gz"))
        for spectrum in reading.spectra(path.read_bytes(), path.name, sources)
    ]
    slices = [spectra[start : start + SLICE] for start in range(0, len(spectra), SLICE)]
    rows = []
    for continuum in ("msfl", "spline", "none"):
        preparers = [Preparer(Prepare(continuum=continuum), compiled=compiled) for compiled in (False, True)]
        seconds: list[list[float]] = [[], []]
        for _ in range(turns):
            for preparer, times in zip(preparers, seconds, strict=True):
                work = partial(prepare_all, preparer, slices)
                times.append(cpu_seconds(work) / len(spectra) * 1e6)
        by_torch, by_loops = map(statistics.median, seconds)
        ratio = statistics.median(one / other for one, other in zip(*seconds, strict=True))
        made = [preparer(slices[0], [None] * len(slices[0])) for preparer in preparers]
        good = [(each.ivar > 0) for each in made]
        difference = np.abs(made[0].flux - made[1].flux).max()
        rows.append(
            f"| preparation, continuum={continuum}: by torch; by compiled loops | {by_torch:.0f}; "
            f"{by_loops:.0f} µs CPU/spectrum | {ratio:.2f}; flux differs by {difference:.0e} at most, good "
            f"points: {int((good[0] != good[1]).sum())} of {good[0].size} |"
        )
    return rows


def prepare_all(preparer: Preparer, slices: list[list[Spectrum]]) -> None:
    """Prepare spectra as an ingest does, some at a time."""
    for spectra in slices:
        preparer(spectra, [None] * len(spectra))


def rows_ray(scratch: Path, n: int) -> list[str]:
    """(d) and (e) in turn, twice."""
    files = survey_files(scratch, n)
    ratios, rates = [], []
    for _ in range(2):
        bare = pool_seconds(ingest_settings(files, scratch / "store"))
        ray = ray_seconds(ingest_settings(files, scratch / "store"))
        ratios.append(bare / ray)
        rates.append((n / ray, n / bare))
    runs = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    (ray_rate, bare_rate) = (statistics.median(pair) for pair in zip(*rates, strict=True))
    return [
        f"| (d) the same on Ray, 2 CPUs, {n:,} files | {ray_rate:,.0f} files/s "
        f"| {statistics.median(ratios):.2f} × (e) (runs: {runs}) |",
        f"| (e) bare pool of 2 processes, {n:,} files | {bare_rate:,.0f} files/s | |",
    ]


def rows_memory(scratch: Path, n: int) -> list[str]:
    """Peak memory of the complete job, including the processes of Ray, for n / 10 and n files."""
    peaks = []
    for count in (n // 10, n):
        files = survey_files(scratch, count)
        shutil.rmtree(scratch / "store", ignore_errors=True)
        peaks.append(peak_memory([f"input={files}", f"store={scratch / 'store'}", "refuse_above=1"]))
    return [
        f"| peak memory of the complete job, {n // 10:,} and {n:,} files "
        f"| {peaks[0]:.2f} and {peaks[1]:.2f} GB | {peaks[1] / peaks[0]:.2f} |"
    ]


def peak_memory(arguments: list[str]) -> float:
    """The largest memory of a job in GB: the sum over its processes, each with its part of shared memory."""
    job = subprocess.Popen(
        [sys.executable, "jobs/ingest.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family, peak = psutil.Process(job.pid), 0
    while job.poll() is None:
        total = 0
        for process in (family, *family.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(1.0)
    if job.returncode:
        raise SystemExit(f"the job {' '.join(arguments)} ended with {job.returncode}")
    return peak / 1e9


def survey_files(scratch: Path, n: int) -> Path:
    """A mock survey of n files with the default settings: 2 % are defective."""
    files = scratch / f"mock{n}"
    make(Mock(out=str(files), n=n), make_map(2))
    return files


def rows_plan(scratch: Path, n: int) -> list[str]:
    """Time and memory of planning a catalogue as large as DR8, and the time from there to the first shard."""
    files = survey_files(scratch, n)
    names = [str(path.relative_to(files)) for path in sorted(files.rglob("spec-*"))]
    catalogue, roots = scratch / "dr8.csv", scratch / "roots"
    roots.mkdir(exist_ok=True)
    with catalogue.open("w") as out:
        out.write("obsid|file|ra|dec|rv\n")
        for number in range(-(-DR8 // len(names))):
            link = roots / f"{number:03d}"
            if not link.is_symlink():
                link.symlink_to(files.resolve())
            listed = names[: min(len(names), DR8 - number * len(names))]
            out.writelines(
                f"{number * len(names) + i}|{number:03d}/{name}|10.5|20.5|-12.3\n"
                for i, name in enumerate(listed)
            )
    job = ["jobs/ingest.py", f"input={catalogue}", f"files={roots}", f"store={scratch / 'store'}"]
    shutil.rmtree(scratch / "store", ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, *job], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watched, peak, begin = psutil.Process(process.pid), 0, time.monotonic()
    planned = first = 0.0
    while not first:
        if process.poll() is not None:
            raise SystemExit(f"the job {' '.join(job)} ended with {process.returncode}")
        if not planned:
            peak = max(peak, watched.memory_full_info().uss)
        planned = planned or ((scratch / "store" / "manifest.json").exists() and time.monotonic() - begin)
        markers = scratch / "store" / "markers"
        first = markers.exists() and any(markers.glob("*.json")) and time.monotonic() - begin
        time.sleep(0.1)
    for member in (*watched.children(recursive=True), watched):
        member.kill()
    process.wait()
    return [
        f"| planning {DR8:,} rows (catalogue CSV) | {planned:.0f} s, {peak / 1e9:.2f} GB | |",
        f"| from there to the first shard written (Ray's start included) | {first - planned:.1f} s | |",
    ]


def main() -> None:
    """The requested parts as one table."""
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    n, parts = (
        int(arguments.get("n", 100_000)),
        arguments.get("parts", "cpu,loops,ray,memory,plan").split(","),
    )
    scratch = Path(arguments.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    scratch.mkdir(parents=True, exist_ok=True)
    makers = {
        "cpu": lambda: rows_cpu(scratch),
        "loops": lambda: rows_loops(scratch),
        "ray": lambda: rows_ray(scratch, n),
        "memory": lambda: rows_memory(scratch, n),
        "plan": lambda: rows_plan(scratch, n),
    }
    rows = [row for part in parts for row in makers[part]()]
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores\n\n"
        "| what | figure | ratio |\n| --- | --- | --- |"
    )
    print("\n".join(rows))
    if "scratch" not in arguments:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
