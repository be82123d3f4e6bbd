"""Groups of rows in the latent space: clusters, or classes. A row in none has the number -1.

Shapes: N rows, C components, S rows of the sample, K neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from survey.latent.latents import Floats32, Rows
from survey.latent.neighbours import pieces
from survey.latent.settings import LatentSettings

NONE = -1
Groups32 = NDArray[np.int32]


def find_clusters(
    settings: LatentSettings, component_NC: Floats32, sample_S: Rows, nearest_NK: NDArray[np.int32]
) -> Groups32:
    """The cluster of each row, the largest first; found in the sample, then given to all rows."""
    wanted, count = settings.clusters, min(settings.clusters.components, component_NC.shape[1])
    used_NC = component_NC[:, :count]
    if wanted.method == "none":
        return np.full(len(component_NC), NONE, np.int32)
    if wanted.method == "hdbscan":
        from sklearn.cluster import HDBSCAN

        model = HDBSCAN(min(wanted.least, len(sample_S) // 4), min_samples=10, copy=True)
        cluster_S = model.fit_predict(used_NC[sample_S]).astype(np.int32)
        cluster_N = _most_common(cluster_S, nearest_NK)
        cluster_N[sample_S] = cluster_S
    else:
        cluster_N = _divided(settings, used_NC, sample_S)
    return _by_size(cluster_N)


def _divided(settings: LatentSettings, used_NC: Floats32, sample_S: Rows) -> Groups32:
    """The cluster of each row by k-means or a mixture of Gaussians."""
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    count, seed = settings.clusters.count, settings.seed
    if settings.clusters.method == "kmeans":
        model = KMeans(count, n_init=5, random_state=seed)
    else:
        model = GaussianMixture(count, reg_covar=1e-4 * float(used_NC[sample_S].var()), random_state=seed)
    model.fit(used_NC[sample_S])
    cluster_N = np.full(len(used_NC), NONE, np.int32)
    for piece in pieces(len(used_NC)):
        known = piece.start + np.flatnonzero(np.isfinite(used_NC[piece]).all(1))
        if known.size:
            cluster_N[known] = model.predict(used_NC[known])
    return cluster_N


def _most_common(cluster_S: Groups32, nearest_NK: NDArray[np.int32]) -> Groups32:
    """For each row the most common cluster among its neighbours; the nearest decides between equals."""
    cluster_N = np.full(len(nearest_NK), NONE, np.int32)
    for piece in pieces(len(nearest_NK)):
        known_N = nearest_NK[piece, 0] >= 0
        cluster_NK = cluster_S[nearest_NK[piece][known_N]]
        votes_NK = (cluster_NK[:, :, None] == cluster_NK[:, None, :]).sum(2)
        cluster_N[piece][known_N] = cluster_NK[np.arange(len(cluster_NK)), votes_NK.argmax(1)]
    return cluster_N


def _by_size(cluster_N: Groups32) -> Groups32:
    """The clusters numbered from 0, the largest first."""
    numbers, counts = np.unique(cluster_N[cluster_N >= 0], return_counts=True)
    new = np.full(int(numbers.max(initial=-1)) + 2, NONE, np.int32)  # the last element stands for -1
    new[numbers[np.argsort(-counts, kind="stable")]] = np.arange(len(numbers))
    return new[cluster_N]


def centre_ratio(component_NC: Floats32, group_N: Groups32) -> Floats32:
    """How far each row is from the centre of its group, in units of the group's median distance.

    NaN for a row in no group, or in one of fewer than three rows.
    """
    ratio_N = np.full(len(group_N), np.nan, np.float32)
    for group in np.unique(group_N[group_N >= 0]).tolist():
        rows = np.flatnonzero(group_N == group)
        rows = rows[np.isfinite(component_NC[rows, 0])]
        if len(rows) < 3:
            continue
        centre_C = component_NC[rows].mean(0, dtype=np.float64).astype(np.float32)
        for start in range(0, len(rows), 1 << 16):
            part = rows[start : start + (1 << 16)]
            ratio_N[part] = np.linalg.norm(component_NC[part] - centre_C, axis=1)
        median = float(np.median(ratio_N[rows]))
        ratio_N[rows] = ratio_N[rows] / median if median > 0 else np.nan
    return ratio_N


def density_score(distance_NK: Floats32) -> Floats32:
    """The mean distance to the nearest rows of the sample, in units of its median over all rows."""
    mean_N = distance_NK.mean(1)
    median = float(np.nanmedian(mean_N)) if np.isfinite(mean_N).any() else np.nan
    return np.asarray(mean_N / median if median > 0 else mean_N)
