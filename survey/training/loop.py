"""The one training loop: batches to gradients to weights, epoch by epoch, on whatever device, alone or as one of a crew.

Every random number is drawn from (seed, epoch, step), for the whole batch, so a training that was stopped and goes on, and one that is shared
out among workers, does what the undisturbed one does.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from survey import files
from survey.models.network import Network
from survey.settings import JobError, Settings
from survey.training import checkpoint
from survey.training.augment import Augment, augmented
from survey.training.batches import Feed, Spectra, Step
from survey.training.distributed import Crew
from survey.training.losses import Criterion, Truth
from survey.training.optimise import Optimiser, Plateau, Schedule, make, rate, set_rate
from survey.training.precision import Precision, arithmetic
from survey.training.synthesis import Variation

SMALLER_IS_BETTER = ("loss", "log_loss", "mae", "rmse", "ece", "brier")


class Course(Settings):
    """How a network is trained, whatever it is trained for."""

    epochs: int = Field(60, ge=1, description="how often the training set is gone through, at most")
    batch: int = Field(64, ge=1, description="spectra of one step, over all workers")
    accumulate: int = Field(
        1, ge=1, description="parts in which a step is worked off, for batches that do not fit into memory"
    )
    optimiser: Optimiser = Field(Optimiser(), description="how gradients become steps")
    schedule: Schedule = Field(Schedule(), description="how the learning rate goes on")
    clip: float = Field(
        1.0, ge=0, description="longest gradient; longer ones are shortened to it; 0 = as they are"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of a running mean of the weights, which is then what is kept; 0 = none",
    )
    precision: Precision = Field(
        "auto", description="of the arithmetic in the network; auto = bf16 on GPUs that have it"
    )
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights the run keeps")
    monitor: str = Field(
        "loss",
        description="validation metric that says which epoch is best, such as loss, f1_CEMP or mae_FeH",
    )
    patience: int = Field(0, ge=0, description="stop after so many epochs without a better one; 0 = never")
    nan: Literal["stop", "skip"] = Field(
        "stop", description="a step without finite gradients ends the training, or is left out and counted"
    )
    seed: int = Field(2024, ge=0, description="of all random numbers")
    augment: Augment = Field(Augment(), description="how spectra are changed in training")


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
    """Raised by one who watches a training: it is to end here, and nothing is wrong with it."""


Validate = Callable[[Network], dict[str, float]]
Watch = Callable[[dict[str, float]], None]
Advance = Callable[[int, str], None]


def better(monitor: str, value: float, best: float | None) -> bool:
    """Whether a metric has improved; its name says in which direction that is. A bias is better the nearer it is to 0."""
    if not math.isfinite(value):
        return False
    if monitor.startswith("bias"):
        return best is None or abs(value) < abs(best)
    return best is None or (value < best if monitor.startswith(SMALLER_IS_BETTER) else value > best)


def seeded(seed: int, *what: int) -> int:
    """A seed of its own for each purpose, epoch and step."""
    return int(np.random.SeedSequence([seed, *what]).generate_state(1, np.uint64)[0] >> 1)


class Loop:
    """One training. `folder` receives a checkpoint after each epoch; a loop made anew on it goes on after the last one."""

    def __init__(
        self,
        course: Course,
        net: Network,
        criterion: Criterion,
        feed: Feed,
        truth: Truth,
        folder: str,
        crew: Crew,
        device: torch.device,
        variation: Variation | None = None,
    ) -> None:
        self.course, self.net, self.criterion, self.feed, self.crew, self.device = (
            course,
            net,
            criterion,
            feed,
            crew,
            device,
        )
        self.last, self.best = checkpoint.last(folder), checkpoint.best(folder)
        self.truth, self.variation = truth.to(device), variation
        self.lr = course.optimiser.lr or net.rate
        self.optimiser = make(course.optimiser, net, self.lr)
        self.state, self.plateau = State(), Plateau()
        self.mean = [value.detach().clone() for value in net.parameters()] if course.ema else []
        self._resume()
        self.shared = crew.shared(net, device)
        self.dice = torch.Generator(device)
        self.changes = any(
            method["probability"] > 0
            for method in course.augment.lasting().values()
            if isinstance(method, dict)
        )

    def run(self, validate: Validate, watch: Watch, advance: Advance) -> State:
        """Train to the end; `watch` gets a row of numbers after each epoch, `advance` the spectra done after each step."""
        while self.state.epoch < self.course.epochs and not self._out_of_patience():
            started, lr = time.perf_counter(), 0.0
            loss, seen, number = torch.zeros((), device=self.device), 0, -1
            self._to_training()
            steps = self.feed.steps(self.state.epoch)
            for number, step in enumerate(self.feed.epoch(self.state.epoch)):
                lr = self._set_rate(self.state.epoch + number / steps)
                loss += self._step(step, number)
                seen += len(step.all)
                if self.crew.leads:
                    advance(len(step.all), f"epoch {self.state.epoch + 1}/{self.course.epochs}")
            if number < 0:
                raise JobError(
                    f"train: epoch {self.state.epoch + 1}: not one batch of {self.feed.batch} came together; give a smaller batch="
                )
            trained = time.perf_counter() - started
            row = {
                "epoch": float(self.state.epoch + 1),
                "lr": lr,
                "train_loss": float(self.crew.summed(loss)) / (number + 1),
            }
            row |= {f"validation_{name}": value for name, value in self._validated(validate).items()}
            row |= {
                "seconds": time.perf_counter() - started,
                "spectra_per_second": seen / trained,
                "skipped_steps": float(self.state.skipped),
            }
            if self.device.type == "cuda":
                row["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
            self._close(row)
            if self.crew.leads:
                watch(row)
        return self.state

    def _to_training(self) -> None:
        """Dropout and batch statistics on, except in layers that are frozen: theirs stay as they are."""
        self.shared.train()
        for part in self.net.modules():
            if (
                isinstance(part, nn.modules.batchnorm._BatchNorm)
                and part.affine
                and not any(own.requires_grad for own in part.parameters())
            ):
                part.eval()

    def _out_of_patience(self) -> bool:
        return bool(self.course.patience) and self.state.epoch - self.state.best_epoch >= self.course.patience

    def _set_rate(self, epoch: float) -> float:
        lr = rate(self.course.schedule, self.lr, epoch, self.course.epochs, self.plateau.cut)
        set_rate(self.optimiser, lr)
        return lr

    def _step(self, step: Step, number: int) -> Tensor:
        """One step of the optimiser; gives this worker's share of the loss."""
        torch.manual_seed(seeded(self.course.seed, 2, self.state.epoch, number))
        self.dice.manual_seed(seeded(self.course.seed, 3, self.state.epoch, number))
        whole, lit = self.truth[torch.from_numpy(step.all).to(self.device)], step.spectra.to(self.device)
        first = self.crew.rank * len(step.mine)
        if self.variation:
            drawn = self.variation.drawn(step.all, (self.course.seed, 5, self.state.epoch, number))
            whole, lit = self.variation.truth(whole, drawn), self.variation.spectra(lit, drawn, first)
        weights, mine = self.criterion.weights(whole), whole[first : first + len(step.mine)]
        lit = self._augmented(lit)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        size = -(-len(lit) // self.course.accumulate)
        for first in range(0, len(lit), size):
            rows = slice(first, first + size)
            with self._together(first + size >= len(lit)):
                loss = self._loss(lit[rows], mine[rows], weights)
                torch.autograd.backward(
                    loss * self.crew.size
                )  # workers' gradients are averaged, the loss is a sum over them
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.course.clip or math.inf)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self._remember()
            return total
        self._troubled(step, number, lit)
        return torch.zeros_like(total)

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between workers with the last part of a step only."""
        return nullcontext() if last or self.crew.size == 1 else self.shared.no_sync()  # type: ignore[operator]

    def _augmented(self, spectra: Spectra) -> Spectra:
        if not self.changes:
            return spectra
        share = (self.crew.rank, self.crew.size)
        return Spectra(
            *augmented(self.course.augment, spectra.flux, spectra.ivar, spectra.continuum, self.dice, share)
        )

    def _loss(self, lit: Spectra, truth: Truth, weights: Tensor) -> Tensor:
        with arithmetic(self.course.precision, self.device):
            answers = self.shared(lit.flux, lit.ivar, lit.continuum)
        return self.criterion.total(self.criterion.sums(answers, truth, self.state.epoch), weights)

    def _remember(self) -> None:
        """The running mean of the weights; it is short at first, when the weights are still far from good."""
        self.state.updates += 1
        if self.course.ema:
            decay = min(self.course.ema, (1 + self.state.updates) / (10 + self.state.updates))
            with torch.no_grad():
                torch._foreach_lerp_(
                    self.mean, [value.detach() for value in self.net.parameters()], 1 - decay
                )

    def _troubled(self, step: Step, number: int, lit: Spectra) -> None:
        """A step whose gradients are not finite: which, and what came in."""
        self.state.skipped += 1
        if self.course.nan == "skip":
            return
        sound = bool(torch.isfinite(lit.flux).all() and torch.isfinite(lit.ivar).all())
        where = f"epoch {self.state.epoch + 1}, step {number + 1}, samples {step.all[:3].tolist()} ... of the training set"
        cause = (
            "the network's arithmetic went out of range"
            if sound
            else "the spectra hold values that are not finite"
        )
        raise JobError(
            f"train: {where}: the gradients are not finite: {cause}; give a smaller lr, precision=float32, clip, or nan=skip"
        )

    def _validated(self, validate: Validate) -> dict[str, float]:
        """The metrics of the weights that would be kept, and the best epoch brought up to date."""
        with Swapped(self.net, self.mean):
            found = validate(self.net)
            value = self.crew.agreed(found.get(self.course.monitor, math.nan))
            if self.course.monitor not in found and self.course.keep == "best":
                raise JobError(
                    f"train: monitor={self.course.monitor}: there is no such metric; there are {', '.join(found)}"
                )
            loss = self.crew.agreed(found.get("loss", math.nan))
            self.plateau.saw(self.course.schedule, loss, self.state.epoch + 1)
            if (
                self.course.keep == "last"
                or better(self.course.monitor, value, self.state.best)
                or self.state.best is None
            ):
                self.state.best, self.state.best_epoch = (
                    (value if math.isfinite(value) else None),
                    self.state.epoch + 1,
                )
                if self.crew.leads:
                    checkpoint.write_tensors(
                        self.best, self.net.state_dict(), {"epoch": self.state.best_epoch}
                    )
        return found

    def _close(self, row: dict[str, float]) -> None:
        """The epoch is over: write down everything that the next one needs."""
        self.state.epoch += 1
        self.state.history.append(row)
        self.state.plateau = self.plateau.state()
        if self.crew.leads:
            tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
            tensors |= {
                f"mean.{number}": value for number, value in enumerate(self.mean)
            } | checkpoint.optimiser_tensors(self.optimiser)
            checkpoint.write_tensors(self.last, tensors, {"state": self.state.__dict__})
        self.crew.wait()

    def _resume(self) -> None:
        """Go on after the last finished epoch, if there is one."""
        if not files.exists(self.last):
            return
        tensors, about = checkpoint.read_tensors(self.last)
        self.state = State(**about["state"])
        checkpoint.load_strictly(self.net, checkpoint.below(tensors, "net."), self.last)
        mean = checkpoint.below(tensors, "mean.")
        self.mean = [mean[str(number)].to(self.device) for number in range(len(mean))]
        checkpoint.restore_optimiser(self.optimiser, tensors)
        self.plateau = Plateau(**self.state.plateau)


class Swapped:
    """A network with other weights for a while."""

    def __init__(self, net: Network, weights: list[Tensor]) -> None:
        self.net, self.weights = net, weights

    def _swap(self) -> None:
        with torch.no_grad():
            for own, other in zip(self.net.parameters(), self.weights, strict=False):
                kept = own.detach().clone()
                own.copy_(other)
                other.copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()
