"""The whole road of a survey beside its floors, and beside what one would write instead: CPU time per file.

    python -m benchmarks.road [n=3000] [nets=prism,bganet,echelle] [few=300] [others=yes] [work=FOLDER]

Every stage runs on one core. Floors: unpacking (isal), a copy of the arrays in memory, the networks in a loop
over arrays in memory. Others: the readers of astropy and fitsio, the obvious loop of benchmarks/ingest.py,
Ray Data from files to Parquet, and a DataLoader of torch over the files; they get `few` files, because they
are slow. In a cascade `PASSED` of the spectra go on to all members, whatever the networks say, because these
are hardly trained (benchmarks/cascade.py shows the share of the shipped ensemble). The columns: ms of CPU per
file (medians of turns), times unpacking, hours of two cores for DR8. Prints a table for RESULTS.md;
three minutes.
"""

import io
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from astropy.io import fits
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, Dataset

from benchmarks import catalog, predict
from benchmarks.ingest import DR8, cpu_seconds, gunzip, ingest_settings, obvious
from survey import machine
from survey.answers import Answers
from survey.catalog.catalog import make_catalog
from survey.catalog.settings import CatalogSettings
from survey.ensemble.bounds import Bounds, ListBound
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.inputs import StoreInput, list_files, to_spectra
from survey.predict.output import Choice
from survey.predict.worker import INPUT_COLUMNS, Worker
from survey.store.ingest import ingest
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra

ROOT = Path(__file__).resolve().parents[1]
TURNS = 5
CORES = 2
PASSED = 0.2
"""The share of the spectra that all members see in a cascade: a little more than in a survey of which 4 % are
metal-poor, by the shipped ensemble."""
BATCH = 64
SKY = 300_000
"""Rows of the predictions that a catalog is made of."""
GRID = np.arange(3900.0, 8800.0)
"""Angstrom: the grid cemp4900, which the networks are trained on."""


def per_file(work: Callable[[], object], files: int, turns: int = TURNS) -> float:
    """Milliseconds of CPU per file: the median of turns, after one that does not count."""
    work()
    seconds: float = median(cpu_seconds(work) for _ in range(turns))
    return seconds / files * 1e3


