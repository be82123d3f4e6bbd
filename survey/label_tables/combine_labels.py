"""The labels of several catalogues combined to one value for each star, label by label.

First the rows of one star in one catalogue become one; then the catalogues, by priority or by a weighted
mean. Where two values of a star differ by more than their errors and a tolerance, they contradict each
other; what two catalogues differ by for all stars is taken off before.
Shapes: R rows of a catalogue, M stars that any catalogue has, K catalogues.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import labels
from survey.label_tables.read_catalogue import CatalogueRows
from survey.label_tables.settings import Combine
from survey.labelling.star_id import Codes, Floats
from survey.labels import CARBON_LABELS

ToScale = Mapping[tuple[str, str], Callable[[Floats], Floats]]
"""What brings values of a source and a label onto the common scale; other pairs stay as they are."""

DUPLICATE = "another row of the same star was used"
SEVERAL_ROWS = "several rows of one star"
DERIVED = "identity"

CONTRADICTIONS = pa.schema(
    [
        ("star", pa.int64()),
        ("label", pa.string()),
        ("source_1", pa.string()),
        ("value_1", pa.float64()),
        ("source_2", pa.string()),
        ("value_2", pa.float64()),
        ("difference", pa.float64()),
        ("sigmas", pa.float64()),
    ]
)


@dataclass
class CombinedLabels:
    """One value for each star and label, and its error; NaN where unknown. `star_M` are codes of stars.

    `origin` says which source or sources a value is from. `contradicts_M` names the labels on which sources
    contradict each other, separated by commas. `sources_M` counts the sources of a star. Where
    `carbon_from_h_M`, [C/H] was measured, and [C/Fe] follows from it and [Fe/H].
    """

    star_M: Codes
    label: dict[str, Floats]
    error: dict[str, Floats]
    origin: dict[str, NDArray[np.object_]]
    sources_M: NDArray[np.int64]
    contradicts_M: NDArray[np.object_]
    correction_M: Floats
    contradictions: pa.Table
    kept_M: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    carbon_from_h_M: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __len__(self) -> int:
        return len(self.star_M)


def one_per_star(
    rows: CatalogueRows, star_R: Codes, label: str, default_error: float
) -> tuple[Codes, Floats, Floats, Codes, Floats, Floats]:
    """The stars with a label, its value and error; the rows that were used; the lowest and highest value."""
    value_R, error_R = rows.labels.label[label], rows.labels.error[label]
    index = np.flatnonzero((star_R >= 0) & np.isfinite(value_R))
    error_R = np.where(np.isfinite(error_R), error_R, default_error)
    rank_R = np.where(np.isfinite(rows.snr_R), -rows.snr_R, error_R)
    order = index[np.lexsort((index, rank_R[index], star_R[index]))]
    starts = np.flatnonzero(np.diff(star_R[order], prepend=-1))
    if not starts.size:
        empty = np.empty(0)
        return np.empty(0, np.int64), empty, empty, np.empty(0, np.int64), empty, empty
    stars = star_R[order[starts]]
    low, high = (extreme.reduceat(value_R[order], starts) for extreme in (np.minimum, np.maximum))
    if rows.source.duplicates == "best":
        first = order[starts]
        return stars, value_R[first], error_R[first], first, low, high
    weight = 1 / error_R[order] ** 2
    total = np.add.reduceat(weight, starts)
    value = np.add.reduceat(weight * value_R[order], starts) / total
    # literature values share their stars' light and models: their mean is not better than the best of them
    error = np.minimum.reduceat(error_R[order], starts)
    return stars, value, error, order, low, high


def combine_labels(
    catalogues: Sequence[CatalogueRows],
    star: Sequence[Codes],
    settings: Combine,
    order: Sequence[str],
    to_scale: ToScale,
) -> CombinedLabels:
    """One value for each star and label. Rows of which nothing was used are refused as duplicates."""
    by_name = {rows.name: (rows, codes) for rows, codes in zip(catalogues, star, strict=True)}
    chosen = [by_name[name] for name in order if name in by_name]
    for rows, codes in chosen:
        if rows.source.duplicates == "refuse":
            _refuse_several(rows, codes)
    codes_of = [np.where(rows.kept, codes, -1) for rows, codes in chosen]
    star_M = np.unique(np.concatenate([codes[codes >= 0] for codes in codes_of] or [np.empty(0, np.int64)]))
    names = [row.name for row in labels.LABELS if any(row.name in rows.labels.label for rows, _ in chosen)]
    combined = _empty(star_M)
    found: list[dict[str, Any]] = []
    used = [np.isfinite(rows.correction_R) & rows.kept for rows, _ in chosen]
    has_source_MK = np.zeros((len(star_M), len(chosen)), bool)
    for name in names:
        value_MK, error_MK = (np.full((len(star_M), len(chosen)), np.nan) for _ in range(2))
        for number, ((rows, _), codes) in enumerate(zip(chosen, codes_of, strict=True)):
            if name not in rows.labels.label:
                continue
            stars, value, error, rows_used, low, high = one_per_star(
                rows, codes, name, settings.error_of(name)
            )
            place = np.searchsorted(star_M, stars)
            value_MK[place, number], error_MK[place, number] = value, error
            used[number][rows_used] = True
            has_source_MK[place, number] = True
            found += _own_contradictions(rows.name, name, stars, low, high, error, settings)
        sources = [rows.name for rows, _ in chosen]
        found += _contradictions(sources, name, star_M, value_MK, error_MK, settings, to_scale)
        weights = np.array([rows.source.weight for rows, _ in chosen])
        _combine(combined, name, value_MK, error_MK, weights, settings, sources)
    for number, (rows, _) in enumerate(chosen):
        rows.refuse(rows.kept & (codes_of[number] >= 0) & ~used[number], DUPLICATE)
    combined.sources_M = has_source_MK.sum(1)
    combined.correction_M = _corrections(chosen, codes_of, star_M)
    _complete_carbon(combined)
    _flag(combined, found, settings)
    return combined


def _empty(star_M: Codes) -> CombinedLabels:
    count = len(star_M)
    return CombinedLabels(
        star_M,
        {},
        {},
        {},
        np.zeros(count, np.int64),
        np.full(count, "", object),
        np.full(count, np.nan),
        CONTRADICTIONS.empty_table(),
        np.ones(count, bool),
        np.zeros(count, bool),
    )


def _refuse_several(rows: CatalogueRows, codes: Codes) -> None:
    """Refuses all rows of a star that has more than one."""
    codes = np.where(rows.kept, codes, -1)
    count = np.bincount(codes[codes >= 0], minlength=int(codes.max(initial=-1)) + 1)
    several_R = np.zeros(len(rows), bool)
    several_R[codes >= 0] = count[codes[codes >= 0]] > 1
    rows.refuse(several_R, SEVERAL_ROWS)


def _combine(
    combined: CombinedLabels,
    name: str,
    value_MK: Floats,
    error_MK: Floats,
    weight_K: Floats,
    settings: Combine,
    sources: Sequence[str],
) -> None:
    """Adds a label: of the first source that has it, or the mean of all. Columns are in order of priority."""
    has_MK = np.isfinite(value_MK)
    is_known_M = has_MK.any(1)
    words = np.array([*sources, ""], object)
    first_M = np.where(is_known_M, has_MK.argmax(1), 0)
    rows = np.arange(len(value_MK))
    value_M, error_M = value_MK[rows, first_M], error_MK[rows, first_M]
    origin_M = words[np.where(is_known_M, first_M, len(sources))]
    if settings.method == "mean":
        value_M, error_M = _mean(value_MK, error_MK, weight_K)
        several = np.flatnonzero(has_MK.sum(1) > 1)
        for star in several.tolist():
            origin_M[star] = "+".join(words[:-1][has_MK[star]])
    combined.label[name], combined.error[name], combined.origin[name] = value_M, error_M, origin_M


def _mean(value_MK: Floats, error_MK: Floats, weight_K: Floats) -> tuple[Floats, Floats]:
    """The weighted mean; its error grows where the values scatter by more than their errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_MK = np.where(np.isfinite(value_MK), 1 / error_MK**2, 0.0)
        part_MK = precision_MK * weight_K
        value_M = np.nansum(part_MK * np.nan_to_num(value_MK), 1) / part_MK.sum(1)
        error_M = np.sqrt(
            (part_MK**2 / np.where(precision_MK > 0, precision_MK, np.inf)).sum(1)
        ) / part_MK.sum(1)
        count_M = (precision_MK > 0).sum(1)
        squares_M = (precision_MK * (np.nan_to_num(value_MK) - value_M[:, None]) ** 2).sum(1)
        factor_M = np.sqrt(np.maximum(squares_M / np.maximum(count_M - 1, 1), 1.0))
    return value_M, error_M * np.where(count_M > 1, factor_M, 1.0)


