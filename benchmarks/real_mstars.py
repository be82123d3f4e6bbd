"""Classes M0 to M4 of real stars: what mock stars, observed templates and real stars are worth in a training.

    python -m benchmarks.real_mstars [work=FOLDER] [steps=160] [seeds=1,2] ['only=mock;mock, red']

Three sets of spectra:

- `mock`: the mock survey of recipes/mstars.yaml;
- `light`: M dwarfs of spectral libraries as a LAMOST fibre would have seen them, and PyHammer's templates
  (co-added SDSS spectra): real light with classes that others gave;
- `real`: spectra of LAMOST with the class of its pipeline, and of SDSS. No pictures of these are at hand.

Every real star is asked of a network that has not learned from it, in five folds by star. All networks have
about the same number of steps; an answer is the mean of two seeds. The baselines know the same sets, as
indices of bands: a relation of the literature, a forest, and the most common class. A finished run is not
trained again. Needs ../shared/data.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from benchmarks.images import DATA, M_CLASSES, Place, labelled, predicted, share, show
from survey.labelling.samples import Samples
from survey.labelling.settings import Split
from survey.labelling.split import parts_of_stars
from survey.store.store import Store, open_store

FOLDS = 5
BATCH = 32
INDEX_NAMES = ("tio5", "cah2", "cah3", "na_d")
DWARF = r"^(M[0-4])(?:\.\d)?\s*(?:V.*)?$"
"""A spectral type of a library that is not of a giant."""
TEMPLATE_SNR = 100.0

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Stars:
    """One set of stars: its store, its table, its labelled spectra, their indices, and the fold of each."""

    store: Store
    table: Path
    rows: Samples
    index_NI: NDArray[np.float64]
    fold_N: NDArray[np.int64]

    @classmethod
    def open(cls, path: str, table: Path) -> "Stars":
        """A set whose table has the column subclass."""
        store = open_store(path)
        rows = labelled(store, table, "subclass", M_CLASSES)
        shards = [store.spectra(shard, [*INDEX_NAMES]).to_pandas() for shard in range(store.shards)]
        index_NI = np.array([shards[shard].iloc[row] for shard, row in rows.shard_row_N2.tolist()], float)
        stars = rows.extra["star"].to_pylist()
        fold_N = np.zeros(len(rows), np.int64)
        for fold in range(FOLDS):
            part_N = parts_of_stars(Split.from_dict("", split(fold)), stars, rows.class_N)
            fold_N[part_N == 2] = fold
        return cls(store, table, rows, np.nan_to_num(index_NI, nan=-9.0), fold_N)

    @property
    def visits(self) -> list[str]:
        """The name of each observation."""
        return [str(name) for name in self.rows.extra["visit"].to_pylist()]

    def only(self, visits: set[str]) -> "Stars":
        """The stars of these observations, in the order of their names."""
        names = self.visits
        at = np.array(
            sorted((row for row, name in enumerate(names) if name in visits), key=names.__getitem__)
        )
        return replace(self, rows=self.rows.at(at), index_NI=self.index_NI[at], fold_N=self.fold_N[at])


def split(fold: int) -> dict[str, Any]:
    """The settings of a split into folds."""
    return {"folds": FOLDS, "fold": fold, "stratify": True, "validation": 0.1}


RED = {"start": 3.7818, "stop": 3.8692, "step": 1e-4, "scale": "log"}
"""6050 to 7400 angstrom: the bands of TiO and CaH, and little that calibration and sky can spoil."""
FORMS: dict[str, dict[str, Any]] = {"whole": {}, "red": {"grid": RED}}
"""How spectra are prepared, besides the recipe: whole, or the red bands alone, relative to their mean."""


def make_sets(place: Place, form: str) -> dict[str, Stars]:
    """The three sets in one form."""
    made = place.made("mstars", "mock", n=900, snr=0.25)
    tables = {"mock": made / "objects.csv", "light": light(place.work), "real": real(place.work)}
    inputs: dict[str, dict[str, Any]] = {
        "mock": {},
        "light": {"sources": ["arrays"], "options": {"arrays": {"grid": "lamost3909"}}},
        "real": {"sources": ["lamost", "sdss"], "files": str(DATA)},
    }
    gates = {"coverage": {"limit": 0.6, "then": "flag"}}  # MILES ends at 7402 angstrom
    prepare = {"prepare": {"image": {"size": 16}, "gates": gates} | FORMS[form]}
    sets = {}
    for name, table in tables.items():
        source = table.with_suffix(".parquet") if name == "light" else table
        path = place.store("mstars", f"{name}-{form}", source, **inputs[name], **prepare)
        sets[name] = Stars.open(path, table)
    return sets


def all_sets(place: Place) -> dict[str, dict[str, Stars]]:
    """The sets in all forms; the real stars are those that every form has."""
    sets = {form: make_sets(place, form) for form in FORMS}
    common = set.intersection(*(set(own["real"].visits) for own in sets.values()))
    return {form: own | {"real": own["real"].only(common)} for form, own in sets.items()}


def real(work: Path) -> Path:
    """The table of real spectra: the class of the pipeline of LAMOST or SDSS, and the file."""
    parts = []
    for survey, index in (("lamost", "lrs_index.csv"), ("sdss", "spec_index.csv")):
        table = pd.read_csv(DATA / survey / index)
        table["subclass"] = table["subclass"].str.extract(r"^d?(M[0-4])$", expand=False)
        folder = table["layout"] if survey == "lamost" else table["kind"]
        table["spectrum"] = survey + "/" + folder + "/" + table["file"]
        parts.append(table.loc[table["subclass"].notna(), ["spectrum", "subclass", "ra", "dec"]])
    path = work / "real.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


def light(work: Path) -> Path:
    """The table of M dwarfs of spectral libraries and of templates; their spectra beside it."""
    columns = ["obsid", "star", "sptype", "z", "flux", "ivar"]
    stars = pq.read_table(DATA / "realstars" / "realstars.parquet", columns=columns).to_pandas()
    stars["subclass"] = stars["sptype"].fillna("").str.extract(DWARF, expand=False)
    stars = stars[stars["subclass"].notna()].drop(columns="sptype")
    grid = np.load(DATA / "sdss" / "pyhammer_templates_grid.npz")
    chosen = [row for row, kind in enumerate(grid["spt"]) if kind in M_CLASSES]
    flux_NP = grid["flux"][chosen].astype(float)
    mean_N1 = np.nanmean(flux_NP, 1, keepdims=True)
    is_good_NP = np.isfinite(flux_NP) & (flux_NP > 0)
    templates = pd.DataFrame(
        {
            "obsid": 1 + np.arange(len(chosen)),
            "star": [f"template-{grid['name'][row]}" for row in chosen],
            "z": 0.0,
            "flux": list(np.where(is_good_NP, flux_NP / mean_N1, 0.0)),
            "ivar": list(np.where(is_good_NP, TEMPLATE_SNR**2, 0.0)),
            "subclass": grid["spt"][chosen],
        }
    )
    both = pd.concat([stars, templates], ignore_index=True)
    path = work / "light.csv"
    both.drop(columns="subclass").to_parquet(path.with_suffix(".parquet"), index=False)
    both[["obsid", "star", "subclass"]].to_csv(path, index=False)
    return path


@dataclass(frozen=True)
class Variant:
    """A training: its sets, the first one the main one, and other settings; `start` is the variant before."""

    sets: tuple[str, ...]
    form: str = "whole"
    start: str = ""
    values: tuple[tuple[str, Any], ...] = ()


CALIBRATION = {
    "scaling": {"probability": 0.5, "strength": 0.2},
    "drift": {"probability": 0.8, "strength": 0.3},
    "smoothing": {"probability": 0.3, "sigma": 2.0},
    "ivar_noise": {"probability": 0.7, "strength": 3.0},
    "dropout": {"probability": 0.3, "bands": 3, "width": 200},
}
"""What differs between telescopes: calibration, resolution, noise, gaps."""
NETS: dict[str, dict[str, Any]] = {
    "fusion": {"options": {"use": "spectrum"}},
    "prism": {"model": "prism"},
}
VARIANTS = {
    "mock": Variant(("mock",)),
    "mock, red": Variant(("mock",), "red"),
    "light, red": Variant(("light",), "red"),
    "mock and light": Variant(("mock", "light")),
    "mock and light, red": Variant(("mock", "light"), "red"),
    "mock and light, red, rough": Variant(("mock", "light"), "red", values=(("augment", CALIBRATION),)),
    "real, red": Variant(("real",), "red"),
    "real, red, from mock and light": Variant(("real",), "red", start="mock and light, red"),
    "real and light, red": Variant(("real", "light"), "red"),
    "all, red": Variant(("real", "light", "mock"), "red"),
}


def train(place: Place, sets: dict[str, Stars], net: str, name: str, fold: int, seed: int, steps: int) -> str:
    """A finished run of a variant; sets beside the main one are in the training part as a whole."""
    variant = VARIANTS[name]
    main, *others = variant.sets
    spectra = 0.8 * len(sets[main].rows) * (1 + len(others))
    values: dict[str, Any] = {
        "store": sets[main].store.path,
        "labels": str(sets[main].table),
        "split": split(fold),
        "batch": BATCH,
        "epochs": max(1, round(steps * BATCH / max(spectra, BATCH))),
        "learn_from": "train+validation",
        "keep": "last",
        **NETS[net],
        "seed": seed,
        "sources": {
            other: {
                "store": sets[other].store.path,
                "labels": str(sets[other].table),
                "share": 1 / len(variant.sets),
                "parts": "train",
            }
            for other in others
        },
    }
    if variant.start:
        before = train(place, sets, net, variant.start, 0, seed, steps)
        values |= {"start_from": before, "optimiser": {"lr": 1e-4}}
    path = f"{net}-{name.replace(', ', '-').replace(' ', '-')}-{fold}-{seed}"
    return place.run("mstars", path, **values, **dict(variant.values))


def answers(
    place: Place, sets: dict[str, Stars], net: str, name: str, steps: int, seeds: Sequence[int]
) -> Classes:
    """The class of each real star, by networks that have not seen it."""
    rows, fold_N = sets["real"].rows, sets["real"].fold_N
    p_NC = np.zeros((len(rows), len(M_CLASSES)))
    for seed in seeds:
        if VARIANTS[name].sets[0] != "real":
            p_NC += predicted(train(place, sets, net, name, 0, seed, steps), sets["real"].store, rows)
            continue
        for fold in range(FOLDS):
            at = np.flatnonzero(fold_N == fold)
            run = train(place, sets, net, name, fold, seed, steps)
            p_NC[at] += predicted(run, sets["real"].store, rows.at(at))
    return np.asarray(p_NC.argmax(1))


def forest(sets: dict[str, Stars], names: Sequence[str]) -> Classes:
    """The class of each real star by its indices, by forests that know these sets without the star's fold."""
    real_stars, answer_N = sets["real"], np.zeros(len(sets["real"].rows), np.int64)
    for fold in range(FOLDS):
        index, truth = [], []
        for name in names:
            stars = sets[name]
            used_N = stars.fold_N != fold if name == "real" else np.ones(len(stars.rows), bool)
            index.append(stars.index_NI[used_N])
            truth.append(stars.rows.class_N[used_N])
        model = RandomForestClassifier(300, random_state=0, class_weight="balanced")
        model.fit(np.concatenate(index), np.concatenate(truth))
        at = real_stars.fold_N == fold
        answer_N[at] = model.predict(real_stars.index_NI[at])
    return answer_N


