"""Thresholds against a search by hand, expected shares against surveys with another class mix."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.catalog.prior import BinnedProbabilities, cautious
from survey.catalog.purity import (
    expected_completeness,
    expected_purity,
    purity_completeness,
)
from survey.catalog.settings import LIST_NAMES, Goal, ListGoal, ListName, Prior
from survey.catalog.thresholds import STEPS, Threshold, choose_threshold, mix_of_stars
from survey.metrics.intervals import wilson
from survey.predict import output
from survey.settings import SettingsError
from tests.catalog import mixed_stars, skies
from tests.catalog.mixed_stars import BALANCED, SKY, p_of, probabilities, stars
from tests.catalog.test_catalog import run

SHARES = {"MP": 0.1, "CEMP": 0.02, "NMP": 0.88}
TRUE = {"MP": (0, 1), "CEMP": (1,)}


def by_hand(table: pa.Table, name: ListName, prior: Prior) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, truth, and weight in the class mix of the survey, of each validation star."""
    mix = mix_of_stars(table, prior)
    class_N = table["true_class"].to_numpy()
    weight_C = mix.share_C / np.bincount(class_N, minlength=3)
    score_N = mix.adjust(p_of(table))[:, list(TRUE[name])].sum(1)
    return score_N, np.isin(class_N, TRUE[name]), weight_C[class_N]


@pytest.mark.parametrize("prior", ["validation", SHARES])
@pytest.mark.parametrize("name", LIST_NAMES)
def test_the_lists_are_those_of_a_search_by_hand(name: ListName, prior: Prior) -> None:
    table = mixed_stars.validation((150, 100, 200), 1)
    score, true, weight = by_hand(table, name, prior)
    lists = [score >= value for value in sorted(score, reverse=True)[4:]]
    pure = np.array([(weight * true)[listed].sum() / weight[listed].sum() for listed in lists])
    complete = np.array([(weight * true)[listed].sum() / (weight * true).sum() for listed in lists])
    best: dict[Goal, int] = {
        "purity": int(np.flatnonzero(pure >= 0.8)[-1]),
        "completeness": int(np.flatnonzero(complete >= 0.8)[0]),
        "f1": int(np.argmax(2 * pure * complete / (pure + complete))),
    }
    for goal, number in best.items():
        wanted = ListGoal(goal=goal, level=0.8, prior=prior)
        threshold = choose_threshold(table, name, wanted, mix_of_stars(table, prior))
        assert ((score >= threshold.value) == lists[number]).all()
        assert threshold.listed == lists[number].sum()


@pytest.mark.parametrize("name", LIST_NAMES)
def test_with_the_mix_of_validation_shares_are_plain_and_intervals_nearly_those_of_wilson(
    name: ListName,
) -> None:
    table = mixed_stars.validation((150, 100, 200), 2)
    score, true, _ = by_hand(table, name, "validation")
    mix, counts = mix_of_stars(table, "validation"), np.array([150, 100, 200])
    listed = score >= 0.5
    k_1C = np.bincount(table["true_class"].to_numpy()[listed], minlength=3)[None]
    hits = true[listed].sum()
    for measure, n in (
        (expected_purity(k_1C, counts, name, mix)[0], listed.sum()),
        (expected_completeness(k_1C, counts, name, mix)[0], true.sum()),
    ):
        assert measure.value == pytest.approx(hits / n)
        assert measure.n == n
        bounds = [float(bound) for bound in wilson(hits, n)]
        assert (measure.low, measure.high) == pytest.approx(bounds, abs=0.02)


def measured(threshold: Threshold, class_N: np.ndarray, p_NC: np.ndarray) -> tuple[float, float]:
    """The true purity and completeness of a list."""
    listed, true = threshold.passes(p_NC), np.isin(class_N, TRUE[threshold.name])
    return float(true[listed].mean()), float(listed[true].mean())


def share_inside(
    name: ListName, goal: Goal, prior: Prior, repetitions: int, level: float = 0.8
) -> np.ndarray:
    """How often the intervals hold the true purity and completeness in surveys with another class mix."""
    hits = np.zeros(2)
    for seed in range(repetitions):
        random = np.random.default_rng(1000 + seed)
        table = mixed_stars.validation((300, 300, 300), seed)
        class_N, feature_N2 = stars(random, tuple(random.multinomial(10_000, SKY)))
        p_NC = probabilities(feature_N2)
        mix = mix_of_stars(table, prior, BinnedProbabilities.of_stars(p_NC))
        wanted = ListGoal(goal=goal, level=level, prior=prior)
        threshold = choose_threshold(table, name, wanted, mix)
        expected = (threshold.purity, threshold.completeness)
        for number, value in enumerate(measured(threshold, class_N, p_NC)):
            hits[number] += expected[number].low <= value <= expected[number].high
    return hits / repetitions


