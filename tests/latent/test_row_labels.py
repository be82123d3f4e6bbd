"""Tables of classes and numbers that are joined to rows of predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from survey.latent.latents import Latents, open_latents
from survey.latent.row_labels import RowLabels, key_table, object_names, read_labels
from survey.latent.settings import LatentSettings
from survey.settings import SettingsError
from tests.latent.drawn_latents import drawn, write_predictions


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Six rows: the last two are visits of one star."""
    stars = ["a", "b", "c", "d", "e", "e"]
    folder = tmp_path_factory.mktemp("p")
    return open_latents(write_predictions(folder, drawn(6, width=3)[0], 4, stars))


def read(folder: Path, latents: Latents, table: dict[str, list[object]], **changes: object) -> RowLabels:
    pa.csv.write_csv(pa.table(table), folder / "table.csv")
    values = {"predictions": "p", "latent": "l", "labels": str(folder / "table.csv")}
    return read_labels(LatentSettings.from_dict("latent", values | changes), latents)


def words(labels: RowLabels, number: int = 0) -> list[str | None]:
    question = labels.questions[number]
    return [question.classes[code] if code >= 0 else None for code in question.class_N]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("obsid", [3, 1, 6]),
        ("visit", ["visit-00002", "visit-00000", "visit-00005"]),
        ("path", ["spec-00002.fits.gz", "other/spec-00000.fits", "spec-00005"]),
    ],
)
def test_rows_are_found_by_the_keys_of_visits(
    tmp_path: Path, latents: Latents, key: str, values: list[object]
) -> None:
    found = read(tmp_path, latents, {key: values, "class": ["x", "y", "z"]})
    assert words(found) == ["y", None, "x", None, None, "z"]
    assert found.records[0].matched == 3


def test_a_class_of_a_star_is_that_of_all_its_visits(tmp_path: Path, latents: Latents) -> None:
    found = read(tmp_path, latents, {"star": ["e", "a"], "class": ["x", "y"]})
    assert words(found) == ["y", None, None, None, "x", "x"]


def test_contradicting_rows_give_no_class_and_are_counted(tmp_path: Path, latents: Latents) -> None:
    table: dict[str, list[object]] = {"star": ["a", "a", "b", "b"], "class": ["x", "y", "x", None]}
    found = read(tmp_path, latents, table)
    assert words(found)[:2] == [None, "x"]
    assert found.questions[0].contradicting == 1


def test_several_questions_may_be_asked_and_cells_may_be_empty(tmp_path: Path, latents: Latents) -> None:
    table: dict[str, list[object]] = {"obsid": [1, 2, 3], "bar": ["yes", "", "no"], "kind": [1, 2, 1]}
    found = read(tmp_path, latents, table, classes=["bar", "kind"])
    assert words(found)[:3] == ["yes", None, "no"]
    assert words(found, 1)[:3] == ["1", "2", "1"]


def test_names_of_key_columns_may_be_given(tmp_path: Path, latents: Latents) -> None:
    found = read(
        tmp_path, latents, {"number": [2, 5], "class": ["x", "y"]}, join={"columns": {"obsid": "number"}}
    )
    assert words(found) == [None, "x", None, None, "y", None]
    with pytest.raises(SettingsError, match="FeH: is no key column"):
        read(tmp_path, latents, {"class": ["x"]}, join={"columns": {"FeH": "number"}})


def test_statistics_are_columns_of_numbers(tmp_path: Path, latents: Latents) -> None:
    table: dict[str, list[object]] = {
        "obsid": [1, 2, 4],
        "class": ["x", "y", "x"],
        "size": [1.5, 2.5, None],
        "text": ["p", "q", "r"],
    }
    found = read(tmp_path, latents, table, statistics=str(tmp_path / "table.csv"))
    assert found.statistics is not None
    assert found.statistics.names == ("size",)
    assert found.statistics.value_NS[:2, 0].tolist() == [1.5, 2.5]
    assert np.isnan(found.statistics.value_NS[2:]).all()
    with pytest.raises(SettingsError, match="no column of numbers among text"):
        read(tmp_path, latents, table, statistics=str(tmp_path / "table.csv"), statistics_columns=["text"])


