"""Distances in latent spaces, against scikit-learn and scipy."""

from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load, save
from scipy import stats
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from survey.ensemble.domain import DIRECTIONS, MOST, Domain, choose_spectra


def blobs(rows: int, features: tuple[int, ...] = (6, 10), seed: int = 0) -> list[np.ndarray]:
    """Latents of several members: correlated, not centred, each with other scales."""
    rng = np.random.default_rng(seed)
    mixing = [np.random.default_rng(99 + size).normal(0, 1, (size, size)) for size in features]
    return [
        (rng.normal(0, 1, (rows, len(mix))) @ mix * 10**number + 5).astype(np.float32)
        for number, mix in enumerate(mixing)
    ]


def test_a_distance_is_the_mahalanobis_distance() -> None:
    (train,), (new,) = blobs(3000, (6,)), blobs(50, (6,), seed=1)
    found = Domain.fit([train]).score([new])
    expected = np.sqrt(EmpiricalCovariance().fit(train).mahalanobis(new.astype(float)))
    assert found / expected == pytest.approx(found[0] / expected[0], rel=1e-4)
    inverse = np.linalg.inv(np.cov(train.T.astype(float), bias=True))
    assert expected[0] == pytest.approx(mahalanobis(new[0], train.mean(0, dtype=float), inverse), rel=1e-4)


def test_one_percent_of_validation_stars_have_a_distance_above_1() -> None:
    train, validation, new = blobs(5000), blobs(5000, seed=1), blobs(20_000, seed=2)
    domain = Domain.fit(train, validation)
    assert (domain.score(validation) > 1).mean() == pytest.approx(0.01, abs=0.0005)
    assert (domain.score(new) > 1).mean() == pytest.approx(0.01, abs=0.005)


def test_a_normal_blob_has_the_distances_of_a_chi_distribution() -> None:
    (train,) = blobs(20_000, (6,))
    (new,) = blobs(5000, (6,), seed=3)
    found = Domain.fit([train]).score([new])
    expected = stats.chi(6).ppf([0.1, 0.5, 0.9]) / stats.chi(6).ppf(0.99)
    assert np.quantile(found, [0.1, 0.5, 0.9]) == pytest.approx(expected, rel=0.05)


def test_far_spectra_have_larger_distances_than_near_ones() -> None:
    train, validation, near = blobs(2000), blobs(500, seed=1), blobs(500, seed=2)
    far = [
        latent + 8 * latent.std(0) * np.random.default_rng(0).choice([-1, 1], latent.shape[1])
        for latent in blobs(500, seed=3)
    ]
    domain = Domain.fit(train, validation)
    scores = np.concatenate([domain.score(near), domain.score(far)])
    assert roc_auc_score(np.repeat([0, 1], 500), scores) > 0.999
    assert domain.score(far).min() > 1


def test_a_deviation_outside_the_directions_of_the_training_stars_counts() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(0, 1, (3, 60))
    train, near = (rng.normal(0, 1, (size, 3)) @ plane for size in (1000, 200))
    outside = np.linalg.svd(plane)[2][-1]
    domain = Domain.fit([train])
    assert domain.members[0].axes_DK.shape == (60, 3)
    assert domain.score([near]).max() < 2
    assert domain.score([near + 5 * outside]).min() > 2


def test_directions_beyond_the_limit_count_as_one_direction() -> None:
    rng = np.random.default_rng(0)
    train, new = rng.normal(0, 1, (4000, 200)), rng.normal(0, 1, (2000, 200))
    domain = Domain.fit([train])
    assert domain.members[0].axes_DK.shape == (200, DIRECTIONS)
    assert (domain.score([new]) > 1).mean() < 0.05
    assert domain.score([3 * new]).min() > 1


def test_constant_features_and_a_feature_of_rounding_change_nothing() -> None:
    (train,), (new,) = blobs(500, (6,)), blobs(50, (6,), seed=1)
    rng = np.random.default_rng(0)

    def widened(latent: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [latent, np.full((len(latent), 2), 7.0), 1e-9 * rng.normal(0, 1, (len(latent), 1))], 1
        )

    assert Domain.fit([widened(train)]).score([widened(new)]) == pytest.approx(
        Domain.fit([train]).score([new]), rel=1e-6
    )


def test_a_latent_that_never_varies_has_no_influence() -> None:
    train, new = blobs(500), blobs(50, seed=1)
    constant, other = np.full((500, 4), 0.1, np.float32), np.full((50, 4), 0.1, np.float32)
    assert Domain.fit([*train, constant]).score([*new, other]) == pytest.approx(Domain.fit(train).score(new))
    assert np.isnan(Domain.fit([constant]).score([other])).all()
    assert np.isnan(Domain.fit([train[0][:1]]).score([new[0]])).all()


