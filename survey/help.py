"""The help text of a job: every setting with its type, its default and its meaning."""

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

NAMES = {
    Any: "anything",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}
"""What simple types are called in help texts and error messages."""


def help_text(cls: type[BaseModel], job: str, description: str) -> str:
    """The description of a job, how to call it, and all its settings."""
    usage = f"usage: python jobs/{job}.py [recipes/NAME.yaml] [with=FILE.yaml] [key=value ...]"
    return "\n".join([description.strip(), "", usage, "", settings_table(cls), ""])


def settings_table(cls: type[BaseModel], prefix: str = "") -> str:
    """The settings of a class, two lines each: name, type and default; then the meaning."""
    rows = list(_rows(cls, prefix, None))
    width = max((len(name) for name, _, _ in rows), default=0) + 2
    indent = " " * (width + 4)
    return "\n".join(
        f"  {name:<{width}}{type_and_default}\n{indent}{meaning}" for name, type_and_default, meaning in rows
    )


def nested_settings(annotation: Any) -> type[BaseModel] | None:
    """The settings class that a field of this type holds, also where the field may be null; else None."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


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
    cls: type[BaseModel], prefix: str, default_settings: BaseModel | None
) -> Iterator[tuple[str, str, str]]:
    """Name, type with default, and meaning. `default_settings` is the default of the field above, if any."""
    for name, info in cls.model_fields.items():
        if default_settings is not None:
            default = getattr(default_settings, name)
        elif info.is_required():
            default = None
        else:
            default = info.get_default(call_default_factory=True)
        inner = nested_settings(info.annotation)
        if inner is None or inner is not info.annotation:
            required = info.is_required() and default_settings is None
            shown = "settings" if inner and default else _value_text(default)
            ending = "needed" if required else f"default {shown}"
            yield f"{prefix}{name}", f"{type_name(info.annotation)}, {ending}", info.description or ""
        if inner:
            yield from _rows(inner, f"{prefix}{name}.", default)


def _value_text(value: Any) -> str:
    return json.dumps(value, default=str) if not isinstance(value, str) else value or "empty"
