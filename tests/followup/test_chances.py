"""Probabilities of stars: as pure in the mean as the catalog expects, changed by verdicts."""

import numpy as np
import pyarrow as pa
import pytest

from survey.followup.chances import SUREST, expected_purity, probabilities, shifted_to_mean
from survey.followup.settings import VerdictSettings

ODDS = VerdictSettings(accept=3.0, unsure=1.0, reject=0.1)


def test_probabilities_have_the_expected_purity_in_the_mean_and_keep_their_order() -> None:
    score = np.sort(np.random.default_rng(2).uniform(0.4, 1, 50))[::-1]
    table = pa.table({"score_cemp": score, "purity_to_here": np.linspace(0.9, 0.6, 50)})
    assert expected_purity(table) == pytest.approx(0.6)
    p = probabilities(table, "score_cemp", ODDS)
    assert p.mean() == pytest.approx(0.6, abs=0.01)
    assert (np.diff(p) <= 0).all()


def test_without_an_expected_purity_scores_are_taken_as_they_are() -> None:
    score = np.array([0.9, 0.5])
    assert probabilities(pa.table({"score_cemp": score}), "score_cemp", ODDS) == pytest.approx(score)
    assert shifted_to_mean(score, np.nan) is score
    assert probabilities(pa.table({"CFe": score}), "score_cemp", ODDS) == pytest.approx([0.5, 0.5])


def test_no_star_and_no_list_is_certain() -> None:
    assert shifted_to_mean(np.array([0.9, 0.8]), 1.0).max() <= SUREST


def test_a_verdict_multiplies_the_odds_less_so_for_a_poor_spectrum() -> None:
    verdict = ["accept", "reject", "unsure", None, "accept", "accept", "accept"]
    quality = [4.0, 3.0, 4.0, None, 1.0, 2.0, None]
    table = pa.table(
        {
            "score_cemp": np.full(7, 0.5),
            "verdict": verdict,
            "verdict_quality": pa.array(quality, pa.float32()),
        }
    )
    p = probabilities(table, "score_cemp", ODDS)
    expected = [3.0, 0.1, 1.0, 1.0, 1.0, 3.0**0.5, 3.0]
    assert p / (1 - p) == pytest.approx(expected)
