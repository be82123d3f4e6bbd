"""Arguments that are no recipe and no setting get a sentence that says what to write."""

from pathlib import Path
from typing import Any

import pytest

from survey.archives.settings import Download
from survey.arguments import load
from survey.catalog.settings import CatalogSettings
from survey.ensemble.settings import Build
from survey.evaluate.settings import Evaluate
from survey.explain.settings import ExplainSettings
from survey.latent.settings import LatentSettings
from survey.mock.settings import Mock
from survey.predict.settings import Predict
from survey.recipes import find_file, recipe_names
from survey.search.settings import Tune
from survey.settings import Settings, SettingsError
from survey.store.settings import Ingest
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
        (["-help"], "-help: did you mean --help?"),
        (["--hlp"], "--hlp: did you mean --help?"),
        ([*PATHS, "epochs=2", "train.epochs=3"], "epochs: given twice (epochs=2 and epochs=3); keep one"),
        (
            ["store=gs://b/s"],
            "store: gs://b/s: gs:// is not supported, only s3:// and paths on a disk; copy it",
        ),
        (["store=s3:/b/s"], "store: s3:/b/s: did you mean s3://b/s?"),
        (["labels=S3://b/s"], "labels: S3://b/s: did you mean s3://b/s?"),
        (
            [*PATHS, "targets=[Teff,logg,Fe]"],
            "targets: [Teff, logg, Fe]: there is no label 'Fe'; did you mean FeH?",
        ),
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


@pytest.mark.parametrize(
    ("name", "meant"), [("f1_cemp", "f1_CEMP"), ("MAE_FEH", "mae_FeH"), ("f1_CMP", "f1_CEMP")]
)
def test_a_misspelt_metric_is_answered_with_a_similar_one(name: str, meant: str) -> None:
    message = error_of(*PATHS, f"monitor={name}")
    assert message == f"train: monitor={name}: there is no such metric; did you mean {meant}?"


def test_a_setting_of_the_trainings_of_a_search_is_named_with_its_section() -> None:
    arguments = ["abundances", "study=s", "store=a", "labels=b", "space=prism"]
    message = error_of(*arguments, "epochs=4", cls=Tune, job="tune")
    assert message == "tune: epochs: unknown setting (value 4); did you mean train.epochs?"
    assert "did you mean train.optimiser.lr?" in error_of(*arguments, "optimiser.lr=1", cls=Tune, job="tune")
    unknown = error_of(*arguments, "elements=XX_FE", cls=Tune, job="tune")
    assert unknown.startswith("tune: elements: [XX_FE]: there is no label 'XX_FE'; give one of Teff, logg")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "ingest.prepare.continum=none",
            "ingest.prepare.continum: unknown setting (value 'none'); did you mean ingest.prepare.continuum?",
        ),
        ("ingest.sources=lamst", "ingest.sources: there is no source 'lamst'; did you mean lamost?"),
        ("ingest.options={lamost: {mrs: both}}", "ingest.options.lamost.mrs: 'both': should be 'coadd' or"),
    ],
)
def test_settings_of_the_ingest_within_a_prediction_are_named_in_full(argument: str, message: str) -> None:
    arguments = ["ensemble=e", "predictions=p", "input=i", argument]
    assert error_of(*arguments, cls=Predict, job="predict").startswith(f"predict: {message}")


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ("{MP: 1, CEMP: 2}", "no share of NMP; give each of MP, CEMP, NMP a share of at least 0"),
        ("{MP: 1, CEMP: -2, NMP: 1}", "a share is below 0 or no number; give each"),
        ("{MP: 1, CEMP: 2, nmp: 1}", "there is no class nmp; give each"),
        ("equal", "give one of validation | estimated or {text: number} (class shares of the survey"),
    ],
)
def test_class_shares_that_are_none_are_named_once(shares: str, message: str) -> None:
    text = error_of("predictions=p", "catalog=c", f"cemp.prior={shares}", cls=CatalogSettings, job="catalog")
    shown = repr(shares) if shares == "equal" else shares
    assert text.startswith(f"catalog: cemp.prior: {shown}: {message}")
    assert len(text.splitlines()) == 1


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


def test_a_recipe_without_the_section_of_the_job_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "files.yaml").write_text("mock: {n: 5}\ningest: {}\n")
    message = error_of(str(tmp_path / "files.yaml"), *PATHS)
    assert "this recipe has no section train, only mock, ingest;" in message


def test_a_wrong_setting_of_a_recipe_is_named_with_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {epohcs: 5, batch: many, split: {seeed: 1}}\n")
    lines = error_of(str(recipe), *PATHS, "gpu=yes").splitlines()
    assert [line for line in lines if line.startswith("train: ")] == [
        next(line for line in lines if "gpu" in line)
    ]
    assert any(line.startswith(f"{recipe}: train: epohcs: unknown setting") for line in lines)
    assert any(line.startswith(f"{recipe}: train: batch: 'many'") for line in lines)
    assert any(line.startswith(f"{recipe}: train: split.seeed: unknown setting") for line in lines)
    recipe.write_text("train: {batch: many}\n")
    assert error_of(str(recipe), *PATHS, "batch=few").startswith("train: batch: 'few'")


def test_an_empty_recipe_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert "mine.yaml: is empty, or holds comments only" in error_of(str(tmp_path / "mine.yaml"), *PATHS)


