"""How the code hangs together, read from the code itself."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

from survey.spectrum import REASONS
from tests.read_code import nodes, tree

ROOT = Path(__file__).resolve().parents[1]
RANK = {
    "tables": 1,
    "sources": 2,
    "images": 1,
    "mock": 3,
    "archives": 3,
    "store": 3,
    "metrics": 3,
    "models": 3,
    "labelling": 4,
    "label_tables": 5,
    "training": 5,
    "ensemble": 6,
    "predict": 7,
    "evaluate": 8,
    "catalog": 9,
    "latent": 9,
    "explain": 9,
    "search": 9,
    "status": 9,
    "followup": 10,
    "reports": 11,
    "cluster": 12,
    "pages": 12,
    "estimate": 13,
}
"""The rooms in the order of the road; files directly in survey/ have rank 0.

A module imports its own room and lower ones. Rooms of equal rank do not import each other.
"""
NOT_IMPORTED = {"cluster": {"reports"}}
"""Lower rooms that a room does not import all the same: Ray runs the work, it shows nothing."""

MODULES = sorted((ROOT / "survey").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in nodes(path):
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


def where(path: Path, node: ast.AST) -> str:
    return f"{name_of(path)}:{getattr(node, 'lineno', 0)}"


def last_name(node: ast.expr) -> str:
    """`c` of `a.b.c`; empty for other expressions."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_every_folder_is_a_stage_with_a_rank() -> None:
    assert {
        path.parent.relative_to(ROOT / "survey").parts[0]
        for path in MODULES
        if path.parent != ROOT / "survey"
    } <= set(RANK)


def test_a_module_imports_no_later_stage() -> None:
    for path in MODULES:
        here = stage(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in imports(path):
            problem = f"{name_of(path)} imports {name}"
            if name.split(".")[0] != "survey":
                assert name.split(".")[0] not in ("jobs", "tests", "benchmarks"), problem
                continue
            there = stage(name)
            assert there == here or RANK.get(there, 0) < RANK.get(here, 0), problem
            assert there not in NOT_IMPORTED.get(here, ()), problem


def test_ray_is_imported_in_cluster_only() -> None:
    for path in MODULES:
        if "cluster" not in path.parts:
            assert not [name for name in imports(path) if name.split(".")[0] == "ray"], name_of(path)


def test_a_library_prints_nothing() -> None:
    """Only plugins.py runs code: the statements of a plugin that define its settings."""
    for path in MODULES:
        forbidden = {"print", "input", "eval", "exec"} - ({"exec"} if path.name == "plugins.py" else set())
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden, f"{where(path, node)}: {node.func.id}("


def test_a_library_unpickles_nothing() -> None:
    loose = {("allow_pickle", True), ("weights_only", False)}
    picklers = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    for path in MODULES:
        for node in nodes(path):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                given = (keyword.arg, value)
                assert given not in loose, f"{where(path, node)}: {given}"
        assert not {name.split(".")[0] for name in imports(path)} & picklers, name_of(path)


def test_no_error_is_swallowed() -> None:
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{where(path, node)}: a bare except"
                assert "BaseException" not in ast.unparse(node.type) or any(
                    isinstance(inner, ast.Raise) for inner in ast.walk(node)
                ), where(path, node)


def test_only_reasons_of_the_closed_list_are_given() -> None:
    for path in MODULES:
        for node in nodes(path):
            if (
                isinstance(node, ast.Call)
                and last_name(node.func) == "Refused"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                assert node.args[0].value in REASONS, f"{where(path, node)}: {node.args[0].value!r}"


def test_every_reason_is_given_somewhere() -> None:
    """As a word in the code of another file than the list's own; gates give their own names."""
    words = {
        node.value
        for path in MODULES
        if path.name != "spectrum.py"
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(REASONS) <= words


def test_every_module_and_public_name_says_what_it_means() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            continue
        module = tree(path)
        assert ast.get_docstring(module), f"{name_of(path)}: a module needs a docstring"
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{where(path, node)}: {node.name} has no docstring"


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
        node for node in nodes(path) if isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef)
    ]
    assert f"survey {path.stem} " in (ast.get_docstring(tree(path)) or "")


@pytest.mark.long
def test_importing_has_no_effect(tmp_path: Path) -> None:
    """In a process of its own, with nothing in its folder or home: no file, no output, no threads of Ray.

    `tests/prepare.py`, with which `make test` begins, sees the same of the modules that it loads anyway.
    """
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
    kept["MPLCONFIGDIR"] = mpl.get_cachedir()  # its list of fonts, which it would take seconds to make
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


PARQUET_READS = {"read", "read_row_group", "read_row_groups", "iter_batches"}


def opened_parquet(path: Path) -> set[str]:
    """The names that a module gives to Parquet files that it opens."""
    names = set()
    for node in nodes(path):
        value = node.value if isinstance(node, ast.Assign) else None
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(value, ast.Call) and last_name(value.func) == "ParquetFile":
            names |= {ast.unparse(target) for target in targets}
    return names


def test_parquet_is_read_without_threads_that_outlive_python() -> None:
    """A thread of Arrow may still hold the bytes of a file when Python ends: the process then aborts, after
    all its work is done. One of 20 did.
    """
    wrong = []
    for path in MODULES:
        opened = opened_parquet(path)
        for node in nodes(path):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in {*PARQUET_READS, "read_table"}:
                continue
            of = ast.unparse(node.func.value)
            reads = node.func.attr in PARQUET_READS and (of in opened or of.startswith("pq.ParquetFile("))
            alone = any(
                key.arg == "use_threads" and ast.unparse(key.value) == "False" for key in node.keywords
            )
            if (reads and not alone) or ast.unparse(node.func) == "pq.read_table":
                wrong.append(where(path, node))
    assert not wrong


def names_of(path: Path) -> set[str]:
    """What can be imported from a module, without importing it."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    for node in nodes(path):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(("survey", "tests")):
            continue
        module = ROOT.joinpath(*str(node.module).split("."))
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        there = names_of(file) if file.exists() else set()
        there |= {part.stem for part in module.iterdir()} if module.is_dir() else set()
        missing = {alias.name for alias in node.names} - there
        assert not missing, f"{where(path, node)}: {node.module} has no {', '.join(sorted(missing))}"
