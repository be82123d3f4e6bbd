"""The lists of candidates compared with true labels of some stars: their measured purity and completeness.

Stars that a member of the ensemble, or a run before it, was trained or selected on are left out. Shapes: N
rows of predictions, S stars.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.candidates import CandidateLists
from survey.catalog.settings import LIST_NAMES, ListName, list_classes
from survey.catalog.stars import Stars
from survey.catalog.visits import Floats, float_column
from survey.ensemble.holdout import (
    member_settings,
    present_folder,
    recalibrated,
    seen_in_training,
    with_own_columns,
)
from survey.labelling import join, samples
from survey.labelling.join import EXTRA_LABELS, Labelled
from survey.labelling.rows import available_labels
from survey.labelling.settings import Join
from survey.labels import MISSING, metal_poor
from survey.metrics.intervals import share_measure
from survey.predict.output import Predictions

WANTED = ("FeH", "CFe")
KEPT = (
    "star",
    "ra",
    "dec",
    "snr_total",
    "Teff",
    "logg",
    "FeH",
    "CFe",
    "score_mp",
    "score_cemp",
    "domain",
    "flag_warn",
    "flag_bad",
    "mp_candidate",
    "cemp_candidate",
)
"""The columns of the catalog that the table of stars with a known class has, as far as they exist."""

SCHEMA = pa.schema(
    [
        pa.field(name, type_, metadata={"description": description})
        for name, type_, description in (
            ("search", pa.string(), "the list"),
            ("metric", pa.string(), "purity, or completeness among all stars of known class in the catalog"),
            ("value", pa.float64(), "the measured value"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of its 95 % interval"),
            ("hits", pa.int64(), "stars in the list that belong in it"),
            ("n", pa.int64(), "stars in the list (purity), or stars that belong in it (completeness)"),
        )
    ]
)


@dataclass(frozen=True)
class TrueLists:
    """For each list, whether a star belongs in it: 1, 0, or `MISSING` if unknown; and its true labels.

    `left_out` counts the stars that a member was trained on, `missing_members` the members whose training
    stars are unknown, `contradicting` the stars whose visits have labels that contradict each other: they
    count as unknown for the list.
    """

    belongs_S: Mapping[ListName, NDArray[np.int8]]
    label_S: Mapping[str, Floats]
    left_out: int
    missing_members: int
    contradicting: int = 0

    def compare(self, lists: CandidateLists) -> tuple[pa.Table, dict[str, int]]:
        """Purity and completeness of each list among the stars of known class, and how many these are."""
        counts: dict[str, int] = {}
        for name, belongs_S in self.belongs_S.items():
            counts |= {name: int((belongs_S == 1).sum()), f"not {name}": int((belongs_S == 0).sum())}
        counts |= {
            "left out, as they were seen in training": self.left_out,
            "members whose training is unknown": self.missing_members,
            "unknown, as the labels of their visits contradict each other": self.contradicting,
        }
        rows = [
            row
            for name, belongs_S in self.belongs_S.items()
            for row in _measures(name, belongs_S, lists.is_candidate(name))
        ]
        return pa.Table.from_pylist(rows, SCHEMA), counts

    def known_stars(self, table: pa.Table, first: int) -> pa.Table:
        """The stars of a known class among stars of the catalog, which are numbered from `first` on.

        A row has the star's columns `KEPT`, its true labels (`true_FeH`), and whether it belongs in each list
        (`belongs_cemp`; null = unknown).
        """
        number_N = np.arange(first, first + table.num_rows)
        known_N = np.zeros(table.num_rows, bool)
        for belongs_S in self.belongs_S.values():
            known_N |= belongs_S[number_N] != MISSING
        number_N = number_N[known_N]
        kept = [name for name in KEPT if name in table.column_names]
        stars = table.select(kept).filter(pa.array(known_N)).replace_schema_metadata()
        for label, label_S in self.label_S.items():
            stars = stars.append_column(f"true_{label}", pa.array(label_S[number_N], from_pandas=True))
        for name, belongs_S in self.belongs_S.items():
            belongs_N = belongs_S[number_N]
            column = pa.array(belongs_N == 1, mask=belongs_N == MISSING)
            stars = stars.append_column(f"belongs_{name.lower()}", column)
        return stars


def read_truth(settings: Join, predictions: Predictions, stars: Stars) -> TrueLists:
    """What a table of labels says about the stars."""
    settings = with_own_columns(settings, member_settings(predictions.member_ids, predictions.path))
    labelled = join.join(settings, predictions, available_labels(settings, WANTED))
    star_N = stars.star_N[stars.start_K[labelled.shard_N] + labelled.row_in_shard_N]
    spectra = samples.from_labelled(labelled, labelled.labels).extra
    seen_N, missing_members = seen_in_training(predictions.member_ids, predictions.path, spectra)
    ensemble = predictions.document.ensemble
    seen_N |= recalibrated(present_folder(ensemble.path, predictions.path, ensemble.id), spectra)
    belongs: dict[ListName, NDArray[np.int8]] = {}
    contradicts_S = np.zeros(len(stars), bool)
    for name in LIST_NAMES:
        belongs_S, both_S = _of_stars(_belongs(labelled, name), star_N, len(stars))
        belongs_S[star_N[seen_N]] = MISSING
        belongs[name] = belongs_S
        contradicts_S |= both_S
    contradicts_S[star_N[seen_N]] = False
    label_S: dict[str, Floats] = {}
    for label, label_N in _true_labels(labelled):
        label_S[label] = np.full(len(stars), np.nan)
        known_N = np.isfinite(label_N)
        label_S[label][star_N[known_N]] = label_N[known_N]
    left_out = len(np.unique(star_N[seen_N]))
    return TrueLists(belongs, label_S, left_out, missing_members, int(contradicts_S.sum()))


def _of_stars(
    belongs_N: NDArray[np.int8], star_N: NDArray[np.int64], stars: int
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Whether each star belongs in a list, by what its visits say; and which stars have visits that
    contradict each other: they count as unknown."""
    in_S, out_S = np.zeros(stars, bool), np.zeros(stars, bool)
    in_S[star_N[belongs_N == 1]] = True
    out_S[star_N[belongs_N == 0]] = True
    belongs_S = np.full(stars, MISSING, np.int8)
    belongs_S[in_S & ~out_S] = 1
    belongs_S[out_S & ~in_S] = 0
    return belongs_S, in_S & out_S


