"""Predictions from a store: what their rows say, that nothing is done twice, and what is refused."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

from survey.ensemble.ensemble import open_ensemble
from survey.labels import LABELS
from survey.predict import worker
from survey.predict.output import IDENTITY, open_predictions, schema
from survey.predict.predict import Predict, Report, predict
from survey.predict.workers import Crew, Hire
from survey.reports.predict import summary
from survey.settings import JobError, SettingsError, load
from survey.store.store import open_store
from survey.training.batches import Spectra, read_places
from tests import survey_files
from tests.ensemble import askable

CLASSES, LABELS_OF_THREE = ("MP", "CEMP", "NMP"), ("Teff", "FeH")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten spectra in three shards, and an ensemble of three."""
    folder = tmp_path_factory.mktemp("origin")
    askable.three(folder / "ensemble", askable.store(folder))
    return folder


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    askable.store(tmp_path / "place")
    shutil.copytree(origin / "ensemble", tmp_path / "place" / "ensemble")
    return tmp_path / "place"


def settings(folder: Path, **given: Any) -> Predict:
    values = {
        "ensemble": str(folder / "ensemble"),
        "store": str(folder / "store"),
        "predictions": str(folder / "said"),
        "threads": 1,
        "batch": 3,
    }
    return Predict.checked("predict", values | given)


def made(folder: Path, **given: Any) -> tuple[Report, pa.Table]:
    report = predict(settings(folder, **given))
    return report, pa.concat_tables(open_predictions(report.path).tables())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False)


def test_rows_say_what_the_ensemble_says(place: Path):
    report, table = made(place)
    asked = open_ensemble(str(place / "ensemble"))
    store = open_store(str(place / "store"))
    for shard, rows in ((0, 4), (1, 4), (2, 2)):
        some = table.filter(pa.array(numbers(table, "shard") == shard))
        spectra = read_places(store, np.array([[shard, row] for row in range(rows)]), False)
        said = asked.said(spectra, store.spectra(shard, ["snr"])["snr"].to_numpy().astype(float), batch=3)
        assert numbers(some, "place").tolist() == list(range(rows))
        for name, array in said.columns().items():
            assert np.array_equal(numbers(some, name), array, equal_nan=True), name
        assert said.columns().keys() <= set(table.column_names)
    assert (report.about["rows_in"], report.about["rows"], report.made) == (10, 10, 3)
    assert sum(report.about["said"].values()) == 10
    assert report.about["outside"] == (numbers(table, "domain") > 1).sum()


def test_who_a_spectrum_is_comes_as_in_the_store(place: Path):
    _, table = made(place)
    whole = pa.concat_tables(open_store(str(place / "store")).tables(list(IDENTITY)))
    pd.testing.assert_frame_equal(table.select(list(IDENTITY)).to_pandas(), whole.to_pandas())
    assert table.schema.names[: len(IDENTITY)] == list(IDENTITY)


def test_every_column_is_described_in_words_that_astronomers_tools_know():
    told = schema(CLASSES, tuple(row.name for row in LABELS), ("a", "b"), 5)
    for field in told:
        about = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert about["description"]
        assert field.name == "latent" or check_ucd(about["ucd"], check_controlled_vocabulary=True), field.name
    assert len(set(told.names)) == len(told)
    assert told.field("FeH_err").metadata[b"unit"] == b"dex"


def test_provenance_is_in_every_file(place: Path):
    report, _ = made(place)
    for path in sorted((place / "said" / "predictions").iterdir()):
        about = pq.read_schema(path).metadata
        assert about[b"ensemble"] == b"three-members"
        assert about[b"store"].decode() == open_store(str(place / "store")).about["id"]
        assert about[b"predictions"].decode() == report.about["fingerprint"]
    assert report.about["source"]["kind"] == "store"
    assert [member["name"] for member in report.about["ensemble"]["about"]["members"]] == [
        "both",
        "labels",
        "classes",
    ]
    assert (place / "said" / "validation.parquet").read_bytes() == (
        place / "ensemble" / "validation.parquet"
    ).read_bytes()


