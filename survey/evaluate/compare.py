"""Runs and ensembles that answer about the same spectra, compared with the first: which errors are smaller,
by how much.

The spectra are those that none of them was trained on or selected by. What they predict may differ: labels
and classes are compared where the first and another one predict them. Stars are drawn again and again with
all their visits, the same draws for all (a paired bootstrap). A spectrum that is hard for all changes no
difference, so that a difference can be certain where the intervals of both values overlap. Shapes: N
spectra, B blocks of stars, R draws, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import machine
from survey.answers import Floats
from survey.ensemble import holdout
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.ensemble.member_names import short_names
from survey.evaluate.result import Against
from survey.evaluate.share_intervals import interval
from survey.labelling.samples import Samples
from survey.labels import MISSING
from survey.metrics.classes import averages, rates, searches
from survey.metrics.intervals import BLOCKS, block_sums, draw_blocks, percentile_interval
from survey.metrics.score import LabelledAnswers, groups
from survey.metrics.settings import ScoreSettings
from survey.settings import SettingsError
from survey.store.store import Store

Codes = NDArray[np.int64]
Values = dict[str, Floats]
"""Metrics by name, one value per row of sums."""

KINDS = ("all", "snr", "gravity")
"""The groups in which all are compared."""
BETTER, WORSE, OPEN = "better", "worse", "open"
"""The verdict: the interval of the difference is on one side of 0, or it contains 0."""
LEAST_STARS = 20
"""With fewer stars the verdict is open: their intervals are too narrow.

Of two equal models 50 % of differences were called better or worse with 2 stars, 16 % with 5, 6 % with 20.
"""

COLUMNS = (
    ("kind", pa.string(), f"how spectra are grouped: {', '.join(KINDS)}"),
    ("group", pa.string(), "the group"),
    ("rows", pa.int64(), "spectra of the group"),
    ("stars", pa.int64(), "stars of the group"),
    ("subject", pa.string(), "a label, a class, a search, or all classes together"),
    ("metric", pa.string(), "the name of the metric"),
    ("who", pa.string(), "the run or ensemble; the first is the one that the others are compared with"),
    ("n", pa.int64(), "true values that the metric rests on"),
    ("value", pa.float64(), "the metric, in the unit of the label where it has one"),
    (
        "low",
        pa.float64(),
        "lower end of its 95 % interval (bootstrap over stars, or Wilson's without scatter)",
    ),
    ("high", pa.float64(), "upper end of that interval"),
    (
        "difference",
        pa.float64(),
        "value minus the value of the first; for a bias, of the absolute values; null for the first itself",
    ),
    ("difference_low", pa.float64(), "lower end of its 95 % interval, from the same draws"),
    ("difference_high", pa.float64(), "upper end of that interval"),
    (
        "verdict",
        pa.string(),
        f"{BETTER} or {WORSE} than the first if that interval excludes 0 and at least {LEAST_STARS} stars "
        f"have a true value; else {OPEN}",
    ),
    ("few", pa.bool_(), "the true values are of too few stars for a reliable number"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": description}) for name, kind, description in COLUMNS]
)


def open_all(of: str, ensemble: Ensemble, against: Sequence[str]) -> dict[str, Ensemble]:
    """All that are compared by a short name, the one that is evaluated first; empty without a comparison."""
    if not against:
        return {}
    paths = [path.rstrip("/") for path in (of, *against)]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise SettingsError(
            f"evaluate: against: {', '.join(twice)} would be compared with itself; give each run or "
            "ensemble once"
        )
    others = [open_ensemble(path, machine.device()) for path in against]
    ensembles = dict(zip(short_names(paths), (ensemble, *others), strict=True))
    for name, other in list(ensembles.items())[1:]:
        other.check_grid(ensemble.grid, f"evaluate: against: {of}")
        if not _common([ensemble, other]):
            raise SettingsError(
                f"evaluate: against: {name} predicts {', '.join(_predicted(other))}, {of} predicts "
                f"{', '.join(_predicted(ensemble))}: nothing in common; leave it out, or evaluate it alone"
            )
    return ensembles


def _predicted(ensemble: Ensemble) -> list[str]:
    """The labels that it predicts, and `classes`."""
    return [*ensemble.labels, *(["classes"] if ensemble.classes else [])]


def _common(ensembles: Iterable[Ensemble]) -> list[str]:
    """What the first and at least one other predict: labels, and `classes`."""
    first, *others = ensembles
    predicted = {name for other in others for name in other.labels}
    if first.classes and any(other.classes == first.classes for other in others):
        predicted.add("classes")
    return [name for name in _predicted(first) if name in predicted]


def fair_samples(
    ensembles: Mapping[str, Ensemble], samples: Samples, split: str
) -> tuple[Samples, dict[str, int]]:
    """The samples that are fair for all, and how many spectra each of the others costs.

    For the test: stars that none was trained on or selected by. For the validation: stars that none was
    trained on. For the other parts: all spectra.
    """
    keep_N, left_out = np.ones(len(samples), bool), {}
    for name, ensemble in list(ensembles.items())[1:]:
        fair_N = np.ones(len(samples), bool)
        if split == "test":
            fair_N[:] = False
            fair_N[holdout.unseen_by(ensemble, samples.extra)] = True
        elif split == "validation":
            fair_N = ~holdout.seen_parts(ensemble.members, samples.extra).train_N
        left_out[name] = int((~fair_N).sum())
        keep_N &= fair_N
    return (samples if keep_N.all() else samples.at(np.flatnonzero(keep_N))), left_out


def check_comparison(
    ensembles: Mapping[str, Ensemble], store: Store, samples: Samples, left_out: Mapping[str, int]
) -> None:
    """Spectra are left, and the spectra are prepared as each network's training spectra were."""
    if ensembles and not len(samples):
        counts = ", ".join(f"{name} has seen {count:,}" for name, count in left_out.items())
        raise SettingsError(
            "evaluate: against: no spectrum is left that none of them was trained on or selected by "
            f"({counts}); give others, or labels="
        )
    for name, ensemble in ensembles.items():
        for run in ensemble.members.runs:
            if differing := run.document.store.prepare.differences(store.prepare):
                raise SettingsError(
                    f"evaluate: against: {name}: the training spectra of {run.path} are not prepared like "
                    f"those of {store.path} "
                    f"({'; '.join(differing)}), so the comparison would be unfair; leave it out, or "
                    "evaluate each with its own store"
                )


