"""The selection function of a candidate list, from validation stars: its purity and completeness to be expected in bins of signal to noise and of
temperature, and for every threshold that could have been chosen.

A bin's purity supposes that the survey's classes are spread over the bins as those of validation are, its completeness supposes nothing of the
kind. Shapes: N stars, C classes, X bins or thresholds.
"""

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from survey.catalog.prior import FEW
from survey.catalog.thresholds import Threshold, Validated, completeness, purity
from survey.catalog.visits import Flags, numbers
from survey.labels import CLASSES
from survey.metrics.intervals import Measure
from survey.settings import Settings

SNR = ("snr_total", "snr", "snr_g")
"""The column of signal to noise, best first."""
TEFF = ("Teff", "true_Teff")
"""The column of temperature, best first: a user of the catalog has the predicted one."""

MEASURED = (
    ("metric", pa.string(), "purity (in the survey's mix of classes) or completeness"),
    ("value", pa.float64(), "what is to be expected; null where no validation star tells"),
    ("low", pa.float64(), "lower end of its 95 % interval"),
    ("high", pa.float64(), "upper end of its 95 % interval"),
    (
        "n",
        pa.int64(),
        "validation stars that it rests on: in the list (purity), or what is searched for (completeness)",
    ),
    ("few", pa.bool_(), "these are too few to mean much"),
)
BINS = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("search", pa.string(), "the list: MP or CEMP"),
            ("snr", pa.string(), "bin of signal to noise, or all"),
            ("Teff", pa.string(), "bin of temperature (K), or all"),
            ("snr_low", pa.float64(), "signal to noise from here on; null = open"),
            ("snr_high", pa.float64(), "and below here; null = open"),
            ("Teff_low", pa.float64(), "temperature from here on (K); null = open"),
            ("Teff_high", pa.float64(), "and below here (K); null = open"),
            *MEASURED,
        )
    ]
)
CURVES = pa.schema(
    [
        pa.field(name, kind, metadata={"description": about})
        for name, kind, about in (
            ("search", pa.string(), "the list: MP or CEMP"),
            ("threshold", pa.float64(), "a star of this score or more is in the list"),
            *MEASURED,
        )
    ]
)
POINTS = 101
"""Thresholds of a curve."""


class Bins(Settings):
    """Edges of the bins of the selection function; the outer bins are open."""

    snr: tuple[float, ...] = Field(
        (10.0, 20.0, 30.0, 50.0, 100.0), strict=False, description="edges of signal to noise"
    )
    teff: tuple[float, ...] = Field(
        (4500.0, 5000.0, 5500.0, 6000.0, 6500.0), strict=False, description="edges of temperature (K)"
    )

    @field_validator("snr", "teff")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if (np.diff(value) <= 0).any():
            raise ValueError(
                f"edges {', '.join(f'{edge:g}' for edge in value)} do not rise; give each above the one before"
            )
        return value


@dataclass(frozen=True)
class Bin:
    """A bin: its name, its edges (infinite: open), and which stars lie in it."""

    name: str
    low: float
    high: float
    inside_N: Flags


def by_bins(validation: pa.Table, threshold: Threshold, bins: Bins | None = None) -> pa.Table:
    """Purity and completeness at a threshold in all, by signal to noise, by temperature and by both; its columns are those of `BINS`."""
    bins, stars = bins or Bins(), Validated.of(validation)
    listed_N = stars.score(threshold.kind, threshold.mix) >= threshold.value
    cells = list(
        product(
            _bins(validation, SNR, bins.snr, stars.row_N), _bins(validation, TEFF, bins.teff, stars.row_N)
        )
    )
    inside_XN = np.stack([snr.inside_N & teff.inside_N for snr, teff in cells])
    n_XC, k_XC = (
        np.stack([np.bincount(stars.class_N[some_N], minlength=len(CLASSES)) for some_N in some_XN])
        for some_XN in (inside_XN, inside_XN & listed_N)
    )
    n_C, (pure, complete) = stars.counts, threshold.optimism
    found = purity(k_XC, n_C, threshold.kind, threshold.mix, pure)
    told = completeness(k_XC, n_XC, threshold.kind, threshold.mix, complete, n_XC / np.maximum(n_C, 1))
    rows = [
        {"search": threshold.kind, "snr": snr.name, "Teff": teff.name}
        | _edges("snr", snr)
        | _edges("Teff", teff)
        | _row(measure)
        for (snr, teff), pair in zip(cells, zip(found, told, strict=True), strict=True)
        for measure in pair
    ]
    return pa.Table.from_pylist(rows, BINS)


def curve(validation: pa.Table, threshold: Threshold) -> pa.Table:
    """Purity and completeness that other thresholds would give, in the mix of this one; its columns are those of `CURVES`."""
    stars = Validated.of(validation)
    score_N, at_X = stars.score(threshold.kind, threshold.mix), np.linspace(0, 1, POINTS)
    k_XC = np.stack([np.bincount(stars.class_N[score_N >= at], minlength=len(CLASSES)) for at in at_X])
    found = purity(k_XC, stars.counts, threshold.kind, threshold.mix)
    told = completeness(k_XC, stars.counts, threshold.kind, threshold.mix)
    rows = [
        {"search": threshold.kind, "threshold": float(at)} | _row(measure)
        for at, pair in zip(at_X, zip(found, told, strict=True), strict=True)
        for measure in pair
    ]
    return pa.Table.from_pylist(rows, CURVES)


def _bins(
    validation: pa.Table, columns: tuple[str, ...], edges: tuple[float, ...], row_N: NDArray[np.int64]
) -> list[Bin]:
    """All stars, then those of each bin of the first of these columns that is there."""
    column = next((name for name in columns if name in validation.column_names), None)
    everything = Bin("all", -np.inf, np.inf, np.ones(len(row_N), bool))
    if column is None or not edges:
        return [everything]
    value_N = numbers(validation, column)[row_N]
    ends = [-np.inf, *edges, np.inf]
    names = [f"<{edges[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(edges)), f">{edges[-1]:g}"]
    return [
        everything,
        *(
            Bin(name, low, high, (value_N >= low) & (value_N < high))
            for name, (low, high) in zip(names, pairwise(ends), strict=True)
        ),
    ]


def _edges(name: str, one: Bin) -> dict[str, float | None]:
    return {
        f"{name}_low": one.low if np.isfinite(one.low) else None,
        f"{name}_high": one.high if np.isfinite(one.high) else None,
    }


def _row(measure: Measure) -> dict[str, Any]:
    known = np.isfinite(measure.value)
    bounds = {name: getattr(measure, name) if known else None for name in ("value", "low", "high")}
    return {"metric": measure.metric} | bounds | {"n": measure.n, "few": measure.n < FEW}