def arrays_of(path: Path | str, data: bytes | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, ivar and wavelengths of a file, as astropy gives them."""
    with fits.open(path if data is None else io.BytesIO(data)) as hdus:
        if hdus[0].header["NAXIS"] == 2:
            flux, ivar, wave = (np.array(hdus[0].data[row], float) for row in range(3))
        else:
            flux, ivar, wave = (
                np.array(hdus[1].data[name][0], float) for name in ("FLUX", "IVAR", "WAVELENGTH")
            )
    if wave[0] < 3000:  # no wavelengths, but a continuum
        wave = 10 ** (3.5682 + 1e-4 * np.arange(len(flux)))
    return flux, ivar, wave


def simply_prepared(path: Path | str, data: bytes | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Flux and ivar on the grid, divided by one polynomial: as short as one would write it."""
    flux, ivar, wave = arrays_of(path, data)
    flux, ivar = np.interp(GRID, wave, flux), np.interp(GRID, wave, ivar)
    x = (GRID - GRID.mean()) / GRID.std()
    continuum = np.polyval(np.polyfit(x, flux, 5), x)
    return (flux / continuum).astype(np.float32), (ivar * continuum**2).astype(np.float32)


def fitsio_arrays(paths: list[Path]) -> None:
    """Reads header and arrays by fitsio."""
    import fitsio

    for path in paths:
        with fitsio.FITS(str(path)) as hdus:
            hdus[0].read_header()
            (hdus[0] if hdus[0].has_data() else hdus[1]).read()


class Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Survey files as samples of torch."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        flux, ivar = simply_prepared(self.paths[number])
        return torch.from_numpy(flux), torch.from_numpy(ivar)


def data_loader(paths: list[Path], nets: list[torch.nn.Module]) -> None:
    """Files to answers of networks by a DataLoader in this process."""
    with torch.inference_mode():
        for flux, ivar in DataLoader(Files(paths), batch_size=BATCH):
            for net in nets:
                net(flux, ivar)


def ray_data(paths: list[Path], out: Path) -> float:
    """CPU seconds of all processes of Ray for files to Parquet, without its start."""
    import ray

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        # Ray unpacks .gz itself
        spectra = [simply_prepared("", data) for data in batch["bytes"]]
        flux, ivar = (np.stack(arrays) for arrays in zip(*spectra, strict=True))
        return {"path": batch["path"], "flux": flux, "ivar": ivar}

    def pipeline(some: list[Path]) -> None:
        shutil.rmtree(out, ignore_errors=True)
        data = ray.data.read_binary_files([str(path) for path in some], include_paths=True)
        data.map_batches(prepare, batch_size=BATCH).write_parquet(str(out))

    def spent() -> float:
        total = 0.0
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        pipeline(paths[:BATCH])  # workers start and import
        begin = spent()
        pipeline(paths)
        return spent() - begin
    finally:
        ray.shutdown()


def read_all(inputs: StoreInput) -> None:
    """All shards as the tensors that networks get."""
    for shard in range(inputs.shards):
        to_spectra(inputs.load(shard, INPUT_COLUMNS).spectra, inputs.path, ())


def training_reads(inputs: StoreInput) -> None:
    """All shards as streaming training reads them, rows shuffled."""
    store = open_store(inputs.path)
    for shard in range(inputs.shards):
        rows = np.random.default_rng(shard).permutation(inputs.rows_in(shard))
        read_spectra(store, np.stack([np.full_like(rows, shard), rows], 1))


def network_loop(nets: list[torch.nn.Module], spectra: Spectra) -> None:
    """The networks over batches in memory, and nothing else."""
    with torch.inference_mode():
        for start in range(0, len(spectra), BATCH):
            flux, ivar = (array[start : start + BATCH] for array in (spectra.flux, spectra.ivar))
            for net in nets:
                net(flux, ivar)


def with_share(worker: Worker, spectra: Spectra, share: float) -> Worker:
    """The worker of a cascade, of which so large a share of these spectra goes on to all members."""
    ensemble = worker.ensemble
    fitted = fitted_cascade(ensemble, 1)
    alone = fitted.fastest.predict(spectra, np.full(len(spectra), np.nan)).answers
    assert alone.p_NC is not None
    p_N = alone.p_NC[:, [ensemble.classes.index(name) for name in ("MP", "CEMP")]].sum(1)
    bound = ListBound(value=float(np.quantile(p_N, 1 - share)), near=0, stars=0, missed=0)
    document = fitted.document.model_copy(update={"bounds": AnyBound(lists={"MP": bound, "CEMP": bound})})
    worker.cascade, worker.spec = replace(fitted, document=document), replace(worker.spec, cascade_id="x")
    return worker


class AnyBound(Bounds):
    """Bounds on one probability, however large, and on nothing else."""

    def rules_out(self, fast: Answers) -> NDArray[np.bool_]:
        """The spectra below the bound of metal-poor stars."""
        assert fast.p_NC is not None
        return np.asarray(fast.p_NC[:, np.isin(fast.classes, ("MP", "CEMP"))].sum(1) < self.lists["MP"].value)


def all_shards(worker: Worker) -> None:
    """Every shard of a prediction."""
    for shard in range(worker.spec.inputs.shards):
        worker(shard)


class Road:
    """The stages on one core, in the order of the table."""

    def __init__(self, work: Path, n: int, few: int, members: list[str]) -> None:
        self.work, self.members = work, members
        predict.prepare(work / "runs", n, members)
        files = make(Mock(out=str(work / "files"), n=n, broken=0.0, gz=1.0))["files"]
        self.paths = sorted((work / "files").rglob("*.fits.gz"))
        self.count, self.few = int(files), self.paths[:few]
        self.settings = partial(ingest_settings, work / "files", work / "store")
        ingest(self.settings())
        self.inputs = StoreInput.from_store(open_store(str(work / "store")))
        self.choice = Choice(batch=BATCH, precision="float32")
        self.spectra = predict.in_memory(self.inputs)
        self.rows: list[tuple[str, float]] = []

    def measure(self, name: str, work: Callable[[], object], files: int = 0, turns: int = TURNS) -> None:
        """Adds a row to the table."""
        self.rows.append((name, per_file(work, files or self.count, turns)))
        print(f"  {name}: {self.rows[-1][1]:.3f} ms", file=sys.stderr, flush=True)

    def floors_and_stages(self) -> None:
        """What this software does, each with its floor before it."""
        self.measure("floor: unpack (isal)", partial(gunzip, self.paths))
        self.measure("files → store", lambda: ingest(self.settings()))
        flux, ivar = self.spectra.flux.numpy(), self.spectra.ivar.numpy()
        shard = slice(0, min(1000, len(flux)))
        room = np.empty_like(flux[shard]), np.empty_like(ivar[shard])
        copy = partial(_copy, (flux[shard], ivar[shard]), room)
        self.measure("floor: copy the arrays in memory", copy, shard.stop)
        self.measure("store → arrays, for a prediction", partial(read_all, self.inputs))
        self.measure("store → arrays, for a training", partial(training_reads, self.inputs))
        for name in (self.members[0], "ensemble"):
            path = self.work / "runs" / name
            nets: list[torch.nn.Module] = [run.net for run in open_ensemble(str(path)).members.runs]
            self.measure(
                f"floor: {name}, arrays in memory", partial(network_loop, nets, self.spectra), turns=3
            )
            spec = predict.prediction_spec(self.work / "runs", name, self.inputs, self.choice)
            self.measure(
                f"store → predictions, {name}", partial(all_shards, Worker(spec, 1, 1, False)), turns=3
            )
        worker = with_share(Worker(spec, 1, 1, False), self.spectra, PASSED)
        self.measure(f"store → predictions, cascade ({PASSED:.0%})", partial(all_shards, worker), turns=3)
        listed, _, _ = list_files(ingest_settings(self.work / "files", self.work / "listed"))
        for name in (self.members[0], "ensemble"):
            spec = predict.prediction_spec(self.work / "runs", name, listed, self.choice)
            self.measure(
                f"files → predictions, {name}", partial(all_shards, Worker(spec, 1, 1, False)), turns=3
            )
        worker = with_share(Worker(spec, 1, 1, False), self.spectra, PASSED)
        self.measure(f"files → predictions, cascade ({PASSED:.0%})", partial(all_shards, worker), turns=3)
        self.candidates()

    def candidates(self) -> None:
        """The catalog, of many made-up predictions because its fixed costs are seconds, and whole roads."""
        sky = self.work / "sky"
        if not sky.exists():
            catalog.write_predictions(sky, SKY)

        def make_one() -> None:
            shutil.rmtree(self.work / "catalog", ignore_errors=True)
            values = {"predictions": str(sky), "catalog": str(self.work / "catalog")}
            make_catalog(CatalogSettings.from_dict("road", values))

        self.measure("predictions → candidates", make_one, SKY, turns=1)
        roads = [row for row in self.rows if row[0].startswith("files → predictions")]
        last = self.rows[-1][1]
        self.rows += [(name.replace("predictions", "candidates"), ms + last) for name, ms in roads]

    def others(self) -> None:
        """What one would write instead, on fewer files."""
        few = self.few
        first = str(self.work / "runs" / self.members[0])
        nets: list[torch.nn.Module] = [run.net for run in open_ensemble(first).members.runs]
        with threadpool_limits(1):
            self.measure("astropy: header and arrays", lambda: [arrays_of(p) for p in few], len(few), 3)
            try:
                self.measure("fitsio: header and arrays", lambda: fitsio_arrays(few), len(few), 3)
            except ImportError:
                print("  fitsio is not installed: not measured", file=sys.stderr)
            self.measure("the obvious loop, nothing written", lambda: obvious(few), len(few), 3)
            loader = partial(data_loader, few, nets)
            self.measure(f"DataLoader of torch, {self.members[0]}", loader, len(few), 3)
        seconds = ray_data(few, self.work / "ray")
        self.rows.append(("Ray Data: files → map_batches → Parquet", seconds / len(few) * 1e3))

    def table(self) -> str:
        """The rows, with the ratio to unpacking and the hours for DR8."""
        unpack = self.rows[0][1]
        lines = [
            f"| {name} | {ms:.4f} | {ms / unpack:.2f} | {ms * DR8 / 3.6e6 / CORES:.2f} |"
            for name, ms in self.rows
        ]
        head = f"| stage | ms CPU/file | × unpacking | hours for {DR8:,} files, {CORES} cores |"
        return "\n".join([head, "| --- | --- | --- | --- |", *lines])


def _copy(arrays: tuple[np.ndarray, ...], room: tuple[np.ndarray, ...]) -> None:
    for target, source in zip(room, arrays, strict=True):
        np.copyto(target, source)


def main() -> None:
    """The table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    n, few = int(given.get("n", 3000)), int(given.get("few", 300))
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "road"))
    machine.settle(1)
    road = Road(work, n, few, given.get("nets", "prism,bganet,echelle").split(","))
    with predict.one_core():
        road.floors_and_stages()
        if given.get("others", "yes") == "yes":
            road.others()
    print(f"\n{time.strftime('%Y-%m-%d')}; {road.count:,} mock files, gzipped\n\n{road.table()}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
