"""Checked, frozen settings.

The default of a setting stands in the settings class, beside the code that uses it. The settings of a job
are these defaults, changed by one section of a recipe, then by the command line (`survey.arguments`).
Everything is checked before any work starts: an unknown key, a wrong type or a value out of range is reported
with its key, its value and what to give instead.
"""

import difflib
import hashlib
import json
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from survey.help import nested_settings, setting_names, type_name

JOBS = ("mock", "ingest", "train", "tune", "ensemble", "evaluate", "predict", "catalog")
"""All jobs, in the order of use. A recipe has one section for each. A new job needs one word here."""

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
    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ()
    """Sections that a recipe must have for this job: without them, it is a recipe for something else."""
    COMMON: ClassVar[tuple[str, ...]] = ()
    """The settings that are often changed: ``--help`` shows them and those that are needed. None = all."""

    OUTPUT: ClassVar[str] = ""
    """The setting that names the folder which the job makes."""

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """More text for ``--help``, from the values that are given. Empty unless a class overrides it."""
        del given
        return ""

    @model_validator(mode="before")
    @classmethod
    def _complete_nested_settings(cls, values: Any) -> Any:
        """Nested settings that are given in part keep the other values of this field's own default.

        A list of one value may be given as the value alone.
        """
        if not isinstance(values, dict):
            return values
        return {
            name: _complete(cls.model_fields[name], value) if name in cls.model_fields else value
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


def _complete(field: Any, value: Any) -> Any:
    """The value of a field as its type wants it."""
    is_list = typing.get_origin(field.annotation) is tuple and Ellipsis in typing.get_args(field.annotation)
    if is_list and value is not None and not isinstance(value, list | tuple):
        return (value,)
    return _on_default(field.default, value)


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
        return f"{where}: {key}: unknown setting (value {value!r}); {_advice(cls, owner, path)}"
    field = owner.model_fields.get(path[-1]) if path else None
    meaning = f" ({field.description})" if field and field.description else ""
    if item["type"] == "missing":
        return f"{where}: {key}: not given; give {key}=...{meaning}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not path:  # the message is about several settings and names them itself
        return f"{where}: {message}"
    advice = f"; give {type_name(field.annotation)}{meaning}" if field else ""
    return f"{where}: {key}: {_without_password(value)!r}: {message}{advice}"


def _advice(cls: type[BaseModel], owner: type[BaseModel], path: list[str]) -> str:
    """What to give instead of an unknown setting: one beside it, or one elsewhere, with its prefix."""
    prefix = "".join(f"{name}." for name in path[:-1])
    near = difflib.get_close_matches(path[-1], owner.model_fields, 1)
    elsewhere = [name for name in setting_names(cls) if name.split(".")[-1] == path[-1]]
    if not near and not elsewhere:
        elsewhere = difflib.get_close_matches(".".join(path), setting_names(cls), 1)
    if near or elsewhere:
        return f"did you mean {' or '.join([*(prefix + name for name in near), *elsewhere])}?"
    return f"there are {', '.join(prefix + name for name in owner.model_fields)}"


def similar(name: str, names: Iterable[str]) -> str:
    """The most similar of the names as a question, or all of them."""
    names = list(names)
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"give one of {', '.join(names)}"


def _without_password(value: Any) -> Any:
    """A value for a message: the password in a URL is replaced."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(://[^/@:]*:)[^/@]*@|(password=)[^&\s]*", r"\1\2***@", value)


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The keys in which two sets of settings differ, with both values, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}={old} there, {new} now"
