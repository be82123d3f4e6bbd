"""Which stars are chosen: the best order, the budget, and inclusion probabilities that are true."""

from itertools import permutations

import numpy as np
import pytest

from survey.followup.choice import RANDOM, YIELD, FollowupChoice, by_yield, choose, mixed, within
from survey.followup.settings import FollowupSettings
from survey.followup.strata import allocate, strata
from survey.settings import JobError


def settings(**values: object) -> FollowupSettings:
    given = {"of": "x", "followup": "y", "site": "Xinglong", "dates": ["2027-01-10"], "hours": 30.0}
    return FollowupSettings.from_dict("followup", given | values)


def sky(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    p = np.clip(random.beta(4, 1, count), 0.005, 0.995)
    return p, random.uniform(300, 3000, count), random.uniform(10, 100, count)


def test_no_other_order_gives_more_true_stars_in_the_mean_over_time() -> None:
    p, cost, _ = sky(7, seed=3)

    def missed(order: tuple[int, ...]) -> float:
        """True stars that are not observed yet, summed over time."""
        return float((p[list(order)] * np.cumsum(cost[list(order)])).sum())

    best = min(permutations(range(7)), key=missed)
    assert tuple(by_yield(p, cost)) == best


def test_the_yield_is_at_most_one_star_below_the_best_of_all_subsets() -> None:
    p, cost, _ = sky(12, seed=4)
    budget = float(cost.sum()) / 3
    subsets = [[n for n in range(12) if bits >> n & 1] for bits in range(1 << 12)]
    best = max(p[subset].sum() for subset in subsets if cost[subset].sum() <= budget)
    chosen = within(by_yield(p, cost), cost, budget)
    assert cost[chosen].sum() <= budget
    assert best - 1 < p[chosen].sum() <= best + 1e-9


def test_a_star_is_drawn_as_often_as_its_inclusion_probability_says() -> None:
    p, cost, snr = sky(120)
    draws = [choose(p, cost, snr, settings(hours=20.0, seed=seed)) for seed in range(300)]
    often = np.mean([draw.why_N != "" for draw in draws], axis=0)
    expected = draws[0].inclusion_N
    assert all((draw.inclusion_N == expected).all() for draw in draws)
    assert np.abs(often - expected).max() < 5 * np.sqrt(0.25 / 300)
    assert (often[expected == 1] == 1).all()
    assert (expected > 0).all(), "every star can get into the sample"


def test_parts_take_their_share_of_the_hours() -> None:
    p, cost, snr = sky(300)
    choice = choose(p, cost, snr, settings(hours=40.0, certify=0.4))
    hours = {why: cost[choice.why_N == why].sum() / 3600 for why in (YIELD, RANDOM)}
    assert 23 < hours[YIELD] <= 24
    assert 12 < hours[RANDOM] < 20
    assert len(choice.order) == len(set(choice.order.tolist())) == (choice.why_N != "").sum()


def test_all_stars_are_chosen_if_the_hours_suffice() -> None:
    p, cost, snr = sky(20)
    choice = choose(p, cost, snr, settings(hours=100.0))
    assert (choice.inclusion_N == 1).all()
    assert (choice.why_N == YIELD).all()


def test_too_few_hours_for_a_random_part_are_an_error_and_without_it_they_are_not() -> None:
    p, cost, snr = sky(50)
    with pytest.raises(JobError, match=r"hours=0.5, certify=0.3: a star takes \d+ minutes .* certify=0 "):
        choose(p, cost, snr, settings(hours=0.5))
    assert len(choose(p, cost, snr, settings(hours=0.5, certify=0.0)).order)
    with pytest.raises(JobError, match="give more hours="):
        choose(p, cost, snr, settings(hours=0.01, certify=0.0))


def test_the_random_part_is_as_far_as_the_other_part_at_any_time() -> None:
    cost = np.full(40, 600.0)
    order = mixed(np.arange(30), np.arange(30, 40), cost)
    for end in range(4, 40, 4):
        assert abs((order[:end] >= 30).sum() - end / 4) <= 1


def test_neyman_takes_more_stars_where_the_outcome_is_open_and_exposures_are_short() -> None:
    size = np.array([100, 100, 100])
    share, cost = np.array([0.9, 0.5, 0.5]), np.array([600.0, 600.0, 2400.0])
    n = allocate(size, share, cost, 60_000.0, "neyman")
    assert n is not None
    assert n[1] > n[0] > 0
    assert n[1] > n[2]
    # the optimum of the textbook: n ~ N S / sqrt(c)
    expected = size * np.sqrt(share * (1 - share)) / np.sqrt(cost)
    assert n / n.sum() == pytest.approx(expected / expected.sum(), abs=0.02)
    even = allocate(
        np.array([50, 100]), np.array([0.9, 0.5]), np.array([600.0, 600.0]), 18_000.0, "proportional"
    )
    assert even is not None
    assert even.tolist() == [10, 20]
    assert allocate(size, share, cost, 1000.0, "neyman") is None


def test_strata_have_equal_sizes_and_fall_in_probability() -> None:
    p, _, snr = sky(120)
    number = strata(p, snr, 3, 2)
    assert np.bincount(number).tolist() == [20] * 6
    assert p[number < 2].min() > p[number >= 4].max()
    same = strata(np.full(10, 0.5), np.full(10, np.nan), 3, 2)
    assert len(set(same.tolist())) == 1


def counts(choice: FollowupChoice, true: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Stars, observed stars, and true ones of each stratum and part."""
    rows = []
    for part in (choice.why_N == YIELD, choice.why_N != YIELD):
        for number in range(choice.strata):
            inside = part & (choice.stratum_N == number)
            seen = inside & (choice.why_N != "")
            rows.append((int(inside.sum()), int(seen.sum()), int(true[seen].sum())))
    size, n, hits = (list(column) for column in zip(*rows, strict=True))
    return size, n, hits
