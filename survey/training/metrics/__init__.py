"""Metrics of classes and labels, with intervals."""

from survey.training.metrics import checks, classes, intervals, labels
from survey.training.metrics.epoch import quick
from survey.training.metrics.intervals import Measure

__all__ = ["Measure", "checks", "classes", "intervals", "labels", "quick"]
