"""Maps of the latent space: its first two principal components, and UMAP and PaCMAP of these components.

UMAP and PaCMAP are fitted to a sample. All other rows are placed piece by piece, so a million rows need no
more memory than the sample. Shapes: N rows, C components, S rows of the sample, K neighbours.
"""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey.latent.latents import Floats32, Rows
from survey.latent.neighbours import pieces
from survey.latent.settings import LatentSettings, MapName
from survey.progress import Progress
from survey.settings import SettingsError

PACKAGES: dict[str, tuple[str, str]] = {"umap": ("umap", "umap-learn"), "pacmap": ("pacmap", "pacmap")}
"""The module that a method needs, and the package to install."""
PLACED_BY = 5
"""Nearest rows of the sample that say where a row is."""


def usable_maps(settings: LatentSettings) -> tuple[list[MapName], dict[str, str]]:
    """The maps that can be made, and why others are left out. One that is named must be possible."""
    usable: list[MapName] = []
    left_out: dict[str, str] = {}
    for name in settings.maps:
        module, package = PACKAGES.get(name, ("", ""))
        if not module or importlib.util.find_spec(module):
            usable.append(name)
            continue
        if "maps" in settings.model_fields_set:
            raise SettingsError(
                f"latent: maps: {name} needs the package {package}, which is not installed; "
                f"pip install {package}, or leave {name} out of maps="
            )
        left_out[name] = f"pip install {package}"
        logging.getLogger(__name__).warning(
            "latent: the map %s is left out: pip install %s makes it possible", name, package
        )
    return usable, left_out


def make_map(
    name: MapName,
    settings: LatentSettings,
    component_NC: Floats32,
    sample_S: Rows,
    nearest: tuple[NDArray[np.int32], Floats32],
) -> Floats32:
    """The coordinates (N, 2) of all rows on a map, or their first components; NaN without a latent."""
    if name == "pca":
        return component_NC[:, : settings.shown].copy()
    sample_SC = component_NC[sample_S]
    rows = len(component_NC)
    with Progress(f"latent: map {name}", rows, "rows") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads and a seed
        fit = _fit_umap if name == "umap" else _fit_pacmap
        placed_S2, place = fit(sample_SC, settings)
        if settings.place == "neighbours":
            map_N2 = _place_by_neighbours(placed_S2, *nearest)
        else:
            map_N2 = _place_by_model(component_NC, place)
        progress.add(rows)
    map_N2[sample_S] = placed_S2
    return map_N2


Place = Callable[[Floats32], Any]


def _fit_umap(sample_SC: Floats32, settings: LatentSettings) -> tuple[Floats32, Place]:
    from umap import UMAP  # 3 to 25 s: it compiles functions

    model = UMAP(random_state=settings.seed, n_jobs=1, init="pca")
    placed_S2 = np.asarray(model.fit_transform(sample_SC), np.float32)
    return placed_S2, model.transform


def _fit_pacmap(sample_SC: Floats32, settings: LatentSettings) -> tuple[Floats32, Place]:
    from pacmap import PaCMAP

    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns that a seed is set
    by_model = settings.place == "model"
    model = PaCMAP(random_state=settings.seed, apply_pca=False, save_tree=by_model)
    placed_S2 = np.asarray(model.fit_transform(sample_SC, init="pca"), np.float32)
    return placed_S2, lambda rows_NC: model.transform(rows_NC, basis=sample_SC)


def _place_by_model(component_NC: Floats32, place: Place) -> Floats32:
    """The places that a fitted model gives, piece by piece."""
    map_N2 = np.full((len(component_NC), 2), np.nan, np.float32)
    for piece in pieces(len(component_NC)):
        known = piece.start + np.flatnonzero(np.isfinite(component_NC[piece]).all(1))
        if known.size:
            map_N2[known] = place(component_NC[known])
    return map_N2


def _place_by_neighbours(
    placed_S2: Floats32, nearest_NK: NDArray[np.int32], distance_NK: Floats32
) -> Floats32:
    """The mean place of the nearest rows of the sample; nearer ones count more."""
    map_N2 = np.full((len(nearest_NK), 2), np.nan, np.float32)
    for piece in pieces(len(nearest_NK)):
        distance_NK_ = distance_NK[piece, :PLACED_BY]
        known_N = np.isfinite(distance_NK_).all(1)
        beyond_NK = distance_NK_[known_N] - distance_NK_[known_N, :1]
        weight_NK = np.exp(-beyond_NK / np.maximum(beyond_NK.mean(1, keepdims=True), 1e-12))
        weight_NK /= weight_NK.sum(1, keepdims=True)
        places_NK2 = placed_S2[nearest_NK[piece, :PLACED_BY][known_N]]
        map_N2[piece][known_N] = (places_NK2 * weight_NK[..., None]).sum(1)
    return map_N2
