"""What every network is: a batch of spectra goes in, what it thinks of each comes out. One device, no files, no Ray.

A file of this folder that defines `Net` is a plugin; its `Options` are the settings of its architecture. Shapes: B spectra, P pixels,
C channels or classes, L labels, T steps of a sequence, D features.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from survey.models.view import Seeing
from survey.settings import Settings

Answers = dict[str, Tensor]
"""What a network says: `logits` (B, classes), `mu` (B, L) and `log_var` (B, L) in scaled labels, `latent` (B, D), where it has one `attention`."""


@dataclass(frozen=True)
class Task:
    """What is asked of a network: classes, labels (rows of `survey.labels`, scaled), or both; with `sigma` also how sure it is of each label."""

    kind: Literal["cls", "reg", "cls_reg"]
    labels: tuple[str, ...] = ()
    classes: int = 3
    sigma: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("cls", "reg", "cls_reg"):
            raise ValueError(f"task: there is no task {self.kind!r}; there are cls, reg, cls_reg")
        if self.regresses and not self.labels:
            raise ValueError(f"task: {self.kind} without labels; name at least one, such as FeH")

    @property
    def classifies(self) -> bool:
        """Whether classes are asked for."""
        return self.kind != "reg"

    @property
    def regresses(self) -> bool:
        """Whether labels are asked for."""
        return self.kind != "cls"


class Network(nn.Module):
    """Base of all networks. Everything but `self.heads` is the body; `inputs` names what is looked at beside the flux."""

    inputs: tuple[str, ...] = ()
    rate: float = 1e-3
    """The learning rate that it trains well at, for AdamW."""
    constant: frozenset[str] = frozenset()
    """Answers that are the same whatever the spectrum; of networks none, of simple baselines some."""
    heads: nn.Module

    def __init__(self, pixels: int, task: Task, options: Settings) -> None:
        super().__init__()
        self.pixels, self.task, self.options = pixels, task, options
        self.seeing: Seeing | None = None
        """What it sees of a spectrum; None = all as it is. Set by whoever knows the wavelengths."""

    def seen(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and ivar as the network sees them; the flux of bad pixels (ivar 0) is never seen: the continuum, 1, takes its place."""
        if self.seeing is not None:
            flux_BP, ivar_BP = self.seeing(flux_BP, ivar_BP)
        return torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> Answers:
        """The answers to a batch, of what is seen of it."""
        if flux_BP.shape[-1] != self.pixels:
            raise ValueError(
                f"model: spectra of {flux_BP.shape[-1]} pixels, built for {self.pixels}; give a store of the same grid"
            )
        flux_BP, ivar_BP = self.seen(flux_BP, ivar_BP)
        if continuum_BP is None and "continuum" in self.inputs:
            raise ValueError(
                f"model: {type(self).__module__.rpartition('.')[2]} needs continua; ingest with prepare.continuum=dual"
            )
        return self.answer(flux_BP, ivar_BP, continuum_BP)

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """See some training spectra once, before the first step; a network that starts from the data (means, components) overrides it."""

    def size(self) -> int:
        """How many numbers it has learned."""
        return sum(value.numel() for value in self.parameters())

    def elastic(self) -> frozenset[str]:
        """The parts of its state that are as long as the data made them, so that no other network says how long they should be."""
        return frozenset()

    def last_layers(self) -> list[nn.Module]:
        """The layers that give the answers; they start small."""
        return [part for head in self.heads.modules() if isinstance(head, Heads) for part in head.children()]

    def small_layers(self) -> list[nn.Module]:
        """Layers that start as torch sets them, smaller than the rest."""
        return []

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """What the network makes of spectra whose bad pixels lie on the continuum; each network defines it."""
        raise TypeError(f"{type(self).__module__} defines no answer()")


class Heads(nn.Module):
    """The last layers: from features to the answers of a task, with log variances where the task wants them."""

    def __init__(self, features_cls: int, features_reg: int, task: Task) -> None:
        super().__init__()
        if task.classifies:
            self.cls = nn.Linear(features_cls, task.classes)
        if task.regresses:
            self.mu = nn.Linear(features_reg, len(task.labels))
            if task.sigma:
                self.log_var = nn.Linear(features_reg, len(task.labels))

    def forward(self, cls_BD: Tensor, reg_BD: Tensor) -> Answers:
        """Answers from the features of either task; they may be the same."""
        answers: dict[str, Any] = {}
        if hasattr(self, "cls"):
            answers["logits"] = self.cls(cls_BD)
        if hasattr(self, "mu"):
            answers["mu"] = self.mu(reg_BD)
        if hasattr(self, "log_var"):
            answers["log_var"] = bounded(self.log_var(reg_BD))
        return answers


def bounded(log_var: Tensor) -> Tensor:
    """Log variances within -12 and 8, smoothly: beyond lie only overflow and false certainty."""
    exact = log_var if log_var.dtype == torch.float64 else log_var.float()
    return 10 * torch.tanh((exact + 2) / 10) - 2


class Dropout(nn.Module):
    """Dropout whose choice does not depend on how a batch is shared out among workers.

    Each worker draws for the whole batch (`share` = its place and the number of workers, set by the loop) and uses its own rows.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.share = (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x with a share p of its numbers 0, the others scaled up; in evaluation x itself."""
        if not self.training or self.p == 0:
            return x
        rank, size = self.share
        drawn = torch.rand((len(x) * size, *x.shape[1:]), device=x.device)
        return x * (drawn[rank * len(x) : (rank + 1) * len(x)] >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        """The share that is dropped."""
        return f"p={self.p}"
