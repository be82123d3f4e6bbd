"""The epochs of a training: how many are done, which one is best, and the checkpoint from which it continues.

Networks and baselines have the same bookkeeping; an epoch of a baseline is one of its reports. A training
that was stopped continues after the last epoch that was closed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from survey import files
from survey.settings import JobError
from survey.training import checkpoint
from survey.training.settings import Train, is_better


@dataclass
class State:
    """How far a training has come."""

    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    updates: int = 0
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    plateau: dict[str, Any] = field(default_factory=dict)


class StoppedError(Exception):
    """Raised by the receiver of the epochs' numbers to end a training that is in order."""


class Epochs:
    """The state of a training. `folder` holds its checkpoints; only the leader of several workers writes
    them.
    """

    def __init__(self, settings: Train, folder: str, is_leader: bool = True) -> None:
        self.settings, self.is_leader = settings, is_leader
        self.last, self.best = checkpoint.last(folder), checkpoint.best(folder)
        self.state = State()

    @property
    def can_resume(self) -> bool:
        """Whether both checkpoints are there; after the loss of one, the training starts again."""
        return files.exists(self.last) and files.exists(self.best)

    def resume(self) -> dict[str, Tensor]:
        """The tensors of the last checkpoint, and the state from it; none if there is no checkpoint."""
        if not self.can_resume:
            return {}
        tensors, document = checkpoint.read_tensors(self.last)
        self.state = State(**document["state"])
        return tensors

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or too many have passed since the best one."""
        patience = self.settings.patience
        is_impatient = patience > 0 and self.state.epoch - self.state.best_epoch >= patience
        return self.state.epoch >= self.settings.epochs or is_impatient

    def monitored(self, metrics: Mapping[str, float]) -> float:
        """The metric that decides which epoch is best; NaN if it is not there and not needed."""
        name = self.settings.monitor
        if name not in metrics and self.settings.keep == "best":
            raise JobError(
                f"train: monitor={name}: there is no such metric; give one of {', '.join(metrics)}"
            )
        return metrics.get(name, math.nan)

    def keep_if_best(self, value: float, weights: Callable[[], Mapping[str, Tensor]]) -> None:
        """Compare the current epoch with the best one, and write its weights if they are the ones to keep.

        An epoch that was not aligned by the full weight gives way to the next one, whatever its metric.
        """
        is_first, keeps_last = self.state.best is None, self.settings.keep == "last"
        if not (keeps_last or is_first or is_better(self.settings.monitor, value, self.state.best)):
            return
        counts = math.isfinite(value) and self.settings.align.is_full_at(self.state.epoch)
        self.state.best = value if counts else None
        self.state.best_epoch = self.state.epoch + 1
        if self.is_leader:
            checkpoint.write_tensors(self.best, weights(), {"epoch": self.state.best_epoch})

    def close(self, row: dict[str, float], tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """End the current epoch: write down its numbers, and everything that the next epoch needs."""
        self.state.epoch += 1
        self.state.history.append(row)
        if self.is_leader:
            checkpoint.write_tensors(self.last, tensors(), {"state": asdict(self.state)})
