"""A look at the latent space, from predictions to the finished folder and its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from survey.latent import maps
from survey.latent.latent import LatentResult, look
from survey.latent.settings import LatentSettings
from survey.reports import latent as report
from survey.settings import SettingsError
from tests.latent.drawn_latents import drawn, positions, write_predictions

ROWS = 400
NAMES = np.array(["edge-on", "in between", "round"])


def settings(folder: Path, **changes: Any) -> LatentSettings:
    values = {
        "predictions": str(folder / "p"),
        "latent": str(folder / "l"),
        "maps": ["pca"],
        "sample": 200,
        "clusters": {"least": 20},
        "classifiers": {"trees": 20},
        "top": 5,
    }
    return LatentSettings.from_dict("latent", values | changes)


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two surveys; an object far from all others, and one without a latent; tables of labels and numbers."""
    folder = tmp_path_factory.mktemp("surveys")
    latent_ND, class_N = drawn(ROWS, spread=3.0)
    latent_ND[7] = np.nan
    latent_ND[11] += 40
    predicted_N = np.where(np.arange(ROWS) % 50 == 0, -1, class_N)
    write_predictions(folder / "p", latent_ND, 150, predicted_N=predicted_N)
    write_predictions(folder / "q", latent_ND[:300] + np.float32(0.1), 150, name="other")
    write_predictions(folder / "empty", latent_ND[:20] * np.float32(np.nan))
    write_predictions(folder / "single", np.where(np.arange(20)[:, None] == 3, latent_ND[:20], np.nan))
    write_predictions(folder / "narrow", latent_ND[:, :5], 150)
    ra_N, dec_N = positions(ROWS)
    bar_N = np.where(latent_ND[:, 0] > 0, "yes", "no")
    table = {"ra": ra_N, "dec": dec_N, "class": NAMES[class_N], "bar": bar_N}
    pa.csv.write_csv(pa.table(table), folder / "labels.csv")
    numbers = {"obsid": np.arange(1, ROWS + 1), "size": class_N + 0.5, "text": ["x"] * ROWS}
    pa.csv.write_csv(pa.table(numbers), folder / "shapes.csv")
    votes = {
        "ra": ra_N,
        "dec": dec_N,
        "merging_merger_fraction": np.where(class_N == 0, 0.9, 0.1),
        "merging_none_fraction": np.where(class_N == 1, 0.9, 0.1),
    }
    pq.write_table(pa.table(votes), folder / "votes.parquet")
    return folder


@pytest.fixture(scope="module")
def everything(surveys: Path) -> LatentResult:
    return look(
        settings(
            surveys,
            labels=str(surveys / "labels.csv"),
            classes=["class", "bar"],
            statistics=str(surveys / "shapes.csv"),
            like=["star 5"],
            neighbours=3,
            other=str(surveys / "q"),
        )
    )


def test_the_map_has_a_row_for_each_row_of_the_predictions(everything: LatentResult) -> None:
    table = everything.table("map.parquet")
    assert table is not None
    assert table["obsid"].to_pylist() == list(range(1, ROWS + 1))
    assert table["pca_1"].null_count == table["density_score"].null_count == 1
    assert table["pca_1"][7].as_py() is None
    assert table["label_class"].to_pylist() == table["group"].to_pylist()
    assert all(b"description" in (field.metadata or {}) for field in table.schema)


def test_the_space_gives_the_map_again(everything: LatentResult, surveys: Path) -> None:
    space = load_file(f"{everything.folder}/space.safetensors")
    rows = pq.read_table(surveys / "p" / "predictions" / "part-00000.parquet", columns=["latent"])
    latent_ND = np.stack(rows["latent"].to_numpy()[:7])
    place_NC = (latent_ND - space["mean"]) / space["scale"] @ space["axes"].T
    table = everything.table("map.parquet", ["pca_1", "pca_2"])
    assert table is not None
    assert np.allclose(place_NC[:, 0], table["pca_1"].to_numpy()[:7], atol=1e-3)


def test_the_far_object_is_the_first_outlier_by_both_scores(everything: LatentResult) -> None:
    table = everything.table("outliers.parquet")
    assert table is not None
    first = [row for row in table.to_pylist() if row["rank"] == 1]
    assert {(row["by"], row["kind"]) for row in first if row["star"] == "star 11"} == {
        ("centre", "outlier"),
        ("density", "outlier"),
    }
    assert table.num_rows == 20