def test_a_second_run_touches_no_file(place: Path):
    first, _ = made(place)
    before = contents(place / "said")
    second, _ = made(place)
    assert contents(place / "said") == before
    assert (second.made, second.about) == (0, first.about)
    assert "3 complete, 0 made by this run" in summary(second)


def test_of_a_store_that_has_grown_only_the_new_shards_are_made(place: Path):
    first, _ = made(place)
    before = contents(place / "said" / "predictions")
    askable.store(place, range(10, 16))
    second, table = made(place)
    assert (second.made, second.about["rows"], table.num_rows) == (2, 16, 16)
    assert contents(place / "said" / "predictions").items() >= before.items()
    assert second.about["id"] != first.about["id"]


def test_a_shard_that_the_store_has_made_anew_is_predicted_anew(place: Path):
    made(place)
    path = place / "files" / survey_files.name(5)
    path.write_bytes(survey_files.file(205))
    os.utime(path, (2e9, 2e9))
    askable.store(place, range(0), reread=True)
    report, table = made(place)
    assert report.made == 1
    assert table["obsid"].to_pylist() == [1000 + number for number in (0, 1, 2, 3, 4, 205, 6, 7, 8, 9)]


def test_a_store_may_move_and_another_store_is_refused(place: Path):
    made(place)
    shutil.move(place / "store", place / "elsewhere")
    assert made(place, store=str(place / "elsewhere"))[0].made == 0
    other = askable.store(place / "other", range(20, 30))
    with pytest.raises(
        SettingsError,
        match=r"was made otherwise: store=.* there, .*other/store now, and its first spectra are others",
    ):
        made(place, store=other.path)


def test_other_settings_or_another_ensemble_are_refused_by_name(place: Path):
    made(place)
    with pytest.raises(
        SettingsError,
        match=r"was made otherwise: seed=0 there, 1 now; give the same again, or another predictions=",
    ):
        made(place, seed=1)
    with pytest.raises(SettingsError, match=r"ensemble=three-members there, .* now"):
        made(place, ensemble=str(place / "ensemble" / "runs" / "both"))
    with pytest.raises(SettingsError, match="from store there, from files now"):
        made(place, store=None, input=str(place / "files"))


def test_before_anything_is_made_settings_may_change(place: Path):
    with pytest.raises(KeyboardInterrupt):
        predict(settings(place), dying(0))
    assert made(place, seed=1)[0].made == 3


def dying(after: int) -> Crew:
    """A crew that is killed after so many results, as far as a function can be."""

    def crew(hire: Hire, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        work = hire(1, False)
        for number, item in enumerate(items):
            if number == after:
                raise KeyboardInterrupt
            yield work(item)

    return crew


def test_a_run_that_was_stopped_is_completed_to_what_an_undisturbed_one_makes(place: Path):
    through, _ = made(place, predictions=str(place / "through"))
    with pytest.raises(KeyboardInterrupt):
        predict(settings(place), dying(1))
    with pytest.raises(
        FileNotFoundError, match=r"no predictions.json in it, so no finished predictions; run jobs/predict.py"
    ):
        open_predictions(str(place / "said"))
    rest, _ = made(place)
    assert rest.made == 2
    assert parts(place / "said") == parts(place / "through")
    assert rest.about == through.about


def test_damaged_files_of_a_prediction_are_made_again(place: Path):
    made(place)
    whole = parts(place / "said")
    (place / "said" / "predictions" / "part-00001.parquet").write_bytes(b"short")
    (place / "said" / "markers" / "part-00002.json").write_text("{")
    assert made(place)[0].made == 2
    assert parts(place / "said") == whole


def test_what_a_store_has_lost_is_named(place: Path):
    path = place / "store" / "spectra" / "part-00001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + b"x" + data[-999:])
    with pytest.raises(
        ValueError,
        match=r"part-00001.parquet: is not the file that the store has written .*; put a copy back, or remove it and run",
    ):
        made(place)
    path.unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"part-00001.parquet: is missing, though the store is finished; put a copy back",
    ):
        made(place)
    (place / "store" / "shards.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"shards.parquet: is missing, though the store is finished"):
        made(place)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"store": None},
            "predict: store, input: neither is given; give store= with the folder of a store, or input=",
        ),
        ({"input": "x"}, "predict: store, input: both are given"),
        ({"ingest": {"sauces": []}}, "predict: ingest: sauces: unknown setting"),
        ({"ensemble": "nowhere"}, "nowhere: no ensemble.json and no run.json in it"),
        ({"store": "nowhere"}, "no store.json in it, so no finished store"),
        ({"precision": "double"}, "predict: precision: 'double'"),
        ({"predictions": "{place}/files"}, "but no predictions; give an empty or a new folder"),
        (
            {"predictions": "{place}/store"},
            "holds manifest, manifest.json, markers but no predictions; give an empty or a new folder",
        ),
    ],
)
def test_a_mistake_is_told_before_any_work(origin: Path, tmp_path: Path, given: dict[str, Any], told: str):
    values = {"predictions": str(tmp_path / "said")} | given
    values["predictions"] = values["predictions"].replace("{place}", str(origin))
    with pytest.raises((SettingsError, FileNotFoundError)) as caught:
        made(origin, **values)
    assert told in str(caught.value)
    assert not (tmp_path / "said").exists()


