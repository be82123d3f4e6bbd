"""What networks learn from images: M dwarfs from spectra and pictures, galaxies from pictures, two surveys.

    python -m benchmarks.images [parts=mstars,galaxies,surveys] [work=benchmarks/work/images] [epochs=20]
                                ['only=without;sinkhorn']

Every training is a run in the work folder, and a finished one is not trained again. Each network is compared
with simple baselines on the same objects: the most common class, indices of bands and colours, statistics of
shapes. With a second survey an epoch has twice the steps, so one variant without it has twice the epochs.
Accuracies have 95 % intervals (Wilson). Of two seeds on the same galaxies they are means, with intervals from
resampled galaxies.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from survey.images.shapes import shape_statistics
from survey.labelling import samples
from survey.labelling.join import join
from survey.labelling.samples import Samples
from survey.labelling.settings import Join
from survey.metrics.intervals import percentile_interval, resample_means, share_measure
from survey.mock import mock
from survey.mock.settings import Mock
from survey.recipes import merge, read_section
from survey.store.indices import INDICES
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import Store, open_store
from survey.training.batches import read_spectra
from survey.training.run import history, open_run
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
M_CLASSES = ["M0", "M1", "M2", "M3", "M4"]
SPLIT = {"parts": [0.6, 0.1, 0.3], "stratify": True}


@dataclass(frozen=True)
class Place:
    """The work folder, and how long networks are trained."""

    work: Path
    epochs: int
    only: tuple[str, ...] = ()

    def made(self, recipe: str, name: str, **values: Any) -> Path:
        """A mock survey."""
        out = self.work / name
        section = read_section(ROOT / "recipes" / f"{recipe}.yaml", "mock")
        mock.make(Mock.from_dict("mock", section | {"out": str(out)} | values))
        return out

    def store(self, recipe: str, name: str, source: Path, **values: Any) -> str:
        """A store of a survey."""
        section = read_section(ROOT / "recipes" / f"{recipe}.yaml", "ingest")
        path = str(self.work / name)
        own = {"input": str(source), "store": path, "refuse_above": 1.0}
        ingest(Ingest.from_dict("ingest", merge(section, own | values)))
        return path

    def run(self, recipe: str, name: str, **values: Any) -> str:
        """A finished run."""
        section = read_section(ROOT / "recipes" / f"{recipe}.yaml", "train")
        own = {
            "run": str(self.work / name),
            "epochs": self.epochs,
            "threads": 1,
            "tracking": {"use": "never"},
        }
        if "model" in values:  # the options of the recipe are those of its own network
            section = {name: value for name, value in section.items() if name != "options"}
        settings = Train.from_dict("train", merge(merge(section, {"split": SPLIT} | own), values))
        if plan(settings):
            learn(settings)
        return settings.run


def labelled(store: Store, table: Path | str, column: str, classes: list[str], **values: Any) -> Samples:
    """The objects of a store whose class a table knows."""
    settings = Join(table=str(table), classes=column, class_names=tuple(classes), **values)
    return samples.from_labelled(join(settings, store, ()), ())


def predicted(run: str, store: Store, rows: Samples, key: str = "p") -> NDArray[np.float64]:
    """Probabilities or latents of a run for some objects."""
    opened = open_run(run)
    parts = []
    for start in range(0, len(rows), 256):
        spectra = read_spectra(store, rows.shard_row_N2[start : start + 256], opened.net.extra_inputs)
        parts.append(opened.predict(spectra)[key])
    return np.concatenate(parts)


def share(right_N: NDArray[np.bool_]) -> str:
    """A share with its interval."""
    measure = share_measure("", "accuracy", int(right_N.sum()), len(right_N))
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def share_of_seeds(right_SN: list[NDArray[np.bool_]]) -> str:
    """The mean share of several seeds, with its interval: galaxies are drawn, each with all its answers."""
    mean_N = np.mean(right_SN, 0)
    value = float(mean_N.mean())
    low, high = percentile_interval(resample_means(mean_N[:, None])[:, 0], value)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def show(*cells: str) -> None:
    """A row of a table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def m_stars(place: Place) -> None:
    """Classes M0 to M4 of the mock survey, and of real spectra without pictures."""
    made = place.made("mstars", "mock-mstars", n=900, snr=0.25)
    store_path = place.store("mstars", "mstars", made / "objects.csv")
    store, table = open_store(store_path), made / "objects.csv"
    common = {"store": store_path, "labels": str(table)}
    show("M dwarfs", "mock, accuracy", "real LAMOST, exact", "real, within one class")
    show("---", "---", "---", "---")
    rows = samples.read(place.run("mstars", "m-both", **common, options={"use": "both"}))
    train, test = rows.part("train"), rows.part("test")
    values = [feature(store, part, table) for part in (train, test)]
    most = int(np.bincount(train.class_N).argmax())
    show("always the most common class", share(test.class_N == most), "", "")
    for name, columns in (
        ("indices", slice(0, 4)),
        ("colours", slice(4, None)),
        ("indices and colours", slice(None)),
    ):
        model = RandomForestClassifier(300, random_state=0, class_weight="balanced")
        model.fit(values[0][:, columns], train.class_N)
        right_N = model.predict(values[1][:, columns]) == test.class_N
        show(f"forest on {name}", share(right_N), "", "")
    real_store, real = real_m_dwarfs(place)
    for use in ("image", "spectrum", "both"):
        run = place.run("mstars", f"m-{use}", **common, options={"use": use})
        right_N = predicted(run, store, test).argmax(1) == test.class_N
        cells = ["", ""]
        if use != "image":
            difference_N = np.abs(predicted(run, real_store, real).argmax(1) - real.class_N)
            cells = [share(difference_N == 0), share(difference_N <= 1)]
        show(f"fusion, {use}", share(right_N), *cells)


