"""What real stars in the training are worth, on real stars that were not trained on and on computed ones.

    python -m benchmarks.realsky [net=prism] [use=5] [variants=computed,real,both] [work=FOLDER] [side=2]

The same network is trained on computed stars alone, on real stars alone, and on both (the recipe); other
variants leave one part of the recipe out. `self` learns besides what `more` says of LAMOST's files that have
no label here and of which it is sure (self-training). `net=echelle+prism` is the ensemble of both, as the
shipped one. There are five folds by star, of which the first `use` are trained. Every star is predicted by
the fold that has not seen it, and stars that no fold has set apart are left out; spectra of a set that a
variant did not learn, those without labels and LAMOST's are predicted by all folds together. A finished run
is not trained again. Needs ../shared/data.
"""

import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from survey.ensemble.build import build
from survey.ensemble.calibrated_run import calibrated
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.line_key import read_columns
from survey.ensemble.recalibration import left_out
from survey.ensemble.settings import Build
from survey.labels import CLASSES, metal_poor
from survey.recipes import merge, read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
INPUTS = {
    "computed": DATA / "physics" / "reference.parquet",
    "direct": DATA / "physics" / "direct.parquet",
    "real": DATA / "realstars" / "realstars.parquet",
    "lamost": DATA / "lamost",
}
MORE = ("reference", "wide")
"""Tables of computed stars that are learned as one; `wide` has a wider range of labels and 450 CEMP stars."""
LABELS = ("Teff", "logg", "FeH")
LEARN_MORE: dict[str, Any] = {"store": "more", "labels": "more.parquet"}
WRONG = [
    *([3900, 3950], [4330, 4352], [4852, 4872], [5885, 5902], [6555, 6575]),
    *([6770, 6880], [7050, 7300], [8490, 8510], [8534, 8554], [8654, 8674]),
]
"""What computed spectra have wrong: the blue end, cores of lines of hydrogen and calcium, Na D, TiO."""
REAL: dict[str, Any] = {"store": "real", "labels": str(INPUTS["real"])}
VARIANTS: dict[str, dict[str, Any]] = {
    "computed": {},
    "real": REAL | {"task": "reg", "targets": [*LABELS], "synthesis": {"probability": 0.0}},
    "both": {"sources": {"real": REAL}},
    "more": {"sources": {"real": REAL}} | LEARN_MORE,
    "self": {"sources": {"real": REAL, "survey": {"store": "lamost", "share": 0.1}}} | LEARN_MORE,
    "more_robust": {"sources": {"real": REAL}, "scale": "robust"} | LEARN_MORE,
    "more_alike": {"sources": {"real": REAL}, "loss": {"class_weights": [1, 1, 1]}} | LEARN_MORE,
    "no_drift": {"sources": {"real": REAL}, "augment": {"drift": {"probability": 0.0}}},
    "no_smoothing": {"sources": {"real": REAL}, "augment": {"smoothing": {"probability": 0.0}}},
    "no_share": {"sources": {"real": REAL | {"share": None}}},
    "not_may_be": {"sources": {"real": REAL | {"may_be": {"MP": "MP"}}}},
    "all_labels": {"sources": {"real": REAL}, "label_ranges": {"Teff": [0, 1e6]}},
    "residuals": {"sources": {"real": REAL}, "residuals": {"probability": 0.3, "strength": 0.5}},
    "regions": {"sources": {"real": REAL}, "regions": {"probability": 0.3, "ranges": WRONG}},
    "with_gaps": {"sources": {"real": REAL}, "augment": {"dropout": {"probability": 0.5, "width": 300}}},
} | {
    method: {"sources": {"real": REAL}, "align": {"method": method, "weight": 0.1}}
    for method in ("coral", "mmd", "sinkhorn")
}
"""What each changes in the recipe. Stores are named by their folder in the work folder."""
TAUGHT = {"self": "more"}
"""Variants that learn the answers of another one about LAMOST's files."""
SURE_FEH, SURE_CLASS = 0.15, 0.9
"""Of which answers one is sure: the largest error of [Fe/H], the least probability of the class."""
FOLDS = 5
NETS: dict[str, dict[str, Any]] = {
    "prism": {"epochs": 30, "optimiser": {"weight_decay": 0.2}},
    "echelle": {"optimiser": {"lr": 2e-3}},
}
TIMES = 1000
"""Bootstrap samples of an interval."""
LABEL_ERROR = 0.09
"""The error of [Fe/H] of MILES, in dex, as other work has found."""


