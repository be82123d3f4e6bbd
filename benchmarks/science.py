"""How accurate the networks are on computed spectra with exactly known labels, compared with a simple
baseline on the same folds in the same run.

    python -m benchmarks.science [nets=prism,echelle,...] [work=benchmarks/work/science] [side=2]

Every fold is a run in the work folder. A finished run is not trained again, so the program can be stopped
and started. Fast networks are trained on all five folds, so every star is tested once. Slow networks are
trained on fewer folds; the table says on how many stars they were tested. Two trainings (`side`) run at a
time, each with one thread. Transfer: the runs of the first fold predict two other sets of computed stars and
the real LAMOST spectra. Response to carbon: pairs of stars that differ in carbon only.
"""

import json
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from survey.answers import Answers
from survey.evaluate.evaluate import predict_labelled
from survey.labelling import samples
from survey.labelling.join import join
from survey.labelling.rows import available_labels
from survey.labelling.samples import Samples
from survey.labelling.settings import Join
from survey.labels import CLASSES
from survey.metrics.score import LabelledAnswers, metrics_table
from survey.recipes import merge, read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training import run as bundle
from survey.training.batches import read_spectra
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
FOLDS = 5
TARGETS = ("Teff", "logg", "FeH", "CH", "CFe")

PLAIN = {
    "optimiser": {"weight_decay": 0.01},
    "schedule": {"name": "cosine", "warm_up": 1},
    "augment": {"preset": "light"},
}
"""How the networks of the five systems are trained here. Their losses are mean squared error and cross
entropy, as in the originals."""

NETS: dict[str, dict[str, Any]] = {
    "echelle": {"folds": 5, "optimiser": {"lr": 2e-3}},
    "echelle-survey": {"folds": 1, "model": "echelle", "augment": {"preset": "survey"}},
    "echelle-spline": {"folds": 1, "model": "echelle", "continuum": "spline"},
    "prism": {"folds": 5, "epochs": 30, "optimiser": {"weight_decay": 0.2}},
    "prism-plain": {
        "folds": 5,
        "model": "prism",
        "epochs": 30,
        "optimiser": {"weight_decay": 0.2},
        "synthesis": {"probability": 0.0, "redraw": {"probability": 0.0}},
        "loss": {"class_weights": [1.0, 2.5, 1.0]},
    },
    "bganet": {"folds": 5, "epochs": 80, **PLAIN},
    "starnet": {"folds": 2, "epochs": 30, **PLAIN},
    "rrnet": {"folds": 1, "epochs": 16, **PLAIN},
    "resnet": {"folds": 1, "epochs": 16, **PLAIN},
    "dualbranch": {"folds": 1, "epochs": 16, **PLAIN},
    "mpbdnet": {"folds": 1, "epochs": 8, "precision": "bf16", **PLAIN},
    "freqinception": {"folds": 1, "epochs": 6, "options": {"frequency_of": "flux"}, **PLAIN},
    "rescnn": {"folds": 1, "epochs": 4, "options": {"version": "second"}, **PLAIN},
    "cnngru": {"folds": 1, "epochs": 3, **PLAIN},
}
"""The settings of each network, and the number of folds (of five) that it is trained on. Our own networks
take all other settings from `recipes/cemp.yaml`; the networks of the five systems take only its task and
its labels. Two cores can do all of this in two hours."""


Rows = dict[str, tuple[list[LabelledAnswers], list[LabelledAnswers], float, int]]
FAR = ("wide", "direct", "real")

INPUTS = {
    "reference": DATA / "reference.parquet",
    "wide": DATA / "wide.parquet",
    "direct": DATA / "direct.parquet",
    "real": DATA.parent / "lamost" / "lrs_image_subcont",
}
LABELS = INPUTS | {"real": DATA.parent / "labels" / "lamost_dr1_plan_catalog.csv"}


def stores(work: Path) -> None:
    """Make two stores of each set, one for each method of the continuum."""
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    for net in ("", "echelle-spline"):
        prepare = recipe["prepare"] | {"continuum": NETS.get(net, {}).get("continuum", "msfl")}
        for name, path in INPUTS.items():
            given = {"input": str(path), "store": store(work, name, net), "workers": 1, "prepare": prepare}
            ingest(Ingest.from_dict("ingest", recipe | given))