def test_classifiers_learn_the_classes_from_the_latent(everything: LatentResult) -> None:
    table = everything.table("classifiers.parquet")
    assert table is not None
    value = {
        (row["question"], row["features"], row["classifier"]): row["value"]
        for row in table.to_pylist()
        if row["metric"] == "balanced_accuracy"
    }
    assert value["class", "latent", "linear"] > 0.95
    assert value["class", "statistics", "forest"] > 0.95  # the size gives the class away
    assert value["bar", "latent", "forest"] > 0.8
    assert everything.document.statistics == ("size",)


def test_neighbours_are_the_nearest_rows(everything: LatentResult, surveys: Path) -> None:
    table = everything.table("neighbours.parquet")
    assert table is not None
    latent_ND, _ = drawn(ROWS, spread=3.0)
    latent_ND[11] += 40
    distance_N = np.linalg.norm(latent_ND - latent_ND[5], axis=1)
    distance_N[[5, 7]] = np.inf
    assert table["star"].to_pylist() == [f"star {row}" for row in np.argsort(distance_N)[:3]]
    assert np.allclose(table["distance"].to_numpy(), np.sort(distance_N)[:3], atol=1e-3)
    assert set(table["like"].to_pylist()) == {"star 5"}


def test_pairs_of_nearly_equal_surveys_are_each_others_nearest(everything: LatentResult) -> None:
    pairs = everything.document.pairs
    assert pairs is not None
    assert pairs.top_1 is not None
    assert (pairs.pairs, pairs.ranked, pairs.other_rows) == (300, 299, 299)
    assert pairs.top_1 > 0.95
    assert pairs.median_rank == 1


def test_the_summary_has_the_numbers_and_the_pictures_are_there(everything: LatentResult) -> None:
    pictures = report.pictures(everything)
    assert {path.rpartition("/")[2] for path in pictures} == {
        "map_pca.png",
        "components.png",
        "classifiers.png",
        "pairs.png",
    }
    text = report.summary(everything, pictures)
    assert "400 rows of 12 features, 1 without a latent" in text
    assert "400 predictions found by position" in text
    assert "star 11: " in text
    assert "the own partner is the nearest for" in text
    assert "class: of 280 rows, tested on" in text


def test_a_second_run_does_nothing_and_other_settings_are_refused(surveys: Path, tmp_path: Path) -> None:
    wanted = {"latent": str(tmp_path / "l")}
    assert look(settings(surveys, **wanted)).created
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "l").iterdir()}
    again = look(settings(surveys, **wanted))
    assert not again.created
    assert "was finished: nothing to do" in report.summary(again, [])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "l").iterdir()} == before
    with pytest.raises(SettingsError, match="top=5 there, 6 now"):
        look(settings(surveys, **wanted, top=6))


def test_a_damaged_table_is_made_again(surveys: Path, tmp_path: Path) -> None:
    wanted = {"latent": str(tmp_path / "l")}
    look(settings(surveys, **wanted))
    path = tmp_path / "l" / "map.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert look(settings(surveys, **wanted)).created
    assert path.read_bytes() == data


def test_a_look_that_was_stopped_is_made_again_with_the_same_bytes(surveys: Path, tmp_path: Path) -> None:
    """The document is written last; without it, the folder is not finished."""
    wanted = {"latent": str(tmp_path / "l")}
    look(settings(surveys, **wanted))
    data = {path.name: path.read_bytes() for path in (tmp_path / "l").glob("*.parquet")}
    (tmp_path / "l" / "latent.json").unlink()
    (tmp_path / "l" / "outliers.parquet").unlink()
    assert look(settings(surveys, **wanted)).created
    assert {path.name: path.read_bytes() for path in (tmp_path / "l").glob("*.parquet")} == data
    assert len(data) == 2


def test_other_predictions_make_it_again(surveys: Path, tmp_path: Path) -> None:
    wanted = {"latent": str(tmp_path / "l")}
    look(settings(surveys, **wanted))
    grown = look(settings(surveys, **wanted, predictions=str(surveys / "q")))
    assert grown.created
    assert grown.document.rows == 300


def test_without_labels_groups_are_predicted_classes_or_clusters(surveys: Path, tmp_path: Path) -> None:
    predicted = look(settings(surveys, latent=str(tmp_path / "a"))).document
    assert predicted.groups.by == "predicted class"
    assert sum(predicted.groups.rows.values()) == ROWS - 8
    clusters = look(settings(surveys, latent=str(tmp_path / "b"), group="clusters")).document
    assert clusters.groups.by == "cluster"
    assert len(clusters.groups.rows) == 3


