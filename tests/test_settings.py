"""Recipes and key=value arguments become settings, or an error that says what to give."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from survey.arguments import load
from survey.ensemble.settings import Population
from survey.help import help_text, nested_settings, type_name
from survey.mock.settings import Mock
from survey.recipes import NOTES, merge, merge_recipes, parse
from survey.settings import JOBS, Settings, SettingsError
from survey.store.settings import Ingest, Prepare


class Inner(Settings):
    depth: int = Field(2, ge=1, description="how deep")
    kind: Literal["flat", "round"] = Field("flat", description="of what shape")


class Both(Settings):
    low: float = Field(0.0, description="the lower end")
    high: float = Field(1.0, description="the upper end")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low: {self.low:g} is above high; give a smaller number")
        return self


class Toy(Settings):
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"workers"})

    rate: float = Field(0.1, gt=0, description="how fast")
    name: str = Field("x", description="its name")
    flag: bool = Field(False, description="whether it is on")
    sizes: tuple[int, ...] = Field((1, 2), strict=False, description="the sizes")
    workers: int | None = Field(None, description="tasks at a time")
    inner: Inner = Field(Inner(depth=5), description="what is inside")
    ends: Both = Field(Both(), description="both ends")
    grid: str | dict[str, float] = Field("fine", description="fine, or {start, stop}")
    pair: tuple[int, int] = Field((1, 2), strict=False, description="two sizes")
    named: dict[str, Inner] = Field({}, description="more inside, by name")
    path: str = Field(description="where it is")


def toy(*arguments: str) -> Toy:
    return load(Toy, "train", ["path=p", *arguments])


def error_of(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        toy(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", ".001", "1.0e-3", "+1e-3"])
def test_a_number_is_a_number_however_it_is_written(text: str) -> None:
    assert toy(f"rate={text}").rate == 1e-3


@given(value=st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300))
def test_every_float_comes_back_from_its_text(value: float) -> None:
    assert toy(f"rate={value!r}").rate == value


@pytest.mark.parametrize(("text", "value"), [("08", 8), ("010", 10), ("-7", -7), ("12", 12)])
def test_whole_numbers_are_decimal_even_with_a_leading_zero(text: str, value: int) -> None:
    assert parse(text, "x") == value
    assert toy(f"workers={text}").workers == value


@pytest.mark.parametrize("text", ["2026-11-20", "a:b", "1:30", "1_000", "0x10", "v1.2.3"])
def test_text_that_is_no_number_stays_text(text: str) -> None:
    assert toy(f"name={text}").name == text


def test_nested_settings_given_by_dotted_keys_keep_their_other_defaults() -> None:
    assert toy("inner.kind=round").inner == Inner(depth=5, kind="round")
    assert toy("inner={kind: round}").inner == Inner(depth=5, kind="round")
    assert toy("inner.depth=3", "inner.kind=round").inner == Inner(depth=3, kind="round")
    assert toy().inner == Inner(depth=5)


def test_lists_and_null_are_yaml() -> None:
    assert toy("sizes=[3, 4]", "workers=null").sizes == (3, 4)
    assert toy("workers=").workers is None


def test_a_key_may_carry_the_name_of_the_job() -> None:
    assert toy("train.rate=3").rate == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("rte=1", "train: rte: unknown setting (value 1); did you mean rate?"),
        ("inner.dept=1", "train: inner.dept: unknown setting (value 1); did you mean inner.depth?"),
        (
            "zzz=1",
            "train: zzz: unknown setting (value 1); there are rate, name, flag, sizes, workers, inner, ends, "
            "grid, pair, named, path",
        ),
        ("rate=fast", "train: rate: 'fast': should be a valid number; give number (how fast)"),
        ("rate=-1", "train: rate: -1: should be greater than 0; give number (how fast)"),
        ("rate=.nan", "train: rate: nan: "),
        ("rate=.inf", "train: rate: inf: should be a finite number"),
        ("flag=1", "train: flag: 1: should be a valid boolean; give true or false (whether it is on)"),
        ("flag=nope", "train: flag: 'nope': should be a valid boolean"),
        ("workers=2.5", "train: workers: 2.5: should be a valid integer"),
        (
            "inner.depth=0",
            "train: inner.depth: 0: should be greater than or equal to 1; give whole number (how deep)",
        ),
        (
            "inner.kind=square",
            "train: inner.kind: 'square': should be 'flat' or 'round'; "
            "give one of flat | round (of what shape)",
        ),
        ("inner=3", "train: inner: 3: is no section of settings; give inner.NAME=...; inner has depth, kind"),
        (
            "inner=round",
            "train: inner: 'round': is no section of settings; did you mean inner.kind=round? "
            "inner has depth, kind",
        ),
        ("ends.low=2", "train: ends.low: 2 is above high; give a smaller number"),
        ("grid=3", "train: grid: 3: give text or {text: number} (fine, or {start, stop})"),
        ("grid={start: a}", "train: grid: {start: a}: give text or {text: number} (fine, or {start, stop})"),
        (
            "named.a.depth=0",
            "train: named.a.depth: 0: should be greater than or equal to 1; give whole number",
        ),
        ("named.a.dept=1", "train: named.a.dept: unknown setting (value 1); did you mean named.a.depth?"),
        (
            "named.a=round",
            "train: named.a: 'round': is no section of settings; did you mean named.a.kind=round?",
        ),
        ("pair=[3]", "train: pair: [3]: give [whole number, whole number] (two sizes)"),
        ("sizes=[1, x]", "train: sizes.1: 'x': should be a valid integer"),
        ("rate=[1", "train: rate=[1: a bracket is not closed"),
        ("rate.x=1", "train: rate: {x: 1}: should be a valid number"),
        ("inner={depth: 1, depth: 2}", "train: inner: line 1: the key depth is given twice; keep one"),
    ],
)
def test_an_error_names_the_key_the_value_and_what_to_give(argument: str, message: str) -> None:
    assert error_of(argument).startswith(message)


def test_a_setting_of_several_types_gets_one_message() -> None:
    assert len(error_of("grid=[1, 2]").splitlines()) == 1
    assert len(error_of("grid={start: [1], stop: [2]}").splitlines()) == 1


def test_a_setting_under_a_wrong_name_is_not_called_missing_too() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Toy, "train", ["paht=p"])
    assert str(caught.value) == "train: paht: unknown setting (value 'p'); did you mean path?"


def test_the_section_of_nested_settings_stands_before_their_keys() -> None:
    with pytest.raises(SettingsError) as caught:
        Toy.from_dict("predict", {"path": "p", "inner": {"dept": 1}, "rate": -1}, "ingest.")
    assert sorted(str(caught.value).splitlines()) == [
        "predict: ingest.inner.dept: unknown setting (value 1); did you mean ingest.inner.depth?",
        "predict: ingest.rate: -1: should be greater than 0; give number (how fast)",
    ]


def test_all_errors_are_reported_at_once() -> None:
    assert len(error_of("rate=-1", "flag=1", "inner.depht=3").splitlines()) == 3


def test_a_needed_setting_that_is_not_given_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"^train: path: not given; give path=... \(where it is\)$"):
        load(Toy, "train", [])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(
        "about: a toy\ntrain:\n  rate: 1e-4\n  inner: {depth: 7}\n  path: q\ningest:\n  store: s\n"
    )
    return path


def test_a_recipe_changes_defaults_and_arguments_change_the_recipe(recipe: Path) -> None:
    made = load(Toy, "train", [str(recipe), "inner.kind=round", "path=r"])
    assert (made.rate, made.inner, made.path) == (1e-4, Inner(depth=7, kind="round"), "r")
    with pytest.raises(SettingsError, match="not given; give path="):
        load(Toy, "tune", [str(recipe)])


def test_a_file_given_by_with_changes_the_recipe_before_the_arguments_do(
    recipe: Path, tmp_path: Path
) -> None:
    winner = tmp_path / "winner.yaml"
    winner.write_text("about: best\nresults: {score: 1}\ntrain: {rate: 0.5, inner: {depth: 9}}\n")
    assert load(Toy, "train", [str(recipe), f"with={winner}", "path=p"]).rate == 0.5
    made = load(Toy, "train", [str(recipe), f"with={winner}", "rate=0.7", "path=p"])
    assert (made.rate, made.inner.depth) == (0.7, 9)
    with pytest.raises(SettingsError, match="no such recipe"):
        load(Toy, "train", [f"with={tmp_path / 'nowhere.yaml'}", "path=p"])


def test_another_model_drops_the_options_of_the_former_one() -> None:
    assert merge_recipes({"model": "a", "options": {"x": 1}}, {"model": "b", "options": {"y": 2}}) == {
        "model": "b",
        "options": {"y": 2},
    }
    assert merge_recipes({"model": "a", "options": {"x": 1}}, {"options": {"y": 2}}) == {
        "model": "a",
        "options": {"x": 1, "y": 2},
    }
    both = {"train": {"model": "a", "options": {"x": 1}}}, {"train": {"model": "b"}}
    assert merge_recipes(*both) == {"train": {"model": "b"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trian: {}\n",
            "unknown section 'trian'; the sections are about, results, space, mock, download, ",
        ),
        ("- a\n- b\n", "holds list; a recipe maps jobs to settings"),
        ("train: 5\n", "train: holds 5; it maps settings to values"),
        ("train:\n  rate: 1\n  rate: 2\n", "line 2: the key rate is given twice; keep one"),
        ("train: {}\ntrain: {}\n", "line 1: the key train is given twice"),
        ("train: [\n", "while parsing a flow .*; correct the YAML"),
        ("train: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("train:\n  ? [a, b]\n  : 3\n", "unhashable|found unhashable key"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(Toy, "train", [str(path)])
    assert str(path) in str(caught.value)


def test_a_missing_recipe_and_a_second_recipe_are_errors(recipe: Path) -> None:
    with pytest.raises(SettingsError, match=r"train: nowhere.yaml: no such recipe; give one of abundances"):
        load(Toy, "train", ["nowhere.yaml"])
    with pytest.raises(SettingsError, match=r"train: .*: 2 recipes; give one"):
        load(Toy, "train", [str(recipe), str(recipe)])


def test_a_dotted_key_of_a_plain_value_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("train:\n  path: p\n  inner: 3\n")
    with pytest.raises(
        SettingsError, match=r"train: inner.depth: inner is 3 in the recipe, it has no 'depth' inside"
    ):
        load(Toy, "train", [str(path), "inner.depth=3"])


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        toy().rate = 3.0  # type: ignore[misc]


def test_the_fingerprint_depends_on_what_decides_the_result() -> None:
    assert toy().fingerprint() == toy("workers=8").fingerprint()
    assert toy("rate=1").fingerprint() == toy("rate=1.0").fingerprint()
    assert toy("inner.depth=5").fingerprint() == toy().fingerprint()
    changed = [toy("rate=0.2"), toy("inner.depth=6"), toy("sizes=[2, 1]"), toy("name=y"), toy("flag=true")]
    assert len({made.fingerprint() for made in (toy(), *changed)}) == 6


class Inside(Settings):
    """Settings in a dict and in a list of others."""

    NOT_IN_RESULT = frozenset({"speed"})

    depth: int = 1
    speed: int = 1


class Outside(Settings):
    """Settings that hold others in a dict and in a list."""

    by_name: dict[str, Inside] = Field({})
    listed: tuple[Inside, ...] = Field((), strict=False)


def test_settings_in_a_dict_and_in_a_list_are_kept_as_values_not_as_text() -> None:
    values = {"by_name": {"a": {"depth": 2, "speed": 5}}, "listed": [{"depth": 3}]}
    made = Outside.from_dict("test", values)
    assert made.plain() == {"by_name": {"a": {"depth": 2}}, "listed": [{"depth": 3}]}
    assert Outside.from_dict("test", made.plain()).plain() == made.plain()
    faster = Outside.from_dict("test", {"by_name": {"a": {"depth": 2}}, "listed": [{"depth": 3, "speed": 9}]})
    assert made.fingerprint() == faster.fingerprint()


def test_the_fingerprint_of_an_ingest_depends_neither_on_the_store_nor_on_the_workers() -> None:
    def ingest(*arguments: str) -> Ingest:
        return load(Ingest, "ingest", ["input=/a", *arguments])

    first = ingest("store=/s", "workers=1").fingerprint()
    assert first == ingest("store=/t", "workers=8").fingerprint()
    assert first != ingest("store=/s", "prepare.gates.low_snr.limit=4").fingerprint()


@pytest.mark.parametrize(("cls", "job"), [(Toy, "train"), (Ingest, "ingest"), (Mock, "mock")])
def test_help_names_every_setting_with_its_default_and_meaning(cls: type[Settings], job: str) -> None:
    text = help_text(cls, job, "About it.")
    assert text.startswith(f"About it.\n\nusage: survey {job} ")
    needed = text.partition("\nsettings\n")[0]

    def names(settings: type[BaseModel], prefix: str) -> list[str]:
        found = []
        for name, info in settings.model_fields.items():
            nested = nested_settings(info.annotation)
            is_settings = nested is not None and nested is info.annotation
            found += names(nested, f"{prefix}{name}.") if nested and is_settings else [prefix + name]
            assert info.description, f"{prefix}{name} has no description"
        return found

    for name in names(cls, ""):
        line = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert "default " in line or line in needed


def test_help_shows_the_default_of_the_field_above() -> None:
    toy_text = " ".join(help_text(Toy, "train", "x").split())
    assert "inner.depth whole number, default 5" in toy_text
    assert "named.NAME.depth whole number, default 2" in toy_text
    text = " ".join(help_text(Ingest, "ingest", "x").split())
    assert "prepare.gates.coverage.limit number or null, default 0.9" in text
    assert "prepare.gates.coverage.then one of flag | refuse, default refuse" in text


def test_help_offers_a_plan_only_for_jobs_that_have_one() -> None:
    assert "show=plan, how long" in help_text(Ingest, "ingest", "x")
    assert "show=plan" not in help_text(Ingest, "catalog", "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"gates": {"coverage": {"limit": 90}}},
            "coverage.limit=90: it is a share; give a number",
        ),
        ({"lowest": 5, "highest": 9}, "lowest=5, highest=9: the continuum is 1"),
        ({"highest": 0.5}, "lowest=-1, highest=0.5: the continuum is 1"),
    ],
)
def test_limits_that_would_refuse_every_spectrum_are_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Prepare.from_dict("ingest", values)


def test_changes_of_labels_in_a_test_population_have_names_of_labels() -> None:
    def changed(sd: dict[str, float]) -> dict[str, float]:
        return Population.from_dict("ensemble", {"sd": sd}).sd

    assert changed({"teff": 100.0}) == changed({}) | {"Teff": 100.0}
    with pytest.raises(SettingsError, match="Iron"):
        changed({"Iron": 1.0})
    with pytest.raises(SettingsError, match=r"FeH=-1: a standard deviation is 0 or more"):
        changed({"FeH": -1.0})


def test_a_job_prints_its_help_and_its_errors_without_a_traceback(tmp_path: Path) -> None:
    code = (
        "from survey.command import start\nfrom survey.settings import Settings\n"
        "class Toy(Settings):\n    rate: float = 0.5\n"
        "print(start(Toy, 'train', 'A toy.').rate)"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    shown, failed, fine = run("--help"), run("rat=3"), run("rate=2")
    assert (shown.returncode, "rate  number, default 0.5" in shown.stdout) == (0, True)
    assert (failed.returncode, failed.stderr) == (
        1,
        "train: rat: unknown setting (value 3); did you mean rate?\n",
    )
    assert fine.stdout == "2.0\n"


def test_the_sections_of_a_recipe_are_the_jobs_and_the_notes() -> None:
    folder = Path(__file__).parents[1] / "jobs"
    assert {path.stem for path in folder.glob("*.py")} == set(JOBS)
    assert not set(JOBS) & set(NOTES)


def test_merge_keeps_what_does_not_change() -> None:
    base = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merge(base, {"b": {"d": 4}, "e": 5}) == {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}
    assert base == {"a": 1, "b": {"c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int | None, "whole number or null"),
        (tuple[str, ...], "list of text"),
        (tuple[float, float], "[number, number]"),
        (dict[str, bool], "{text: true or false}"),
        (Literal["a", "b"], "one of a | b"),
        (Annotated[int, Field(ge=1)] | Literal["auto"], "whole number or one of auto"),
        (Toy, "settings"),
        (Any, "anything"),
    ],
)
def test_types_are_named_in_plain_words(kind: Any, name: str) -> None:
    assert type_name(kind) == name


def test_a_password_in_a_url_is_not_repeated() -> None:
    message = error_of("workers=postgresql://me:secret@host/db?password=hidden")
    assert "me:***@host" in message
    assert "secret" not in message
    assert "hidden" not in message