def test_two_stars_are_enough_for_a_distance() -> None:
    (train,) = blobs(2, (6,))
    scores = Domain.fit([train]).score([train])
    assert np.isfinite(scores).all()


def test_a_member_without_a_sound_latent_is_left_out() -> None:
    train, new = blobs(500), blobs(4, seed=1)
    domain = Domain.fit(train)
    whole = domain.score(new)
    new[0][1, 2] = np.nan
    new[1][2, 0] = np.inf
    for latent in new:
        latent[3] = np.nan
    scores = domain.score(new)
    assert scores[0] == whole[0]
    assert np.isfinite(scores[1:3]).all()
    assert np.isnan(scores[3])


def test_training_stars_with_nan_are_left_out() -> None:
    train, new = blobs(500), blobs(20, seed=1)
    spoilt = [np.concatenate([latent, np.full((3, latent.shape[1]), np.nan)]) for latent in train]
    assert Domain.fit(spoilt, blobs(100, seed=2)).score(new) == pytest.approx(
        Domain.fit(train, blobs(100, seed=2)).score(new)
    )
    assert np.isfinite(Domain.fit(train, [np.full_like(latent, np.nan) for latent in train]).score(new)).all()


def test_a_domain_is_the_same_after_safetensors_and_after_another_fit() -> None:
    train, validation, new = blobs(500), blobs(100, seed=1), blobs(50, seed=2)
    domain = Domain.fit(train, validation)
    again = Domain.from_tensors(load(save(domain.to_tensors())))
    assert np.array_equal(again.score(new), domain.score(new))
    assert np.array_equal(Domain.fit(train, validation).score(new), domain.score(new))
    order = np.random.default_rng(0).permutation(500)
    assert Domain.fit([latent[order] for latent in train], validation).score(new) == pytest.approx(
        domain.score(new), rel=1e-6
    )


def test_the_order_of_members_and_the_scale_of_a_latent_change_no_distance() -> None:
    train, validation, new = blobs(500), blobs(100, seed=1), blobs(50, seed=2)
    expected = Domain.fit(train, validation).score(new)
    assert Domain.fit(train[::-1], validation[::-1]).score(new[::-1]) == pytest.approx(expected)
    scaled = [[1e4 * latent.astype(float) - 3 for latent in latents] for latents in (train, validation, new)]
    assert Domain.fit(scaled[0], scaled[1]).score(scaled[2]) == pytest.approx(expected, rel=1e-4)


def test_without_validation_stars_the_training_stars_give_the_usual_distance() -> None:
    train = blobs(1000)
    for validation in (None, [latent[:0] for latent in train]):
        assert (Domain.fit(train, validation).score(train) > 1).mean() == pytest.approx(0.01)


