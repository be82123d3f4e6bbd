"""What finds spectra of a kind that was left out of a training: the autoencoder, the domain, or components.

    python -m benchmarks.anomalies [epochs=40] [work=benchmarks/work/anomalies]

Three scores learn the same spectra: computed stars without CEMP, and real stars of types F, G and K.

- `specvae`: the column `anomaly` of a variational autoencoder;
- `domain`: the distance from the training spectra in the last features of a network for labels (prism);
- components: what 24 principal components cannot rebuild, in units of the noise and of what they leave in the
  training spectra. Latents of the autoencoder have 24 numbers too.

A score calls the 5 % of ordinary test spectra with the highest values strange. The table shows how many
left-out spectra are above that limit. A finished run is not trained again. Needs ../shared/data.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey.ensemble.calibrated_run import calibrated
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.line_key import read_columns
from survey.metrics.intervals import share_measure
from survey.recipes import merge, read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import Store, open_store
from survey.training.batches import read_spectra
from survey.training.run import open_run
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.validation import network_outputs
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
COMPONENTS = 24
FALSE_ALARMS = 0.05
LOW_SNR = 10.0
"""Spectra below are left out: they show little of what a star is."""

Floats = NDArray[np.float64]
Sets = dict[str, pa.Table]


def tables() -> Sets:
    """The sets: two that are learned, and those that are left out."""
    computed = pq.read_table(DATA / "physics" / "reference.parquet")
    real = pq.read_table(DATA / "realstars" / "realstars.parquet")
    is_cemp = pc.equal(computed["class"], "CEMP")
    teff, kind = real["Teff"], pc.fill_null(real["sptype"], "")
    is_fgk = pc.and_(pc.greater(teff, 4000), pc.less(teff, 7000))
    is_fgk = pc.fill_null(pc.and_(is_fgk, pc.match_substring_regex(kind, "^[FGK]")), False)
    starts = {
        "A stars": "^A",
        "B and O stars": "^[BO]",
        "M stars": "M[0-9]",
        "white dwarfs": "^(W|D[ABCOQZ])",
    }
    left_out = {name: real.filter(pc.match_substring_regex(kind, start)) for name, start in starts.items()}
    left_out["carbon stars"] = real.filter(pc.match_substring_regex(kind, "(?i)^C|carbon"))
    return {
        "computed": computed.filter(pc.invert(is_cemp)),
        "real": real.filter(is_fgk),
        "CEMP, computed": computed.filter(is_cemp),
        **left_out,
    }


@dataclass(frozen=True)
class Stores:
    """A store of each set."""

    work: Path
    by_set: dict[str, Store]

    @classmethod
    def make(cls, work: Path) -> "Stores":
        """Ingest all sets by the recipe. The gate of coverage is open for the libraries that end early."""
        recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
        gate = {"prepare": {"gates": {"coverage": {"limit": 0.6, "then": "flag"}}}}
        stores = {}
        for name, table in tables().items():
            place = name.replace(" ", "-").replace(",", "").lower()
            path = work / f"{place}.parquet"
            if not path.exists():
                pq.write_table(table, path)
            given = {"input": str(path), "store": str(work / place), "workers": 1, "refuse_above": 1.0}
            ingest(Ingest.from_dict("ingest", merge(recipe, gate | given)))
            stores[name] = open_store(str(work / place))
        return cls(work, stores)

    def train(self, name: str, **values: Any) -> str:
        """A finished run over both learned sets."""
        computed, real = (self.by_set[name].path for name in ("computed", "real"))
        no_labels = values.get("task") == "none"
        labels = {
            name: "none" if no_labels else str(self.work / f"{name}.parquet") for name in ("computed", "real")
        }
        own = {
            "store": computed,
            "labels": labels["computed"],
            "sources": {"real": {"store": real, "labels": labels["real"]}},
            "run": str(self.work / name),
            "threads": 2,
            "tracking": {"use": "never"},
        }
        section = read_section(ROOT / "recipes" / "cemp.yaml", "train")
        for key in ("sources", "options", "synthesis", "monitor"):
            section.pop(key, None)
        settings = Train.from_dict("train", merge(merge(section, own), values))
        if plan(settings):
            learn(settings)
        return settings.run

    def places(self, name: str, run: str = "", part: str = "test") -> NDArray[np.int64]:
        """The rows of a set with enough signal; of a learned set, those of a part of a run."""
        store = self.by_set[name]
        rows = []
        obsids = set() if not run else observations(run, part)
        for shard in range(store.shards):
            table = store.spectra(shard, ["snr", "obsid"])
            keep = table["snr"].to_numpy() >= LOW_SNR
            if run:
                keep &= np.isin(table["obsid"].to_numpy(), sorted(obsids))
            rows += [(shard, row) for row in np.flatnonzero(keep)]
        return np.array(rows, np.int64).reshape(-1, 2)


def observations(run: str, part: str) -> set[int]:
    """The observations in a part of a run."""
    table = pq.read_table(Path(run) / "samples.parquet", columns=["part", "extra_obsid"]).to_pandas()
    return set(table.loc[table.part == part, "extra_obsid"].dropna().astype(int))


class Components:
    """Principal components of spectra, with what they leave as noise of their own."""

    def __init__(self, flux_NP: Floats, ivar_NP: Floats) -> None:
        self.mean_P = np.average(flux_NP, axis=0, weights=(ivar_NP > 0) + 1e-9)
        filled_NP = np.where(ivar_NP > 0, flux_NP - self.mean_P, 0.0)
        self.base_KP = np.linalg.svd(filled_NP, full_matrices=False)[2][:COMPONENTS]
        left_NP = self._left(flux_NP, ivar_NP)
        excess_NP = np.where(ivar_NP > 0, left_NP**2 - 1 / np.maximum(ivar_NP, 1e-9), 0.0)
        count_P = (ivar_NP > 0).sum(0)
        self.noise_P = np.maximum(excess_NP.sum(0) / np.maximum(count_P, 1), 1e-6)

    def _left(self, flux_NP: Floats, ivar_NP: Floats) -> Floats:
        """What the components do not explain, fitted to the good pixels of each spectrum."""
        left_NP = np.zeros_like(flux_NP)
        for row, (flux_P, ivar_P) in enumerate(zip(flux_NP, ivar_NP, strict=True)):
            good_P = ivar_P > 0
            base_KP = self.base_KP[:, good_P]
            deviation_P = flux_P[good_P] - self.mean_P[good_P]
            matrix_KK = base_KP @ base_KP.T + 1e-3 * np.eye(COMPONENTS)
            left_NP[row, good_P] = deviation_P - base_KP.T @ np.linalg.solve(matrix_KK, base_KP @ deviation_P)
        return left_NP

    def score(self, flux_NP: Floats, ivar_NP: Floats) -> Floats:
        """The mean squared remainder of good pixels in units of both noises."""
        good_NP = ivar_NP > 0
        variance_NP = 1 / np.where(good_NP, ivar_NP, 1.0) + self.noise_P
        square_NP = np.where(good_NP, self._left(flux_NP, ivar_NP) ** 2 / variance_NP, 0.0)
        return np.asarray(square_NP.sum(1) / np.maximum(good_NP.sum(1), 1))


@dataclass(frozen=True)
class Scores:
    """The three scores."""

    stores: Stores
    autoencoder: str
    ensemble: str
    components: Components

    def of(self, name: str, places: NDArray[np.int64]) -> dict[str, Floats]:
        """The scores of some rows of a set."""
        store = self.stores.by_set[name]
        flux_NP, ivar_NP = arrays(store, places)
        run, ensemble = open_run(self.autoencoder), open_ensemble(self.ensemble)
        spectra = read_spectra(store, places)
        anomaly_N1 = network_outputs(run.net, [spectra], run.device, "float32")["anomaly"]
        answers, latents = ensemble.members.predict_store(store.path, places, "predict")
        snr_N = read_columns(store, places, ["snr"])["snr"]
        domain_N = ensemble.conclude(answers, latents, snr_N).answers.domain_N
        assert domain_N is not None
        return {
            "specvae": anomaly_N1[:, 0].double().numpy(),
            "domain": np.asarray(domain_N, float),
            "components": self.components.score(flux_NP, ivar_NP),
        }


def arrays(store: Store, places: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Flux and inverse variance of some rows."""
    spectra = read_spectra(store, places)
    return spectra.flux.numpy().astype(float), spectra.ivar.numpy().astype(float)


