"""Learned in one survey, asked in another: does alignment of features pay, with as many steps and labels?

    python -m benchmarks.twin_surveys [work=FOLDER] [epochs=30] [seeds=1,2] [gap=strong,mock] [only=none]

The first survey is EFIGI: 2,956 real galaxies with the question *type* (early, spiral, late). The second one
sees the same galaxies through worse seeing and noise, with other colours and larger pixels (gap=mild or
strong). With gap=mock both are the mock surveys of recipes/galaxies.yaml. The classes of the second survey
are used for the test alone, except in the last variant, which shows what could be reached. Test galaxies are
in no training, in neither survey.

A step without alignment has 64 labelled images. A step with it has as many, and 64 of the second survey
without labels beside them. So all variants have the same number of steps and of labelled images. The distance
is the maximum mean discrepancy of the last features, in units of their spread; an adversary's is how well a
classifier recognises the survey (0 = by chance, 1 = always).
"""

import csv
import io
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.images import (
    AUGMENT,
    DATA,
    QUESTIONS,
    Place,
    labelled,
    predicted,
    question_table,
    show,
)
from survey.labelling import samples
from survey.store.store import open_store
from survey.training import alignment
from survey.training.source_settings import Align

BATCH, PIXELS = 64, 32


@dataclass(frozen=True)
class Telescope:
    """How the second survey sees: seeing (a sigma in pixels of EFIGI), pixels, noise, factors of colours."""

    seeing: float
    pixels: int
    noise: float
    colours: tuple[float, float, float]

    def picture(self, rgb_HW3: NDArray[np.uint8], draw: np.random.Generator) -> NDArray[np.uint8]:
        """A picture of the first survey as the second one has it."""
        image = gaussian_filter(rgb_HW3.astype(float) / 255, (self.seeing, self.seeing, 0))
        small = Image.fromarray(np.round(image * 255).astype(np.uint8)).resize((self.pixels, self.pixels), 4)
        image = np.asarray(small, float) / 255 * self.colours
        image += draw.normal(0.0, self.noise, image.shape)
        return np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


TELESCOPES = {
    "mild": Telescope(2.0, 44, 0.03, (0.9, 1.0, 1.1)),
    "strong": Telescope(4.0, 30, 0.10, (0.7, 0.9, 1.2)),
}

SIMILAR = {
    "seeing": 2.0,
    "noise": 0.15,
    "colour": 0.3,
    "brightness": 0.3,
    "zoom": 0.1,
    "shift": 2,
    "turn": True,
}
"""Augmentation that reaches beyond what the second survey does to a picture."""

SMALL = {"use": "image", "spectrum_tokens": 1, "channels": [16, 32, 64], "width": 64, "layers": 1}
WEIGHTS = (0.03, 0.3, 1.0)
BESIDE = "none, images of both surveys"
BOTH = "classes of both surveys"


def variants(epochs: int) -> dict[str, dict[str, Any]]:
    """The changed settings of each variant."""

    def aligned(method: str, weight: float, warm_up: float = 0.15, **more: Any) -> dict[str, Any]:
        align = {"method": method, "weight": weight, "warm_up": warm_up * epochs} | more
        return {"batch": 2 * BATCH, "align": align}

    similar = {"augment": {"image": SIMILAR}}
    found: dict[str, dict[str, Any]] = {"none": {}, BESIDE: {"batch": 2 * BATCH}}
    for method in ("mmd", "coral", "sinkhorn", "adversary", "pairs"):
        for weight in WEIGHTS:
            found[f"{method}, weight {weight:g}"] = aligned(method, weight)
    for method in ("sinkhorn", "adversary", "pairs"):
        found[f"{method}, weight 0.3, late"] = aligned(method, 0.3, 0.5)
    found["blur and noise"] = similar
    found["blur and noise, sinkhorn, weight 0.3"] = aligned("sinkhorn", 0.3) | similar
    found[BOTH] = {"batch": 2 * BATCH}
    return found


@dataclass(frozen=True)
class Surveys:
    """Two surveys of the same galaxies: their stores, the tables of their classes, and the classes."""

    stores: tuple[str, str]
    tables: tuple[Path, Path]
    column: str
    classes: list[str]

    @classmethod
    def make(cls, place: Place, gap: str) -> "Surveys":
        """EFIGI and its twin, or the two mock surveys (`mock`)."""
        if gap == "mock":
            return cls._mock(place)
        source, twin = DATA / "galaxies" / "efigi.tar", place.work / f"{gap}.tar"
        if not twin.exists():
            draw_twins(source, twin, TELESCOPES[gap])
        image = {"prepare": {"image": {"size": PIXELS}}}
        first = place.store("galaxies", "efigi", source, **image)
        table = question_table(place, "type")
        second = place.store("galaxies", gap, twin, **image)
        return cls((first, second), (table, table), "answer", QUESTIONS["type"])

    @classmethod
    def _mock(cls, place: Place) -> "Surveys":
        made = place.made("galaxies", "mock-galaxies", n=1200, image_pixels=64)
        image = {"prepare": {"image": {"size": PIXELS, "stretch": "midtone"}}}
        tables = (made / "decals.csv", made / "bass.csv")
        first, second = (place.store("galaxies", f"mock-{path.stem}", path, **image) for path in tables)
        with tables[0].open() as file:
            classes = sorted({row["class"] for row in csv.DictReader(file)})
        return cls((first, second), tables, "class", classes)


