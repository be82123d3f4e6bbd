"""Objects that lack the spectrum or the image from which a network answers: not learned, and no answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.explain.explain import explain
from survey.explain.settings import ExplainSettings
from survey.images.settings import PrepareImages
from survey.labelling import samples
from survey.predict.output import open_predictions
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.settings import SettingsError
from survey.store.schema import IMAGE, Flag, array_column, image_column, spectra_schema
from survey.store.store import Store, open_store, to_parquet
from survey.training.settings import Train
from survey.training.train import describe
from tests.finished import finish_store
from tests.training import lessons

IMAGES = PrepareImages(size=16)
COUNT = 140
SMALL = {"channels": [8, 16], "width": 16, "heads": 2, "layers": 1, "spectrum_tokens": 4}
NO_SPECTRUM, NO_IMAGE = 1, 4
"""Of seven objects, the one of this number has no spectrum, or no image."""


def with_images(store: Store) -> None:
    """The store with an image for each object, but some lack one, and others lack their spectrum."""
    schema, rng = spectra_schema(store.grid, False, IMAGES), np.random.default_rng(3)
    changed, first = [], 0
    for table in store.tables():
        number_N = (first + np.arange(table.num_rows)) % 7
        first += table.num_rows
        no_spectrum_N, no_image_N = number_N == NO_SPECTRUM, number_N == NO_IMAGE
        ivar_NP = np.stack(table["ivar"].to_pylist()).astype(np.float32)
        ivar_NP[no_spectrum_N] = 0
        image_NCHW = rng.integers(1, 256, (table.num_rows, *IMAGES.shape)).astype(np.uint8)
        image_NCHW[no_image_N] = 0
        columns = {name: table[name].combine_chunks() for name in table.column_names} | {
            "ivar": array_column(ivar_NP),
            "flags": pa.array(Flag.NO_SPECTRUM * no_spectrum_N + Flag.NO_IMAGE * no_image_N, pa.int32()),
            IMAGE: image_column(list(image_NCHW), image_NCHW[0].size),
        }
        nothing = pa.nulls(table.num_rows)
        arrays = [columns.get(field.name, nothing.cast(field.type)) for field in schema]
        changed.append(to_parquet(pa.table(arrays, schema=schema)))
    settings = store.document.settings
    prepare = settings.prepare.model_copy(update={"image": IMAGES})
    settings = settings.model_copy(update={"prepare": prepare})
    finish_store(Path(store.path), store.document.model_copy(update={"settings": settings}), changed)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of both, and a run of each kind of network on it."""
    folder = tmp_path_factory.mktemp("objects")
    with_images(open_store(str(lessons.store(folder / "store", COUNT))))
    for name, values in RUNS.items():
        lessons.train(folder, **values, run=str(folder / name))
    return folder


COMMON: dict[str, Any] = {"epochs": 1, "split": {"parts": [0.5, 0.3, 0.2]}, "task": "cls_reg"}
RUNS: dict[str, dict[str, Any]] = {
    "image": COMMON | {"model": "fusion", "options": SMALL | {"use": "image"}},
    "both": COMMON | {"model": "fusion", "options": SMALL},
    "ridge": COMMON | {"model": "ridge", "options": {}},
    "vae": COMMON
    | {"model": "vae", "options": {"latent": 3, "channels": [8]}, "task": "none", "labels": "none"}
    | {"monitor": "reconstruction"},
}
NEEDS = {"image": {NO_IMAGE}, "both": set(), "ridge": {NO_SPECTRUM}, "vae": {NO_IMAGE}}
"""What an object must not lack for a network."""


def answers(place: Path, ensemble: str, folder: Path, **values: Any) -> tuple[pa.Table, int]:
    """The table of a prediction of the store, and how many rows it counts as without an answer."""
    values = {"ensemble": ensemble, "store": str(place / "store"), "embeddings": True} | values
    result = predict(Predict.from_dict("predict", values | {"predictions": str(folder)}))
    return pa.concat_tables(list(open_predictions(str(folder)).tables())), result.document.no_answer


def lacking(kinds: set[int]) -> np.ndarray:
    """Which objects of the store lack one of these."""
    return np.isin(np.arange(COUNT) % 7, sorted(kinds))


