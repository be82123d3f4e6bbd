"""Hostile settings, recipes, label tables and catalogues: what can be used is used and counted, all else ends
with an error that names the file or the setting. No other exception, no row twice.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import plugins
from survey.archives.settings import Download
from survey.arguments import load
from survey.catalog.added_columns import AddedColumns
from survey.catalog.crossmatch import read_list
from survey.catalog.settings import CatalogSettings
from survey.ensemble.settings import Build
from survey.evaluate.settings import Evaluate
from survey.help import setting_names
from survey.labelling.join import Labelled, join
from survey.labelling.settings import Join
from survey.labels import CLASSES, label
from survey.latent.settings import LatentSettings
from survey.mock.settings import Mock
from survey.predict.settings import Predict
from survey.search.settings import Tune
from survey.settings import Settings, SettingsError
from survey.store.manifest.listing import Listing
from survey.store.manifest.manifest import SCHEMA
from survey.store.settings import Ingest, Input
from survey.store.store import Store, open_store
from survey.training.settings import Train
from tests.attack import hostile
from tests.training import lessons

CASES = int(os.environ.get("SURVEY_ATTACKS", "1"))
"""How many values each setting gets in the short form."""

STARS = 20
TRAINING = {"store": "s", "labels": "l"}
JOBS: dict[str, tuple[type[Settings], dict[str, Any]]] = {
    "mock": (Mock, {"out": "o"}),
    "download": (Download, {"archive": "lamost", "out": "o", "input": "i"}),
    "ingest": (Ingest, {"input": "i", "store": "s"}),
    "train": (Train, TRAINING | {"run": "r"}),
    "tune": (Tune, TRAINING | {"study": "s", "space": "tune/rescnn.yaml", "train": {"model": "rescnn"}}),
    "ensemble": (Build, {"ensemble": "e", "runs": ["a"]}),
    "ensemble of new runs": (Build, TRAINING | {"ensemble": "e", "train": {"model": "prism"}}),
    "evaluate": (Evaluate, {"of": "x"}),
    "predict": (Predict, {"ensemble": "e", "store": "s", "predictions": "p"}),
    "predict files": (Predict, {"ensemble": "e", "input": "s", "predictions": "p"}),
    "catalog": (CatalogSettings, {"predictions": "p", "catalog": "c"}),
    "latent": (LatentSettings, {"predictions": "p", "latent": "l"}),
}
INNER: dict[str, tuple[str, type[Settings]]] = {
    "tune": ("train", Train),
    "ensemble of new runs": ("train", Train),
    "predict files": ("ingest", Ingest),
}
"""Settings of another job inside those of a job."""


def all_names(job: str) -> list[str]:
    """The names of all settings of a job, of their sections, and of other jobs inside."""
    names = set(setting_names(JOBS[job][0]))
    if job in INNER:
        section, cls = INNER[job]
        names |= {f"{section}.{name}" for name in setting_names(cls)}
    sections = {name.rpartition(".")[0] for name in names} - {""}
    return sorted(names | sections)


def with_value(values: Any, names: list[str], value: Any) -> dict[str, Any]:
    values = values if isinstance(values, dict) else {}
    if len(names) > 1:
        value = with_value(values.get(names[0]), names[1:], value)
    changed: dict[str, Any] = values | {names[0]: value}
    return changed


def check_settings(job: str, cls: type[Settings], values: dict[str, Any], names: list[str]) -> None:
    """The settings can be used, or an error names one of the settings."""
    try:
        cls.from_dict(job, values).fingerprint()
    except SettingsError as error:
        message = str(error)
        assert len(message) < 25_000
        assert any(name in message for name in names), f"{names}: {message}"


@pytest.mark.parametrize("job", JOBS)
def test_a_hostile_setting_is_refused_or_works(job: str) -> None:
    cls, base = JOBS[job]
    for number, name in enumerate(all_names(job)[:: 5 if job in INNER else 1]):
        for case in range(CASES):
            value = hostile.SETTINGS[(number + case) % len(hostile.SETTINGS)]
            names = name.split(".")
            check_settings(job, cls, with_value(base, names, value), [*names, *cls.model_fields])


@pytest.mark.long
@pytest.mark.parametrize("job", JOBS)
def test_every_hostile_value_of_every_setting_is_refused_or_works(job: str) -> None:
    cls, base = JOBS[job]
    for name in all_names(job):
        names = name.split(".")
        for value in hostile.SETTINGS:
            check_settings(job, cls, with_value(base, names, value), [*names, *cls.model_fields])


@pytest.mark.parametrize("text", hostile.some(3, *hostile.YAML))
def test_a_hostile_value_in_a_recipe_is_refused_or_works(tmp_path: Path, text: str) -> None:
    """Each of the three short forms looks at every third setting."""
    recipe, number = tmp_path / "recipe.yaml", hostile.YAML.index(text)
    first, step = (number, 3) if number < 3 and CASES == 1 else (0, 1)
    for job, (cls, base) in JOBS.items():
        section = job.partition(" ")[0]
        given = [f"{name}={value}" for name, value in base.items() if isinstance(value, str)]
        for name in ["", *cls.model_fields][first::step]:
            sections = dict.fromkeys(("train", "ingest", section), "{}")
            sections[section] = f"{{{name}: {text}}}" if name else text
            recipe.write_text("\n".join(f"{key}: {value}" for key, value in sections.items()))
            with suppress(SettingsError):
                load(cls, section, [str(recipe), *given])


@pytest.mark.parametrize("room", ["models", "sources"])
def test_a_hostile_option_of_a_plugin_is_refused_or_works(room: str) -> None:
    for plugin in plugins.names(room):
        cls = plugins.options(room, plugin)
        for number, name in enumerate(setting_names(cls)):
            for value in hostile.SETTINGS[number % 4 :: 4]:
                names = name.split(".")
                check_settings(plugin, cls, with_value({}, names, value), names)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of toy stars with their labels beside it."""
    return open_store(str(lessons.store(tmp_path_factory.mktemp("store") / "store", STARS, size=9)))


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    return {name: lessons.stars(STARS)[name] for name in ("obsid", "FeH", "CFe")}


