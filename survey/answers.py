"""The answers about N spectra: the class and the labels that are predicted, with their errors.

This one class holds the answers of a member, of an ensemble before and after calibration, and of a table
that is read again. Numbers are float64 in memory and float32 in a table. An unknown number is NaN in memory
and null in a table. Shapes: N spectra, C classes, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from survey.labels import MISSING, label

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

UNCALIBRATED = "_raw"
"""Ending of the columns that hold the answers before calibration."""

PER_SPECTRUM = {"class_entropy": "class_entropy_N", "class_entropy_model": "class_entropy_model_N"}
"""Columns that tell how undecided the class is, and the arrays that hold them."""

PER_LABEL = {
    "": "value_NL",
    "_err": "err_NL",
    "_err_data": "err_data_NL",
    "_err_model": "err_model_NL",
    "_spread": "spread_NL",
    "_low": "low_NL",
    "_high": "high_NL",
}
"""Endings of the columns of a label (`Teff`, `Teff_err`, ...) and the arrays that hold them."""

CALIBRATED = ("_err", "_err_data", "_err_model")
"""Endings of those columns of a label that calibration changes."""


@dataclass(frozen=True)
class Answers:
    """What is predicted of N spectra. A part that does not exist is None; an unknown number is NaN.

    Of classes: probabilities, how undecided the class is (nats), and the part of that which comes from the
    members' disagreement. Of labels, in their units: the value; the standard deviation that the data leave;
    the one of the members' disagreement and of dropout passes; the standard deviation among members; the
    ends of the interval; the whole error, which follows from its two parts where it is not given.
    `domain_N` is the distance from the nearest class of training spectra; 1 % of validation have a distance
    above 1. `other_kind_N` is the probability of another kind than F, G and K stars. `anomaly_N` says how
    badly an autoencoder rebuilds the spectrum or the image; 1 % of validation are above 1.
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    p_NC: Floats | None = None
    class_entropy_N: Floats | None = None
    class_entropy_model_N: Floats | None = None
    value_NL: Floats | None = None
    err_data_NL: Floats | None = None
    err_model_NL: Floats | None = None
    spread_NL: Floats | None = None
    low_NL: Floats | None = None
    high_NL: Floats | None = None
    domain_N: Floats | None = None
    other_kind_N: Floats | None = None
    anomaly_N: Floats | None = None
    err_NL: Floats | None = None
    rows: int = 0
    """N, where nothing at all is predicted."""

    def __post_init__(self) -> None:
        if self.err_NL is None and self.err_data_NL is not None and self.err_model_NL is not None:
            object.__setattr__(self, "err_NL", np.sqrt(self.err_data_NL**2 + self.err_model_NL**2))
        widths = {"C": len(self.classes), "L": len(self.labels)}
        for name, array in self.arrays().items():
            width = widths.get(name[-1])
            shape = (len(self),) if width is None else (len(self), width)
            if array.shape != shape:
                raise ValueError(
                    f"answers: {name} has shape {array.shape}; {len(self)} spectra, {widths['C']} classes "
                    f"and {widths['L']} labels need {shape}"
                )

    def __len__(self) -> int:
        return next((len(array) for array in self.arrays().values()), self.rows)

    def arrays(self) -> dict[str, Floats]:
        """The arrays that exist, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @property
    def predicted_class_N(self) -> NDArray[np.int8] | None:  # noqa: N802
        """The number of the likeliest class, -1 where there is no answer; None without classes."""
        if self.p_NC is None:
            return np.full(len(self), MISSING, np.int8) if self.classes else None
        likeliest_N = np.nan_to_num(self.p_NC).argmax(1)
        return np.where(np.isfinite(self.p_NC).all(1), likeliest_N, MISSING).astype(np.int8)

    @property
    def is_complete_N(self) -> NDArray[np.bool_]:  # noqa: N802
        """Which spectra have a class and every label, as far as classes and labels are predicted at all."""
        complete_N = np.ones(len(self), bool)
        for names, array in ((self.classes, self.p_NC), (self.labels, self.value_NL)):
            if names:
                complete_N &= False if array is None else np.isfinite(array).all(1)
        return complete_N

    def at(self, index_N: NDArray[Any]) -> Self:
        """The answers about some of the spectra, by row numbers or by a mask."""
        arrays: dict[str, Any] = {name: array[index_N] for name, array in self.arrays().items()}
        return replace(self, rows=len(np.arange(len(self))[index_N]), **arrays)

    def with_rows(self, row_N: NDArray[np.int64], others: Self) -> Self:
        """The answers, with those of `others`, one for each of these rows, in place of their own."""
        arrays: dict[str, Any] = {}
        for name in dict.fromkeys((*self.arrays(), *others.arrays())):
            before, new = getattr(self, name), getattr(others, name)
            width = (before if new is None else new).shape[1:]
            arrays[name] = np.full((len(self), *width), np.nan) if before is None else before.copy()
            arrays[name][row_N] = np.nan if new is None else new
        return replace(self, **arrays)

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The answers with these labels only."""
        columns = [self.labels.index(name) for name in labels]
        arrays: dict[str, Any] = {
            name: array[:, columns] for name, array in self.arrays().items() if name.endswith("L")
        }
        return replace(self, labels=tuple(labels), **arrays)

    def without_empty(self) -> Self:
        """The answers without the labels and the classes that no spectrum has an answer to."""
        value_NL, p_NC = self.value_NL, self.p_NC
        columns = [] if value_NL is None else np.flatnonzero(np.isfinite(value_NL).any(0)).tolist()
        kept = self.with_labels([self.labels[column] for column in columns])
        if not kept.labels:
            nothing: dict[str, Any] = dict.fromkeys(PER_LABEL.values())
            kept = replace(kept, **nothing)
        return replace(kept, p_NC=None) if p_NC is None or np.isnan(p_NC).all() else kept

    def to_columns(self, suffix: str = "") -> dict[str, NDArray[Any]]:
        """The columns of a table of answers, NaN where a number is unknown.

        They are float32; the predicted class is int8. With a suffix, such as `UNCALIBRATED`: only what
        calibration changes, under names with that suffix.
        """
        columns: dict[str, NDArray[Any]] = {}
        for number, name in enumerate(self.classes):
            columns[f"p_{name.lower()}{suffix}"] = self._numbers("p_NC", number)
        if self.classes:
            predicted_class_N = self.predicted_class_N
            if not suffix and predicted_class_N is not None:
                columns["predicted_class"] = predicted_class_N
            columns |= {f"{name}{suffix}": self._numbers(array) for name, array in PER_SPECTRUM.items()}
        for number, name in enumerate(self.labels):
            for ending, array in PER_LABEL.items():
                if not suffix or ending in CALIBRATED:
                    columns[f"{name}{ending}{suffix}"] = self._numbers(array, number)
        if not suffix:
            columns["domain"] = self._numbers("domain_N")
            columns["other_kind"] = self._numbers("other_kind_N")
            columns["anomaly"] = self._numbers("anomaly_N")
        return columns

    def _numbers(self, name: str, column: int | None = None) -> NDArray[np.float32]:
        array: Floats | None = getattr(self, name)
        if array is None:
            return np.full(len(self), np.nan, np.float32)
        return (array if column is None else array[:, column]).astype(np.float32)

    @classmethod
    def from_table(
        cls, table: pa.Table, labels: Sequence[str], classes: Sequence[str], suffix: str = ""
    ) -> Self:
        """The answers that a table holds. Columns that are missing, or that hold nothing, become None.

        With a suffix: the answers before calibration. What calibration changes has that suffix.
        """
        there = set(table.column_names)
        labels = tuple(name for name in labels if name in there)

        def read(names: Sequence[str]) -> Floats | None:
            if there.isdisjoint(names):
                return None
            unknown_N = np.full(table.num_rows, np.nan)
            arrays = [_column(table, name) if name in there else unknown_N for name in names]
            values_NK = np.stack(arrays, 1)
            return None if len(values_NK) and np.isnan(values_NK).all() else values_NK

        arrays: dict[str, Any] = {"p_NC": read([f"p_{name.lower()}{suffix}" for name in classes])}
        for name, array in PER_SPECTRUM.items():
            arrays[array] = _flat(read([f"{name}{suffix}"]))
        for ending, array in PER_LABEL.items():
            kept = suffix if ending in (*CALIBRATED, "_low", "_high") else ""
            arrays[array] = read([f"{name}{ending}{kept}" for name in labels])
        for name in ("domain", "other_kind", "anomaly"):
            arrays[f"{name}_N"] = _flat(read([name]))
        return cls(labels, tuple(classes), **arrays)


