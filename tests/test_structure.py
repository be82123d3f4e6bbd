"""How the code hangs together, read from the code itself."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from survey.spectrum import REASONS

ROOT = Path(__file__).resolve().parents[1]
RANK = {
    "tables": 1,
    "sources": 2,
    "mock": 3,
    "store": 3,
    "metrics": 3,
    "models": 3,
    "labelling": 4,
    "training": 5,
    "ensemble": 6,
    "predict": 7,
    "evaluate": 8,
    "catalog": 9,
    "search": 9,
    "reports": 10,
    "cluster": 11,
}
"""The rooms in the order of the road; files directly in survey/ have rank 0.

A module imports its own room and lower ones. Rooms of equal rank do not import each other.
"""
NOT_IMPORTED = {"cluster": {"reports"}}
"""Lower rooms that a room does not import all the same: Ray runs the work, it shows nothing."""

MODULES = sorted((ROOT / "survey").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def stage(name: str) -> str:
    """The folder below survey/ that a dotted name lies in; '' for files directly in it."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "survey" / parts[1]).is_dir() else ""


def name_of(path: Path) -> str:
    return str(path)[len(str(ROOT)) + 1 :]


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_every_folder_is_a_stage_with_a_rank() -> None:
    assert {
        path.parent.relative_to(ROOT / "survey").parts[0]
        for path in MODULES
        if path.parent != ROOT / "survey"
    } <= set(RANK)


@every_module
def test_a_module_imports_no_later_stage(path: Path) -> None:
    here = stage(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for name in imports(path):
        if name.split(".")[0] != "survey":
            assert name.split(".")[0] not in ("jobs", "tests", "benchmarks"), f"imports {name}"
            continue
        there = stage(name)
        assert there == here or RANK.get(there, 0) < RANK.get(here, 0), (
            f"{here or 'a file in survey/'} imports {name}"
        )
        assert there not in NOT_IMPORTED.get(here, ()), f"{here} imports {name}"


@every_module
def test_ray_is_imported_in_cluster_only(path: Path) -> None:
    if "cluster" not in path.parts:
        assert not [name for name in imports(path) if name.split(".")[0] == "ray"]


@every_module
def test_a_library_prints_nothing_and_unpickles_nothing(path: Path) -> None:
    """Only plugins.py runs code: the statements of a plugin that define its settings."""
    forbidden = {"print", "input", "eval", "exec"} - ({"exec"} if path.name == "plugins.py" else set())
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = (
                node.func.id
                if isinstance(node.func, ast.Name)
                else node.func.attr
                if isinstance(node.func, ast.Attribute)
                else ""
            )
            assert not (isinstance(node.func, ast.Name) and called in forbidden), (
                f"line {node.lineno}: {called}("
            )
            for keyword in node.keywords:
                loose = (keyword.arg, ast.unparse(keyword.value)) in (
                    ("allow_pickle", "True"),
                    ("weights_only", "False"),
                )
                assert not loose, f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"
    assert not {name.split(".")[0] for name in imports(path)} & {
        "pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "shelve",
    }


@every_module
def test_no_error_is_swallowed_and_no_user_meets_an_assert_on_input(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            assert "BaseException" not in ast.unparse(node.type) or any(
                isinstance(inner, ast.Raise) for inner in ast.walk(node)
            )


@every_module
def test_only_reasons_of_the_closed_list_are_given(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] == "Refused"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            assert node.args[0].value in REASONS, f"line {node.lineno}: {node.args[0].value!r}"


def test_every_reason_is_given_somewhere() -> None:
    """As a word in the code of another file than the list's own; gates give their own names."""
    words = {
        node.value
        for path in MODULES
        if path.name != "spectrum.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(REASONS) <= words


@every_module
def test_every_module_and_public_name_says_what_it_means(path: Path) -> None:
    if path.name == "__init__.py":
        return
    module = tree(path)
    assert ast.get_docstring(module), "a module needs a docstring"
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"line {node.lineno}: {node.name} has no docstring"


def code_lines(path: Path) -> int:
    """Lines of code: no docstring, no comment, no empty line."""
    module = tree(path)
    text = path.read_text().splitlines()
    first = module.body[0]
    skipped = set(range(first.lineno, (first.end_lineno or 0) + 1)) if ast.get_docstring(module) else set()
    return sum(
        1
        for number, line in enumerate(text, 1)
        if number not in skipped and line.strip() and not line.strip().startswith("#")
    )


@pytest.mark.parametrize("path", JOBS, ids=name_of)
def test_a_job_is_thin(path: Path) -> None:
    assert code_lines(path) < 30
    assert ast.get_docstring(tree(path)), "a job says its command, its cost and what comes out"
    assert not [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef)
    ]
    assert f"survey {path.stem} " in (ast.get_docstring(tree(path)) or "")


def test_importing_has_no_effect(tmp_path: Path) -> None:
    """In a process of its own, with nothing in its folder or home: no file, no output, no threads of Ray."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES
    ]
    code = (
        "import importlib, json, logging, sys\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n"
        "ray = sys.modules.get('ray')\n"
        "found = [len(logging.getLogger().handlers), bool(ray and ray.is_initialized())]\n"
        "sys.stdout.write(json.dumps(found))"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    }
    kept["MPLCONFIGDIR"] = str(tmp_path)  # matplotlib writes its list of fonts when it is first imported
    environment = kept | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(here),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, False]
    assert done.stderr == ""
    assert sorted(home.rglob("*")) == []
    assert sorted(here.rglob("*")) == []