def classes_of_blobs(counts: tuple[int, ...], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Latents of two members with a blob per class, each with its own centre and shape, and the classes."""
    class_N = np.repeat(np.arange(len(counts)), counts)
    latents = []
    for size in (6, 10):
        random, shapes = np.random.default_rng([seed, size]), np.random.default_rng(size)
        centres = 5 * shapes.normal(0, 1, (len(counts), size))
        mixing = shapes.normal(0, 1, (len(counts), size, size))
        noise = random.normal(0, 1, (len(class_N), size))
        latents.append(centres[class_N] + np.einsum("nd,nde->ne", noise, mixing[class_N]))
    return latents, class_N


RARE = (4000, 60, 1500)
"""As many spectra as a training set may have of three classes: the second is rare."""


def test_a_rare_class_is_as_much_inside_as_the_others() -> None:
    (train, train_class), (validation, validation_class) = (classes_of_blobs(RARE, seed) for seed in (0, 1))
    new, new_class = classes_of_blobs((3000, 3000, 3000), seed=2)
    together = Domain.fit(train, validation).score(new) > 1
    by_class = Domain.fit(train, validation, train_class, validation_class).score(new) > 1
    assert together[new_class == 1].mean() > 0.2
    for number in range(3):
        assert by_class[new_class == number].mean() < 0.05


def test_what_is_near_no_class_is_outside() -> None:
    train, train_class = classes_of_blobs(RARE)
    validation, validation_class = classes_of_blobs(RARE, seed=1)
    domain = Domain.fit(train, validation, train_class, validation_class)
    random = np.random.default_rng(0)
    between = [
        latent[train_class == 0].mean(0) / 2 + latent[train_class == 2].mean(0) / 2 for latent in train
    ]
    scatter = [
        np.concatenate(
            [latent[train_class == number] - latent[train_class == number].mean(0) for number in range(3)]
        ).std(0)
        for latent in train
    ]
    strange = [
        latent + 8 * wide * random.choice([-1, 1], (200, len(wide)))
        for latent, wide in zip(between, scatter, strict=True)
    ]
    noise = [
        latent.mean(0) + 3 * latent.std(0) * random.normal(0, 1, (200, latent.shape[1])) for latent in train
    ]
    assert (domain.score(strange) > 1).all()
    assert (domain.score(noise) > 1).mean() > 0.95


def test_a_distance_in_classes_is_the_mahalanobis_distance_from_the_nearest_class() -> None:
    train, class_N = classes_of_blobs((3000, 3000))
    new, _ = classes_of_blobs((50, 50), seed=1)
    one = [train[0]], [new[0]]
    score = Domain.fit(one[0], None, class_N).score(one[1])
    expected = []
    for number in range(2):
        blob = train[0][class_N == number]
        usual = np.sqrt(EmpiricalCovariance().fit(blob).mahalanobis(blob))
        distance = np.sqrt(EmpiricalCovariance().fit(blob).mahalanobis(new[0]))
        expected.append(distance / np.quantile(usual, 0.99))
    assert score == pytest.approx(np.min(expected, 0), rel=0.05)


def test_without_known_classes_all_spectra_are_one_class() -> None:
    train, validation, new = blobs(500), blobs(100, seed=1), blobs(50, seed=2)
    expected = Domain.fit(train, validation).score(new)
    unknown = np.full(500, -1), np.full(100, -1)
    assert Domain.fit(train, validation, *unknown).score(new) == pytest.approx(expected)
    few = np.where(np.arange(500) < 5, 1, 2)
    assert Domain.fit(train, validation, few, unknown[1]).score(new) == pytest.approx(expected)


def test_spectra_of_an_unknown_class_are_a_class_of_their_own() -> None:
    train, class_N = classes_of_blobs((2000, 2000))
    validation, validation_class = classes_of_blobs((2000, 2000), seed=1)
    class_N[class_N == 1] = validation_class[validation_class == 1] = -1
    new, _ = classes_of_blobs((1000, 1000), seed=2)
    outside = Domain.fit(train, validation, class_N, validation_class).score(new) > 1
    assert max(outside[:1000].mean(), outside[1000:].mean()) < 0.03


def test_a_domain_of_classes_is_the_same_after_safetensors() -> None:
    train, class_N = classes_of_blobs((300, 40, 200))
    new, _ = classes_of_blobs((20, 20, 20), seed=2)
    domain = Domain.fit(train, None, class_N)
    again = Domain.from_tensors(load(save(domain.to_tensors())))
    assert np.array_equal(again.score(new), domain.score(new))


def test_all_spectra_of_a_rare_class_describe_the_domain() -> None:
    class_N = np.repeat([0, 1, 2], [100_000, 50, 100_000])
    chosen = choose_spectra(class_N, seed=0)
    assert np.bincount(class_N[chosen]).tolist() == [9975, 50, 9975]
    assert len(chosen) == MOST
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(choose_spectra(class_N[:500], 0), np.arange(500))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda domain: Domain.fit(blobs(9), blobs(9)[:1]),
            "latents of 2 members for training and of 1 for validation; give both for each member",
        ),
        (
            lambda domain: Domain.fit(blobs(9), [blobs(9)[0], blobs(8)[1]]),
            "different numbers of validation stars; give the same stars",
        ),
        (
            lambda domain: domain.score(blobs(3)[:1]),
            "latents of 1 members; it was fitted for 2, give one array per member",
        ),
        (
            lambda domain: domain.score(blobs(3, (5, 10))),
            r"latents of shape \(3, 5\); give 6 features per spectrum, as the training stars had",
        ),
        (
            lambda domain: Domain.fit([np.full((5, 2), np.nan)]),
            "member 0 has no finite latent of 5 training stars; leave the member out, or",
        ),
        (
            lambda domain: Domain.from_tensors({"usual": np.ones(1), "0.centre": np.zeros(3)}),
            "the tensor '0.axes' is missing, .* make the ensemble again",
        ),
    ],
)
def test_an_impossible_domain_is_an_error(wrong: Callable[[Domain], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(Domain.fit(blobs(100)))
