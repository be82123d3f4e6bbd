"""docs/coming-from.md: each feature of the five research codes once, with commands and tests that exist."""

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from survey.arguments import load
from survey.settings import JOBS, SettingsError
from tests.test_jobs import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "coming-from.md"
ORIGINALS = ROOT.parent / "shared" / "facts" / "originals.md"
COUNTS = {0: 28, 1: 29, 2: 10, 3: 18, 4: 15}
"""Features of each system."""
NUMBERS = [f"{system}.{row:02d}" for system, count in COUNTS.items() for row in range(1, count + 1)]
ROW = r"\| (\d\.\d\d) \|"
RECIPES = ("cemp", "abundances", "mstars", "parameters", "galaxies")
"""The recipe of each system."""
MARKS = ("**In part.**", "**Not here.**")
SHOWN_ONLY = "show=true"


@dataclass(frozen=True)
class Feature:
    """A row of a table of the page."""

    number: str
    what: str
    here: str
    different: str
    shown_by: str

    @property
    def is_missing(self) -> bool:
        """Whether something of it is missing here."""
        return self.different.startswith(MARKS)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def lines_with_numbers() -> list[list[str]]:
    return [cells(line) for line in PAGE.read_text().splitlines() if re.match(ROW, line)]


FEATURES = [Feature(*row) for row in lines_with_numbers() if len(row) == 5]
MISSING = [row[0] for row in lines_with_numbers() if len(row) == 2]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def commands(text: str, number: str = "0.01") -> Iterator[tuple[str, list[str]]]:
    """The job and the arguments of each span with a command or with settings such as `train.epochs=20`.

    Settings alone get the recipe of the row's system, and all that the job needs.
    """
    for span in spans(text):
        if span.startswith("survey ") and "/" not in span.split()[0]:
            _, job, *rest = shlex.split(span)
            yield job, rest
        elif found := re.match(r"'?([a-z]+)\.[a-z_.]+=", span):
            job, given = found[1], shlex.split(span)
            if job in JOBS:
                recipe = RECIPES[int(number[0])] if job not in ("download", "evaluate", "explain") else ""
                yield job, [*filter(None, [recipe]), *_needed(job, given), *given]


def _needed(job: str, given: list[str]) -> list[str]:
    """The settings that a job cannot do without, but for those that are given."""
    names = {item.split("=")[0].removeprefix(f"{job}.").split(".")[0] for item in given}
    fields = SETTINGS[job].model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    needed += {"predict": ["store"], "tune": ["store", "labels"], "report": ["of"]}.get(job, [])
    return [f"{name}=x" for name in needed if name not in names]


EVERY = [
    (row.number, job, arguments)
    for row in FEATURES
    for job, arguments in commands(f"{row.here} {row.different}", row.number)
]
OUTSIDE = [line for line in PAGE.read_text().splitlines() if not re.match(ROW, line)]
EVERY += [("text", job, arguments) for job, arguments in commands("\n".join(OUTSIDE).replace("```", ""))]


def test_every_feature_of_the_originals_is_in_one_row() -> None:
    assert Counter(row.number for row in FEATURES) == Counter(NUMBERS)
    assert [row.number for row in FEATURES] == NUMBERS


def test_the_numbers_are_those_of_the_list_of_originals() -> None:
    if not ORIGINALS.is_file():
        pytest.skip(f"{ORIGINALS} is not there")
    assert re.findall(rf"^{ROW}", ORIGINALS.read_text(), re.MULTILINE) == NUMBERS


def test_every_row_of_numbers_is_a_feature_or_names_what_is_missing() -> None:
    assert len(FEATURES) + len(MISSING) == len(lines_with_numbers())
    assert all(row.what and row.here and row.different for row in FEATURES)


def test_what_is_missing_is_named_again_at_the_end() -> None:
    assert [row.number for row in FEATURES if row.is_missing] == MISSING
    assert not [row.number for row in FEATURES if not row.is_missing and "Not here:" in row.different]


@pytest.mark.parametrize(("number", "job", "arguments"), EVERY, ids=lambda value: "".join(value))
def test_a_command_or_setting_of_the_page_is_valid(number: str, job: str, arguments: list[str]) -> None:
    assert job in JOBS, f"row {number}"
    rest = [item for item in arguments if item != SHOWN_ONLY]
    if "--help" in rest:
        return
    if any(item.startswith("with=") for item in rest):  # a file of the reader
        rest = [item for item in rest if not item.startswith("with=")]
    try:
        load(SETTINGS[job], job, rest)
    except SettingsError as error:
        pytest.fail(f"row {number}: survey {job} {shlex.join(arguments)}: {error}")


def test_a_command_with_a_misspelt_setting_would_be_found() -> None:
    [(job, arguments)] = commands("give `train.epoch=20`")
    with pytest.raises(SettingsError, match="did you mean epochs"):
        load(SETTINGS[job], job, arguments)


@cache
def functions_of(path: Path) -> frozenset[str]:
    return frozenset(
        node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    )


def test_every_named_test_and_file_exists() -> None:
    for row in FEATURES:
        named = spans(row.shown_by)
        assert named, f"row {row.number}: names no test"
        for item in named:
            path, _, function = item.partition("::")
            assert (ROOT / path).is_file(), f"row {row.number}: {path}: is not there"
            if function:
                assert function in functions_of(ROOT / path), f"row {row.number}: {path} has no {function}"
