"""How much the members of an ensemble differ, and what the ensemble gains over its best member: one long
table.

Members that are right and wrong about the same stars gain nothing together. Each number rests on the
spectra for which all members that give the classes, or the label, have an answer: so all are compared on
the same spectra. Shapes: N spectra, M members, C classes, L labels.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import Answers, Floats
from survey.ensemble.combine import MemberAnswers
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import log_losses
from survey.metrics.intervals import Counts, percentile_interval, resample_means
from survey.metrics.labels import pearson

ENSEMBLE_NAME = "ensemble"
"""The name of the ensemble among its members."""
CLASSES = "classes"
"""The subject of the rows about classes; the other subjects are labels."""

COLUMNS = (
    ("subject", pa.string(), "classes, or the label"),
    (
        "metric",
        pa.string(),
        "accuracy, log_loss, mae: of a member or of the ensemble; accuracy_gain, ...: by how much the "
        "ensemble is better "
        "than the best member; agreement: share of spectra with the same class from two members; "
        "residual_correlation: of two members",
    ),
    ("one", pa.string(), "the member, or ensemble"),
    ("other", pa.string(), "the member that it is compared with; null where there is none"),
    ("n", pa.int64(), "spectra that the value rests on"),
    ("value", pa.float64(), "in the unit of the label where it has one"),
    ("low", pa.float64(), "lower end of the 95 % interval of a gain; null for all other metrics"),
    ("high", pa.float64(), "upper end of the 95 % interval of a gain; null for all other metrics"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": description}) for name, kind, description in COLUMNS]
)


class _Row(NamedTuple):
    subject: str
    metric: str
    one: str
    other: str | None
    n: int
    value: float
    low: float | None = None
    high: float | None = None


def diversity_table(
    member_answers: MemberAnswers,
    answers: Answers,
    class_N: NDArray[Any],
    label_NL: Floats,
    names: Sequence[str],
    star_N: Counts | None = None,
) -> pa.Table:
    """Metrics of the members (`names`) and of the ensemble, its gain over the best member, and how alike
    members are.

    Class -1 and NaN labels are unknown. `star_N` is a number per star: intervals of gains count its visits
    together. The columns are those of `SCHEMA`.
    """
    if len(names) != member_answers.members or len(answers) != len(member_answers):
        raise ValueError(
            f"diversity: {len(names)} names and {len(answers)} answers of the ensemble for "
            f"{member_answers.members} members "
            f"and {len(member_answers)} spectra; give one per member and per spectrum"
        )
    rows = [
        *_class_rows(member_answers, answers, class_N, names, star_N),
        *_label_rows(member_answers, answers, np.asarray(label_NL, np.float64), names, star_N),
    ]
    return pa.Table.from_pylist([row._asdict() for row in rows if np.isfinite(row.value)], SCHEMA)


def _class_rows(
    member_answers: MemberAnswers,
    answers: Answers,
    class_N: NDArray[Any],
    names: Sequence[str],
    star_N: Counts | None,
) -> Iterator[_Row]:
    member_M = np.flatnonzero(member_answers.gives_class()).tolist()
    if answers.p_NC is None or not member_M:
        return
    truth_N = class_numbers(class_N, len(member_answers.classes), len(member_answers))
    answered_N = member_answers.has_class()[member_M].all(0) & np.isfinite(answers.p_NC).all(1)
    predicted_MN = np.nan_to_num(member_answers.p_MNC).argmax(2)
    known_N = answered_N & (truth_N != MISSING)
    p_of = {names[member]: member_answers.p_MNC[member][known_N] for member in member_M}
    p_of[ENSEMBLE_NAME] = answers.p_NC[known_N]
    right_of = {name: 1.0 * (p_NC.argmax(1) == truth_N[known_N]) for name, p_NC in p_of.items()}
    loss_of = {name: log_losses(truth_N[known_N], p_NC) for name, p_NC in p_of.items()}
    known_stars = None if star_N is None else star_N[known_N]
    yield from _gain_rows(CLASSES, "accuracy", right_of, known_stars, larger_is_better=True)
    yield from _gain_rows(CLASSES, "log_loss", loss_of, known_stars, larger_is_better=False)
    for one, other in combinations(member_M, 2):
        alike_N = predicted_MN[one][answered_N] == predicted_MN[other][answered_N]
        share = float(alike_N.mean()) if len(alike_N) else np.nan
        yield _Row(CLASSES, "agreement", names[one], names[other], len(alike_N), share)


def _label_rows(
    member_answers: MemberAnswers,
    answers: Answers,
    truth_NL: Floats,
    names: Sequence[str],
    star_N: Counts | None,
) -> Iterator[_Row]:
    if answers.value_NL is None:
        return
    for number, label in enumerate(member_answers.labels):
        member_M = np.flatnonzero(member_answers.gives_label()[:, number]).tolist()
        if not member_M:
            continue
        residual_MN = member_answers.value_MNL[member_M, :, number] - truth_NL[:, number]
        ensemble_N = answers.value_NL[:, number] - truth_NL[:, number]
        known_N = np.isfinite(residual_MN).all(0) & np.isfinite(ensemble_N)
        pairs = zip(member_M, residual_MN, strict=True)
        residual_of = {names[member]: residual_N[known_N] for member, residual_N in pairs}
        error_of = {name: np.abs(residual_N) for name, residual_N in residual_of.items()}
        error_of[ENSEMBLE_NAME] = np.abs(ensemble_N[known_N])
        known_stars = None if star_N is None else star_N[known_N]
        yield from _gain_rows(label, "mae", error_of, known_stars, larger_is_better=False)
        for one, other in combinations(residual_of, 2):
            value = pearson(residual_of[one], residual_of[other]) if known_N.sum() > 1 else np.nan
            yield _Row(label, "residual_correlation", one, other, int(known_N.sum()), value)


def _gain_rows(
    subject: str,
    metric: str,
    values_of: dict[str, Floats],
    star_N: Counts | None,
    *,
    larger_is_better: bool,
) -> Iterator[_Row]:
    """The mean value of each member and of the ensemble, and the gain of the
    ensemble over the best member.
    """
    count = len(values_of[ENSEMBLE_NAME])
    if not count:
        return
    means = {name: float(value_N.mean()) for name, value_N in values_of.items()}
    for name, value in means.items():
        yield _Row(subject, metric, name, None, count, value)
    members = [name for name in values_of if name != ENSEMBLE_NAME]
    best = (max if larger_is_better else min)(members, key=lambda name: means[name])
    gain_N = (values_of[ENSEMBLE_NAME] - values_of[best]) * (1 if larger_is_better else -1)
    gain = float(gain_N.mean())
    low, high = percentile_interval(resample_means(gain_N[:, None], star_N=star_N)[:, 0], gain)
    if count == 1 or np.isnan(low):  # one star has no interval
        yield _Row(subject, f"{metric}_gain", ENSEMBLE_NAME, best, count, gain)
        return
    yield _Row(subject, f"{metric}_gain", ENSEMBLE_NAME, best, count, gain, low, high)
