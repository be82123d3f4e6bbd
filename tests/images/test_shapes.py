"""Statistics of shapes against profiles whose values are known, and against photutils."""

import builtins
from typing import Any

import numpy as np
import pytest
from photutils.morphology import gini
from scipy.ndimage import gaussian_filter
from scipy.special import gammaincinv

from survey.images import shapes
from survey.settings import JobError

SIZE = 96


def sersic(index: float, radius: float = 8.0, axis_ratio: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """A Sersic profile with a peak of about 1, averaged over 5 x 5 points in each pixel."""
    points = (np.arange(5 * SIZE) - (5 * SIZE - 1) / 2) / 5
    x, y = points[None, :], points[:, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / axis_ratio
    b = gammaincinv(2 * index, 0.5)
    light = np.exp(-b * (np.hypot(along, across) / radius) ** (1 / index))
    return np.asarray(light.reshape(SIZE, 5, SIZE, 5).mean((1, 3)))


def as_bytes(light: np.ndarray, noise: float = 0.0, peak: float = 220.0, sky: float = 20.0) -> np.ndarray:
    """One image [1, 3, Y, X] of the light, with equal channels."""
    draw = np.random.default_rng(0)
    image = sky + (peak / light.max() if light.max() > 0 else 1.0) * light
    image = image + draw.normal(0.0, noise, (3, *light.shape))
    return np.asarray(np.clip(np.round(image), 0, 255), dtype=np.uint8)[None]


def measured(image: np.ndarray) -> dict[str, float]:
    names, values = shapes.shape_statistics(image)
    assert values.shape == (1, len(names))
    return dict(zip(names, values[0].tolist(), strict=True))


def test_a_gaussian_has_the_radius_and_concentration_of_its_formula() -> None:
    found = measured(as_bytes(sersic(0.5, radius=8.0)))
    # a Gaussian holds a share s of its light within sqrt(ln(1 / (1 - s)) / ln 2) half-light radii
    assert found["effective_radius"] == pytest.approx(8.0, rel=0.04)
    expected = 5 * np.log10(np.sqrt(np.log(1 / 0.2) / np.log(1 / 0.8)))
    assert found["concentration"] == pytest.approx(expected, rel=0.05)
    assert found["ellipticity"] == pytest.approx(0.0, abs=0.03)
    assert found["asymmetry"] == pytest.approx(0.0, abs=0.03)
    assert found["colour_0_1"] == pytest.approx(0.0, abs=0.01)


def test_concentration_and_index_are_those_of_a_sersic_profile() -> None:
    """Above an index of 2, light below the noise is lost, so that the concentration is too small."""
    found = [measured(as_bytes(sersic(index, radius=7.0), noise=1.0)) for index in (0.5, 1.0, 2.5)]
    share = {index: gammaincinv(2 * index, (0.8, 0.2)) ** index for index in (0.5, 1.0)}
    expected = [5 * np.log10(far / near) for far, near in share.values()]
    assert [one["concentration"] for one in found[:2]] == pytest.approx(expected, rel=0.04)
    assert found[2]["concentration"] > expected[1] + 0.5
    assert [one["sersic_index"] for one in found] == pytest.approx([0.5, 1.0, 2.5], rel=0.3)


@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize("axis_ratio", [0.4, 0.7])
def test_the_ellipticity_is_that_of_the_profile(axis_ratio: float, angle: float) -> None:
    found = measured(as_bytes(sersic(0.5, radius=9.0, axis_ratio=axis_ratio, angle=angle), noise=1.0))
    assert found["ellipticity"] == pytest.approx(1 - axis_ratio, abs=0.04)


def test_a_second_nucleus_is_asymmetric_and_moves_m20() -> None:
    alone = sersic(1.0, radius=6.0)
    double = alone + 0.7 * np.roll(alone, (9, 5), (0, 1))
    one, two = measured(as_bytes(alone, noise=1.0)), measured(as_bytes(double, noise=1.0))
    assert two["asymmetry"] > one["asymmetry"] + 0.08
    assert two["m20"] > one["m20"] + 0.3
    assert abs(one["asymmetry"]) < 0.06


def test_knots_are_not_smooth() -> None:
    light = sersic(1.0, radius=9.0)
    knots = np.exp(1.2 * gaussian_filter(np.random.default_rng(1).normal(size=light.shape), 1.2) * 4)
    assert measured(as_bytes(light * knots))["smoothness"] > measured(as_bytes(light))["smoothness"] + 0.05


def test_gini_agrees_with_photutils() -> None:
    image = as_bytes(sersic(1.5), noise=2.0)
    found = shapes.find(image[0].astype(float).mean(0))
    assert found is not None
    expected = gini(found.light_YX, mask=~found.object_YX)
    assert measured(image)["gini"] == pytest.approx(float(expected), rel=1e-6)


def test_another_object_changes_little() -> None:
    light = sersic(1.0, radius=5.0)
    with_star = light + 1.5 * np.roll(sersic(0.5, radius=2.0), (30, 25), (0, 1))
    one, two = (measured(as_bytes(each, noise=1.0, peak=120.0 * each.max())) for each in (light, with_star))
    for name in ("concentration", "effective_radius", "gini", "ellipticity"):
        assert two[name] == pytest.approx(one[name], abs=0.1 * abs(one[name]) + 0.03), name


def test_colours_are_magnitudes_of_neighbouring_channels() -> None:
    light = sersic(0.5, radius=8.0)
    image = np.concatenate([as_bytes(light, peak=peak)[:, :1] for peak in (50.0, 100.0, 200.0)], axis=1)
    found = measured(image)
    assert found["colour_0_1"] == pytest.approx(2.5 * np.log10(2.0), abs=0.03)
    assert found["colour_1_2"] == pytest.approx(2.5 * np.log10(2.0), abs=0.03)
    names, _ = shapes.shape_statistics(image[:, :1])
    assert names == shapes.NAMES


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_image_has_no_statistics(value: int) -> None:
    _, values = shapes.shape_statistics(np.full((2, 3, 32, 32), value, np.uint8))
    assert np.isnan(values).all()


def test_noise_alone_and_an_object_at_the_edge_have_no_statistics() -> None:
    noise = as_bytes(np.zeros((SIZE, SIZE)), noise=3.0)
    edge = as_bytes(np.roll(sersic(0.5, radius=3.0), (40, 40), (0, 1)))
    _, values = shapes.shape_statistics(np.concatenate([noise, edge]))
    assert np.isnan(values).all()


def test_a_rotated_image_has_the_same_statistics() -> None:
    image = as_bytes(
        sersic(1.0, radius=7.0, axis_ratio=0.6, angle=0.3) * (1 + 0.2 * sersic(0.5, radius=20)), noise=1.0
    )
    one, two = measured(image), measured(np.rot90(image, axes=(2, 3)).copy())
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=0.02, rel=0.02), name


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images: float64 of shape \(3, 8, 8\); give bytes of shape"):
        shapes.shape_statistics(np.zeros((3, 8, 8)))


def test_without_photutils_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "photutils":
            raise ModuleNotFoundError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(JobError, match=r"need photutils.* pip install photutils$"):
        shapes.shape_statistics(as_bytes(sersic(0.5)))
