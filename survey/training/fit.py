"""The training of a baseline: spectra become features once, then the model is fitted to them, report by
report.

A report is an epoch of the run: it is validated, written down and reported like an epoch of a network.
`epochs` counts with keep=last only, as for the winner of a search that is trained once more; otherwise the
model stops by itself. A fit that was stopped continues after the last report and ends like the undisturbed
one. Only the features are held in memory; spectra are read in portions.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from survey.models.baseline import Baseline, FitError, FitSettings, TrainingSet
from survey.models.network import Outputs
from survey.settings import JobError, SettingsError
from survey.training import checkpoint
from survey.training.batches import Places, Read, Spectra
from survey.training.distributed import Ranks
from survey.training.epochs import Epochs
from survey.training.learning_settings import Loss
from survey.training.losses import Targets, TaskLoss, gaussian_nll
from survey.training.settings import UNUSED, Train
from survey.training.tracking import Reporter
from survey.training.validation import OUTPUT_NAMES, Validation, portions

ERRORS: dict[str, Literal["squared", "absolute"]] = {
    "mse": "squared",
    "gaussian_nll": "squared",
    "mae": "absolute",
}
"""Losses of labels that baselines can be fitted by; in place of another loss they use squared errors."""
TRAIN_LOSS_SPECTRA = 4096
"""Training spectra from which the training loss is computed."""
PIECE = 4096
"""Spectra whose features are computed together."""
COPIES = 3
"""How often the features are in memory: themselves, the copy of a portion, and
what a library makes of them.
"""
LOG_VAR = torch.linspace(-12, 8, 2001, dtype=torch.float64)
"""The log variances that are tried."""


def unused_settings(settings: Train) -> list[str]:
    """The settings that were given but make no difference to a baseline."""
    names = [name for name in UNUSED if name != "epochs" or settings.keep == "best"]
    changed = [
        name
        for name, field in Train.model_fields.items()
        if name in names and getattr(settings, name) != field.default
    ]
    loss = settings.loss
    changed += [
        f"loss.{name}"
        for name in ("cls", "label_smoothing")
        if getattr(loss, name) != Loss.model_fields[name].default
    ]
    if loss.reg not in ERRORS:
        changed.append(f"loss.reg={loss.reg} (squared errors instead)")
    return changed


@dataclass(frozen=True)
class Part:
    """The spectra of a part: where they are, how they are read, and their targets."""

    shard_row_N2: Places
    targets: Targets
    read: Read

    def spectra(self) -> Iterator[Spectra]:
        """All spectra, in pieces."""
        for portion in self.read(portions(self.shard_row_N2, PIECE)):
            yield from (portion[start : start + PIECE] for start in range(0, len(portion), PIECE))

    def share(self, ranks: Ranks) -> Self:
        """The share of this worker."""
        rows = slice(ranks.rank, None, ranks.size)
        return replace(self, shard_row_N2=self.shard_row_N2[rows], targets=self.targets[rows])


class Fit:
    """The fit of a baseline. A new fit with the same `epochs` folder continues after the last report."""

    def __init__(
        self,
        settings: Train,
        net: Baseline,
        loss: TaskLoss,
        validation: Validation,
        epochs: Epochs,
        ranks: Ranks,
    ) -> None:
        self.settings, self.net, self.loss, self.validation = settings, net, loss, validation
        self.epochs, self.ranks = epochs, ranks
        self.lr, self.device = 0.0, torch.device("cpu")
        keeps_best, errors = settings.keep == "best", ERRORS.get(loss.settings.reg, "squared")
        max_reports = None if keeps_best else settings.epochs
        self.fit_settings = FitSettings(settings.seed, errors, keeps_best, max_reports, ranks.connection)
        if tensors := epochs.resume():
            checkpoint.load_weights(net, tensors, epochs.last)

    def run(
        self,
        first_spectra: Callable[[], Spectra],
        train: Part,
        validation: Part,
        max_bytes: float,
        reporter: Reporter,
    ) -> None:
        """Fit to the end; `first_spectra` gives the spectra that determine the features."""
        net = self.net.eval()
        if not self.epochs.state.epoch:
            spectra = _with_finite_pixels(first_spectra())
            net.fit_statistics(*net.prepare(spectra.flux, spectra.ivar))
        if net.task.sigma and not len(validation.shard_row_N2):
            raise SettingsError(
                f"train: model={_name(net)}: its sigmas are measured on the validation part, which is empty; "
                "give another loss.reg"
            )
        self._check_memory(train, validation, max_bytes)
        train_set = self._training_set(train.share(self.ranks), reporter)
        validation_set = self._training_set(validation, reporter)
        started = time.perf_counter()
        reports = net.fit(train_set, validation_set, self.fit_settings)
        while (report := self._next(reports)) is not None:
            row = {"epoch": float(self.epochs.state.epoch + 1), "lr": self.lr} | report
            if self.ranks.is_leader:
                row |= self._validate(train_set, train.targets, validation_set)
                row |= {"seconds": time.perf_counter() - started, "skipped_steps": 0.0}
            self.epochs.close(row, net.state_dict)
            if self.ranks.is_leader:
                reporter.advance(0, f"fit {report.get('rounds', 1):.0f}/{net.rounds}")
                reporter.epoch(row)
            started = time.perf_counter()

    def _next(self, reports: Iterator[dict[str, float]]) -> dict[str, float] | None:
        """The next report. The failure of a library ends a job; among several
        workers, another try may work.
        """
        if self.epochs.state.epoch and self.net.rounds == 1:
            return None
        try:
            return next(reports, None)
        except FitError as error:
            if self.ranks.size > 1:
                raise
            raise JobError(f"train: model={_name(self.net)}: {error}") from error

    def _check_memory(self, train: Part, validation: Part, max_bytes: float) -> None:
        """An error if the features do not fit into memory."""
        blank = torch.ones(1, self.net.pixels)
        width = self.net.features(blank, blank).shape[1]
        count = len(train.shard_row_N2) / self.ranks.size + len(validation.shard_row_N2)
        size = 4 * width * count * COPIES
        if size > max_bytes:
            raise SettingsError(
                f"train: model={_name(self.net)}: {len(train.shard_row_N2):,} spectra "
                f"of {width} features take {size / 1e9:.2g} GB, the limit is {max_bytes / 1e9:.2g} GB; "
                "give options with fewer features, more workers, fewer labelled stars, or resident_gb"
            )

    @torch.no_grad()
    def _training_set(self, part: Part, reporter: Reporter) -> TrainingSet:
        """The features of a part, with its labels and their weights."""
        features: list[Tensor] = []
        for spectra in part.spectra():
            prepared = self.net.prepare(_with_finite_pixels(spectra).flux, spectra.ivar)
            features.append(self.net.features(*prepared))
            reporter.advance(len(spectra), "features")
        blank = torch.ones(1, self.net.pixels)
        feature_NF = torch.cat([*features, self.net.features(blank, blank)[:0]])
        targets, task = part.targets, self.net.task
        zero_N = torch.zeros(len(targets.class_B))
        class_weight_N = self.loss.class_weights(targets) if task.classifies else zero_N
        label_weight_NL = self.loss.label_weights(targets) if task.regresses else zero_N[:, None][:, :0]
        class_N, label_NL = targets.class_B.clamp(min=0), targets.label_BL.nan_to_num()
        return TrainingSet(feature_NF, class_N, class_weight_N, label_NL, label_weight_NL)

    def _validate(
        self, train_set: TrainingSet, targets: Targets, validation_set: TrainingSet
    ) -> dict[str, float]:
        """The training loss and the metrics of the validation part; the weights are kept if they are the
        best.
        """
        local = targets[slice(self.ranks.rank, None, self.ranks.size)][slice(None, TRAIN_LOSS_SPECTRA)]
        with torch.no_grad():
            outputs = self._outputs(validation_set.feature_NF)
            train_outputs = self._outputs(train_set.feature_NF[:TRAIN_LOSS_SPECTRA])
        if self.net.task.sigma and len(validation_set):
            self._fit_variances(outputs["mu"])
            for values in (outputs, train_outputs):
                values["log_var"] = self.net.log_var_L.float().expand(len(values["mu"]), -1)
        sums = self.loss.sums(train_outputs, local, 0, scoring=True)
        train_loss = float(self.loss.total(sums, self.loss.weights(local)))
        metrics = self.validation.metrics(outputs) if len(validation_set) else {}
        self.epochs.keep_if_best(self.epochs.monitored(metrics), self.net.state_dict)
        return {"train_loss": train_loss} | {f"validation_{name}": value for name, value in metrics.items()}

    def _outputs(self, feature_NF: Tensor) -> Outputs:
        pieces = [self.net.predict(piece_BF) for piece_BF in torch.split(feature_NF, PIECE)]
        return {
            name: torch.cat([piece[name] for piece in pieces]).float()
            for name in OUTPUT_NAMES
            if name in pieces[0]
        }

    def _fit_variances(self, mu_NL: Tensor) -> None:
        """Set the variance of each label, the same for all spectra, to the likeliest one on the validation
        part.
        """
        targets = self.validation.targets
        for number in range(mu_NL.shape[1]):
            is_known_N = ~targets.label_BL[:, number].isnan()
            if not bool(is_known_N.any()):
                continue
            error_N = (mu_NL[:, number] - targets.label_BL[:, number])[is_known_N].double()
            label_var_N = torch.zeros_like(error_N)
            if self.loss.settings.label_errors:
                label_var_N = targets.error_BL[is_known_N, number].nan_to_num(nan=0.0).double() ** 2
            losses = [
                gaussian_nll(error_N, log_var.expand(len(error_N)), 0.0, label_var_N).mean()
                for log_var in LOG_VAR
            ]
            self.net.log_var_L[number] = LOG_VAR[torch.stack(losses).argmin()]


def _with_finite_pixels(spectra: Spectra) -> Spectra:
    """The spectra; an error if a good pixel is not finite, because it would spoil the components of all."""
    if not bool((torch.isfinite(spectra.flux) | (spectra.ivar <= 0)).all()):
        row = int((~torch.isfinite(spectra.flux) & (spectra.ivar > 0)).any(1).nonzero()[0])
        raise JobError(
            f"train: spectrum {row} of {len(spectra)} that were read together has good pixels "
            "that are not finite; ingest the store again"
        )
    return spectra


def _name(net: Baseline) -> str:
    return type(net).__module__.rpartition(".")[2]