def baselines(sets: dict[str, Stars]) -> dict[str, Classes]:
    """The classes by each baseline."""
    stars = sets["real"]
    most = int(np.bincount(stars.rows.class_N).argmax())
    tio5_N = stars.index_NI[:, INDEX_NAMES.index("tio5")]
    reid_N = np.where(tio5_N > 0, np.clip(np.round(8.2 - 10.775 * tio5_N), 0, 4), most)
    return {
        "always the most common class": np.full(len(stars.rows), most),
        "TiO5, relation of Reid et al. 1995": reid_N.astype(np.int64),
        "forest on indices: mock": forest(sets, ["mock"]),
        "forest on indices: light": forest(sets, ["light"]),
        "forest on indices: real": forest(sets, ["real"]),
        "forest on indices: real and light": forest(sets, ["real", "light"]),
    }


def report(name: str, answer_N: Classes, truth_N: Classes, beside_N: Classes) -> None:
    """A row: right, within one class, macro recall, and stars that only one of two methods has right."""
    is_right_N, beside_right_N = answer_N == truth_N, beside_N == truth_N
    recall = np.mean([is_right_N[truth_N == number].mean() for number in np.unique(truth_N)])
    gained, lost = (is_right_N & ~beside_right_N).sum(), (beside_right_N & ~is_right_N).sum()
    within = share(np.abs(answer_N - truth_N) <= 1)
    show(name, share(is_right_N), within, f"{recall:.2f}", f"+{gained} -{lost}")


