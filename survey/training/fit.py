"""What stands in for the loop where a model is fitted instead of trained: spectra become features once, then it is fitted, report by report.

Each report is an epoch of the run: validated as a network is, written down, told. (`epochs` counts with keep=last only, as of a winner that is fitted
once more; otherwise the model itself knows when it is done.) A fit that was stopped goes on after the last report and ends as
the undisturbed one. Memory is needed for the features alone; spectra are read in portions.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from survey import files
from survey.models.baseline import Aim, FitError, Fitted, Known
from survey.models.network import Answers
from survey.settings import JobError, SettingsError
from survey.training import checkpoint
from survey.training.batches import Places, Read, Spectra
from survey.training.distributed import Crew
from survey.training.loop import Advance, Course, State, Watch, better
from survey.training.losses import Criterion, Loss, Truth, gaussian_nll
from survey.training.validation import ANSWERS, Exam, lists

UNUSED = (
    "epochs",
    "batch",
    "accumulate",
    "optimiser",
    "schedule",
    "clip",
    "ema",
    "precision",
    "patience",
    "nan",
    "augment",
    "vary",
    "growth",
    "start",
)
"""Settings of a training that mean nothing to a model that is fitted; a recipe has them for its networks."""
ERRORS: dict[str, Literal["squared", "absolute"]] = {
    "mse": "squared",
    "gaussian_nll": "squared",
    "mae": "absolute",
}
"""The losses of labels that a model can be fitted by; in place of others it is squared errors."""
JUDGED = 4096
"""Training spectra by which the training loss is told."""
PIECE = 4096
"""Spectra that become features together."""
COPIES = 3
"""Times that the features are in memory: themselves, a portion's copy, and what a library makes of them."""
LOG_VAR = torch.linspace(-12, 8, 2001, dtype=torch.float64)
"""The log variances to choose from."""


def unused(course: Course, loss: Loss) -> list[str]:
    """The settings that are given and make no difference, in words."""
    names = [name for name in UNUSED if name != "epochs" or course.keep == "best"]
    told = [
        name
        for name, field in type(course).model_fields.items()
        if name in names and getattr(course, name) != field.default
    ]
    other = [
        name for name in ("cls", "label_smoothing") if getattr(loss, name) != Loss.model_fields[name].default
    ]
    return (
        told
        + [f"loss.{name}" for name in other]
        + [f"loss.reg={loss.reg} (squared errors instead)"] * (loss.reg not in ERRORS)
    )


@dataclass(frozen=True)
class Part:
    """Spectra of a part of the training: where they are, how they are read, what is known of them."""

    place_N2: Places
    truth: Truth
    read: Read

    def spectra(self) -> Iterator[Spectra]:
        """All of them, in portions."""
        for some in self.read(lists(self.place_N2, PIECE)):
            yield from (some[start : start + PIECE] for start in range(0, len(some), PIECE))

    def share(self, crew: Crew) -> Self:
        """What of it is this worker's."""
        mine = slice(crew.rank, None, crew.size)
        return replace(self, place_N2=self.place_N2[mine], truth=self.truth[mine])