def joined(path: Path, store: Store, **settings: Any) -> Labelled | None:
    """What a table gives; None if it is refused."""
    labelled = hostile.attempt(path, lambda: join(Join(table=str(path), **settings), store, ("FeH", "CFe")))
    if labelled is None:
        return None
    places = set(zip(labelled.shard_N.tolist(), labelled.row_in_shard_N.tolist(), strict=True))
    assert len(places) == len(labelled) <= STARS, "a spectrum twice"
    for name, label_N in zip(labelled.labels, labelled.label_NL.T, strict=True):
        row = label(name)
        assert np.all(np.isnan(label_N) | ((label_N >= row.low) & (label_N <= row.high)))
    assert np.isin(labelled.class_N, [-1, *range(len(CLASSES))]).all()
    return labelled


def check_others(labelled: Labelled, truth: dict[str, np.ndarray], all_but: int | None) -> None:
    """All rows but one have their labels."""
    row_of = {obsid: number for number, obsid in enumerate(truth["obsid"].tolist())}
    rows = [row_of[obsid] for obsid in labelled.extra["obsid"].to_pylist()]
    assert set(rows) | {all_but} >= set(range(STARS)), "a row is lost"
    others = [number for number, row in enumerate(rows) if row != all_but]
    kept = [rows[number] for number in others]
    for name, label_N in zip(labelled.labels, labelled.label_NL.T, strict=True):
        np.testing.assert_allclose(label_N[others], truth[name][kept], rtol=1e-12)


def text_rows(truth: dict[str, np.ndarray]) -> list[list[str]]:
    return [[str(value) for value in row] for row in zip(*(x.tolist() for x in truth.values()), strict=True)]


@pytest.mark.parametrize(
    "column", hostile.some(1, "obsid", "FeH", "CFe", "ra", "f_CEMP", "file", "star", "extra")
)
def test_a_hostile_cell_of_labels_changes_no_other_row(
    tmp_path: Path, store: Store, truth: dict[str, np.ndarray], column: str
) -> None:
    path = tmp_path / "labels.csv"
    for cell in hostile.CELLS:
        header, rows = list(truth), text_rows(truth)
        if column not in header:
            header, rows = [*header, column], [[*row, ""] for row in rows]
        rows[hostile.ROW][header.index(column)] = f'"{cell}"'
        path.write_text("\n".join(",".join(row) for row in (header, *rows)))
        labelled = joined(path, store)
        if labelled:
            check_others(labelled, truth, hostile.ROW)


