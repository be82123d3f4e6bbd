"""The road from mock archives to a training: what was planted in the catalogues is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from survey.label_tables.label_tables import LabelsResult, make_labels
from survey.label_tables.settings import LabelTables
from survey.mock.mock import make as make_mock
from survey.mock.settings import Mock
from tests.commands import survey

SAGA, JINA = "saga_cleaned_catalog.tsv", "JINAbase_2021.csv"
APOGEE, LASP = "allStar-dr17-synspec_rev1.fits", "lamost_stellar.csv.gz"
SOURCES: dict[str, dict[str, Any]] = {
    "saga": {"format": "saga", "file": SAGA, "priority": 1},
    "jina": {"format": "jinabase", "file": JINA, "priority": 2},
    "apogee": {"format": "apogee_dr17", "file": APOGEE, "priority": 3},
    "lasp": {"format": "lamost_stellar", "file": LASP, "priority": 4},
}
NAME_OF = {values["file"]: name for name, values in SOURCES.items()}


def mock(folder: Path, count: int) -> Path:
    """A mock survey with archives of labels."""
    values = {"out": str(folder), "n": count, "broken": 0.0, "extras": True, "seed": 1}
    make_mock(Mock.from_dict("mock", values))
    return folder


@pytest.fixture(scope="module")
def mocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mock(tmp_path_factory.mktemp("mock") / "files", 2000)


def labels_of(mocked: Path, out: Path, **settings: Any) -> LabelsResult:
    values = {
        "labels": str(out),
        "folder": str(mocked / "archives"),
        "to": str(mocked / "catalog.csv.gz"),
        "sources": SOURCES,
        "scale": {"reference": "saga"},
    }
    return make_labels(LabelTables.from_dict("labels", values | settings))


@pytest.fixture(scope="module")
def result(mocked: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelsResult:
    return labels_of(mocked, tmp_path_factory.mktemp("labels") / "out")


def rows_of(result: LabelsResult, name: str) -> list[dict[str, Any]]:
    table = result.table(name)
    assert table is not None
    return list(table.to_pylist())


def frame(result: LabelsResult, name: str) -> pd.DataFrame:
    return pd.DataFrame(rows_of(result, name))


@pytest.fixture(scope="module")
def planted(mocked: Path) -> pd.DataFrame:
    planted = pd.read_parquet(mocked / "archives" / "planted.parquet")
    planted["source"] = planted["file"].map(NAME_OF)
    return planted


def test_planted_offsets_and_slopes_lie_in_their_intervals(mocked: Path, result: LabelsResult) -> None:
    """value = true + offset + slope (true - pivot); the fit gives the way back, at its own pivot."""
    planted = pd.read_parquet(mocked / "archives" / "scales.parquet").set_index(["file", "label"])
    deviations = []
    for fit in frame(result, "scales.parquet").to_dict("records"):
        scale = planted.loc[(SOURCES[fit["source"]]["file"], fit["label"])]
        true = (fit["pivot"] - scale["offset"] + scale["slope"] * scale["pivot"]) / (1 + scale["slope"])
        found = [("offset", true - fit["pivot"])]
        if pd.notna(fit["slope_low"]):
            found.append(("slope", 1 / (1 + scale["slope"]) - 1))
        for name, expected in found:
            half = (fit[f"{name}_high"] - fit[f"{name}_low"]) / 2
            deviations.append(abs(fit[name] - expected) / half)
    assert len(deviations) >= 20
    # of six surveys with other seeds, 123 of 131 truths lay inside their 95 % intervals
    assert np.mean(np.array(deviations) <= 1) >= 0.85
    assert max(deviations) < 1.5


def test_scales_that_are_applied_leave_no_offset(mocked: Path, result: LabelsResult, tmp_path: Path) -> None:
    truth = pd.read_parquet(mocked / "labels.parquet").drop_duplicates("star").set_index("star")
    applied = labels_of(mocked, tmp_path / "out", scale={"reference": "saga", "apply": True})
    offsets = {}
    for name, made in (("plain", result), ("applied", applied)):
        table = frame(made, "labels.parquet")
        for source in ("apogee", "lasp"):
            part = table[table["source_FeH"] == source]
            true = truth.loc[part["star"], "FeH"].to_numpy()
            offsets[name, source] = float((part["FeH"] - true).median())
    assert abs(offsets["plain", "apogee"]) > 0.07
    assert abs(offsets["plain", "lasp"]) > 0.07
    assert abs(offsets["applied", "apogee"]) < 0.04
    assert abs(offsets["applied", "lasp"]) < 0.04


def test_rows_with_the_position_of_another_star_are_found(
    result: LabelsResult, planted: pd.DataFrame
) -> None:
    """By their obsid, or by the position in their name: every one, and no other row."""
    matches = frame(result, "matches.parquet")
    moved = planted[planted["kind"] == "wrong_position"]
    for source, reason in (("lasp", "id and position disagree"), ("apogee", "name and position disagree")):
        rows = matches[matches["source"] == source].set_index("row")
        wrong = set(moved[moved["source"] == source]["row"])
        found = set(rows.index[rows["reason"] == reason])
        cut = set(rows.index[rows["reason"].fillna("").str.startswith(("cut", "no label"))])
        assert len(wrong) >= 10
        assert found == wrong - cut
    # SAGA has no ids: two of its stars are then at one star of the survey, and neither is used
    saga = matches[matches["source"] == "saga"].set_index("row")
    wrong_rows = moved[moved["source"] == "saga"]["row"]
    assert saga.loc[wrong_rows, "reason"].notna().mean() > 0.9


def test_rows_at_the_position_of_no_star_stay_without_one(
    result: LabelsResult, planted: pd.DataFrame
) -> None:
    matches = frame(result, "matches.parquet").set_index(["source", "row"])
    for _, mistake in planted[planted["kind"] == "empty_sky"].iterrows():
        assert matches.loc[(mistake["source"], mistake["row"]), "reason"] == "no such star in the survey"


def test_no_row_is_given_to_a_wrong_star(mocked: Path, result: LabelsResult, planted: pd.DataFrame) -> None:
    """The labels of a star, as the survey has them, are those of the star that it is."""
    truth = pd.read_parquet(mocked / "labels.parquet").drop_duplicates("star").set_index("star")
    table = frame(result, "labels.parquet")
    clean = table[table["contradicts"].isna()]
    known = planted[planted["kind"].isin(["contradiction", "wrong_position"])]["star"]
    clean = clean[~clean["star"].isin(known)]
    apart = (clean["Teff"] - truth.loc[clean["star"], "Teff"].to_numpy()).abs()
    assert (apart < 600).all()
    assert len(clean) > 1000


def test_planted_contradictions_are_found_and_few_others(result: LabelsResult, planted: pd.DataFrame) -> None:
    """Where another source has the same label of the star."""
    used = [row for row in rows_of(result, "matches.parquet") if row["reason"] is None]
    found = rows_of(result, "contradictions.parquet")
    is_used = {(row["source"], row["row"]) for row in used}
    wrong = [row for row in planted.to_dict("records") if row["kind"] == "contradiction"]
    wrong = [row for row in wrong if (row["source"], row["row"]) in is_used]
    truth = {(row["star"], row["label"], row["source"]) for row in wrong}
    hits = {
        (row["star"], row["label"], row[source])
        for row in found
        for source in ("source_1", "source_2")
        if (row["star"], row["label"], row[source]) in truth
    }
    # what can be found: another source has a used row of this star with this label
    has: dict[str, set[str]] = {}
    for row in used:
        has.setdefault(row["star"], set()).add(row["source"])
    carbon = {"CFe": {"saga", "jina", "apogee"}}
    possible = {
        (star, label, source)
        for star, label, source in truth
        if (has[star] & carbon.get(label, set(SOURCES))) - {source}
    }
    recall = len(hits & possible) / len(possible)
    named = {(row["star"], row["label"]) for row in found}
    precision = len({(star, label) for star, label, _ in hits}) / len(named)
    assert len(possible) >= 30
    assert recall >= 0.85, (recall, len(possible))
    assert precision >= 0.85, (precision, len(named))


def test_the_counts_of_cuts_and_duplicates_are_those_planted(
    mocked: Path, result: LabelsResult, planted: pd.DataFrame
) -> None:
    records = {record.name: record for record in result.document.sources}
    second = planted[(planted["kind"] == "duplicate") & (planted["source"] == "apogee")]
    assert 0 < records["apogee"].refused["cut on EXTRATARG"] <= len(second)
    assert records["saga"].by == {"position": records["saga"].used}
    assert records["lasp"].by == {"obsid": records["lasp"].used}
    assert records["apogee"].left_out["CFe"]["no measurement (-9999 and the like)"] > 10
    assert records["saga"].left_out["CH"]["limits"] > 10
    for record in records.values():
        assert record.rows == record.used + sum(record.refused.values())


def test_classes_are_those_of_the_truth(mocked: Path, result: LabelsResult) -> None:
    truth = pd.read_parquet(mocked / "labels.parquet").drop_duplicates("star").set_index("star")
    table = frame(result, "labels.parquet").dropna(subset=["class"])
    true = truth.loc[table["star"], "class"].to_numpy()
    assert (table["class"].to_numpy() == true).mean() > 0.94
    is_cemp = table["class"] == "CEMP"
    assert (true[is_cemp] == "CEMP").mean() > 0.6


def test_without_extras_a_mock_survey_has_the_settings_of_before(tmp_path: Path) -> None:
    plain = Mock.from_dict("mock", {"out": str(tmp_path), "n": 100})
    assert "extras" not in plain.result_settings()
    assert plain.fingerprint() != plain.model_copy(update={"extras": True}).fingerprint()


PATTERN = "{obsdate:%Y%m%d}/{planid}/spec-{lmjd:05d}-{planid}_sp{spid:02d}-{fiberid:03d}.fits"


def run(*arguments: str) -> str:
    done = survey(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_table_trains_without_a_change_and_weak_labels_are_a_source(tmp_path: Path) -> None:
    """mock archives -> store -> labels -> train, one command for each arrow."""
    few = mock(tmp_path / "files", 300)
    recipe, store = tmp_path / "own.yaml", tmp_path / "store"
    recipe.write_text(yaml.safe_dump({"labels": {"sources": SOURCES, "weak": {"kinds": ["late_K", "A"]}}}))
    run("ingest", "cemp", f"input={few}", f"store={store}", "workers=1")
    counts = "reference.counts={NMP: 10, MP: 10, CEMP: 5}"
    archives, out = f"folder={few / 'archives'}", tmp_path / "labels"
    text = run("labels", str(recipe), archives, f"to={store}", f"labels={out}", counts)
    assert "10 MP" in text
    assert "10 NMP" in text
    small = ["model=prism", "options={components: 16, hidden: 32}", "epochs=1", "threads=1"]
    weak = [f"sources.weak.store={store}", f"sources.weak.labels={out / 'weak.parquet'}"]
    trained = run(
        "train",
        "cemp",
        f"store={store}",
        f"labels={out / 'labels.parquet'}",
        *weak,
        "sources.weak.weight=0.2",
        f"run={tmp_path / 'run'}",
        *small,
        "tracking.use=never",
    )
    assert "best epoch" in trained
    table = pd.read_parquet(out / "labels.parquet")
    samples = pd.read_parquet(tmp_path / "run" / "samples.parquet")
    main = samples[samples["extra_source"] == "main"]
    assert len(main) == len(table) == table["star"].nunique()
    assert sorted(main["label_FeH"].dropna()) == pytest.approx(sorted(table["FeH"].dropna()))
    assert set(samples.loc[samples["extra_source"] == "weak", "class_number"]) == {2}


@pytest.mark.timeout(600)
def test_only_the_visits_of_the_table_need_be_read(
    mocked: Path, result: LabelsResult, tmp_path: Path
) -> None:
    """catalogue -> labels -> ingest of the chosen visits."""
    table = frame(result, "labels.parquet").head(40)
    table.to_parquet(tmp_path / "labels.parquet")
    store = f"store={tmp_path / 'store'}"
    chosen = [f"input={tmp_path / 'labels.parquet'}", f"files={mocked}", f"pattern={PATTERN}"]
    text = run("ingest", "cemp", *chosen, store, "workers=1")
    assert "rows in    40" in text


def test_the_recipe_of_the_published_set_needs_the_folder_of_the_archives_only(
    mocked: Path, tmp_path: Path
) -> None:
    text = run(
        *("labels", "cemp", f"folder={mocked / 'archives'}", f"to={mocked / 'catalog.csv.gz'}"),
        f"labels={tmp_path / 'out'}",
    )
    assert "by designation" in text  # lamost_subaru
    assert "contradict" in text
    assert "these stars are left out" in text
