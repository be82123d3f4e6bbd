"""Ridge regression on principal components and products of the first ones: the strongest simple baseline.

A spectrum is clipped and reduced to its components. Labels are linear in the components and their products
(ridge regression); classes come from a logistic regression on the same terms. The strength of the penalty is
chosen on the validation part, for each label. In float64; a prediction is a few products of matrices. Shapes:
N spectra, K components, D terms, L labels, C classes.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from survey.models.baseline import MAX_FLUX, Baseline, FitSettings, TrainingSet
from survey.models.network import Outputs
from survey.models.options import BaselineOptions
from survey.models.settings import Task
from survey.models.statistics import Components

PRODUCT_SCALE = 0.3
"""Products are multiplied by this, so that their penalty is ten times as strong as that of components."""
CHUNK = 4096
"""Spectra whose terms are in memory together."""
LATENT = 64
"""Number of first components that are the latent features; later ones are mostly noise."""
MAX_CLASSIFIED = 100_000
"""Spectra that classes are learned from; more cost time and change nothing."""
DEFAULT_STRENGTH = 10.0
"""The strength for classes where there is no validation part to choose it."""
ABSENT_LOGIT = -30.0
"""The logit of a class that is not in the training part."""

Strengths = tuple[float, ...]


class Options(BaselineOptions):
    """The terms of the regression, and the penalty on their weights."""

    components: int = Field(
        300, ge=1, le=4096, description="principal components that a spectrum is reduced to"
    )
    products: int = Field(
        20,
        ge=0,
        le=128,
        description="first components whose squares and products are used too; 0 = a linear model",
    )
    strengths: Strengths = Field(
        (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
        strict=False,
        min_length=1,
        description="strengths of the penalty to choose from, for each label",
    )
    class_strengths: Strengths = Field(
        (1.0, 10.0, 100.0, 1000.0),
        strict=False,
        min_length=1,
        description="strengths to choose from for the logistic regression of the classes",
    )


class Net(Baseline):
    """Components, their products, and the weights of these terms."""

    label_DL: Tensor
    class_DC: Tensor

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        smallest = min(*options.strengths, *options.class_strengths)
        if smallest <= 0:
            raise ValueError(f"ridge: options.strengths: holds {smallest:g}; give numbers above 0")
        count = min(options.components, pixels)
        self.products = min(options.products, count)
        self.strengths, self.class_strengths = options.strengths, options.class_strengths
        terms = 1 + count + self.products * (self.products + 1) // 2
        classes = task.classes * task.classifies
        self.components = Components(pixels, count)
        self.register_buffer("label_DL", torch.zeros(terms, len(task.labels), dtype=torch.float64))
        self.register_buffer("class_DC", torch.zeros(terms, classes, dtype=torch.float64))

    def size(self) -> int:
        """The numbers of the components and of the weights."""
        return sum(value.numel() for value in self.state_dict().values())

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The principal components of some training spectra."""
        del ivar_BP, continuum_BP
        self.components.fit(flux_BP.clamp(0, MAX_FLUX))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """The components."""
        del ivar_BP
        feature_BK: Tensor = self.components(flux_BP.clamp(0, MAX_FLUX))
        return feature_BK

    def predict(self, feature_BF: Tensor) -> Outputs:
        """Terms times weights."""
        outputs = {"latent": feature_BF[:, :LATENT]}
        with torch.autocast(feature_BF.device.type, enabled=False):
            term_BD = self._terms(feature_BF)
            if self.task.classifies:
                outputs["logits"] = (term_BD @ self.class_DC).log_softmax(1)
            if self.task.regresses:
                outputs["mu"] = term_BD @ self.label_DL
        return outputs

    def fit(
        self, train: TrainingSet, validation: TrainingSet, settings: FitSettings
    ) -> Iterator[dict[str, float]]:
        """Label by label, then the classes; the weights of a label without a labelled spectrum stay 0."""
        for number in range(len(self.task.labels)):
            labelled = train.select(train.label_weight_NL[:, number] > 0)
            check = validation.select(validation.label_weight_NL[:, number] > 0)
            if len(labelled):
                self.label_DL[:, number] = self._fit_label(labelled, check, number, settings)
        if self.task.classifies:
            classified = train.select(train.class_weight_N > 0)
            check = validation.select(validation.class_weight_N > 0)
            self.class_DC.copy_(self._fit_classes(classified, check, settings))
        yield {}

    def _terms(self, feature_BK: Tensor) -> Tensor:
        """1, the components, and the products of the first ones."""
        feature_BK = feature_BK.double()
        row, column = torch.triu_indices(self.products, self.products, device=feature_BK.device)
        products = PRODUCT_SCALE * feature_BK[:, row] * feature_BK[:, column]
        return torch.cat([feature_BK.new_ones(len(feature_BK), 1), feature_BK, products], 1)

    def _fit_label(
        self, train: TrainingSet, validation: TrainingSet, number: int, settings: FitSettings
    ) -> Tensor:
        """The weights of the terms for a label, at the best strength; the sums are computed only once."""
        gram_DD, moment_D = self._normal_equations(train, number)
        use_validation = settings.keep_best and len(validation) > 0
        candidates = []
        for strength in self.strengths:
            penalty_D = torch.full_like(moment_D, strength)
            penalty_D[0] = 1e-9 * gram_DD[0, 0]
            root_DD = torch.linalg.cholesky(gram_DD + penalty_D.diag())
            weight_D = torch.cholesky_solve(moment_D[:, None], root_DD)[:, 0]
            error = self._error(validation if use_validation else train, number, weight_D, settings)
            if not use_validation:
                # Generalised cross-validation: the error as it would be without the spectrum itself.
                free = 1 - float((torch.cholesky_inverse(root_DD) * gram_DD).sum()) / len(train)
                error /= max(free, 1e-3) ** (1 if settings.errors == "absolute" else 2)
            candidates.append((error, weight_D))
        return min(candidates, key=lambda candidate: candidate[0])[1]

    def _normal_equations(self, train: TrainingSet, number: int) -> tuple[Tensor, Tensor]:
        """The weighted sums of products of terms, and of terms times label."""
        terms = len(self.label_DL)
        gram_DD = torch.zeros(terms, terms, dtype=torch.float64)
        moment_D = torch.zeros(terms, dtype=torch.float64)
        for rows in torch.split(torch.arange(len(train)), CHUNK):
            chunk = train.select(rows)
            term_ND, weight_N = self._terms(chunk.feature_NF), chunk.label_weight_NL[:, number].double()
            gram_DD += term_ND.T @ (weight_N[:, None] * term_ND)
            moment_D += term_ND.T @ (weight_N * chunk.label_NL[:, number])
        return gram_DD, moment_D

    def _error(self, part: TrainingSet, number: int, weight_D: Tensor, settings: FitSettings) -> float:
        """The weighted mean error of a label, absolute or squared."""
        total = 0.0
        for rows in torch.split(torch.arange(len(part)), CHUNK):
            chunk = part.select(rows)
            error_N = (self._terms(chunk.feature_NF) @ weight_D - chunk.label_NL[:, number]).abs()
            cost_N = error_N if settings.errors == "absolute" else error_N**2
            total += float((chunk.label_weight_NL[:, number] * cost_N).sum())
        return total / float(part.label_weight_NL[:, number].sum())

    def _fit_classes(self, train: TrainingSet, validation: TrainingSet, settings: FitSettings) -> Tensor:
        """The weights of the terms for the classes: multinomial logistic regression at the best strength."""
        train = train.select(torch.arange(0, len(train), -(-len(train) // MAX_CLASSIFIED)))
        present = torch.unique(train.class_N)
        if len(present) < 2:
            weight_CD = torch.zeros(len(present), len(self.class_DC), dtype=torch.float64)
            return self._all_classes(weight_CD, present)
        strengths = [min(self.class_strengths, key=_distance_to_default)]
        if settings.keep_best and len(validation):
            strengths = sorted(self.class_strengths, reverse=True)
        train_ND = self._terms(train.feature_NF)[:, 1:].numpy()
        check_ND = self._terms(validation.feature_NF)
        class_N, class_weight_N = train.class_N.numpy(), train.class_weight_N.numpy()
        # From the strongest on, each fit starts from the result of the one before.
        logistic = LogisticRegression(max_iter=300, warm_start=True)
        candidates = []
        with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
            # Not fully converged is good enough: the strength matters more.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for strength in strengths:
                logistic.set_params(C=1 / strength).fit(train_ND, class_N, class_weight_N)
                weight_DC = self._all_classes(_class_weights(logistic), present)
                loss_N = functional.cross_entropy(check_ND @ weight_DC, validation.class_N, reduction="none")
                candidates.append((float((loss_N * validation.class_weight_N).sum()), weight_DC))
        return min(candidates, key=lambda candidate: candidate[0])[1]

    def _all_classes(self, weight_CD: Tensor, present: Tensor) -> Tensor:
        """The weights with columns for absent classes, whose logit is very low."""
        weight_DC = torch.zeros_like(self.class_DC)
        weight_DC[0] = ABSENT_LOGIT
        weight_DC[:, present] = weight_CD.T
        return weight_DC


def _class_weights(logistic: LogisticRegression) -> Tensor:
    """The weights of scikit-learn, one row per class; of two classes it keeps one row only."""
    weight_CD = torch.from_numpy(np.concatenate([logistic.intercept_[:, None], logistic.coef_], 1))
    return weight_CD if len(weight_CD) > 1 else torch.cat([-weight_CD, weight_CD]) / 2


def _distance_to_default(strength: float) -> float:
    """The distance of a strength from the default one, for fits without validation."""
    return abs(math.log(strength / DEFAULT_STRENGTH))