ColumnSpec = tuple[str, str, str, str]
"""The Arrow type, the description, the unit and the UCD of a column."""

CLASS_COLUMNS: dict[str, ColumnSpec] = {
    "predicted_class": (
        "int8",
        "number of the likeliest class ({numbered}); -1 = no answer",
        "",
        "src.class",
    ),
    "class_entropy": (
        "float32",
        "total uncertainty of the class (nats): 0 = certain, {most:.1f} = all classes are equally likely",
        "",
        "stat.value",
    ),
    "class_entropy_model": (
        "float32",
        "the part of class_entropy that comes from the members' disagreement (nats)",
        "",
        "stat.value",
    ),
}

DOMAIN_COLUMN: ColumnSpec = (
    "float32",
    "distance from the training spectra of the nearest class; 1 % of the validation spectra are above 1",
    "",
    "stat.value",
)

OTHER_KIND_COLUMN: ColumnSpec = (
    "float32",
    "probability that it is no F, G or K star (but hot, M, white dwarf, carbon star), by the networks; it is "
    "taken from p_mp and p_cemp, and is in p_nmp",
    "",
    "stat.probability;src.class",
)

ANOMALY_COLUMN: ColumnSpec = (
    "float32",
    "how badly an autoencoder among the networks rebuilds it; 1 % of the validation part are above 1; null "
    "without such a network",
    "",
    "stat.value",
)

