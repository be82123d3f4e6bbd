"""Stars of three classes that are normal clouds in two features, so that each probability is known."""

import numpy as np
import pyarrow as pa

from survey.catalog.visits import PROBABILITIES

CENTRES = np.array([[0.0, 0.0], [1.6, 1.2], [-2.2, 0.4]])
BALANCED, SKY = (1 / 3, 1 / 3, 1 / 3), (0.1, 0.02, 0.88)
"""Class shares of a balanced training set, and of a survey."""


def stars(random: np.random.Generator, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and features of so many stars of each class."""
    class_N = np.repeat(np.arange(3), counts)
    return class_N, CENTRES[class_N] + random.standard_normal((len(class_N), 2))


def probabilities(feature_N2: np.ndarray, shares: tuple[float, ...] = BALANCED) -> np.ndarray:
    """The output of a perfect network that was trained on stars with these class shares."""
    log_NC = -0.5 * ((feature_N2[:, None] - CENTRES) ** 2).sum(2) + np.log(shares)
    p_NC = np.exp(log_NC - log_NC.max(1, keepdims=True))
    return np.asarray(p_NC / p_NC.sum(1, keepdims=True))


def table(class_N: np.ndarray, p_NC: np.ndarray, **columns: np.ndarray) -> pa.Table:
    """Validation stars as a table."""
    arrays = {name: pa.array(p_NC[:, number], from_pandas=True) for number, name in enumerate(PROBABILITIES)}
    return pa.table(arrays | {"true_class": class_N.astype(np.int8)} | columns)


def p_of(validation: pa.Table) -> np.ndarray:
    """The probabilities in a table (N, 3)."""
    return np.asarray(np.stack([validation[name].to_numpy() for name in PROBABILITIES], 1))


def validation(counts: tuple[int, ...], seed: int = 0, trained: tuple[float, ...] = BALANCED) -> pa.Table:
    """Validation stars with the output of a network that was trained on these class shares."""
    class_N, feature_N2 = stars(np.random.default_rng(seed), counts)
    return table(class_N, probabilities(feature_N2, trained))
