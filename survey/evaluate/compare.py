"""Several who were asked about the same spectra, set against the first of them: whose errors are smaller, and by how much, with intervals.

Stars are drawn anew with all their visits, the same draws for everyone (a paired bootstrap): what is hard for all moves nobody's difference, so that
a difference may be sure where the intervals of both overlap. Shapes: N spectra, B blocks of stars, R draws, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.labels import MISSING
from survey.metrics.classes import averages, problems, rates
from survey.metrics.intervals import DRAWS, SEED, between
from survey.metrics.score import Evaluation, Judged, groups

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Values = dict[str, Floats]
"""Metrics by name, a value for each of several sums."""

KINDS = ("all", "snr", "gravity")
"""The groups in which everyone is compared."""
BLOCKS = 2000
"""More stars than this are drawn in so many random blocks: as good for an interval, at a bounded cost."""
BETTER, WORSE, OPEN = "better", "worse", "open"
"""What an interval of the difference says: it leaves out 0 to one side or the other, or it does not."""

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("kind", pa.string(), f"how spectra are grouped: {', '.join(KINDS)}"),
            ("group", pa.string(), "the group"),
            ("rows", pa.int64(), "spectra of the group"),
            ("stars", pa.int64(), "stars of the group"),
            ("subject", pa.string(), "a label, a class, a search, or all classes together"),
            ("metric", pa.string(), "what was measured"),
            ("who", pa.string(), "whose answers; the first is the one that others are compared with"),
            ("n", pa.int64(), "truths that the value rests on"),
            ("value", pa.float64(), "the metric, in the unit of the label where it has one"),
            ("low", pa.float64(), "lower end of its 95 % interval (stars drawn anew)"),
            ("high", pa.float64(), "upper end of it"),
            (
                "difference",
                pa.float64(),
                "value minus that of the first one, of a bias regardless of its sign; null for the first one itself",
            ),
            ("difference_low", pa.float64(), "lower end of its 95 % interval, from the same draws"),
            ("difference_high", pa.float64(), "upper end of it"),
            (
                "verdict",
                pa.string(),
                f"{BETTER} or {WORSE} than the first one, if that interval leaves out 0; else {OPEN}",
            ),
            ("few", pa.bool_(), "too few truths to mean much"),
        )
    ]
)


def table(judged_of: Mapping[str, Judged], stars: Sequence[str], settings: Evaluation) -> pa.Table:
    """Everyone's metrics of all that the first and another tell, with differences to the first; rows of `SCHEMA`."""
    first = next(iter(judged_of.values()))
    _, star_N = np.unique(np.asarray(stars, object).astype(str), return_inverse=True)
    rows: list[dict[str, Any]] = []
    for kind, group, chosen_N in groups(first, settings):
        if kind in KINDS:
            some = {name: one.of(chosen_N) for name, one in judged_of.items()}
            _, code_N = np.unique(star_N[chosen_N], return_inverse=True)
            about = {
                "kind": kind,
                "group": group,
                "rows": int(chosen_N.sum()),
                "stars": int(code_N.max(initial=-1)) + 1,
            }
            rows += [about | row for row in _rows(some, np.asarray(code_N, np.int64), settings)]
    return pa.Table.from_pylist(rows, SCHEMA)


def _rows(judged_of: Mapping[str, Judged], star_N: Codes, settings: Evaluation) -> Iterator[dict[str, Any]]:
    """The rows of a group, subject by subject."""
    first = next(iter(judged_of))
    block_N = star_N % BLOCKS
    draw_RB = draws(int(block_N.max()) + 1)
    spread = draw_RB.shape[1] > 1
    for subject, measured in _subjects(judged_of):
        sums_of = {name: blocks(values, block_N, draw_RB.shape[1]) for name, values in measured.items()}
        metrics = of_labels if subject else of_classes(judged_of[first].classes)
        value_of = {name: metrics(sums.sum(0, keepdims=True)) for name, sums in sums_of.items()}
        drawn_of = {name: metrics(draw_RB @ sums) for name, sums in sums_of.items()}
        n_of = {name: int(sums[:, 0 if subject else slice(None)].sum()) for name, sums in sums_of.items()}
        for metric in value_of[first]:
            for name in sums_of:
                told, _, about = metric.rpartition("/")
                row = {
                    "subject": subject or told,
                    "metric": about,
                    "who": name,
                    "n": n_of[name],
                    "few": n_of[name] < settings.few,
                }
                value, drawn = float(value_of[name][metric][0]), drawn_of[name][metric]
                if np.isfinite(value):
                    low, high = between(drawn, value) if spread else (np.nan, np.nan)
                    row |= {"value": value, "low": _or_null(low), "high": _or_null(high)}
                    if name != first:
                        row |= _difference(
                            about,
                            float(value_of[first][metric][0]),
                            drawn_of[first][metric],
                            value,
                            drawn,
                            spread,
                        )
                    yield row


