"""A search space: the settings of a training that a search varies, with the values that it tries.

A file of `tune/` describes one:

    about: what the space is for
    train: {model: rescnn}                what every trial has, in place of what the recipe says
    space:
      optimiser.lr: {log: [1e-5, 1e-2]}   keys are settings of survey train; see survey/search/dimension.py

A space is checked before any work: the settings of a training are made for each end of each range and for
each choice. This needs neither torch nor Optuna, so a mistake is reported at once.
"""

import difflib
import itertools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from survey import plugins
from survey.models.options import is_baseline
from survey.recipes import find_file, merge_recipes, read_section, shipped
from survey.search.dimension import Dimension, read_dimension
from survey.settings import Settings, SettingsError, similar
from survey.training.settings import UNUSED, Train

if TYPE_CHECKING:
    from optuna.trial import Trial

SET_BY_SEARCH = (
    "store",
    "labels",
    "join",
    "run",
    "task",
    "targets",
    "split",
    "monitor",
    "seed",
    "start_from",
    "freeze",
    "learn_from",
    "keep",
)
"""Settings that a search does not vary: it sets them itself, or scores would not compare."""
MAX_GRID = 100_000
"""A grid of more points is a mistake."""

Values = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions, each after those that its conditions name.

    `lines` and `fixed` are the sections space and train of its file: what varies, and what every trial has.
    """

    path: str
    dimensions: tuple[Dimension, ...]
    lines: Mapping[str, Any]
    fixed: Mapping[str, Any]

    def to_dict(self) -> Values:
        """What the file says, wherever it lies."""
        return {"space": dict(self.lines), "train": dict(self.fixed)}

    def suggest(self, trial: "Trial", near: Mapping[str, Any] | None = None) -> Values:
        """A value for each active dimension; with `near`, numbers close to these stored values."""
        chosen: Values = {}
        for dimension in self.dimensions:
            if dimension.is_active(chosen):
                tried = dimension if near is None else dimension.narrowed(near.get(dimension.key))
                chosen[dimension.key] = tried.suggest(trial)
        return chosen

    def to_settings(self, params: Mapping[str, Any]) -> Values:
        """The values as the settings hold them, given those of the storage."""
        return {
            dimension.key: dimension.to_setting(params[dimension.key])
            for dimension in self.dimensions
            if dimension.key in params
        }

    def grid(self, points: int, seed: int) -> list[Values]:
        """The stored values of every combination of choices and of `points` values of each range.

        The seed gives their order. Combinations that differ only in inactive dimensions are one.
        """
        axes = [dimension.grid(points) for dimension in self.dimensions]
        count = float(np.prod([len(axis) for axis in axes], dtype=float))
        if count > MAX_GRID:
            raise SettingsError(
                f"{self.path}: space: the grid has {count:,.0f} points; give fewer points=, "
                "fewer dimensions, or sampler=tpe"
            )
        combinations: dict[str, Values] = {}
        for values in itertools.product(*axes):
            chosen: Values = {}
            for dimension, value in zip(self.dimensions, values, strict=True):
                if dimension.is_active(chosen):
                    chosen[dimension.key] = value
            combinations.setdefault(str(chosen), self._to_stored(chosen))
        rows = list(combinations.values())
        return [rows[number] for number in np.random.default_rng(seed).permutation(len(rows))]

    def _to_stored(self, chosen: Values) -> Values:
        return {
            dimension.key: dimension.to_stored(chosen[dimension.key])
            for dimension in self.dimensions
            if dimension.key in chosen
        }


def with_values(train: Values, chosen: Mapping[str, Any]) -> Values:
    """The settings of a training with values for some keys; another network brings its own options."""
    above: Values = {}
    for key, value in chosen.items():
        inner = above
        for name in key.split(".")[:-1]:
            inner = inner.setdefault(name, {})
        inner[key.rpartition(".")[2]] = value
    return merge_recipes(train, above)


def read_space(path: str, train: Values) -> SearchSpace:
    """The space of a file, checked against the training whose settings it varies."""
    file = find_file(path, "tune")
    if file is None:
        stems = sorted(shipped_path.stem for shipped_path in shipped("tune").glob("*.yaml"))
        raise SettingsError(
            f"space: {path}: no such file; {similar(Path(path).stem, stems)} "
            "(a space is the path of a YAML file, or the name of one that comes with the program)"
        )
    lines = read_section(file, "space")
    if not lines:
        raise SettingsError(
            f"{path}: space: is empty; name settings and the values to try, "
            "such as optimiser.lr: {log: [1e-5, 1e-2]}"
        )
    fixed = read_section(file, "train")
    base = merge_recipes(train, fixed)
    models = _models(f"{path}: space", lines, base)
    dimensions = {}
    for key, line in lines.items():
        where = f"{path}: space: {key}"
        dimensions[key] = read_dimension(where, key, line, _is_integer(where, key, models[key]))
    space = SearchSpace(path, tuple(_in_order(path, dimensions)), lines, fixed)
    for dimension in space.dimensions:
        if (value := value_at(fixed, dimension.key)) is not None:
            raise SettingsError(
                f"{path}: {dimension.key}: is fixed as {value!r} in train: and varied in space:; "
                "keep one of the two"
            )
    _check_ends(space, base)
    return space


def value_at(values: Any, key: str) -> Any:
    """The value of nested settings at a key with dots; None if there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _models(where: str, lines: Values, base: Values) -> dict[str, list[str]]:
    """The networks with which each key of the space may be active."""
    default = base.get("model", Train.model_fields["model"].default)
    line = lines.get("model")
    choices = line.get("choices") if isinstance(line, dict) else None
    every = [str(name) for name in choices] if isinstance(choices, list) else [default]
    known = plugins.names("models")
    if unknown := [name for name in every if name not in known]:
        raise SettingsError(
            f"{where}: model: there is no network {unknown[0]!r}; give one of {', '.join(known)}"
        )
    models: dict[str, list[str]] = {}
    for key, inner in lines.items():
        when = inner.get("when") if isinstance(inner, dict) else None
        wanted = when.get("model") if isinstance(when, dict) else None
        named = wanted if isinstance(wanted, list) else every if wanted is None else [wanted]
        models[key] = [name for name in every if name in named] or every
    return models


