"""A file in ``survey/sources/`` or ``survey/models/`` is a plugin: its file name is its name.

A plugin is imported only when it is named, so a broken file stops only who asks for it. Which files are plugins is read from their
text, and the settings of a plugin (its class `Options`) are read without running the rest of its file: a misspelt setting of a network
is reported without loading torch.
"""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from survey.settings import Settings, SettingsError

OFFERS = {"sources": r"^def (read|read_rows)\(", "models": r"^class Net\("}
"""What the text of a plugin has; other files of the folder are shared parts."""


@cache
def names(kind: str) -> tuple[str, ...]:
    """The names of all plugins of a kind, in alphabetical order; none is imported."""
    files = sorted((Path(__file__).parent / kind).glob("*.py"))
    return tuple(
        path.stem for path in files if re.search(OFFERS[kind], path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def load(kind: str, name: str) -> ModuleType:
    """The plugin of that name, imported now; an unknown name is an error that lists the known ones."""
    _check(kind, name)
    return importlib.import_module(f"survey.{kind}.{name}")


@cache
def options(kind: str, name: str) -> type[Settings]:
    """The class `Options` of a plugin. Only those statements of its file run that the class needs."""
    _check(kind, name)
    path = Path(__file__).parent / kind / f"{name}.py"
    module = ModuleType(f"survey.{kind}.{name}")
    code = compile(_needed_by("Options", ast.parse(path.read_text(encoding="utf-8"))), str(path), "exec")
    exec(code, module.__dict__)  # noqa: S102 - a file of this package
    found: type[Settings] = module.__dict__["Options"]
    return found


def _check(kind: str, name: str) -> None:
    if name not in names(kind):
        raise SettingsError(
            f"{kind}: there is no plugin {name!r}; give one of {', '.join(names(kind))}, or add survey/{kind}/{name}.py"
        )


def _needed_by(name: str, module: ast.Module) -> ast.Module:
    """The module with only those statements that define the name, and what they need in turn."""
    statements = {defined: statement for statement in module.body for defined in _defined(statement)}
    needed, waiting = set[str](), {name}
    while waiting:
        current = waiting.pop()
        needed.add(current)
        used = {node.id for node in ast.walk(statements[current]) if isinstance(node, ast.Name)}
        waiting |= used & statements.keys() - needed
    return ast.Module([kept for statement in module.body if (kept := _reduced(statement, needed))], [])


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _reduced(statement: ast.stmt, needed: set[str]) -> ast.stmt | None:
    """The statement, an import without the names that are not needed; none if nothing of it is needed."""
    if not _defined(statement) & needed:
        return None
    if isinstance(statement, ast.ImportFrom):
        kept = [alias for alias in statement.names if (alias.asname or alias.name) in needed]
        return ast.copy_location(ast.ImportFrom(statement.module, kept, statement.level), statement)
    return statement
