"""One dimension of a search space: a setting of a training and the values that a search tries for it.

optimiser.lr: {log: [1e-5, 1e-2]}                                   numbers, evenly spread in their logarithm
epochs: {range: [10, 40], step: 10}                                 numbers, evenly spread
options.version: {choices: [first, second], when: {model: rescnn}}  any values; used only if model is rescnn
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from survey.settings import SettingsError

if TYPE_CHECKING:
    from optuna.trial import Trial

KINDS = ("log", "range", "choices")
ROUNDING = 1e-9
"""Numbers that differ by this share of the range, or of a step, are the same."""
DIGITS = 4
"""Numbers are tried with this many digits: a learning rate of 0.001873 is as good as one of 0.0018733472."""


@dataclass(frozen=True)
class Dimension:
    """A setting by its key, with its choices or its range.

    `when`: the values that other settings must have. `is_integer`: the setting is a whole number.
    `step` is None where every number of the range may be tried.
    """

    key: str
    low: Any = 0
    high: Any = 0
    step: Any = None
    log: bool = False
    is_integer: bool = False
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def is_active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether its conditions hold, given the values of other dimensions."""
        return all(key in chosen and chosen[key] in values for key, values in self.when.items())

    def suggest(self, trial: "Trial") -> Any:
        """A value that Optuna suggests for a trial, as the settings hold it."""
        if self.choices:
            return self.to_setting(trial.suggest_categorical(self.key, self.stored_choices()))
        if self.is_integer:
            return trial.suggest_int(self.key, self.low, self.high, step=self.step, log=self.log)
        return self.to_setting(
            trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        )

    def stored_choices(self) -> list[Any]:
        """The choices as Optuna's storage holds them."""
        return [_stored(choice) for choice in self.choices]

    def to_setting(self, stored: Any) -> Any:
        """The value for the settings, given the value in the storage."""
        if self.choices:
            return next(choice for choice in self.choices if _equal(_stored(choice), stored))
        if self.is_integer:
            return stored
        return min(max(float(f"{stored:.{DIGITS}g}"), self.low), self.high)

    def to_stored(self, value: Any) -> Any:
        """The value for the storage, given the value in the settings; None if it is not in the dimension."""
        if self.choices:
            found = (choice for choice in self.stored_choices() if _equal(choice, _stored(value)))
            return next(found, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        steps = (value - self.low) / (self.step or 1)
        is_on_step = self.log or self.step is None or abs(steps - round(steps)) < 1e-8
        slack = ROUNDING * (self.high - self.low)
        if not (self.low - slack <= value <= self.high + slack and is_on_step):
            return None
        return value if self.is_integer else min(max(float(value), self.low), self.high)

    def ends(self) -> list[Any]:
        """The values that a check tries: both ends of the range, or all choices."""
        return list(self.choices) or [self.low, self.high]

    def grid(self, points: int) -> list[Any]:
        """The values of a grid: all choices, or this many numbers evenly over the range."""
        if self.choices:
            return list(self.choices)
        if self.step and not self.log:
            steps = round((self.high - self.low) / self.step)
            taken = np.unique(np.linspace(0, steps, min(points, steps + 1)).round())
            return [self._after(int(count)) for count in taken]
        spread = np.geomspace if self.log else np.linspace
        values = spread(self.low, self.high, points)
        if self.is_integer:
            return sorted({int(value) for value in values.round()})
        return [self.to_setting(float(value)) for value in values]

    def narrowed(self, best: Any) -> Self:
        """The dimension from half to twice a stored number, within its range; choices stay as they are."""
        if self.choices or not best:
            return self
        low, high = sorted((0.5 * best, 2 * best))
        low, high = max(self.low, low), min(self.high, high)
        if self.step and not self.log:
            low = self._after(math.ceil((low - self.low) / self.step - ROUNDING))
            high = self._after(math.floor((high - self.low) / self.step + ROUNDING))
        if self.is_integer:
            low, high = math.ceil(low), math.floor(high)
        return replace(self, low=low, high=high)

    def _after(self, steps: int) -> Any:
        """The number that lies so many steps above the lower end: 0.3, not 0.1 + 2 * 0.1, which is above."""
        value = self.low + steps * self.step
        if self.is_integer:
            return value
        return min(round(value, 9 - math.floor(math.log10(self.step))), self.high)


def _stored(value: Any) -> Any:
    """A choice as the storage holds it: lists and settings as their JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | tuple | dict) else value


def _equal(first: Any, second: Any) -> bool:
    """Equality in which true is not 1."""
    return bool(first == second) and isinstance(first, bool) == isinstance(second, bool)


def read_dimension(where: str, key: str, line: Any, is_integer: bool) -> Dimension:
    """The dimension that a line of a space describes, checked by itself."""
    if not isinstance(line, dict) or len([name for name in KINDS if name in line]) != 1:
        raise SettingsError(
            f"{where}: {line!r} does not say which values to try; give {{log: [low, high]}}, "
            "{range: [low, high], step: 1} or {choices: [...]}"
        )
    if unknown := [name for name in line if name not in (*KINDS, "step", "when")]:
        raise SettingsError(f"{where}: {unknown[0]}: unknown word; give {', '.join(KINDS)}, step or when")
    when = _conditions(where, line.get("when", {}))
    if "choices" in line:
        return Dimension(key, is_integer=is_integer, choices=_choices(where, line), when=when)
    log = "log" in line
    low, high = _ends(f"{where}: {'log' if log else 'range'}", line["log" if log else "range"], is_integer)
    if log and low <= 0:
        raise SettingsError(
            f"{where}: log: the range begins at {low:g}, which has no logarithm; "
            "begin above 0, or give range instead of log"
        )
    step = _step(where, line, low, high, is_integer)
    return Dimension(key, low, high, step, log, is_integer, when=when)


def _choices(where: str, line: dict[str, Any]) -> tuple[Any, ...]:
    choices = line["choices"]
    if not isinstance(choices, list) or not choices:
        raise SettingsError(f"{where}: choices: {choices!r} is not a list of values; give two or more")
    stored = [_stored(choice) for choice in choices]
    if any(_equal(first, second) for place, first in enumerate(stored) for second in stored[:place]):
        raise SettingsError(f"{where}: choices: {choices!r} holds a value twice; give each value once")
    if "step" in line:
        raise SettingsError(f"{where}: step: {line['step']!r}: choices have no step; leave step out")
    return tuple(choices)


def _ends(where: str, ends: Any, is_integer: bool) -> tuple[Any, Any]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise SettingsError(f"{where}: {ends!r} is not a range; give two numbers, [low, high]")
    low, high = (_number(where, end, is_integer) for end in ends)
    if low >= high:
        raise SettingsError(
            f"{where}: the range [{low:g}, {high:g}] is empty; give [low, high] with low below high"
        )
    return low, high


def _step(where: str, line: dict[str, Any], low: Any, high: Any, is_integer: bool) -> Any:
    """The step of a range; without one, whole numbers have a step of 1 and others none."""
    if "step" not in line:
        return 1 if is_integer else None
    if "log" in line:
        raise SettingsError(
            f"{where}: step: {line['step']!r}: a logarithmic range has no step; "
            "leave step out, or give range instead of log"
        )
    step = _number(f"{where}: step", line["step"], is_integer)
    count = (high - low) / step if step > 0 else 0
    if count < 1 or abs(count - round(count)) > 1e-6:
        raise SettingsError(
            f"{where}: step: {step:g} does not lead from {low:g} to {high:g}; give a step that does"
        )
    return step


def _number(where: str, value: Any, is_integer: bool) -> Any:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise SettingsError(f"{where}: {value!r} is not a number; give one")
    if is_integer and type(value) is not int:
        raise SettingsError(f"{where}: {value!r}: the setting is a whole number; give one")
    return value if is_integer else float(value)


def _conditions(where: str, when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, dict):
        raise SettingsError(
            f"{where}: when: {when!r} is not a condition; give settings with the values that they need, "
            "such as {model: rescnn}"
        )
    return {key: tuple(value) if isinstance(value, list) else (value,) for key, value in when.items()}