def test_spectra_that_are_prepared_otherwise_are_refused_by_the_key(place: Path):
    other = askable.store(place / "other", prepare=askable.COARSE | {"continuum": "msfl", "masks": "or"})
    with pytest.raises(
        SettingsError,
        match="member both has learned from: masks is or, not and; continuum is msfl, not segment; prepare",
    ):
        made(place, store=other.path)
    assert made(place, store=other.path, prepared="any")[0].about["rows"] == 10
    wide = askable.store(
        place / "wide", prepare=askable.COARSE | {"grid": askable.COARSE["grid"] | {"step": 20.0}}
    )  # type: ignore[operator]
    with pytest.raises(
        ValueError, match=r"its grid has 226 linear points from 4000 to 8500, the run .* was trained on 451"
    ):
        made(place, store=wide.path)


def test_predictions_of_another_version_are_neither_read_nor_lengthened(place: Path):
    made(place)
    for name in ("settings.json", "predictions.json"):
        path = place / "said" / name
        path.write_text(path.read_text().replace('"version": 1', '"version": 99', 1))
    with pytest.raises(
        ValueError, match="the predictions are of version 99, this code reads 1; make them anew"
    ):
        open_predictions(str(place / "said"))
    with pytest.raises(
        SettingsError, match="is of version 99, this code writes 1; give another predictions="
    ):
        made(place)


def test_a_member_that_looks_at_continua_needs_a_store_that_keeps_them(place: Path):
    table = open_store(str(place / "store")).spectra(0)
    with pytest.raises(
        ValueError,
        match="predict: shard 0: its spectra have no continuum, which a member looks at; prepare them with",
    ):
        worker.inputs.spectra(table, "shard 0", True)


def test_members_and_embeddings_are_kept_where_they_are_asked_for(place: Path):
    _, table = made(place, members=True, embeddings=True)
    asked = open_ensemble(str(place / "ensemble"))
    spectra = read_places(open_store(str(place / "store")), np.array([[0, row] for row in range(4)]), False)
    told, latents = asked.members.ask(spectra, batch=3)
    some = table.slice(0, 4)
    for number in range(3):
        assert np.array_equal(
            numbers(some, f"m{number}_p_cemp"), told.p_MNC[number, :, 1].astype(np.float32), equal_nan=True
        )
        assert np.array_equal(
            numbers(some, f"m{number}_Teff"), told.mu_MNL[number, :, 0].astype(np.float32), equal_nan=True
        )
    assert np.array_equal(numbers(some, "m1_Teff_err"), np.sqrt(told.var_MNL[1, :, 0]).astype(np.float32))
    assert some["m0_Teff_err"].null_count == 4
    assert np.array_equal(np.stack(numbers(some, "latent")), np.concatenate(latents, 1))


