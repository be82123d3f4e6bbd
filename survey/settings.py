"""A recipe and ``key=value`` arguments become checked, frozen settings.

Defaults live in the settings class beside the code it sets up. A run is defaults + one section of one recipe + the command line, in this
order. Everything is checked before any work: an unknown key, a wrong type or a value out of range is named together with what would do.
"""

import difflib
import hashlib
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

WITH = "with="
"""Begins the argument that names a file to lie over the recipe, such as the winner of a search."""

JOBS = (
    "mock",
    "ingest",
    "train",
    "tune",
    "ensemble",
    "evaluate",
    "predict",
    "catalog",
    "explain",
    "latent",
    "report",
)
"""The sections that a recipe may have: one per job."""
TOLD = ("about", "found", "space")
"""What a recipe, a winner of a search or a search space may say beside: what it is, how it was found, where to look."""


S = TypeVar("S", bound="Settings")


class SettingsError(ValueError):
    """Settings that cannot be used; the message says where, what and what would do."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict about keys and types, each field with a default and a description.

    Fields named in `INERT` change how the work is done and shown, never what comes out; the fingerprint leaves them out.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )
    INERT: ClassVar[frozenset[str]] = frozenset()
    SECTIONS: ClassVar[tuple[str, ...]] = ()
    """Sections of a recipe beside the job's own that it reads too, each into the field of that name."""

    @classmethod
    def more_help(cls, arguments: list[str]) -> str:
        """What else `--help` tells, given the other arguments; nothing as a rule."""
        del arguments
        return ""

    @model_validator(mode="before")
    @classmethod
    def _upon_defaults(cls, values: Any) -> Any:
        """Settings inside that are given in part keep the rest of the default of *this* field, not that of their class."""
        if not isinstance(values, dict):
            return values
        return {
            name: _upon(cls.model_fields[name].default, value) if name in cls.model_fields else value
            for name, value in values.items()
        }

    def lasting(self) -> dict[str, Any]:
        """The values that decide what comes out, nested settings alike."""
        kept = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name not in self.INERT:
                kept[name] = value.lasting() if isinstance(value, Settings) else value
        return kept

    def plain(self) -> dict[str, Any]:
        """The values that decide what comes out, as JSON holds them."""
        values: dict[str, Any] = json.loads(json.dumps(self.lasting(), default=str))
        return values

    def fingerprint(self) -> str:
        """A short hash of the lasting values: equal settings, equal results."""
        return hashlib.sha256(json.dumps(self.lasting(), sort_keys=True, default=str).encode()).hexdigest()[
            :16
        ]

    @classmethod
    def checked(cls, where: str, values: dict[str, Any]) -> Self:
        """The settings with these nested values, or a `SettingsError` that names every value that will not do."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_complaint(cls, where, item) for item in error.errors()]
            raise SettingsError("\n".join(lines)) from None


def _upon(default: Any, value: Any) -> Any:
    """A value, laid over the default where both are settings with names."""
    if not isinstance(default, Settings) or not isinstance(value, dict):
        return value
    kept = {name: getattr(default, name) for name in type(default).model_fields}
    return kept | {name: _upon(kept.get(name), inner) for name, inner in value.items()}


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: ``1e-3`` is a number, a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise SettingsError(
                f"line {node.start_mark.line + 1}: the key {', '.join(sorted(twice))} is given twice; keep one"
            )
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
_Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(node.value)
)  # 010 is ten, and 08 a number at all


def parse(text: str, where: str) -> Any:
    """The value of a piece of YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: {' '.join(str(error).split())}; mend the YAML") from None
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def load(cls: type[S], job: str, arguments: list[str]) -> S:
    """Settings of a job from its command line: ``[recipe.yaml] [with=FILE.yaml] key=value ...``, each over what comes before it."""
    recipes = [item for item in arguments if "=" not in item]
    if len(recipes) > 1:
        raise SettingsError(
            f"{job}: more than one recipe ({' '.join(recipes)}); give one recipe, the rest as key=value"
        )
    values: dict[str, Any] = {}
    for path in [*recipes, *(item.removeprefix(WITH) for item in arguments if item.startswith(WITH))]:
        own = section(Path(path), job)
        for name in cls.SECTIONS:
            own[name] = laid(section(Path(path), name), own.get(name, {}))
        values = over(values, own)
    for item in arguments:
        if "=" in item and not item.startswith(WITH):
            key, text = item.split("=", 1)
            _put(
                values, key.removeprefix(f"{job}.").split("."), parse(text, f"{job}: {key}"), f"{job}: {key}"
            )
    return cls.checked(job, values)


def section(recipe: Path, job: str) -> dict[str, Any]:
    """What a recipe says to one job."""
    if not recipe.is_file():
        raise SettingsError(
            f"{job}: {recipe}: no such recipe; give the path of a YAML file such as recipes/cemp.yaml, and settings as key=value"
        )
    whole = parse(recipe.read_text(), str(recipe))
    if not isinstance(whole, dict):
        raise SettingsError(f"{recipe}: holds {type(whole).__name__}; a recipe maps jobs to settings")
    for name in whole:
        if name not in (*JOBS, *TOLD):
            raise SettingsError(
                f"{recipe}: unknown section {name!r}; the sections are {', '.join((*TOLD, *JOBS))}"
            )
    part = whole.get(job) or {}
    if not isinstance(part, dict):
        raise SettingsError(f"{recipe}: {job}: holds {part!r}; it maps settings to values")
    return part


