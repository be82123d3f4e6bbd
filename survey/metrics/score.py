"""Answers with the truth -> one long table of metrics, for all spectra and for groups of them.

The groups are: bins of signal to noise, dwarfs and giants, classes of [Fe/H], layouts of the files, sources
of the training. A spectrum without the number that decides is in the group `not known`. Empty groups are left
out; numbers from fewer than `few` stars are marked. Shapes: N spectra, C classes, L labels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import Answers, Floats
from survey.labels import CLASSES
from survey.metrics import classes, labels
from survey.metrics.checks import class_numbers, finite, probabilities, same_shape
from survey.metrics.intervals import Measure, flag_measure
from survey.metrics.settings import ScoreSettings
from survey.metrics.star_visits import star_numbers

UNKNOWN = "not known"
KINDS = ("all", "snr", "gravity", "iron", "layout", "source")
"""The ways to group spectra."""

TRUE_CLASS, TRUE = "true_class", "true_"
"""The column of the true class, and the beginning of the columns of true labels."""
EXTRA, STAR = ("snr", "snr_g", "layout", "source"), "star"
"""Columns by which spectra are grouped; `EXTRA_LABELS` do so too. And the column of the star."""
EXTRA_LABELS = ("Teff", "logg", "FeH")

COLUMNS = (
    ("kind", pa.string(), f"how spectra are grouped: {', '.join(KINDS)}"),
    ("group", pa.string(), "the group"),
    ("rows", pa.int64(), "spectra of the group"),
    ("subject", pa.string(), "a class, a search, a label, or all classes together"),
    ("metric", pa.string(), "the name of the metric"),
    ("n", pa.int64(), "true values that the metric rests on"),
    ("value", pa.float64(), "the metric, in the unit of the label where it has one"),
    (
        "low",
        pa.float64(),
        "lower end of the 95 % interval, in which visits of a star count together; or null",
    ),
    ("high", pa.float64(), "upper end of that interval"),
    ("few", pa.bool_(), "the true values are of too few stars for a reliable number"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": description}) for name, kind, description in COLUMNS]
)


@dataclass(frozen=True)
class LabelledAnswers:
    """Answers about labelled spectra: the answers, the true class (-1: unknown), and the true labels (NaN:
    unknown).

    `sigma_NL` are the errors that are compared with the residuals. `extra` may hold `snr` or `snr_g`,
    `layout`, `source`, the true `Teff`, `logg`, `FeH` where the answers have no such label, and `star`, a
    number per star: intervals count its visits together.
    `labels_name` is the name of the truth in texts and plots, such as the name of another survey.
    """

    answers: Answers
    class_N: NDArray[Any]
    label_NL: Floats
    sigma_NL: Floats | None = None
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    labels_name: str = "true"

    def __post_init__(self) -> None:
        rows = len(self.class_N)
        class_numbers(self.class_N, len(self.classes), rows)
        shape = (rows, len(self.labels))
        if self.p_NC is None and self.value_NL is None:
            raise ValueError(
                "evaluation: neither class probabilities nor labels were predicted; give p_NC, value_NL or "
                "both"
            )
        if len(self.answers) != rows:
            raise ValueError(
                f"evaluation: answers about {len(self.answers)} spectra, the truth of {rows}; give both "
                "for the same spectra"
            )
        for name, array in (("truth", self.label_NL), ("errors", self.sigma_NL)):
            if array is not None and array.shape != shape:
                raise ValueError(
                    f"evaluation: labels ({name}) of shape {array.shape}; {rows} spectra with "
                    f"{len(self.labels)} labels need {shape}"
                )
        for name, column in self.extra.items():
            if len(column) != rows:
                raise ValueError(
                    f"evaluation: column {name} has {len(column)} values for {rows} spectra; give one per "
                    "spectrum"
                )
        if self.p_NC is not None:
            probabilities(self.p_NC, len(self.classes))
        if self.value_NL is not None:
            same_shape("labels", self.label_NL, finite("labels", self.value_NL))

    def __len__(self) -> int:
        return len(self.class_N)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return self.answers.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes by number."""
        return self.answers.classes or CLASSES

    @property
    def p_NC(self) -> Floats | None:  # noqa: N802
        """Class probabilities."""
        return self.answers.p_NC

    @property
    def value_NL(self) -> Floats | None:  # noqa: N802
        """Predicted labels."""
        return self.answers.value_NL

    def at(self, index_N: NDArray[Any]) -> Self:
        """Some of the spectra, by a mask or by row numbers."""
        return replace(
            self,
            answers=self.answers.at(index_N),
            class_N=self.class_N[index_N],
            label_NL=self.label_NL[index_N],
            sigma_NL=None if self.sigma_NL is None else self.sigma_NL[index_N],
            extra={name: column[index_N] for name, column in self.extra.items()},
        )

    def true_label(self, name: str) -> Floats | None:
        """A true label; where it is unknown, the value in `extra`. None where neither has it."""
        label_N = self.label_NL[:, self.labels.index(name)] if name in self.labels else None
        extra_N = np.asarray(self.extra[name], np.float64) if name in self.extra else None
        if label_N is None or extra_N is None:
            return extra_N if label_N is None else label_N
        return np.where(np.isnan(label_N), extra_N, label_N)

    def value(self, name: str) -> Floats | None:
        """A predicted label; None where it is not predicted."""
        if self.value_NL is None or name not in self.labels:
            return None
        return self.value_NL[:, self.labels.index(name)]

    def error(self, name: str) -> Floats | None:
        """The predicted errors of a label; None where none are predicted."""
        sigma_N = None if self.sigma_NL is None else self.sigma_NL[:, self.labels.index(name)]
        return None if sigma_N is None or np.isnan(sigma_N).all() else sigma_N

    def in_interval(self, name: str) -> Floats | None:
        """1 where the interval of a label contains the truth, else 0; NaN: not known. None: no intervals."""
        low_NL, high_NL = self.answers.low_NL, self.answers.high_NL
        if low_NL is None or high_NL is None:
            return None
        number = self.labels.index(name)
        truth_N, low_N, high_N = (array[:, number] for array in (self.label_NL, low_NL, high_NL))
        inside_N = (low_N <= truth_N) & (truth_N <= high_N)
        return np.where(np.isfinite(truth_N) & np.isfinite(low_N), inside_N, np.nan)

    def snr(self) -> Floats | None:
        """Signal to noise: of the g band if any spectrum has it, else of the whole spectrum; None without
        both.
        """
        columns = (
            np.asarray(self.extra[name], np.float64) for name in ("snr_g", "snr") if name in self.extra
        )
        return next((column for column in columns if np.isfinite(column).any()), None)

    def truth_columns(self) -> dict[str, pa.Array]:
        """The truth as columns of a table."""
        columns = {TRUE_CLASS: pa.array(self.class_N, pa.int8())}
        for number, name in enumerate(self.labels):
            columns[f"{TRUE}{name}"] = pa.array(self.label_NL[:, number], from_pandas=True)
        return columns

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        labels: Sequence[str],
        classes: Sequence[str],
        suffix: str = "",
        labels_name: str = "true",
        errors: Callable[[Answers], Floats | None] | None = None,
    ) -> Self:
        """Answers and truth from one table; the suffix is that of `Answers.from_table`.

        `errors` gives the errors that are compared with the residuals; without it, `scoring_errors` does.
        """
        answers = Answers.from_table(table, labels, classes, suffix).without_empty()
        unknown_N = np.full(table.num_rows, np.nan)
        truth = [
            np.asarray(_column(table, f"{TRUE}{name}"), np.float64)
            if f"{TRUE}{name}" in table.column_names
            else unknown_N
            for name in answers.labels
        ]
        label_NL = np.stack(truth, 1) if truth else np.empty((table.num_rows, 0))
        class_N, extra = _column(table, TRUE_CLASS), extra_columns(table)
        sigma_NL = (errors or scoring_errors)(answers)
        return cls(answers, class_N, label_NL, sigma_NL, extra, labels_name)


