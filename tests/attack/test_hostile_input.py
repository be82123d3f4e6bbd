"""Hostile settings, label tables, catalogues and models: what can be used is used and counted, all else ends
with an error that names the file or the setting. No other exception, no code that is run, no row twice.
"""

import hashlib
import io
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from survey import plugins
from survey.catalog.added_columns import AddedColumns
from survey.catalog.crossmatch import read_list
from survey.catalog.settings import CatalogSettings
from survey.checked import WrittenFile
from survey.ensemble.ensemble import DOMAIN, open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.settings import Evaluate
from survey.help import setting_names
from survey.labelling.join import Labelled, join
from survey.labelling.settings import Join
from survey.labels import CLASSES, label
from survey.mock.settings import Mock
from survey.predict.settings import Predict
from survey.search.settings import Tune
from survey.settings import Settings, SettingsError
from survey.store.manifest.listing import Listing
from survey.store.manifest.manifest import SCHEMA
from survey.store.settings import Ingest, Input
from survey.store.store import Store, open_store
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.run import MODEL, open_run
from survey.training.settings import Train
from tests.attack import hostile
from tests.ensemble import untrained
from tests.finished import change_document
from tests.training import lessons

T = TypeVar("T")

CASES = int(os.environ.get("SURVEY_ATTACKS", "1"))
"""How many values each setting gets in the short form."""

STARS = 20
TRAINING = {"store": "s", "labels": "l"}
JOBS: dict[str, tuple[type[Settings], dict[str, Any]]] = {
    "mock": (Mock, {"out": "o"}),
    "ingest": (Ingest, {"input": "i", "store": "s"}),
    "train": (Train, TRAINING | {"run": "r"}),
    "tune": (Tune, TRAINING | {"study": "s", "space": "tune/rescnn.yaml", "train": {"model": "rescnn"}}),
    "ensemble": (Build, {"ensemble": "e", "runs": ["a"]}),
    "ensemble of new runs": (Build, TRAINING | {"ensemble": "e", "train": {"model": "prism"}}),
    "evaluate": (Evaluate, {"of": "x"}),
    "predict": (Predict, {"ensemble": "e", "store": "s", "predictions": "p"}),
    "predict files": (Predict, {"ensemble": "e", "input": "s", "predictions": "p"}),
    "catalog": (CatalogSettings, {"predictions": "p", "catalog": "c"}),
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


@pytest.mark.parametrize("room", ["models", "sources"])
def test_a_hostile_option_of_a_plugin_is_refused_or_works(room: str) -> None:
    for plugin in plugins.names(room):
        cls = plugins.options(room, plugin)
        for number, name in enumerate(setting_names(cls)):
            for value in hostile.SETTINGS[number % 4 :: 4]:
                names = name.split(".")
                check_settings(plugin, cls, with_value({}, names, value), names)


def attempt(path: Path, read: Callable[[], T]) -> T | None:
    """What is read; None if it is refused. The error must name the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        message = str(error)
    assert path.name in message, f"the error does not name {path.name}"
    return None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of toy stars with their labels beside it."""
    return open_store(str(lessons.store(tmp_path_factory.mktemp("store") / "store", STARS, size=9)))


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    return {name: lessons.stars(STARS)[name] for name in ("obsid", "FeH", "CFe")}


def joined(path: Path, store: Store, **settings: Any) -> Labelled | None:
    """What a table gives; None if it is refused."""
    labelled = attempt(path, lambda: join(Join(table=str(path), **settings), store, ("FeH", "CFe")))
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


@pytest.mark.parametrize("column", ["obsid", "FeH", "CFe", "ra", "f_CEMP", "file", "star", "extra"])
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
    "column", ["obsid", "FeH", "e_FeH", "ra", "f_CEMP", "file", "visit", "star", "where"]
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
    return attempt(path, lambda: pa.concat_tables(list(Listing(settings, str(path.parent / "store")))))


@pytest.mark.parametrize("column", ["path", "obsid", "ra", "z", "star", "row", "size", "stamp"])
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


@pytest.mark.parametrize("read", [read_known, read_added])
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
            rows = attempt(path, lambda: read(path))
            assert rows in (None, STARS), kind


class Runner:
    """A pickle of this creates a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def raw_models(sound: bytes, mark: Path) -> Iterator[tuple[str, bytes]]:
    """Files under the name of a model that are no model."""
    yield "pickle", pickle.dumps(Runner(mark))
    buffer = io.BytesIO()
    torch.save({"weights": Runner(mark)}, buffer)
    yield "torch.save", buffer.getvalue()
    yield "empty", b""
    yield "a header without an end", (2**63).to_bytes(8, "little") + sound[8:]
    yield "a header of no length", bytes(8)
    for name, header in (
        ("a deep header", b'{"a":' * 100_000),
        ("negative offsets", b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[-4,0]}}'),
        ("a shape of 10^18", b'{"a":{"dtype":"F32","shape":[1000000000000000000],"data_offsets":[0,4]}}'),
        ("no JSON", b"\xff" * 64),
    ):
        yield name, len(header).to_bytes(8, "little") + header + bytes(4)


def weights(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Other tensors than those of a run, by what is other."""
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)
    for value in (math.nan, math.inf):
        changed = tensors[name].clone()
        changed.view(-1)[0] = value
        yield str(value), tensors | {name: changed}
    yield "missing", {key: tensor for key, tensor in tensors.items() if key != name}
    yield "unknown", tensors | {"x" * 10_000: torch.ones(1)}
    yield "none", {}
    for shape in ((0,), (1, *tensors[name].shape), tuple(size + 1 for size in tensors[name].shape)):
        yield f"shape {shape}", tensors | {name: torch.ones(shape)}
    for kind in (torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64):
        yield str(kind), tensors | {name: tensors[name].to(kind)}
    yield "too large for float32", tensors | {name: tensors[name].double() + 1e300}