def bands(sets: dict[str, Stars]) -> None:
    """The median of TiO5 and CaH2 by class in each set: where mock stars are not like real ones."""
    show("class", *(f"{name}: TiO5, CaH2, stars" for name in sets))
    show(*["---"] * (1 + len(sets)))
    for number, name in enumerate(M_CLASSES):
        cells = []
        for stars in sets.values():
            index_NI = stars.index_NI[stars.rows.class_N == number]
            median_I = [np.median(column[column > 0]) for column in index_NI.T[:2]]
            cells.append(", ".join(f"{value:.2f}" for value in median_I) + f", {len(index_NI)}")
        show(name, *cells)


def main(
    work: str = "", steps: str = "160", seeds: str = "1,2", nets: str = "fusion,prism", only: str = ""
) -> None:
    """Print the tables."""
    folder = Path(work or Path(__file__).parent / "work" / "real_mstars")
    folder.mkdir(parents=True, exist_ok=True)
    place, chosen = Place(folder, 0), tuple(filter(None, only.split(";")))
    sets = all_sets(place)
    bands(sets["whole"])
    show()
    truth_N = sets["whole"]["real"].rows.class_N.astype(np.int64)
    simple = baselines(sets["whole"])
    beside_N = simple["forest on indices: real"]
    show("real M dwarfs", "exact", "within one class", "macro recall", "beside the forest on real indices")
    show(*["---"] * 5)
    for name, answer_N in simple.items():
        report(name, answer_N, truth_N, beside_N)
    for net in nets.split(","):
        for name, variant in VARIANTS.items():
            if chosen and name not in chosen:
                continue
            own = sets[variant.form]
            answer_N = answers(place, own, net, name, int(steps), [*map(int, seeds.split(","))])
            report(f"{net}: {name}", answer_N, truth_N, beside_N)


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
