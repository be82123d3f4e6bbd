"""Arguments that are no recipe and no setting get a sentence that says what to write."""

from pathlib import Path
from typing import Any

import pytest

from survey.arguments import load
from survey.ensemble.settings import Build
from survey.evaluate.settings import Evaluate
from survey.recipes import find_file, recipe_names
from survey.settings import Settings, SettingsError
from survey.training.settings import Train

PATHS = ["store=s", "labels=l", "run=r"]


def train(*arguments: str) -> Train:
    return load(Train, "train", [*PATHS, *arguments])


def error_of(*arguments: str, cls: type[Settings] = Train, job: str = "train") -> str:
    with pytest.raises(SettingsError) as caught:
        load(cls, job, list(arguments))
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["epochs", "8"], "epochs: a setting is written with =; give epochs=8"),
        (["--store", "X"], "--store: settings have no dashes; give store=X"),
        (["--store=X"], "--store=X: settings have no dashes; give store=X"),
        (["--start-from", "X"], "--start-from: settings have no dashes; give start_from=X"),
        (["store", "=", "X"], "store =: leave out the spaces; give store=X"),
        (["store", "=X"], "store =X: leave out the spaces; give store=X"),
        (
            ["targets=[Teff,", "FeH]", "epochs=3"],
            "targets=[Teff, FeH]: a value with spaces needs quotation marks: 'targets=[Teff, FeH]'",
        ),
        (
            ["join.columns={FeH:", "my_feh}"],
            "join.columns={FeH: my_feh}: a value with spaces needs quotation marks: "
            "'join.columns={FeH: my_feh}'",
        ),
        (["targets=[Teff,FeH"], "targets=[Teff,FeH: a bracket is not closed; close it"),
        (["cenp"], "cenp: neither a recipe nor a setting; did you mean cemp?"),
        (["recipes/cem.yaml"], "recipes/cem.yaml: no such recipe; did you mean cemp?"),
        (["cemp", "parameters"], "cemp parameters: 2 recipes; give one"),
        (["a/b", "labels=l", "run=r"], "a/b: which setting is this for? give store=a/b"),
    ],
)
def test_a_mistake_gets_a_sentence_with_what_to_write(arguments: list[str], sentence: str) -> None:
    assert error_of(*arguments).startswith(f"train: {sentence}")


def test_a_path_alone_is_offered_for_the_settings_that_are_needed(tmp_path: Path) -> None:
    message = error_of(str(tmp_path), cls=Evaluate, job="evaluate")
    assert message == f"evaluate: {tmp_path}: which setting is this for? give of={tmp_path}"


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("lr=3", "optimiser.lr"),
        ("schedule.warmup=3", "schedule.warm_up"),
        ("epoch=3", "epochs"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_full_name_of_another(argument: str, meant: str) -> None:
    assert f"did you mean {meant}" in error_of(*PATHS, argument)


@pytest.mark.parametrize(
    ("argument", "meant"), [("model=prisn", "prism"), ("targets=[Tef]", "Teff"), ("targets=feH2", "FeH")]
)
def test_a_misspelt_model_or_label_is_answered_with_a_similar_one(argument: str, meant: str) -> None:
    assert f"did you mean {meant}?" in error_of(*PATHS, argument)


def test_a_list_of_one_value_may_be_given_as_the_value() -> None:
    assert train("targets=FeH").targets == ("FeH",)
    assert load(Build, "ensemble", ["ensemble=e", "runs=a"]).runs == ("a",)
    assert load(Build, "ensemble", ["ensemble=e", "members={model: prism}"]).members == ({"model": "prism"},)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("{FeH:my_feh}", {"FeH": "my_feh"}),
        ("{FeH:my_feh,CFe:my_cfe}", {"FeH": "my_feh", "CFe": "my_cfe"}),
        ("{FeH: my_feh}", {"FeH": "my_feh"}),
    ],
)
def test_pairs_need_no_space_after_the_colon(text: str, columns: dict[str, Any]) -> None:
    assert train(f"join.columns={text}").join.columns == columns


def test_a_recipe_without_the_section_of_the_job_is_an_error() -> None:
    message = error_of("mstars", *PATHS)
    assert message.startswith("train: mstars: this recipe has no section train, only mock, ingest;")


def test_a_recipe_is_found_by_its_path_or_its_name_alone_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cemp" in recipe_names()
    assert find_file("cemp") == find_file("cemp.yaml") == find_file("recipes/cemp.yaml")
    assert find_file("prism", "tune") == find_file("tune/prism.yaml", "tune")
    assert find_file("nowhere/cemp.yaml") is None
    (tmp_path / "cemp.yaml").write_text("train: {epochs: 7}\n")
    assert train("cemp.yaml").epochs == 7
    assert train("cemp").epochs == 24