RULED_OUT = "ruled_out"
RULED_OUT_COLUMN: dict[str, ColumnSpec] = {
    RULED_OUT: (
        "bool",
        "far from every list by the fastest member of the ensemble, which alone answered; only of a cascade",
        "",
        "meta.code",
    )
}
LINE_COLUMNS: dict[str, ColumnSpec] = {
    "FeH_lines": (
        "float32",
        "[Fe/H] from indices of lines, without the networks; null outside the range of its training spectra",
        "dex",
        "phys.abund.Fe",
    ),
    "FeH_lines_err": ("float32", "error of FeH_lines", "dex", "stat.error;phys.abund.Fe"),
}
"""The second key: what the indices of lines say, without any network (`survey.ensemble.line_key`)."""


def answer_columns(labels: Sequence[str], classes: Sequence[str]) -> dict[str, ColumnSpec]:
    """The columns of a table of answers, in the order in which they are written."""
    columns: dict[str, ColumnSpec] = {}
    for name in classes:
        text = f"probability of the class {name}, calibrated"
        columns[f"p_{name.lower()}"] = ("float32", text, "", "stat.probability;src.class")
    if classes:
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        for name, (kind, text, *rest) in CLASS_COLUMNS.items():
            filled = text.format(numbered=numbered, most=math.log(len(classes)))
            columns[name] = (kind, filled, rest[0], rest[1])
    for name in labels:
        columns |= _label_columns(name)
    return columns | {"domain": DOMAIN_COLUMN, "other_kind": OTHER_KIND_COLUMN, "anomaly": ANOMALY_COLUMN}


def _label_columns(name: str) -> Iterator[tuple[str, ColumnSpec]]:
    row = label(name)
    yield name, ("float32", row.description, row.unit, row.ucd)
    for ending, ucd, text in (
        ("_err", "stat.error", "total error, calibrated"),
        ("_err_data", "stat.error", "part of the error that comes from the spectrum"),
        ("_err_model", "stat.error", "part of the error that comes from the members' disagreement"),
        ("_spread", "stat.stdev", "standard deviation of the members' predictions"),
    ):
        yield name + ending, ("float32", f"{row.description}: {text}", row.unit, f"{ucd};{row.ucd}")
    for ending, ucd, end in (("_low", "stat.min", "lower"), ("_high", "stat.max", "upper")):
        text = (
            f"{row.description}: {end} end of the interval with the stated share of stars (split-conformal)"
        )
        yield name + ending, ("float32", text, row.unit, f"{row.ucd};{ucd}")


def label_names(columns: Sequence[str]) -> list[str]:
    """The labels that a table of answers holds, from the names of its columns."""
    return [name.removesuffix("_spread") for name in columns if name.endswith("_spread")]


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _flat(values_N1: Floats | None) -> Floats | None:
    return None if values_N1 is None else values_N1[:, 0]