def _difference(
    metric: str, own: float, own_R: Floats, value: float, drawn_R: Floats, spread: bool
) -> dict[str, Any]:
    """How far the value lies above that of the first one, and whether that is better."""
    if metric == "bias":
        own, own_R, value, drawn_R = abs(own), np.abs(own_R), abs(value), np.abs(drawn_R)
    found = value - own
    low, high = between(drawn_R - own_R, found) if spread else (np.nan, np.nan)
    larger = metric in ("accuracy", "precision", "recall") or metric.startswith("f1")
    side = 1 if low > 0 else -1 if high < 0 else 0
    verdict = {0: OPEN, 1: BETTER if larger else WORSE, -1: WORSE if larger else BETTER}[side]
    return {
        "difference": _or_null(found),
        "difference_low": _or_null(low),
        "difference_high": _or_null(high),
        "verdict": verdict,
    }


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _subjects(judged_of: Mapping[str, Judged]) -> Iterator[tuple[str, dict[str, Floats]]]:
    """What the first and another tell: each label, and the classes (under no name); with what is summed for each of them, a row per spectrum."""
    first, *others = judged_of.values()
    if first.p_NC is not None and (first.class_N != MISSING).any():
        told = {
            name: _confused(one)
            for name, one in judged_of.items()
            if one.p_NC is not None and one.classes == first.classes
        }
        if len(told) > 1:
            yield "", told
    for name in first.labels if first.mu_NL is not None else ():
        truth_N = first.label_NL[:, first.labels.index(name)]
        if np.isfinite(truth_N).any() and any(one.said(name) is not None for one in others):
            yield (
                name,
                {
                    who: _moments(truth_N, said_N)
                    for who, one in judged_of.items()
                    if (said_N := one.said(name)) is not None
                },
            )


def _moments(truth_N: Floats, said_N: Floats) -> Floats:
    """How many, size, square and sign of each residual; all 0 where the truth is not known."""
    residual_N = np.nan_to_num(said_N - truth_N)
    return np.stack(
        [np.isfinite(truth_N).astype(np.float64), np.abs(residual_N), residual_N**2, residual_N], 1
    )


def _confused(one: Judged) -> Floats:
    """Each spectrum's place in the confusion matrix; nowhere where its class is not known."""
    assert one.p_NC is not None
    size = len(one.classes)
    place_N = np.where(one.class_N == MISSING, size * size, one.class_N * size + one.p_NC.argmax(1))
    return np.eye(size * size + 1)[place_N][:, :-1]


def blocks(values_NK: Floats, block_N: Codes, size: int) -> Floats:
    """Sums over the spectra of each block."""
    return np.stack([np.bincount(block_N, column, size) for column in values_NK.T], 1)


def draws(size: int, count: int = DRAWS) -> Floats:
    """How often each block is in each sample that is drawn anew."""
    return np.random.default_rng(SEED).multinomial(size, np.full(size, 1 / size), count).astype(np.float64)


def of_labels(sums_R4: Floats) -> Values:
    """Metrics of residuals from their count and the sums of their sizes, squares and selves."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size, square, bias = (sums_R4[:, column] / sums_R4[:, 0] for column in (1, 2, 3))
    return {
        "mae": size,
        "rmse": np.sqrt(square),
        "bias": bias,
        "scatter": np.sqrt(np.maximum(square - bias**2, 0)),
    }


def of_classes(names: Sequence[str]) -> Callable[[Floats], Values]:
    """Metrics of confusion matrices (R, C C), under `subject/metric`."""

    def metrics(sums_RK: Floats) -> Values:
        counts_RCC = np.rint(sums_RK).astype(np.int64).reshape(-1, len(names), len(names))
        with np.errstate(invalid="ignore", divide="ignore"):
            made = {"all/accuracy": np.trace(counts_RCC, axis1=1, axis2=2) / counts_RCC.sum((1, 2))}
        made["all/f1_macro"] = averages(counts_RCC)["f1_macro"]
        made |= {f"{name}/f1": rates(counts_RCC)[2][:, number] for number, name in enumerate(names)}
        for problem, yes in problems(names).items():
            side_2C = np.stack(
                [~np.isin(np.arange(len(names)), yes), np.isin(np.arange(len(names)), yes)]
            ).astype(np.int64)
            made[f"{problem}/f1"] = rates(side_2C @ counts_RCC @ side_2C.T)[2][:, 1]
        return made

    return metrics
