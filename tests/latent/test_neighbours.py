"""Nearest neighbours, groups and maps: the quick way against the obvious one."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from survey.latent import groups, maps, neighbours
from survey.latent.latents import open_latents
from survey.latent.settings import LatentSettings, MapName
from survey.settings import SettingsError
from tests.latent.drawn_latents import drawn, write_predictions


def settings(**changes: object) -> LatentSettings:
    return LatentSettings.from_dict("latent", {"predictions": "p", "latent": "l"} | changes)


def test_the_nearest_rows_of_the_sample_leave_out_the_row_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PIECE", 64)
    component_NC, _ = drawn(300, width=5)
    component_NC[5] = np.nan
    sample_S = np.delete(np.arange(0, 300, 3), 4)
    nearest_NK, distance_NK = neighbours.nearest_in_sample(component_NC, sample_S, 4)
    for row in (0, 1, 150, 299):
        distance_S = np.linalg.norm(component_NC[sample_S] - component_NC[row], axis=1)
        distance_S[sample_S == row] = np.inf
        assert nearest_NK[row].tolist() == np.argsort(distance_S)[:4].tolist()
        assert np.allclose(distance_NK[row], np.sort(distance_S)[:4], atol=1e-3)
    assert nearest_NK[5].tolist() == [-1] * 4
    assert np.isnan(distance_NK[5]).all()


def test_the_nearest_of_all_rows_are_those_of_a_plain_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PIECE", 50)
    component_NC, _ = drawn(220, width=6)
    component_NC[9] = np.nan
    row_QK, distance_QK = neighbours.nearest_of_all(component_NC, np.array([0, 130]), 6)
    for place, row in enumerate((0, 130)):
        distance_N = np.linalg.norm(component_NC - component_NC[row], axis=1)
        distance_N[[row, 9]] = np.inf
        assert row_QK[place].tolist() == np.argsort(distance_N)[:6].tolist()
        assert np.allclose(distance_QK[place], np.sort(distance_N)[:6], atol=1e-4)


def test_an_object_is_found_by_star_visit_obsid_or_file(tmp_path: Path) -> None:
    latent_ND, _ = drawn(150, width=3)
    latents = open_latents(write_predictions(tmp_path, latent_ND, 60))
    names = ("star 3", "visit-00100", "42", "/elsewhere/spec-00149.fits.gz")
    assert list(neighbours.find_rows(latents, names).values()) == [3, 100, 41, 149]
    with pytest.raises(SettingsError, match=r"like: star 333: no row .* did you mean star"):
        neighbours.find_rows(latents, ("star 333",))


def test_the_centre_ratio_is_the_distance_over_the_median_distance_of_the_class() -> None:
    component_NC, class_N = drawn(400, width=5)
    group_N = class_N.astype(np.int32)
    group_N[:10] = -1
    ratio_N = groups.centre_ratio(component_NC, group_N)
    assert np.isnan(ratio_N[:10]).all()
    rows = np.flatnonzero(group_N == 1)
    distance_N = np.linalg.norm(component_NC[rows] - component_NC[rows].mean(0), axis=1)
    assert np.allclose(ratio_N[rows], distance_N / np.median(distance_N), atol=1e-4)


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "gmm"])
def test_clusters_find_the_classes_that_were_drawn(method: str) -> None:
    component_NC, class_N = drawn(900, width=6)
    component_NC[3] = np.nan
    known = np.flatnonzero(np.isfinite(component_NC[:, 0]))
    sample_S = known[known % 3 == 0]
    nearest_NK, _ = neighbours.nearest_in_sample(component_NC, sample_S, 5)
    wanted = settings(clusters={"method": method, "count": 3, "least": 20})
    cluster_N = groups.find_clusters(wanted, component_NC, sample_S, nearest_NK)
    assert cluster_N[3] == -1
    assert cluster_N.max() == 2
    sizes = np.bincount(cluster_N[cluster_N >= 0])
    assert (np.diff(sizes) <= 0).all()
    for cluster in range(3):
        assert len(set(class_N[cluster_N == cluster])) == 1
    assert (cluster_N >= 0).mean() > 0.9


def test_no_clusters_are_found_where_none_are_wanted() -> None:
    component_NC, _ = drawn(60, width=3)
    found_N = groups.find_clusters(
        settings(clusters={"method": "none"}), component_NC, np.arange(60), np.zeros((60, 5), np.int32)
    )
    assert (found_N == -1).all()


def test_a_map_that_is_named_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"umap needs the package umap-learn, .* pip install umap-learn"):
        maps.usable_maps(settings(maps=["pca", "umap"]))


def test_a_map_that_is_not_named_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    usable, left_out = maps.usable_maps(settings())
    assert usable == ["pca"]
    assert left_out == {"umap": "pip install umap-learn", "pacmap": "pip install pacmap"}
    assert "the map umap is left out: pip install umap-learn" in caplog.text


def test_rows_outside_the_sample_are_placed_among_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map is a given plane here, so that the place of each row is known."""
    component_NC, class_N = drawn(800, width=2)
    sample_S = np.arange(0, 800, 2)
    plane_N2 = component_NC * np.float32(2) + np.float32(1)
    monkeypatch.setattr(maps, "_fit_umap", lambda sample_SC, _: (sample_SC * 2 + 1, None))
    nearest = neighbours.nearest_in_sample(component_NC, sample_S, maps.PLACED_BY)
    map_N2 = maps.make_map("umap", settings(), component_NC, sample_S, nearest)
    assert np.allclose(map_N2[sample_S], plane_N2[sample_S])
    assert np.median(np.linalg.norm(map_N2 - plane_N2, axis=1)) < 0.3
    assert class_N.max() == 2


@pytest.mark.long
@pytest.mark.parametrize("place", ["neighbours", "model"])
@pytest.mark.parametrize("name", ["umap", "pacmap"])
def test_real_maps_keep_classes_apart(name: MapName, place: str) -> None:
    pytest.importorskip("umap" if name == "umap" else "pacmap")
    component_NC, class_N = drawn(700, width=6)
    sample_S = np.arange(0, 700, 2)
    nearest = neighbours.nearest_in_sample(component_NC, sample_S, 5)
    map_N2 = maps.make_map(name, settings(place=place), component_NC, sample_S, nearest)
    centre_C2 = np.stack([map_N2[class_N == number].mean(0) for number in range(3)])
    nearest_N = np.linalg.norm(map_N2[:, None] - centre_C2, axis=2).argmin(1)
    assert (nearest_N == class_N).mean() > 0.98
