"""Predictions of a store: the content of their rows, reruns, and what is refused."""

import json
import os
import shutil
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

from survey.answers import LINE_COLUMNS
from survey.arguments import load
from survey.ensemble.ensemble import open_ensemble
from survey.labels import LABELS
from survey.predict import inputs
from survey.predict.output import IDENTITY_COLUMNS, open_predictions, schema
from survey.predict.predict import PredictResult, predict
from survey.predict.settings import Predict
from survey.reports.predict import summary
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training.batches import ExtraInputs, Spectra, read_spectra
from tests import survey_files
from tests.ensemble import untrained
from tests.finished import change_document
from tests.predict.small_predictions import numbers, predicted, settings, stopped_after


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten spectra in three shards, and an ensemble of three members."""
    folder = tmp_path_factory.mktemp("origin")
    untrained.three(folder / "ensemble", untrained.store(folder))
    return folder


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(origin, tmp_path / "place"))


@pytest.fixture
def growing(origin: Path, tmp_path: Path) -> Path:
    """The same, with a store that was made in this place, so that files may be added."""
    untrained.store(tmp_path / "place")
    shutil.copytree(origin / "ensemble", tmp_path / "place" / "ensemble")
    return tmp_path / "place"


@pytest.fixture(scope="module")
def finished(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PredictResult, pa.Table]:
    """Predictions with all optional columns, their folder first; tests do not change them."""
    place = Path(shutil.copytree(origin, tmp_path_factory.mktemp("finished") / "place"))
    return place, *predicted(place, members=True, embeddings=True)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The bytes and the modification time of every file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of the tables of predictions."""
    return {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}


def test_rows_hold_the_answers_of_the_ensemble(place: Path) -> None:
    result, table = predicted(place)
    ensemble, store = open_ensemble(str(place / "ensemble")), open_store(str(place / "store"))
    for shard, rows in ((0, 4), (1, 4), (2, 2)):
        part = table.filter(pa.array(numbers(table, "shard") == shard))
        spectra = read_spectra(store, np.array([[shard, row] for row in range(rows)]))
        snr_N = store.spectra(shard, ["snr"])["snr"].to_numpy().astype(float)
        columns = ensemble.predict(spectra, snr_N, batch=3).answers.to_columns()
        assert numbers(part, "row_in_shard").tolist() == list(range(rows))
        assert columns.keys() <= set(table.column_names)
        for name, array in columns.items():
            assert np.array_equal(numbers(part, name), array, equal_nan=True), name
    document = result.document
    assert (document.rows_in, document.rows, result.created) == (10, 10, 3)
    assert sum(document.per_class.values()) == 10
    assert document.outside_training == (numbers(table, "domain") > 1).sum()


def test_the_identity_columns_are_those_of_the_store(finished: tuple[Path, PredictResult, pa.Table]) -> None:
    place, _, table = finished
    names = list(IDENTITY_COLUMNS)
    stored = pa.concat_tables(open_store(str(place / "store")).tables(names))
    pd.testing.assert_frame_equal(table.select(names).to_pandas(), stored.to_pandas())
    assert table.schema.names[: len(names)] == names


def test_without_a_formula_for_it_the_second_key_is_null(
    finished: tuple[Path, PredictResult, pa.Table],
) -> None:
    _, _, table = finished
    assert [table[name].null_count for name in LINE_COLUMNS] == [table.num_rows] * 2


def test_every_column_has_a_description_and_a_valid_ucd() -> None:
    fields = schema(("MP", "CEMP", "NMP"), tuple(row.name for row in LABELS), ("a", "b"), 5)
    for field in fields:
        metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert metadata["description"]
        if field.name != "latent":
            assert check_ucd(metadata["ucd"], check_controlled_vocabulary=True), field.name
    assert len(set(fields.names)) == len(fields)
    assert fields.field("FeH_err").metadata[b"unit"] == b"dex"


def test_every_file_holds_its_provenance(finished: tuple[Path, PredictResult, pa.Table]) -> None:
    place, result, _ = finished
    folder, document = place / "predictions", result.document
    for path in sorted((folder / "predictions").iterdir()):
        metadata = pq.read_schema(path).metadata
        assert metadata[b"ensemble"] == b"three-members"
        assert metadata[b"store"].decode() == open_store(str(place / "store")).id
        assert metadata[b"predictions"].decode() == document.fingerprint
    assert document.source.kind == "store"
    assert [member.name for member in document.ensemble.members] == ["both", "labels", "classes"]
    assert document.ensemble.members[0].path == str(place / "ensemble" / "runs" / "both")
    validation = (place / "ensemble" / "validation.parquet").read_bytes()
    assert (folder / "validation.parquet").read_bytes() == validation