def store(work: Path, name: str, net: str = "") -> str:
    """The path of the store of a set, with the continuum that the network needs."""
    return str(work / (f"{name}-{NETS[net]['continuum']}" if "continuum" in NETS.get(net, {}) else name))


def settings(work: Path, net: str, fold: int) -> Train:
    """The settings of a training: one fold of one network."""
    given = {name: value for name, value in NETS[net].items() if name not in ("folds", "continuum")}
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "train")
    if not net.startswith(("echelle", "prism")):
        recipe = {name: value for name, value in recipe.items() if name in ("targets", "task", "join")}
    values = recipe | {
        "store": store(work, "reference", net),
        "labels": str(LABELS["reference"]),
        "run": str(work / f"{net}-{fold}"),
        "model": net,
        "split": {"folds": FOLDS, "fold": fold, "stratify": True},
        "threads": 1,
        "tracking": {"use": "never"},
    }
    return Train.from_dict("science", merge(values, given))


def folds(work: Path, net: str) -> list[str]:
    """The runs of a network, one per fold."""
    return [str(work / f"{net}-{fold}") for fold in range(NETS[net]["folds"])]


def trained(work: Path, net: str, fold: int) -> str:
    """Train one fold and write down its CPU time; a finished run stays as it is. Returns its name."""
    warnings.simplefilter("ignore")
    made = settings(work, net, fold)
    if plan(made):
        started = time.process_time()
        learn(made)
        (Path(made.run) / "cpu.json").write_text(json.dumps(time.process_time() - started))
    return f"{net}-{fold}"


def others(work: Path, name: str, net: str = "") -> Samples:
    """All stars of a set that no network was trained on. Labels that its table lacks are unknown."""
    joining = Join(table=str(LABELS[name]))
    return samples.from_labelled(
        join(joining, open_store(store(work, name, net)), available_labels(joining, TARGETS)), TARGETS
    )


def joined(parts: list[LabelledAnswers]) -> LabelledAnswers:
    """The answers of all parts, one part after the other."""
    first = parts[0]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part.answers, name) for part in parts])
        for name in first.answers.arrays()
    }
    truth: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("class_N", "label_NL", "sigma_NL")
        if getattr(first, name) is not None
    }
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in first.extra}
    return replace(first, answers=replace(first.answers, **arrays), extra=extra, **truth)


def baseline(
    work: Path, train: Samples, asked: list[tuple[str, Samples]]
) -> tuple[list[LabelledAnswers], float]:
    """The answers of the baseline and its CPU time: 60 principal components, logistic regression and
    quadratic ridge regression. The strength of the ridge is chosen on a tenth of the training stars.
    """
    started = time.process_time()

    def clipped(name: str, some: Samples) -> np.ndarray:
        return read_spectra(open_store(store(work, name)), some.shard_row_N2).flux.clamp(0, 2).numpy()

    pca = PCA(60, whiten=True, random_state=0).fit(clipped("reference", train))
    z = pca.transform(clipped("reference", train))
    rows = np.random.default_rng(0).permutation(len(z))
    fitted, held = rows[: int(0.9 * len(z))], rows[int(0.9 * len(z)) :]
    spread = train.label_NL.std(0)
    kinds = {
        alpha: make_pipeline(PolynomialFeatures(2), StandardScaler(), Ridge(alpha))
        for alpha in (30, 100, 300, 1000)
    }
    errors = {
        a: np.abs(
            (k.fit(z[fitted], train.label_NL[fitted]).predict(z[held]) - train.label_NL[held]) / spread
        ).mean()
        for a, k in kinds.items()
    }
    ridge = kinds[min(errors, key=errors.__getitem__)].fit(z, train.label_NL)
    classes = LogisticRegression(max_iter=3000).fit(z, train.class_N)
    found = []
    for name, some in asked:
        x = pca.transform(clipped(name, some))
        snr = np.asarray(some.extra["snr_g"].to_numpy(zero_copy_only=False), float)
        p_NC, value_NL = classes.predict_proba(x), ridge.predict(x)
        answers = Answers(TARGETS, CLASSES, p_NC=p_NC, value_NL=value_NL)
        found.append(LabelledAnswers(answers, some.class_N, some.label_NL, extra={"snr_g": snr}))
    return found, time.process_time() - started