def test_votes_become_classes(surveys: Path, tmp_path: Path) -> None:
    votes = str(surveys / "votes.parquet")
    document = look(settings(surveys, latent=str(tmp_path / "l"), votes=votes)).document
    questions = {question.name: question for question in document.questions}
    assert list(questions) == ["morphology", "merger"]
    assert questions["merger"].rows.keys() == {"no", "yes"}
    assert "two are needed" in questions["morphology"].why_not
    written = json.loads((tmp_path / "l" / "latent.json").read_text())
    assert written["tables"][0]["key"] == "position"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other": "{}/narrow"}, "a latent of 5 features, that of .* has 12"),
        ({"group": "labels"}, "group: labels are meant, but none are given"),
        ({"statistics": "{}/shapes.csv"}, "classifiers need classes too"),
        ({"labels": "{}/labels.csv", "classes": ["clas"]}, "there is no column 'clas'; similar: class"),
        ({"labels": "{}/labels.csv", "classes": ["ra"]}, "ra has more than 100 values"),
        ({"labels": "{}/shapes.csv"}, "no column of classes among obsid, size, text"),
        ({"labels": "{}/labels.csv", "join": {"key": "star"}}, "there is no column for star"),
        ({"like": ["nobody"]}, "like: nobody: no row of the predictions"),
        ({"like": [90_000]}, "like: 90000: no row of the predictions"),
        ({"other": "{}/empty"}, "other: .*/empty: no row has a latent"),
        (
            {"clusters": {"method": "kmeans", "count": 500}},
            "clusters.count: 500 clusters of 200 rows; give at most 200",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    surveys: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changes = {
        key: value.format(surveys) if isinstance(value, str) else value for key, value in changes.items()
    }
    with pytest.raises((SettingsError, ValueError), match=message):
        look(settings(surveys, latent=str(tmp_path / "l"), **changes))


def test_a_changed_table_makes_it_again(surveys: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"latent": str(tmp_path / "l"), "classifiers": {"trees": 1}}
    names = {"labels": "labels.csv", "votes": "votes.parquet", "statistics": "shapes.csv"}
    for key, name in names.items():
        given[key] = str(tmp_path / name)
        (tmp_path / name).write_bytes((surveys / name).read_bytes())
    assert look(settings(surveys, **given)).created
    for name in names.values():
        assert not look(settings(surveys, **given)).created
        path = tmp_path / name
        if path.suffix == ".csv":
            path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
        else:
            pq.write_table(pq.read_table(path).slice(1), path)
        assert look(settings(surveys, **given)).created, name


def test_a_map_that_has_become_possible_is_made(
    surveys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without umap installed, the map is left out; a map that is there is kept."""
    wanted = {**settings(surveys, latent=str(tmp_path / "l")).model_dump(mode="json")}
    del wanted["maps"]
    possible = ["pca"]
    monkeypatch.setattr(maps, "usable_maps", lambda _: (list(possible), {}))
    monkeypatch.setattr(maps, "make_map", lambda name, _settings, component_NC, *_: component_NC[:, :2])
    given = LatentSettings.from_dict("latent", wanted)
    assert look(given).document.maps == ("pca",)
    possible.append("umap")
    found = look(given)
    assert found.created
    assert found.document.maps == ("pca", "umap")
    assert not look(given).created
    possible.remove("umap")
    assert not look(given).created


def test_an_object_may_be_named_by_its_obsid(surveys: Path, tmp_path: Path) -> None:
    document = look(settings(surveys, latent=str(tmp_path / "l"), like=[6, "star 9"])).document
    assert document.like == ("6", "star 9")


def test_a_second_survey_of_one_row_has_ranks_and_no_distances(surveys: Path, tmp_path: Path) -> None:
    found = look(settings(surveys, latent=str(tmp_path / "l"), other=str(surveys / "single")))
    pairs = found.document.pairs
    assert pairs is not None
    assert (pairs.pairs, pairs.ranked, pairs.distances, pairs.within) == (20, 1, {}, {})
    assert "among the nearest 10 for 100.0%" in report.summary(found, [])


def test_a_refused_setting_leaves_the_look_of_before(surveys: Path, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"latent": str(tmp_path / "l"), "other": str(tmp_path / "other")}
    latent_ND, _ = drawn(ROWS, spread=3.0)
    write_predictions(tmp_path / "other", latent_ND[:50])
    assert look(settings(surveys, **wanted)).created
    write_predictions(tmp_path / "other", latent_ND[:50] * np.float32(np.nan), name="new")
    with pytest.raises(SettingsError, match="no row has a latent"):
        look(settings(surveys, **wanted))
    assert (tmp_path / "l" / "latent.json").exists()
