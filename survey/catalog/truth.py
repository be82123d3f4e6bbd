"""The candidate lists beside true labels of some of the stars: how pure and complete they came out, next to what was expected.

Stars that a member of the ensemble, or a run before it, has learned from or was chosen by are left out. Shapes: N rows of predictions, S stars.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.candidates import Lists
from survey.catalog.stars import Stars
from survey.catalog.thresholds import KINDS, Kind, yes
from survey.evaluate.seen_in_training import met
from survey.labelling import join, samples
from survey.labelling.join import Labelled, Labels
from survey.labels import MISSING, metal_poor
from survey.metrics.intervals import share
from survey.predict.output import Predictions

WANTED = ("FeH", "CFe")

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("search", pa.string(), "the list"),
            ("metric", pa.string(), "purity, or completeness among all stars of known class in the catalog"),
            ("value", pa.float64(), "what came out"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end"),
            ("hits", pa.int64(), "stars in the list that are what is searched for"),
            (
                "n",
                pa.int64(),
                "stars in the list (purity), or stars that are what is searched for (completeness)",
            ),
        )
    ]
)


@dataclass(frozen=True)
class Truth:
    """For each search which stars are what it is for, 1 or 0 (`MISSING`: not known), and how many stars and members had to be left out."""

    is_S: Mapping[Kind, NDArray[np.int8]]
    left_out: int
    unread: int

    def compared(self, lists: Lists) -> tuple[pa.Table, dict[str, int]]:
        """Purity and completeness of each list among stars whose labels say whether they belong into it, and how many these are."""
        counts: dict[str, int] = {}
        for kind, is_S in self.is_S.items():
            counts |= {kind: int((is_S == 1).sum()), f"not {kind}": int((is_S == 0).sum())}
        counts |= {"left out, as members have met them": self.left_out, "members not found": self.unread}
        rows = [
            row for kind, is_S in self.is_S.items() for row in _measures(kind, is_S, lists.is_candidate(kind))
        ]
        return pa.Table.from_pylist(rows, SCHEMA), counts


def read(settings: Labels, predictions: Predictions, stars: Stars) -> Truth:
    """What a table of labels says of the stars."""
    labelled = join.join(settings, predictions, join.present(settings, WANTED))
    star_N = stars.star_N[stars.before_K[labelled.shard] + labelled.row]
    met_N, unread = met(predictions.about["ensemble"], samples.of(labelled, labelled.labels).about)
    found: dict[Kind, NDArray[np.int8]] = {}
    for kind in KINDS:
        is_S = np.full(len(stars), MISSING, np.int8)
        told_N = _belongs(labelled, kind)
        is_S[star_N[told_N != MISSING]] = told_N[told_N != MISSING]
        is_S[star_N[met_N]] = MISSING
        found[kind] = is_S
    return Truth(found, len(np.unique(star_N[met_N])), unread)


def _belongs(labelled: Labelled, kind: Kind) -> NDArray[np.int8]:
    """Whether a labelled row is what a search is for, 1 or 0; `MISSING` where its labels do not say. [Fe/H] alone says it of metal-poor stars."""
    known_N = labelled.class_N != MISSING
    found_N = np.where(known_N, np.isin(labelled.class_N, yes(kind)), MISSING).astype(np.int8)
    if "FeH" in labelled.labels:
        feh_N = labelled.label_NL[:, labelled.labels.index("FeH")]
        poor_N = metal_poor(feh_N)
        found_N[~known_N & np.isfinite(feh_N) & ~poor_N] = 0
        if kind == "MP":
            found_N[~known_N & poor_N] = 1
    return found_N


def _measures(kind: Kind, is_S: NDArray[np.int8], chosen_S: NDArray[np.bool_]) -> list[dict[str, object]]:
    """The measures of a list; none where labels tell of no star that it is what is searched for, for then they tell of no list's purity."""
    hits = int(((is_S == 1) & chosen_S).sum())
    rows: list[dict[str, object]] = []
    there = int((is_S == 1).sum())
    for metric, n in (
        ("purity", int(((is_S != MISSING) & chosen_S).sum()) if there else 0),
        ("completeness", there),
    ):
        found = share(kind, metric, hits, n)
        numbers = {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(("value", "low", "high"), found[2:5], strict=True)
        }
        rows.append({"search": kind, "metric": metric, **numbers, "hits": hits, "n": n})
    return rows