def scoring_errors(answers: Answers) -> Floats | None:
    """The errors that are compared with the residuals; None where no error is known.

    Where the error of the data is unknown, it is the error of the models. Members that agree by chance give
    an error of 0; it counts as the smallest error above 0 of that label.
    """
    data_NL, model_NL = answers.err_data_NL, answers.err_model_NL
    if data_NL is None and model_NL is None:
        return None
    unknown_NL = np.full((len(answers), len(answers.labels)), np.nan)
    data_NL = unknown_NL if data_NL is None else data_NL
    model_NL = unknown_NL if model_NL is None else model_NL
    sigma_NL = np.where(np.isnan(data_NL), model_NL, np.hypot(data_NL, model_NL))
    least_L = np.where(sigma_NL > 0, sigma_NL, np.inf).min(0, initial=np.inf)
    sigma_NL = np.where(np.isfinite(least_L), np.maximum(sigma_NL, least_L), np.nan)
    return None if np.isnan(sigma_NL).all() else sigma_NL


def extra_columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The columns of a table by which spectra are grouped, and a number per star."""
    columns = {name: name for name in EXTRA} | {name: f"{TRUE}{name}" for name in EXTRA_LABELS}
    extra = {name: _column(table, column) for name, column in columns.items() if column in table.column_names}
    if STAR in table.column_names:
        extra[STAR] = star_numbers(table[STAR])
    return extra


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table[name].to_numpy(zero_copy_only=False)
    return values


def groups(
    labelled: LabelledAnswers, settings: ScoreSettings
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Kind and name of each group that has spectra, and a mask of its spectra."""
    yield "all", "all", np.ones(len(labelled), bool)
    numbered: list[tuple[str, NDArray[Any], list[str]]] = []
    if (snr := labelled.snr()) is not None:
        numbered.append(("snr", _snr_bins(snr, settings.snr), snr_names(settings.snr)))
    if (logg := labelled.true_label("logg")) is not None:
        dwarf_N = np.where(np.isnan(logg), -1, logg >= settings.gravity)
        numbered.append(("gravity", dwarf_N, ["giant", "dwarf"]))
    if (feh := labelled.true_label("FeH")) is not None:
        numbered.append(("iron", labels.iron_classes(feh), list(labels.IRON_CLASSES)))
    for kind in ("layout", "source"):
        if kind in labelled.extra:
            texts = [UNKNOWN if name is None else str(name) for name in labelled.extra[kind]]
            names, number_N = np.unique(texts, return_inverse=True)
            numbered.append((kind, number_N, [str(name) for name in names]))
    for kind, number_N, names_of in numbered:
        for number in (*range(len(names_of)), -1):
            if (number_N == number).any():
                yield kind, names_of[number] if number >= 0 else UNKNOWN, number_N == number