@pytest.mark.parametrize(("name", "goal"), [("MP", "purity"), ("CEMP", "f1")])
def test_expected_shares_are_right_in_a_survey_with_another_mix(name: ListName, goal: Goal) -> None:
    assert (share_inside(name, goal, SHARES, 30) >= 0.9).all()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("goal", ["purity", "completeness", "f1"])
@pytest.mark.parametrize("name", LIST_NAMES)
def test_intervals_hold_the_truth_as_often_as_they_say_in_a_given_mix(name: ListName, goal: Goal) -> None:
    assert (share_inside(name, goal, SHARES, 100) >= 0.9).all()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_intervals_hold_the_truth_as_often_as_they_say_in_an_estimated_mix() -> None:
    """Over all lists and goals together, because each costs seconds; all of one seed share their stars."""
    goals: tuple[Goal, ...] = ("purity", "completeness", "f1")
    shares = np.array([share_inside(name, goal, "estimated", 30) for name in LIST_NAMES for goal in goals])
    assert (shares.mean(0) >= 0.9).all(), shares


def test_a_balanced_validation_promises_too_much_and_the_mix_of_the_survey_does_not() -> None:
    table, random = mixed_stars.validation((400, 400, 400), 0), np.random.default_rng(9)
    class_N, feature_N2 = stars(random, tuple(random.multinomial(40_000, SKY)))
    p_NC = probabilities(feature_N2)
    mix = mix_of_stars(table, "estimated", BinnedProbabilities.of_stars(p_NC))
    naive = choose_threshold(table, "CEMP", ListGoal(level=0.9, prior="validation"))
    fair = choose_threshold(table, "CEMP", ListGoal(level=0.9), mix)
    assert naive.purity.low > measured(naive, class_N, p_NC)[0] + 0.2
    assert fair.purity.low <= measured(fair, class_N, p_NC)[0] <= fair.purity.high
    assert fair.value > naive.value


def test_without_a_wrong_star_in_the_list_purity_is_still_uncertain() -> None:
    class_N = np.repeat([0, 1, 2], 60)
    table = mixed_stars.table(class_N, np.where(np.eye(3)[class_N] == 1, 0.98, 0.01))
    threshold = choose_threshold(table, "CEMP", ListGoal(prior=SHARES), mix_of_stars(table, SHARES))
    assert threshold.purity.value == 1
    assert threshold.purity.low < 0.6
    assert threshold.completeness.value == 1


def test_a_level_that_cannot_be_reached_is_noted_and_the_nearest_list_taken() -> None:
    random = np.random.default_rng(0)
    table = mixed_stars.table(random.integers(0, 3, 400), random.dirichlet(np.ones(3), 400))
    threshold = choose_threshold(table, "CEMP", ListGoal(level=0.99, prior="validation"))
    note = "no threshold reaches a purity of 0.99 on validation stars; this one comes nearest"
    assert threshold.notes == (note,)
    assert threshold.listed >= 5


def test_a_completeness_that_flags_make_impossible_gives_the_list_with_the_best_f1() -> None:
    """A list of all stars that are left, whatever their score, would help nobody."""
    table = mixed_stars.validation((100, 100, 200), 1)
    flagged = table.append_column("flag_bad", pa.array(np.arange(400) % 2, pa.int32()))
    threshold = choose_threshold(flagged, "CEMP", ListGoal(goal="completeness", level=0.9))
    note = "no threshold reaches a completeness of 0.9 on validation stars; this one has the best F1"
    assert threshold.notes[-1] == note
    assert threshold.value == choose_threshold(flagged, "CEMP", ListGoal(goal="f1")).value
    assert threshold.listed < 120


def test_leaving_stars_out_does_not_make_a_list_longer() -> None:
    """With three true stars left, a list of five has two wrong ones; so no threshold is chosen on them."""
    class_N = np.repeat([0, 1, 2], [60, 8, 200])
    random = np.random.default_rng(0)
    p_NC = np.where(np.eye(3)[class_N] == 1, 0.9, 0.05) + random.uniform(0, 0.01, (268, 3))
    table = mixed_stars.table(class_N, p_NC / p_NC.sum(1, keepdims=True))
    bad = np.where((class_N == 1) & (np.cumsum(class_N == 1) <= 5), 4, 0)
    plain = choose_threshold(table, "CEMP", ListGoal(prior="validation"))
    flagged = table.append_column("flag_bad", pa.array(bad, pa.int32()))
    threshold = choose_threshold(flagged, "CEMP", ListGoal(prior="validation"))
    assert threshold.listed == 3 < plain.listed
    assert threshold.value == 0.5
    assert "8 belong in the CEMP list (3 of them without a flag that keeps them out)" in threshold.notes[-1]


