"""Metrics of classes and labels, with intervals."""

from survey.metrics import checks, classes, intervals, labels
from survey.metrics.epoch import quick
from survey.metrics.intervals import Measure

__all__ = ["Measure", "checks", "classes", "intervals", "labels", "quick"]
