"""Recipes and key=value arguments: what they become, and what is said when they will not do."""

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from survey.mock import Mock
from survey.settings import JOBS, Settings, SettingsError, help_text, load, over, parse
from survey.store.ingest import Ingest


class Inner(Settings):
    depth: int = Field(2, ge=1, description="how deep")
    kind: Literal["flat", "round"] = Field("flat", description="of what shape")


class Toy(Settings):
    INERT: ClassVar[frozenset[str]] = frozenset({"workers"})

    rate: float = Field(0.1, gt=0, description="how fast")
    name: str = Field("x", description="what it is called")
    flag: bool = Field(False, description="whether it is on")
    sizes: tuple[int, ...] = Field((1, 2), strict=False, description="the sizes")
    workers: int | None = Field(None, description="tasks at a time")
    inner: Inner = Field(Inner(depth=5), description="what is inside")
    path: str = Field(description="where it is")


def toy(*arguments: str) -> Toy:
    return load(Toy, "train", ["path=p", *arguments])


def complaint(*arguments: str) -> str:
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
def test_what_is_no_number_stays_text(text: str) -> None:
    assert toy(f"name={text}").name == text


def test_nested_settings_are_given_by_dotted_keys_and_keep_the_rest_of_their_default() -> None:
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
    ("argument", "said"),
    [
        ("rte=1", "train: rte: unknown setting (value 1); did you mean rate?"),
        ("inner.dept=1", "train: inner.dept: unknown setting (value 1); did you mean depth?"),
        (
            "zzz=1",
            "train: zzz: unknown setting (value 1); there are rate, name, flag, sizes, workers, inner, path",
        ),
        ("rate=fast", "train: rate: 'fast': should be a valid number; give number (how fast)"),
        ("rate=-1", "train: rate: -1: should be greater than 0; give number (how fast)"),
        ("rate=.nan", "train: rate: nan: "),
        ("rate=.inf", "train: rate: inf: should be a finite number"),
        ("flag=1", "train: flag: 1: should be a valid boolean; give true or false (whether it is on)"),
        ("flag=nope", "train: flag: 'nope': should be a valid boolean"),
        ("name=5", "train: name: 5: should be a valid string; give text (what it is called)"),
        ("workers=2.5", "train: workers: 2.5: should be a valid integer"),
        (
            "inner.depth=0",
            "train: inner.depth: 0: should be greater than or equal to 1; give whole number (how deep)",
        ),
        (
            "inner.kind=square",
            "train: inner.kind: 'square': should be 'flat' or 'round'; give one of flat | round (of what shape)",
        ),
        ("inner=3", "train: inner: 3: should be a valid dictionary"),
        ("sizes=[1, x]", "train: sizes.1: 'x': should be a valid integer"),
        ("rate=[1", "train: rate: while parsing a flow sequence"),
        ("rate.x=1", "train: rate: {'x': 1}: should be a valid number"),
        ("inner={depth: 1, depth: 2}", "train: inner: line 1: the key depth is given twice; keep one"),
    ],
)
def test_what_will_not_do_is_named_with_key_value_and_what_would(argument: str, said: str) -> None:
    assert complaint(argument).startswith(said)


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(complaint("rate=-1", "flag=1", "inner.depht=3").splitlines()) == 3


def test_what_is_needed_and_not_given_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^train: path: not given; give path=... \(where it is\)$"):
        load(Toy, "train", [])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(
        "about: a toy\ntrain:\n  rate: 1e-4\n  inner: {depth: 7}\n  path: q\ningest:\n  store: s\n"
    )
    return path


def test_a_recipe_goes_over_defaults_and_arguments_go_over_the_recipe(recipe: Path) -> None:
    made = load(Toy, "train", [str(recipe), "inner.kind=round", "path=r"])
    assert (made.rate, made.inner, made.path) == (1e-4, Inner(depth=7, kind="round"), "r")
    with pytest.raises(SettingsError, match="not given; give path="):
        load(Toy, "tune", [str(recipe)])


def test_what_a_file_given_by_with_says_lies_between_the_recipe_and_the_arguments(
    recipe: Path, tmp_path: Path
) -> None:
    winner = tmp_path / "winner.yaml"
    winner.write_text("about: found\nfound: {score: 1}\ntrain: {rate: 0.5, inner: {depth: 9}}\n")
    assert load(Toy, "train", [str(recipe), f"with={winner}", "path=p"]).rate == 0.5
    made = load(Toy, "train", [str(recipe), f"with={winner}", "rate=0.7", "path=p"])
    assert (made.rate, made.inner.depth) == (0.7, 9)
    with pytest.raises(SettingsError, match="no such recipe"):
        load(Toy, "train", [f"with={tmp_path / 'nowhere.yaml'}", "path=p"])