def laid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested values, those above in place of those below."""
    return below | {
        name: laid(below[name], value)
        if isinstance(value, dict) and isinstance(below.get(name), dict)
        else value
        for name, value in above.items()
    }


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where two sets of settings differ, key by key, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            yield from differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif before != now:
        yield f"{where}={before} there, {now} now"


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Settings laid over others, of training above all: another network brings options of its own, none of those below."""
    usual, other = below.get("model"), above.get("model")
    kept = (
        {name: value for name, value in below.items() if name != "options"}
        if other is not None and usual not in (None, other)
        else below
    )
    found = laid(kept, above)
    if isinstance(below.get("train"), dict) and isinstance(above.get("train"), dict):
        found["train"] = over(below["train"], above["train"])
    return found


def _put(values: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(
                f"{where}: {name} is {inner!r} in the recipe, it has no {path[-1]!r} inside; give {name} alone"
            )
        values[name] = values = inner = dict(inner)
    values[path[-1]] = value


class JobError(RuntimeError):
    """A job that cannot end well, for a reason that its user can mend."""


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors that a user can mend end the program with their message alone."""
    try:
        yield
    except (ValueError, OSError, JobError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None


def start(cls: type[S], job: str, about: str) -> S:
    """Settings from ``sys.argv``; ``--help`` prints them all, an error is printed and ends the program."""
    arguments = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(arguments):
            sys.stdout.write(help_text(cls, job, about) + cls.more_help(arguments))
            raise SystemExit(0)
        return load(cls, job, arguments)
    except ValueError as error:  # SettingsError is one
        raise SystemExit(str(error)) from None


def help_text(cls: type[Settings], job: str, about: str) -> str:
    """Every setting of a job with its type, default and meaning."""
    return "\n".join(
        [
            about.strip(),
            "",
            f"usage: python jobs/{job}.py [recipes/NAME.yaml] [with=FILE.yaml] [key=value ...]",
            "",
            table(cls),
            "",
        ]
    )


def table(cls: type[Settings], prefix: str = "") -> str:
    """The settings of a class, two lines each."""
    rows = list(_rows(cls, prefix, None))
    wide = max(len(name) for name, _, _ in rows) + 2
    return "\n".join(f"  {name:<{wide}}{kind}\n  {'':<{wide}}  {meaning}" for name, kind, meaning in rows)


def _rows(cls: type[Settings], prefix: str, given: Settings | None) -> Iterator[tuple[str, str, str]]:
    """Name, kind with default, and meaning; `given` is the default of the field that holds these settings."""
    for name, info in cls.model_fields.items():
        inner = _settings_in(info.annotation)
        usual = (
            getattr(given, name)
            if given
            else None
            if info.is_required()
            else info.get_default(call_default_factory=True)
        )
        if inner is None or inner is not info.annotation:
            default = (
                "needed"
                if info.is_required() and not given
                else f"default {'settings' if inner and usual else _show(usual)}"
            )
            yield f"{prefix}{name}", f"{_kind(info)}, {default}", info.description or ""
        if inner:
            yield from _rows(inner, f"{prefix}{name}.", usual)


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The settings class that a field holds, also where it may be null instead."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind
    return None


def _show(value: Any) -> str:
    return json.dumps(value, default=str) if not isinstance(value, str) else value or "empty"


def _kind(info: FieldInfo) -> str:
    return _type_name(info.annotation)


def _type_name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _type_name(typing.get_args(kind)[0])
    if origin is typing.Literal:
        return "one of " + " | ".join(map(str, typing.get_args(kind)))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(kind))
    if origin is not None:
        parts = [_type_name(part) for part in typing.get_args(kind) if part is not Ellipsis]
        if origin is tuple and Ellipsis not in typing.get_args(kind):
            return f"[{', '.join(parts)}]"
        return (
            f"{{{': '.join(parts)}}}"
            if origin is dict
            else f"{'list' if origin is tuple else origin.__name__} of {', '.join(parts)}"
        )
    names = {
        Any: "anything",
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(
        kind,
        "settings"
        if isinstance(kind, type) and issubclass(kind, Settings)
        else getattr(kind, "__name__", str(kind)),
    )


def _complaint(cls: type[Settings], where: str, item: Any) -> str:
    path = [part for part in item["loc"] if isinstance(part, str)]
    inner: Any = cls
    for name in path[:-1]:
        inner = (
            _settings_in(inner.model_fields[name].annotation if name in inner.model_fields else None) or inner
        )
    key, value = ".".join(map(str, item["loc"])), item.get("input")
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], inner.model_fields, 1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(inner.model_fields)}"
        return f"{where}: {key}: unknown setting (value {value!r}); {advice}"
    field = inner.model_fields.get(path[-1]) if path else None
    meaning = f" ({field.description})" if field and field.description else ""
    if item["type"] == "missing":
        return f"{where}: {key}: not given; give {key}=...{meaning}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not path:  # about several settings together, which the message names itself
        return f"{where}: {message}"
    wanted = f"; give {_kind(field)}{meaning}" if field else ""
    return f"{where}: {key}: {_without_secrets(value)!r}: {message}{wanted}"


def _without_secrets(value: Any) -> Any:
    """A value for a message: a password in a URL is not repeated."""
    return (
        re.sub(r"(://[^/@:]*:)[^/@]*@|(password=)[^&\s]*", r"\1\2***@", value)
        if isinstance(value, str)
        else value
    )