def test_rows_that_contradict_each_other_give_no_statistics(
    tmp_path: Path, latents: Latents, caplog: pytest.LogCaptureFixture
) -> None:
    """Two objects whose files have one name, in a table that does not say which of them a row is."""
    table: dict[str, list[object]] = {
        "star": ["a", "a", "b", "b", "e", "c"],
        "class": ["x"] * 6,
        "size": [1.0, 2.0, 3.0, 3.0, 4.0, 5.0],
        "colour": [0.1, 0.1, None, 0.2, 0.3, 0.4],
    }
    found = read(tmp_path, latents, table, statistics=str(tmp_path / "table.csv")).statistics
    assert found is not None
    expected = [[np.nan, np.nan], [3, 0.2], [5, 0.4], [np.nan, np.nan], [4, 0.3], [4, 0.3]]
    np.testing.assert_allclose(found.value_NS, expected)
    assert "1 rows of the predictions have none, because rows of the table with the same star" in caplog.text


def test_what_a_question_asks_is_no_statistic(tmp_path: Path, latents: Latents) -> None:
    table: dict[str, list[object]] = {
        "obsid": [1, 2, 4],
        "isM3": [0, 1, 0],
        "size": [1.5, 2.5, 3.5],
        "merging_merger_fraction": [0.9, 0.1, 0.1],
        "merging_none_fraction": [0.1, 0.8, 0.9],
        "spiral-arm-count_2_fraction": [0.1, 0.8, 0.9],
    }
    path = str(tmp_path / "table.csv")
    found = read(tmp_path, latents, table, classes=["isM3"], statistics=path, votes=path)
    assert found.statistics is not None
    assert found.statistics.names == ("size",)
    found = read(tmp_path, latents, table, classes=["isM3"], statistics=path)
    assert found.statistics is not None
    assert "merging_none_fraction" in found.statistics.names, "no votes are asked"
    with pytest.raises(SettingsError, match="statistics_columns: isM3 is what a question asks; leave it out"):
        read(tmp_path, latents, table, classes=["isM3"], statistics=path, statistics_columns=["isM3"])
    del table["size"]
    with pytest.raises(SettingsError, match="no column of numbers among none"):
        read(tmp_path, latents, table, classes=["isM3"], statistics=path, votes=path)


def test_a_question_has_one_name(tmp_path: Path, latents: Latents) -> None:
    table: dict[str, list[object]] = {
        "obsid": [1, 2],
        "merger": ["x", "y"],
        "merging_merger": [0.9, 0.1],
        "merging_none": [0.1, 0.9],
    }
    with pytest.raises(SettingsError, match="merger is given twice; give each column once"):
        read(tmp_path, latents, table, classes=["merger", "merger"])
    with pytest.raises(SettingsError, match="classes: merger is a question of votes= too; rename"):
        read(tmp_path, latents, table, classes=["merger"], votes=str(tmp_path / "table.csv"))


def test_a_table_of_other_objects_is_one_sentence(tmp_path: Path, latents: Latents) -> None:
    with pytest.raises(SettingsError, match=r"no row belongs to a row of the predictions \(keys: obsid"):
        read(tmp_path, latents, {"obsid": [900], "class": ["x"]})
    pq.write_table(pa.table({"obsid": [1, 2], "class": [0.5, 1.0]}), tmp_path / "t.parquet")
    with pytest.raises(SettingsError, match="holds fractions, no classes"):
        read(tmp_path, latents, {"x": [1]}, labels=str(tmp_path / "t.parquet"))


def test_columns_that_predictions_lack_are_unknown(latents: Latents) -> None:
    fewer = replace(latents, identity=("shard", "row_in_shard", "path"))
    table = key_table(fewer)
    assert table["row"].to_pylist() == [-1] * 6
    assert table["star"].null_count == 6
    assert len(set(object_names(fewer, np.arange(6)))) == 6
    assert len(set(object_names(latents, np.arange(6)))) == 5
