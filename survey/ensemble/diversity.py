"""How much the members of an ensemble differ, and what is gained by asking all of them: one long table.

Members that are right and wrong about the same stars gain nothing by being several. Everything is told of the spectra that all members who give a
thing have an answer for, so that they are compared about the same ones. Shapes: N spectra, M members, C classes, L labels.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.ensemble.combine import Combined, Floats, Told
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import log_losses
from survey.metrics.intervals import between, means_drawn
from survey.metrics.labels import pearson

ENSEMBLE, CLASSES = "ensemble", "classes"

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("subject", pa.string(), "classes, or the label"),
            (
                "metric",
                pa.string(),
                "accuracy, log_loss, mae of a member or of the ensemble; their gain, by which the ensemble is better than the best member; "
                "agreement, the share of spectra that two members call alike; residual_correlation of two members",
            ),
            ("one", pa.string(), "the member, or ensemble"),
            ("other", pa.string(), "the member that it is compared with; null where there is none"),
            ("n", pa.int64(), "spectra that the value rests on"),
            ("value", pa.float64(), "in the unit of the label where it has one"),
            ("low", pa.float64(), "lower end of the 95 % interval of a gain; null for all else"),
            ("high", pa.float64(), "upper end of the 95 % interval of a gain; null for all else"),
        )
    ]
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


def table(
    told: Told, combined: Combined, class_N: NDArray[Any], label_NL: Floats, names: Sequence[str]
) -> pa.Table:
    """Metrics of the members (`names`) and of the ensemble, its gain over the best of them, and how alike two members are; class -1 and NaN
    labels are unknown. Its columns are those of `SCHEMA`.
    """
    if len(names) != told.members or len(combined) != len(told):
        raise ValueError(
            f"diversity: {len(names)} names and {len(combined)} answers of the ensemble for {told.members} members and {len(told)} spectra; "
            "give one for each"
        )
    rows = [
        *_classes(told, combined, class_N, names),
        *_labels(told, combined, np.asarray(label_NL, np.float64), names),
    ]
    return pa.Table.from_pylist([row._asdict() for row in rows if np.isfinite(row.value)], SCHEMA)


def _classes(told: Told, combined: Combined, class_N: NDArray[Any], names: Sequence[str]) -> Iterator[_Row]:
    member_M = np.flatnonzero(told.class_givers()).tolist()
    if combined.p_NC is None or not member_M:
        return
    truth_N = class_numbers(class_N, len(told.classes), len(told))
    all_N = told.says_class()[member_M].all(0) & np.isfinite(combined.p_NC).all(1)
    called_MN = np.nan_to_num(told.p_MNC).argmax(2)
    known_N = all_N & (truth_N != MISSING)
    each = [
        *((names[member], told.p_MNC[member][known_N]) for member in member_M),
        (ENSEMBLE, combined.p_NC[known_N]),
    ]
    yield from _compared(
        CLASSES,
        "accuracy",
        {name: 1.0 * (p_NC.argmax(1) == truth_N[known_N]) for name, p_NC in each},
        up=True,
    )
    yield from _compared(
        CLASSES, "log_loss", {name: log_losses(truth_N[known_N], p_NC) for name, p_NC in each}, up=False
    )
    for one, other in combinations(member_M, 2):
        alike_N = called_MN[one][all_N] == called_MN[other][all_N]
        yield _Row(
            CLASSES,
            "agreement",
            names[one],
            names[other],
            len(alike_N),
            float(alike_N.mean()) if len(alike_N) else np.nan,
        )


def _labels(told: Told, combined: Combined, truth_NL: Floats, names: Sequence[str]) -> Iterator[_Row]:
    if combined.mu_NL is None:
        return
    for number, label in enumerate(told.labels):
        member_M = np.flatnonzero(told.label_givers()[:, number]).tolist()
        residual_MN = told.mu_MNL[member_M, :, number] - truth_NL[:, number]
        own_N = combined.mu_NL[:, number] - truth_NL[:, number]
        known_N = np.isfinite(residual_MN).all(0) & np.isfinite(own_N)
        each = {
            names[member]: residual_N[known_N]
            for member, residual_N in zip(member_M, residual_MN, strict=True)
        }
        if not each:
            continue
        yield from _compared(
            label,
            "mae",
            {name: np.abs(residual_N) for name, residual_N in (each | {ENSEMBLE: own_N[known_N]}).items()},
            up=False,
        )
        for one, other in combinations(each, 2):
            value = pearson(each[one], each[other]) if known_N.sum() > 1 else np.nan
            yield _Row(label, "residual_correlation", one, other, int(known_N.sum()), value)


def _compared(subject: str, metric: str, each: dict[str, Floats], up: bool) -> Iterator[_Row]:
    """The mean of everyone's values, and by how much that of the ensemble is better than that of the best member, about the same spectra."""
    count = len(each[ENSEMBLE])
    if not count:
        return
    means = {name: float(value_N.mean()) for name, value_N in each.items()}
    for name, value in means.items():
        yield _Row(subject, metric, name, None, count, value)
    members = [name for name in each if name != ENSEMBLE]
    best = max(members, key=lambda name: means[name]) if up else min(members, key=lambda name: means[name])
    gain_N = (each[ENSEMBLE] - each[best]) * (1 if up else -1)
    low, high = (
        between(means_drawn(gain_N[:, None])[:, 0], float(gain_N.mean())) if count > 1 else (None, None)
    )
    yield _Row(subject, f"{metric}_gain", ENSEMBLE, best, count, float(gain_N.mean()), low, high)
