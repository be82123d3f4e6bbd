"""The scatter from visit to visit, measured on a survey of which it is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.catalog.settings import VisitSettings
from survey.catalog.visit_scatter import LEAST, fit_scatter, measure_scatter
from survey.catalog.visits import combine_visits
from survey.ensemble.label_errors import NoiseLaw
from tests.catalog.visit_tables import LABELS, visits

COMMON, NEW = 0.15, NoiseLaw(0.03, 1.5)
"""The error of [Fe/H] that all visits of a star have, and what is new in each."""


def observed(
    stars: int, count: int, seed: int = 0, **columns: Any
) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Visits of stars with right errors, their stars, and the true [Fe/H] of each star (it is 0)."""
    rng, star = np.random.default_rng(seed), np.repeat(np.arange(stars), count)
    snr = rng.uniform(10, 100, len(star))
    new = NEW.sigma(snr)
    feh = COMMON * rng.standard_normal(stars)[star] + new * rng.standard_normal(len(star))
    error = np.hypot(COMMON, new)
    none = np.zeros(len(star))
    answers: dict[str, Any] = {"snr": snr, "FeH": feh, "FeH_err": error, "FeH_err_data": error}
    answers |= {"FeH_err_model": none, "FeH_low": feh - 1.96 * error, "FeH_high": feh + 1.96 * error}
    equal = {name: none for name in LABELS if name != "FeH"}
    classes = {"p_mp": none + 0.4, "p_cemp": none + 0.2, "p_nmp": none + 0.4}
    return visits(star.tolist(), seed, **(answers | equal | classes | columns)), star, np.zeros(stars)


@pytest.mark.parametrize("count", [2, 9])
def test_the_interval_of_a_star_holds_the_truth_however_many_visits_it_has(count: int) -> None:
    """As if all of an error were new in each visit, nine visits had intervals of 95 % that held 50 %."""
    table, star, truth = observed(2000, count)
    laws = fit_scatter(table, star, ("FeH",))
    assert laws["FeH"].sigma(np.array([12.0, 30.0, 90.0])) == pytest.approx(
        NEW.sigma(np.array([12.0, 30.0, 90.0])), rel=0.25
    )
    for scatter, most in ((laws, 0.97), ({}, 0.995)):
        stars = combine_visits(table, star, scatter=scatter)
        low, high, value, error = (stars[f"FeH{end}"].to_numpy() for end in ("_low", "_high", "", "_err"))
        assert 0.93 < ((low <= truth) & (truth <= high)).mean() < most
        assert np.std((value - truth) / error) < 1.05


def test_visits_disagree_as_seldom_as_chance_has_it_by_the_part_that_is_new_in_each() -> None:
    table, star, _ = observed(4000, 3)
    laws = fit_scatter(table, star, ("FeH",))
    shares = [
        combine_visits(table, star, VisitSettings(disagree=0.02), scatter)["visits_disagree"]
        .to_numpy()
        .mean()
        for scatter in (laws, {})
    ]
    assert 0.01 < shares[0] < 0.03
    assert shares[1] < 0.002, "the whole error explains more"


def test_of_few_stars_or_of_one_spectrum_in_two_releases_nothing_follows() -> None:
    table, star, _ = observed(LEAST - 1, 2)
    assert fit_scatter(table, star, ("FeH",)) == {}
    table, star, _ = observed(100, 1)
    twice = pa.concat_tables([table, table]).append_column("row", pa.array(np.full(200, -1)))
    assert fit_scatter(twice, np.tile(star, 2), ("FeH",)) == {}
    far, star, _ = observed(100, 2, domain=np.full(200, 1.5))
    assert fit_scatter(far, star, ("FeH",)) == {}


def test_the_scatter_is_read_from_all_shards() -> None:
    table, star, _ = observed(300, 2)
    order = np.random.default_rng(1).permutation(len(star))
    table, star = table.take(pa.array(order)), star[order].astype(np.int32)
    shards = [table.slice(start, 200) for start in (0, 200, 400)]
    predictions: Any = SimpleNamespace(
        labels=("FeH",),
        shards=3,
        table=lambda shard, columns: shards[shard].select(
            [name for name in columns if name in table.column_names]
        ),
    )
    assert measure_scatter(predictions, star) == fit_scatter(table, star, ("FeH",))
    predictions.labels = ()
    assert measure_scatter(predictions, star) == {}