def test_stars_with_a_bad_flag_are_never_listed_but_a_complete_list_has_them() -> None:
    table = mixed_stars.validation((100, 100, 100), 1)
    bad = np.zeros(300, int)
    bad[:50] = 4
    flagged = table.append_column("flag_bad", pa.array(bad, pa.int32()))
    with_flags = choose_threshold(flagged, "MP", ListGoal(goal="f1"))
    plain = choose_threshold(table, "MP", ListGoal(goal="f1"))
    assert with_flags.true == plain.true == 200
    assert with_flags.listed < plain.listed
    assert with_flags.completeness.value < 0.76 < 0.9 < plain.completeness.value


@pytest.mark.parametrize(
    ("counts", "true", "other"),
    [((4, 0, 60), 4, 60), ((0, 0, 40), 0, 40), ((30, 0, 3), 30, 3), ((0, 0, 0), 0, 0)],
)
def test_with_too_few_stars_the_threshold_is_a_half_with_a_note_and_wide_intervals(
    counts: tuple[int, ...], true: int, other: int
) -> None:
    table = mixed_stars.validation(counts, 3)
    priors: tuple[Prior, ...] = ("validation", SHARES)
    for prior in priors:
        threshold = choose_threshold(table, "MP", ListGoal(prior=prior), mix_of_stars(table, prior))
        assert threshold.value == 0.5
        note = f"{true} belong in the MP list and {other} do not: too few to choose a threshold"
        assert note in threshold.notes[-1]
        purity = threshold.purity
        assert np.isnan(purity.value) or purity.high - purity.low > 0.05
        assert json.loads(threshold.record().model_dump_json())["search"] == "MP"


def test_a_vague_share_of_a_class_is_no_optimism() -> None:
    table = mixed_stars.validation((500, 60, 1000), 4)
    mix = mix_of_stars(table, SHARES)
    cemp_R = np.geomspace(1e-4, 0.1, len(mix.drawn_RC))
    drawn_RC = np.stack([np.full(len(cemp_R), 0.1), cemp_R, 0.9 - cemp_R], 1)
    vague, notes = cautious(
        replace(mix, how="estimated", share_C=drawn_RC.mean(0), drawn_RC=drawn_RC), "CEMP"
    )
    assert notes
    sure = choose_threshold(table, "CEMP", ListGoal(), replace(vague, drawn_RC=vague.share_C[None]))
    threshold = choose_threshold(table, "CEMP", ListGoal(), vague)
    assert threshold.value == sure.value
    assert threshold.optimism == sure.optimism
    assert abs(threshold.optimism[0]) < 1


def test_without_validation_stars_of_the_class_the_completeness_is_unknown() -> None:
    table = mixed_stars.validation((80, 0, 80), 3)
    threshold = choose_threshold(table, "CEMP", ListGoal(prior=SHARES), mix_of_stars(table, SHARES))
    assert threshold.value == 0.5
    assert np.isnan(threshold.completeness.value)
    assert threshold.completeness.high - threshold.completeness.low > 0.8


def test_a_survey_without_the_class_has_no_completeness_and_no_purity() -> None:
    prior = {"MP": 0.1, "CEMP": 0.0, "NMP": 0.9}
    table = mixed_stars.validation((80, 40, 80), 3)
    threshold = choose_threshold(table, "CEMP", ListGoal(prior=prior), mix_of_stars(table, prior))
    assert np.isnan(threshold.completeness.value)
    assert threshold.purity.value == 0 or np.isnan(threshold.purity.value)
    assert threshold.record().completeness.value is None


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(*[st.integers(0, 12)] * 3),
    goal=st.sampled_from(["purity", "completeness", "f1"]),
)
def test_any_validation_gives_a_threshold_in_any_order(
    seed: int, counts: tuple[int, ...], goal: Goal
) -> None:
    random = np.random.default_rng(seed)
    class_N = np.repeat([0, 1, 2], counts)
    p_NC = random.multinomial(10, random.dirichlet([0.5, 0.5, 0.5], len(class_N))) / 10
    p_NC = np.where(random.random((len(class_N), 1)) < 0.1, np.nan, p_NC)
    table = mixed_stars.table(class_N, p_NC)
    shuffled = table.take(pa.array(random.permutation(len(class_N)), pa.int64()))
    for name in LIST_NAMES:
        first, second = (choose_threshold(rows, name, ListGoal(goal=goal)) for rows in (table, shuffled))
        assert first.value == pytest.approx(second.value)
        assert first.listed == second.listed
        for measure in (first.purity, first.completeness):
            assert np.isnan(measure.value) or 0 <= measure.low <= measure.value <= measure.high <= 1


