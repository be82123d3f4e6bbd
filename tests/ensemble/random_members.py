"""Random answers of members about stars with a known truth."""

from dataclasses import replace
from typing import Any

import numpy as np

from survey.ensemble.combine import MemberAnswers, Weights, combine
from survey.ensemble.weights import equal_weights

CLASSES = ("MP", "CEMP", "NMP")


def answers(
    members: int = 3, rows: int = 40, labels: int = 2, seed: int = 0, missing: float = 0.0
) -> MemberAnswers:
    """Members with random answers; `missing` is the share of answers that are NaN."""
    rng = np.random.default_rng(seed)
    shape = (members, rows, labels)
    p = rng.dirichlet([0.7, 0.2, 0.7], (members, rows))
    value, var_data, var_passes = rng.normal(0, 2, shape), rng.gamma(2, 1, shape), rng.gamma(1, 1, shape)
    p[rng.random((members, rows)) < missing] = np.nan
    no_value = rng.random(shape) < missing
    value[no_value] = var_data[no_value] = var_passes[no_value] = np.nan
    var_data[rng.random(shape) < missing] = np.nan
    names = tuple(f"L{number}" for number in range(labels))
    return MemberAnswers(names, CLASSES, p, value, var_data, var_passes)


def select(answers: MemberAnswers, members: Any = slice(None), rows: Any = slice(None)) -> MemberAnswers:
    """The answers of some members about some spectra."""
    names = ("p_MNC", "value_MNL", "var_data_MNL", "var_passes_MNL")
    arrays: dict[str, Any] = {name: getattr(answers, name)[members][:, rows] for name in names}
    return replace(answers, **arrays)


def label_answers(value_MN: Any, sigma_MN: Any = np.nan) -> MemberAnswers:
    """Members that predict one label and no classes; `sigma_MN` may be one number, or one per member."""
    value = np.atleast_2d(np.asarray(value_MN, float))[:, :, None]
    sigma = np.asarray(sigma_MN, float)
    sigma = sigma.reshape(-1, 1, 1) if sigma.ndim < 2 else sigma[:, :, None]
    var = np.broadcast_to(sigma, value.shape) ** 2
    return MemberAnswers(("FeH",), (), np.empty((*value.shape[:2], 0)), value, var, np.zeros_like(value))


def class_answers(p_MNC: Any) -> MemberAnswers:
    """Members that predict classes and no labels."""
    p = np.asarray(p_MNC, float)
    empty = np.empty((*p.shape[:2], 0))
    return MemberAnswers((), CLASSES[: p.shape[2]], p, empty, empty, empty)


def combined(answers: MemberAnswers, weights: Weights | None = None) -> Any:
    """The combined `Answers`, by default with equal weights. The type is Any, because parts may be None."""
    return combine(answers, weights or equal_weights(answers))