def test_a_catalog_by_a_recipe_of_something_else_is_said_to_use_the_defaults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments = ["predictions=p", "catalog=c"]
    load(CatalogSettings, "catalog", ["cemp", *arguments])
    load(CatalogSettings, "catalog", arguments)
    assert not caplog.text
    load(CatalogSettings, "catalog", ["mstars", *arguments])
    assert "the recipe mstars has no section catalog: its settings are the defaults" in caplog.text


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


@pytest.mark.parametrize(
    "path",
    ["/data/x #2", "/data/a: b", "[old]", "{a: 1}", "1e5", "null", "true", "- a", "*star", "010", "'x'"],
)
def test_a_path_is_taken_as_it_is_written(path: str) -> None:
    assert load(Train, "train", [f"store={path}", "labels=l", "run=r"]).store == path


def test_text_that_may_be_null_and_lists_of_text_are_taken_as_they_are_written() -> None:
    assert train("start_from=/runs/a #1").start_from == "/runs/a #1"
    assert train("start_from=null").start_from is train("start_from=").start_from is None
    assert load(Build, "ensemble", ["ensemble=e", "runs=/runs/a #1"]).runs == ("/runs/a #1",)
    assert load(Build, "ensemble", ["ensemble=e", "runs=[a, b]"]).runs == ("a", "b")


def test_a_path_that_is_no_utf_8_is_refused_with_its_bytes() -> None:
    message = error_of(*PATHS[1:], "store=/data/\udcff")
    assert message.startswith(r"train: store: '/data/\udcff': letter 6 is no UTF-8; rename the file")


@pytest.mark.parametrize("path", ["s3://AKIA:hush@bucket/x", "s3://AKIA:hu/sh@bucket", "s3://hush@bucket"])
def test_a_key_in_an_s3_address_is_refused_and_not_repeated(path: str) -> None:
    message = error_of(f"store={path}", *PATHS[1:])
    assert message.startswith("train: store: the s3:// address holds a key or a password; give s3://BUCKET")
    assert "hu" not in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["--{}"],
        ["--{}={}"],
        ["={}"],
        ["a/{}"],
        ["{}.yaml"],
        ["epochs", "{}"],
        ["targets=[{}", "y"],
        ["with={}"],
        ["run={}"],
        ["labels={}"],
        ["model={}"],
        ["{}=3"],
    ],
)
def test_a_long_argument_is_not_repeated_completely(arguments: list[str]) -> None:
    error = error_of(*(argument.replace("{}", "x" * 100_000) for argument in arguments))
    assert len(error) < 2500
    assert "letters" in error


@pytest.mark.parametrize(
    ("cls", "job", "arguments", "name"),
    [
        (Predict, "predict", ["store=s", "predictions="], "predictions"),
        (Train, "train", ["store=", "labels=l", "run=r"], "store"),
        (Ingest, "ingest", ["store=s", "input="], "input"),
        (Mock, "mock", ["out="], "out"),
    ],
)
def test_an_empty_path_is_refused(cls: type[Settings], job: str, arguments: list[str], name: str) -> None:
    found = error_of(*arguments, cls=cls, job=job)
    assert found.startswith(f"{job}: {name}: is empty (is a shell variable unset?); give {name}=... (")


def test_an_empty_path_in_a_recipe_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mock: {out: ''}")
    found = error_of(str(tmp_path / "mine.yaml"), cls=Mock, job="mock")
    assert found.startswith(f"{tmp_path}/mine.yaml: mock: out: is empty")


def test_an_optional_setting_may_be_empty() -> None:
    assert load(Build, "ensemble", ["ensemble=e", "runs=[a]", "store="]).store is None
    assert load(Predict, "predict", ["store=s", "predictions=p", "ensemble="]).ensemble == ""


def test_home_is_known_in_every_setting_and_in_names_of_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("train: {store: ~/st, run: r~/x}")
    found = load(Train, "train", ["~/mine.yaml", "labels=~/l", "with=~/mine.yaml"])
    assert (found.store, found.labels, found.run) == (f"{tmp_path}/st", f"{tmp_path}/l", "r~/x")
    build = load(Build, "ensemble", ["ensemble=~", "runs=[~/a, b~]"])
    assert (build.ensemble, build.runs) == (str(tmp_path), (f"{tmp_path}/a", "b~"))


def test_ids_of_digits_stay_as_they_are_written() -> None:
    latent = load(LatentSettings, "latent", ["predictions=p", "latent=l", "like=[000001, 12, 'a b', x-08]"])
    assert latent.like == ("000001", "12", "a b", "x-08")
    assert load(LatentSettings, "latent", ["predictions=p", "latent=l", "like=0123"]).like == ("0123",)
    ids = load(Download, "download", ["archive=lamost", "out=o", "ids=[0123, 123456789012345678901]"]).ids
    assert ids == ("0123", "123456789012345678901")
    assert load(ExplainSettings, "explain", ["of=r", "explain=e", "spectra=[007]"]).spectra == ("007",)


@pytest.mark.parametrize("value", ["[1.5]", "[null]", "[[1]]", "[true]"])
def test_a_list_of_texts_takes_nothing_but_text_and_ids(value: str) -> None:
    found = error_of("predictions=p", "latent=l", f"like={value}", cls=LatentSettings, job="latent")
    assert found.startswith("latent: like.0: ")