def make_stores(work: Path) -> None:
    """Make a store of each input. MILES ends at 7402 angstrom, so the gate of coverage is open for it."""
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    open_gate = merge(recipe["prepare"], {"gates": {"coverage": {"limit": 0.6, "then": "flag"}}})
    more = work / LEARN_MORE["labels"]
    if not more.exists():
        work.mkdir(parents=True, exist_ok=True)
        tables = [pq.read_table(DATA / "physics" / f"{name}.parquet") for name in MORE]
        pq.write_table(pa.concat_tables(tables, promote_options="default"), more)
    for name, path in (INPUTS | {"more": more}).items():
        given = {"input": str(path), "store": str(work / name), "workers": 1, "refuse_above": 1.0}
        if name == "real":
            given["prepare"] = open_gate
        ingest(Ingest.from_dict("ingest", recipe | given))


def train(work: Path, net: str, variant: str, fold: int) -> None:
    """Train one fold of a variant."""
    values = read_section(ROOT / "recipes" / "cemp.yaml", "train") | {
        "store": "computed",
        "labels": str(INPUTS["computed"]),
        "run": str(work / f"{variant}-{net}-{fold}"),
        "model": net,
        "split": {"folds": FOLDS, "fold": fold, "stratify": True},
        "threads": 1,
        "tracking": {"use": "never"},
    }
    changes = VARIANTS[variant]
    values = merge(values, {name: value for name, value in changes.items() if name != "sources"})
    values["sources"] = merge(values["sources"], changes["sources"]) if changes.get("sources") else {}
    values["store"], values["labels"] = str(work / values["store"]), str(work / values["labels"])
    for source in values["sources"].values():
        source["store"] = str(work / source["store"])
    if teacher := TAUGHT.get(variant):
        values["sources"]["survey"]["labels"] = str(answers_as_labels(work, net, teacher, fold))
    settings = Train.from_dict("realsky", merge(values, NETS[net]))
    if plan(settings):
        learn(settings)


def answers_as_labels(work: Path, net: str, teacher: str, fold: int) -> Path:
    """A label table of what a run of another variant is sure of, about LAMOST's files without a label."""
    path = work / f"{teacher}-{net}-{fold}-says.parquet"
    if path.exists():
        return path
    table = spectra(work, "lamost")
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    said = Predicted(table, *fold_answers(work, "lamost", places, of_fold(work, net, teacher, fold)))
    teff_N, error_N = said.value_NL[:, 0], said.err_NL[:, LABELS.index("FeH")]
    sure_N = table["FeH"].isna().to_numpy() & (error_N < SURE_FEH) & (teff_N > 4000) & (teff_N < 7000)
    said = said.at(sure_N & (said.p_NC.max(1) > SURE_CLASS) & (np.nan_to_num(said.other_N1[:, 0]) < 0.5))
    classes = np.array(CLASSES)[said.p_NC.argmax(1)]
    labels = dict(zip(LABELS, said.value_NL.T, strict=True))
    print(
        f"self, fold {fold}: {len(classes)} answers, {(classes != 'NMP').sum()} of them metal-poor",
        file=sys.stderr,
    )
    pq.write_table(pa.table({"obsid": said.table["obsid"], "class": classes, **labels}), path)
    return path


def spectra(work: Path, name: str) -> pd.DataFrame:
    """The spectra of a store: where they are, and their true labels where there are any."""
    store = open_store(str(work / name))
    tables = [
        store.spectra(shard, ["obsid", "path", "subclass"])
        .to_pandas()
        .assign(shard=shard, row_in_shard=lambda table: np.arange(len(table)))
        for shard in range(store.shards)
    ]
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    if name == "lamost":
        truth = pd.read_csv(DATA / "labels" / "lamost_dr1_plan_catalog.csv")
        truth = truth.rename(columns={"teff": "Teff", "feh": "FeH"})
        truth["visit"] = [
            f"spec-{int(lmjd)}-{planid}_sp{int(spid):02d}-{int(fiberid):03d}"
            for lmjd, planid, spid, fiberid in truth[["lmjd", "planid", "spid", "fiberid"]].to_numpy(object)
        ]
        truth = truth[(truth.Teff > 0) & (truth.FeH > -9)][["visit", *LABELS]].drop_duplicates("visit")
        visit = table["path"].str.extract(r"(spec-[^/]*?)(?:\.fits)", expand=False)
        return table.assign(visit=visit).merge(truth, on="visit", how="left")
    columns = [*LABELS, "class", "obsid"] + (["star", "sptype"] if name == "real" else [])
    return table.merge(pq.read_table(INPUTS[name], columns=columns).to_pandas(), on="obsid")


