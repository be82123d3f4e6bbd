"""Networks that look at images: they learn, go on after a stop, and lose nothing if an image is missing."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from survey import files
from survey.ensemble.ensemble import open_ensemble
from survey.evaluate.evaluate import evaluate
from survey.evaluate.settings import Evaluate
from survey.predict.output import open_predictions
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.settings import SettingsError
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.training.augment_settings import ImageAugment
from survey.training.image_augment import augment_images
from survey.training.run import history, open_run, run_document
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn
from tests.models.batches import images

SIZE, COUNT = 16, 120
KINDS = ("Round", "Stripes", "Spots")


def picture(kind: int, rng: np.random.Generator) -> np.ndarray:
    """An image of a kind, of any brightness, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + rng.uniform(-2, 2, (2, 1, 1))
    form = (np.exp(-(x**2 + y**2) / 20), np.sin(1.6 * x) > 0, (np.sin(1.6 * x) * np.sin(1.6 * y)) > 0.5)[kind]
    light = 120 * rng.uniform(0.6, 1.2) * form[None] * rng.uniform(0.7, 1, (3, 1, 1))
    return np.asarray((light + rng.uniform(5, 40, (3, SIZE, SIZE))).clip(0, 255), np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of images of three kinds, and a table of the kinds."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    (folder / "in").mkdir()
    kind_N = rng.integers(0, 3, COUNT)
    for number, kind in enumerate(kind_N):
        Image.fromarray(picture(kind, rng).transpose(1, 2, 0)).save(folder / "in" / f"{number:03d}.png")
    names = [f"{number:03d}.png" for number in range(COUNT)]
    table = pa.table({"image": names, "kind": [KINDS[kind] for kind in kind_N]})
    files.write_table(str(folder / "labels.parquet"), table)
    values = {
        "input": str(folder / "in"),
        "store": str(folder / "store"),
        "sources": ["images"],
        "shard": 50,
        "prepare": {"grid": "none", "image": {"size": SIZE}},
    }
    ingest(Ingest.from_dict("ingest", values))
    return folder


def trained(place: Path, run: Path, **values: Any) -> str:
    settings = Train.from_dict(
        "train",
        {
            "store": str(place / "store"),
            "labels": str(place / "labels.parquet"),
            "run": str(run),
            "model": "fusion",
            "task": "cls",
            "options": {"use": "image", "channels": [8, 16], "width": 16, "heads": 2, "layers": 1},
            "join": {"classes": "kind", "class_names": list(KINDS)},
            "split": {"parts": [0.6, 0.2, 0.2]},
            "epochs": 6,
            "batch": 12,
            "threads": 1,
            "monitor": "f1_macro",
            "tracking": {"use": "never"},
        }
        | values,
    )
    if plan(settings):
        learn(settings)
    return settings.run


VAE: dict[str, Any] = {
    "model": "vae",
    "task": "none",
    "labels": "none",
    "options": {"latent": 6, "channels": [8, 16], "warm_up": 1},
    "monitor": "reconstruction",
    "epochs": 8,
    "optimiser": {"lr": 5e-3},
}


def test_classes_with_names_of_their_own_are_learned_from_images(place: Path, tmp_path: Path) -> None:
    document = run_document(trained(place, tmp_path / "run"))
    assert document.classes == KINDS
    assert document.image == (3, SIZE, SIZE)
    assert document.validation["accuracy"] > 0.6
    assert {f"f1_{name}" for name in KINDS} <= document.validation.keys()
    assert "f1_MP_search" not in document.validation


def test_an_autoencoder_learns_without_labels_and_finds_what_is_unlike(place: Path, tmp_path: Path) -> None:
    run = trained(place, tmp_path / "run", **VAE)
    rows = history(run)
    assert rows[-1]["validation_reconstruction"] < 0.95 * rows[0]["validation_reconstruction"]
    assert {"train_kl", "validation_ssim", "validation_active"} <= rows[0].keys()
    with pytest.raises(SettingsError, match="it predicts neither classes nor labels"):
        evaluate(Evaluate.from_dict("evaluate", {"of": run}))
    folder = str(tmp_path / "predictions")
    values = {"ensemble": run, "store": str(place / "store"), "predictions": folder, "embeddings": True}
    predict(Predict.from_dict("predict", values))
    tables = pa.concat_tables(list(open_predictions(folder).tables()))
    assert tables.num_rows == COUNT
    assert np.isfinite(tables["anomaly"].to_numpy()).all()
    assert (tables["anomaly"].to_numpy() > 1).mean() < 0.2
    assert tables["latent"].type.list_size == 6
    noise = torch.randint(1, 255, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    team = open_ensemble(f"{run}/calibrated")
    spectra = replace(team.members._one_spectrum(), image=noise)
    spectra = replace(spectra, flux=torch.ones(4, 0), ivar=torch.ones(4, 0))
    found = team.predict(spectra, np.full(4, np.nan)).answers.anomaly_N
    assert found is not None
    assert (found > 1).all()


def test_a_training_with_images_goes_on_after_a_stop(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = VAE | {"epochs": 3}
    whole = trained(place, tmp_path / "whole", **few)

    class StoppedError(Exception):
        """Ends the training after the second epoch."""

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise StoppedError

    settings = Train.from_dict(
        "train",
        {
            "store": str(place / "store"),
            "run": str(tmp_path / "run"),
            "split": {"parts": [0.6, 0.2, 0.2]},
            "batch": 12,
            "threads": 1,
            "join": {"classes": "kind", "class_names": list(KINDS)},
            "tracking": {"use": "never"},
        }
        | few,
    )
    plan(settings)
    with pytest.raises(StoppedError):
        learn(settings, watch=stop)
    learn(settings)
    first, second = open_run(whole).net.state_dict(), open_run(settings.run).net.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_streamed_images_give_the_same_training(place: Path, tmp_path: Path) -> None:
    runs = [trained(place, tmp_path / data, data=data, epochs=2) for data in ("resident", "streaming")]
    first, second = (open_run(run).net.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_network_that_needs_images_says_so(place: Path, tmp_path: Path) -> None:
    values = {"model": "prism", "options": {}}
    with pytest.raises(SettingsError, match="model=prism: needs spectra, the store has images only"):
        trained(place, tmp_path / "run", **values)
    assert not (tmp_path / "run" / "settings.json").exists()
    with pytest.raises(SettingsError, match=r"give options.use=image"):
        trained(place, tmp_path / "run", options={"use": "both"})


def test_weights_come_from_a_file_of_the_user_only(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one block in each stage of the ResNet, which has fewer weights to draw, train and write."""
    from safetensors.torch import save_file

    from survey.models import image_layers
    from survey.models.image_layers import ResNet

    monkeypatch.setitem(image_layers.DEPTHS, "resnet18", (1, 1, 1, 1))
    torch.manual_seed(1)
    trunk = ResNet("resnet18", 3)
    save_file({**trunk.state_dict(), "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet18.safetensors")
    options = {"use": "image", "encoder": "resnet18", "width": 16, "heads": 2, "layers": 1}
    weights = {"weights": str(tmp_path / "resnet18.safetensors")}
    run = trained(
        place,
        tmp_path / "run",
        options=options | weights,
        epochs=1,
        batch=72,
        optimiser={"lr": 1e-9},
        keep="last",
    )
    kept = open_run(run).net.state_dict()["encoder.layer3.0.conv2.weight"]
    assert torch.allclose(kept, trunk.state_dict()["layer3.0.conv2.weight"], atol=1e-5)
    shutil.copy(tmp_path / "resnet18.safetensors", tmp_path / "weights.pth")
    with pytest.raises(SettingsError, match=r"is no \.safetensors file; other files of weights can run"):
        trained(place, tmp_path / "b", options=options | {"weights": str(tmp_path / "weights.pth")}, epochs=1)
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(SettingsError, match=r"does not fit resnet18: bn1.weight is not there"):
        trained(place, tmp_path / "c", options=options | {"weights": str(tmp_path / "other.safetensors")})
    assert not (tmp_path / "c").exists(), "the folder takes the corrected settings"


def test_augmented_images_are_those_of_their_row_and_missing_ones_stay_missing() -> None:
    settings = ImageAugment(turn=True, shift=2, zoom=0.1, seeing=1, brightness=0.2, colour=0.1, noise=0.05)
    batch = images(6, (3, SIZE, SIZE))
    batch[2] = 0

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    whole = augment_images(settings, batch, generator())
    halves = [
        augment_images(settings, batch[3 * rank : 3 * rank + 3], generator(), rank, 2) for rank in (0, 1)
    ]
    assert torch.allclose(torch.cat(halves), whole, atol=1e-3)
    assert (whole[2] == 0).all()
    assert ((whole - batch.float()).abs().flatten(1).mean(1) > 1)[[0, 1, 3, 4, 5]].all()
    assert float(whole.max()) <= 255
    assert torch.equal(augment_images(ImageAugment(), batch, generator()), batch.float())


def test_turned_images_keep_their_light() -> None:
    batch = torch.zeros(5, 1, 33, 33)
    batch[:, :, 12:21, 12:21] = 200
    turned = augment_images(ImageAugment(turn=True), batch, torch.Generator().manual_seed(0))
    sums = (turned / batch.sum((1, 2, 3), keepdim=True)).sum((1, 2, 3)).numpy()
    assert sums == pytest.approx(1, abs=0.1)