def test_a_second_run_changes_no_file(place: Path) -> None:
    first, _ = predicted(place)
    before = contents(place / "predictions")
    second, _ = predicted(place)
    assert contents(place / "predictions") == before
    assert (second.created, second.document) == (0, first.document)
    assert "3 complete, 0 made by this run" in summary(second)


def test_only_the_new_shards_of_an_extended_store_are_predicted(growing: Path) -> None:
    first, _ = predicted(growing)
    before = contents(growing / "predictions" / "predictions")
    untrained.store(growing, range(10, 16))
    second, table = predicted(growing)
    assert (second.created, second.document.rows, table.num_rows) == (2, 16, 16)
    assert contents(growing / "predictions" / "predictions").items() >= before.items()
    assert second.document.id != first.document.id


def test_a_shard_that_has_changed_is_predicted_again(growing: Path) -> None:
    predicted(growing)
    path = growing / "files" / survey_files.name(5)
    path.write_bytes(survey_files.file(205))
    os.utime(path, (2e9, 2e9))
    untrained.store(growing, range(0), reread=True)
    result, table = predicted(growing)
    assert result.created == 1
    assert table["obsid"].to_pylist() == [1000 + number for number in (0, 1, 2, 3, 4, 205, 6, 7, 8, 9)]


def test_a_store_may_move_but_another_store_is_refused(place: Path) -> None:
    predicted(place)
    shutil.move(place / "store", place / "elsewhere")
    assert predicted(place, store=str(place / "elsewhere"))[0].created == 0
    other = untrained.store(place / "other", range(20, 30))
    with pytest.raises(
        SettingsError, match=r"store=.* there, .*other/store now, and its first spectra differ"
    ):
        predicted(place, store=other.path)


def test_other_settings_or_another_ensemble_are_refused_by_name(place: Path) -> None:
    predicted(place)
    with pytest.raises(
        SettingsError, match=r"other settings: seed=0 there, 1 now; give the same .* or another predictions="
    ):
        predicted(place, seed=1)
    with pytest.raises(SettingsError, match=r"ensemble=three-members there, .* now"):
        predicted(place, ensemble=str(place / "ensemble" / "runs" / "both"))
    with pytest.raises(SettingsError, match="source=store there, files now"):
        predicted(place, store=None, input=str(place / "files"))


def test_a_folder_below_home_keeps_its_settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place)
    path = "~/predictions"
    before = settings(place).model_copy(update={"predictions": path})  # as a program gives it, unchecked
    assert predict(before).path == str(place / "predictions")
    assert not (place / "~").exists()
    with pytest.raises(SettingsError, match="other settings: seed=0 there, 1 now"):
        predict(before.model_copy(update={"seed": 1}))
    assert settings(place, predictions=path).predictions == str(place / "predictions")


