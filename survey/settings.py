"""Checked, frozen settings.

The default of a setting stands in the settings class, beside the code that uses it. The settings of a job
are these defaults, changed by one section of a recipe, then by the command line (`survey.arguments`).
Everything is checked before any work starts: an unknown key, a wrong type or a value out of range is reported
with its key, its value and what to give instead.
"""

import difflib
import hashlib
import json
import operator
import re
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from survey.help import choices, nested_settings, setting_names, type_name
from survey.home_folder import expand_home
from survey.messages import MOST_LINES, find_unusable, join_lines

JOBS = (
    *("mock", "download", "labels", "ingest", "train", "tune", "ensemble"),
    *("evaluate", "predict", "catalog", "latent", "explain", "report", "followup", "status"),
)
"""All jobs, in the order of use. A recipe has one section for each. A new job needs one word here."""


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

    The fields in `NOT_IN_RESULT` never change the result: the fingerprint omits them.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset()
    EXTRA_SECTIONS: ClassVar[tuple[str, ...]] = ()
    """Other sections of the recipe that the job reads too, each into its field of the same name."""
    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ()
    """Sections that a recipe must have for this job: without them, it is a recipe for something else."""
    SAYS_DEFAULTS: ClassVar[bool] = False
    """Whether it is said that a recipe has no section of the job, so that the defaults count."""
    COMMON: ClassVar[tuple[str, ...]] = ()
    """The settings that are often changed: ``--help`` shows them and those that are needed. None = all."""
    OUTPUT: ClassVar[str] = ""
    """The setting that names the folder which the job makes."""
    ARGUMENT: ClassVar[str] = ""
    """The setting that an argument without a key gives, in place of a recipe."""
    UNUSED_BESIDE: ClassVar[dict[str, tuple[str, ...]]] = {}
    """For a setting, those that are not used beside it: the command line may not give them too."""

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """More text for ``--help``, from the values that are given. Empty unless a class overrides it."""
        del given
        return ""

    @model_validator(mode="before")
    @classmethod
    def _complete_nested_settings(cls, values: Any) -> Any:
        """Nested settings that are given in part keep the other values of this field's own default.

        A list of one value may be given as the value alone. ``~/`` is the home folder.
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
                values[name] = _result_value(value)
        return values

    def plain(self) -> dict[str, Any]:
        """The values that decide the result, as JSON stores them."""
        values: dict[str, Any] = json.loads(json.dumps(self.result_settings()))
        return values

    def fingerprint(self) -> str:
        """A short hash of the values that decide the result: equal hashes, equal results."""
        text = json.dumps(self.result_settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, where: str, values: dict[str, Any], section: str = "") -> Self:
        """The settings with these nested values. A `SettingsError` lists every value that cannot be used.

        `section` stands before each key in the error, such as ``ingest.`` for settings within others.
        """
        start = f"{where}: {section}" if where else section
        if unusable := find_unusable(values):
            raise SettingsError(start + unusable)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            errors = error.errors()
            lines = _error_lines(cls, values, errors[:MOST_LINES], section)
            more = max(len(errors) - MOST_LINES, 0)
            raise SettingsError(join_lines([start + line for line in lines], more)) from None


def _result_value(value: Any) -> Any:
    """The values of settings that decide the result, also where they are in a dict or a list."""
    if isinstance(value, Settings):
        return value.result_settings()
    if isinstance(value, dict):
        return {key: _result_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_result_value(one) for one in value]
    return value


def _complete(field: Any, value: Any) -> Any:
    """The value of a field as its type wants it."""
    is_list = typing.get_origin(field.annotation) is tuple and Ellipsis in typing.get_args(field.annotation)
    if is_list and value is not None and not isinstance(value, list | tuple):
        value = (value,)
    return expand_home(_on_default(field.default, value))


def _on_default(default: Any, value: Any) -> Any:
    """The default with the given values in place of its own, if both are settings."""
    if not isinstance(default, Settings) or not isinstance(value, dict):
        return value
    values = {name: getattr(default, name) for name in type(default).model_fields}
    return values | {name: _on_default(values.get(name), inner) for name, inner in value.items()}


@dataclass(frozen=True)
class _Place:
    """Where an error is: the class and the names of a setting, its field, and the place inside its value."""

    owner: type[BaseModel]
    names: tuple[str | int, ...]
    field: Any
    inside: tuple[str | int, ...]

    @classmethod
    def find(cls, settings: type[BaseModel], location: tuple[str | int, ...]) -> "_Place":
        """The place that pydantic gives as names, indices and members of unions."""
        owner, field, count, is_name = settings, None, 0, False
        nested: type[BaseModel] | None = settings
        for part in location:
            if nested is None:
                break
            if is_name:  # of settings in a dictionary
                is_name = False
            elif isinstance(part, str):
                owner, field = nested, nested.model_fields.get(part)
                nested = nested_settings(field.annotation) if field else None
                is_name = field is not None and typing.get_origin(field.annotation) is dict
            count += 1
        return cls(owner, location[:count], field, location[count:])

    @property
    def key(self) -> str:
        """The names with dots."""
        return ".".join(map(str, self.names))

    @property
    def section(self) -> type[BaseModel] | None:
        """The class of the settings that stand here; None if it is a single value."""
        return nested_settings(self.field.annotation) if self.field and not self.inside else None

    @property
    def meaning(self) -> str:
        """What the setting means, in brackets."""
        return f" ({self.field.description})" if self.field and self.field.description else ""

    @property
    def advice(self) -> str:
        """The type of the value, and what it means."""
        return f"give {type_name(self.field.annotation)}{self.meaning}" if self.field else ""


def _error_lines(cls: type[Settings], values: Any, items: Iterable[Any], section: str) -> list[str]:
    """A line for each setting that cannot be used.

    A setting that seems to be given under a wrong name is not missing.
    """
    lines: dict[str, str] = {}
    meant: set[str] = set()
    for item in items:
        place = _Place.find(cls, item["loc"])
        if item["type"] == "extra_forbidden":
            near, elsewhere = _similar_settings(cls, place)
            meant.update(near)
            advice = f"did you mean {' or '.join(section + name for name in (*near, *elsewhere))}?"
            if not near and not elsewhere:
                advice = f"there are {', '.join(section + name for name in _beside(place))}"
            lines[place.key] = f"{place.key}: unknown setting (value {item['input']!r}); {advice}"
        elif _is_inner_message(place, item):
            value = _value_text(reduce(operator.getitem, place.names, values))
            lines[place.key] = f"{place.key}: {value}: {place.advice}"
        else:
            key = ".".join(map(str, item["loc"]))
            lines.setdefault(key, _error_line(key, place, item))
    return [line for key, line in lines.items() if key not in meant or ": not given; " not in line]


def _is_inner_message(place: _Place, item: Any) -> bool:
    """Whether a message of pydantic about an inner part is replaced by one about the whole value.

    Of a union, each member complains by itself; of a short list, each number that is missing.
    """
    if not place.inside or place.field is None:
        return False
    members = typing.get_args(place.field.annotation)
    is_union = typing.get_origin(place.field.annotation) in (typing.Union, types.UnionType)
    return item["type"] == "missing" or (is_union and len(set(members) - {type(None)}) > 1)


def _error_line(key: str, place: _Place, item: Any) -> str:
    """One error of pydantic in the words of this house."""
    if item["type"] == "missing":
        return f"{key}: not given; give {key}=...{place.meaning}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:  # the message is about several settings and names them itself
        return str(message)
    value = _value_text(item.get("input"))
    if item["type"] == "model_type" and place.section:
        advice = _section_advice(key, place.section, item["input"])
        return f"{key}: {value}: is no section of settings; {advice}"
    if item["type"] == "value_error" and place.section:
        named = re.match(r"\w*", message)
        is_named = named is not None and named[0] in place.section.model_fields
        return f"{key}{'.' if is_named else ': '}{message}"
    has_advice = item["type"] == "value_error" and re.search(r"\bgive |did you mean ", message)
    return f"{key}: {value}: {message}" + ("" if has_advice or not place.field else f"; {place.advice}")


def _section_advice(key: str, section: type[BaseModel], value: Any) -> str:
    """Which setting of a section a single value may be meant for, and the names of all."""
    fitting = [name for name, field in section.model_fields.items() if value in choices(field.annotation)]
    meant = " or ".join(f"{key}.{name}={value}" for name in fitting)
    there = f"{key} has {', '.join(section.model_fields)}"
    return f"did you mean {meant}? {there}" if fitting else f"give {key}.NAME=...; {there}"


def _beside(place: _Place) -> list[str]:
    """The settings that there are beside a place, with their prefix."""
    prefix = "".join(f"{name}." for name in place.names[:-1])
    return [prefix + name for name in place.owner.model_fields]


def _similar_settings(cls: type[BaseModel], place: _Place) -> tuple[list[str], list[str]]:
    """Settings with a similar name beside an unknown one, and those elsewhere, with their prefix."""
    last = str(place.names[-1])
    prefix = "".join(f"{name}." for name in place.names[:-1])
    near = [prefix + name for name in difflib.get_close_matches(last, place.owner.model_fields, 1)]
    elsewhere = [name for name in setting_names(cls) if name.split(".")[-1] == last]
    if not near and not elsewhere:
        elsewhere = difflib.get_close_matches(place.key, setting_names(cls), 1)
    return near, elsewhere


def check_section(cls: type[Settings], values: Any, section: str, other: type[Settings]) -> None:
    """An error if a setting of another job is given without the name of the section that it belongs in."""
    wrong = [name for name in values if name in other.model_fields and name not in cls.model_fields]
    if wrong:
        key, value = wrong[0], values[wrong[0]]
        while isinstance(value, dict) and len(value) == 1:
            inner, value = next(iter(value.items()))
            key = f"{key}.{inner}"
        raise ValueError(f"{key}: unknown setting (value {value!r}); did you mean {section}.{key}?")


def similar(name: str, names: Iterable[str]) -> str:
    """The most similar of the names as a question, or all of them."""
    names = list(names)
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f"did you mean {by_lower[near[0]]}?" if near else f"give one of {', '.join(names)}"


def _value_text(value: Any) -> str:
    """A value as a recipe gives it. Text alone stands in quotation marks, which show blanks."""
    return repr(value) if isinstance(value, str) else yaml_text(value)


def yaml_text(value: Any) -> str:
    """A value as it is typed after `key=`."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The keys in which two sets of settings differ, with both values, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}={old} there, {new} now"
