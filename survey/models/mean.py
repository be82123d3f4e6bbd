"""The mean predictor: it predicts the average star for every spectrum. Every other model has to be better."""

from collections.abc import Iterator

import torch
from torch import Tensor

from survey.models.baseline import Baseline, FitSettings, TrainingSet
from survey.models.network import Outputs
from survey.models.options import BaselineOptions
from survey.models.settings import Task

MIN_SHARE = 1e-6
"""The smallest probability of a class: none is impossible."""


class Options(BaselineOptions):
    """There are no options."""


class Net(Baseline):
    """The mean of each label (the median, for absolute errors) and the share of each class."""

    constant_outputs = frozenset({"logits", "mu", "log_var", "latent"})
    mean_L: Tensor
    log_share_C: Tensor

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        classes = task.classes * task.classifies
        self.register_buffer("mean_L", torch.zeros(len(task.labels), dtype=torch.float64))
        self.register_buffer("log_share_C", torch.zeros(classes, dtype=torch.float64))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """No feature at all."""
        del ivar_BP
        return flux_BP[:, :0]

    def fit(
        self, train: TrainingSet, validation: TrainingSet, settings: FitSettings
    ) -> Iterator[dict[str, float]]:
        """One pass over the labels."""
        del validation
        if self.task.classifies:
            self.log_share_C.copy_(self._log_shares(train))
        centre = _median if settings.errors == "absolute" else _mean
        for number in range(len(self.task.labels)):
            weight_N = train.label_weight_NL[:, number].double()
            known_N = weight_N > 0
            self.mean_L[number] = centre(train.label_NL[known_N, number].double(), weight_N[known_N])
        yield {}

    def _log_shares(self, train: TrainingSet) -> Tensor:
        known_N = train.class_weight_N > 0
        share_C = torch.bincount(train.class_N[known_N], train.class_weight_N[known_N], self.task.classes)
        return (share_C.double() / share_C.sum()).clamp_min(MIN_SHARE).log()

    def predict(self, feature_BF: Tensor) -> Outputs:
        """The same outputs for every spectrum."""
        outputs = {"latent": feature_BF.new_zeros(len(feature_BF), 1)}
        if self.task.classifies:
            outputs["logits"] = self.log_share_C.expand(len(feature_BF), -1)
        if self.task.regresses:
            outputs["mu"] = self.mean_L.expand(len(feature_BF), -1)
        return outputs


def _mean(value_N: Tensor, weight_N: Tensor) -> Tensor:
    return (value_N * weight_N).sum() / weight_N.sum() if len(value_N) else weight_N.sum()


def _median(value_N: Tensor, weight_N: Tensor) -> Tensor:
    """The value below which half of the weight lies."""
    order_N = value_N.argsort()
    below_N = weight_N[order_N].cumsum(0)
    return value_N[order_N][torch.searchsorted(below_N, below_N[-1] / 2)] if len(value_N) else weight_N.sum()
