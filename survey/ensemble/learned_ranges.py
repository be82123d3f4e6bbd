"""Labels as the members of an ensemble learned them: beyond the `label_ranges` of a training, as their ends.

A member cannot tell a star far beyond from one at the end: such a star does not say how good the member is.
Shapes: N spectra, L labels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from survey.answers import Floats
from survey.labelling.samples import Samples
from survey.training.run import Run
from survey.training.sources import learned_labels


def labels_as_learned(samples: Samples, runs: Sequence[Run]) -> Floats:
    """The true labels (N, L), within the ranges of all these runs."""
    label_NL = samples.label_NL
    for run in runs:
        learned = run.document.settings.get("label_ranges", {})
        label_NL = learned_labels(replace(samples, label_NL=label_NL), learned)
    return label_NL


def label_ranges(train: Samples, runs: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """The lowest and highest label that runs learned of the training spectra: beyond, answers extrapolate."""
    ranges = {}
    for name, label_N in zip(train.labels, labels_as_learned(train, runs).T, strict=True):
        known_N = label_N[np.isfinite(label_N)]
        if known_N.size:
            ranges[name] = (float(known_N.min()), float(known_N.max()))
    return ranges
