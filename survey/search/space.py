"""A search space: which settings of a training are tried with which values. Data, from a file of `tune/`; checked before any work.

    about: what it is for
    train: {model: rescnn}                what every trial has, over what the recipe says
    space:
      optimiser.lr: {log: [1e-5, 1e-2]}   keys are settings of jobs/train.py with dots; see survey/search/knobs.py

It is checked by making the settings of a training with each end of each range and each choice.
"""

import difflib
import itertools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import Trial

from survey import plugins
from survey.models.baseline import Fitted
from survey.search.dimension import Distribution, Knob, knob
from survey.settings import Settings, SettingsError, over, section
from survey.training.fit import UNUSED
from survey.training.train import Train

OWN = (
    "store",
    "labels",
    "join",
    "run",
    "task",
    "targets",
    "split",
    "monitor",
    "seed",
    "before",
    "freeze",
    "learn_from",
    "keep",
)
"""Settings that a search does not try: it sets them itself, or scores would not compare."""
Values = dict[str, Any]
MOST = 100_000
"""A grid of more points is a mistake."""


@dataclass(frozen=True)
class Space:
    """The knobs in an order in which conditions come before what hangs on them; `fixed`: what every trial has."""

    path: str
    knobs: tuple[Knob, ...]
    fixed: Mapping[str, Any]
    text: Mapping[str, Any]

    def drawn(self, trial: Trial, near: Mapping[str, Any] | None = None) -> Values:
        """A value for each knob that counts; `near`: numbers close to these."""
        chosen: Values = {}
        for one in self.knobs:
            if one.counts(chosen):
                chosen[one.key] = (
                    one if near is None else Knob(one.key, one.near(near.get(one.key)), one.when, one.choices)
                ).drawn(trial)
        return chosen

    def plain(self, params: Mapping[str, Any]) -> Values:
        """What the settings say for what the storage says."""
        return {one.key: one.plain(params[one.key]) for one in self.knobs if one.key in params}

    def usual(self, values: Values) -> Values:
        """Those knobs of a training that stand at one of their values, as the storage says it."""
        chosen: Values = {}
        told: Values = {}
        for one in self.knobs:
            found = _usual(values, one.key)
            if one.counts(chosen) and (kept := one.told(found)) is not None:
                chosen[one.key], told[one.key] = one.plain(kept), kept
        return told

    def grid(self, points: int, seed: int) -> list[Values]:
        """Every combination of choices and of so many values of each range, in an order drawn by the seed."""
        count = float(np.prod([len(one.points(points)) for one in self.knobs], dtype=float))
        if count > MOST:
            raise SettingsError(
                f"{self.path}: space: a grid of {count:,.0f} points; give fewer points=, fewer knobs, or sampler=tpe"
            )
        found: dict[str, Values] = {}
        for values in itertools.product(*(one.points(points) for one in self.knobs)):
            chosen: Values = {}
            for one, value in zip(self.knobs, values, strict=True):
                if one.counts(chosen):
                    chosen[one.key] = value
            found.setdefault(
                str(chosen), {one.key: one.told(chosen[one.key]) for one in self.knobs if one.key in chosen}
            )
        rows = list(found.values())
        return [rows[number] for number in np.random.default_rng(seed).permutation(len(rows))]

    def distributions(self) -> dict[str, Distribution]:
        """The values of each knob."""
        return {one.key: one.distribution for one in self.knobs}


def laid_over(train: Values, chosen: Mapping[str, Any]) -> Values:
    """Settings of a training with values for some keys; another network brings options of its own."""
    above: Values = {}
    for key, value in chosen.items():
        inner = above
        for name in key.split(".")[:-1]:
            inner = inner.setdefault(name, {})
        inner[key.rpartition(".")[2]] = value
    return over(train, above)


def checked(where: str, values: Values) -> Train:
    """The settings of a training, those of its network too."""
    made = Train.checked(where, values)
    plugins.options("models", made.model).checked(f"{where}: options of {made.model}", made.options)
    return made


def read(path: str, train: Values) -> Space:
    """The space of a file, checked against the training that it is laid over."""
    if not Path(path).is_file():
        raise SettingsError(
            f"tune: space: {path}: no such file; give a YAML file with a space, such as one of tune/*.yaml"
        )
    told = section(Path(path), "space")
    if not told:
        raise SettingsError(
            f"{path}: space: says nothing; name settings and how they vary, such as optimiser.lr: {{log: [1e-5, 1e-2]}}"
        )
    fixed = section(Path(path), "train")
    base = over(train, fixed)
    models = _models(f"{path}: space", told, base)
    knobs = [
        knob(f"{path}: space: {key}", key, line, _whole(f"{path}: space: {key}", key, models))
        for key, line in told.items()
    ]
    ordered = _ordered(path, {one.key: one for one in knobs})
    space = Space(path, tuple(ordered), fixed, {"space": told, "train": fixed})
    for one in ordered:
        if _at(fixed, one.key) is not None:
            raise SettingsError(
                f"{path}: {one.key}: {_at(fixed, one.key)!r} in its train:, but tried in its space:; keep one of them"
            )
    _rehearse(space, base)
    return space


