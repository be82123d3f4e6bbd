"""Catalogs of odd predictions and after odd histories: one label, embeddings, leftovers of a killed run, truth that goes with nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.candidates import Lists
from survey.catalog.exports import COLUMNS
from survey.predict import output
from survey.reports import catalog
from survey.settings import SettingsError
from tests.catalog import skies
from tests.catalog.test_catalog import described, made, survey


def changed(folder: Path, change: Callable[[pa.Table], pa.Table], classes: list[str], **more: Any) -> None:
    """Predictions of which something is otherwise."""
    table = pa.concat_tables(
        [pq.read_table(path) for path in sorted((folder / "said" / "predictions").glob("*.parquet"))]
    )
    skies.folder(folder / "said", change(table), 400)
    described(folder, classes, **more)


def only(*labels: str) -> Callable[[pa.Table], pa.Table]:
    """The table without classes, and of all labels with these alone."""
    gone = ("p_", *(f"{name}" for name in skies.LABELS if name not in labels))
    return lambda table: table.drop_columns(
        [name for name in table.column_names if name.startswith(gone) or name in ("said", "entropy", "doubt")]
    )


def test_iron_alone_tells_who_is_metal_poor_and_that_nobody_is_known_to_be_carbon_enhanced(
    tmp_path: Path,
) -> None:
    survey(tmp_path)
    changed(tmp_path, only("FeH"), [], labels=["FeH"])
    found = made(tmp_path, exports=[])
    table = found.table("mp_candidates.parquet")
    assert table is not None
    assert table.num_rows == found.about["candidates"]["MP"] > 300
    assert max(table["FeH"].to_pylist()) < -1
    assert "CEMP list  0 candidates, told by nothing: neither class probabilities nor" in catalog.summary(
        found, catalog.pictures(found)
    )


def test_a_criterion_that_the_labels_do_not_tell_is_refused(tmp_path: Path) -> None:
    survey(tmp_path)
    with pytest.raises(
        SettingsError,
        match=r"criterion=aoki2007: needs Teff and logg, the predictions are of Teff, FeH, CFe; give carbon_0\.7 or",
    ):
        made(tmp_path, criterion="aoki2007")


def test_embeddings_are_left_out_of_a_catalog(tmp_path: Path) -> None:
    survey(tmp_path)
    lists = pa.list_(pa.field("element", pa.float32(), nullable=False), 2)

    def with_embeddings(table: pa.Table) -> pa.Table:
        return table.append_column("latent", pa.array([[0.0, 1.0]] * table.num_rows, lists))

    changed(tmp_path, with_embeddings, ["MP", "CEMP", "NMP"])
    found = made(tmp_path)
    assert found.made
    assert "latent" not in pq.read_table(Path(found.folder) / "hats" / "stars" / "dataset").column_names


def test_validation_stars_that_a_flag_would_bar_count_as_not_found(tmp_path: Path) -> None:
    survey(tmp_path)
    before = made(tmp_path, exports=[]).about["thresholds"]["MP"]["completeness"]["value"]
    path = tmp_path / "said" / output.VALIDATION
    table = pq.read_table(path)
    pq.write_table(
        table.append_column("domain", pa.array(np.where(np.arange(table.num_rows) % 2, 9.0, 0.5))), path
    )
    after = made(tmp_path, exports=[], catalog=str(tmp_path / "barred")).about["thresholds"]["MP"][
        "completeness"
    ]["value"]
    assert abs(after - before / 2) < 0.1


def test_nothing_is_left_of_a_run_with_other_settings_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(tmp_path)
    truth = str(tmp_path / "truth.csv")
    with monkeypatch.context() as patch:
        patch.setattr("survey.catalog.catalog._publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, truth=truth, known=[truth])
    found = made(tmp_path)
    told = catalog.summary(found, catalog.pictures(found))
    assert "truth" not in told
    assert "known" not in told
    assert not (tmp_path / "catalog" / "truth.parquet").exists()


def test_truth_that_goes_with_no_star_is_told_before_the_work_and_spares_the_catalog_that_is_there(
    tmp_path: Path,
) -> None:
    survey(tmp_path)
    truth = tmp_path / "own.csv"
    truth.write_text((tmp_path / "truth.csv").read_text())
    first = made(tmp_path, truth=str(truth), exports=[])
    described(tmp_path, ["MP", "CEMP", "NMP"], id="grown")
    truth.write_text("star,FeH\nnobody,-2\n")
    with pytest.raises(ValueError, match=r"none of 1 rows goes with any of 1600 spectra"):
        made(tmp_path, truth=str(truth), exports=[])
    note = Path(first.folder) / "catalog.json"
    assert json.loads(note.read_text())["id"] == first.about["id"]


def test_iron_alone_tells_no_purity_of_carbon_enhanced_stars(tmp_path: Path) -> None:
    survey(tmp_path)
    truth = tmp_path / "iron.csv"
    truth.write_text(
        "".join(
            ",".join(line.split(",")[:4]) + "\n" for line in (tmp_path / "truth.csv").read_text().splitlines()
        )
    )
    found = made(tmp_path, truth=str(truth), exports=[])
    compared = found.table("truth.parquet")
    assert compared is not None
    told = {(row["search"], row["metric"]): row["value"] for row in compared.to_pylist()}
    assert told["MP", "purity"] > 0.5
    assert told["CEMP", "purity"] is None


def test_every_table_says_where_it_comes_from_and_what_its_columns_are(tmp_path: Path) -> None:
    survey(tmp_path)
    truth = str(tmp_path / "truth.csv")
    found = made(tmp_path, truth=truth, known=[truth], exports=[])
    tables = sorted(Path(found.folder).glob("*.parquet"))
    assert len(tables) == 6
    for path in tables:
        about = pq.read_schema(path).metadata
        assert (about[b"ensemble"], about[b"predictions"], about[b"source"]) == (
            b"e1",
            b"abc",
            b"store s1",
        ), path
    assert (Path(found.folder) / COLUMNS).exists()
    assert found.about["definitions"]["CEMP"] == "[Fe/H] < -1 and [C/Fe] >= 0.7 (criterion carbon_0.7)"


def test_small_files_of_a_large_survey_do_not_open_more_files_than_a_process_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(tmp_path)
    rows: list[int] = []
    from survey.catalog import catalog as job

    before = job.by_region
    monkeypatch.setattr(job, "MOST_REGIONS", 1)
    monkeypatch.setattr(job, "by_region", lambda *given: (rows.append(given[-1]), before(*given))[1])
    found = made(tmp_path, exports=[])
    assert rows == [found.about["predictions"]["rows"]] == [1600]


def test_among_stars_of_one_score_those_without_a_warning_come_first() -> None:
    columns = {
        "score_mp": [1.0, 0.9, 1.0, 1.0],
        "flag_warn": [16, 0, 0, 0],
        "snr_total": [180.0, 90.0, 20.0, 30.0],
        "ra": [1.0] * 4,
        "dec": [1.0] * 4,
    }
    found = Lists(parts={"MP": [pa.table(columns)], "CEMP": []}).ranked("MP")
    assert found["snr_total"].to_pylist() == [30, 20, 180, 90]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    survey(tmp_path)
    (tmp_path / "notes").write_text("of mine")
    with pytest.raises(SettingsError, match=r"notes: is a file; give an empty or a new folder"):
        made(tmp_path, catalog=str(tmp_path / "notes"))


def test_predictions_that_have_lost_a_shard_say_what_to_do(tmp_path: Path) -> None:
    survey(tmp_path)
    (tmp_path / "said" / "predictions" / "part-00001.parquet").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"part-00001\.parquet: is gone; run jobs/predict\.py again, which makes it anew",
    ):
        made(tmp_path)