def _snr_bins(snr: Floats, edges: tuple[float, ...]) -> NDArray[Any]:
    """The bin of each signal to noise; one that is missing or negative counts as unknown."""
    bin_N = np.searchsorted(edges, snr, side="right") - (edges[0] <= 0)
    return np.where(np.isnan(snr) | (snr < min(edges[0], 0)), -1, bin_N)


def snr_names(edges: tuple[float, ...]) -> list[str]:
    """The names of the bins of signal to noise; the first one is below the edges, if they begin above 0."""
    below = [f"<{edges[0]:g}"] if edges[0] > 0 else []
    return [*below, *(f"{low:g}-{high:g}" for low, high in pairwise(edges)), f">{edges[-1]:g}"]


def measures(labelled: LabelledAnswers, settings: ScoreSettings) -> list[Measure]:
    """Every metric of these spectra."""
    found: list[Measure] = []
    star_N = labelled.extra.get(STAR)
    if labelled.p_NC is not None:
        found += classes.measures(labelled.class_N, labelled.p_NC, labelled.classes, star_N)
    if labelled.value_NL is None:
        return found
    for number, name in enumerate(labelled.labels):
        truth_N, value_N = labelled.label_NL[:, number], labelled.value_NL[:, number]
        found += labels.measures(name, truth_N, value_N, labelled.error(name), settings.floor, star_N)
        inside_N = labelled.in_interval(name)
        if inside_N is not None and (known_N := np.isfinite(inside_N)).any():
            stars = None if star_N is None else star_N[known_N]
            found.append(flag_measure(name, "coverage_interval", inside_N[known_N] > 0, stars))
    true_feh, feh = labelled.true_label("FeH"), labelled.value("FeH")
    if true_feh is not None and feh is not None:
        found += labels.iron_measures(true_feh, feh, star_N)
    if labelled.classes == CLASSES:
        found += labels.measures_of_label_classes(
            labelled.class_N, labelled.labels, labelled.value_NL, settings.criterion, star_N
        )
    return found + labels.identity_violation(labelled.labels, labelled.value_NL, star_N)


def metrics_table(
    labelled: LabelledAnswers, settings: ScoreSettings | None = None, kinds: Sequence[str] = KINDS
) -> pa.Table:
    """The table of metrics of all groups of these kinds; its columns are those of `SCHEMA`."""
    settings = settings or ScoreSettings()
    rows = []
    for kind, group, mask_N in groups(labelled, settings):
        if kind not in kinds:
            continue
        for measure in measures(labelled.at(mask_N), settings):
            low, high = (None if np.isnan(bound) else bound for bound in (measure.low, measure.high))
            rows.append(
                {
                    "kind": kind,
                    "group": group,
                    "rows": int(mask_N.sum()),
                    "subject": measure.subject,
                    "metric": measure.metric,
                    "n": measure.n,
                    "value": measure.value,
                    "low": low,
                    "high": high,
                    "few": measure.independent < settings.few,
                }
            )
    return pa.Table.from_pylist(rows, SCHEMA)
