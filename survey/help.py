"""The help text of a job: every setting with its type, its default and its meaning."""

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

WIDTH = 110
"""Columns of a line."""
PLANNED = ("ingest", "train", "tune", "ensemble", "predict")
"""Jobs that may take hours: show=plan measures how many."""

NAMES = {
    Any: "anything",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}
"""What simple types are called in help texts and error messages."""


def help_text(
    cls: type[BaseModel],
    job: str,
    description: str,
    given: Mapping[str, Any] | None = None,
    recipe: str = "",
    common: Sequence[str] = (),
    argument: str = "",
) -> str:
    """The description of a job, how to call it, and its settings, those that are needed first.

    `given` are the values of the recipe and of the command line. With `common`, only these settings are shown
    besides those that are needed. `argument` is the setting that needs no key; such a job has no recipe.
    """
    rows = setting_rows(cls, given=given)
    needed = [row for row in rows if row.is_needed]
    others = [row for row in rows if not row.is_needed]
    if common:
        others = sorted((row for row in others if row.name in common), key=lambda row: common.index(row.name))
    before = argument.upper() if argument else "[RECIPE] [with=FILE.yaml]"
    usage = f"usage: survey {job} {before} [key=value ...]   (or python jobs/{job}.py ...)"
    blocks = [description.strip(), usage]
    if needed:
        blocks.append(f"needed\n\n{rows_text(needed)}")
    of_recipe = f", with the values of the recipe {recipe}" if recipe else ""
    if others:
        heading = "often changed" if common else "settings"
        blocks.append(f"{heading}{of_recipe}\n\n{rows_text(others)}")
    plan = "; show=plan, how long it would take" if job in PLANNED else ""
    endings = [] if argument else [f"show=true prints what a command would do, and does nothing{plan}"]
    if common:
        command = " ".join(filter(None, ("survey", job, recipe, "--help all")))
        endings.insert(0, f"{command} shows all {len(rows)} settings")
    return "\n\n".join(filter(None, [*blocks, "\n".join(endings)])) + "\n"


@dataclass(frozen=True)
class SettingRow:
    """What help shows of a setting."""

    name: str
    type: str
    default: str
    meaning: str
    is_needed: bool = False


def rows_text(rows: Sequence[SettingRow]) -> str:
    """Settings with two lines each: name, type and default; then the meaning."""
    width = max((len(row.name) for row in rows), default=0) + 2
    indent = " " * (width + 4)
    lines = []
    for row in rows:
        type_and_default = ", ".join(filter(None, (row.type, row.default)))
        lines.append(f"  {row.name:<{width}}{type_and_default}")
        lines += textwrap.wrap(row.meaning, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def setting_rows(
    cls: type[BaseModel], prefix: str = "", given: Mapping[str, Any] | None = None
) -> list[SettingRow]:
    """All settings of a class, nested ones with their prefix; `given` values are shown."""
    return list(_rows(cls, prefix, None, given or {}))


def setting_names(cls: type[BaseModel]) -> list[str]:
    """The names of all settings of a class, nested ones with their prefix."""
    names = []
    for name, info in cls.model_fields.items():
        inner = nested_settings(info.annotation)
        if inner is None or inner is not info.annotation:
            names.append(info.alias or name)
        if inner:
            names += [f"{inner_prefix(name, info.annotation)}{nested}" for nested in setting_names(inner)]
    return names


def nested_settings(annotation: Any) -> type[BaseModel] | None:
    """The settings class that a field of this type holds, also where the field may be null; else None."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def inner_prefix(name: str, annotation: Any) -> str:
    """What stands before the settings inside a field; in a dictionary of settings each has a name."""
    return f"{name}.NAME." if typing.get_origin(annotation) is dict else f"{name}."


def choices(annotation: Any) -> list[Any]:
    """The fixed values that a type allows, also within a union."""
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [value for kind in typing.get_args(annotation) for value in choices(kind)]


def type_name(kind: Any) -> str:
    """A type in plain words: "whole number or null", "list of text"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is typing.Literal:
        return "one of " + " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, arguments))
    if origin is not None:
        return _container_name(origin, arguments)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "settings"
    return NAMES.get(kind) or str(getattr(kind, "__name__", kind))


def _container_name(origin: Any, arguments: tuple[Any, ...]) -> str:
    inner = [type_name(kind) for kind in arguments if kind is not Ellipsis]
    if origin is dict:
        return f"{{{': '.join(inner)}}}"
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(inner)}]"
    return f"{'list' if origin is tuple else origin.__name__} of {', '.join(inner)}"


def _rows(
    cls: type[BaseModel], prefix: str, default_settings: BaseModel | None, given: Mapping[str, Any]
) -> Iterator[SettingRow]:
    """The rows of a class. `default_settings` is the default of the field above, if any."""
    for name, info in cls.model_fields.items():
        if default_settings is not None:
            default = getattr(default_settings, name)
        elif info.is_required():
            default = None
        else:
            default = info.get_default(call_default_factory=True)
        inner, value = nested_settings(info.annotation), given.get(name)
        if inner is None or inner is not info.annotation:
            required = info.is_required() and default_settings is None
            shown = "settings" if inner and default else _value_text(default)
            text = "" if required else f"default {shown}"
            if name in given and not (inner and isinstance(value, dict)) and value != _plain(default):
                text = f"here {_value_text(value)}" + f" ({text})" * bool(text)
            meaning = info.description or ""
            shown_name, kind = f"{prefix}{info.alias or name}", type_name(info.annotation)
            yield SettingRow(shown_name, kind, text, meaning, required)
        if inner:
            inside = f"{prefix}{inner_prefix(name, info.annotation)}"
            inner_default = default if isinstance(default, BaseModel) else None
            yield from _rows(inner, inside, inner_default, value if isinstance(value, dict) else {})


def _plain(value: Any) -> Any:
    """A default as YAML would give it."""
    return list(value) if isinstance(value, tuple) else value


def _value_text(value: Any) -> str:
    return json.dumps(value, default=str) if not isinstance(value, str) else value or "empty"
