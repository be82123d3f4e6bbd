"""The arguments of a command become the settings of a job.

    [RECIPE] [with=FILE.yaml] key=value ...

Each argument changes what stands before it. An argument that is nothing of this gets a sentence that says how
to write what was probably meant.
"""

import difflib
import logging
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from survey.help import nested_settings, setting_names
from survey.home_folder import expand_home
from survey.messages import shorten, without_secrets
from survey.recipes import find_file, merge, merge_recipes, parse, read_recipe, read_section, recipe_names
from survey.settings import JOBS, Settings, SettingsError, similar

WITH = "with="
"""The argument ``with=FILE.yaml`` changes the recipe by a second file, such as the winner of a search."""

NULL = ("", "null", "~")
"""How no value is written, where a setting may have none."""

MOST_SHOWN = 300
"""Letters of an argument that a message repeats."""

S = TypeVar("S", bound=Settings)


@dataclass
class Arguments:
    """The arguments of a job, sorted: recipes, files that change them, and settings."""

    recipes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)

    def recipe_name(self) -> str:
        """The name of the recipe without its folder; empty if there is none."""
        return Path(self.recipes[0]).name.removesuffix(".yaml") if self.recipes else ""


def load(cls: type[S], job: str, arguments: list[str]) -> S:
    """The settings of a job from its command line."""
    found = sort(cls, job, arguments)
    given = values(cls, job, found)
    try:
        settings = cls.from_dict(job, given)
    except SettingsError as error:
        raise SettingsError(_with_recipe(str(error), job, found)) from None
    _check_used(settings, job, found)
    _check_paths(settings, job, found)
    if cls.SAYS_DEFAULTS and found.recipes and job not in read_recipe(found.recipes[0], job)[1]:
        logging.getLogger(__name__).warning(
            "%s: the recipe %s has no section %s: its settings are the defaults",
            job,
            found.recipe_name(),
            job,
        )
    return settings


def _check_used(settings: Settings, job: str, found: Arguments) -> None:
    """An error if the command line gives a setting that is not used. A recipe may: it is for all commands."""
    given = {key.removeprefix(f"{job}.").partition(".")[0] for key, _ in found.settings}
    for name, unused in settings.UNUSED_BESIDE.items():
        if getattr(settings, name) and (both := [other for other in unused if other in given]):
            raise SettingsError(
                f"{job}: {both[0]}: is not used beside {name}=; leave out {both[0]}=, or {name}="
            )


def _check_paths(settings: Settings, job: str, found: Arguments) -> None:
    """An error if a text that is needed is empty: as a path, it would mean the current folder."""
    for name, info in type(settings).model_fields.items():
        if info.is_required() and getattr(settings, name) == "":
            message = f"{job}: {name}: is empty (is a shell variable unset?); give {name}=..."
            raise SettingsError(_with_recipe(f"{message} ({info.description})", job, found))


def _with_recipe(message: str, job: str, found: Arguments) -> str:
    """A message about settings, with the file of the recipe in the lines about values that come from it."""
    lines = []
    on_command_line = {key.removeprefix(f"{job}.") for key, _ in found.settings}
    for line in message.split("\n"):
        key = line.removeprefix(f"{job}: ").partition(": ")[0]
        for path in [*found.changes[::-1], *found.recipes]:
            if key not in on_command_line and _has(read_section(path, job), key.split(".")):
                line = f"{find_file(path)}: {line}"
                break
        lines.append(line)
    return "\n".join(lines)


def _has(section: Any, names: list[str]) -> bool:
    """Whether a section gives a value at a dotted key, or above it a value that is no section."""
    for name in names:
        if not isinstance(section, dict) or name not in section:
            return False
        section = section[name]
    return True


def values(cls: type[Settings], job: str, arguments: Arguments) -> dict[str, Any]:
    """All values that the recipe and the command line give, not checked yet."""
    given: dict[str, Any] = {}
    for number, path in enumerate([*arguments.recipes, *arguments.changes]):
        if number < len(arguments.recipes):
            _check_sections(cls, job, path)
        section = read_section(path, job)
        for name in cls.EXTRA_SECTIONS:
            section = merge({name: read_section(path, name)}, section)
        given = merge_recipes(given, section)
    if arguments.recipes and "tracking" in cls.model_fields:
        given = merge({"tracking": {"recipe": arguments.recipe_name()}}, given)
    _check_twice(job, arguments)
    for key, text in arguments.settings:
        names = key.removeprefix(f"{job}.").split(".")
        where = f"{job}: {shorten(key)}"
        _put(given, names, _value(_annotation(cls, names), text, where), where)
    return given