def _true_labels(labelled: Labelled) -> Iterator[tuple[str, Floats]]:
    """The labels of the table that pictures show: those of the lists, and those that reports group by."""
    for name in EXTRA_LABELS:
        if f"true_{name}" in labelled.extra.column_names and name not in labelled.labels:
            yield name, float_column(labelled.extra, f"true_{name}")
    yield from zip(labelled.labels, labelled.label_NL.T, strict=True)


def _belongs(labelled: Labelled, name: ListName) -> NDArray[np.int8]:
    """Whether a labelled row belongs in a list: 1, 0, or `MISSING` if its labels do not say.

    [Fe/H] alone is enough for the list of metal-poor stars.
    """
    known_N = labelled.class_N != MISSING
    in_list_N = np.isin(labelled.class_N, list_classes(name))
    belongs_N = np.where(known_N, in_list_N, MISSING).astype(np.int8)
    if "FeH" in labelled.labels:
        feh_N = labelled.label_NL[:, labelled.labels.index("FeH")]
        poor_N = metal_poor(feh_N)
        belongs_N[~known_N & np.isfinite(feh_N) & ~poor_N] = 0
        if name == "MP":
            belongs_N[~known_N & poor_N] = 1
    return belongs_N


def _measures(
    name: ListName, belongs_S: NDArray[np.int8], listed_S: NDArray[np.bool_]
) -> list[dict[str, object]]:
    """Purity and completeness of a list; null if no star is labelled as one that belongs in it.

    Such labels cannot say how pure a list is.
    """
    hits = int(((belongs_S == 1) & listed_S).sum())
    true = int((belongs_S == 1).sum())
    listed = int(((belongs_S != MISSING) & listed_S).sum()) if true else 0
    rows: list[dict[str, object]] = []
    for metric, n in (("purity", listed), ("completeness", true)):
        measure = share_measure(name, metric, hits, n)
        bounds = {"value": measure.value, "low": measure.low, "high": measure.high}
        values = {key: None if np.isnan(value) else float(value) for key, value in bounds.items()}
        rows.append({"search": name, "metric": metric, **values, "hits": hits, "n": n})
    return rows
