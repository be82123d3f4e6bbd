"""Labelled answers for tests, from plain arrays."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from survey.answers import Answers
from survey.labels import CLASSES
from survey.metrics.score import LabelledAnswers

OF_ANSWERS = {field.name for field in fields(Answers)}


def labelled_answers(
    class_N: Any,
    label_NL: Any,
    labels: Sequence[str] = (),
    *,
    classes: Sequence[str] = CLASSES,
    **arrays: Any,
) -> LabelledAnswers:
    """Answers with the truth; `arrays` are fields of the answers, or of the labelled answers."""
    of_answers = {name: array for name, array in arrays.items() if name in OF_ANSWERS}
    others = {name: array for name, array in arrays.items() if name not in OF_ANSWERS}
    answers = Answers(tuple(labels), tuple(classes), **of_answers)
    return LabelledAnswers(answers, np.asarray(class_N), label_NL, **others)


def changed(labelled: LabelledAnswers, **changes: Any) -> LabelledAnswers:
    """The same with changes, also of fields of the answers."""
    of_answers: dict[str, Any] = {name: value for name, value in changes.items() if name in OF_ANSWERS}
    others: dict[str, Any] = {name: value for name, value in changes.items() if name not in OF_ANSWERS}
    if of_answers:
        others["answers"] = replace(labelled.answers, **of_answers)
    return replace(labelled, **others)
