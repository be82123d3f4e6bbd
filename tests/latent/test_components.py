"""Principal components of latents that go through memory shard by shard."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from survey.latent.components import apply_components, find_components
from survey.latent.latents import open_latents
from survey.settings import JobError, SettingsError
from tests.latent.drawn_latents import drawn, write_predictions


def test_components_of_shards_are_those_of_another_library(tmp_path: Path) -> None:
    latent_ND, _ = drawn(450, width=7)
    latent_ND += 1000  # far from zero, where squares lose digits
    latents = open_latents(write_predictions(tmp_path, latent_ND, 100))
    components = find_components(latents, 50, by_spread=False)
    other = PCA().fit(latent_ND.astype(np.float64))
    assert np.allclose(components.share_C, other.explained_variance_ratio_, atol=1e-6)
    ours, theirs = apply_components(components, latents), other.transform(latent_ND.astype(np.float64))
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=5e-3)


def test_with_all_components_distances_are_those_of_the_latent_space(tmp_path: Path) -> None:
    latent_ND, _ = drawn(200, width=6)
    latents = open_latents(write_predictions(tmp_path, latent_ND))
    component_NC = apply_components(find_components(latents, 50, by_spread=False), latents)
    before = np.linalg.norm(latent_ND[:50, None] - latent_ND[None, :50], axis=2)
    after = np.linalg.norm(component_NC[:50, None] - component_NC[None, :50], axis=2)
    assert np.allclose(before, after, atol=1e-3)


def test_a_row_without_a_latent_has_no_components_and_changes_no_others(tmp_path: Path) -> None:
    latent_ND, _ = drawn(300, width=5)
    without_ND = latent_ND.copy()
    without_ND[17] = np.nan
    latents = open_latents(write_predictions(tmp_path / "a", without_ND))
    component_NC = apply_components(find_components(latents, 5, by_spread=False), latents)
    assert np.flatnonzero(np.isnan(component_NC).any(1)).tolist() == [17]
    fewer = open_latents(write_predictions(tmp_path / "b", np.delete(latent_ND, 17, 0)))
    same_NC = apply_components(find_components(fewer, 5, by_spread=False), fewer)
    assert np.allclose(np.delete(component_NC, 17, 0), same_NC, atol=1e-4)


def test_scaled_features_count_the_same(tmp_path: Path) -> None:
    latent_ND, _ = drawn(300, width=4, spread=0)
    latent_ND[:, 0] *= 1000
    latents = open_latents(write_predictions(tmp_path, latent_ND))
    assert find_components(latents, 4, by_spread=False).share_C[0] > 0.99
    assert find_components(latents, 4, by_spread=True).share_C[0] < 0.4


def test_predictions_without_a_latent_are_refused_with_the_setting_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no column latent; .* embeddings=true"):
        open_latents(write_predictions(tmp_path, None, rows=10))


def test_equal_latents_are_an_error(tmp_path: Path) -> None:
    latents = open_latents(write_predictions(tmp_path, np.ones((100, 3), np.float32)))
    with pytest.raises(JobError, match="all latents are equal"):
        find_components(latents, 3, by_spread=False)


def test_rows_are_taken_in_the_order_that_is_asked(tmp_path: Path) -> None:
    latent_ND, _ = drawn(250, width=3)
    latents = open_latents(write_predictions(tmp_path, latent_ND, 100))
    rows = np.array([249, 3, 100, 99, 3])
    assert latents.take(rows, ["obsid"])["obsid"].to_pylist() == [250, 4, 101, 100, 4]
