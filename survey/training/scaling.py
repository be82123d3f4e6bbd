"""Scaling of labels to numbers of order one: (label - centre) / scale, fitted on the training part alone.

Shapes: N spectra, L labels. NaN stays NaN and is ignored by every fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scaler = Literal["standard", "minmax", "robust", "none"]
"""Mean and standard deviation; minimum and range; median and interquartile range; no scaling."""
KINDS: tuple[Scaler, ...] = ("standard", "minmax", "robust", "none")

Floats = NDArray[np.float64]

MIN_RANGE = 1e-9
"""A range below this (relative, for values above 1) is rounding: the label is constant."""


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of some labels."""

    labels: tuple[str, ...]
    kinds: tuple[Scaler, ...]
    center_L: Floats
    scale_L: Floats

    def scale(self, label_NL: ArrayLike) -> Floats:
        """Scaled labels from labels in physical units."""
        return (self._float64(label_NL) - self.center_L) / self.scale_L

    def unscale(self, label_NL: ArrayLike) -> Floats:
        """Labels in physical units from scaled labels."""
        return self._float64(label_NL) * self.scale_L + self.center_L

    def scale_errors(self, error_NL: ArrayLike) -> Floats:
        """Scaled errors from errors in physical units."""
        return self._float64(error_NL) / self.scale_L

    def unscale_errors(self, error_NL: ArrayLike) -> Floats:
        """Errors in physical units from scaled errors."""
        return self._float64(error_NL) * self.scale_L

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Kind, centre and scale by label, for JSON, exact to the last bit."""
        rows = zip(self.labels, self.kinds, self.center_L.tolist(), self.scale_L.tolist(), strict=True)
        return {name: {"kind": kind, "center": center, "scale": scale} for name, kind, center, scale in rows}

    @classmethod
    def from_dict(cls, values: dict[str, dict[str, Any]]) -> Self:
        """The scaling from the form of `to_dict`."""
        try:
            rows = [
                (name, row["kind"], float(row["center"]), float(row["scale"])) for name, row in values.items()
            ]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"scaling: {values!r} is not a scaling ({error!r}); give kind, center and scale of each label"
            ) from error
        for name, kind, center, scale in rows:
            if kind not in KINDS or not np.isfinite(center) or not 0 < scale < np.inf:
                raise ValueError(
                    f"scaling: {name}: kind {kind!r}, center {center}, scale {scale} are not valid; "
                    "give the values that a training has written"
                )
        return cls(
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            np.array([row[2] for row in rows], np.float64),
            np.array([row[3] for row in rows], np.float64),
        )

    def _float64(self, values: ArrayLike) -> Floats:
        array = np.asarray(values, np.float64)
        if array.shape[-1:] != (len(self.labels),):
            raise ValueError(
                f"scaling: an array of shape {array.shape} for the labels {', '.join(self.labels)}; "
                "give one column for each label"
            )
        return array


def fit_scaling(kind: Scaler | Sequence[Scaler], label_NL: Floats, labels: Sequence[str]) -> Scaling:
    """The scaling of these labels, fitted to these values, of one kind or of one kind for each."""
    kinds = (kind,) * len(labels) if isinstance(kind, str) else tuple(kind)
    if label_NL.ndim != 2 or label_NL.shape[1] != len(labels) or len(kinds) != len(labels):
        raise ValueError(
            f"scaling: values of shape {label_NL.shape} and {len(kinds)} kinds for {len(labels)} labels; "
            "give one column and one kind for each label"
        )
    pairs = [_center_and_scale(*row) for row in zip(kinds, label_NL.T, labels, strict=True)]
    return Scaling(
        tuple(labels),
        kinds,
        np.array([center for center, _ in pairs], np.float64),
        np.array([scale for _, scale in pairs], np.float64),
    )


def _center_and_scale(kind: Scaler, values: Floats, name: str) -> tuple[float, float]:
    """Centre and scale of one label."""
    if kind not in KINDS:
        raise ValueError(f"scaling: {name}: there is no kind {kind!r}; give one of {', '.join(KINDS)}")
    known = values[np.isfinite(values)]
    if known.size < 2:
        raise ValueError(
            f"scaling: {name}: {known.size} values in the training part, at least 2 are needed; "
            "label more stars with it, or leave it out of the labels"
        )
    if kind == "none":
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    min_range = MIN_RANGE * max(abs(low), abs(high), 1)
    if high - low <= min_range:
        raise ValueError(
            f"scaling: {name}: all {known.size} values of the training part are {low:g}; "
            "leave it out of the labels"
        )
    if kind == "standard":
        return float(known.mean()), float(known.std())
    if kind == "minmax":
        return low, high - low
    lower, middle, upper = np.percentile(known, (25, 50, 75)).tolist()
    if upper - lower <= min_range:
        raise ValueError(
            f"scaling: {name}: half of {known.size} values are {middle:g}, so the interquartile range is 0; "
            "give scale=standard"
        )
    return middle, upper - lower