def describe_comparison(ensembles: Mapping[str, Ensemble], left_out: Mapping[str, int]) -> Against:
    """The comparison for the document: what is compared, and what only some of them predict."""
    common = set(_common(ensembles.values()))
    alone = {name: sorted({*_predicted(ensemble)} - common) for name, ensemble in ensembles.items()}
    return Against(
        paths={name: ensemble.path for name, ensemble in ensembles.items()},
        left_out=dict(left_out),
        alone={name: names for name, names in alone.items() if names},
    )


def comparison_table(
    labelled: Mapping[str, LabelledAnswers], stars: Sequence[str], settings: ScoreSettings
) -> pa.Table:
    """The metrics of all, with their differences to the first; the columns are those of `SCHEMA`."""
    first = next(iter(labelled.values()))
    _, star_N = np.unique(np.asarray(stars, object).astype(str), return_inverse=True)
    rows: list[dict[str, Any]] = []
    for kind, group, mask_N in groups(first, settings):
        if kind not in KINDS:
            continue
        chosen = {name: answers.at(mask_N) for name, answers in labelled.items()}
        _, code_N = np.unique(star_N[mask_N], return_inverse=True)
        fields = {
            "kind": kind,
            "group": group,
            "rows": int(mask_N.sum()),
            "stars": int(code_N.max(initial=-1)) + 1,
        }
        rows += [fields | row for row in _rows(chosen, np.asarray(code_N, np.int64), settings)]
    return pa.Table.from_pylist(rows, SCHEMA)


def _rows(
    labelled: Mapping[str, LabelledAnswers], star_N: Codes, settings: ScoreSettings
) -> Iterator[dict[str, Any]]:
    """The rows of a group, subject by subject."""
    first = next(iter(labelled))
    block_N = star_N % BLOCKS
    draw_RB = draw_blocks(int(block_N.max()) + 1)
    varies = draw_RB.shape[1] > 1
    for subject, values_of in _subjects(labelled):
        sums_of = {name: block_sums(values, block_N) for name, values in values_of.items()}
        classes = labelled[first].classes
        metrics = label_metrics if subject else class_metrics(classes)
        value_of = {name: metrics(sums.sum(0, keepdims=True)) for name, sums in sums_of.items()}
        drawn_of = {name: metrics(draw_RB @ sums) for name, sums in sums_of.items()}
        known_of = {name: (sums[:, :1] if subject else sums).sum(1) for name, sums in sums_of.items()}
        n_of = {name: int(known_B.sum()) for name, known_B in known_of.items()}
        stars_of = {name: int((known_B > 0).sum()) for name, known_B in known_of.items()}
        decides = stars_of[first] >= LEAST_STARS
        for key in value_of[first]:
            class_subject, _, metric = key.rpartition("/")
            own, own_R = float(value_of[first][key][0]), drawn_of[first][key]
            for name in sums_of:
                value, drawn_R = float(value_of[name][key][0]), drawn_of[name][key]
                if not np.isfinite(value):
                    continue
                low, high = np.nan, np.nan
                if varies:
                    low, high = interval(key, value, drawn_R, sums_of[name], classes)
                row = {
                    "subject": subject or class_subject,
                    "metric": metric,
                    "who": name,
                    "n": n_of[name],
                    "few": stars_of[name] < settings.few,
                    "value": value,
                    "low": _or_null(low),
                    "high": _or_null(high),
                }
                if name != first:
                    row |= _difference(metric, own, own_R, value, drawn_R, varies)
                    row["verdict"] = row["verdict"] if decides else OPEN
                yield row


