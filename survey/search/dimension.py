"""One line of a search space: a setting of a training, and the values that it may have.

optimiser.lr: {log: [1e-5, 1e-2]}                                   numbers, even in their logarithm
epochs: {range: [10, 40], step: 10}                                 numbers, even
options.version: {choices: [first, second], when: {model: rescnn}}  anything, and only where another setting is so
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from survey.settings import SettingsError

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
KINDS = ("log", "range", "choices")
DIGITS = 4
"""Numbers are tried with so many digits: a learning rate of 0.001873 is none better than 0.0018733472."""


@dataclass(frozen=True)
class Knob:
    """A setting by its key, its values, and the values of other settings with which it counts at all."""

    key: str
    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]]
    choices: tuple[Any, ...] = ()

    def counts(self, chosen: Mapping[str, Any]) -> bool:
        """Whether it is to be set at all, others being set so."""
        return all(key in chosen and chosen[key] in wanted for key, wanted in self.when.items())

    def drawn(self, trial: Trial) -> Any:
        """A value for a trial, in the words of the settings."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return self.plain(trial.suggest_categorical(self.key, distribution.choices))
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(
                self.key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        found = trial.suggest_float(
            self.key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
        return self.plain(found)

    def plain(self, told: Any) -> Any:
        """What the settings say for what the storage says."""
        if self.choices:
            return next(
                choice
                for choice in self.choices
                if _told(choice) == told and isinstance(_told(choice), type(told))
            )
        if isinstance(told, float) and isinstance(self.distribution, FloatDistribution):
            short = float(f"{told:.{DIGITS}g}")
            return min(max(short, self.distribution.low), self.distribution.high)
        return told

    def told(self, value: Any) -> Any:
        """What the storage says for what the settings say, or None where that is none of its values."""
        try:
            found: Any = (
                _told(value)
                if self.choices
                else float(value)
                if isinstance(self.distribution, FloatDistribution)
                else value
            )
            inside = self.distribution._contains(self.distribution.to_internal_repr(found))
        except (TypeError, ValueError):
            return None
        return found if inside else None

    def ends(self) -> list[Any]:
        """The values by which it is checked: the outermost, or all choices."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.choices)
        return [self.distribution.low, self.distribution.high]

    def points(self, count: int) -> list[Any]:
        """So many values for a grid, evenly over the range; all choices."""
        one = self.distribution
        if isinstance(one, CategoricalDistribution):
            return list(self.choices)
        if one.step and not one.log:
            steps = round((one.high - one.low) / one.step)
            taken = np.unique(np.linspace(0, steps, min(count, steps + 1)).round())
            return [
                one.low + (int(step) if isinstance(one, IntDistribution) else float(step)) * one.step
                for step in taken
            ]
        spread = np.geomspace(one.low, one.high, count) if one.log else np.linspace(one.low, one.high, count)
        if isinstance(one, IntDistribution):
            return sorted({int(value) for value in spread.round()})
        return [self.plain(float(value)) for value in spread]

    def near(self, best: Any) -> Distribution:
        """Its values from half to twice a number, as far as it has them; choices stay as they are."""
        one = self.distribution
        if isinstance(one, CategoricalDistribution) or not best:
            return one
        low, high = sorted((0.5 * best, 2 * best))
        low, high = max(one.low, low), min(one.high, high)
        if one.step and not one.log:
            low = one.low + math.ceil((low - one.low) / one.step - 1e-9) * one.step
            high = one.low + math.floor((high - one.low) / one.step + 1e-9) * one.step
        if isinstance(one, IntDistribution):
            return IntDistribution(math.ceil(low), math.floor(high), log=one.log, step=one.step)
        return FloatDistribution(low, high, log=one.log, step=one.step)


def _told(value: Any) -> Any:
    """A choice as the storage keeps it: lists and settings as their JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | tuple | dict) else value


def knob(where: str, key: str, line: Any, whole: bool) -> Knob:
    """A line of a space, checked by itself; `whole`: its setting is a whole number."""
    if not isinstance(line, dict) or len([name for name in KINDS if name in line]) != 1:
        raise SettingsError(
            f"{where}: {line!r}: say how it varies: {{log: [low, high]}}, {{range: [low, high], step: 1}} or {{choices: [...]}}"
        )
    if strange := [name for name in line if name not in (*KINDS, "step", "when")]:
        raise SettingsError(f"{where}: {strange[0]}: unknown word; there are {', '.join(KINDS)}, step, when")
    when = _conditions(where, line.get("when", {}))
    if "choices" in line:
        return _of_choices(where, key, line, when)
    kind = "log" if "log" in line else "range"
    low, high = _ends(f"{where}: {kind}", line[kind], whole)
    if kind == "log" and low <= 0:
        raise SettingsError(
            f"{where}: log: begins at {low:g}, which has no logarithm; begin above 0, or give a range"
        )
    if "step" not in line:
        return Knob(
            key,
            IntDistribution(low, high, log=kind == "log")
            if whole
            else FloatDistribution(low, high, log=kind == "log"),
            when,
        )
    if kind == "log":
        raise SettingsError(
            f"{where}: step: {line['step']!r}: a range in logarithms has no steps; leave it out, or give a range"
        )
    step = _number(f"{where}: step", line["step"], whole)
    if step <= 0 or step > high - low or abs((high - low) / step - round((high - low) / step)) > 1e-6:
        raise SettingsError(
            f"{where}: step: {step:g}: does not lead from {low:g} to {high:g}; give one that does"
        )
    return Knob(
        key, IntDistribution(low, high, step=step) if whole else FloatDistribution(low, high, step=step), when
    )


def _of_choices(where: str, key: str, line: dict[str, Any], when: dict[str, tuple[Any, ...]]) -> Knob:
    choices = line["choices"]
    if not isinstance(choices, list) or not choices:
        raise SettingsError(f"{where}: choices: {choices!r}: give a list of values, two or more")
    if len({json.dumps(choice, sort_keys=True) for choice in choices}) < len(choices):
        raise SettingsError(f"{where}: choices: {choices!r}: holds a value twice; give each once")
    if "step" in line:
        raise SettingsError(f"{where}: step: {line['step']!r}: choices have no steps; leave it out")
    return Knob(key, CategoricalDistribution([_told(choice) for choice in choices]), when, tuple(choices))


def _ends(where: str, ends: Any, whole: bool) -> tuple[Any, Any]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise SettingsError(f"{where}: {ends!r}: give two numbers, [low, high]")
    low, high = (_number(where, end, whole) for end in ends)
    if low >= high:
        raise SettingsError(
            f"{where}: from {low:g} to {high:g} there is nothing; give the smaller number first, [{high:g}, {low:g}]"
        )
    return low, high


def _number(where: str, value: Any, whole: bool) -> Any:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise SettingsError(f"{where}: {value!r} is no number; give one")
    if whole and type(value) is not int:
        raise SettingsError(f"{where}: {value!r}: the setting is a whole number; give one")
    return value if whole else float(value)


def _conditions(where: str, when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, dict):
        raise SettingsError(
            f"{where}: when: {when!r}: give the settings and values with which it counts, such as {{model: rescnn}}"
        )
    return {key: tuple(value) if isinstance(value, list) else (value,) for key, value in when.items()}
