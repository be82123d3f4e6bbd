"""What simple classifiers learn from the latent space: a random forest and logistic regression.

They are trained on a part of the stars or objects and tested on the others, once on the latent and once on
other numbers of the same rows, if there are some. What the most common class alone would reach stands
beside them. Rows of one object are in one part. Shapes: N rows, F features, C classes.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.labelling.settings import Split
from survey.labelling.split import parts_of_stars
from survey.latent.row_labels import RowClasses
from survey.latent.settings import Classifiers
from survey.metrics.intervals import Measure, percentile_interval, resample_confusions, share_measure
from survey.tables.columns import described_field

TRAIN, TEST = 0, 2
"""The numbers of the parts of a split."""

SCHEMA = pa.schema(
    [
        described_field(name, kind, text)
        for name, kind, text in (
            ("question", "string", "the column of classes"),
            ("features", "string", "what the classifier sees: latent, statistics, or nothing"),
            ("classifier", "string", "forest, linear, or majority (always the most common class)"),
            ("metric", "string", "accuracy, balanced_accuracy (mean recall), macro_f1, or recall of a class"),
            ("class", "string", "the class of a recall; empty for the other metrics"),
            ("value", "float64", "the metric on the test part"),
            ("low", "float64", "lower end of its 95 % interval"),
            ("high", "float64", "upper end of its 95 % interval"),
            ("n", "int64", "rows of the test part that count"),
            ("train", "int64", "rows of the training part"),
        )
    ]
)


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a known class: the class, the part (`TRAIN` or `TEST`), and the features by name (latent,
    statistics).
    """

    question: str
    classes: tuple[str, ...]
    class_N: NDArray[np.int64]
    part_N: NDArray[np.int8]
    features: Mapping[str, NDArray[np.float32]]


def labelled_rows(
    question: RowClasses,
    rows: NDArray[np.int64],
    object_N: NDArray[np.object_],
    features: Mapping[str, NDArray[np.float32]],
    settings: Classifiers,
) -> LabelledRows | str:
    """The rows to learn from; or why there are none. All features must be known, so that they compare."""
    known_N = np.all([np.isfinite(value_NF).all(1) for value_NF in features.values()], axis=0)
    class_N = question.class_N[rows]
    kept = [
        number
        for number in range(len(question.classes))
        if len(set(object_N[known_N & (class_N == number)])) >= settings.least
    ]
    if len(kept) < 2:
        return (
            f"{len(kept)} classes with {settings.least} stars or objects or more; "
            "two are needed (classifiers.least)"
        )
    chosen_N = known_N & np.isin(class_N, kept)
    number_N, names = np.searchsorted(kept, class_N[chosen_N]), [question.classes[number] for number in kept]
    split = Split(parts=(1 - settings.test, 0.0, settings.test), stratify=True, seed=settings.seed)
    part_N = parts_of_stars(split, object_N[chosen_N], number_N.astype(np.int8))
    for part, purpose in ((TRAIN, "learn from"), (TEST, "test")):
        counts_C = np.bincount(number_N[part_N == part], minlength=len(kept))
        if not counts_C.all():
            return (
                f"no star or object of the class {names[int(counts_C.argmin())]} is left to {purpose} "
                f"(classifiers.test={settings.test:g})"
            )
    return LabelledRows(
        question.name,
        tuple(names),
        number_N,
        part_N,
        {name: value_NF[chosen_N] for name, value_NF in features.items()},
    )


def score_classifiers(rows: LabelledRows, settings: Classifiers) -> list[dict[str, Any]]:
    """The metrics of all classifiers on one question (see `SCHEMA`)."""
    train_N, test_N = rows.part_N == TRAIN, rows.part_N == TEST
    true_N, found = rows.class_N[test_N], []
    common = int(np.bincount(rows.class_N[train_N]).argmax())
    answers = [("nothing", "majority", np.full(len(true_N), common))]
    for features, value_NF in rows.features.items():
        for name, model in _models(settings).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that logistic regression has not converged completely
                model.fit(value_NF[train_N], rows.class_N[train_N])
            answers.append((features, name, model.predict(value_NF[test_N])))
    for features, name, answer_N in answers:
        for measure in _measures(rows.classes, true_N, answer_N):
            subject, metric, *numbers = measure[:6]
            row = (rows.question, features, name, metric, subject, *numbers, int(train_N.sum()))
            found.append(dict(zip(SCHEMA.names, row, strict=True)))
    return found


def _models(settings: Classifiers) -> dict[str, Any]:
    """The classifiers, each class with the same weight."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    forest = RandomForestClassifier(
        settings.trees, class_weight="balanced_subsample", random_state=settings.seed, min_samples_leaf=2
    )
    linear = LogisticRegression(class_weight="balanced", max_iter=500)
    return {"forest": forest, "linear": make_pipeline(StandardScaler(), linear)}


def _measures(
    classes: tuple[str, ...], true_N: NDArray[np.int64], answer_N: NDArray[np.int64]
) -> Iterator[Measure]:
    """Accuracy, balanced accuracy and macro F1, then the recall of each class, with 95 % intervals."""
    count = len(classes)
    counts_CC = np.bincount(true_N * count + answer_N, minlength=count**2).reshape(count, count)
    yield share_measure("", "accuracy", int(np.trace(counts_CC)), len(true_N))
    draws_RCC = resample_confusions(counts_CC)
    for name, metric in (("balanced_accuracy", _balanced_accuracy), ("macro_f1", _macro_f1)):
        value = float(metric(counts_CC[None])[0])
        yield Measure("", name, value, *percentile_interval(metric(draws_RCC), value), len(true_N))
    for number, name in enumerate(classes):
        of_class = int(counts_CC[number].sum())
        yield share_measure(name, "recall", int(counts_CC[number, number]), of_class)


def _balanced_accuracy(counts_RCC: NDArray[np.int64]) -> NDArray[np.float64]:
    right_RC = np.diagonal(counts_RCC, axis1=1, axis2=2)
    true_RC = counts_RCC.sum(2)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(np.where(true_RC > 0, right_RC / true_RC, np.nan), 1))


def _macro_f1(counts_RCC: NDArray[np.int64]) -> NDArray[np.float64]:
    right_RC = np.diagonal(counts_RCC, axis1=1, axis2=2)
    both_RC = counts_RCC.sum(2) + counts_RCC.sum(1)
    return np.asarray(np.mean(2 * right_RC / np.maximum(both_RC, 1), 1))