def _contradictions(
    sources: Sequence[str],
    name: str,
    star_M: Codes,
    value_MK: Floats,
    error_MK: Floats,
    settings: Combine,
    to_scale: ToScale,
) -> Iterator[dict[str, Any]]:
    """The stars on which two sources contradict each other, after both are brought onto one scale."""
    columns = [to_scale.get((source, name), np.asarray)(value_MK[:, k]) for k, source in enumerate(sources)]
    for one in range(len(sources)):
        for two in range(one + 1, len(sources)):
            difference_M = columns[one] - columns[two]
            error_M = np.hypot(error_MK[:, one], error_MK[:, two])
            for row in _differing(difference_M, error_M, name, settings).tolist():
                pair = (sources[one], value_MK[row, one], sources[two], value_MK[row, two])
                yield _record(star_M[row], name, pair, difference_M[row], error_M[row])


def _own_contradictions(
    source: str, name: str, stars: Codes, low: Floats, high: Floats, error: Floats, settings: Combine
) -> Iterator[dict[str, Any]]:
    """The stars whose own rows in a catalogue contradict each other."""
    joint = np.sqrt(2) * error
    for row in _differing(high - low, joint, name, settings).tolist():
        pair = (source, low[row], source, high[row])
        yield _record(stars[row], name, pair, low[row] - high[row], joint[row])


