"""Counts of a join: the fate of every row of the label table and of every spectrum of the store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from survey import labels
from survey.labels import CLASSES
from survey.messages import counted

REFUSED = {
    "plan": "the file name is of another visit than the row's plan, spectrograph and fibre",
    "no label": "no label inside its range and no class",
    "no key": "no key of a spectrum",
    "same name": "several files of the store have the name of its file, its path does not tell which it is",
    "contradicting": "contradict another row of the same spectrum or star",
}
"""Why a row is not used. Rows outside the limits of `where` are counted separately."""


@dataclass
class Counts:
    """Rows = used + merged + unused + refused + left out. Spectra = matched + unmatched + left out."""

    table: str
    store: str
    labels: tuple[str, ...]
    rows: int = 0
    spectra: int = 0
    key: str = ""
    by_other_keys: dict[str, int] = field(default_factory=dict)
    without_key: int = 0
    key_advice: str = ""
    classes_from: str = "none"
    class_names: tuple[str, ...] = CLASSES
    used: int = 0
    merged: int = 0
    unused: int = 0
    matched: int = 0
    unmatched: int = 0
    stars: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    left_out_rows: dict[str, int] = field(default_factory=dict)
    left_out_spectra: dict[str, int] = field(default_factory=dict)
    out_of_range: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    identity_broken: int = 0
    all_positive: tuple[str, ...] = ()
    missing: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, int] = field(default_factory=dict)
    stars_per_class: dict[str, int] = field(default_factory=dict)

    def add_spectra(
        self, label_NL: NDArray[np.float64], class_N: NDArray[np.int8], star_N: NDArray[np.int64]
    ) -> None:
        """Counts the labels, classes and stars of the matched spectra; stars are numbered from 0."""
        for name, label_N in zip(self.labels, label_NL.T, strict=True):
            self.missing[name] = int(np.isnan(label_N).sum())
        self.stars = int(star_N.max(initial=-1)) + 1
        for number, name in [*enumerate(self.class_names), (labels.MISSING, "no class")]:
            is_class_N = class_N == number
            self.per_class[name] = int(is_class_N.sum())
            self.stars_per_class[name] = int(np.count_nonzero(np.bincount(star_N[is_class_N])))

    def check_rows(self) -> None:
        """Raises an error where a row was counted twice or not at all."""
        refused, left_out = sum(self.refused.values()), sum(self.left_out_rows.values())
        counted = self.used + self.merged + self.unused + refused + left_out
        if counted != self.rows:
            raise RuntimeError(
                f"labels: {self.table}: {self.rows} rows, {counted} of them counted; "
                "this is an error of the program, please report it"
            )

    def text(self) -> str:
        """The counts as a few aligned lines."""
        return "\n".join(f"{name:<9}{line}" for name, line in self._lines() if line)

    def classes_text(self) -> str:
        """The number of spectra and stars of each class."""
        classes = [
            f"{name} {count:,} ({counted(self.stars_per_class[name], 'star')})"
            for name, count in self.per_class.items()
            if count
        ]
        return ", ".join(classes) or "no class"

    def _lines(self) -> Iterator[tuple[str, str]]:
        if not self.rows and not self.key:  # spectra without any label table
            yield "store", f"{self.store}: {self.spectra:,} spectra, learned without labels"
            return
        yield "table", f"{self.table}: {self.rows:,} rows"
        yield "store", f"{self.store}: {self.spectra:,} spectra"
        by_others = self.by_other_keys.items()
        others = "".join(f", {count:,} without {self.key} by {key}" for key, count in by_others)
        yield "matched", f"{self.matched:,} spectra of {counted(self.stars, 'star')}, by {self.key}{others}"
        rows = {"used": self.used, "duplicates": self.merged, "without a spectrum in the store": self.unused}
        yield "rows", _listed(rows)
        yield "", _listed({f"refused: {REFUSED[name]}": count for name, count in self.refused.items()})
        yield "", _listed({f"outside {name}": count for name, count in self.left_out_rows.items()})
        outside = {f"outside {name}": count for name, count in self.left_out_spectra.items()}
        without = f", {self.without_key:,} of them without {self.key}{self.key_advice}"
        words = f"without labels{without if self.without_key else ''}"
        yield "spectra", _listed({words: self.unmatched} | outside)
        has_classes = self.classes_from != "none"
        yield "classes", f"{self.classes_text()} (from {self.classes_from})" if has_classes else "none"
        for number, line in enumerate(self._label_lines()):
            yield "" if number else "labels", line

    def _label_lines(self) -> Iterator[str]:
        for name in self.labels:
            parts = [f"{self.matched - self.missing.get(name, 0):,} spectra"]
            if count := self.out_of_range.get(name, 0):
                example = f", such as {self.unread[name]}" if name in self.unread else ""
                parts.append(f"{count:,} cells of the table hold no value inside its range{example}")
            if count := self.computed.get(name, 0):
                parts.append(f"{count:,} rows computed from CFe = CH - FeH")
            yield f"{name}: {', '.join(parts)}"
        for name in self.all_positive:
            yield f"all values of {name} are above 0: are they logarithms? [Fe/H] = -1 is a tenth of the Sun"
        if self.identity_broken:
            yield f"{self.identity_broken:,} rows break CFe = CH - FeH"


def _listed(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} {words}" for words, count in counts.items() if count)
