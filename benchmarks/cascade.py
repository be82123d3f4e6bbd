"""The cascade of the shipped ensemble beside the ensemble itself: what all members see, what is lost, how
good the answers are, and what they cost.

    python -m benchmarks.cascade [work=benchmarks/work/realsky] [mock=2000]

The spectra are those of `shipped.py`, of stars that no member was trained on: computed stars, stars computed
in another way (`direct`), stars of libraries, and real files of LAMOST. Bounds are fitted to some of them,
the validation stars; what is called "tested" leaves these out. Mock files are half metal-poor and are unlike
the training spectra of this ensemble, so that their share is not that of a survey. That one follows from the
test population, whose [Fe/H] is spread as in a survey. Stores that are missing are made. Some minutes.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import realsky, shipped
from survey import machine
from survey.answers import Answers
from survey.catalog.catalog import make_catalog
from survey.catalog.document import ThresholdRecord
from survey.catalog.settings import CatalogSettings
from survey.ensemble.bounds import NEAR
from survey.ensemble.cascade import Cascade, open_cascade
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.ensemble.line_key import read_columns
from survey.labels import CLASSES, LIST_CLASSES, metal_poor
from survey.metrics.intervals import wilson
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.recipes import read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra

SETS = ("computed", "direct", "real", "lamost")
LABELS = ("Teff", "logg", "FeH", "CFe")
LEVELS = (0.1, 0.5, 0.9)
METAL_POOR = 0.04
"""The share of metal-poor stars in a survey like LAMOST."""
TURNS = 7


@dataclass(frozen=True)
class Compared:
    """Spectra with the answers of the ensemble and of its cascade, and what the cascade ruled out.

    `class_N` is -1 where the class is not known; `tested_N` are no validation spectra.
    """

    name: str
    table: pd.DataFrame
    spectra: Spectra
    snr_N: np.ndarray
    plain: Answers
    cascade: Answers
    ruled_out_N: np.ndarray
    class_N: np.ndarray
    tested_N: np.ndarray

    @property
    def stars(self) -> np.ndarray:
        """The name of the star of each spectrum."""
        return self.table["star" if "star" in self.table else "obsid"].to_numpy()

    def truth(self, label: str) -> np.ndarray:
        """A true label; NaN where it is not known."""
        if label not in self.table:
            return np.full(len(self.table), np.nan)
        return self.table[label].to_numpy(float)


def probability(answers: Answers, name: Any) -> np.ndarray:
    """The probability of a list."""
    assert answers.p_NC is not None
    return np.asarray(answers.p_NC[:, np.isin(CLASSES, LIST_CLASSES[name])].sum(1))


def compare(cascade: Cascade, work: Path, name: str) -> Compared:
    """A set of spectra with both answers."""
    store, table = open_store(str(work / name)), realsky.spectra(work, name)
    if name in ("computed", "real"):
        apart = [shipped.not_trained(run.path) for run in cascade.ensemble.members.runs]
        table = table[np.isin(table["obsid"], sorted(set.intersection(*apart)))].reset_index(drop=True)
    if name in ("computed", "direct"):
        known = pq.read_table(realsky.INPUTS[name], columns=["obsid", "CFe"]).to_pandas()
        table = table.merge(known, on="obsid")
    tested_N = np.ones(len(table), bool)
    if name in ("computed", "real"):
        columns = pq.read_table(shipped.ENSEMBLE / "validation.parquet", columns=["obsid", "source"])
        validation = columns.to_pandas()
        is_real = validation["source"] == "real"
        tested_N = ~np.isin(table["obsid"], validation[is_real if name == "real" else ~is_real]["obsid"])
    return answered(cascade, name, store, table, tested_N)


def true_classes(table: pd.DataFrame) -> np.ndarray:
    """The class by name or number, else by [Fe/H]; -1 where it is not known."""
    if "CFe" in table and "class" in table:
        return np.array([CLASSES.index(one) if isinstance(one, str) else int(one) for one in table["class"]])
    feh_N = table["FeH"].to_numpy(float)
    known = np.where(metal_poor(feh_N), CLASSES.index("MP"), CLASSES.index("NMP"))
    return np.where(np.isnan(feh_N), -1, known)


def answered(cascade: Cascade, name: str, store: Any, table: pd.DataFrame, tested_N: np.ndarray) -> Compared:
    """The answers of both about spectra of a store."""
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    spectra = read_spectra(store, places)
    snr_N = read_columns(store, places, ["snr"])["snr"]
    plain, result = (one.predict(spectra, snr_N, batch=64) for one in (cascade.ensemble, cascade))
    assert result.ruled_out_N is not None
    answers = plain.answers, result.answers, result.ruled_out_N
    return Compared(name, table, spectra, snr_N, *answers, true_classes(table), tested_N)


def mock_files(cascade: Cascade, work: Path, n: int) -> Compared:
    """Mock files with their true classes."""
    make(Mock(out=str(work / "mock_files"), n=n, broken=0.0))
    recipe = read_section(realsky.ROOT / "recipes" / "cemp.yaml", "ingest")
    paths = {"input": str(work / "mock_files"), "store": str(work / "mock"), "workers": 1}
    ingest(Ingest.from_dict("ingest", recipe | paths))
    store = open_store(str(work / "mock"))
    tables = []
    for shard in range(store.shards):
        here = store.spectra(shard, ["obsid"]).to_pandas()
        tables.append(here.assign(shard=shard, row_in_shard=np.arange(len(here))))
    truth = pq.read_table(work / "mock_files" / "labels.parquet").to_pandas()[["obsid", "FeH"]]
    table = pd.concat(tables, ignore_index=True).merge(truth.drop_duplicates("obsid"), on="obsid")
    return answered(cascade, "mock", store, table, np.ones(len(table), bool))


def share_rows(sets: list[Compared], cascade: Cascade) -> Iterator[tuple[str, str]]:
    """The share of the spectra that all members see, by set and kind."""
    for one in sets:
        went_on_N = ~one.ruled_out_N
        if one.name == "lamost":
            types_N = one.table["subclass"].fillna("?").str[:1].to_numpy()
            kinds = {f"type {kind}": types_N == kind for kind in "AFGKM"}
        else:
            kinds = {name: one.class_N == number for number, name in enumerate(CLASSES)}
        for kind, chosen_N in ({"all": np.ones(len(went_on_N), bool)} | kinds).items():
            if chosen_N.any():
                yield f"{one.name}, {kind}", f"{went_on_N[chosen_N].mean():.1%} of {chosen_N.sum():,}"
    went_on = cascade.document.went_on
    for name, share in went_on.items():
        yield f"test population, {name}", f"{share:.1%}"
    mixed = (1 - METAL_POOR) * went_on["NMP"] + METAL_POOR * went_on["MP"]
    yield f"a survey of which {METAL_POOR:.0%} are metal-poor, by the population", f"{mixed:.1%}"


def lost_rows(sets: list[Compared]) -> Iterator[tuple[str, str]]:
    """How many spectra that the ensemble puts in a list, or near it, are ruled out."""
    for name in LIST_CLASSES:
        for level in LEVELS:
            counts = np.zeros((2, 2), int)
            for one in sets:
                above_N = probability(one.plain, name) >= level
                lost_N = above_N & one.ruled_out_N
                counts += [
                    [lost_N.sum(), above_N.sum()],
                    [(lost_N & one.tested_N).sum(), (above_N & one.tested_N).sum()],
                ]
            texts = [f"{lost} of {n:,} (at most {float(wilson(lost, n)[1]):.2%})" for lost, n in counts]
            yield f"probability of {name} by the ensemble {level:g} or more", " | ".join(texts)


def f1_rows(one: Compared) -> Iterator[tuple[str, str]]:
    """F1 of the ensemble and of the cascade."""
    known_N = one.class_N >= 0
    if one.name == "real":
        teff_N = one.truth("Teff")
        known_N &= (teff_N > 4000) & (teff_N < 7000)
    for name, classes in LIST_CLASSES.items():
        if name == "CEMP" and one.name == "real":
            continue  # their carbon is not known
        numbers, texts = [CLASSES.index(each) for each in classes], []
        for answers in (one.plain, one.cascade):
            called_N = probability(answers, name) >= 0.5
            pairs = np.stack([called_N, np.isin(one.class_N, numbers)], 1)[known_N]
            texts.append(realsky.interval(pairs, one.stars[known_N], realsky.f1))
        yield f"{one.name}: F1 of the {name} search", " | ".join(texts)


def label_rows(one: Compared) -> Iterator[tuple[str, str]]:
    """Mean absolute errors near the lists and elsewhere, and how well the errors and intervals hold."""
    near_N = np.logical_or.reduce([probability(one.plain, name) >= NEAR for name in LIST_CLASSES])
    groups = {"near a list": near_N, "others": ~near_N, "ruled out": one.ruled_out_N}
    for group, chosen_N in groups.items():
        for label in LABELS:
            truth_N = one.truth(label)
            known_N = chosen_N & np.isfinite(truth_N)
            if known_N.sum() < 20:
                continue
            cells = [cell(answers, label, truth_N, known_N) for answers in (one.plain, one.cascade)]
            yield f"{one.name}, {group} ({known_N.sum():,}): {label}", " | ".join(cells)


def cell(answers: Answers, label: str, truth_N: np.ndarray, known_N: np.ndarray) -> str:
    """The mean absolute error, and the shares within one error and in the interval of 95 %."""
    column = answers.labels.index(label)
    value_N, err_N, low_N, high_N = (
        np.asarray(array)[known_N, column]
        for array in (answers.value_NL, answers.err_NL, answers.low_NL, answers.high_NL)
    )
    miss_N = np.abs(value_N - truth_N[known_N])
    inside = (low_N <= truth_N[known_N]) & (truth_N[known_N] <= high_N)
    return f"{miss_N.mean():.3g}; {(miss_N <= err_N).mean():.0%}, {inside.mean():.0%}"


def cost_rows(one: Compared, cascade: Cascade) -> Iterator[tuple[str, str]]:
    """CPU time of the networks and of what follows, for a spectrum in memory."""
    spent: dict[str, list[float]] = {}
    ways: dict[str, Ensemble | Cascade] = {"ensemble": cascade.ensemble, "fastest member": cascade.fastest}
    for _ in range(TURNS):
        for name, way in (ways | {"cascade": cascade}).items():
            begun = time.process_time()
            way.predict(one.spectra, one.snr_N, batch=64)
            spent.setdefault(name, []).append(time.process_time() - begun)
    for name, seconds in spent.items():
        yield f"{one.name}, {name}", f"{median(seconds) / len(one.spectra) * 1e6:.0f}"


def list_rows(work: Path, name: str) -> Iterator[tuple[str, str]]:
    """The lists of candidates of whole catalogs, by the ensemble and by the cascade."""
    listed, promised = [], []
    for is_cascade in (False, True):
        folder = work / "lists" / f"{name}-{is_cascade}"
        shutil.rmtree(folder, ignore_errors=True)
        values = {"store": str(work / name), "predictions": str(folder / "predictions"), "workers": 1}
        how = {"cascade": is_cascade, "gpu": "never", "threads": 1}
        predict(Predict.from_dict("cascade", values | how))
        values = {"predictions": str(folder / "predictions"), "catalog": str(folder / "catalog")}
        result = make_catalog(CatalogSettings.from_dict("cascade", values | {"exports": []}))
        promised.append(result.document.thresholds)
        tables = {key: result.table(f"{key.lower()}_candidates.parquet") for key in LIST_CLASSES}
        listed.append({key: names(table) for key, table in tables.items()})
    for key in LIST_CLASSES:
        before, after = (lists[key] for lists in listed)
        texts = [f"{len(before)} | {len(after)} | {len(before & after)}"]
        texts += [f"{thresholds[key].value:.3f}: {promise(thresholds[key])}" for thresholds in promised]
        yield f"{name}: {key} list", " | ".join(texts)


def names(table: pa.Table | None) -> set[tuple[str, int]]:
    """The spectra of a list: file and row."""
    rows = table.select(["path", "row"]).to_pylist() if table is not None else []
    return {(row["path"], row["row"]) for row in rows}


def promise(record: ThresholdRecord) -> str:
    """Expected purity and completeness."""
    measures = (record.purity, record.completeness)
    return ", ".join("-" if one.value is None else f"{one.value:.2f}" for one in measures)


def main(work: str = "", mock: str = "2000") -> None:
    """Print the tables."""
    machine.settle(1)
    place = Path(work or realsky.ROOT / "benchmarks" / "work" / "realsky")
    realsky.make_stores(place)
    cascade = open_cascade(open_ensemble(str(shipped.ENSEMBLE)))
    sets = [compare(cascade, place, name) for name in SETS]
    share_sets = [*sets, mock_files(cascade, place, int(mock))]
    show("spectra | go on to all members", share_rows(share_sets, cascade))
    show("ruled out of spectra with a | all | tested", lost_rows(sets))
    known = [one for one in sets if one.name != "lamost"]
    show("F1 | ensemble | cascade", (row for one in known for row in f1_rows(one)))
    head = "mean absolute error; within one error, in the 95 % interval | ensemble | cascade"
    show(head, (row for one in known for row in label_rows(one)))
    head = "candidates | ensemble | cascade | both | threshold: purity, completeness | the same, cascade"
    show(head, (row for name in ("computed", "lamost") for row in list_rows(place, name)))
    show("µs of CPU for a spectrum in memory | ", (row for one in sets for row in cost_rows(one, cascade)))


def show(head: str, rows: Iterator[tuple[str, str]]) -> None:
    """Print a table."""
    print(f"\n| {head} |\n|{' --- |' * (head.count('|') + 1)}")
    for name, value in rows:
        print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