def test_another_network_leaves_the_options_of_the_one_below() -> None:
    assert over({"model": "a", "options": {"x": 1}}, {"model": "b", "options": {"y": 2}}) == {
        "model": "b",
        "options": {"y": 2},
    }
    assert over({"model": "a", "options": {"x": 1}}, {"options": {"y": 2}}) == {
        "model": "a",
        "options": {"x": 1, "y": 2},
    }
    both = {"train": {"model": "a", "options": {"x": 1}}}, {"train": {"model": "b"}}
    assert over(*both) == {"train": {"model": "b"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian: {}\n", "unknown section 'trian'; the sections are about, found, space, mock, ingest, train"),
        ("- a\n- b\n", "holds list; a recipe maps jobs to settings"),
        ("train: 5\n", "train: holds 5; it maps settings to values"),
        ("train:\n  rate: 1\n  rate: 2\n", "line 2: the key rate is given twice; keep one"),
        ("train: {}\ntrain: {}\n", "line 1: the key train is given twice"),
        ("train: [\n", "while parsing a flow .*; mend the YAML"),
        ("train: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("train:\n  ? [a, b]\n  : 3\n", "unhashable|found unhashable key"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        load(Toy, "train", [str(path)])
    assert str(path) in str(caught.value)


def test_a_missing_recipe_and_a_second_one_are_named(recipe: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"train: nowhere.yaml: no such recipe; give the path of a YAML file"
    ):
        load(Toy, "train", ["nowhere.yaml"])
    with pytest.raises(SettingsError, match="train: more than one recipe"):
        load(Toy, "train", [str(recipe), str(recipe)])


def test_a_value_inside_of_what_is_no_settings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("train:\n  path: p\n  inner: 3\n")
    with pytest.raises(
        SettingsError, match=r"train: inner.depth: inner is 3 in the recipe, it has no 'depth' inside"
    ):
        load(Toy, "train", [str(path), "inner.depth=3"])


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        toy().rate = 3.0


def test_the_fingerprint_is_of_what_decides_the_result() -> None:
    assert toy().fingerprint() == toy("workers=8").fingerprint()
    assert toy("rate=1").fingerprint() == toy("rate=1.0").fingerprint()
    assert toy("inner.depth=5").fingerprint() == toy().fingerprint()
    changed = [toy("rate=0.2"), toy("inner.depth=6"), toy("sizes=[2, 1]"), toy("name=y"), toy("flag=true")]
    assert len({made.fingerprint() for made in (toy(), *changed)}) == 6


def test_ingest_is_the_same_for_another_store_and_other_workers() -> None:
    one, two = (
        load(Ingest, "ingest", ["input=/a", f"store={store}", f"workers={workers}"])
        for store, workers in (("/s", 1), ("/t", 8))
    )
    assert one.fingerprint() == two.fingerprint()
    assert (
        one.fingerprint()
        != load(Ingest, "ingest", ["input=/a", "store=/s", "prepare.gates.low_snr.limit=4"]).fingerprint()
    )


@pytest.mark.parametrize(("cls", "job"), [(Toy, "train"), (Ingest, "ingest"), (Mock, "mock")])
def test_help_names_every_setting_with_its_default_and_meaning(cls: type[Settings], job: str) -> None:
    text = help_text(cls, job, "About it.")
    assert text.startswith("About it.\n\nusage: python jobs/")

    def names(inner: type[Settings], prefix: str) -> list[str]:
        found = []
        for name, info in inner.model_fields.items():
            nested = isinstance(info.annotation, type) and issubclass(info.annotation, Settings)
            found += names(info.annotation, f"{prefix}{name}.") if nested else [prefix + name]
            assert info.description, f"{prefix}{name} has no description"
        return found

    for name in names(cls, ""):
        line = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert "default " in line or line.endswith("needed")


def test_help_shows_the_default_that_counts() -> None:
    assert "inner.depth  whole number, default 5" in help_text(Toy, "train", "x")
    text = " ".join(help_text(Ingest, "ingest", "x").split())
    assert "prepare.gates.coverage.limit number or null, default 0.9" in text
    assert "prepare.gates.coverage.then one of flag | refuse, default refuse" in text


def test_a_job_prints_its_help_and_its_errors_without_a_traceback(tmp_path: Path) -> None:
    code = "from survey.settings import start, Settings\nclass Toy(Settings):\n    rate: float = 0.5\nprint(start(Toy, 'train', 'A toy.').rate)"

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


def test_every_recipe_section_is_a_job() -> None:
    folder = Path(__file__).parents[1] / "jobs"
    assert {path.stem for path in folder.glob("*.py")} <= set(JOBS)