@pytest.mark.parametrize(
    "column", hostile.some(2, "FeH", "visit", "obsid", "e_FeH", "ra", "f_CEMP", "file", "star", "where")
)
def test_a_column_of_labels_may_have_any_type(
    tmp_path: Path, store: Store, truth: dict[str, np.ndarray], column: str
) -> None:
    path = tmp_path / "labels.parquet"
    for kind, values in hostile.columns(STARS):
        arrays = {name: pa.array(array) for name, array in truth.items()}
        pq.write_table(pa.table(arrays | {column: values}), path)
        where = {"where": {"where": (-1.0, 1.0)}} if column == "where" else {}
        labelled = joined(path, store, **where)
        if labelled is not None and column in ("ra", "e_FeH", "file"):
            assert len(labelled) == STARS, kind
            check_others(labelled, truth, None)


def test_labels_in_an_unusual_file_are_read_or_refused_by_name(
    tmp_path: Path, store: Store, truth: dict[str, np.ndarray]
) -> None:
    for number, (_, data) in enumerate(hostile.csv_files(list(truth), text_rows(truth))):
        path = tmp_path / f"labels-{number}.csv"
        path.write_bytes(data)
        labelled = joined(path, store)
        if labelled is not None:
            check_others(labelled, truth, hostile.ROW)


def listed(path: Path) -> pa.Table | None:
    """The manifest rows of a catalogue; None if it is refused."""
    settings = Input.from_dict("ingest", {"input": str(path), "files": str(path.parent)})
    return hostile.attempt(
        path, lambda: pa.concat_tables(list(Listing(settings, str(path.parent / "store"))))
    )


@pytest.mark.parametrize(
    "column", hostile.some(3, "path", "row", "star", "obsid", "ra", "z", "size", "stamp")
)
def test_a_column_of_a_catalogue_may_have_any_type(tmp_path: Path, column: str) -> None:
    path = tmp_path / "catalogue.parquet"
    names = [f"spec-{number}.fits" for number in range(STARS)]
    for kind, values in hostile.columns(STARS):
        pq.write_table(pa.table({"path": names} | {column: values}), path)
        rows = listed(path)
        if rows is not None:
            assert rows.schema == SCHEMA
            assert rows.num_rows == STARS, kind
            if column != "path":
                assert rows["path"].to_pylist() == [str(tmp_path / name) for name in names], kind


def test_a_catalogue_in_an_unusual_file_is_read_or_refused_by_name(tmp_path: Path) -> None:
    header = ["file", "obsid", "ra", "note"]
    rows = [[f"spec-{number}.fits", str(1000 + number), str(10.0 + number), "x"] for number in range(STARS)]
    for number, (kind, data) in enumerate(hostile.csv_files(header, rows)):
        path = tmp_path / f"catalogue-{number}.csv"
        path.write_bytes(data)
        listing = listed(path)
        if listing is not None:
            assert listing.num_rows == STARS, kind


def read_known(path: Path) -> int:
    known = read_list(str(path))
    return len(known) + known.no_position


def read_added(path: Path) -> int:
    sky = np.array([10.0, 11.0]), np.array([0.0, 1.0])
    added = AddedColumns.read(str(path), ("source_id", "gmag", "other"), *sky, 3.0)
    return added.rows.num_rows if added.rows else STARS


@pytest.mark.parametrize("read", hostile.some(1, read_added, read_known))
def test_a_list_of_stars_may_have_columns_of_any_type(tmp_path: Path, read: Callable[[Path], int]) -> None:
    path = tmp_path / "stars.parquet"
    sound = {"ra": np.arange(10.0, 10 + STARS), "dec": np.arange(float(STARS))}
    sound |= {
        "source_id": np.arange(STARS),
        "gmag": sound["dec"],
        "other": sound["dec"],
        "name": sound["dec"],
    }
    for column in sound:
        for kind, values in hostile.columns(STARS):
            pq.write_table(pa.table(sound | {column: values}), path)
            rows = hostile.attempt(path, lambda: read(path))
            assert rows in (None, STARS), kind
