"""Stars of three classes that lie as normal clouds in two features, so that every probability is known, mixed as one likes."""

import numpy as np
import pyarrow as pa

CENTRES = np.array([[0.0, 0.0], [1.6, 1.2], [-2.2, 0.4]])
BALANCED, SKY = (1 / 3, 1 / 3, 1 / 3), (0.1, 0.02, 0.88)


def stars(random: np.random.Generator, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and features of so many stars of each class."""
    class_N = np.repeat(np.arange(3), counts)
    return class_N, CENTRES[class_N] + random.standard_normal((len(class_N), 2))


def probabilities(feature_N2: np.ndarray, mix: tuple[float, ...] = BALANCED) -> np.ndarray:
    """What a perfect network says that has learned from stars so mixed."""
    log_NC = -0.5 * ((feature_N2[:, None] - CENTRES) ** 2).sum(2) + np.log(mix)
    p_NC = np.exp(log_NC - log_NC.max(1, keepdims=True))
    return p_NC / p_NC.sum(1, keepdims=True)


def table(class_N: np.ndarray, p_NC: np.ndarray, **more: np.ndarray) -> pa.Table:
    """Validation stars as a table."""
    columns = {
        name: pa.array(p_NC[:, number], from_pandas=True)
        for number, name in enumerate(("p_mp", "p_cemp", "p_nmp"))
    }
    return pa.table(columns | {"true_class": class_N.astype(np.int8)} | more)


def validation(counts: tuple[int, ...], seed: int = 0, learned: tuple[float, ...] = BALANCED) -> pa.Table:
    """Validation stars with what a network that has learned from such a mix says of them."""
    class_N, feature_N2 = stars(np.random.default_rng(seed), counts)
    return table(class_N, probabilities(feature_N2, learned))
