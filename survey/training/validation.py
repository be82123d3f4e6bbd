"""A network is asked about many spectra: by the loop after each epoch, and by all who use a run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey import metrics
from survey.labelling.samples import Samples
from survey.models.network import Answers, Network
from survey.settings import JobError
from survey.training.batches import Places, Read, Spectra
from survey.training.distributed import Crew
from survey.training.losses import Criterion, Truth
from survey.training.precision import arithmetic
from survey.training.scaling import Scaling

BATCH = 256
"""Spectra asked about together: the numbers of a spectrum do not depend on it."""
READ = 4096
"""Spectra read together where they are not held."""
ANSWERS = ("logits", "mu", "log_var", "latent")


def asked(net: Network, spectra: Iterable[Spectra], device: torch.device, precision: str) -> Answers:
    """The answers about all spectra, one after the other, in float32 on the CPU; dropout is off."""
    was, found = net.training, []
    net.eval()
    with torch.inference_mode():
        for part in spectra:
            for start in range(0, len(part), BATCH):
                some = part[start : start + BATCH].to(device)
                with arithmetic(precision, device):
                    answers = net(some.flux, some.ivar, some.continuum)
                found.append({name: answers[name].float().cpu() for name in ANSWERS if name in answers})
    net.train(was)
    return {name: torch.cat([answers[name] for answers in found]) for name in (found[0] if found else ())}


def lists(place_N2: Places, size: int = READ) -> Iterator[Places]:
    """Places in readable portions."""
    return (place_N2[start : start + size] for start in range(0, len(place_N2), size))


def units(answers: Answers, scaling: Scaling) -> dict[str, NDArray[np.float64]]:
    """Answers as people want them: `p` class probabilities, `mu` and `sigma` labels and their errors in physical units."""
    said = {}
    if "logits" in answers:
        said["p"] = answers["logits"].double().softmax(1).numpy()
    if "mu" in answers:
        said["mu"] = scaling.unscaled(answers["mu"].double().numpy())
    if "log_var" in answers:
        said["sigma"] = scaling.errors_unscaled((answers["log_var"].double() / 2).exp().numpy())
    return said


@dataclass(frozen=True)
class Exam:
    """The validation of a training: each worker asks about its share, all know the outcome."""

    samples: Samples
    truth: Truth
    criterion: Criterion
    scaling: Scaling
    read: Read
    held: Spectra | None
    crew: Crew
    device: torch.device
    precision: str

    def __call__(self, net: Network) -> dict[str, float]:
        """Loss and quick metrics of the network; nothing where there is nobody to ask about."""
        if not len(self.samples):
            return {}
        return self.judged(self._gathered(net))

    def judged(self, answers: Answers) -> dict[str, float]:
        """Loss and quick metrics of answers about all of the samples."""
        sums = self.criterion.sums(answers, self.truth, 0, scoring=True)
        loss = self.criterion.total(sums, self.criterion.weights(self.truth))
        if not all(bool(torch.isfinite(value).all()) for value in answers.values()):
            raise JobError(
                "train: validation: the network's answers are not finite; give a smaller optimiser.lr, precision=float32 or a shorter clip"
            )
        said = units(answers, self.scaling)
        task = self.criterion.task
        return metrics.quick(
            class_N=self.samples.class_N if task.classifies else None,
            p_NC=said.get("p"),
            label_NL=self.samples.label_NL if task.regresses else None,
            mu_NL=said.get("mu"),
            labels=self.samples.labels if task.regresses else (),
            loss=float(loss),
        )

    def _gathered(self, net: Network) -> Answers:
        """All answers in every worker: each fills in its rows, the others' are 0, and the sum is everything."""
        count, size = len(self.samples), self.crew.size
        bounds = np.linspace(0, count, size + 1).astype(int)
        first, last = int(bounds[self.crew.rank]), int(bounds[self.crew.rank + 1])
        spectra = (
            [self.held[first:last]]
            if self.held is not None
            else self.read(lists(self.samples.place_N2[first:last]))
        )
        mine = asked(net, spectra, self.device, self.precision)
        task, size = self.criterion.task, len(self.samples.labels)
        wide = {
            "logits": task.classes * task.classifies,
            "mu": size * task.regresses,
            "log_var": size * task.sigma,
        }
        return {
            name: self._whole(mine.get(name, torch.empty(0, width)), first, count)
            for name, width in wide.items()
            if width
        }

    def _whole(self, rows: Tensor, first: int, count: int) -> Tensor:
        if self.crew.size == 1:
            return rows
        whole = torch.zeros((count, *rows.shape[1:]), device=self.device)
        whole[first : first + len(rows)] = rows.to(self.device)
        return self.crew.summed(whole).cpu()
