"""Ridge regression on principal components and on products of the first of them: the strongest of the simple baselines.

A spectrum is clipped, reduced to its components, and these and their products are put together linearly: ridge regression for each label,
logistic regression for the classes, each of a strength chosen on the validation part. In float64; asked, it is a few products of matrices.
Shapes: N spectra, K components, D terms, L labels, C classes.
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

from survey.models.baseline import BRIGHT, Aim, Fitted, Known
from survey.models.components import Components
from survey.models.network import Answers, Task
from survey.settings import Settings

DAMPED = 0.3
"""Products count as features so much smaller, which holds them back ten times as strongly as the components themselves."""
PIECE = 4096
"""Spectra whose terms are in memory together."""
LATENT = 64
"""So many first components are the latent features; what comes after them is mostly noise."""
MOST = 100_000
"""Spectra that classes are learned from; more change nothing but the time it takes."""
USUAL = 10.0
"""The strength for classes where there is no validation part to choose it."""
NEVER = -30.0
"""The logit of a class that is not in the training part."""

Strengths = tuple[float, ...]


class Options(Settings):
    """What the regression looks at, and how it is held back."""

    components: int = Field(
        300, ge=1, le=4096, description="principal components that a spectrum is reduced to"
    )
    products: int = Field(
        20,
        ge=0,
        le=128,
        description="first components whose squares and products are looked at too; 0 = a linear model",
    )
    strengths: Strengths = Field(
        (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
        strict=False,
        min_length=1,
        description="strengths of the penalty to choose from, for each label by itself",
    )
    class_strengths: Strengths = Field(
        (1.0, 10.0, 100.0, 1000.0),
        strict=False,
        min_length=1,
        description="the same for the logistic regression of the classes",
    )


class Net(Fitted):
    """Components, their products, and what they count."""

    label_DL: Tensor
    class_DC: Tensor

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        if min(*options.strengths, *options.class_strengths) <= 0:
            raise ValueError(
                f"ridge: options.strengths: {min(*options.strengths, *options.class_strengths):g}; give numbers above 0"
            )
        count = min(options.components, pixels)
        self.first, self.strengths, self.class_strengths = (
            min(options.products, count),
            options.strengths,
            options.class_strengths,
        )
        terms = 1 + count + self.first * (self.first + 1) // 2
        self.components = Components(pixels, count)
        self.register_buffer("label_DL", torch.zeros(terms, len(task.labels), dtype=torch.float64))
        self.register_buffer(
            "class_DC", torch.zeros(terms, task.classes * task.classifies, dtype=torch.float64)
        )

    def size(self) -> int:
        """Components and what the terms count."""
        return sum(value.numel() for value in self.state_dict().values())

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The principal components of some training spectra."""
        del ivar_BP, continuum_BP
        self.components.behold(flux_BP.clamp(0, BRIGHT))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """The components."""
        del ivar_BP
        feature_BK: Tensor = self.components(flux_BP.clamp(0, BRIGHT))
        return feature_BK

    def told(self, feature_BF: Tensor) -> Answers:
        """Terms times what they count."""
        answers = {"latent": feature_BF[:, :LATENT]}
        with torch.autocast(feature_BF.device.type, enabled=False):
            term_BD = self._terms(feature_BF)
            if self.task.classifies:
                answers["logits"] = (term_BD @ self.class_DC).log_softmax(1)
            if self.task.regresses:
                answers["mu"] = term_BD @ self.label_DL
        return answers

    def fit(self, train: Known, validation: Known, aim: Aim) -> Iterator[dict[str, float]]:
        """Label by label, then the classes; a label that is known of no spectrum stays at 0."""
        for number in range(len(self.task.labels)):
            chosen = [part.at(part.label_weight_NL[:, number] > 0) for part in (train, validation)]
            if len(chosen[0]):
                self.label_DL[:, number] = self._regressed(chosen[0], chosen[1], number, aim)
        if self.task.classifies:
            self.class_DC.copy_(
                self._classified(
                    train.at(train.class_weight_N > 0), validation.at(validation.class_weight_N > 0), aim
                )
            )
        yield {}

    def _terms(self, feature_BK: Tensor) -> Tensor:
        feature_BK = feature_BK.double()
        one, two = torch.triu_indices(self.first, self.first, device=feature_BK.device)
        return torch.cat(
            [
                feature_BK.new_ones(len(feature_BK), 1),
                feature_BK,
                DAMPED * feature_BK[:, one] * feature_BK[:, two],
            ],
            1,
        )

    def _regressed(self, train: Known, validation: Known, number: int, aim: Aim) -> Tensor:
        """What each term counts for a label, at the strength that is best; the products of terms are summed up once for all strengths."""
        gram_DD, moment_D = (
            torch.zeros(len(self.label_DL), len(self.label_DL), dtype=torch.float64),
            torch.zeros(len(self.label_DL)).double(),
        )
        for rows in torch.split(torch.arange(len(train)), PIECE):
            some = train.at(rows)
            term_ND, weight_N = self._terms(some.feature_NF), some.label_weight_NL[:, number].double()
            gram_DD += term_ND.T @ (weight_N[:, None] * term_ND)
            moment_D += term_ND.T @ (weight_N * some.label_NL[:, number])
        judges, found = validation if aim.choose and len(validation) else train, []
        for strength in self.strengths:
            penalty_D = torch.full_like(moment_D, strength)
            penalty_D[0] = 1e-9 * gram_DD[0, 0]
            root_DD = torch.linalg.cholesky(gram_DD + penalty_D.diag())
            weight_D = torch.cholesky_solve(moment_D[:, None], root_DD)[:, 0]
            error = self._error(judges, number, weight_D, aim)
            if (
                judges is train
            ):  # generalised cross-validation: errors as large as they would be without the spectrum itself
                free = 1 - float((torch.cholesky_inverse(root_DD) * gram_DD).sum()) / len(train)
                error /= max(free, 1e-3) ** (1 if aim.errors == "absolute" else 2)
            found.append((error, weight_D))
        return min(found, key=lambda pair: pair[0])[1]

    def _error(self, part: Known, number: int, weight_D: Tensor, aim: Aim) -> float:
        total = 0.0
        for rows in torch.split(torch.arange(len(part)), PIECE):
            some = part.at(rows)
            error_N = (self._terms(some.feature_NF) @ weight_D - some.label_NL[:, number]).abs()
            total += float(
                (
                    some.label_weight_NL[:, number] * (error_N if aim.errors == "absolute" else error_N**2)
                ).sum()
            )
        return total / float(part.label_weight_NL[:, number].sum())

    def _classified(self, train: Known, validation: Known, aim: Aim) -> Tensor:
        """What each term counts for a class: multinomial logistic regression at the strength that is best."""
        train = train.at(torch.arange(0, len(train), -(-len(train) // MOST)))
        there = torch.unique(train.class_N)
        if len(there) < 2:
            return self._spread(torch.zeros(len(there), len(self.class_DC), dtype=torch.float64), there)
        found = []
        term_ND, check_ND = self._terms(train.feature_NF)[:, 1:].numpy(), self._terms(validation.feature_NF)
        strengths = (
            sorted(self.class_strengths, reverse=True)
            if aim.choose and len(validation)
            else [min(self.class_strengths, key=_to_usual)]
        )
        logistic = LogisticRegression(
            max_iter=300, warm_start=True
        )  # from the strongest on, each begins where the last one ended
        with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # nearly there is good enough: the strength matters more
            for strength in strengths:
                logistic.set_params(C=1 / strength).fit(
                    term_ND, train.class_N.numpy(), train.class_weight_N.numpy()
                )
                weight_CD = torch.from_numpy(
                    np.concatenate([logistic.intercept_[:, None], logistic.coef_], 1)
                )
                weight_DC = self._spread(
                    weight_CD if len(there) > 2 else torch.cat([-weight_CD, weight_CD]) / 2, there
                )
                loss_N = functional.cross_entropy(check_ND @ weight_DC, validation.class_N, reduction="none")
                found.append((float((loss_N * validation.class_weight_N).sum()), weight_DC))
        return min(found, key=lambda pair: pair[0])[1]

    def _spread(self, weight_CD: Tensor, there: Tensor) -> Tensor:
        """What the terms count for the classes that are there, and for the others: that they never come."""
        weight_DC = torch.zeros_like(self.class_DC)
        weight_DC[0] = NEVER
        weight_DC[:, there] = weight_CD.T
        return weight_DC


def _to_usual(strength: float) -> float:
    """How far a strength is from the one taken where nobody can choose."""
    return abs(math.log(strength / USUAL))
