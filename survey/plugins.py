"""A file in ``survey/sources/``, ``models/`` or ``archives/`` is a plugin: its file name is its name.

A plugin is imported only when it is named, so a broken file stops only the jobs that name it. What else must
be known of a plugin is read from the text of its file, without running the rest of it. So a misspelt setting
of a network is reported without loading torch, and the file names of all surveys are known without importing
their readers.
"""

import ast
import importlib
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from survey.settings import Settings, SettingsError, similar

FOLDER = Path(__file__).parent
MARKS = {
    "sources": r"^def (read|read_bytes|read_rows)\(",
    "models": r"^class Net\(",
    "archives": r"^def circle\(",
}
"""What the text of a plugin contains. The other files of the folder are parts that plugins share."""


def names(kind: str) -> tuple[str, ...]:
    """The names of all plugins of a kind, in alphabetical order. None is imported."""
    return _names_in(FOLDER, kind)


@cache
def _names_in(folder: Path, kind: str) -> tuple[str, ...]:
    files = sorted((folder / kind).glob("*.py"))
    return tuple(path.stem for path in files if re.search(MARKS[kind], _text(path), re.MULTILINE))


def load(kind: str, name: str) -> ModuleType:
    """The plugin of that name, imported now. An unknown name is an error that lists the known ones."""
    _check_name(kind, name)
    return importlib.import_module(f"survey.{kind}.{name}")


def options(kind: str, name: str) -> type[Settings]:
    """The class `Options` of a plugin, to check settings with; the rest of its file does not run."""
    _check_name(kind, name)
    loaded = sys.modules.get(f"survey.{kind}.{name}")
    variables = vars(loaded) if loaded else _variables(FOLDER / kind / f"{name}.py", "Options")
    if "Options" not in variables:
        raise BrokenPluginError(f"{kind}: {name}: survey/{kind}/{name}.py has no class Options; add it")
    found: type[Settings] = variables["Options"]
    return found


def constants(kind: str, constant: str) -> dict[str, Any]:
    """A constant of all plugins that define it, by plugin; the rest of their files does not run.

    A file that is no valid Python is left out: it stops only the jobs that name it.
    """
    return dict(_constants_in(FOLDER, kind, constant))


@cache
def _constants_in(folder: Path, kind: str, constant: str) -> dict[str, Any]:
    values = {}
    for name in _names_in(folder, kind):
        try:
            variables = _variables(folder / kind / f"{name}.py", constant)
        except BrokenPluginError:
            continue
        if constant in variables:
            values[name] = variables[constant]
    return values


class BrokenPluginError(SettingsError):
    """The file of a plugin is no valid Python, or lacks its class `Options`."""


@cache
def _variables(path: Path, needed: str) -> dict[str, Any]:
    """The variables of a plugin after only those statements have run that one of them needs."""
    where = f"{path.parent.name}: {path.stem}"
    try:
        parsed = ast.parse(_text(path), str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: a zero byte
        raise BrokenPluginError(f"{where}: {path} is no valid Python ({error}); correct the file") from error
    module = ModuleType(f"survey.{path.parent.name}.{path.stem}")
    exec(compile(_needed_by(needed, parsed), str(path), "exec"), module.__dict__)  # noqa: S102 - our own file
    return module.__dict__


def _check_name(kind: str, name: str) -> None:
    if name not in names(kind):
        raise SettingsError(
            f"{kind}: there is no plugin {name!r}; {similar(name, names(kind))} "
            f"(a new one is a file survey/{kind}/{name}.py)"
        )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _needed_by(name: str, module: ast.Module) -> ast.Module:
    """The module with only those statements that define the name, and what they need in turn."""
    statements: dict[str, list[ast.stmt]] = {}
    for statement in module.body:
        for defined in _defined_names(statement):
            statements.setdefault(defined, []).append(statement)
    needed, waiting = set[str](), {name} & statements.keys()
    while waiting:
        current = waiting.pop()
        needed.add(current)
        nodes = [node for statement in statements[current] for node in ast.walk(statement)]
        waiting |= {node.id for node in nodes if isinstance(node, ast.Name)} & statements.keys() - needed
    kept = [_only_needed(statement, needed) for statement in module.body]
    return ast.Module([statement for statement in kept if statement], [])


def _defined_names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _only_needed(statement: ast.stmt, needed: set[str]) -> ast.stmt | None:
    """The statement, an import without the names that are not needed; None if nothing of it is needed."""
    if not _defined_names(statement) & needed:
        return None
    if isinstance(statement, ast.ImportFrom):
        kept = [alias for alias in statement.names if (alias.asname or alias.name) in needed]
        return ast.copy_location(ast.ImportFrom(statement.module, kept, statement.level), statement)
    return statement