def _at(values: Any, key: str) -> Any:
    """What nested values say at a key with dots, None where nothing."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _usual(values: Values, key: str) -> Any:
    """What a training has at a key, said or by default; a learning rate that is left to the network is the network's."""
    made = checked("tune: train", values)
    network = plugins.load("models", made.model)
    if key == "optimiser.lr" and made.optimiser.lr is None:
        return network.Net.rate
    whole = made.model_dump(mode="json")
    whole["options"] = network.Options.checked("tune: train", made.options).model_dump(mode="json")
    return _at(whole, key)


def _models(where: str, told: Values, base: Values) -> dict[str, list[str]]:
    """For each key of the space, the networks with which it may count."""
    usual = base.get("model", Train.model_fields["model"].default)
    line = told.get("model")
    listed = line.get("choices") if isinstance(line, dict) else None
    every = [str(name) for name in listed] if isinstance(listed, list) else [usual]
    for name in every:
        if name not in plugins.names("models"):
            raise SettingsError(
                f"{where}: model: there is no network {name!r}; there are {', '.join(plugins.names('models'))}"
            )
    found: dict[str, list[str]] = {}
    for key, inner in told.items():
        when = inner.get("when") if isinstance(inner, dict) else None
        wanted = when.get("model") if isinstance(when, dict) else None
        named = wanted if isinstance(wanted, list) else every if wanted is None else [wanted]
        found[key] = [name for name in every if name in named] or every
    return found


def _whole(where: str, key: str, models: Mapping[str, list[str]]) -> bool:
    """Whether a key's setting is a whole number; an error where there is no such setting, or none to try."""
    if key.split(".")[0] in OWN or key in Train.INERT or key.split(".")[0] in Train.INERT:
        why = (
            "does not change what comes out"
            if key.split(".")[0] in Train.INERT
            else "is set by the search itself, or scores would not compare"
        )
        raise SettingsError(f"{where}: {why}; leave it out")
    kinds = []
    for model in models[key]:
        there = dict(_keys(Train, "")) | dict(_keys(plugins.options("models", model), "options."))
        if key not in there:
            near = difflib.get_close_matches(key, there, 1)
            advice = f"did you mean {near[0]}?" if near else "python jobs/train.py --help lists them"
            other = f" of {model}" if key.startswith("options.") else ""
            last = (
                "; or give when: {model: [...]}"
                if key.startswith("options.") and len(models[key]) > 1
                else ""
            )
            raise SettingsError(f"{where}: unknown setting{other}; {advice}{last}")
        if key.split(".")[0] in UNUSED and issubclass(plugins.load("models", model).Net, Fitted):
            raise SettingsError(
                f"{where}: means nothing to {model}, which is fitted at once; leave it out, or say when: {{model: [...]}} it counts"
            )
        kinds.append(there[key])
    return all(int in _plain_kinds(kind) and float not in _plain_kinds(kind) for kind in kinds)


def _keys(cls: type[Settings], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every setting of a class with its type, those inside it too."""
    for name, info in cls.model_fields.items():
        yield f"{prefix}{name}", info.annotation
        for kind in _plain_kinds(info.annotation):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield from _keys(kind, f"{prefix}{name}.")


def _plain_kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows; those inside lists do not count."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain_kinds(typing.get_args(annotation)[0])
    if origin is None or origin in (tuple, list, dict, typing.Literal):
        return (origin or annotation,)
    return tuple(kind for part in typing.get_args(annotation) for kind in _plain_kinds(part))


def _ordered(path: str, knobs: dict[str, Knob]) -> list[Knob]:
    """Conditions before what hangs on them; each on a knob of the space, with values that it has."""
    done: dict[str, Knob] = {}
    for one in knobs.values():
        for key, wanted in one.when.items():
            where = f"{path}: space: {one.key}: when"
            if key not in knobs:
                near = difflib.get_close_matches(key, knobs, 1)
                raise SettingsError(
                    f"{where}: {key} is not tried in this space; {f'did you mean {near[0]}?' if near else 'leave the condition out'}"
                )
            if not knobs[key].choices:
                raise SettingsError(
                    f"{where}: {key} has a range, no choices; give it choices, or leave the condition out"
                )
            if never := [value for value in wanted if value not in knobs[key].choices]:
                raise SettingsError(
                    f"{where}: {key} is never {never[0]!r}; its choices are {', '.join(map(repr, knobs[key].choices))}"
                )
    while len(done) < len(knobs):
        ready = [
            one for one in knobs.values() if one.key not in done and all(key in done for key in one.when)
        ]
        if not ready:
            raise SettingsError(
                f"{path}: space: {', '.join(key for key in knobs if key not in done)} hang on one another; take one condition out"
            )
        done |= {one.key: one for one in ready}
    return list(done.values())


def _rehearse(space: Space, base: Values) -> None:
    """Every end of every range and every choice makes settings of a training, or an error names it."""
    by_key = {one.key: one for one in space.knobs}

    def with_conditions(one: Knob) -> Values:
        chosen: Values = {}
        for key, wanted in one.when.items():
            chosen |= with_conditions(by_key[key]) | {key: wanted[0]}
        return chosen

    for one in space.knobs:
        for value in one.ends():
            checked(f"{space.path}: space", laid_over(base, with_conditions(one) | {one.key: value}))
