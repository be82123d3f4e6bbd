"""How the scale of one catalogue lies to that of another, by the stars that both have.

    value on the scale of the reference = value + offset + slope * (value - pivot)

Both catalogues have errors, so an ordinary fit would find a slope where there is none; this is a Deming fit,
with the ratio of the errors of both. Outliers are left out by the median absolute deviation. The intervals
come from a bootstrap over stars. Shapes: P stars in common, B resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import labels
from survey.label_tables.combine_labels import one_per_star
from survey.label_tables.read_catalogue import CatalogueRows
from survey.label_tables.settings import Combine, CommonScale
from survey.labelling.star_id import Codes, Floats
from survey.metrics.intervals import percentile_interval

CLIP = 4.0
"""Outliers are farther from the line than so many times the scatter."""
ROUNDS = 8
MOST_PAIRS = 4000
"""A random part of so many stars is resampled, if there are more."""


@dataclass(frozen=True)
class ScaleFit:
    """One label of one source against the reference; intervals are NaN where nothing was fitted."""

    source: str
    reference: str
    label: str
    stars: int
    used: int
    pivot: float
    offset: float
    offset_low: float
    offset_high: float
    slope: float
    slope_low: float
    slope_high: float
    scatter: float

    @property
    def is_fitted(self) -> bool:
        """Whether there were enough stars."""
        return bool(np.isfinite(self.offset))

    def apply(self, values: Floats) -> Floats:
        """Values on the scale of the reference."""
        return values + self.offset + self.slope * (values - self.pivot)


@dataclass(frozen=True)
class CommonStars:
    """The values of the same stars in two sources, for a plot and a fit."""

    source: str
    reference: str
    label: str
    value_P: Floats
    reference_P: Floats
    error_P2: Floats


def compare_scales(
    catalogues: Sequence[CatalogueRows],
    group: Sequence[Codes],
    settings: CommonScale,
    combine: Combine,
    reference: str,
) -> tuple[list[ScaleFit], list[CommonStars]]:
    """The scale of every other source against that of the reference, label by label."""
    names = [rows.name for rows in catalogues]
    first = names.index(reference)
    fits, common = [], []
    for label in settings.labels:
        base = _values(catalogues[first], group[first], label, combine)
        for number, rows in enumerate(catalogues):
            if number == first or base is None:
                continue
            other = _values(rows, group[number], label, combine)
            if other is None:
                continue
            stars = _stars_in_common(rows.name, reference, label, other, base)
            common.append(stars)
            fits.append(fit_scale(stars, settings))
    return fits, common


def _values(
    rows: CatalogueRows, star_R: Codes, label: str, combine: Combine
) -> tuple[Codes, Floats, Floats] | None:
    """The stars that a source has a label of, their values and errors."""
    if label not in rows.labels.label:
        return None
    star_R = np.where(rows.kept, star_R, -1)
    return one_per_star(rows, star_R, label, combine.error_of(label))[:3]


def _stars_in_common(
    name: str,
    reference: str,
    label: str,
    other: tuple[Codes, Floats, Floats],
    base: tuple[Codes, Floats, Floats],
) -> CommonStars:
    _, here, there = np.intersect1d(other[0], base[0], assume_unique=True, return_indices=True)
    errors = np.stack([other[2][here], base[2][there]], 1)
    return CommonStars(name, reference, label, other[1][here], base[1][there], errors)


def fit_scale(common: CommonStars, settings: CommonScale) -> ScaleFit:
    """Offset and slope with their 95 % intervals; NaN if there are too few stars."""
    x, y = common.value_P, common.reference_P
    count = len(x)
    nothing = ScaleFit(
        common.source, common.reference, common.label, count, 0, *[np.nan] * 8
    )  # fmt: skip
    if count < settings.least:
        return nothing
    ratio = float(np.median(common.error_P2[:, 1]) ** 2 / np.median(common.error_P2[:, 0]) ** 2)
    has_slope = settings.slope and count >= 3 * settings.least and _is_spread(common)
    pivot = float(np.median(x))
    # two catalogues may have taken most values from the same paper
    least = 0.2 * float(np.hypot(*np.median(common.error_P2, axis=0)))
    keep = _inliers(x - pivot, y - x, ratio, has_slope, least)
    x, y = x[keep], y[keep]
    offset, slope = _line(np.ones((1, len(x))), x - pivot, y - x, ratio, has_slope)
    draw = np.random.default_rng(settings.seed)
    part = draw.permutation(len(x))[:MOST_PAIRS]
    weights = draw.multinomial(len(part), np.full(len(part), 1 / len(part)), settings.bootstrap)
    offsets, slopes = _line(weights.astype(np.float64), (x - pivot)[part], (y - x)[part], ratio, has_slope)
    shrink = np.sqrt(len(part) / len(x))
    offset_low, offset_high = _interval(offsets, float(offset[0]), shrink)
    slope_low, slope_high = _interval(slopes, float(slope[0]), shrink) if has_slope else (np.nan, np.nan)
    scatter = float(np.std(y - x - offset[0] - slope[0] * (x - pivot)))
    return ScaleFit(
        common.source,
        common.reference,
        common.label,
        count,
        len(x),
        pivot,
        float(offset[0]),
        offset_low,
        offset_high,
        float(slope[0]),
        slope_low,
        slope_high,
        scatter,
    )


def _interval(draws: Floats, value: float, shrink: float) -> tuple[float, float]:
    """The interval of a value from resamples of a part of the stars, for all of them."""
    return percentile_interval(value + shrink * (draws - np.mean(draws)), value)


def _is_spread(common: CommonStars) -> bool:
    """Whether the values are spread by clearly more than their errors; else a slope means nothing."""
    return bool(np.std(common.value_P) > 2 * np.median(common.error_P2[:, 0]))


def _inliers(x: Floats, difference: Floats, ratio: float, has_slope: bool, least: float) -> NDArray[np.bool_]:
    """The stars that are no outliers of the line; the scatter is at least `least`."""
    keep = np.ones(len(x), bool)
    offset, slope = float(np.median(difference)), 0.0
    for turn in range(ROUNDS):
        residual = difference - offset - slope * x
        scatter = 1.4826 * np.median(np.abs(residual[keep] - np.median(residual[keep])))
        new = np.abs(residual) <= CLIP * max(scatter, least)
        if turn and (new == keep).all():
            break
        keep = new
        offsets, slopes = _line(np.ones((1, keep.sum())), x[keep], difference[keep], ratio, has_slope)
        offset, slope = float(offsets[0]), float(slopes[0])
    return keep


def _line(
    weight_BP: Floats, x: Floats, difference: Floats, ratio: float, has_slope: bool
) -> tuple[Floats, Floats]:
    """Offset at x = 0 and slope of the difference, for each row of weights."""
    total = weight_BP.sum(1)
    mean_d = weight_BP @ difference / total
    if not has_slope:
        return mean_d, np.zeros(len(total))
    y = x + difference
    mean_x, mean_y = weight_BP @ x / total, weight_BP @ y / total
    xx = weight_BP @ x**2 / total - mean_x**2
    yy = weight_BP @ y**2 / total - mean_y**2
    xy = weight_BP @ (x * y) / total - mean_x * mean_y
    excess = yy - ratio * xx
    steepness = (excess + np.sqrt(excess**2 + 4 * ratio * xy**2)) / (2 * xy)
    return mean_y - steepness * mean_x, steepness - 1


def apply_scales(catalogues: Sequence[CatalogueRows], fits: Sequence[ScaleFit]) -> None:
    """Put the labels of all sources on the scale of the reference, where it was fitted."""
    by_name = {rows.name: rows for rows in catalogues}
    for fit in fits:
        if fit.is_fitted:
            values = by_name[fit.source].labels.label
            values[fit.label] = labels.values(labels.label(fit.label), fit.apply(values[fit.label]))


def scale_table(fits: Sequence[ScaleFit]) -> pa.Table:
    """The fits as a table."""
    names = list(ScaleFit.__dataclass_fields__)
    text, counts = {"source", "reference", "label"}, {"stars", "used"}
    kinds = {name: pa.string() if name in text else pa.int64() for name in text | counts}
    return pa.table(
        {
            name: pa.array(
                [getattr(fit, name) for fit in fits], kinds.get(name, pa.float64()), from_pandas=True
            )
            for name in names
        }
    )