def _differing(difference: Floats, error: Floats, name: str, settings: Combine) -> NDArray[np.intp]:
    limit = np.maximum(settings.tolerance_of(name), settings.sigma * np.nan_to_num(error))
    return np.flatnonzero(np.abs(difference) > limit)


def _record(
    star: int, name: str, pair: tuple[str, float, str, float], difference: float, error: float
) -> dict[str, Any]:
    return {
        "star": int(star),
        "label": name,
        "source_1": pair[0],
        "value_1": float(pair[1]),
        "source_2": pair[2],
        "value_2": float(pair[3]),
        "difference": float(difference),
        "sigmas": float(abs(difference) / error),
    }


def _corrections(
    chosen: Sequence[tuple[CatalogueRows, Codes]], codes_of: Sequence[Codes], star_M: Codes
) -> Floats:
    """The evolutionary correction of each star, from the first source that has one."""
    correction_M = np.full(len(star_M), np.nan)
    for (rows, _), codes in reversed(list(zip(chosen, codes_of, strict=True))):
        index = np.flatnonzero((codes >= 0) & np.isfinite(rows.correction_R))[::-1]
        correction_M[np.searchsorted(star_M, codes[index])] = rows.correction_R[index]
    return correction_M


def _complete_carbon(combined: CombinedLabels) -> None:
    """[C/Fe] from [C/H] and [Fe/H] where it lacks; else [C/H] from [C/Fe] and [Fe/H]."""
    count = len(combined)
    for name in CARBON_LABELS:
        for part, empty in ((combined.label, np.nan), (combined.error, np.nan), (combined.origin, "")):
            part.setdefault(name, np.full(count, empty, object if empty == "" else np.float64))
    label, error, origin = combined.label, combined.error, combined.origin
    from_h_M = np.isnan(label["CFe"]) & np.isfinite(label["CH"]) & np.isfinite(label["FeH"])
    cfe_M = labels.values(labels.label("CFe"), labels.carbon_label("CFe", label))
    error_M = np.hypot(error["CH"], error["FeH"])
    label["CFe"] = np.where(from_h_M, cfe_M, label["CFe"])
    error["CFe"] = np.where(from_h_M, error_M, error["CFe"])
    origin["CFe"] = np.where(from_h_M, origin["CH"], origin["CFe"])
    combined.carbon_from_h_M = from_h_M
    both_M = np.isfinite(label["CFe"]) & np.isfinite(label["FeH"]) & ~from_h_M
    ch_M = labels.values(labels.label("CH"), labels.carbon_label("CH", label))
    label["CH"] = np.where(both_M, ch_M, label["CH"])
    error["CH"] = np.where(both_M, np.hypot(error["CFe"], error["FeH"]), error["CH"])
    origin["CH"] = np.where(both_M, DERIVED, origin["CH"])


def _flag(combined: CombinedLabels, found: Sequence[dict[str, Any]], settings: Combine) -> None:
    """Names the labels on which sources contradict each other, and leaves out what is to be left out."""
    flagged: dict[int, dict[str, None]] = {}
    for record in found:
        flagged.setdefault(record["star"], {})[record["label"]] = None
    for star, names in flagged.items():
        place = int(np.searchsorted(combined.star_M, star))
        combined.contradicts_M[place] = ",".join(names)
        if settings.contradicting == "drop_star":
            combined.kept_M[place] = False
        if settings.contradicting == "drop_label":
            for name in (*names, *_dependent(combined, place, names)):
                combined.label[name][place] = combined.error[name][place] = np.nan
                combined.origin[name][place] = ""
    columns = {name: [record[name] for record in found] for name in CONTRADICTIONS.names}
    combined.contradictions = pa.table(columns, schema=CONTRADICTIONS)


def _dependent(combined: CombinedLabels, place: int, names: Mapping[str, None]) -> list[str]:
    """The labels of a star that were computed from one of these."""
    if combined.carbon_from_h_M[place]:
        return ["CFe"] if {"CH", "FeH"} & names.keys() else []
    is_computed = combined.origin["CH"][place] == DERIVED
    return ["CH"] if is_computed and {"CFe", "FeH"} & names.keys() else []
