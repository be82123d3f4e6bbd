"""The table of the members' differences, against scikit-learn and numpy."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from survey.ensemble.combine import MemberAnswers
from survey.ensemble.diversity import ENSEMBLE_NAME, SCHEMA, diversity_table
from survey.metrics import intervals
from tests.ensemble import random_members
from tests.ensemble.random_members import combined

NAMES = ("a", "b", "c")


def members_and_truth(rows: int = 300) -> tuple[MemberAnswers, np.ndarray, np.ndarray]:
    members = random_members.answers(3, rows, 2, seed=4)
    rng = np.random.default_rng(0)
    return (
        members,
        rng.integers(-1, 3, rows),
        np.where(rng.random((rows, 2)) < 0.1, np.nan, rng.normal(0, 1, (rows, 2))),
    )


def rows_of(
    members: MemberAnswers, truth: np.ndarray, labels: np.ndarray
) -> dict[tuple[str, str, str, str | None], Any]:
    found = diversity_table(members, combined(members), truth, labels, NAMES[: members.members])
    assert found.schema.equals(SCHEMA, check_metadata=True)
    keyed = {(row["subject"], row["metric"], row["one"], row["other"]): row for row in found.to_pylist()}
    assert len(keyed) == found.num_rows
    return keyed


def test_metrics_and_agreement_of_classes_are_those_of_scikit_learn() -> None:
    members, truth, labels = members_and_truth()
    found, known = rows_of(members, truth, labels), truth >= 0
    p = dict(zip((*NAMES, ENSEMBLE_NAME), (*members.p_MNC, combined(members).p_NC), strict=True))
    accuracy = {name: sk.accuracy_score(truth[known], one[known].argmax(1)) for name, one in p.items()}
    losses = {
        name: sk.log_loss(truth[known], np.clip(one[known], 1e-12, 1), labels=[0, 1, 2])
        for name, one in p.items()
    }
    for name in p:
        assert found["classes", "accuracy", name, None]["value"] == pytest.approx(accuracy[name])
        assert found["classes", "log_loss", name, None]["value"] == pytest.approx(losses[name], rel=1e-6)
        assert found["classes", "accuracy", name, None]["n"] == known.sum()
    best = max(NAMES, key=lambda name: accuracy[name])
    gain = found["classes", "accuracy_gain", ENSEMBLE_NAME, best]
    assert gain["value"] == pytest.approx(accuracy[ENSEMBLE_NAME] - accuracy[best])
    assert gain["low"] <= gain["value"] <= gain["high"]
    best = min(NAMES, key=lambda name: losses[name])
    assert found["classes", "log_loss_gain", ENSEMBLE_NAME, best]["value"] == pytest.approx(
        losses[best] - losses[ENSEMBLE_NAME], rel=1e-6
    )
    for one, other in combinations(NAMES, 2):
        alike = sk.accuracy_score(p[one].argmax(1), p[other].argmax(1))
        assert found["classes", "agreement", one, other]["value"] == pytest.approx(alike)


def test_errors_and_correlations_of_labels_are_those_of_numpy() -> None:
    members, truth, labels = members_and_truth()
    found = rows_of(members, truth, labels)
    mean = combined(members).value_NL
    for number, label in enumerate(members.labels):
        known = np.isfinite(labels[:, number])
        residual = members.value_MNL[:, known, number] - labels[known, number]
        errors = dict(zip(NAMES, np.abs(residual).mean(1), strict=True))
        own = np.abs(mean[known, number] - labels[known, number]).mean()
        for name, value in errors.items():
            assert found[label, "mae", name, None]["value"] == pytest.approx(value)
        best = min(errors, key=errors.__getitem__)
        assert found[label, "mae_gain", ENSEMBLE_NAME, best]["value"] == pytest.approx(errors[best] - own)
        correlation = np.corrcoef(residual)
        for one, other in combinations(range(3), 2):
            value = found[label, "residual_correlation", NAMES[one], NAMES[other]]["value"]
            assert value == pytest.approx(correlation[one, other])


def test_equal_members_gain_nothing() -> None:
    members, truth, labels = members_and_truth()
    found = rows_of(random_members.select(members, [0, 0, 0]), truth, labels)
    assert {row["value"] for key, row in found.items() if key[1] == "agreement"} == {1.0}
    assert all(
        row["value"] == pytest.approx(0, abs=1e-12) for key, row in found.items() if key[1].endswith("_gain")
    )
    assert all(
        row["value"] == pytest.approx(1) for key, row in found.items() if key[1] == "residual_correlation"
    )


def test_the_interval_of_a_gain_contains_the_true_gain_with_the_promised_share() -> None:
    """Two independent members: the ensemble is better by (1 - 1 / sqrt 2) of their mean error."""
    hits = []
    for seed in range(60):
        members = random_members.label_answers(
            np.random.default_rng(seed).normal(0, [[1.0], [1.02]], (2, 400))
        )
        found = rows_of(members, np.full(400, -1), np.zeros((400, 1)))
        row = next(row for key, row in found.items() if key[1] == "mae_gain")
        hits.append(row["low"] <= (1 - np.sqrt((1 + 1.02**2) / 4)) * np.sqrt(2 / np.pi) <= row["high"])
    assert np.mean(hits) > 0.85


def test_members_are_compared_on_the_same_spectra() -> None:
    members, truth, labels = members_and_truth()
    members.p_MNC[1, :100] = np.nan
    members.value_MNL[2, 50:80, 0] = np.nan
    members.value_MNL[0, :, 1] = np.nan
    found = rows_of(members, truth, labels)
    assert found["classes", "accuracy", "a", None]["n"] == (truth[100:] >= 0).sum()
    assert found["classes", "agreement", "a", "c"]["n"] == 200
    known = np.isfinite(labels[:, 0])
    known[50:80] = False
    assert found["L0", "mae", "c", None]["n"] == known.sum()
    assert ("L1", "mae", "a", None) not in found


def test_without_truth_there_is_only_the_agreement() -> None:
    members, truth, labels = members_and_truth()
    found = rows_of(members, np.full_like(truth, -1), np.full_like(labels, np.nan))
    assert {key[1] for key in found} == {"agreement"}
    assert (
        rows_of(random_members.label_answers([[1.0], [2.0]]), np.array([-1]), np.zeros((1, 1)))[
            "FeH", "mae_gain", ENSEMBLE_NAME, "a"
        ]["low"]
        is None
    )


def test_a_wrong_number_of_names_is_an_error() -> None:
    members, truth, labels = members_and_truth()
    with pytest.raises(
        ValueError,
        match="2 names and 300 answers of the ensemble for 3 members and 300 spectra; give one per member",
    ):
        diversity_table(members, combined(members), truth, labels, ("a", "b"))


def test_intervals_of_gains_count_the_visits_of_a_star_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten equal visits of each star tell no more of the gain than one; widths need many resamples."""
    monkeypatch.setattr(intervals, "DRAWS", 1000)
    members, truth, labels = members_and_truth(60)
    ten = np.repeat(np.arange(60), 10)
    many, arrays = random_members.select(members, rows=ten), (truth[ten], labels[ten])

    def widths(members: MemberAnswers, *arrays: Any) -> list[float]:
        table = diversity_table(members, combined(members), *arrays)
        return [row["high"] - row["low"] for row in table.to_pylist() if row["low"] is not None]

    once, as_stars = widths(members, truth, labels, NAMES), widths(many, *arrays, NAMES)
    together = widths(many, *arrays, NAMES, ten)
    assert len(once) == len(together) == 4
    for width, single, one_by_one in zip(together, once, as_stars, strict=True):
        assert width == pytest.approx(single, rel=0.25)
        assert one_by_one < 0.5 * width
    one_star = diversity_table(many, combined(many), *arrays, NAMES, np.zeros(600, np.int64)).to_pylist()
    assert {row["low"] for row in one_star} == {None}
