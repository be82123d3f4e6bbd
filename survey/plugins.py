"""A file in ``survey/sources/`` or ``survey/models/`` is a plugin: its file name is its name, what it offers is its contract."""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

CONTRACT = {"sources": ("read", "read_rows"), "models": ("Net",)}
"""What a module of each folder defines, one at least, to count as a plugin; formats and writers beside the plugins lack it."""


@cache
def available(kind: str) -> dict[str, ModuleType]:
    """Every plugin of a kind by name, in alphabetical order."""
    package = importlib.import_module(f"survey.{kind}")
    modules = {
        info.name: importlib.import_module(f"survey.{kind}.{info.name}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name)
    }
    return {name: module for name, module in modules.items() if any(hasattr(module, offer) for offer in CONTRACT[kind])}


def load(kind: str, name: str) -> ModuleType:
    """The plugin of that name, or an error that lists those there are."""
    found = available(kind)
    if name not in found:
        raise ValueError(f"{kind}: there is no plugin {name!r}; there are {', '.join(found)}; add survey/{kind}/{name}.py or pick one of these")
    return found[name]
