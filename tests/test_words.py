"""The names of the house: one meaning per word, lines that hold one thought, files of a readable size."""

import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SURVEY = sorted((ROOT / "survey").rglob("*.py"))
CODE = [*SURVEY, *sorted((ROOT / "jobs").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
CODE += sorted((ROOT / "benchmarks").glob("*.py"))

COLUMNS = 110
LONGEST_FILE, LONGEST_FUNCTION = 330, 60

RIDDLES = {
    "aim",
    "aims",
    "bars",
    "bundle",
    "crew",
    "doubt",
    "exam",
    "findings",
    "knob",
    "knobs",
    "lineage",
    "lit",
    "mine",
    "quest",
    "quests",
    "said",
    "silent",
    "thing",
    "things",
    "told",
    "whole",
}
"""Words with a private meaning: no name in the code has one of them as a part."""

SAME_CLASS = {"Net", "Options"}
"""Classes that every plugin has."""
SAME_FILE = {"__init__", "settings", "labels", "worker"}
"""Files that have the same role in several rooms; reports and cluster have one file per job, and archives
one per survey, as sources have."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def test_no_name_is_a_riddle() -> None:
    riddles = [
        f"{name_of(path)}:{line}: {name}"
        for path in SURVEY
        for line, name in [*names_in(path), (0, path.stem)]
        if set(name.lower().split("_")) & RIDDLES
    ]
    assert not riddles


def test_no_line_is_too_long() -> None:
    long = [
        f"{name_of(path)}:{number}"
        for path in CODE
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long, f"these lines have more than {COLUMNS} columns"


def test_files_fit_on_a_few_screens() -> None:
    assert not [name_of(path) for path in SURVEY if len(path.read_text().splitlines()) > LONGEST_FILE]


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in SURVEY
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def test_a_class_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for path in SURVEY:
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and node.name not in SAME_CLASS
            ):
                places[node.name].append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_file_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for path in SURVEY:
        if path.stem not in SAME_FILE and path.parent.name not in ("reports", "cluster", "archives"):
            places[path.stem].append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
