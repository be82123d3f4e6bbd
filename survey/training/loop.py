"""The training loop: from batches to gradients to weights, epoch by epoch, on any device, in one or several
workers.

All random numbers are drawn from (seed, epoch, step), and for the whole batch. So a training that was
stopped and continues, and one that several workers share, does what the undisturbed one does.
"""

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from survey.machine import ThreadChooser, arithmetic, seed_torch
from survey.models.network import Network
from survey.settings import JobError
from survey.training import checkpoint
from survey.training.alignment import Tally, compare, complaint, pairs_in_all, weighted
from survey.training.augment import METHODS, augment
from survey.training.batches import Batches, Spectra, Step
from survey.training.distributed import Ranks
from survey.training.epochs import Epochs
from survey.training.losses import Targets, TaskLoss
from survey.training.optimise import Plateau, learning_rate, make_optimiser, set_learning_rate
from survey.training.real_effects import RealEffects
from survey.training.settings import Train
from survey.training.synthesis import Synthesizer
from survey.training.tracking import Reporter
from survey.training.validation import Validation

_log = logging.getLogger(__name__)

STEP_SEED, AUGMENT_SEED, SYNTHESIS_SEED = 2, 3, 5
"""Purposes of random numbers, after the seed of the training."""


def derived_seed(seed: int, *purpose: int) -> int:
    """A seed for one purpose, such as (purpose, epoch, step)."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> 1)


class Loop:
    """The training of a network. A new loop with the same `epochs` folder continues after the last epoch."""

    def __init__(
        self,
        settings: Train,
        net: Network,
        loss: TaskLoss,
        batches: Batches,
        targets: Targets,
        epochs: Epochs,
        ranks: Ranks,
        device: torch.device,
        synthesizer: Synthesizer | None,
        threads: ThreadChooser,
        effects: RealEffects | None = None,
    ) -> None:
        self.effects = effects
        self.settings, self.net, self.loss, self.batches = settings, net, loss, batches
        self.epochs, self.ranks, self.device, self.threads = epochs, ranks, device, threads
        self.targets, self.synthesizer = targets.to(device), synthesizer
        self.lr = settings.optimiser.lr or net.learning_rate
        self.optimiser = make_optimiser(settings.optimiser, net, self.lr)
        self.plateau = Plateau()
        self.mean_weights = [value.detach().clone() for value in net.parameters()] if settings.ema else []
        self._resume()
        self.state = epochs.state
        self.distributed_net = ranks.distribute(net, device)
        self.generator = torch.Generator(device)
        methods = settings.augment.result_settings()
        norms = (module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        self.running = [buffer for norm in norms for buffer in norm.buffers()]
        self.augments = settings.augment.image.is_used or any(
            methods[name]["probability"] > 0 for name in METHODS
        )

    def run(self, validation: Validation, reporter: Reporter) -> None:
        """Train to the end."""
        while not self.epochs.is_over:
            started = time.perf_counter()
            row = self._train_epoch(reporter)
            metrics = self._validate(validation)
            row |= {f"validation_{name}": value for name, value in metrics.items()}
            row["seconds"] = time.perf_counter() - started
            row["skipped_steps"] = float(self.state.skipped)
            if self.device.type == "cuda":
                row["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
            self.state.plateau = self.plateau.state()
            self.epochs.close(row, self._checkpoint)
            self.ranks.wait()
            if self.ranks.is_leader:
                reporter.epoch(row)

    def _train_epoch(self, reporter: Reporter) -> dict[str, float]:
        """The steps of an epoch; returns its numbers."""
        started, epoch, lr = time.perf_counter(), self.state.epoch, 0.0
        loss, count, number = torch.zeros((), device=self.device), 0, -1
        self.terms = torch.zeros(len(self.net.terms), device=self.device)
        self.tally = Tally(self.settings.align, self.device)
        steps = self.batches.steps(epoch)
        self._set_train_mode()
        for number, step in enumerate(self.batches.epoch(epoch)):
            lr = self._set_learning_rate(epoch + number / steps)
            self.net.epoch = epoch + number / steps
            with self.threads.timed():
                loss += self._step(step, number)
            count += len(step.batch_index)
            if self.ranks.is_leader:
                reporter.advance(len(step.batch_index), f"epoch {epoch + 1}/{self.settings.epochs}")
        if number < 0:
            raise JobError(
                f"train: epoch {epoch + 1}: the spectra do not fill a batch of {self.batches.batch}; "
                "give a smaller batch="
            )
        rate = count / (time.perf_counter() - started)
        train_loss = float(self.ranks.sum(loss)) / (number + 1)
        row = {"epoch": float(epoch + 1), "lr": lr, "train_loss": train_loss, "spectra_per_second": rate}
        row |= self.tally.numbers(self.ranks.sum(self.tally.sums).tolist(), number + 1)
        self._complain(row, number + 1)
        terms = (self.ranks.sum(self.terms) / (number + 1)).tolist() if self.net.terms else []
        return row | {f"train_{name}": value for name, value in zip(self.net.terms, terms, strict=True)}

    def _complain(self, row: dict[str, float], steps: int) -> None:
        """Say after the first epoch of all spectra if the sources could hardly be compared."""
        share, epoch = self.batches.curriculum.share, self.state.epoch
        is_first = share(epoch) == 1 and (not epoch or share(epoch - 1) < 1)
        if not is_first or not self.ranks.is_leader or self.settings.align.method == "none":
            return
        text = complaint(self.settings.align, row, steps, pairs_in_all(self.targets))
        if text:
            _log.warning("train: align.method=%s: %s", self.settings.align.method, text)

    def _set_train_mode(self) -> None:
        """Switch on dropout and batch statistics, except in frozen layers, whose
        statistics stay as they are.
        """
        self.distributed_net.train()
        for layer in self.net.modules():
            if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or not layer.affine:
                continue
            if not any(parameter.requires_grad for parameter in layer.parameters()):
                layer.eval()

    def _set_learning_rate(self, epoch: float) -> float:
        lr = learning_rate(self.settings.schedule, self.lr, epoch, self.settings.epochs, self.plateau.factor)
        set_learning_rate(self.optimiser, lr)
        return lr

    def _step(self, step: Step, number: int) -> Tensor:
        """One step of the optimiser; returns this worker's share of the loss."""
        place = (self.state.epoch, number)
        seed_torch(derived_seed(self.settings.seed, STEP_SEED, *place), self.device)
        self.generator.manual_seed(derived_seed(self.settings.seed, AUGMENT_SEED, *place))
        targets = self.targets[torch.from_numpy(step.batch_index).to(self.device)]  # all workers
        spectra = step.spectra.to(self.device)  # this worker
        start = self.ranks.rank * len(step.local_index)
        if self.synthesizer:
            changes = self.synthesizer.draw(step.batch_index, (self.settings.seed, SYNTHESIS_SEED, *place))
            targets = self.synthesizer.targets(targets, changes)
            spectra = self.synthesizer.spectra(spectra, changes, start)
        if self.effects:
            seed = self.settings.seed
            spectra = self.effects(spectra, step.batch_index, lambda use: (seed, use, *place), start)
        weights = self.loss.weights(targets)
        local_targets = targets[start : start + len(step.local_index)]
        if self.augments:
            ranks = self.ranks
            spectra = augment(self.settings.augment, spectra, self.generator, ranks.rank, ranks.size)
        self.optimiser.zero_grad(set_to_none=True)
        before = [tensor.clone() for tensor in self._changed_by_a_batch()]
        loss = self._gradients(spectra, local_targets, weights)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip or math.inf)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self._update_mean_weights()
            return loss
        self._skip(step, number, spectra)
        for tensor, kept in zip(self._changed_by_a_batch(), before, strict=True):
            tensor.copy_(kept)
        return torch.zeros_like(loss)

    def _changed_by_a_batch(self) -> list[Tensor]:
        """What a batch has changed before its step may turn out to be one to skip."""
        return [*self.running, self.terms, self.tally.sums] if self.settings.nan == "skip" else []

    def _gradients(self, spectra: Spectra, targets: Targets, weights: Tensor) -> Tensor:
        """Add up the gradients of all pieces of a step; returns the loss."""
        total = torch.zeros((), device=self.device)
        size = -(-len(spectra) // self.settings.accumulate)
        for first in range(0, len(spectra), size):
            rows = slice(first, first + size)
            with self._exchange(is_last=first + size >= len(spectra)):
                loss = self._piece_loss(spectra[rows], targets[rows], weights)
                # The gradients of the workers are averaged, but the loss is a sum over them.
                torch.autograd.backward(loss * self.ranks.size)
            total += loss.detach()
        return total

    def _exchange(self, is_last: bool) -> AbstractContextManager[Any]:
        """Workers exchange gradients with the last piece of a step only."""
        if is_last or self.ranks.size == 1:
            return nullcontext()
        context: AbstractContextManager[Any] = self.distributed_net.no_sync()  # type: ignore[operator]
        return context

    def _piece_loss(self, spectra: Spectra, targets: Targets, weights: Tensor) -> Tensor:
        with arithmetic(self.settings.precision, self.device):
            outputs = self.distributed_net(*spectra.arrays())
        loss = self.loss.total(self.loss.sums(outputs, targets, self.state.epoch), weights)
        share = len(spectra) / self.batches.batch  # of the rows of all workers and pieces
        if self.net.terms:
            self.terms += share * outputs["terms"].detach().float().mean(0)
        if self.settings.align.method == "none" or targets.source_B is None:
            return loss
        compared = compare(self.settings.align, outputs["latent"], targets.source_B, targets.pair_B)
        if compared is None:
            return loss
        self.tally.add(compared, share)
        return loss + share * weighted(
            self.settings.align, compared.distance, self.net.epoch, other_terms=loss / share
        )

    def _update_mean_weights(self) -> None:
        """The running mean of the weights. It is short at first, while the weights still change fast."""
        self.state.updates += 1
        if self.settings.ema:
            decay = min(self.settings.ema, (1 + self.state.updates) / (10 + self.state.updates))
            weights = [value.detach() for value in self.net.parameters()]
            with torch.no_grad():
                torch._foreach_lerp_(self.mean_weights, weights, 1 - decay)

    def _skip(self, step: Step, number: int, spectra: Spectra) -> None:
        """Count a step whose gradients are not finite, or end the training with the reason."""
        self.state.skipped += 1
        if self.settings.nan == "skip":
            return
        is_finite = bool(torch.isfinite(spectra.flux).all() and torch.isfinite(spectra.ivar).all())
        cause = (
            "the arithmetic of the network overflowed"
            if is_finite
            else "the spectra hold values that are not finite"
        )
        raise JobError(
            f"train: epoch {self.state.epoch + 1}, step {number + 1}, "
            f"samples {step.batch_index[:3].tolist()} ... of the training part: "
            f"the gradients are not finite: {cause}; give a smaller lr, precision=float32, clip, or nan=skip"
        )

    def _validate(self, validation: Validation) -> dict[str, float]:
        """The metrics of the weights that would be kept; they are kept if this epoch is the best one."""
        with Swapped(self.net, self.mean_weights):
            metrics = validation(self.net)
            value = self.ranks.from_leader(self.epochs.monitored(metrics))
            loss = self.ranks.from_leader(metrics.get("loss", math.nan))
            self.plateau.update(self.settings.schedule, loss, self.state.epoch + 1)
            self.epochs.keep_if_best(value, self.net.state_dict)
        return metrics

    def _checkpoint(self) -> dict[str, Tensor]:
        """Everything that the next epoch needs, besides the state."""
        net = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        mean = {f"mean.{number}": value for number, value in enumerate(self.mean_weights)}
        return net | mean | checkpoint.optimiser_tensors(self.optimiser)

    def _resume(self) -> None:
        """Continue after the last finished epoch, if there is one."""
        tensors = self.epochs.resume()
        if not tensors:
            return
        weights = checkpoint.without_prefix(tensors, "net.")
        checkpoint.load_weights(self.net, weights, self.epochs.last)
        mean = checkpoint.without_prefix(tensors, "mean.")
        self.mean_weights = [mean[str(number)].to(self.device) for number in range(len(mean))]
        checkpoint.restore_optimiser(self.optimiser, tensors)
        self.plateau = Plateau(**self.epochs.state.plateau)


class Swapped:
    """A network with other weights for a while."""

    def __init__(self, net: Network, weights: list[Tensor]) -> None:
        self.net, self.weights = net, weights

    def _swap(self) -> None:
        with torch.no_grad():
            for parameter, other in zip(self.net.parameters(), self.weights, strict=False):
                kept = parameter.detach().clone()
                parameter.copy_(other)
                other.copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()
