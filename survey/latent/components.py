"""The principal components of latents, found in one pass over the shards and applied in another.

Rows go through memory shard by shard; only the components are kept (a million rows of 40: 160 MB). With all
components kept, distances between rows are those of the latent space. Shapes: N rows, D features, C
components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey.latent.latents import Floats32, Latents
from survey.settings import JobError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatentSpace:
    """Directions of largest variance, the largest first; `share_C` is their share of the variance."""

    mean_D: Floats
    scale_D: Floats
    axes_CD: Floats
    share_C: Floats

    def __len__(self) -> int:
        return len(self.share_C)

    def of(self, latent_ND: Floats32) -> Floats32:
        """The components (N, C) of rows; NaN where a feature is unknown."""
        scaled_ND = (latent_ND - self.mean_D.astype(np.float32)) / self.scale_D.astype(np.float32)
        return np.asarray(scaled_ND @ self.axes_CD.T.astype(np.float32))

    def arrays(self) -> dict[str, Floats]:
        """What describes the space: component = axes @ ((latent - mean) / scale)."""
        return {"mean": self.mean_D, "scale": self.scale_D, "axes": self.axes_CD, "share": self.share_C}


def find_components(latents: Latents, most: int, by_spread: bool) -> LatentSpace:
    """The components of all rows with a latent, at most so many; `by_spread` scales features first."""
    count, origin_D = 0, np.zeros(latents.width)
    sum_D, product_DD = np.zeros(latents.width), np.zeros((latents.width, latents.width))
    for _, latent_ND in latents.blocks("finding components"):
        finite_ND = latent_ND[np.isfinite(latent_ND).all(1)].astype(np.float64)
        if not len(finite_ND):
            continue
        if not count:
            origin_D = finite_ND.mean(0)  # squares of large numbers would lose digits
        finite_ND -= origin_D
        count += len(finite_ND)
        sum_D += finite_ND.sum(0)
        product_DD += finite_ND.T @ finite_ND
    if count < latents.width // 2 or count < 20:
        raise JobError(
            f"latent: {latents.predictions.path}: {count:,} rows have a latent of {latents.width} features; "
            "too few to look at; predict more"
        )
    mean_D = sum_D / count
    covariance_DD = product_DD / count - np.outer(mean_D, mean_D)
    spread_D = np.sqrt(np.clip(np.diag(covariance_DD), 0, None))
    scale_D = np.where(spread_D > 0, spread_D, 1) if by_spread else np.ones(latents.width)
    values_D, vectors_DD = np.linalg.eigh(covariance_DD / np.outer(scale_D, scale_D))
    total = values_D.clip(0).sum()
    if not total > 0:
        raise JobError(f"latent: {latents.predictions.path}: all latents are equal; train the network longer")
    order = np.argsort(values_D)[::-1][:most]
    order = order[values_D[order] > 1e-12 * total]
    axes_CD = vectors_DD[:, order].T
    signs_C = np.sign(axes_CD[np.arange(len(order)), np.abs(axes_CD).argmax(1)])  # the same on every machine
    return LatentSpace(
        origin_D + mean_D, scale_D, axes_CD * signs_C[:, None], np.asarray(values_D[order] / total)
    )


def apply_components(space: LatentSpace, latents: Latents) -> Floats32:
    """The components (N, C) of all rows; NaN for a row without a latent."""
    component_NC = np.empty((len(latents), len(space)), np.float32)
    for start, latent_ND in latents.blocks("applying components"):
        component_NC[start : start + len(latent_ND)] = space.of(latent_ND)
    return component_NC