def test_arrays_are_the_columns_and_follow_a_store_that_grows(place: Path):
    assert not (place / "said" / "arrays").exists()
    made(place)
    report, table = made(place, arrays=True)
    assert report.made == 0
    for size in (10, 12):
        p_NC, label_NL = (
            np.load(place / "said" / "arrays" / f"{name}.npy") for name in ("class_probabilities", "labels")
        )
        ids = pq.read_table(place / "said" / "arrays" / "ids.parquet")
        assert p_NC.shape == (size, 3)
        assert np.array_equal(p_NC[:, 1], numbers(table, "p_cemp"))
        assert np.array_equal(label_NL[:, 1], numbers(table, "FeH"))
        assert ids["obsid"].to_pylist() == table["obsid"].to_pylist()
        askable.store(place, range(10, 12))
        _, table = made(place)
    assert json.loads((place / "said" / "arrays" / "columns.json").read_text())["labels"] == ["Teff", "FeH"]


def test_spectra_without_an_answer_are_written_and_counted(place: Path, monkeypatch: pytest.MonkeyPatch):
    load_shard = worker.inputs.spectra

    def hurt(table: pa.Table, path: str, needs_continuum: bool) -> Spectra:
        some = load_shard(table, path, needs_continuum)
        some.ivar[0], some.flux[1] = 0, torch.inf
        return some

    monkeypatch.setattr(worker.inputs, "spectra", hurt)
    report, table = made(place, embeddings=True)
    assert (report.about["rows"], report.about["silent"]) == (10, 6)
    for row in (0, 1, 4, 5, 8, 9):
        told = table.slice(row, 1).to_pylist()[0]
        assert told["said"] == -1
        assert [told[name] for name in ("p_mp", "entropy", "Teff", "FeH_err", "FeH_low", "domain")] == [
            None
        ] * 6
        assert told["obsid"] == 1000 + row
    assert numbers(table, "said")[2] >= 0
    assert "no answer  6 rows, which have nulls" in summary(report)


def test_dropout_passes_are_the_same_in_every_run(place: Path):
    store = open_store(str(place / "store"))
    shutil.rmtree(place / "ensemble")
    askable.three(place / "ensemble", store, passes=4)
    one, two, other = (
        made(place, predictions=str(place / name), seed=seed)[1]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one.equals(two)
    assert not np.array_equal(numbers(one, "FeH_err_model"), numbers(other, "FeH_err_model"))
    assert (numbers(one, "FeH_err_model") > 0).all()


def test_an_ensemble_that_changes_while_it_is_asked_ends_the_job(place: Path):
    def crew(hire: Hire, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        path = place / "ensemble" / "ensemble.json"
        path.write_text(path.read_text().replace("three-members", "four-members"))
        yield from map(hire(1, False), items)

    with pytest.raises(
        JobError,
        match=r"has become another ensemble since the job began \(three-members then, four-members now\)",
    ):
        predict(settings(place), crew)


def test_a_run_is_an_ensemble_of_one(place: Path):
    report, table = made(place, ensemble=str(place / "ensemble" / "runs" / "classes"))
    assert report.about["labels"] == []
    assert "Teff" not in table.column_names
    assert table["domain"].null_count == 10
    assert "not calibrated" in summary(report)


def test_the_tables_open_in_the_usual_tools(place: Path):
    _, table = made(place, members=True, embeddings=True)
    folder = place / "said" / "predictions"
    assert pd.read_parquet(folder)["FeH"].tolist() == table["FeH"].to_pylist()
    rows = duckdb.sql(
        f"select obsid, said, latent[1] from '{folder}/*.parquet' order by shard, place"
    ).fetchall()
    assert rows == list(
        zip(
            table["obsid"].to_pylist(),
            table["said"].to_pylist(),
            [row[0] for row in table["latent"].to_pylist()],
            strict=True,
        )
    )
    assert (
        Table.read(folder / "part-00000.parquet", format="parquet", include_names=["p_mp"])["p_mp"].tolist()
        == table["p_mp"].to_pylist()[:4]
    )


def test_a_recipe_says_how_files_are_read(tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "ingest: {sources: [lamost], prepare: {masks: or}}\npredict: {batch: 7, ingest: {shard: 5}}\n"
    )
    found = load(
        Predict,
        "predict",
        [str(recipe), "ensemble=e", "predictions=p", "input=i", "ingest.prepare.despike=clip"],
    )
    assert found.batch == 7
    assert found.ingest == {"sources": ["lamost"], "prepare": {"masks": "or", "despike": "clip"}, "shard": 5}