def test_stars_without_an_answer_or_a_known_class_change_nothing() -> None:
    table = mixed_stars.validation((50, 50, 50), 5)
    odd = mixed_stars.table(np.array([0, -1]), np.array([[np.nan] * 3, [0.1, 0.8, 0.1]]))
    plain, with_odd = (choose_threshold(rows, "MP") for rows in (table, pa.concat_tables([table, odd])))
    assert plain.value == with_odd.value
    assert plain.listed == with_odd.listed
    assert plain.purity == with_odd.purity


def test_scores_are_probabilities_in_the_mix_of_the_survey_and_nan_is_no_candidate() -> None:
    table = mixed_stars.validation((200, 200, 200))
    mix = mix_of_stars(table, SHARES)
    threshold = choose_threshold(table, "MP", ListGoal(prior=SHARES), mix)
    p_NC = np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [np.nan] * 3])
    assert threshold.score(p_NC)[:2] == pytest.approx(mix.adjust(p_NC)[:2, :2].sum(1))
    assert threshold.passes(p_NC)[2] == np.False_
    assert threshold.column == "score_mp"


def test_of_many_validation_stars_only_some_thresholds_are_tried_and_the_goal_is_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """45,000 scores have as many thresholds; at most `STEPS` of them are tried, of any number of stars."""
    tried: list[int] = []

    def record(k_C: np.ndarray, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        tried.append(k_C.shape[-2] if k_C.ndim > 1 else 1)
        return purity_completeness(k_C, *arguments)

    monkeypatch.setattr("survey.catalog.thresholds.purity_completeness", record)
    table = mixed_stars.validation((20_000, 5_000, 20_000), 2)
    threshold = choose_threshold(table, "MP", ListGoal(level=0.95))
    assert 0.5 * STEPS < max(tried) <= STEPS
    score, true, _ = by_hand(table, "MP", "validation")
    assert true[score >= threshold.value].mean() == pytest.approx(0.95, abs=0.002)


def test_a_threshold_has_a_record_in_json() -> None:
    table = mixed_stars.validation((50, 50, 50))
    threshold = choose_threshold(table, "CEMP", ListGoal(prior="validation"))
    record = json.loads(threshold.record().model_dump_json())
    assert [record[key] for key in ("search", "score", "goal", "level")] == [
        "CEMP",
        "score_cemp",
        "purity",
        0.9,
    ]
    assert record["purity"]["low"] < record["purity"]["value"] < record["purity"]["high"]
    assert record["validation"]["true"] == 50
    assert record["mix"]["how"] == "validation"


def test_validation_without_classes_is_reported() -> None:
    message = (
        "catalog: validation has no column p_mp; give an ensemble that predicts the classes MP, CEMP, NMP"
    )
    with pytest.raises(ValueError, match=message):
        choose_threshold(pa.table({"Teff": [5000.0], "true_class": [1]}), "MP")
    table = mixed_stars.validation((1, 1, 1)).drop_columns(["true_class"])
    with pytest.raises(ValueError, match="catalog: validation has no column true_class"):
        choose_threshold(table, "MP")


def test_the_settings_of_a_goal_are_checked() -> None:
    shares = {"MP": 4, "CEMP": 1, "NMP": 95}
    assert ListGoal.from_dict("catalog", {"prior": shares}).prior == shares
    message = r"catalog: prior: .*give each of MP, CEMP, NMP a share of at least 0"
    with pytest.raises(SettingsError, match=message):
        ListGoal.from_dict("catalog", {"prior": {"MP": 4}})
    with pytest.raises(SettingsError, match="catalog: level"):
        ListGoal.from_dict("catalog", {"level": 1.5})
    with pytest.raises(SettingsError, match="catalog: prior"):
        ListGoal.from_dict("catalog", {"prior": "balanced"})


def test_the_mix_of_validation_stars_is_found_in_their_table() -> None:
    mix = mix_of_stars(mixed_stars.validation((60, 60, 60)), "validation")
    assert mix.share_C == pytest.approx(BALANCED)


def test_with_few_stars_the_class_mix_is_that_of_validation(tmp_path: Path) -> None:
    ra, dec = skies.cluster(10, 20, 40, 5000, 1)
    skies.write(tmp_path / "predictions", skies.rows(ra, dec, [None] * len(ra)))
    validation = mixed_stars.validation((100, 100, 100))
    names = pa.array([f"v{number}" for number in range(300)])
    path = tmp_path / "predictions" / output.VALIDATION
    pq.write_table(validation.append_column("star", names), path)
    threshold = run(tmp_path).document.thresholds["CEMP"]
    assert threshold.mix.how == "validation"
    assert any("too few stars" in note for note in threshold.notes)