def feature(store: Store, rows: Samples, table: Path) -> NDArray[np.float64]:
    """Indices of TiO, CaH and Na, and colours of the objects table; -9 where there is none."""
    names = [name for name in ("tio5", "cah2", "cah3", "na_d") if name in INDICES]
    shards = [store.spectra(shard, ["path", *names]) for shard in range(store.shards)]
    with table.open() as file:
        known = {}
        for row in csv.DictReader(file):
            magnitudes = [float(row[band] or "nan") for band in "ugriz"]
            for column in ("spectrum", "image"):
                known[row[column].rpartition("/")[2]] = -np.diff(magnitudes)
    values = []
    for shard, number in rows.shard_row_N2.tolist():
        row = {name: shards[shard][name][number].as_py() for name in ("path", *names)}
        colours = known[str(row["path"]).rpartition("/")[2]]
        values.append([*(np.nan if row[name] is None else row[name] for name in names), *colours])
    return np.asarray(np.nan_to_num(np.array(values, float), nan=-9.0), np.float64)


def real_m_dwarfs(place: Place) -> tuple[Store, Samples]:
    """Real spectra of LAMOST with the class of its pipeline; no pictures are at hand."""
    path = place.store("mstars", "real-mstars", DATA / "lamost", sources=["lamost", "images"])
    store, table = open_store(path), place.work / "real-mstars.csv"
    with (DATA / "lamost" / "lrs_index.csv").open() as file, table.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["file", "subclass"])
        for row in csv.DictReader(file):
            if row["subclass"][:2] in M_CLASSES:
                writer.writerow([row["file"], row["subclass"][:2]])
    return store, labelled(store, table, "subclass", M_CLASSES)


def galaxies(place: Place) -> None:
    """Questions of the EFIGI catalogue, answered from latents, statistics of shapes, and pixels."""
    path = place.store("galaxies", "efigi", DATA / "galaxies" / "efigi.tar")
    store = open_store(path)
    runs = {
        model: place.run("galaxies", f"g-{model}", store=path, labels="none", **OPTIONS[model])
        for model in OPTIONS
    }
    last = history(runs["vae"])[-1]
    show(
        "vae of 40 numbers",
        *(f"{name} {last[f'validation_{name}']:.3f}" for name in ("reconstruction", "ssim", "active")),
    )
    show(
        "EFIGI question",
        "classes",
        "most common",
        *(f"{name} {kind}" for name in ("vae", "views", "shapes") for kind in ("forest", "linear")),
        "trained on pixels",
    )
    show(*["---"] * 10)
    for question, classes in QUESTIONS.items():
        table = question_table(place, question)
        rows = labelled(store, table, "answer", classes)
        part_N = np.random.default_rng(0).permutation(len(rows)) < 0.7 * len(rows)
        shapes = shape_statistics(
            np.concatenate([images_of(store, rows, start) for start in range(0, len(rows), 512)])
        )[1]
        features = {name: predicted(run, store, rows, "latent") for name, run in runs.items()}
        features["shapes"] = np.nan_to_num(shapes, nan=-9.0)
        truth_N = rows.class_N
        most = int(np.bincount(truth_N[part_N]).argmax())
        cells = [share(truth_N[~part_N] == most)]
        for value_NF in features.values():
            for model in (
                RandomForestClassifier(300, random_state=0),
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
            ):
                model.fit(value_NF[part_N], truth_N[part_N])
                cells.append(share(model.predict(value_NF[~part_N]) == truth_N[~part_N]))
        show(question, str(len(classes)), *cells, pixels(place, store, path, table, question, classes))


def pixels(place: Place, store: Store, path: str, table: Path, question: str, classes: list[str]) -> str:
    """The accuracy of a network that is trained on the images and classes themselves."""
    values = {
        "model": "fusion",
        "task": "cls",
        "options": {"use": "image"},
        "monitor": "f1_macro",
        "labels": str(table),
    }
    named = {"join": {"classes": "answer", "class_names": classes}, "store": path, "augment": AUGMENT}
    run = place.run("galaxies", f"g-pixels-{question}", **values, **named)
    test = samples.read(run).part("test")
    return share(predicted(run, store, test).argmax(1) == test.class_N)


def images_of(store: Store, rows: Samples, start: int) -> NDArray[np.uint8]:
    """Some images."""
    found = read_spectra(store, rows.shard_row_N2[start : start + 512], ("image",)).image
    assert found is not None
    return np.asarray(found.numpy())