def test_settings_may_change_before_a_shard_is_made(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(settings(place), stopped_after(0))
    assert predicted(place, seed=1)[0].created == 3


def test_a_run_that_was_stopped_is_completed_to_the_same_files(place: Path) -> None:
    undisturbed, _ = predicted(place, predictions=str(place / "undisturbed"))
    with pytest.raises(KeyboardInterrupt):
        predict(settings(place), stopped_after(1))
    with pytest.raises(
        FileNotFoundError, match=r"no predictions.json in it, .*; run survey predict with predictions="
    ):
        open_predictions(str(place / "predictions"))
    completed, _ = predicted(place)
    assert completed.created == 2
    assert tables(place / "predictions") == tables(place / "undisturbed")
    assert completed.document == undisturbed.document


def test_damaged_files_are_made_again(place: Path) -> None:
    predicted(place)
    before = tables(place / "predictions")
    (place / "predictions" / "predictions" / "part-00001.parquet").write_bytes(b"short")
    (place / "predictions" / "markers" / "part-00002.json").write_text("{")
    assert predicted(place)[0].created == 2
    assert tables(place / "predictions") == before


def test_a_damaged_or_missing_file_of_the_store_is_named(place: Path) -> None:
    path = place / "store" / "spectra" / "part-00001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + b"x" + data[-999:])
    with pytest.raises(
        ValueError,
        match=r"part-00001.parquet: is damaged .*; run survey ingest with the settings of the store",
    ):
        predicted(place)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"part-00001.parquet: is missing; run survey ingest with the settings of the"
    ):
        predicted(place)
    (place / "store" / "shards.parquet").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"shards.parquet: is missing; run survey ingest with the same settings again"
    ):
        predicted(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": None}, "predict: store, input: neither is given; give store= with the folder of a store"),
        ({"input": "x"}, "predict: store, input: both are given"),
        ({"ingest": {"sauces": []}}, "predict: ingest.sauces: unknown setting"),
        (
            {"sources": ["ascii"]},
            "predict: sources: unknown setting (value ['ascii']); did you mean ingest.sources?",
        ),
        ({"prepare": {"velocity": "rest"}}, "(value 'rest'); did you mean ingest.prepare.velocity?"),
        ({"ensemble": "nowhere"}, "nowhere: no such folder; give the folder of a finished ensemble or run"),
        ({"store": "nowhere"}, "nowhere: no such folder, so no finished store; give the folder of one"),
        ({"precision": "double"}, "predict: precision: 'double'"),
        ({"threads": 0}, "predict: threads: 0"),
        ({"predictions": "{place}/files"}, "but is no predictions; give an empty or a new folder"),
        (
            {"predictions": "{place}/store"},
            "of another job (store, not predictions); give an empty or a new folder",
        ),
    ],
)
def test_a_mistake_is_reported_before_any_work(
    origin: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = {"predictions": str(tmp_path / "predictions")} | changes
    values["predictions"] = values["predictions"].replace("{place}", str(origin))
    with pytest.raises((SettingsError, FileNotFoundError)) as caught:
        predicted(origin, **values)
    assert message in str(caught.value)
    assert not (tmp_path / "predictions").exists()


def test_spectra_with_another_preparation_are_refused_by_the_key(place: Path) -> None:
    other = untrained.store(place / "other", prepare=untrained.COARSE | {"continuum": "msfl", "masks": "or"})
    with pytest.raises(
        SettingsError,
        match=r"member both: masks is or, not and; continuum is msfl, not segment; prepare "
        r"them with prepare\.masks=and prepare\.continuum=segment of survey ingest, or give prepared=any",
    ):
        predicted(place, store=other.path)
    assert predicted(place, store=other.path, prepared="any")[0].document.rows == 10
    grid: dict[str, Any] = {"start": 4000.0, "stop": 8500.0, "step": 20.0, "scale": "linear"}
    wide = untrained.store(place / "wide", prepare=untrained.COARSE | {"grid": grid})
    with pytest.raises(ValueError, match=r"226 linear points from 4000 to 8500.* 451"):
        predicted(place, store=wide.path)


def test_predictions_of_another_version_are_neither_read_nor_extended(place: Path) -> None:
    predicted(place)
    for name in ("settings.json", "predictions.json"):
        path = place / "predictions" / name
        if name == "settings.json":
            path.write_text(path.read_text().replace('"version": 4', '"version": 99', 1))
        else:
            change_document(path, {"version": 99})
    for call in (lambda: open_predictions(str(place / "predictions")), lambda: predicted(place)):
        with pytest.raises(SettingsError, match="predictions of version 99, this code reads version 4; make"):
            call()


def test_a_member_that_uses_the_continuum_needs_a_store_that_keeps_it(place: Path) -> None:
    table = open_store(str(place / "store")).spectra(0)
    with pytest.raises(
        ValueError,
        match="predict: shard 0: the spectra have no continuum, which a member uses; prepare them with",
    ):
        inputs.to_spectra(table, "shard 0", ("continuum",))


def test_members_and_embeddings_are_written_if_wanted(finished: tuple[Path, PredictResult, pa.Table]) -> None:
    place, _, table = finished
    ensemble = open_ensemble(str(place / "ensemble"))
    spectra = read_spectra(open_store(str(place / "store")), np.array([[0, row] for row in range(4)]))
    answers, latents = ensemble.members.predict(spectra, batch=3)
    first = table.slice(0, 4)
    for number in range(3):
        p_cemp_N = answers.p_MNC[number, :, 1].astype(np.float32)
        teff_N = answers.value_MNL[number, :, 0].astype(np.float32)
        assert np.array_equal(numbers(first, f"m{number}_p_cemp"), p_cemp_N, equal_nan=True)
        assert np.array_equal(numbers(first, f"m{number}_Teff"), teff_N, equal_nan=True)
    error_N = np.sqrt(answers.var_data_MNL[1, :, 0]).astype(np.float32)
    assert np.array_equal(numbers(first, "m1_Teff_err"), error_N)
    assert first["m0_Teff_err"].null_count == 4
    latent_ND = np.stack(list(numbers(first, "latent")))
    assert np.array_equal(latent_ND, np.concatenate(latents, 1))


def test_arrays_equal_the_columns_and_follow_a_growing_store(growing: Path) -> None:
    folder = growing / "predictions" / "arrays"
    predicted(growing)
    assert not folder.exists()
    result, table = predicted(growing, arrays=True)
    assert result.created == 0
    for size in (10, 12):
        p_NC, label_NL = np.load(folder / "class_probabilities.npy"), np.load(folder / "labels.npy")
        ids = pq.read_table(folder / "ids.parquet")
        assert p_NC.shape == (size, 3)
        assert np.array_equal(p_NC[:, 1], numbers(table, "p_cemp"))
        assert np.array_equal(label_NL[:, 1], numbers(table, "FeH"))
        assert ids["obsid"].to_pylist() == table["obsid"].to_pylist()
        untrained.store(growing, range(10, 12))
        _, table = predicted(growing)
    assert json.loads((folder / "columns.json").read_text())["labels"] == ["Teff", "FeH"]


def test_spectra_without_an_answer_are_written_and_counted(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_spectra = inputs.to_spectra

    def damaged(table: pa.Table, where: str, extra: ExtraInputs) -> Spectra:
        spectra = to_spectra(table, where, extra)
        spectra.ivar[0], spectra.flux[1] = 0, torch.inf
        return spectra

    monkeypatch.setattr(inputs, "to_spectra", damaged)
    result, table = predicted(place, embeddings=True)
    assert (result.document.rows, result.document.no_answer) == (10, 6)
    for row in (0, 1, 4, 5, 8, 9):
        values = table.slice(row, 1).to_pylist()[0]
        unknown = ("p_mp", "class_entropy", "Teff", "FeH_err", "FeH_low", "domain")
        assert values["predicted_class"] == -1
        assert [values[name] for name in unknown] == [None] * 6
        assert values["obsid"] == 1000 + row
    assert numbers(table, "predicted_class")[2] >= 0
    assert "no answer  6 rows, which have nulls" in summary(result)


def test_dropout_passes_are_the_same_in_every_run(place: Path) -> None:
    store = open_store(str(place / "store"))
    shutil.rmtree(place / "ensemble")
    untrained.three(place / "ensemble", store, passes=4)
    first, second, other = (
        predicted(place, predictions=str(place / name), seed=seed)[1]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.equals(second)
    assert not np.array_equal(numbers(first, "FeH_err_model"), numbers(other, "FeH_err_model"))
    assert (numbers(first, "FeH_err_model") > 0).all()


def test_an_ensemble_that_changes_during_the_job_is_an_error(place: Path) -> None:
    def change() -> None:
        path = place / "ensemble" / "ensemble.json"
        change_document(path, {"id": "four-members"})

    with pytest.raises(
        JobError, match=r"has changed since the job began \(three-members then, four-members now\)"
    ):
        predict(settings(place), stopped_after(3, change))


def test_a_run_is_an_ensemble_of_one_member(place: Path) -> None:
    result, table = predicted(place, ensemble=str(place / "ensemble" / "runs" / "classes"))
    assert result.document.labels == ()
    assert "Teff" not in table.column_names
    assert table["domain"].null_count == 10
    assert "not calibrated" in summary(result)


def test_numbers_of_threads_are_compared_in_long_jobs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("survey.predict.predict.MIN_SHARDS_TO_COMPARE_THREADS", 1)
    _, compared = predicted(place, threads="auto")
    _, fixed = predicted(place, predictions=str(place / "fixed"), threads=1)
    assert compared["obsid"].equals(fixed["obsid"])
    assert numbers(compared, "FeH") == pytest.approx(numbers(fixed, "FeH"), abs=1e-4)


def test_the_tables_open_in_common_tools(finished: tuple[Path, PredictResult, pa.Table]) -> None:
    place, _, table = finished
    folder = place / "predictions" / "predictions"
    assert pd.read_parquet(folder)["FeH"].tolist() == table["FeH"].to_pylist()
    query = f"select obsid, predicted_class, latent[1] from '{folder}/*.parquet' order by shard, row_in_shard"
    rows = duckdb.sql(query)
    assert rows is not None
    latent = [features[0] for features in table["latent"].to_pylist()]
    columns = (table["obsid"].to_pylist(), table["predicted_class"].to_pylist(), latent)
    assert rows.fetchall() == list(zip(*columns, strict=True))
    first = Table.read(folder / "part-00000.parquet", format="parquet", include_names=["p_mp"])
    assert first["p_mp"].tolist() == table["p_mp"].to_pylist()[:4]


def test_a_recipe_says_how_files_are_read(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "ingest: {sources: [lamost], prepare: {masks: or}}\npredict: {batch: 7, ingest: {shard: 5}}\n"
    )
    arguments = [str(recipe), "ensemble=e", "predictions=p", "input=i", "ingest.prepare.despike=clip"]
    found = load(Predict, "predict", arguments)
    assert found.batch == 7
    assert found.ingest == {"sources": ["lamost"], "prepare": {"masks": "or", "despike": "clip"}, "shard": 5}