@dataclass(frozen=True)
class Predicted:
    """Spectra with what a variant predicts: probabilities of classes, labels, their errors and intervals."""

    table: pd.DataFrame
    p_NC: np.ndarray
    value_NL: np.ndarray
    err_NL: np.ndarray
    half_NL: np.ndarray
    other_N1: np.ndarray

    def at(self, chosen: np.ndarray) -> "Predicted":
        """Some of them."""
        arrays = (self.p_NC, self.value_NL, self.err_NL, self.half_NL, self.other_N1)
        return Predicted(self.table[chosen], *(array[chosen] for array in arrays))

    @property
    def is_mp(self) -> np.ndarray:
        """Called metal-poor, carbon-enhanced or not: by classes, or by [Fe/H] if there are none."""
        if not self.has_classes:
            return metal_poor(self.value_NL[:, LABELS.index("FeH")])
        return np.asarray(self.p_NC[:, CLASSES.index("NMP")] < 0.5)

    @property
    def was_mp(self) -> np.ndarray:
        """The same, without the classifier of stars of other kinds."""
        if not self.has_classes:
            return self.is_mp
        left_N = np.maximum(1 - np.nan_to_num(self.other_N1[:, 0]), 1e-12)
        return np.asarray((1 - self.p_NC[:, CLASSES.index("NMP")]) / left_N > 0.5)

    @property
    def has_classes(self) -> bool:
        """Whether the variant predicts classes."""
        return bool(self.p_NC.shape[1])


def of_fold(work: Path, net: str, variant: str, fold: int) -> list[str]:
    """The runs of a fold: one, or the members of an ensemble."""
    return [str(work / f"{variant}-{name}-{fold}") for name in net.split("+")]


def fold_answers(work: Path, name: str, places: np.ndarray, runs: list[str]) -> list[np.ndarray]:
    """What runs, calibrated on their validation part, predict of a store: the arrays of `Predicted`."""
    folder = runs[0] if len(runs) == 1 else "+".join([runs[0], *(Path(run).name for run in runs[1:])])
    if len(runs) > 1:
        build(Build(ensemble=folder, runs=tuple(runs), threads=1, gpu="never"))
    ensemble, store = open_ensemble(calibrated(folder, 1, gpu=False)), open_store(str(work / name))
    member_answers, latents = ensemble.members.predict_store(store.path, places, "predict")
    snr_N = read_columns(store, places, ["snr"])["snr"]
    answers = ensemble.conclude(member_answers, latents, snr_N).answers
    columns = [answers.labels.index(label) for label in LABELS]
    p_NC = np.empty((len(places), 0)) if answers.p_NC is None else answers.p_NC
    assert answers.value_NL is not None
    assert answers.err_NL is not None
    assert answers.low_NL is not None
    assert answers.high_NL is not None
    half_NL = (answers.high_NL - answers.low_NL) / 2
    other_N1 = np.full((len(places), 1), np.nan)
    if answers.other_kind_N is not None:
        other_N1 = answers.other_kind_N[:, None]
    labels = (array_NL[:, columns] for array_NL in (answers.value_NL, answers.err_NL, half_NL))
    return [p_NC, *labels, other_N1]


def predict(work: Path, net: str, variant: str, name: str, use: int) -> Predicted:
    """All spectra of a store by the mean of all folds, or by the fold that has set them apart."""
    table, folds = spectra(work, name), [of_fold(work, net, variant, fold) for fold in range(use)]
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    by_fold = [fold_answers(work, name, places, runs) for runs in folds]
    apart = np.stack([np.isin(table["obsid"], sorted(test_spectra(runs[0]))) for runs in folds])
    weight_FN = np.where(apart.any(0), apart, True).astype(float)[..., None]
    means = [
        (np.stack(arrays) * weight_FN).sum(0) / weight_FN.sum(0) for arrays in zip(*by_fold, strict=True)
    ]
    predicted = Predicted(table, *means)
    if name not in ("computed", "real"):
        return predicted
    is_both = Path(of_fold(work, net, "both", use - 1)[0], "run.json").exists()
    runs = [of_fold(work, net, "both" if is_both else variant, fold)[0] for fold in range(use)]
    return predicted.at(np.isin(table["obsid"], sorted(set().union(*map(test_spectra, runs)))))