def response(judged: LabelledAnswers) -> dict[str, float]:
    """How predictions change with carbon alone: their slopes with [C/Fe], from pairs of stars that agree in
    Teff, logg and [Fe/H].
    """
    truth, said = judged.label_NL, judged.value_NL
    assert said is not None
    place = truth[:, :3] / (100, 0.2, 0.15)
    pairs = cKDTree(place).query_pairs(1.0, output_type="ndarray")
    pairs = pairs[np.abs(truth[pairs[:, 0], 4] - truth[pairs[:, 1], 4]) > 0.5]
    true, told = (values[pairs[:, 0]] - values[pairs[:, 1]] for values in (truth, said))
    slopes = np.linalg.lstsq(true[:, [4, 0, 1, 2]], told, rcond=None)[0][0]
    return {"pairs": len(pairs), "CFe": slopes[4], "FeH": slopes[2], "Teff": slopes[0]}


def number(
    table: pa.Table, kind: str, group: str, subject: str, metric: str
) -> tuple[float, float, float, int]:
    """A metric, the ends of its interval, and the number of spectra."""
    for row in table.to_pylist():
        if (row["kind"], row["subject"], row["metric"]) == (kind, subject, metric) and (
            row["group"] == group or kind == "all"
        ):
            return row["value"], row["low"] or np.nan, row["high"] or np.nan, row["n"]
    return np.nan, np.nan, np.nan, 0


def with_interval(found: tuple[float, float, float, int]) -> str:
    """A metric with its interval as text, such as 0.914 [0.80, 1.00]."""
    return f"{found[0]:.3f} [{found[1]:.2f}, {found[2]:.2f}]"


