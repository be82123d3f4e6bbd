"""Members share one definition of CEMP, and it can be applied to drawn stars."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey import files
from survey.ensemble.build import build
from survey.ensemble.criterion import criterion_of
from survey.ensemble.ensemble import VALIDATION
from survey.ensemble.members import open_members
from survey.ensemble.settings import Build
from survey.labels import classes
from survey.settings import SettingsError
from survey.training.settings import Train
from tests.ensemble import small_runs
from tests.finished import change_document
from tests.training import lessons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of classes and one of labels, and both again with another definition of CEMP."""
    place = small_runs.place(tmp_path_factory.mktemp("criterion"), "both", "warm", epochs=1)
    for name in ("both", "warm"):
        shutil.copytree(place / name, place / f"{name}-aoki")

        def change(document: dict[str, Any]) -> None:
            document["settings"]["join"] = {"criterion": "aoki2007"}

        change_document(place / f"{name}-aoki" / "run.json", change)
    return place


def test_members_with_different_definitions_of_cemp_are_an_error(folder: Path) -> None:
    message = (
        r"both-aoki: its definition of CEMP is aoki2007 \(.*\), that of .*both is carbon_0\.7 "
        r"\(\[C/Fe\] >= 0\.7\); give runs with one join\.criterion"
    )
    with pytest.raises(SettingsError, match=message):
        open_members([str(folder / "both"), str(folder / "both-aoki")])


def test_a_member_without_classes_has_no_say_in_the_definition(folder: Path) -> None:
    members = open_members([str(folder / "warm-aoki"), str(folder / "both")])
    assert criterion_of(members.runs) == "carbon_0.7"
    assert criterion_of(open_members([str(folder / "warm-aoki")]).runs) == "aoki2007"


def test_classes_of_a_table_follow_the_definition_of_the_members(folder: Path, tmp_path: Path) -> None:
    values = {"ensemble": str(tmp_path / "team"), "runs": [str(folder / "both-aoki")], "threads": 1}
    build(Build.from_dict("ensemble", values | {"labels": str(folder / "labels.csv"), "domain": False}))
    table, truth = files.read_table(str(tmp_path / "team" / VALIDATION)), lessons.stars(small_runs.COUNT)
    labels = (truth[name] for name in ("Teff", "logg"))
    expected = classes(truth["FeH"], truth["CFe"], "aoki2007", *labels)
    assert (expected != classes(truth["FeH"], truth["CFe"])).any()
    assert np.array_equal(table["true_class"].to_numpy(), expected[table["obsid"].to_numpy() - 1000])


def training_settings(folder: Path, place: Path, *members: dict[str, Any], **changes: Any) -> Build:
    train: dict[str, Any] = {
        "model": "prism",
        "options": {"components": 8, "hidden": 16},
        "targets": ["FeH", "CFe"],
    }
    train |= {"epochs": 1, "split": small_runs.SPLIT, "tracking": {"use": "never"}}
    paths = {"ensemble": str(place / "team"), "store": str(folder / "store")}
    paths["labels"] = str(folder / "labels.csv")
    values = {"train": train, "members": members, "threads": 1, "gpu": "never"}
    return Build.from_dict("ensemble", paths | values | changes)


def never(training: Train) -> None:
    raise AssertionError(training.run)


def test_different_definitions_are_an_error_before_members_are_trained(folder: Path, tmp_path: Path) -> None:
    members = {"name": "a"}, {"name": "b", "join": {"criterion": "carbon_1.0"}}
    with pytest.raises(SettingsError, match=r"b-\d+: its definition of CEMP is carbon_1\.0"):
        build(training_settings(folder, tmp_path, *members), never)


def test_a_population_without_the_labels_of_its_definition_is_an_error_before_members_are_trained(
    folder: Path, tmp_path: Path
) -> None:
    member = {"join": {"criterion": "aoki2007"}}
    drawn = {"population": {"spectra": 100}}
    message = (
        r"population: the definition of CEMP, aoki2007, needs Teff and logg of drawn stars, which no member "
        r"predicts; add it to the targets of a member, or give population\.spectra=0"
    )
    with pytest.raises(SettingsError, match=message):
        build(training_settings(folder, tmp_path, member, **drawn), never)
    values = drawn | {"ensemble": str(tmp_path / "runs"), "threads": 1}
    with pytest.raises(SettingsError, match="needs Teff and logg of drawn stars"):
        build(Build.from_dict("ensemble", values | {"runs": [str(folder / "both-aoki")]}))
