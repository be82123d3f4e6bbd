"""Answers beside the truth -> one long table of metrics, for all spectra and for groups of them, and a summary to read or to mail.

Groups: by signal to noise, dwarfs and giants, classes of [Fe/H] and layouts of the files. What is not known of a spectrum puts it into the group
`not known`. Empty groups are left out; numbers from fewer than `few` spectra are marked. Shapes: N spectra, C classes, L labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from survey.labels import CLASSES, Criterion, label
from survey.metrics import Measure, classes, labels
from survey.metrics.checks import alike, class_numbers, finite, probabilities
from survey.metrics.intervals import share
from survey.settings import Settings

Floats = NDArray[np.float64]

UNKNOWN = "not known"
KINDS = ("all", "snr", "gravity", "iron", "layout")
"""How spectra are grouped."""

ANSWERS = ("mu_NL", "sigma_NL", "low_NL", "high_NL")
"""What is said of labels."""

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("kind", pa.string(), f"how spectra are grouped: {', '.join(KINDS)}"),
            ("group", pa.string(), "the group"),
            ("rows", pa.int64(), "spectra of the group"),
            ("subject", pa.string(), "a class, a search, a label, or all classes together"),
            ("metric", pa.string(), "what was measured"),
            ("n", pa.int64(), "truths that the value rests on"),
            ("value", pa.float64(), "the metric, in the unit of the label where it has one"),
            ("low", pa.float64(), "lower end of the 95 % interval; null where there is none"),
            ("high", pa.float64(), "upper end of the 95 % interval; null where there is none"),
            ("few", pa.bool_(), "too few truths to mean much"),
        )
    ]
)


class Evaluation(Settings):
    """How answers are judged."""

    snr: tuple[float, ...] = Field(
        (0.0, 10.0, 20.0, 30.0, 50.0, 100.0),
        strict=False,
        description="edges of the bins of signal to noise; the last is open",
    )
    gravity: float = Field(4.0, description="logg from which on a star is a dwarf")
    few: int = Field(5, ge=1, description="numbers from fewer spectra are marked")
    floor: float = Field(
        labels.FLOOR, ge=0, description="a truth nearer to 0 is left out of the relative error (mape)"
    )
    criterion: Criterion = Field(
        "carbon_0.7", description="which [C/Fe] is carbon-enhanced, for classes by predicted labels"
    )

    @field_validator("snr")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or (np.diff(value) <= 0).any():
            raise ValueError(
                f"edges {', '.join(f'{edge:g}' for edge in value) or '(none)'} do not rise; give at least one, each above the one before"
            )
        return value


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth, a row per spectrum: probabilities, labels in their units with their errors and the ends of intervals that are to
    hold the truth, and what else is known (`about`).

    `about` may hold `snr` or `snr_g`, `layout`, and true `Teff`, `logg`, `FeH` where they are not among the labels. `called` is what the truth
    is called: where it is another survey's, that survey's name.
    """

    class_N: NDArray[Any]
    label_NL: Floats
    labels: tuple[str, ...] = ()
    p_NC: Floats | None = None
    mu_NL: Floats | None = None
    sigma_NL: Floats | None = None
    low_NL: Floats | None = None
    high_NL: Floats | None = None
    classes: tuple[str, ...] = CLASSES
    about: dict[str, NDArray[Any]] = field(default_factory=dict)
    called: str = "true"

    def __post_init__(self) -> None:
        rows = len(self.class_N)
        class_numbers(self.class_N, len(self.classes), rows)
        wanted = (rows, len(self.labels))
        for name, array in (
            ("truth", self.label_NL),
            *((name.removesuffix("_NL"), getattr(self, name)) for name in ANSWERS),
        ):
            if array is not None and array.shape != wanted:
                raise ValueError(
                    f"evaluation: labels ({name}) of shape {array.shape}; {rows} spectra with {len(self.labels)} labels need {wanted}"
                )
        for name, column in self.about.items():
            if len(column) != rows:
                raise ValueError(
                    f"evaluation: column {name} of {len(column)} values beside {rows} spectra; give one for each"
                )
        if self.p_NC is None and self.mu_NL is None:
            raise ValueError(
                "evaluation: neither class probabilities nor labels were predicted; give p_NC, mu_NL or both"
            )
        if self.p_NC is not None and len(probabilities(self.p_NC, len(self.classes))) != rows:
            raise ValueError(
                f"evaluation: {len(self.p_NC)} rows of probabilities beside {rows} spectra; give one for each"
            )
        if self.mu_NL is not None:
            alike("labels", self.label_NL, finite("labels", self.mu_NL))

    def __len__(self) -> int:
        return len(self.class_N)

    def of(self, chosen_N: NDArray[np.bool_]) -> "Judged":
        """The chosen spectra alone."""
        parts: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[chosen_N]
            for name in ("p_NC", *ANSWERS)
        }
        about = {name: column[chosen_N] for name, column in self.about.items()}
        return replace(
            self, class_N=self.class_N[chosen_N], label_NL=self.label_NL[chosen_N], about=about, **parts
        )

    def truth(self, name: str) -> Floats | None:
        """A true label, from among the labels, where missing there from `about`; None where neither has it."""
        found = self.label_NL[:, self.labels.index(name)] if name in self.labels else None
        other = np.asarray(self.about[name], np.float64) if name in self.about else None
        return other if found is None else found if other is None else np.where(np.isnan(found), other, found)

    def said(self, name: str) -> Floats | None:
        """A predicted label; None where it is not predicted."""
        return (
            self.mu_NL[:, self.labels.index(name)] if self.mu_NL is not None and name in self.labels else None
        )

    def sigma(self, name: str) -> Floats | None:
        """The predicted errors of a label; None where none are predicted."""
        found = None if self.sigma_NL is None else self.sigma_NL[:, self.labels.index(name)]
        return None if found is None or np.isnan(found).all() else found

    def held(self, name: str) -> NDArray[np.bool_] | None:
        """Whether the interval of a label holds the truth, for the spectra where both are known; None where no intervals are predicted."""
        if self.low_NL is None or self.high_NL is None:
            return None
        number = self.labels.index(name)
        truth_N, low_N, high_N = (array[:, number] for array in (self.label_NL, self.low_NL, self.high_NL))
        return np.asarray(
            ((low_N <= truth_N) & (truth_N <= high_N))[np.isfinite(truth_N) & np.isfinite(low_N)]
        )

    def snr(self) -> Floats | None:
        """Signal to noise: of the g band if any spectrum has it, else over the whole; None where neither is known."""
        columns = (
            np.asarray(self.about[name], np.float64) for name in ("snr_g", "snr") if name in self.about
        )
        return next((column for column in columns if np.isfinite(column).any()), None)


