"""Catalogs of odd predictions and in odd folders: one label, embeddings, killed runs, unknown truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.candidates import CandidateLists
from survey.catalog.catalog_inputs import catalog_id
from survey.predict import output
from survey.reports import catalog as report
from survey.settings import SettingsError
from tests.catalog import skies
from tests.catalog.test_catalog import (
    COUNTS,
    all_stars,
    change_document,
    list_of,
    plain,
    run,
    settings_in,
    stop,
    without_classes,
    write_survey,
)


def change(folder: Path, change_table: Callable[[pa.Table], pa.Table], **changes: Any) -> None:
    """Write the predictions again with a change."""
    shards = sorted((folder / "predictions" / "predictions").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in shards])
    skies.write(folder / "predictions", change_table(table), 400, **changes)


def only_labels(*labels: str) -> Callable[[pa.Table], pa.Table]:
    """Removes classes, and all labels but these."""
    removed = tuple(name for name in skies.LABELS if name not in labels)
    return lambda table: without_classes(
        table.drop_columns([name for name in table.column_names if name.startswith(removed)])
    )


def test_iron_alone_selects_metal_poor_stars_and_no_carbon_enhanced_ones(tmp_path: Path) -> None:
    """The predictions have embeddings too, which are left out of a catalog."""
    write_survey(tmp_path)
    lists = pa.list_(pa.field("element", pa.float32(), nullable=False), 2)

    def with_embeddings(table: pa.Table) -> pa.Table:
        return table.append_column("latent", pa.array([[0.0, 1.0]] * table.num_rows, lists))

    change(tmp_path, lambda table: with_embeddings(only_labels("FeH")(table)), classes=(), labels=("FeH",))
    result = run(tmp_path)
    assert "latent" not in all_stars(result).column_names
    candidates = list_of(result, "MP")
    assert candidates.num_rows == result.document.candidates["MP"] > COUNTS[0]
    assert max(candidates["FeH"].to_pylist()) < -1
    text = report.summary(result, report.pictures(result))
    assert "CEMP list  0 candidates, selected by nothing: neither class probabilities nor" in text
    [why] = result.document.why_short["CEMP"]
    assert why.startswith("the list is empty: it is selected by nothing")
    assert result.document.next_best["CEMP"] == 0


def test_a_criterion_without_its_labels_is_refused(tmp_path: Path) -> None:
    write_survey(tmp_path)
    message = r"criterion=aoki2007: .*\(Teff, FeH, CFe\); give criterion=carbon_0\.7 or criterion=carbon_1\.0"
    with pytest.raises(SettingsError, match=message):
        run(tmp_path, criterion="aoki2007")


def test_validation_stars_that_a_flag_excludes_count_as_not_found(tmp_path: Path) -> None:
    write_survey(tmp_path)
    before = plain()[1].document.thresholds["MP"].completeness.value
    path = tmp_path / "predictions" / output.VALIDATION
    table = pq.read_table(path)
    domain = np.where(np.arange(table.num_rows) % 2, 9.0, 0.5)
    pq.write_table(table.append_column("domain", pa.array(domain)), path)
    half = run(tmp_path).document.thresholds["MP"].completeness.value
    assert before is not None
    assert half == pytest.approx(before / 2, abs=0.1)


def test_nothing_is_left_of_runs_with_other_settings_that_failed_or_were_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_survey(tmp_path)
    truth = str(tmp_path / "truth.csv")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file"):
        run(tmp_path, known=[str(tmp_path / "nowhere.csv")])
    with monkeypatch.context() as patch:
        patch.setattr("survey.catalog.catalog.export_table", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, truth=truth, known=[truth])
    assert (tmp_path / "catalog" / "truth.parquet").exists()
    assert not (tmp_path / "catalog" / "catalog.json").exists()
    (tmp_path / "catalog" / "truth.png").write_bytes(b"old")
    result = run(tmp_path)
    assert not (tmp_path / "catalog" / "truth.png").exists()
    assert result.created
    text = report.summary(result, report.pictures(result))
    assert "truth" not in text
    assert "known" not in text
    assert not (tmp_path / "catalog" / "truth.parquet").exists()


def test_true_iron_alone_gives_no_purity_of_carbon_enhanced_stars_and_truth_without_a_match_is_an_error(
    tmp_path: Path,
) -> None:
    """The error comes before the work, and the old catalog stays."""
    write_survey(tmp_path)
    truth = tmp_path / "iron.csv"
    lines = (tmp_path / "truth.csv").read_text().splitlines()
    truth.write_text("".join(",".join(line.split(",")[:4]) + "\n" for line in lines))
    first = run(tmp_path, truth=str(truth))
    measured = first.table("truth.parquet")
    assert measured is not None
    values = {(row["search"], row["metric"]): row["value"] for row in measured.to_pylist()}
    assert values["MP", "purity"] > 0.5
    assert values["CEMP", "purity"] is None
    change_document(tmp_path, id="grown")
    truth.write_text("star,FeH\nnobody,-2\n")
    with pytest.raises(ValueError, match=r"none of (the )?1 rows"):
        run(tmp_path, truth=str(truth))
    document = Path(first.folder) / "catalog.json"
    assert json.loads(document.read_text())["id"] == first.document.id


def test_a_large_survey_with_small_files_does_not_open_too_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_survey(tmp_path, many=True)
    rows: list[int] = []

    def record(*arguments: Any) -> Any:
        rows.append(arguments[-1])
        stop()

    monkeypatch.setattr("survey.catalog.catalog.MAX_REGIONS", 1)
    monkeypatch.setattr("survey.catalog.catalog.stars_by_region", record)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    predictions = output.open_predictions(str(tmp_path / "predictions"))
    assert rows == [predictions.document.rows] == [1600]


def test_among_stars_with_the_same_score_those_without_a_warning_come_first() -> None:
    columns = {
        "score_mp": [1.0, 0.9, 1.0, 1.0],
        "flag_warn": [16, 0, 0, 0],
        "snr_total": [180.0, 90.0, 20.0, 30.0],
        "ra": [1.0] * 4,
        "dec": [1.0] * 4,
    }
    ranked = CandidateLists(tables={"MP": [pa.table(columns)], "CEMP": []}).ranked("MP")
    assert ranked["snr_total"].to_pylist() == [30, 20, 180, 90]


def test_a_catalog_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_survey(tmp_path)
    (tmp_path / "notes").write_text("of mine")
    with pytest.raises(SettingsError, match=r"notes: is a file; give an empty or a new folder"):
        run(tmp_path, catalog=str(tmp_path / "notes"))


def test_predictions_that_have_lost_a_shard_say_what_to_do(tmp_path: Path) -> None:
    write_survey(tmp_path)
    (tmp_path / "predictions" / "predictions" / "part-00001.parquet").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"part-00001\.parquet: .*; run survey predict with the settings"
    ):
        run(tmp_path)


def test_a_catalog_has_another_id_only_if_the_content_of_a_given_table_has_changed(tmp_path: Path) -> None:
    """A finished catalog with another id is made again."""
    folder, _ = plain()
    text = (folder / "truth.csv").read_text()
    tables = {name: tmp_path / f"{name}.csv" for name in ("truth", "known", "catalogue")}
    for path in tables.values():
        path.write_text(text)
    tables["verdicts"] = tmp_path / "verdicts.csv"
    tables["verdicts"].write_text("star,verdict,people\nJ1,accept,2\nJ2,reject,2\n")
    given: dict[str, Any] = {name: str(path) for name, path in tables.items()}
    given |= {"known": [given["known"]], "catalogue_columns": ["FeH"]}
    predictions = output.open_predictions(str(folder / "predictions"))
    assert catalog_id(settings_in(folder), predictions) == plain()[1].document.id
    settings = settings_in(folder, **given)
    ids = [catalog_id(settings, predictions)]
    for name, path in tables.items():
        before = path.read_text()
        path.write_text(before)
        assert catalog_id(settings, predictions) == ids[-1], f"{name}: another time, the same content"
        path.write_text(before.rsplit("\n", 2)[0] + "\n")
        ids.append(catalog_id(settings, predictions))
    assert len(set(ids)) == 5


def test_of_several_labelled_visits_known_labels_are_kept_and_contradicting_ones_count_as_unknown(
    tmp_path: Path,
) -> None:
    """The first visits are the first rows; then come the second ones of J0, J4 and J8."""
    write_survey(tmp_path)
    second = sum(COUNTS)
    visits: list[tuple[int, float, float | str]] = [(0, -2, 1.4), (4, -2, 0.2), (8, -2, 0.2)]
    visits += [(second, -2, ""), (second + 1, 0, 0), (second + 2, -2.1, 0.1)]
    lines = [f"{10**15 + row},{feh},{cfe}" for row, feh, cfe in visits]
    (tmp_path / "visits.csv").write_text("\n".join(["obsid,FeH,CFe", *lines]) + "\n")
    result = run(tmp_path, truth=str(tmp_path / "visits.csv"))
    table, counts = result.table("truth_stars.parquet"), result.document.truth
    assert table is not None
    assert counts is not None
    stars = {row["star"]: row for row in table.to_pylist()}
    belongs = {star: (row["belongs_mp"], row["belongs_cemp"]) for star, row in stars.items()}
    assert belongs == {"J0": (True, True), "J4": (None, False), "J8": (True, False)}
    assert stars["J0"]["true_CFe"] == 1.4
    assert [counts[name] for name in ("MP", "not MP", "CEMP", "not CEMP")] == [2, 0, 1, 2]
    assert "1 unknown, as the labels of their visits contradict each other" in report.summary(result, [])
