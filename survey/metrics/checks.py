"""Checks of predictions before they are scored: finite, of the right shape, probabilities where needed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.labels import MISSING

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SUM_TOLERANCE = 1e-2
"""Probabilities of a spectrum add up to 1 within this; averages of bfloat16 numbers are not more exact."""


def finite(name: str, predicted: ArrayLike) -> Floats:
    """Predictions as float64. A prediction that is not finite is an error; it is never scored."""
    array = np.asarray(predicted, np.float64)
    is_bad = ~np.isfinite(array)
    if is_bad.any():
        rows = np.unique(np.nonzero(is_bad)[0])
        raise ValueError(
            f"metrics: {name}: {len(rows):,} of {len(array):,} predictions are not finite, "
            f"the first in row {rows[0]}; the network has diverged or its input is damaged: "
            "lower the learning rate, or leave these spectra out"
        )
    return array


def probabilities(p_NC: ArrayLike, classes: int) -> Floats:
    """Class probabilities (N, C). Numbers that cannot be probabilities are an error."""
    p_NC = finite("class probabilities", p_NC)
    if p_NC.ndim != 2 or p_NC.shape[1] != classes:
        raise ValueError(
            f"metrics: class probabilities: have the shape {p_NC.shape}; "
            f"give one row per spectrum and one column for each of {classes} classes"
        )
    wrong_N = (p_NC < -1e-6).any(1) | (np.abs(p_NC.sum(1) - 1) > SUM_TOLERANCE)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        raise ValueError(
            f"metrics: class probabilities: row {row} is {np.round(p_NC[row], 4).tolist()}, "
            "which are not probabilities; apply a softmax to the logits first"
        )
    return np.clip(p_NC, 0, 1)


def class_numbers(truth_N: ArrayLike, classes: int, rows: int) -> Integers:
    """True classes as integers. A number that is neither a class nor `MISSING` is an error."""
    numbers_N = np.asarray(truth_N).astype(np.int64)
    if numbers_N.shape != (rows,):
        raise ValueError(
            f"metrics: true classes: have the shape {numbers_N.shape}, but there are {rows} predictions; "
            "give one class per spectrum"
        )
    wrong_N = (numbers_N != MISSING) & ((numbers_N < 0) | (numbers_N >= classes))
    if wrong_N.any():
        raise ValueError(
            f"metrics: true classes: one is {numbers_N[wrong_N][0]}; "
            f"give 0 to {classes - 1}, or {MISSING} where the class is unknown"
        )
    return numbers_N


def same_shape(name: str, truth: ArrayLike, predicted: Floats) -> Floats:
    """The truth as float64. A shape that differs from that of the predictions is an error."""
    array = np.asarray(truth, np.float64)
    if array.shape != predicted.shape:
        raise ValueError(
            f"metrics: {name}: truth has the shape {array.shape}, predictions {predicted.shape}; "
            "give both for the same spectra and labels"
        )
    return array