def groups(judged: Judged, settings: Evaluation) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Kind and name of each group that has spectra, and which these are."""
    yield "all", "all", np.ones(len(judged), bool)
    numbered: list[tuple[str, NDArray[Any], list[str]]] = []
    if (snr := judged.snr()) is not None:
        numbered.append(("snr", _snr_bins(snr, settings.snr), snr_names(settings.snr)))
    if (logg := judged.truth("logg")) is not None:
        numbered.append(
            ("gravity", np.where(np.isnan(logg), -1, logg >= settings.gravity), ["giant", "dwarf"])
        )
    if (feh := judged.truth("FeH")) is not None:
        numbered.append(("iron", labels.iron_classes(feh), list(labels.IRON)))
    if "layout" in judged.about:
        layouts, layout_N = np.unique(
            [UNKNOWN if one is None else str(one) for one in judged.about["layout"]], return_inverse=True
        )
        numbered.append(("layout", layout_N, [str(one) for one in layouts]))
    for kind, number_N, names in numbered:
        for number in (*range(len(names)), -1):
            if (number_N == number).any():
                yield kind, names[number] if number >= 0 else UNKNOWN, number_N == number


def _snr_bins(snr: Floats, edges: tuple[float, ...]) -> NDArray[Any]:
    """The bin of each signal to noise; below the first edge it counts as not known."""
    return np.where(np.isnan(snr), -1, np.searchsorted(edges, snr, side="right") - 1)


def snr_names(edges: tuple[float, ...]) -> list[str]:
    """Bins of signal to noise as people write them."""
    return [f"{low:g}-{high:g}" for low, high in pairwise(edges)] + [f">{edges[-1]:g}"]


def measured(judged: Judged, settings: Evaluation) -> list[Measure]:
    """Every metric of these spectra."""
    found: list[Measure] = []
    if judged.p_NC is not None:
        found += classes.measures(judged.class_N, judged.p_NC, judged.classes)
    if judged.mu_NL is None:
        return found
    for number, name in enumerate(judged.labels):
        found += labels.measures(
            name, judged.label_NL[:, number], judged.mu_NL[:, number], judged.sigma(name), settings.floor
        )
        if (held_N := judged.held(name)) is not None and len(held_N):
            found.append(share(name, "coverage_interval", int(held_N.sum()), len(held_N)))
    feh, said = judged.truth("FeH"), judged.said("FeH")
    if feh is not None and said is not None:
        found += labels.iron_measures(feh, said)
    if judged.classes == CLASSES:
        found += labels.by_labels_measures(judged.class_N, judged.labels, judged.mu_NL, settings.criterion)
    return found + labels.identity_violation(judged.labels, judged.mu_NL)


def evaluated(judged: Judged, settings: Evaluation | None = None, kinds: tuple[str, ...] = KINDS) -> pa.Table:
    """The table of metrics of all groups of these kinds; its columns are those of `SCHEMA`."""
    settings = settings or Evaluation()
    rows = []
    for kind, group, chosen_N in (one for one in groups(judged, settings) if one[0] in kinds):
        for found in measured(judged.of(chosen_N), settings):
            low, high = (None if np.isnan(bound) else bound for bound in (found.low, found.high))
            row = (
                kind,
                group,
                int(chosen_N.sum()),
                found.subject,
                found.metric,
                found.n,
                found.value,
                low,
                high,
                found.n < settings.few,
            )
            rows.append(dict(zip(SCHEMA.names, row, strict=True)))
    return pa.Table.from_pylist(rows, SCHEMA)


Found = dict[tuple[str, str, str, str], dict[str, Any]]


def text(table: pa.Table) -> str:
    """The table in short, to read on a terminal or to paste into a mail; a star marks numbers from few spectra."""
    found: Found = {
        (row["kind"], row["group"], row["subject"], row["metric"]): row for row in table.to_pylist()
    }
    if not found:
        return "evaluation: no spectrum has a known class or label"
    rows = next(iter(found.values()))["rows"]
    blocks = [f"evaluation of {rows:,} spectra; 95 % intervals in brackets"]
    blocks += [
        block for block in (_classes(found), _overall(found), _labels(found), _by_group(found)) if block
    ]
    if any("*" in block for block in blocks):
        blocks.append("* from few spectra: no more than a hint")
    return "\n\n".join(blocks)


def cell(row: dict[str, Any] | None, bounds: bool = False, digits: int = 3) -> str:
    """A number as text, with its interval if wanted; a dash where there is none, or nothing to find."""
    if row is None or not row["n"]:
        return "-"
    interval = (
        f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]" if bounds and row["low"] is not None else ""
    )
    return f"{row['value']:.{digits}f}{interval}{'*' if row['few'] else ''}"


def aligned(lines: list[list[str]]) -> str:
    """Cells in columns: the first flush left, the others flush right."""
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(line[1:], wide[1:], strict=True))]
        )
        for line in lines
    )


def _subjects(found: Found, metric: str) -> list[str]:
    return [subject for kind, _, subject, name in found if kind == "all" and name == metric]


def _classes(found: Found) -> str:
    """Precision, recall and F1: of all classes together, of each, of the searches that are not one class alone."""
    alone = {problem for problem, yes in classes.PROBLEMS.items() if len(yes) == 1}
    lines = [["class", "true", "precision", "recall", "F1"]]
    for (kind, _, subject, metric), row in found.items():
        if kind == "all" and metric in ("f1", "f1_weighted") and subject.split()[0] not in alone:
            ending = metric.removeprefix("f1")
            rows = [
                found.get(("all", "all", subject, name + ending)) for name in ("precision", "recall", "f1")
            ]
            lines.append(
                [
                    f"{subject}, weighted" if ending else f"  {subject}",
                    f"{row['n']:,}",
                    *(cell(one, True) for one in rows),
                ]
            )
    return aligned(lines) if len(lines) > 1 else ""


def _overall(found: Found) -> str:
    """Accuracy, and what says whether the probabilities can be trusted."""
    words = {"accuracy": "accuracy", "log_loss": "log loss", "brier": "Brier", "ece": "calibration error"}
    words |= {
        "auc": "area under ROC",
        "average_precision": "average precision",
        "identity_rms": "rms of CFe - (CH - FeH)",
    }
    told: dict[str, list[str]] = {}
    for (kind, _, subject, metric), row in found.items():
        if kind == "all" and metric in words:
            told.setdefault(subject, []).append(f"{words[metric]} {cell(row, True)}")
    wide = max(map(len, told), default=0)
    return "\n".join(f"{subject:<{wide}}  {', '.join(parts)}" for subject, parts in told.items())


def _labels(found: Found) -> str:
    names = {
        "mae": "MAE",
        "rmse": "RMSE",
        "bias": "bias",
        "scatter": "scatter",
        "robust_scatter": "robust",
        "r2": "R2",
    }
    names |= {
        metric: word
        for metric, word in (("coverage_68", "in 1 sigma"), ("coverage_95", "in 2 sigma"))
        if _subjects(found, metric)
    }
    lines = []
    for subject in _subjects(found, "mae"):
        digits = 1 if found["all", "all", subject, "mae"]["value"] >= 10 else 3
        shares = ("r2", "coverage_68", "coverage_95")
        cells = [
            cell(
                found.get(("all", "all", subject, metric)), metric == "mae", 3 if metric in shares else digits
            )
            for metric in names
        ]
        lines.append([subject, label(subject).unit, f"{found['all', 'all', subject, 'mae']['n']:,}", *cells])
    return aligned([["label", "unit", "n", *names.values()], *lines]) if lines else ""


def _by_group(found: Found) -> str:
    """The main numbers, group by group."""
    wanted = [
        ("all", "accuracy"),
        *((problem, "f1") for problem in classes.PROBLEMS),
        *((name, "mae") for name in _subjects(found, "mae")),
    ]
    wanted = [pair for pair in wanted if ("all", "all", *pair) in found]
    words = {"accuracy": "accuracy", "f1": "F1", "mae": "MAE"}
    titles = [
        words[metric] if subject == "all" else f"{words[metric]} {subject}" for subject, metric in wanted
    ]
    digits = [1 if found["all", "all", *pair]["value"] >= 10 else 3 for pair in wanted]
    kinds = {"snr": "S/N", "gravity": "gravity", "iron": "[Fe/H]", "layout": "layout"}
    sizes = {(kind, group): row["rows"] for (kind, group, _, _), row in found.items() if kind != "all"}
    lines = []
    for (kind, group), rows in sizes.items():
        cells = [
            cell(found.get((kind, group, *pair)), digits=places)
            for pair, places in zip(wanted, digits, strict=True)
        ]
        lines.append([f"{kinds[kind]} {group}", f"{rows:,}", *cells])
    return aligned([["group", "spectra", *titles], *lines]) if lines else ""