def _is_integer(where: str, key: str, models: list[str]) -> bool:
    """Whether the setting is a whole number. A setting that does not exist, or may not vary, is an error."""
    first = key.split(".")[0]
    if first in Train.NOT_IN_RESULT:
        raise SettingsError(f"{where}: does not change the result of a training; leave it out")
    if first in SET_BY_SEARCH:
        raise SettingsError(
            f"{where}: is set by the search itself, because scores would not compare; leave it out"
        )
    kinds = [_kind_of(where, key, model, len(models) > 1) for model in models]
    if first in UNUSED and (baselines := [model for model in models if is_baseline(model)]):
        raise SettingsError(
            f"{where}: {baselines[0]} does not use this setting, because it is not trained in epochs; "
            "leave it out, or give when: {model: [...]} with the networks that use it"
        )
    return all(int in _simple_types(kind) and float not in _simple_types(kind) for kind in kinds)


def _kind_of(where: str, key: str, model: str, one_of_several: bool) -> Any:
    """The type of a setting of a training with this network."""
    kinds = dict(_keys(Train, "")) | dict(_keys(plugins.options("models", model), "options."))
    if key in kinds:
        return kinds[key]
    near = difflib.get_close_matches(key, kinds, 1)
    advice = f"did you mean {near[0]}?" if near else "survey train --help lists the settings"
    if not key.startswith("options."):
        raise SettingsError(f"{where}: unknown setting; {advice}")
    condition = "; or give when: {model: [...]}" if one_of_several else ""
    raise SettingsError(f"{where}: unknown setting of {model}; {advice}{condition}")


def _keys(cls: type[Settings], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every setting of a class with its type, those of nested settings too."""
    for name, info in cls.model_fields.items():
        yield f"{prefix}{name}", info.annotation
        for kind in _simple_types(info.annotation):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield from _keys(kind, f"{prefix}{name}.")


def _simple_types(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows; those inside lists do not count."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _simple_types(typing.get_args(annotation)[0])
    if origin is None or origin in (tuple, list, dict, typing.Literal):
        return (origin or annotation,)
    return tuple(kind for inner in typing.get_args(annotation) for kind in _simple_types(inner))


def _in_order(path: str, dimensions: dict[str, Dimension]) -> list[Dimension]:
    """Each dimension after those that its conditions name."""
    for dimension in dimensions.values():
        _check_conditions(path, dimension, dimensions)
    placed: dict[str, Dimension] = {}
    while len(placed) < len(dimensions):
        waiting = [dimension for key, dimension in dimensions.items() if key not in placed]
        ready = [dimension for dimension in waiting if all(key in placed for key in dimension.when)]
        if not ready:
            keys = ", ".join(dimension.key for dimension in waiting)
            raise SettingsError(f"{path}: space: {keys} depend on each other; take one condition out")
        placed |= {dimension.key: dimension for dimension in ready}
    return list(placed.values())


def _check_conditions(path: str, dimension: Dimension, dimensions: dict[str, Dimension]) -> None:
    """Each condition is on a dimension of the space, with values that it has."""
    where = f"{path}: space: {dimension.key}: when"
    for key, values in dimension.when.items():
        if key not in dimensions:
            near = difflib.get_close_matches(key, dimensions, 1)
            advice = f"did you mean {near[0]}?" if near else "leave the condition out"
            raise SettingsError(f"{where}: {key} is not varied in this space; {advice}")
        choices = dimensions[key].choices
        if not choices:
            raise SettingsError(
                f"{where}: {key} has a range and no choices; give it choices, or leave the condition out"
            )
        if never := [value for value in values if value not in choices]:
            raise SettingsError(
                f"{where}: {key} is never {never[0]!r}; its choices are {', '.join(map(repr, choices))}"
            )


def _check_ends(space: SearchSpace, base: Values) -> None:
    """Every end of every range and every choice gives settings of a training; an error names one that does
    not.
    """
    by_key = {dimension.key: dimension for dimension in space.dimensions}

    def conditions(dimension: Dimension) -> Values:
        chosen: Values = {}
        for key, values in dimension.when.items():
            chosen |= conditions(by_key[key]) | {key: values[0]}
        return chosen

    for dimension in space.dimensions:
        for value in dimension.ends():
            chosen = conditions(dimension) | {dimension.key: value}
            Train.from_dict(f"{space.path}: space", with_values(base, chosen))