def _check_twice(job: str, arguments: Arguments) -> None:
    """An error if a setting is given twice: one of both is a mistake."""
    before: dict[str, str] = {}
    for key, text in arguments.settings:
        name = key.removeprefix(f"{job}.")
        if name in before:
            shown = " and ".join(f"{name}={shorten(value, 100)}" for value in (before[name], text))
            raise SettingsError(f"{job}: {shorten(name)}: given twice ({shown}); keep one")
        before[name] = text


def _annotation(cls: type[BaseModel], names: list[str]) -> Any:
    """The type of a setting; None if there is no such setting."""
    owner: type[BaseModel] | None = cls
    for name in names[:-1]:
        field = owner.model_fields.get(name) if owner else None
        owner = nested_settings(field.annotation) if field else None
    field = owner.model_fields.get(names[-1]) if owner else None
    return field.annotation if field else None


def _value(annotation: Any, text: str, where: str) -> Any:
    """The value of a setting. Paths and other text stay as they are written; all else is read as YAML."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{where}: {text!a}: letter {error.start} is no UTF-8; rename the file, or give a link to it"
        ) from None
    if annotation is str:
        return text
    if annotation == str | None:
        return None if text in NULL else text
    if annotation == tuple[str, ...] and not text.startswith("[") and text not in NULL:
        return text
    if _depth(text) > 0:
        raise SettingsError(f"{where}={shorten(text)}: a bracket is not closed; close it")
    value = _split_pairs(parse(text, where), where)
    return _with_digits(value, text) if annotation == tuple[str, ...] else value


def _with_digits(value: Any, text: str) -> Any:
    """A list of texts, where YAML would read an id of digits as a number: 0007 stays as it is written."""
    if not isinstance(value, list):
        return value
    written = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes texts, lists and dictionaries only
    return [digits if type(item) is int else item for item, digits in zip(value, written, strict=True)]


def sort(cls: type[Settings], job: str, arguments: list[str]) -> Arguments:
    """The arguments by kind. One that is no recipe and no setting is an error that says what to write."""
    found = Arguments()
    for number, item in enumerate(arguments):
        key, equals, text = item.partition("=")
        if item.startswith(WITH):
            found.changes.append(expand_home(item.removeprefix(WITH)))
        elif equals and key and not key.startswith("-"):
            found.settings.append((key, text))
        elif cls.ARGUMENT and not item.startswith(("-", "=")):
            found.settings.append((cls.ARGUMENT, item))
        elif not equals and not item.startswith("-") and find_file(expand_home(item)):
            found.recipes.append(expand_home(item))
        else:
            shown = [shorten(argument, MOST_SHOWN) for argument in arguments]
            raise SettingsError(f"{job}: {_what_to_write(cls, shown, number)}")
    if len(found.recipes) > 1:
        raise SettingsError(
            f"{job}: {shorten(' '.join(found.recipes))}: {len(found.recipes)} recipes; give one, and "
            "changes to it as key=value or with=FILE.yaml"
        )
    return found


def _what_to_write(cls: type[Settings], arguments: list[str], number: int) -> str:
    """A sentence about an argument that is no recipe and no setting."""
    item = arguments[number]
    following = arguments[number + 1] if number + 1 < len(arguments) else ""
    if pieces := _pieces(arguments, number):
        return f"{pieces}: a value with spaces needs quotation marks: '{pieces}'"
    if item.startswith("-"):
        name, equals, text = item.lstrip("-").partition("=")
        if not equals and is_like_help(item):
            return f"{item}: did you mean --help?"
        text = text if equals else ("" if "=" in following else following)
        return f"{item}: settings have no dashes; give {name.replace('-', '_')}={text or '...'}"
    if item.startswith("="):
        before = arguments[number - 1] if number else "KEY"
        value = item[1:] or following
        return f"{before} {item} {following}".rstrip() + f": leave out the spaces; give {before}={value}"
    if item in setting_names(cls) or item in cls.model_fields:
        if following.startswith("="):
            after = arguments[number + 2] if number + 2 < len(arguments) else "..."
            return f"{item} {following}: leave out the spaces; give {item}={following[1:] or after}"
        return f"{item}: a setting is written with =; give {item}={following or '...'}"
    if item.endswith((".yaml", ".yml")):
        return f"{item}: no such recipe; {similar(_stem(item), recipe_names())}"
    if "/" in item or (len(item) < 256 and Path(item).exists()):
        return f"{item}: {_key_for(cls, arguments, item)}"
    return (
        f"{item}: neither a recipe nor a setting; {similar(item, [*recipe_names(), *cls.model_fields])} "
        "(settings are written as key=value)"
    )


def is_like_help(item: str) -> bool:
    """Whether an argument with dashes seems to be a misspelt --help."""
    name = item.lstrip("-").lower()
    return item.startswith("-") and bool(
        name in ("h", "?") or difflib.get_close_matches(name, ["help", "usage"], 1)
    )


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".yaml").removesuffix(".yml")


def _pieces(arguments: list[str], number: int) -> str:
    """The pieces of a value with brackets that the shell has split at its spaces; empty if there are none."""
    first = max((index for index in range(number) if "=" in arguments[index]), default=number)
    joined, end = " ".join(arguments[first:number]), number
    if _depth(joined) <= 0:
        return ""
    while end < len(arguments) and _depth(joined) > 0:
        joined, end = f"{joined} {arguments[end]}", end + 1
    return joined


def _depth(text: str) -> int:
    """The number of brackets that are open at the end."""
    return sum(text.count(bracket) for bracket in "[{") - sum(text.count(bracket) for bracket in "]}")


def _key_for(cls: type[Settings], arguments: list[str], item: str) -> str:
    """Which setting a path without a key may be meant for."""
    given = {argument.partition("=")[0] for argument in arguments if "=" in argument}
    needed = [name for name, info in cls.model_fields.items() if info.is_required() and name not in given]
    if not needed:
        return "a setting is written as key=value; which one is this for?"
    return f"which setting is this for? give {' or '.join(f'{name}={item}' for name in needed)}"


def _check_sections(cls: type[Settings], job: str, recipe: str) -> None:
    """An error if a recipe is not for this job."""
    _, content = read_recipe(recipe, job)
    missing = [name for name in cls.NEEDED_SECTIONS if name not in content]
    if missing:
        sections = ", ".join(name for name in content if name != "about")
        raise SettingsError(
            f"{job}: {recipe}: this recipe has no section {missing[0]}, only {sections}; "
            f"give another recipe ({', '.join(_recipes_with(missing[0]))}), or none for the defaults"
        )


def _recipes_with(section: str) -> list[str]:
    """The recipes of the program that have a section."""
    return [name for name in recipe_names() if section in read_recipe(name, section)[1]]


def _split_pairs(value: Any, where: str) -> Any:
    """A value of the command line, with ``{FeH:my_feh}`` read as ``{FeH: my_feh}``."""
    if isinstance(value, list):
        return [_split_pairs(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    return dict(_pairs(value, where))


def _pairs(mapping: dict[Any, Any], where: str) -> Iterator[tuple[Any, Any]]:
    for key, value in mapping.items():
        if value is None and isinstance(key, str) and ":" in key and "://" not in key:
            name, _, text = key.partition(":")
            yield name, parse(text, where)
        else:
            yield key, _split_pairs(value, where)


def _put(values: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Set the value at a dotted key."""
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(
                f"{where}: {name} is {shorten(repr(inner))} in the recipe, it has no {path[-1]!r} inside; "
                f"give {name} alone"
            )
        values[name] = values = dict(inner)
    values[path[-1]] = value


def given_command() -> str:
    """The command that this process was started with, as one types it; empty if it is no job."""
    name, arguments = Path(sys.argv[0]), sys.argv[1:]
    job = sys.argv[0].removeprefix("survey ") if sys.argv[0].startswith("survey ") else name.stem
    if job not in JOBS or (name.suffix != ".py" and job == sys.argv[0]):
        return ""
    return without_secrets(shlex.join(["survey", job, *arguments]))
