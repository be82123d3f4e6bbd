"""The mean predictor: every star is the average one. What a model that looks at spectra has to be better than."""

from collections.abc import Iterator

import torch
from torch import Tensor

from survey.models.baseline import Aim, Fitted, Known
from survey.models.network import Answers, Task
from survey.settings import Settings

RAREST = 1e-6
"""No class is told to be impossible."""


class Options(Settings):
    """There is nothing to choose."""


class Net(Fitted):
    """The mean of each label (the median where absolute errors are to be small) and the share of each class."""

    constant = frozenset({"logits", "mu", "log_var", "latent"})
    mean_L: Tensor
    log_share_C: Tensor

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.register_buffer("mean_L", torch.zeros(len(task.labels), dtype=torch.float64))
        self.register_buffer("log_share_C", torch.zeros(task.classes * task.classifies, dtype=torch.float64))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """None at all."""
        del ivar_BP
        return flux_BP[:, :0]

    def fit(self, train: Known, validation: Known, aim: Aim) -> Iterator[dict[str, float]]:
        """One pass over the labels."""
        del validation
        if self.task.classifies:
            share_C = torch.bincount(
                train.class_N[train.class_weight_N > 0],
                train.class_weight_N[train.class_weight_N > 0],
                self.task.classes,
            )
            self.log_share_C.copy_((share_C.double() / share_C.sum()).clamp_min(RAREST).log())
        for number, (label_N, weight_N) in enumerate(
            zip(train.label_NL.double().T, train.label_weight_NL.double().T, strict=True)
        ):
            known_N = weight_N > 0
            self.mean_L[number] = (_median if aim.errors == "absolute" else _mean)(
                label_N[known_N], weight_N[known_N]
            )
        yield {}

    def told(self, feature_BF: Tensor) -> Answers:
        """The same of every spectrum."""
        answers = {"latent": feature_BF.new_zeros(len(feature_BF), 1)}
        if self.task.classifies:
            answers["logits"] = self.log_share_C.expand(len(feature_BF), -1)
        if self.task.regresses:
            answers["mu"] = self.mean_L.expand(len(feature_BF), -1)
        return answers


def _mean(value_N: Tensor, weight_N: Tensor) -> Tensor:
    return (value_N * weight_N).sum() / weight_N.sum() if len(value_N) else weight_N.sum()


def _median(value_N: Tensor, weight_N: Tensor) -> Tensor:
    """The value below which half of the weight lies."""
    order_N = value_N.argsort()
    below_N = weight_N[order_N].cumsum(0)
    return value_N[order_N][torch.searchsorted(below_N, below_N[-1] / 2)] if len(value_N) else weight_N.sum()