@pytest.mark.parametrize("name", RUNS)
def test_objects_without_the_input_of_a_network_are_left_out_of_its_samples(place: Path, name: str) -> None:
    shard_N, row_N = samples.read(str(place / name)).shard_row_N2.T
    assert sorted(50 * shard_N + row_N) == np.flatnonzero(~lacking(NEEDS[name])).tolist()
    line = {NO_IMAGE: "20 labelled objects left out, without the image\n"}
    line[NO_SPECTRUM] = "20 labelled objects left out, without the spectrum\n"
    text = (place / name / "labels.txt").read_text()
    assert [kind for kind in line if line[kind] in text] == sorted(NEEDS[name])


@pytest.mark.parametrize("name", RUNS)
def test_an_object_without_the_input_of_a_network_gets_no_answer(
    place: Path, tmp_path: Path, name: str
) -> None:
    table, no_answer = answers(place, str(place / name), tmp_path / "predictions")
    lacking_N = lacking(NEEDS[name])
    assert no_answer == lacking_N.sum()
    latent_ND = np.stack(table["latent"].to_pylist()).astype(np.float64)
    assert np.isnan(latent_ND).all(1).tolist() == lacking_N.tolist()
    columns = ("anomaly",) if name == "vae" else ("p_cemp", "FeH", "domain")
    for column in columns:
        assert table[column].is_null().to_numpy().tolist() == lacking_N.tolist()
    if name != "vae":
        assert (table["predicted_class"].to_numpy() == -1).tolist() == lacking_N.tolist()


def test_a_member_without_its_input_leaves_the_answer_to_the_others(place: Path, tmp_path: Path) -> None:
    team, runs = str(tmp_path / "team"), [str(place / "both"), str(place / "ridge")]
    build(Build.from_dict("ensemble", {"ensemble": team, "runs": runs, "weights": [0.1, 0.9]}))
    table, no_answer = answers(place, team, tmp_path / "predictions", members=True)
    no_spectrum_N = lacking({NO_SPECTRUM})
    assert no_answer == 0
    assert table["m1_p_cemp"].is_null().to_numpy().tolist() == no_spectrum_N.tolist()
    assert not table["m0_p_cemp"].null_count
    assert len(set(table["FeH"].to_numpy()[no_spectrum_N])) == no_spectrum_N.sum(), "one value for each image"
    domain_N = table["domain"].to_numpy()
    assert np.isfinite(domain_N).all()
    assert open_ensemble(team).document.validation.spectra


def test_an_evaluation_by_labels_scores_only_what_was_answered(place: Path) -> None:
    values = {"of": str(place / "image"), "store": str(place / "store"), "split": "all"}
    result = evaluate_ensemble(Evaluate.from_dict("evaluate", values | {"labels": str(place / "labels.csv")}))
    count_N = result.metrics.filter(pa.compute.equal(result.metrics["kind"], "all"))["n"].to_pylist()
    test = samples.read(str(place / "image")).part("test").shard_row_N2
    assert max(count_N) == (~lacking({NO_IMAGE})[50 * test[:, 0] + test[:, 1]]).sum()


def test_a_network_that_looks_at_images_only_has_no_wavelengths_to_explain(
    place: Path, tmp_path: Path
) -> None:
    values = {"of": str(place / "image"), "explain": str(tmp_path / "explained")}
    with pytest.raises(SettingsError, match="it looks at images only, not at wavelengths"):
        explain(ExplainSettings.from_dict("explain", values))


def test_a_training_without_any_object_that_has_the_input_is_refused(place: Path, tmp_path: Path) -> None:
    table = (place / "labels.csv").read_text().splitlines()
    few = [table[0], *(line for number, line in enumerate(table[1:]) if number % 7 == NO_IMAGE)]
    (tmp_path / "labels.csv").write_text("\n".join(few))
    values = RUNS["image"] | {"labels": str(tmp_path / "labels.csv"), "run": str(tmp_path / "run")}
    settings: Train = lessons.training(place, **values)
    with pytest.raises(SettingsError, match="none of 20 labelled objects has the image that the network"):
        describe(settings)