class Fitting:
    """One fit. `folder` receives a checkpoint at each report; a fitting made anew on it goes on after the last one."""

    def __init__(
        self, course: Course, net: Fitted, criterion: Criterion, exam: Exam, folder: str, crew: Crew
    ) -> None:
        self.course, self.net, self.criterion, self.exam, self.crew = course, net, criterion, exam, crew
        self.last, self.best = checkpoint.last(folder), checkpoint.best(folder)
        choose, errors = course.keep == "best", ERRORS.get(criterion.settings.reg, "squared")
        self.aim = Aim(course.seed, errors, choose, None if choose else course.epochs, crew.network)
        self.state, self.lr, self.device = State(), 0.0, torch.device("cpu")
        if files.exists(self.last):
            tensors, about = checkpoint.read_tensors(self.last)
            self.state = State(**about["state"])
            checkpoint.load_strictly(net, tensors, self.last)

    def run(
        self,
        beheld: Callable[[], Spectra],
        train: Part,
        validation: Part,
        room: float,
        watch: Watch,
        advance: Advance,
    ) -> State:
        """Fit to the end; `beheld` gives the spectra that features are fixed by, `watch` gets a row of numbers at each report."""
        net = self.net.eval()
        if not self.state.epoch:
            some = _sound(beheld())
            net.behold(*net.seen(some.flux, some.ivar))
        if net.task.sigma and not len(validation.place_N2):
            raise SettingsError(
                f"train: model={_name(net)}: its sigmas are told by validation spectra, and there are none; give another loss.reg"
            )
        self._check_room(train, validation, room)
        known, check = self._known(train.share(self.crew), advance), self._known(validation, advance)
        started = time.perf_counter()
        reports = net.fit(known, check, self.aim)
        while (report := self._next(reports)) is not None:
            self.state.epoch += 1
            if self.crew.leads:
                row = (
                    {"epoch": float(self.state.epoch), "lr": self.lr}
                    | report
                    | self._judged(known, train.truth, check)
                )
                row |= {"seconds": time.perf_counter() - started, "skipped_steps": 0.0}
                self._write(row)
                advance(0, f"fit {report.get('rounds', 1):.0f}/{net.rounds}")
                watch(row)
            started = time.perf_counter()
        return self.state

    def _next(self, reports: Iterator[dict[str, float]]) -> dict[str, float] | None:
        """The next report; a library's failure ends a job, in a crew another try may mend it."""
        try:
            return next(reports, None) if not (self.state.epoch and self.net.rounds == 1) else None
        except FitError as error:
            if self.crew.size > 1:
                raise
            raise JobError(f"train: model={_name(self.net)}: {error}") from error

    def _check_room(self, train: Part, validation: Part, room: float) -> None:
        """The features fit into memory, or an error says what would make them fewer."""
        blank = torch.ones(1, self.net.pixels)
        wide = self.net.features(blank, blank).shape[1]
        size = 4 * wide * (len(train.place_N2) / self.crew.size + len(validation.place_N2)) * COPIES
        if size > room:
            raise SettingsError(
                f"train: model={_name(self.net)}: {len(train.place_N2):,} spectra of {wide} features take {size / 1e9:.2g} GB, "
                f"there is room for {room / 1e9:.2g} GB; give options with fewer features, more workers, fewer labelled stars, or resident_gb"
            )

    @torch.no_grad()
    def _known(self, part: Part, advance: Advance) -> Known:
        """A part as features, with its labels and what they count."""
        found: list[Tensor] = []
        for some in part.spectra():
            found.append(self.net.features(*self.net.seen(_sound(some).flux, some.ivar)))
            advance(len(some), "features")
        blank = torch.ones(1, self.net.pixels)
        feature_NF = torch.cat([*found, self.net.features(blank, blank)[:0]])
        truth, task = part.truth, self.net.task
        none_N = torch.zeros(len(truth.class_B))
        class_N = self.criterion.class_weights(truth) if task.classifies else none_N
        label_NL = self.criterion.label_weights(truth) if task.regresses else none_N[:, None][:, :0]
        return Known(feature_NF, truth.class_B.clamp(min=0), class_N, truth.label_BL.nan_to_num(), label_NL)

    def _judged(self, known: Known, truth: Truth, check: Known) -> dict[str, float]:
        """Training loss and the metrics of the validation part."""
        mine = truth[slice(self.crew.rank, None, self.crew.size)][slice(None, JUDGED)]
        with torch.no_grad():
            said, heard = self._said(check.feature_NF), self._said(known.feature_NF[:JUDGED])
        if self.net.task.sigma and len(check):
            self._spread(said["mu"])
            for answers in (said, heard):
                answers["log_var"] = self.net.log_var_L.float().expand(len(answers["mu"]), -1)
        loss = self.criterion.total(
            self.criterion.sums(heard, mine, 0, scoring=True), self.criterion.weights(mine)
        )
        return {"train_loss": float(loss)} | {
            f"validation_{name}": value
            for name, value in (self.exam.judged(said) if len(check) else {}).items()
        }

    def _said(self, feature_NF: Tensor) -> Answers:
        parts = [self.net.told(some_BF) for some_BF in torch.split(feature_NF, PIECE)]
        return {
            name: torch.cat([part[name] for part in parts]).float() for name in ANSWERS if name in parts[0]
        }

    def _spread(self, mu_NL: Tensor) -> None:
        """The variance of each label that makes the validation part likeliest, the same for all spectra."""
        truth, settings = self.exam.truth, self.criterion.settings
        for number in range(mu_NL.shape[1]):
            known_N = ~truth.label_BL[:, number].isnan()
            if bool(known_N.any()):
                error_N = (mu_NL[:, number] - truth.label_BL[:, number])[known_N].double()
                own_N = (
                    truth.error_BL[known_N, number].nan_to_num(nan=0.0).double() ** 2
                    if settings.label_errors
                    else torch.zeros_like(error_N)
                )
                losses = torch.stack(
                    [
                        gaussian_nll(error_N, log_var.expand(len(error_N)), 0.0, own_N).mean()
                        for log_var in LOG_VAR
                    ]
                )
                self.net.log_var_L[number] = LOG_VAR[losses.argmin()]

    def _write(self, row: dict[str, float]) -> None:
        """The report is over: what is best is kept, and all that the next one needs."""
        monitor, last = self.course.monitor, self.course.keep == "last"
        found = row.get(f"validation_{monitor}", math.nan)
        if f"validation_{monitor}" not in row and not last:
            there = ", ".join(
                name.removeprefix("validation_") for name in row if name.startswith("validation_")
            )
            raise JobError(f"train: monitor={monitor}: there is no such metric; there are {there}")
        state = self.net.state_dict()
        if last or better(monitor, found, self.state.best) or self.state.best is None:
            self.state.best, self.state.best_epoch = (
                (found if math.isfinite(found) else None),
                self.state.epoch,
            )
            checkpoint.write_tensors(self.best, state, {"epoch": self.state.best_epoch})
        self.state.history.append(row)
        checkpoint.write_tensors(self.last, state, {"state": self.state.__dict__})


def _sound(some: Spectra) -> Spectra:
    """The spectra, if their good pixels are numbers: one that is none would spoil the components of all."""
    if not bool((torch.isfinite(some.flux) | (some.ivar <= 0)).all()):
        row = int((~torch.isfinite(some.flux) & (some.ivar > 0)).any(1).nonzero()[0])
        raise JobError(
            f"train: spectrum {row} of {len(some)} that were read together holds good pixels that are not finite; ingest the store anew"
        )
    return some


def _name(net: Fitted) -> str:
    return type(net).__module__.rpartition(".")[2]
