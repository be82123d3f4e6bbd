"""A recipe and ``key=value`` arguments become checked, frozen settings.

The default of a setting stands in the settings class, beside the code that uses it. The settings of a job
are these defaults, changed by one section of a recipe, then by the command line. Everything is checked
before any work starts: an unknown key, a wrong type or a value out of range is reported with its key, its
value and what to give instead.
"""

import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from survey.help import help_text, nested_settings, type_name

WITH = "with="
"""The argument ``with=FILE.yaml`` changes the recipe by a second file, such as the winner of a search."""

JOBS = ("mock", "ingest", "train", "tune", "ensemble", "evaluate", "predict", "catalog")
"""All jobs, in the order of use. A recipe has one section for each. A new job needs one word here."""

NOTES = ("about", "results", "space")
"""Other sections of a recipe: what it is for, the results of a search, the ranges that a search tries."""

S = TypeVar("S", bound="Settings")


def _check_threads(value: Any) -> Any:
    """Checks both types at once, because pydantic reports one error for each member of a union."""
    if value != "auto" and not (type(value) is int and value >= 1):
        raise ValueError("is neither auto nor a number from 1")
    return value


Threads = Annotated[int | Literal["auto"], BeforeValidator(_check_threads)]
"""A number of threads; auto = the fastest number, found by measuring (`survey.machine.ThreadChooser`)."""


class SettingsError(ValueError):
    """Settings that cannot be used. The message says where, what was found and what to give."""


class JobError(RuntimeError):
    """A job cannot end well, for a reason that its user can remove."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict about keys and types. Each field has a default and a description.

    The fields in `NOT_IN_RESULT` change how the work is done and shown, but never the result: the
    fingerprint omits them.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset()
    EXTRA_SECTIONS: ClassVar[tuple[str, ...]] = ()
    """Other sections of the recipe that the job reads too, each into its field of the same name."""

    @classmethod
    def extra_help(cls, arguments: list[str]) -> str:
        """More text for ``--help``, given the other arguments. Empty unless a class overrides it."""
        del arguments
        return ""

    @model_validator(mode="before")
    @classmethod
    def _complete_nested_settings(cls, values: Any) -> Any:
        """Nested settings that are given in part keep the other values of this field's own default."""
        if not isinstance(values, dict):
            return values
        return {
            name: _on_default(cls.model_fields[name].default, value) if name in cls.model_fields else value
            for name, value in values.items()
        }

    def result_settings(self) -> dict[str, Any]:
        """The values that decide the result, also of nested settings."""
        values = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name not in self.NOT_IN_RESULT:
                values[name] = value.result_settings() if isinstance(value, Settings) else value
        return values

    def plain(self) -> dict[str, Any]:
        """The values that decide the result, as JSON stores them."""
        values: dict[str, Any] = json.loads(json.dumps(self.result_settings(), default=str))
        return values

    def fingerprint(self) -> str:
        """A short hash of the values that decide the result: equal hashes, equal results."""
        text = json.dumps(self.result_settings(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, where: str, values: dict[str, Any]) -> Self:
        """The settings with these nested values. A `SettingsError` lists every value that cannot be used."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_error_line(cls, where, item) for item in error.errors()]
            raise SettingsError("\n".join(lines)) from None


def _on_default(default: Any, value: Any) -> Any:
    """The default with the given values in place of its own, if both are settings."""
    if not isinstance(default, Settings) or not isinstance(value, dict):
        return value
    values = {name: getattr(default, name) for name in type(default).model_fields}
    return values | {name: _on_default(values.get(name), inner) for name, inner in value.items()}


def _error_line(cls: type[Settings], where: str, item: Any) -> str:
    """One error of pydantic in the words of this house."""
    path = [part for part in item["loc"] if isinstance(part, str)]
    owner: type[BaseModel] = cls
    for name in path[:-1]:
        field = owner.model_fields.get(name)
        owner = (nested_settings(field.annotation) if field else None) or owner
    key, value = ".".join(map(str, item["loc"])), item.get("input")
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], owner.model_fields, 1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(owner.model_fields)}"
        return f"{where}: {key}: unknown setting (value {value!r}); {advice}"
    field = owner.model_fields.get(path[-1]) if path else None
    meaning = f" ({field.description})" if field and field.description else ""
    if item["type"] == "missing":
        return f"{where}: {key}: not given; give {key}=...{meaning}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not path:  # the message is about several settings and names them itself
        return f"{where}: {message}"
    advice = f"; give {type_name(field.annotation)}{meaning}" if field else ""
    return f"{where}: {key}: {_without_password(value)!r}: {message}{advice}"


def _without_password(value: Any) -> Any:
    """A value for a message: the password in a URL is replaced."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(://[^/@:]*:)[^/@]*@|(password=)[^&\s]*", r"\1\2***@", value)


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