def test_spectra(run: str) -> set[int]:
    """The observations of the stars that a run has set apart for its test."""
    table = pq.read_table(Path(run) / "samples.parquet", columns=["part", "extra_obsid"]).to_pandas()
    return set(table.loc[table.part == "test", "extra_obsid"].dropna().astype(int))


def interval(values: np.ndarray, groups: np.ndarray, statistic: Any) -> str:
    """A statistic with its 95 % interval, resampled by star."""
    rng, (_, code) = np.random.default_rng(0), np.unique(groups, return_inverse=True)
    rows_of = [np.flatnonzero(code == number) for number in range(code.max() + 1)]
    drawn = []
    for _ in range(TIMES):
        stars = rng.integers(0, len(rows_of), len(rows_of))
        drawn.append(statistic(values[np.concatenate([rows_of[star] for star in stars])]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{statistic(values):.3g} [{low:.3g}, {high:.3g}]"


def f1(pairs_N2: np.ndarray) -> float:
    """F1 of (called, true)."""
    called, true = pairs_N2.T.astype(bool)
    return float(2 * (called & true).sum() / max(called.sum() + true.sum(), 1))


def precision(pairs_N2: np.ndarray) -> float:
    """Precision of (called, true)."""
    called, true = pairs_N2.T.astype(bool)
    return float((called & true).sum() / max(called.sum(), 1))


def robust(deviations: np.ndarray) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(deviations - np.median(deviations))))


def border_rows(fgk: Predicted, stars: np.ndarray, pairs_N2: np.ndarray) -> dict[str, str]:
    """How much of what is missing lies at the border of [Fe/H] = -1, where labels err too."""
    feh_N, true_N = fgk.table["FeH"].to_numpy(), pairs_N2[:, 1]
    far_N = np.abs(feh_N + 1) >= LABEL_ERROR
    by_feh = np.stack([metal_poor(fgk.value_NL[:, LABELS.index("FeH")]), true_N], 1)
    rng, (_, code_N) = np.random.default_rng(0), np.unique(stars, return_inverse=True)
    perfect = []
    for _ in range(TIMES):
        error_N = LABEL_ERROR * rng.standard_normal(code_N.max() + 1)[code_N]
        perfect.append(f1(np.stack([metal_poor(feh_N + error_N), true_N], 1)))
    low, high = np.quantile(perfect, [0.025, 0.975])
    return {
        "... by [Fe/H] < -1 in place of classes: F1": interval(by_feh, stars, f1),
        "... ... precision": interval(by_feh, stars, precision),
        "... labels 0.09 dex or more from -1: F1 by classes": interval(pairs_N2[far_N], stars[far_N], f1),
        "... ... by [Fe/H]": interval(by_feh[far_N], stars[far_N], f1),
        "... a perfect network, such labels: F1": f"{np.mean(perfect):.3f} [{low:.3f}, {high:.3f}]",
    }


def real_rows(predicted: Predicted) -> dict[str, str]:
    """The rows of the table for real stars of libraries."""
    table = predicted.table
    teff, feh = table["Teff"].to_numpy(), table["FeH"].to_numpy()
    fgk = predicted.at((teff > 4000) & (teff < 7000) & np.isfinite(feh))
    stars, pairs = fgk.table["star"].to_numpy(), np.stack([fgk.is_mp, metal_poor(fgk.table["FeH"])], 1)
    rows = {
        "real FGK: spectra": str(len(pairs)),
        "... MP search, F1": interval(pairs, stars, f1),
        "... precision": interval(pairs, stars, precision),
    } | border_rows(fgk, stars, pairs)
    for number, name in enumerate(LABELS):
        deviation = fgk.value_NL[:, number] - fgk.table[name].to_numpy()
        known = np.isfinite(deviation)
        rows[f"... {name}: offset"] = interval(deviation[known], stars[known], np.median)
        rows[f"... {name}: scatter (robust)"] = interval(deviation[known], stars[known], robust)
        size = np.abs(deviation[known])
        shares = [(size <= array[known, number]).mean() for array in (fgk.err_NL, fgk.half_NL)]
        rows[f"... {name}: within one sigma; in the 95 % interval"] = "; ".join(f"{s:.0%}" for s in shares)
    is_m = table["sptype"].fillna("").str.contains("M").to_numpy() | (teff < 3900)
    is_hot = (teff > 7500) & ~metal_poor(feh)
    for text, chosen in (("hotter than 7,500 K, not metal-poor", is_hot), ("M", is_m)):
        group = predicted.at(chosen)
        counts = f"{group.is_mp.sum()} of {len(group.p_NC)}"
        rows[f"real, {text}: called MP (without the kinds)"] = f"{counts} ({group.was_mp.sum()})"
    return rows