def replace_model(run: Path, data: bytes) -> None:
    """Put a file in place of the model, and make all checksums right again."""
    (run / MODEL).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    change_document(run / "run.json", {"id": sha256[:16], "weights_sha256": sha256})
    written = WrittenFile.at(str(run / MODEL)).model_dump()
    change_document(run / "run.json", lambda document: document["content"].update({MODEL: written}))


def check_run(run: Path, pixels: int) -> bool:
    """Whether a run can be used. Then its answers are finite; else the error names the model."""
    opened = attempt(run / MODEL, lambda: open_run(str(run)))
    if opened is not None:
        answers = opened.predict(Spectra(torch.ones(2, pixels), torch.ones(2, pixels)))
        assert all(np.isfinite(answer).all() for answer in answers.values())
    return opened is not None


def test_a_hostile_model_is_refused_by_name_and_never_unpickled(tmp_path: Path) -> None:
    store, mark = untrained.store(tmp_path, range(2)), tmp_path / "mark"
    run = untrained.run(tmp_path / "run", store)
    sound, (tensors, _) = (run / MODEL).read_bytes(), checkpoint.read_tensors(str(run / MODEL))
    for kind, data in raw_models(sound, mark):
        replace_model(run, data)
        assert not check_run(run, len(store.grid)), kind
    assert not mark.exists(), "a pickle was loaded"
    for kind, changed in weights(tensors):
        replace_model(run, sound)
        checkpoint.write_tensors(str(run / MODEL), changed, {})
        replace_model(run, (run / MODEL).read_bytes())
        is_used = check_run(run, len(store.grid))
        assert is_used == (kind in ("torch.float16", "torch.float64")), kind


def test_the_document_of_another_run_is_refused(tmp_path: Path) -> None:
    store = untrained.store(tmp_path, range(2))
    run, other = (untrained.run(tmp_path / f"run-{seed}", store, seed=seed) for seed in range(2))
    third = untrained.run(tmp_path / "third", store, "reg", ("Teff",))
    for document in (other, third):
        shutil.copy(document / "run.json", run / "run.json")
        assert not check_run(run, len(store.grid))


def test_a_domain_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    place = untrained.three(tmp_path / "ensemble", untrained.store(tmp_path, range(2)))
    tensors, document = checkpoint.read_tensors(str(place / DOMAIN))
    for name, tensor in tensors.items():
        if name.endswith("usual"):
            continue  # NaN here means that there is no distance
        for changed in ({name: torch.full_like(tensor, math.nan)}, {name: tensor + math.inf}):
            checkpoint.write_tensors(str(place / DOMAIN), tensors | changed, document)
            written = {DOMAIN: WrittenFile.at(str(place / DOMAIN)).model_dump()}
            content = json.loads((place / "ensemble.json").read_text())["content"] | written
            change_document(place / "ensemble.json", {"content": content})
            assert attempt(place / DOMAIN, lambda: open_ensemble(str(place))) is None, name
