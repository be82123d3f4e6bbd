"""The names of the house: one meaning per word, lines that hold one thought, files of a readable size."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.read_code import nodes, text_of, tree

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


RIDDLE = re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(RIDDLES))})(?![^\W_])", re.IGNORECASE)


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """The names of a file by line; none if no word of the file, in code or text, is a riddle."""
    if not RIDDLE.search(text_of(path)):
        return
    for node in nodes(path):
        for _, value in ast.iter_fields(node) if not isinstance(node, ast.Constant) else ():
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    yield getattr(node, "lineno", 0), name


def test_no_name_is_a_riddle() -> None:
    riddles = [
        f"{name_of(path)}:{line}: {name}"
        for path in SURVEY
        for line, name in [*names_in(path), (0, path.stem)]
        if RIDDLE.search(name)
    ]
    assert not riddles


def test_no_line_is_too_long() -> None:
    long = [
        f"{name_of(path)}:{number}"
        for path in CODE
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long, f"these lines have more than {COLUMNS} columns"


def test_files_fit_on_a_few_screens() -> None:
    assert not [name_of(path) for path in SURVEY if len(text_of(path).splitlines()) > LONGEST_FILE]


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in SURVEY
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def test_a_class_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for path in SURVEY:
        for node in tree(path).body:
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
