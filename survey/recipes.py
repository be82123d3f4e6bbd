"""Recipes: YAML files with one section for each job.

A recipe is named by its path, or by its name alone if it is one of those that come with the program.
"""

import re
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from survey.messages import shorten
from survey.settings import JOBS, SettingsError, similar

NOTES = ("about", "results", "space")
"""Other sections of a recipe: what it is for, the results of a search, the ranges that a search tries."""


LARGEST = 1 << 20
"""Bytes. A recipe is far smaller than 1 MiB; a larger file is something else, and is not read."""
MOST_VALUES = 100_000
"""Values of a recipe, where each alias ``*name`` counts as a copy of what it stands for."""
MOST_DIGITS = 300


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: ``1e-3`` is a number, and a key that is given twice is an error."""

    def get_single_node(self) -> yaml.Node | None:
        """The document as nodes; an error if it has too many values."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _count_values(node, {}) > MOST_VALUES:
            raise SettingsError(
                f"holds more than {MOST_VALUES:,} values, where an alias *name counts as a copy; use fewer"
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; an error if it has a key twice."""
        keys = Counter(
            key
            for key in (self.construct_object(key, deep=True) for key, _ in node.value)
            if isinstance(key, Hashable)
        )
        repeated = {shorten(str(key), 100) for key, count in keys.items() if count > 1}
        if repeated:
            line, names = node.start_mark.line + 1, ", ".join(sorted(repeated))
            raise SettingsError(f"line {line}: the key {names} is given twice; keep one")
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A whole number in decimal digits: 010 is ten (not eight), and 08 is a number."""
        if len(node.value) > MOST_DIGITS:
            line = node.start_mark.line + 1
            raise SettingsError(
                f"line {line}: a number of {len(node.value):,} digits; give at most {MOST_DIGITS}"
            )
        return int(node.value)


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """The values in a node and below; `counts` holds those of nodes that were counted before."""
    if id(node) in counts:
        if counts[id(node)] < 0:
            raise SettingsError(f"line {node.start_mark.line + 1}: a value contains itself; remove the alias")
        return counts[id(node)]
    counts[id(node)] = -1
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    children = (child for item in inner for child in (item if isinstance(item, tuple) else (item,)))
    counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    return counts[id(node)]


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
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def parse(text: str, where: str) -> Any:
    """The value of a piece of YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: {shorten(' '.join(str(error).split()))}; correct the YAML") from None
    except RecursionError:
        raise SettingsError(f"{where}: too many brackets inside each other; correct the YAML") from None
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


@cache
def shipped(kind: str) -> Path:
    """A folder that comes with the program: `recipes`, `tune` (search spaces), `jobs` or `weights`.

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
    parts = path.parts[1:] if path.parts[:1] == (kind,) else path.parts
    candidates = (
        [path, shipped(kind) / f"{parts[0].removesuffix('.yaml')}.yaml"] if len(parts) == 1 else [path]
    )
    with suppress(OSError):  # a name that is too long for a file
        return next((candidate for candidate in candidates if candidate.is_file()), None)
    return None


def read_recipe(name: str, job: str) -> tuple[Path, dict[str, Any]]:
    """The path and the sections of a recipe."""
    path = find_file(name)
    if path is None:
        stem = Path(name).name.removesuffix(".yaml").removesuffix(".yml")
        raise SettingsError(
            f"{job}: {shorten(name, 300)}: no such recipe; {similar(stem, recipe_names())} "
            "(a recipe is the path of a YAML file, or the name of one that comes with the program)"
        )
    content = parse(_read_text(path), str(path))
    if content is None:
        raise SettingsError(
            f"{path}: is empty, or holds comments only; a recipe has sections of settings, such as train:"
        )
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: holds {type(content).__name__}; a recipe maps jobs to settings")
    for section in content:
        if section not in (*JOBS, *NOTES):
            raise SettingsError(
                f"{path}: unknown section {shorten(repr(section), 100)}; "
                f"the sections are {', '.join((*NOTES, *JOBS))}"
            )
    return path, content


def _read_text(path: Path) -> str:
    """The text of a recipe; an error if the file is none."""
    size = path.stat().st_size
    if size > LARGEST:
        raise SettingsError(f"{path}: {size:,} bytes, a recipe has at most {LARGEST:,}; give a YAML file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: byte {error.start} is no text in UTF-8 ({error.reason}); give a YAML file in UTF-8"
        ) from None


def read_section(recipe: str | Path, job: str) -> dict[str, Any]:
    """The section of a recipe that belongs to a job; empty if it has none."""
    path, content = read_recipe(str(recipe), job)
    section = content.get(job) or {}
    if not isinstance(section, dict):
        found = shorten(repr(section), 100)
        raise SettingsError(f"{path}: {job}: holds {found}; it maps settings to values")
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