def lamost_rows(predicted: Predicted) -> dict[str, str]:
    """The rows for real LAMOST files."""
    table = predicted.table
    known = predicted.at(np.isfinite(table["FeH"].to_numpy()))
    deviation = known.value_NL[:, LABELS.index("FeH")] - known.table["FeH"].to_numpy()
    stars = known.table["visit"].to_numpy(object)
    true, value = (known.table["FeH"].to_numpy(), known.value_NL[:, LABELS.index("FeH")])
    corrected = left_out("offset", value, true, stars)
    rows = {
        "LAMOST DR1, 81 spectra: [Fe/H] offset": interval(deviation, stars, np.median),
        "... scatter (robust)": interval(deviation, stars, robust),
        "... offset with recalibrate=, star left out": interval(corrected, stars, np.median),
    }
    normal = known.at((known.table["FeH"] > -0.7).to_numpy())
    rows["LAMOST DR1, [Fe/H] above -0.7: called MP"] = f"{normal.is_mp.sum()} of {len(normal.p_NC)}"
    types = table["subclass"].fillna("?").str[:1].to_numpy()
    counts = [f"{kind} {predicted.is_mp[types == kind].sum()} of {(types == kind).sum()}" for kind in "AFGKM"]
    return rows | {"LAMOST files by type: called MP": ", ".join(counts)}


def computed_rows(predicted: Predicted, name: str) -> dict[str, str]:
    """The rows for computed stars; a variant without classes has none of them."""
    rows = {f"{name}: accuracy": "", "... CEMP F1": ""}
    if predicted.has_classes:
        true = predicted.table["class"].map(
            lambda value: CLASSES.index(value) if isinstance(value, str) else value
        )
        called = predicted.p_NC.argmax(1)
        cemp = np.stack([called == CLASSES.index("CEMP"), true == CLASSES.index("CEMP")], 1)
        accuracy = f"{(called == true).mean():.3f}"
        rows = {f"{name}: accuracy": accuracy, "... CEMP F1": interval(cemp, np.arange(len(true)), f1)}
    for number, label in enumerate(LABELS):
        deviation = predicted.value_NL[:, number] - predicted.table[label].to_numpy()
        within = (np.abs(deviation) <= predicted.err_NL[:, number]).mean()
        size = np.nanmean(np.abs(deviation))
        rows[f"... {label}: mean absolute error; within one sigma"] = f"{size:.3g}; {within:.0%}"
    return rows


def main(
    net: str = "prism", use: str = "5", variants: str = "computed,real,both", work: str = "", side: str = "2"
) -> None:
    """Train what is missing, and print the table."""
    warnings.simplefilter("ignore")
    folder, names = Path(work) if work else ROOT / "benchmarks" / "work" / "realsky", variants.split(",")
    make_stores(folder)
    with ProcessPoolExecutor(int(side), get_context("spawn")) as pool:
        for taught in (False, True):
            jobs = [
                pool.submit(train, folder, name, variant, fold)
                for fold in range(int(use))
                for variant in names
                for name in net.split("+")
                if (variant in TAUGHT) == taught
            ]
            for job in jobs:
                job.result()
    columns = []
    for variant in names:
        of = {name: predict(folder, net, variant, name, int(use)) for name in INPUTS}
        columns.append(
            real_rows(of["real"])
            | lamost_rows(of["lamost"])
            | {f"computed {row}": value for row, value in computed_rows(of["computed"], "").items()}
            | {f"transfer {row}": value for row, value in computed_rows(of["direct"], "").items()}
        )
    print("| " + " | ".join([f"{net}, {use} of {FOLDS} folds by star", *names]) + " |")
    print("| --- " * (1 + len(names)) + "|")
    for row in columns[0]:
        print("| " + " | ".join([row, *(column[row] for column in columns)]) + " |")


if __name__ == "__main__":
    main(**dict(item.split("=", 1) for item in sys.argv[1:]))