def share(above_N: NDArray[np.bool_]) -> str:
    """A share with its 95 % interval."""
    measure = share_measure("", "recall", int(above_N.sum()), len(above_N))
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"


def show(*cells: str) -> None:
    """A row of a table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main(epochs: str = "40", work: str = "") -> None:
    """Train what is missing, and print the table."""
    folder = Path(work or ROOT / "benchmarks" / "work" / "anomalies")
    folder.mkdir(parents=True, exist_ok=True)
    stores = Stores.make(folder)
    autoencoder = stores.train("specvae", model="specvae", task="none", epochs=int(epochs))
    labels = stores.train("prism", model="prism", task="reg", targets=["Teff", "logg", "FeH"], epochs=30)
    learned = [
        arrays(stores.by_set[name], stores.places(name, autoencoder, "train"))
        for name in ("computed", "real")
    ]
    flux_NP, ivar_NP = (np.concatenate(parts) for parts in zip(*learned, strict=True))
    scores = Scores(stores, autoencoder, calibrated(labels, 2, gpu=False), Components(flux_NP, ivar_NP))
    both = {
        name: scores.of(name, stores.places(name, autoencoder)) for name in ("computed", "real")
    }  # the test parts
    show("left out", "spectra", *both["real"])
    show(*["---"] * 5)
    for name in list(stores.by_set)[2:]:
        ordinary = both["computed" if "computed" in name else "real"]
        found = scores.of(name, stores.places(name))
        limits = {score: np.quantile(values, 1 - FALSE_ALARMS) for score, values in ordinary.items()}
        cells = [share(found[score] > limit) for score, limit in limits.items()]
        show(name, str(len(found["specvae"])), *cells)
    for name, values in both.items():
        show(f"ordinary {name}, test", str(len(values["specvae"])), *["0.05"] * 3)


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