def load(cls: type[S], job: str, arguments: list[str]) -> S:
    """The settings of a job from its command line: ``[recipe.yaml] [with=FILE.yaml] key=value ...``.

    Each argument changes what stands before it.
    """
    recipes = [item for item in arguments if "=" not in item]
    if len(recipes) > 1:
        raise SettingsError(
            f"{job}: more than one recipe ({' '.join(recipes)}); give one recipe, other settings as key=value"
        )
    changes = [item.removeprefix(WITH) for item in arguments if item.startswith(WITH)]
    values: dict[str, Any] = {}
    for path in map(Path, [*recipes, *changes]):
        section = read_section(path, job)
        for name in cls.EXTRA_SECTIONS:
            section[name] = merge(read_section(path, name), section.get(name, {}))
        values = merge_recipes(values, section)
    for item in arguments:
        if "=" in item and not item.startswith(WITH):
            key, text = item.split("=", 1)
            where = f"{job}: {key}"
            _put(values, key.removeprefix(f"{job}.").split("."), parse(text, where), where)
    return cls.from_dict(job, values)


def read_section(recipe: Path, job: str) -> dict[str, Any]:
    """The section of a recipe that belongs to a job; empty if it has none."""
    if not recipe.is_file():
        raise SettingsError(
            f"{job}: {recipe}: no such recipe; give the path of a YAML file such as recipes/cemp.yaml, "
            "and settings as key=value"
        )
    content = parse(recipe.read_text(), str(recipe))
    if not isinstance(content, dict):
        raise SettingsError(f"{recipe}: holds {type(content).__name__}; a recipe maps jobs to settings")
    for name in content:
        if name not in (*JOBS, *NOTES):
            raise SettingsError(
                f"{recipe}: unknown section {name!r}; the sections are {', '.join((*NOTES, *JOBS))}"
            )
    section = content.get(job) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{recipe}: {job}: holds {section!r}; it maps settings to values")
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


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The keys in which two sets of settings differ, with both values, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}={old} there, {new} now"


def _put(values: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Set the value at a dotted key."""
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(
                f"{where}: {name} is {inner!r} in the recipe, it has no {path[-1]!r} inside; "
                f"give {name} alone"
            )
        values[name] = values = dict(inner)
    values[path[-1]] = value


@contextmanager
def report_errors() -> Iterator[None]:
    """Errors that a user can correct end the program with their message only."""
    try:
        yield
    except (ValueError, OSError, JobError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; run the same command again to continue") from None


def start(cls: type[S], job: str, description: str) -> S:
    """The settings from ``sys.argv``. ``--help`` prints all settings; an error is printed. Both end the
    program.

    Threads of torch that wait for each other sleep from now on, instead of keeping a CPU busy. With other
    work on the machine, training with two threads is then much faster: 12 times for prism
    (benchmarks/RESULTS.md). OpenMP reads this when torch is loaded; it changes no result.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(arguments):
            sys.stdout.write(help_text(cls, job, description) + cls.extra_help(arguments))
            raise SystemExit(0)
        return load(cls, job, arguments)
    except ValueError as error:  # SettingsError is one
        raise SystemExit(str(error)) from None
