"""What predictions must be before they are scored: finite, of the right shape, probabilities where these are asked for."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.labels import MISSING

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SLACK = 1e-2
"""Probabilities of a spectrum add up to 1 within this: averages of bfloat16 answers do no better."""


def finite(what: str, said: ArrayLike) -> Floats:
    """Predictions as float64, or an error where one is no number: such a prediction is never scored."""
    array = np.asarray(said, np.float64)
    sick = ~np.isfinite(array)
    if sick.any():
        rows = np.unique(np.nonzero(sick)[0])
        raise ValueError(
            f"metrics: {what}: {len(rows):,} of {len(array):,} predictions are not finite, the first in row {rows[0]}; "
            "the network has diverged or its input is damaged: lower the learning rate, or leave these spectra out on purpose"
        )
    return array


def probabilities(said_NC: ArrayLike, classes: int) -> Floats:
    """Class probabilities (N, C), or an error where they are none."""
    p_NC = finite("class probabilities", said_NC)
    if p_NC.ndim != 2 or p_NC.shape[1] != classes:
        raise ValueError(
            f"metrics: class probabilities of shape {p_NC.shape}; give one row per spectrum and one column for each of {classes} classes"
        )
    wrong = (p_NC < -1e-6).any(1) | (np.abs(p_NC.sum(1) - 1) > SLACK)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"metrics: class probabilities of row {row} are {np.round(p_NC[row], 4).tolist()}; they are none: put a softmax upon the logits first"
        )
    return np.clip(p_NC, 0, 1)


def class_numbers(truth_N: ArrayLike, classes: int, rows: int) -> Integers:
    """True classes as integers, or an error where one is neither a class nor `MISSING`."""
    numbers = np.asarray(truth_N).astype(np.int64)
    if numbers.shape != (rows,):
        raise ValueError(
            f"metrics: true classes of shape {numbers.shape} beside {rows} predictions; give one class per spectrum"
        )
    wrong = (numbers != MISSING) & ((numbers < 0) | (numbers >= classes))
    if wrong.any():
        raise ValueError(
            f"metrics: a true class is {numbers[wrong][0]}; classes are 0 to {classes - 1}, and {MISSING} where not known"
        )
    return numbers


def alike(what: str, truth: ArrayLike, said: Floats) -> Floats:
    """The truth as float64, or an error where it does not fit the predictions in shape."""
    array = np.asarray(truth, np.float64)
    if array.shape != said.shape:
        raise ValueError(
            f"metrics: {what}: truth of shape {array.shape}, predictions of shape {said.shape}; give both for the same spectra and labels"
        )
    return array
