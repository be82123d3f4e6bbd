"""Answers about random stars, with their truth."""

import numpy as np

from survey import labels
from survey.answers import Answers
from survey.metrics.score import LabelledAnswers

LABELS = ("FeH", "CFe", "Teff", "logg")
SIGMA = np.array([0.1, 0.1, 80, 0.2])


def labelled_stars(size: int, seed: int = 0) -> LabelledAnswers:
    """Answers about so many stars: good ones with some outliers."""
    rng = np.random.default_rng(seed)
    feh, cfe = rng.uniform(-3.5, 0.3, size), rng.normal(0.3, 0.5, size)
    teff, logg = rng.uniform(4000, 6500, size), rng.uniform(1, 5, size)
    truth_NL = np.stack([feh, cfe, teff, logg], 1)
    value_NL = truth_NL + rng.standard_t(4, truth_NL.shape) * SIGMA
    extra = {"snr_g": rng.lognormal(3, 1, size), "layout": np.full(size, "new")}
    predicted_N = labels.classes(value_NL[:, 0], value_NL[:, 1])
    p_NC = np.eye(3)[predicted_N] * 0.8 + 0.2 / 3
    answers = Answers(LABELS, labels.CLASSES, p_NC=p_NC, value_NL=value_NL)
    sigma_NL = np.ones(truth_NL.shape) * SIGMA
    return LabelledAnswers(answers, labels.classes(feh, cfe), truth_NL, sigma_NL, extra)
