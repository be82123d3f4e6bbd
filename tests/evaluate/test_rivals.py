"""Runs and ensembles set against one another: the same spectra for all, and what cannot be compared is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import Evaluate, evaluate
from survey.evaluate.result import AGAINST, PREDICTIONS, READS
from survey.labelling import samples
from survey.reports import evaluate as outcome
from survey.settings import SettingsError
from tests.ensemble import teams
from tests.reports.sketches import sketch

RUNS = ("both", "sure", "warm", "classes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one store and one split, and one of another split."""
    folder = teams.place(tmp_path_factory.mktemp("rivals"), "both", "sure", "classes")
    teams.train(folder, "warm", task="reg", targets=["Teff", "FeH"], epochs=1)
    teams.train(folder, "elsewhere", epochs=1, split=teams.SPLIT | {"seed": 5})
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """The runs, without evaluations."""
    for name in (*RUNS, "elsewhere"):
        shutil.copytree(
            made / name, tmp_path / name, ignore=shutil.ignore_patterns("evaluations*", "checkpoints")
        )
    return tmp_path


def settings(place: Path, of: str, *against: str, **changes: Any) -> Evaluate:
    given = {"of": str(place / of), "against": [str(place / name) for name in against], "threads": 1}
    return Evaluate.checked("evaluate", given | changes)


def told(found: Any, **wanted: str) -> dict[str, Any]:
    (one,) = [
        row
        for row in found.against.to_pylist()
        if all(row[name] == value for name, value in ({"kind": "all"} | wanted).items())
    ]
    return one


def test_all_are_judged_by_the_same_spectra_as_alone(place: Path) -> None:
    found = evaluate(settings(place, "both", "sure"))
    for name in ("both", "sure"):
        alone = evaluate(settings(place, name))
        mae = [
            row["value"]
            for row in alone.table.to_pylist()
            if (row["kind"], row["subject"], row["metric"]) == ("all", "CFe", "mae")
        ]
        assert told(found, subject="CFe", metric="mae", who=name)["value"] == pytest.approx(mae[0])
    row = told(found, subject="CFe", metric="mae", who="sure")
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert {row["group"] for row in found.against.to_pylist() if row["kind"] == "gravity"} == {
        "dwarf",
        "giant",
    }  # logg is no target of theirs


def test_a_comparison_is_shown_again_and_leaves_a_trace_with_everyone(place: Path) -> None:
    first, again = (evaluate(settings(place, "both", "sure")) for _ in range(2))
    assert (first.made, again.made) == (True, False)
    assert again.against is not None
    assert again.against.equals(first.against)
    assert first.folder != evaluate(settings(place, "both")).folder
    assert (Path(first.folder) / AGAINST).exists()
    for name in ("both", "sure"):
        notes = json.loads((place / name / READS).read_text())
        assert [note["what"] for note in notes if "against" in note["what"]] == [first.about["what"]]


def test_stars_that_another_has_learned_from_are_left_out_and_counted(place: Path) -> None:
    found = evaluate(settings(place, "both", "elsewhere"))
    mine = samples.read(str(place / "both")).part("test").about["star"].to_pylist()
    theirs = samples.read(str(place / "elsewhere"))
    learned = set(
        theirs.at(np.flatnonzero((theirs.part_N == 0) | (theirs.part_N == 1))).about["star"].to_pylist()
    )
    kept = pq.read_table(Path(found.folder) / PREDICTIONS)["star"].to_pylist()
    assert set(kept) == set(mine) - learned
    assert found.about["against"]["left_out"] == {"elsewhere": len(set(mine) & learned)}
    assert f"elsewhere has seen {len(set(mine) & learned)} of those of the first one" in outcome.summary(
        found, []
    )


def test_nets_of_one_label_and_of_many_are_compared_by_what_both_tell(place: Path) -> None:
    found = evaluate(settings(place, "both", "warm", "classes", "sure"))
    assert found.about["against"]["alone"] == {"warm": ["Teff"]}
    who = {(row["subject"], row["metric"]): set() for row in found.against.to_pylist()}
    for row in found.against.to_pylist():
        who[row["subject"], row["metric"]].add(row["who"])
    assert who["FeH", "mae"] == {"both", "sure", "warm"}
    assert ("Teff", "mae") not in who
    assert who["all", "accuracy"] == {"both", "classes", "sure"}
    assert "warm alone tells Teff: not compared" in outcome.summary(found, [])


def test_the_comparison_is_drawn_and_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sketch(monkeypatch)
    found = evaluate(settings(place, "both", "sure"))
    names = {Path(path).name for path in outcome.pictures(found)}
    assert {"against.png", "against_snr.png", "label_CFe.png"} <= names
    text = outcome.summary(found, sorted(names))
    assert "set against both by" in text
    assert "MAE - that of both" in text


@pytest.mark.parametrize(
    ("of", "against", "message"),
    [
        ("warm", ["classes"], r"classes tells classes, .*warm tells Teff, FeH: nothing in common"),
        ("both", ["both"], r"both would be compared with itself; give each run or ensemble once"),
        ("both", ["sure", "sure"], r"sure would be compared with itself"),
    ],
)
def test_what_cannot_be_compared_is_told(place: Path, of: str, against: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate(settings(place, of, *against))


def test_a_run_that_is_not_there_is_told(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no ensemble.json and no run.json in it"):
        evaluate(settings(place, "both", "nowhere"))


def test_runs_of_another_grid_or_of_spectra_prepared_otherwise_are_refused_by_name(
    place: Path, made: Path
) -> None:
    store = Path(shutil.copytree(made / "store", place / "store"))
    told = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(told | {"settings": {"prepare": {"continuum": "msfl"}}}))
    about = json.loads((place / "sure" / "run.json").read_text())
    (place / "sure" / "run.json").write_text(
        json.dumps(about | {"store": about["store"] | {"prepare": {"continuum": "spline"}}})
    )
    with pytest.raises(
        SettingsError,
        match=r"against: sure: .*sure has learned from spectra prepared otherwise than those of .*continuum is",
    ):
        evaluate(settings(place, "both", "sure", store=str(store)))
    (place / "sure" / "run.json").write_text(json.dumps(about | {"grid": about["grid"] | {"start": 4100.0}}))
    with pytest.raises(
        ValueError,
        match=r"its grid has 300 linear points from 4000 to 4598, the run .*sure was .* points from 4100",
    ):
        evaluate(settings(place, "both", "sure"))


def test_no_spectrum_left_is_told(place: Path, made: Path) -> None:
    lines = (made / "labels.csv").read_text().splitlines()
    theirs, mine = (samples.read(str(place / name)) for name in ("elsewhere", "both"))
    learned = set(theirs.at(np.flatnonzero(theirs.part_N == 0)).about["obsid"].to_pylist()) & set(
        mine.part("test").about["obsid"].to_pylist()
    )
    (place / "seen.csv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if int(line.split(",")[0]) in learned)])
    )
    with pytest.raises(
        SettingsError,
        match=rf"no spectrum is left that nobody has learned from .*elsewhere has seen {len(learned)}",
    ):
        evaluate(settings(place, "both", "elsewhere", labels=str(place / "seen.csv")))
