"""What became of every row of a table of labels and of every spectrum of a store when the two were joined."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from survey import labels

REFUSED = {
    "plan": "the file's name is that of another visit than the row's own plan, spectrograph and fibre",
    "no label": "no label in its range and no class",
    "no key": "nothing that says which spectrum",
    "contradicting": "rows of one spectrum or star that contradict each other",
}
"""Why a row is not used although it may have a spectrum; beside these, ``where`` leaves out by the limits of the settings."""


@dataclass
class Counts:
    """Counts of a join. Rows = used + merged + unused + refused + left out; spectra = matched + unmatched + left out."""

    table: str
    store: str
    labels: tuple[str, ...]
    rows: int = 0
    spectra: int = 0
    key: str = ""
    classes_from: str = "none"
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
    computed: dict[str, int] = field(default_factory=dict)
    identity_broken: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, int] = field(default_factory=dict)
    stars_per_class: dict[str, int] = field(default_factory=dict)

    def tally(
        self, label_NL: NDArray[np.float64], class_N: NDArray[np.int8], star_N: NDArray[np.int64]
    ) -> None:
        """What the matched spectra have; stars are numbered from 0."""
        self.missing = {
            name: int(np.isnan(values).sum()) for name, values in zip(self.labels, label_NL.T, strict=True)
        }
        self.stars = int(star_N.max(initial=-1)) + 1
        for number, name in [*enumerate(labels.CLASSES), (labels.MISSING, "no class")]:
            rows = class_N == number
            self.per_class[name], self.stars_per_class[name] = (
                int(rows.sum()),
                int(np.count_nonzero(np.bincount(star_N[rows]))),
            )

    def text(self) -> str:
        """The counts as a few aligned lines for people."""
        lines = [
            ("table", f"{self.table}: {self.rows:,} rows"),
            ("store", f"{self.store}: {self.spectra:,} spectra"),
            ("matched", f"{self.matched:,} spectra of {self.stars:,} stars, by {self.key}"),
            (
                "rows",
                _listed({"used": self.used, "the same again": self.merged, "not in the store": self.unused}),
            ),
            ("", _listed({f"refused, {REFUSED[name]}": count for name, count in self.refused.items()})),
            ("", _listed({f"outside {name}": count for name, count in self.left_out_rows.items()})),
            (
                "spectra",
                _listed(
                    {"without labels": self.unmatched}
                    | {f"outside {name}": count for name, count in self.left_out_spectra.items()}
                ),
            ),
            (
                "classes",
                f"{self.of_classes()} (from {self.classes_from})" if self.classes_from != "none" else "none",
            ),
            *((name if number == 0 else "", line) for number, (name, line) in enumerate(self._of_labels())),
        ]
        return "\n".join(f"{name:<9}{line}" for name, line in lines if line)

    def of_classes(self) -> str:
        """Spectra and stars of each class."""
        return (
            ", ".join(
                f"{name} {count:,} ({self.stars_per_class[name]:,} stars)"
                for name, count in self.per_class.items()
                if count
            )
            or "no class"
        )

    def _of_labels(self) -> list[tuple[str, str]]:
        lines = []
        for name in self.labels:
            parts = [f"{self.matched - self.missing.get(name, 0):,} spectra"]
            parts += (
                [f"{count:,} cells of the table are no value of its range"]
                if (count := self.out_of_range.get(name, 0))
                else []
            )
            parts += (
                [f"{count:,} rows computed from CFe = CH - FeH"]
                if (count := self.computed.get(name, 0))
                else []
            )
            lines.append(("labels", f"{name}: {', '.join(parts)}"))
        if self.identity_broken:
            lines.append(("labels", f"{self.identity_broken:,} rows break CFe = CH - FeH"))
        return lines


def _listed(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} {words}" for words, count in counts.items() if count)