AUGMENT = {"image": {"turn": True, "shift": 2, "zoom": 0.1, "brightness": 0.2, "noise": 0.03}}
ALIGN = {"weight": 0.3, "warm_up": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "vae": {},
    "views": {"model": "views", "options": {"latent": 40}, "augment": {"image": {"turn": False}}},
}
QUESTIONS = {
    "type": ["early", "spiral", "late"],
    "bar": ["no_bar", "bar"],
    "inclined": ["face_on", "inclined"],
}


def question_table(place: Place, question: str) -> Path:
    """A table of answers to a question by the attributes of EFIGI; uncertain ones are left out."""
    path = place.work / f"efigi-{question}.csv"
    with (DATA / "galaxies" / "efigi_attributes.csv").open() as file, path.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["file", "answer"])
        for row in csv.DictReader(file):
            stage, bar, angle = (float(row[name] or "nan") for name in ("T", "Bar_Length", "Inclination"))
            answer = {
                "type": "early" if stage <= -1 else "spiral" if stage <= 4 else "late",
                "bar": "no_bar" if bar == 0 else "bar" if bar >= 0.5 else "",
                "inclined": "face_on" if angle <= 0.25 else "inclined" if angle >= 0.75 else "",
            }[question]
            if answer:
                writer.writerow([f"{row['PGC_name']}.jpg", answer])
    return path


def surveys(place: Place) -> None:
    """Classes of galaxies learned in one survey and asked in another, with and without alignment."""
    made = place.made("galaxies", "mock-galaxies", n=1200, image_pixels=64)
    stretch = {"prepare": {"image": {"stretch": "midtone"}}}
    paths = {
        name: place.store("galaxies", f"two-{name}", made / f"{name}.csv", **stretch)
        for name in ("decals", "bass")
    }
    with (made / "decals.csv").open() as file:
        classes = sorted({row["class"] for row in csv.DictReader(file)})
    named = {"join": {"classes": "class", "class_names": classes}, "labels": str(made / "decals.csv")}
    base = {
        "model": "fusion",
        "task": "cls",
        "options": {"use": "image"},
        "monitor": "f1_macro",
        "store": paths["decals"],
    } | named
    bass = {"sources": {"bass": {"store": paths["bass"], "labels": "none"}}}
    worse = {
        "augment": {
            "image": AUGMENT["image"] | {"seeing": 1.5, "noise": 0.08, "colour": 0.2, "brightness": 0.3}
        }
    }
    variants: dict[str, dict[str, Any]] = {
        "without": {"augment": AUGMENT},
        "without, twice the epochs": {"augment": AUGMENT, "epochs": 2 * place.epochs},
        "seeing and noise": worse,
        **{
            f"{method}": bass | {"augment": AUGMENT, "align": {"method": method} | ALIGN}
            for method in ("mmd", "coral", "sinkhorn", "adversary", "pairs")
        },
    }
    show("two surveys (seeds)", "same survey", "other survey", "distance (MMD) of the latents")
    show("---", "---", "---", "---")
    for name, values in variants.items():
        if place.only and name not in place.only:
            continue
        right: dict[str, list[NDArray[np.bool_]]] = {"decals": [], "bass": []}
        distances = []
        for seed in (1, 2):
            run = place.run(
                "galaxies",
                f"two-{name.replace(' ', '-').replace(',', '')}-{seed}",
                **base,
                **values,
                seed=seed,
            )
            latents = {}
            test = set(samples.read(run).part("test").extra["visit"].to_pylist())
            for survey, path in paths.items():
                store = open_store(path)
                rows = labelled(store, made / f"{survey}.csv", "class", classes)
                rows = rows.at(np.flatnonzero([visit in test for visit in rows.extra["visit"].to_pylist()]))
                right[survey].append(predicted(run, store, rows).argmax(1) == rows.class_N)
                latents[survey] = predicted(run, store, rows, "latent")
            distances.append(distance(latents["decals"], latents["bass"]))
        show(name, *(share_of_seeds(right[survey]) for survey in paths), f"{np.mean(distances):.3f}")


def distance(first_ND: NDArray[np.float64], other_ND: NDArray[np.float64]) -> float:
    """The distance of two sets of latents, in units of their common spread."""
    import torch

    from survey.training.alignment import compare
    from survey.training.source_settings import Align

    both = torch.from_numpy(np.concatenate([first_ND, other_ND])).float()
    source = torch.cat([torch.zeros(len(first_ND)), torch.ones(len(other_ND))]).long()
    compared = compare(Align(method="mmd", weight=1.0), both, source)
    return float(compared.distance) if compared else float("nan")


PARTS = {"mstars": m_stars, "galaxies": galaxies, "surveys": surveys}


def main(parts: str = "mstars,galaxies,surveys", work: str = "", epochs: str = "20", only: str = "") -> None:
    """Run the parts, and print their tables."""
    chosen = tuple(filter(None, only.split(";")))
    place = Place(Path(work or ROOT / "benchmarks" / "work" / "images"), int(epochs), chosen)
    place.work.mkdir(parents=True, exist_ok=True)
    for part in parts.split(","):
        PARTS[part](place)


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