def main() -> None:
    """Train the missing runs, then predict and print."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "science"))
    nets = given["nets"].split(",") if "nets" in given else list(NETS)
    stores(work)
    wanted = [(net, fold) for net in nets for fold in range(NETS[net]["folds"])]
    with ProcessPoolExecutor(int(given.get("side", 2)), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(trained, work, net, fold) for net, fold in wanted]):
            sys.stderr.write(f"{done.result()} is finished\n")
    complete = [net for net in nets if all(bundle.is_finished(path) for path in folds(work, net))]
    report(work, complete)


def report(work: Path, nets: list[str]) -> None:
    """The tables, for benchmarks/RESULTS.md."""
    rows: Rows = {}
    far = [(name, others(work, name)) for name in FAR]
    parts: list[LabelledAnswers] = []
    cpu = 0.0
    for fold in range(FOLDS):
        plan(made := settings(work, "prism", fold))
        everything = samples.read(made.run)
        learned = everything.at(np.flatnonzero(everything.part_N != 2))
        found, seconds = baseline(
            work, learned, [("reference", everything.part("test")), *(far if fold == 0 else [])]
        )
        parts, cpu = [*parts, found[0]], cpu + seconds
        if fold == 0:
            transfer = found[1:]
    rows["baseline"] = parts, transfer, cpu / FOLDS, FOLDS
    for net in nets:
        count = NETS[net]["folds"]
        runs = [bundle.open_run(str(work / f"{net}-{fold}")) for fold in range(count)]
        inner = [
            predict_labelled(run, samples.read(run.path).part("test"), store(work, "reference", net))
            for run in runs
        ]
        asked = [(others(work, name, net), store(work, name, net)) for name in FAR]
        seconds = np.mean([json.loads((Path(run.path) / "cpu.json").read_text()) for run in runs])
        rows[net] = (
            inner,
            [predict_labelled(runs[0], some, path) for some, path in asked],
            float(seconds),
            count,
        )
    _print_inner(rows)
    _print_snr(rows)
    _print_far(rows)
    _print_real(rows)


def _print_inner(rows: Rows) -> None:
    head(
        "network, stars tested (CEMP), accuracy, MP search F1, CEMP precision, CEMP recall, CEMP F1, Teff, "
        "logg, FeH, CH, CFe, CPU seconds per fold"
    )
    for name, (inner, _, seconds, _count) in rows.items():
        judged = joined(inner)
        table = metrics_table(judged)
        cells = [with_interval(number(table, "all", "", subject, metric)) for subject, metric in WANTED]
        print(
            f"| {name} | {len(judged):,} ({int((judged.class_N == 1).sum())}) "
            f"| {' | '.join(cells)} | {maes(table)} | {seconds:,.0f} |"
        )


def head(names: str) -> None:
    print("\n| " + " | ".join(names.split(", ")) + " |\n" + "| --- " * len(names.split(", ")) + "|")


def maes(table: pa.Table) -> str:
    found = [number(table, "all", "", label, "mae")[0] for label in TARGETS]
    return " | ".join([f"{found[0]:.0f} K", *(f"{mae:.3f}" for mae in found[1:])])


WANTED = (("all", "accuracy"), ("MP_search", "f1"), ("CEMP", "precision"), ("CEMP", "recall"), ("CEMP", "f1"))


def _print_snr(rows: Rows) -> None:
    head("network, S/N in g, spectra, accuracy, CEMP F1, Teff, logg, FeH, CH, CFe")
    for name, (inner, *_rest) in rows.items():
        judged = joined(inner)
        snr = judged.snr()
        assert snr is not None
        for low, high in ((0, 10), (10, 20), (20, 50), (50, np.inf)):
            some = judged.at((snr >= low) & (snr < high))
            table = metrics_table(some)
            accuracy, f1 = (
                number(table, "all", "", *what)[0] for what in (("all", "accuracy"), ("CEMP", "f1"))
            )
            print(
                f"| {name} | {low} to {high:g} | {len(some):,} | {accuracy:.3f} | {f1:.2f} | {maes(table)} |"
            )


def _print_far(rows: Rows) -> None:
    head(
        "network, wide: CEMP F1, Teff; FeH; CFe, direct: CEMP F1, Teff; FeH; CFe, per dex of carbon: d CFe, "
        "d FeH, d Teff"
    )
    for name, (_, far, *_rest) in rows.items():
        cells = []
        for judged in far[:2]:
            table = metrics_table(judged)
            maes = [number(table, "all", "", label, "mae")[0] for label in ("Teff", "FeH", "CFe")]
            cells += [
                with_interval(number(table, "all", "", "CEMP", "f1")),
                f"{maes[0]:.0f} K; {maes[1]:.3f}; {maes[2]:.3f}",
            ]
        slopes = response(far[0])
        print(
            f"| {name} | {' | '.join(cells)} | {slopes['CFe']:.2f} "
            f"| {slopes['FeH']:+.2f} | {slopes['Teff']:+.0f} K |"
        )
    print(
        f"\n{int(slopes['pairs'])} pairs of stars in `wide` that agree within 100 K in Teff, 0.2 dex in "
        "logg and 0.15 dex in [Fe/H], and differ by more than 0.5 dex in [C/Fe]."
    )


def _print_real(rows: Rows) -> None:
    """Real LAMOST spectra compared with their catalogue: bias and robust scatter, for all spectra and for
    those within the range of temperatures of the training set.
    """
    head("network, real spectra, Teff: bias; scatter, logg: bias; scatter, FeH: bias; scatter")
    for name, (_, far, *_rest) in rows.items():
        real = far[2]
        inside = (real.label_NL[:, 0] < 7000) & (real.label_NL[:, 0] > 4000)
        for what, some in (("all", real), ("4,000 to 7,000 K", real.at(inside))):
            assert some.value_NL is not None
            residual = (some.value_NL - some.label_NL)[:, :3]
            middle = np.nanmedian(residual, 0)
            scatter = 1.4826 * np.nanmedian(np.abs(residual - middle), 0)
            cells = " | ".join(
                f"{m:+.{d}f}; {s:.{d}f}" for m, s, d in zip(middle, scatter, (0, 2, 2), strict=True)
            )
            print(f"| {name} | {what}: {int(np.isfinite(residual).all(1).sum())} | {cells} |")


if __name__ == "__main__":
    main()
