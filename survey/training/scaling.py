"""Labels in numbers of order one, as networks like them: (label - centre) / scale, fitted on the training part alone.

Shapes: N spectra, L labels. NaN stays NaN and is left out of every fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scaler = Literal["standard", "minmax", "robust", "none"]
"""Mean and standard deviation; least and largest (to 0..1); median and interquartile range; left as it is."""
KINDS: tuple[Scaler, ...] = ("standard", "minmax", "robust", "none")

Floats = NDArray[np.float64]

FLAT = 1e-9
"""A spread below this (relative, where values are above 1) is rounding: the label is constant."""


@dataclass(frozen=True)
class Scaling:
    """How each of some labels is scaled."""

    labels: tuple[str, ...]
    kinds: tuple[Scaler, ...]
    center_L: Floats
    scale_L: Floats

    def scaled(self, label_NL: ArrayLike) -> Floats:
        """Labels in their units -> labels as a network sees them."""
        return (self._wide(label_NL) - self.center_L) / self.scale_L

    def unscaled(self, label_NL: ArrayLike) -> Floats:
        """Labels as a network sees them -> labels in their units."""
        return self._wide(label_NL) * self.scale_L + self.center_L

    def errors_scaled(self, error_NL: ArrayLike) -> Floats:
        """Errors in the labels' units -> errors as a network sees them."""
        return self._wide(error_NL) / self.scale_L

    def errors_unscaled(self, error_NL: ArrayLike) -> Floats:
        """Errors as a network sees them -> errors in the labels' units."""
        return self._wide(error_NL) * self.scale_L

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The scaling as JSON can hold it, to the last bit: kind, centre and scale by label."""
        rows = zip(self.labels, self.kinds, self.center_L.tolist(), self.scale_L.tolist(), strict=True)
        return {name: {"kind": kind, "center": center, "scale": scale} for name, kind, center, scale in rows}

    @classmethod
    def of(cls, about: dict[str, dict[str, Any]]) -> Self:
        """The scaling that `as_dict` gave."""
        try:
            rows = [
                (name, row["kind"], float(row["center"]), float(row["scale"])) for name, row in about.items()
            ]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"scaling: {about!r} ({error!r}); each label has a kind, a center and a scale"
            ) from error
        for name, kind, center, scale in rows:
            if kind not in KINDS or not np.isfinite(center) or not 0 < scale < np.inf:
                raise ValueError(
                    f"scaling: {name}: kind {kind!r}, center {center}, scale {scale}; take those that a training has written"
                )
        return cls(
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            np.array([row[2] for row in rows], np.float64),
            np.array([row[3] for row in rows], np.float64),
        )

    def _wide(self, values: ArrayLike) -> Floats:
        array = np.asarray(values, np.float64)
        if array.shape[-1:] != (len(self.labels),):
            raise ValueError(
                f"scaling: an array of shape {array.shape} for the labels {', '.join(self.labels)}; give one column for each"
            )
        return array


def fit(kind: Scaler | Sequence[Scaler], label_NL: Floats, labels: Sequence[str]) -> Scaling:
    """The scaling of these labels by these values, of one kind or of one for each."""
    kinds = (kind,) * len(labels) if isinstance(kind, str) else tuple(kind)
    if label_NL.ndim != 2 or label_NL.shape[1] != len(labels) or len(kinds) != len(labels):
        raise ValueError(
            f"scaling: values of shape {label_NL.shape} and {len(kinds)} kinds for {len(labels)} labels; give one of each for each"
        )
    pairs = [_fitted(*row) for row in zip(kinds, label_NL.T, labels, strict=True)]
    return Scaling(
        tuple(labels),
        kinds,
        np.array([center for center, _ in pairs], np.float64),
        np.array([scale for _, scale in pairs], np.float64),
    )


def _fitted(kind: Scaler, values: Floats, name: str) -> tuple[float, float]:
    """Centre and scale of one label."""
    if kind not in KINDS:
        raise ValueError(f"scaling: {name}: there is no kind {kind!r}; there are {', '.join(KINDS)}")
    known = values[np.isfinite(values)]
    if known.size < 2:
        raise ValueError(
            f"scaling: {name}: {known.size} values in the training part; label at least 2 stars with it, or leave it out of the labels"
        )
    if kind == "none":
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    flat = FLAT * max(abs(low), abs(high), 1)
    if high - low <= flat:
        raise ValueError(
            f"scaling: {name}: all {known.size} values of the training part are {low:g}; leave it out of the labels"
        )
    if kind == "standard":
        return float(known.mean()), float(known.std())
    if kind == "minmax":
        return low, high - low
    lower, middle, upper = np.percentile(known, (25, 50, 75)).tolist()
    if upper - lower <= flat:
        raise ValueError(
            f"scaling: {name}: half of {known.size} values are {middle:g}, so their interquartile range is 0; give scale=standard"
        )
    return middle, upper - lower
