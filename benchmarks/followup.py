"""Is the purity from a sample of follow-up right, and what does its yield order gain?

    python -m benchmarks.followup            seconds on one core

A made-up list, whose scores are wrong on purpose: the true share of stars with probability p is p to a
power. Each sample is drawn by the code of `survey followup`, observed, and gives a purity with its interval.
Printed are the mean error of this purity and of the plain share of the observed stars, how often the interval
holds the truth, its width, and how many true stars were observed in the hours, beside a random order.
"""

from typing import Any

import numpy as np

from survey.followup.choice import RANDOM, YIELD, choose
from survey.followup.settings import FollowupSettings
from survey.followup.stratified import stratified_purity

DRAWS = 400
CASES = (
    # stars, hours, certify, allocation, beta distribution of the scores, power
    (300, 30.0, 0.3, "neyman", (4, 1), 1.7),
    (300, 30.0, 0.3, "proportional", (4, 1), 1.7),
    (300, 30.0, 0.3, "neyman", (20, 0.5), 1.7),
    (150, 20.0, 0.5, "neyman", (1, 1), 1.7),
    (800, 40.0, 0.3, "neyman", (1, 3), 1.7),
    (300, 20.0, 1.0, "neyman", (2, 1), 1.7),
    (300, 20.0, 0.2, "neyman", (9, 1), 4.0),
    (300, 30.0, 0.3, "neyman", (4, 1), 0.5),
)


def main() -> None:
    """Print a row for each case."""
    print(
        "| stars | hours | certify | allocation | purity | error of the purity | error of the plain share | "
        "interval holds | width | true stars | in random order |"
    )
    print("| --- |" + " --- |" * 10)
    for stars, hours, certify, allocation, shape, power in CASES:
        random = np.random.default_rng(1)
        p = np.clip(random.beta(shape[0], shape[1], stars), 0.005, 0.995)
        cost, snr = random.uniform(300, 3000, stars), random.uniform(10, 100, stars)
        rows = []
        for seed in range(DRAWS):
            true = random.random(stars) < p**power
            given = {"hours": hours, "certify": certify, "seed": seed, "strata": {"allocation": allocation}}
            rows.append(one_sample(p, cost, snr, true, given))
        truth, value, plain, holds, width, found, by_chance = np.array(rows).T
        print(
            f"| {stars} | {hours:.0f} | {certify} | {allocation} | {truth.mean():.2f} | "
            f"{(value - truth).mean():+.4f} +- {(value - truth).std() / np.sqrt(DRAWS):.4f} | "
            f"{(plain - truth).mean():+.3f} | {holds.mean():.3f} | {width.mean():.2f} | "
            f"{found.mean():.0f} | {by_chance.mean():.0f} |"
        )


def one_sample(
    p: np.ndarray, cost: np.ndarray, snr: np.ndarray, true: np.ndarray, given: dict[str, Any]
) -> tuple[float, ...]:
    """Truth, purity, plain share, whether the interval holds, its width, true stars, the same by chance."""
    needed = {"of": "x", "followup": "y", "site": "Xinglong", "dates": ["2027-01-10"]}
    choice = choose(p, cost, snr, FollowupSettings.from_dict("followup", needed | given))
    rows = []
    for part in (choice.why_N == YIELD, choice.why_N != YIELD):
        for number in range(choice.strata):
            inside = part & (choice.stratum_N == number)
            seen = inside & ((choice.why_N == YIELD) | (choice.why_N == RANDOM))
            rows.append((inside.sum(), seen.sum(), true[seen].sum()))
    size, n, hits = np.array(rows).T
    found = stratified_purity(size, n, hits, "list")
    seconds = cost[choice.order].sum()
    order = np.random.default_rng(given["seed"]).permutation(len(p))
    by_chance = true[order][np.cumsum(cost[order]) <= seconds].sum()
    holds = found.low <= true.mean() <= found.high
    seen = true[choice.order]
    return true.mean(), found.value, seen.mean(), holds, found.high - found.low, seen.sum(), by_chance


if __name__ == "__main__":
    main()
