"""The outputs of a network for many spectra, and the validation of a training by them."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey.labelling.samples import Samples
from survey.labels import CLASSES
from survey.machine import ThreadChooser, arithmetic
from survey.metrics.epoch import epoch_metrics
from survey.models.network import Network, Outputs
from survey.settings import JobError
from survey.training.batches import Places, Read, Spectra
from survey.training.distributed import Ranks
from survey.training.losses import Targets, TaskLoss
from survey.training.scaling import Scaling

BATCH = 256
"""Spectra of a batch. The answers for a spectrum do not depend on it, but losses that compare spectra do:
those of `fusion` and `views`, and the term `active` of autoencoders.
"""
PORTION = 4096
"""Spectra that are read together."""
OUTPUT_NAMES = ("logits", "mu", "log_var", "own_loss", "terms", "anomaly", "latent")


def network_outputs(
    net: Network,
    spectra: Iterable[Spectra],
    device: torch.device,
    precision: str,
    threads: ThreadChooser | None = None,
    piece: int = 0,
) -> Outputs:
    """The outputs for all spectra, in float32 on the CPU, without dropout; `threads` is asked before each
    batch.

    A network whose losses compare the spectra of a batch gets `piece` of them at a time. The last ones come
    with some before them again, so that they are compared with as many.
    """
    was_training, found, size = net.training, list[Outputs](), piece or BATCH
    net.eval()
    with torch.inference_mode():
        for portion in spectra:
            for start in range(0, len(portion), size):
                first = min(start, max(len(portion) - size, 0)) if piece else start
                batch = portion[first : start + size]
                with nullcontext() if threads is None else threads.timed(len(batch)):
                    outputs = _batch_outputs(net, batch, device, precision)
                found.append({name: values[start - first :] for name, values in outputs.items()})
    net.train(was_training)
    return {name: torch.cat([outputs[name] for outputs in found]) for name in (found[0] if found else ())}


def _batch_outputs(net: Network, batch: Spectra, device: torch.device, precision: str) -> Outputs:
    spectra = batch.to(device)
    with arithmetic(precision, device):
        outputs = net(*spectra.arrays())
    return {name: outputs[name].float().cpu() for name in OUTPUT_NAMES if name in outputs}


def portions(shard_row_N2: Places, size: int = PORTION, piece: int = 1) -> Iterator[Places]:
    """A list of spectra in portions that are read together: of whole pieces, so that they are the same as of
    loaded spectra. What is less than a piece belongs to the portion before.
    """
    count, size = len(shard_row_N2), max(size // piece, 1) * piece
    starts = [start for start in range(0, count, size) if not start or count - start >= piece]
    return (shard_row_N2[start:end] for start, end in zip(starts, [*starts[1:], count], strict=False))


def in_units(outputs: Outputs, scaling: Scaling) -> dict[str, NDArray[np.float64]]:
    """Outputs as probabilities `p`, and `mu` and `sigma`: labels and their errors in units of the labels."""
    values = {}
    if "logits" in outputs:
        values["p"] = outputs["logits"].double().softmax(1).numpy()
    if "mu" in outputs:
        values["mu"] = scaling.unscale(outputs["mu"].double().numpy())
    if "log_var" in outputs:
        values["sigma"] = scaling.unscale_errors((outputs["log_var"].double() / 2).exp().numpy())
    return values


@dataclass(frozen=True)
class Validation:
    """The validation part of a training. Each worker computes its share; all of them get the metrics.

    `resident` holds the spectra, or they are read each time. Losses that compare the spectra of a batch
    compare `piece` of them, as in training.
    """

    samples: Samples
    targets: Targets
    loss: TaskLoss
    scaling: Scaling
    read: Read
    resident: Spectra | None
    ranks: Ranks
    device: torch.device
    precision: str
    classes: tuple[str, ...] = CLASSES
    terms: tuple[str, ...] = ()
    piece: int = 0

    def __call__(self, net: Network) -> dict[str, float]:
        """Loss and metrics of a network; none if the validation part is empty."""
        if not len(self.samples):
            return {}
        return self.metrics(self._all_outputs(net))

    def metrics(self, outputs: Outputs) -> dict[str, float]:
        """Loss and metrics of the outputs for all samples."""
        sums = self.loss.sums(outputs, self.targets, 0, scoring=True)
        loss = self.loss.total(sums, self.loss.weights(self.targets))
        if not all(bool(torch.isfinite(value).all()) for value in outputs.values()):
            raise JobError(
                "train: validation: the outputs of the network are not finite; "
                "give a smaller optimiser.lr, precision=float32 or a smaller clip"
            )
        values, task = in_units(outputs, self.scaling), self.loss.task
        terms = outputs["terms"].double().mean(0).tolist() if "terms" in outputs else []
        return dict(zip(self.terms, terms, strict=True)) | epoch_metrics(
            class_N=self.samples.class_N if task.classifies else None,
            p_NC=values.get("p"),
            classes=self.classes,
            label_NL=self.samples.label_NL if task.regresses else None,
            mu_NL=values.get("mu"),
            labels=self.samples.labels if task.regresses else (),
            loss=float(loss),
        )

    def _all_outputs(self, net: Network) -> Outputs:
        """The outputs for all samples, in every worker: each fills in its rows, and the sum over them is
        complete.
        """
        count, task = len(self.samples), self.loss.task
        size = self.piece or 1
        bounds = np.linspace(0, -(-count // size), self.ranks.size + 1).astype(int) * size
        first, last = (min(int(bound), count) for bound in bounds[self.ranks.rank : self.ranks.rank + 2])
        if self.resident is not None:
            spectra: Iterable[Spectra] = [self.resident[first:last]]
        else:
            spectra = self.read(portions(self.samples.shard_row_N2[first:last], PORTION, size))
        local = network_outputs(net, spectra, self.device, self.precision, piece=self.piece)
        widths = {
            "logits": task.classes * task.classifies,
            "mu": len(task.labels) * task.regresses,
            "log_var": len(task.labels) * task.sigma,
            "own_loss": int(bool(self.terms)),
            "terms": len(self.terms),
        }
        return {
            name: self._sum_rows(local.get(name, torch.empty(0, width)), first, count)
            for name, width in widths.items()
            if width
        }

    def _sum_rows(self, rows: Tensor, first: int, count: int) -> Tensor:
        if self.ranks.size == 1:
            return rows
        complete = torch.zeros((count, *rows.shape[1:]), device=self.device)
        complete[first : first + len(rows)] = rows.to(self.device)
        return self.ranks.sum(complete).cpu()