def draw_twins(source: Path, target: Path, telescope: Telescope) -> None:
    """Write a tar file with the pictures of another one as a telescope sees them, under the same names."""
    draw = np.random.default_rng(0)
    partial = target.with_suffix(".partial")
    with tarfile.open(source) as pictures, tarfile.open(partial, "w") as twins:
        for member in pictures:
            stream = pictures.extractfile(member)
            if stream is None:
                continue
            rgb_HW3 = np.asarray(Image.open(stream).convert("RGB"))
            sink = io.BytesIO()
            Image.fromarray(telescope.picture(rgb_HW3, draw)).save(sink, "PNG")
            twin = tarfile.TarInfo(Path(member.name).with_suffix(".png").name)
            twin.size = sink.tell()
            sink.seek(0)
            twins.addfile(twin, sink)
    partial.rename(target)


@dataclass(frozen=True)
class Result:
    """Of one run: which test galaxies it has right in either survey, and the distances of the surveys."""

    right_N: NDArray[np.bool_]
    right_twin_N: NDArray[np.bool_]
    mmd: float
    adversary: float


def train(place: Place, surveys: Surveys, name: str, seed: int) -> str:
    """A finished run of a variant."""
    values: dict[str, Any] = {
        "model": "fusion",
        "task": "cls",
        "options": SMALL,
        "monitor": "f1_macro",
        "keep": "last",
        "join": {"classes": surveys.column, "class_names": surveys.classes},
        "store": surveys.stores[0],
        "labels": str(surveys.tables[0]),
        "batch": BATCH,
        "seed": seed,
        "augment": AUGMENT,
    } | variants(place.epochs)[name]
    uses_twin = values["batch"] > BATCH
    if uses_twin:
        labels = str(surveys.tables[1]) if name == BOTH else "none"
        values["sources"] = {"twin": {"store": surveys.stores[1], "labels": labels}}
    folder = f"{Path(surveys.stores[uses_twin]).name}-{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    return place.run("galaxies", folder, **values)


def result(place: Place, surveys: Surveys, name: str, seed: int) -> Result:
    """Train a variant, and ask about the test galaxies in both surveys."""
    run = train(place, surveys, name, seed)
    test = set(samples.read(run).part("test").extra["visit"].to_pylist())
    right, latents = [], []
    for path, table in zip(surveys.stores, surveys.tables, strict=True):
        store = open_store(path)
        rows = labelled(store, table, surveys.column, surveys.classes)
        visits = rows.extra["visit"].to_pylist()
        chosen = sorted((visit, row) for row, visit in enumerate(visits) if visit in test)
        rows = rows.at(np.array([row for _, row in chosen], np.int64))
        right.append(predicted(run, store, rows).argmax(1) == rows.class_N)
        latents.append(predicted(run, store, rows, "latent"))
    return Result(right[0], right[1], distance("mmd", *latents), distance("adversary", *latents))


def distance(
    method: Literal["mmd", "adversary"], first_ND: NDArray[np.float64], other_ND: NDArray[np.float64]
) -> float:
    """The distance of two sets of features, in units of their common spread."""
    both = torch.from_numpy(np.concatenate([first_ND, other_ND])).float()
    source = torch.cat([torch.zeros(len(first_ND)), torch.ones(len(other_ND))]).long()
    compared = alignment.compare(Align(method=method, weight=1.0), both, source)
    return float(compared.distance) if compared else float("nan")


def change(right_SN: NDArray[np.float64], before_SN: NDArray[np.float64]) -> str:
    """The change of the accuracy, mean of all seeds, with its 95 % interval: the same galaxies, resampled."""
    gain_N = right_SN.mean(0) - before_SN.mean(0)
    draws = np.random.default_rng(0).integers(0, len(gain_N), (2000, len(gain_N)))
    low, high = np.quantile(gain_N[draws].mean(1), [0.025, 0.975])
    return f"{gain_N.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def compare(place: Place, gap: str, seeds: tuple[int, ...], only: tuple[str, ...]) -> None:
    """The table of one pair of surveys."""
    surveys = Surveys.make(place, gap)
    show(f"{gap}, {len(seeds)} seeds", "own survey", "change", "other survey", "change", "MMD", "adversary")
    show(*["---"] * 7)
    before: tuple[NDArray[np.float64], ...] = ()
    for name in variants(place.epochs):
        if only and name not in only:
            continue
        results = [result(place, surveys, name, seed) for seed in seeds]
        right = tuple(
            np.array([getattr(one, field) for one in results], float) for field in ("right_N", "right_twin_N")
        )
        before = before or right
        cells = [
            cell
            for now, then in zip(right, before, strict=True)
            for cell in (f"{now.mean():.3f}", "" if name == "none" else change(now, then))
        ]
        distances = (np.mean([getattr(one, field) for one in results]) for field in ("mmd", "adversary"))
        show(name, *cells, *(f"{value:.3f}" for value in distances))


def main(
    work: str = "", epochs: str = "30", seeds: str = "1,2", gap: str = "strong,mock", only: str = ""
) -> None:
    """Print the tables."""
    folder = Path(work or Path(__file__).parent / "work" / "twins")
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, int(epochs))
    for name in gap.split(","):
        compare(place, name, tuple(map(int, seeds.split(","))), tuple(filter(None, only.split(";"))))


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