def _difference(
    metric: str, own: float, own_R: Floats, value: float, drawn_R: Floats, varies: bool
) -> dict[str, Any]:
    """The difference to the value of the first, and whether it is better."""
    if metric == "bias":
        own, own_R, value, drawn_R = abs(own), np.abs(own_R), abs(value), np.abs(drawn_R)
    difference = value - own
    low, high = percentile_interval(drawn_R - own_R, difference) if varies else (np.nan, np.nan)
    larger_is_better = metric in ("accuracy", "precision", "recall") or metric.startswith("f1")
    verdict = OPEN
    if low > 0:
        verdict = BETTER if larger_is_better else WORSE
    elif high < 0:
        verdict = WORSE if larger_is_better else BETTER
    return {
        "difference": _or_null(difference),
        "difference_low": _or_null(low),
        "difference_high": _or_null(high),
        "verdict": verdict,
    }


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _subjects(labelled: Mapping[str, LabelledAnswers]) -> Iterator[tuple[str, dict[str, Floats]]]:
    """What the first and another predict: the classes (without a name) and each label.

    With it come the values that are summed, a row per spectrum.
    """
    first, *others = labelled.values()
    if first.p_NC is not None and (first.class_N != MISSING).any():
        with_classes = {
            name: answers
            for name, answers in labelled.items()
            if answers.p_NC is not None and answers.classes == first.classes
        }
        if len(with_classes) > 1:
            yield "", {name: _confusions(answers) for name, answers in with_classes.items()}
    for name in first.labels if first.value_NL is not None else ():
        truth_N = first.label_NL[:, first.labels.index(name)]
        if np.isfinite(truth_N).any() and any(other.value(name) is not None for other in others):
            value_of = {who: answers.value(name) for who, answers in labelled.items()}
            yield (
                name,
                {who: _moments(truth_N, value_N) for who, value_N in value_of.items() if value_N is not None},
            )


def _moments(truth_N: Floats, value_N: Floats) -> Floats:
    """Count, size, square and value of each residual; all 0 where the truth is unknown."""
    residual_N = np.nan_to_num(value_N - truth_N)
    known_N = np.isfinite(truth_N).astype(np.float64)
    return np.stack([known_N, np.abs(residual_N), residual_N**2, residual_N], 1)


def _confusions(answers: LabelledAnswers) -> Floats:
    """The confusion matrix of each spectrum, flat; all 0 where its class is unknown."""
    assert answers.p_NC is not None
    size = len(answers.classes)
    cell_N = answers.class_N * size + answers.p_NC.argmax(1)
    return np.eye(size * size + 1)[np.where(answers.class_N == MISSING, size * size, cell_N)][:, :-1]


def label_metrics(sums_R4: Floats) -> Values:
    """Metrics of residuals from their count and the sums of their sizes, squares and values."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size, square, bias = (sums_R4[:, column] / sums_R4[:, 0] for column in (1, 2, 3))
    scatter = np.sqrt(np.maximum(square - bias**2, 0))
    return {"mae": size, "rmse": np.sqrt(square), "bias": bias, "scatter": scatter}


def class_metrics(names: Sequence[str]) -> Callable[[Floats], Values]:
    """Metrics of flat confusion matrices (R, C C), by `subject/metric`."""

    def metrics(sums_RK: Floats) -> Values:
        counts_RCC = np.rint(sums_RK).astype(np.int64).reshape(-1, len(names), len(names))
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = np.trace(counts_RCC, axis1=1, axis2=2) / counts_RCC.sum((1, 2))
        values = {"all/accuracy": accuracy, "all/f1_macro": averages(counts_RCC)["f1_macro"]}
        values |= {f"{name}/f1": rates(counts_RCC)[2][:, number] for number, name in enumerate(names)}
        for search, wanted in searches(names).items():
            is_wanted_C = np.isin(np.arange(len(names)), wanted)
            merge_2C = np.stack([~is_wanted_C, is_wanted_C]).astype(np.int64)
            values[f"{search}/f1"] = rates(merge_2C @ counts_RCC @ merge_2C.T)[2][:, 1]
        return values

    return metrics
