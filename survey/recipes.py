"""Recipes: YAML files with one section for each job.

A recipe is named by its path, or by its name alone if it is one of those that come with the program.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from survey.settings import JOBS, SettingsError, similar

NOTES = ("about", "results", "space")
"""Other sections of a recipe: what it is for, the results of a search, the ranges that a search tries."""


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: ``1e-3`` is a number, and a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            line, names = node.start_mark.line + 1, ", ".join(sorted(repeated))
            raise SettingsError(f"line {line}: the key {names} is given twice; keep one")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":timestamp", ":float", ":int"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
# 010 is ten (not eight), and 08 is a number
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse(text: str, where: str) -> Any:
    """The value of a piece of YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: {' '.join(str(error).split())}; correct the YAML") from None
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


@cache
def shipped(kind: str) -> Path:
    """A folder that comes with the program: `recipes`, `tune` (search spaces) or `jobs`.

    An installed program has it in its own folder, a checkout beside it.
    """
    package = Path(__file__).parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def recipe_names() -> list[str]:
    """The names of the recipes that come with the program."""
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def find_file(name: str, kind: str = "recipes") -> Path | None:
    """A YAML file by its path, or one that comes with the program by its name; None if there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    parts = path.parts[1:] if path.parts[:1] == (kind,) else path.parts
    if len(parts) != 1:
        return None
    found = shipped(kind) / f"{parts[0].removesuffix('.yaml')}.yaml"
    return found if found.is_file() else None


def read_recipe(name: str, job: str) -> tuple[Path, dict[str, Any]]:
    """The path and the sections of a recipe."""
    path = find_file(name)
    if path is None:
        stem = Path(name).name.removesuffix(".yaml").removesuffix(".yml")
        raise SettingsError(
            f"{job}: {name}: no such recipe; {similar(stem, recipe_names())} "
            "(a recipe is the path of a YAML file, or the name of one that comes with the program)"
        )
    content = parse(path.read_text(), str(path))
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: holds {type(content).__name__}; a recipe maps jobs to settings")
    for section in content:
        if section not in (*JOBS, *NOTES):
            raise SettingsError(
                f"{path}: unknown section {section!r}; the sections are {', '.join((*NOTES, *JOBS))}"
            )
    return path, content


def read_section(recipe: str | Path, job: str) -> dict[str, Any]:
    """The section of a recipe that belongs to a job; empty if it has none."""
    path, content = read_recipe(str(recipe), job)
    section = content.get(job) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{path}: {job}: holds {section!r}; it maps settings to values")
    return section


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested values, with the changes in place of the values of the base."""
    return base | {
        name: merge(base[name], value)
        if isinstance(value, dict) and isinstance(base.get(name), dict)
        else value
        for name, value in changes.items()
    }


def merge_recipes(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`merge` for settings of a training: another model drops the options of the base's model."""
    base_model, model = base.get("model"), changes.get("model")
    if model is not None and base_model not in (None, model):
        base = {name: value for name, value in base.items() if name != "options"}
    merged = merge(base, changes)
    if isinstance(base.get("train"), dict) and isinstance(changes.get("train"), dict):
        merged["train"] = merge_recipes(base["train"], changes["train"])
    return merged
