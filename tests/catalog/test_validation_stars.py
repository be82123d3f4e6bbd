"""Tested stars: draws of one spectrum are not taken for independent stars."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.flag_settings import flag_bits
from survey.catalog.flags import FlagRules
from survey.catalog.settings import ListGoal, VisitSettings
from survey.catalog.thresholds import choose_threshold, mix_of_stars
from survey.catalog.validation_stars import ValidationStars, read_draws, read_validation
from survey.labels import CLASSES
from survey.metrics.intervals import independent_share
from survey.predict.output import POPULATION, VALIDATION
from tests.catalog import mixed_stars


@pytest.mark.parametrize(("between", "within"), [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5), (1.0, 1e-9)])
def test_the_mean_scatters_as_that_of_so_many_independent_values(between: float, within: float) -> None:
    rng = np.random.default_rng(0)
    groups, draws, trials = 60, 20, 2000
    effect = between * rng.standard_normal((trials, groups, 1))
    values = effect + within * rng.standard_normal((trials, groups, draws))
    count = groups * draws
    scatter = values.reshape(trials, -1).mean(1).std()
    independent = (between**2 + within**2) / scatter**2
    group = np.repeat(np.arange(groups), draws)
    share = np.mean([independent_share(values[trial].ravel(), group) for trial in range(50)])
    assert share * count == pytest.approx(independent, rel=0.15)


def test_without_repeated_groups_all_values_are_independent() -> None:
    assert independent_share(np.arange(5.0), np.arange(5)) == 1
    assert independent_share(np.ones(4), np.zeros(4, np.int64)) == 0.25


def table(bases: int, draws: int) -> pa.Table:
    """Draws of stars with the same answer for all draws of a base."""
    rng = np.random.default_rng(1)
    class_N = np.tile(np.arange(3), bases)[:bases]
    p_NC = rng.dirichlet(np.ones(3), bases) * 0.3 + 0.7 * np.eye(3)[class_N]
    row = np.repeat(np.arange(bases), draws)
    columns: dict[str, Any] = {f"p_{name.lower()}": p_NC[row, k] for k, name in enumerate(CLASSES)}
    return pa.table(columns | {"true_class": class_N[row].astype(np.int8), "base": row.astype(np.int32)})


def test_many_draws_of_few_stars_promise_no_more_than_the_stars() -> None:
    goal = ListGoal(goal="completeness", level=0.9)
    many = choose_threshold(table(150, 40), "MP", goal)
    once = choose_threshold(table(150, 1), "MP", goal)
    assert many.listed > 30 * once.listed
    for one, other in ((many.purity, once.purity), (many.completeness, once.completeness)):
        assert one.value == pytest.approx(other.value, abs=0.02)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.3)


def test_class_shares_do_not_hang_on_single_draws() -> None:
    rng, bases, draws = np.random.default_rng(2), 300, 40
    class_N = np.repeat(rng.choice(3, bases, p=[0.3, 0.1, 0.6]), draws)
    p_NC = np.stack([rng.dirichlet(0.2 + 2 * np.eye(3)[number]) for number in class_N])
    columns: dict[str, Any] = {f"p_{name.lower()}": p_NC[:, k] for k, name in enumerate(CLASSES)}
    columns |= {
        "true_class": class_N.astype(np.int8),
        "base": np.repeat(np.arange(bases, dtype=np.int32), draws),
    }
    whole, order = pa.table(columns), rng.permutation(bases * draws)
    shares = [
        mix_of_stars(whole.take(np.sort(half)), "validation").assumed_C for half in np.array_split(order, 2)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    few = whole.take(np.arange(0, bases * draws, draws))  # one draw of each
    assert np.abs(mix_of_stars(few, "validation").assumed_C - shares[0]).max() < 0.1


def test_the_test_population_comes_before_the_validation_stars(tmp_path: Path) -> None:
    drawn = table(30, 5)
    blanked = pa.array(np.arange(drawn.num_rows) % 5 == 0)
    snr = pa.array(np.full(drawn.num_rows, 50.0))
    pq.write_table(drawn.append_column("blanked", blanked).append_column("snr", snr), tmp_path / POPULATION)
    few = table(3, 1).append_column("star", pa.array(["a", "b", "c"]))
    few = few.append_column("snr", pa.array([50.0, 60.0, 70.0]))
    pq.write_table(few, tmp_path / VALIDATION)
    place: Any = SimpleNamespace(path=str(tmp_path))
    read = read_validation(place, VisitSettings(), FlagRules())
    assert read is not None
    assert read.num_rows == 120, "blanked draws are left out"
    assert ValidationStars.from_table(read).independent_C.max() < 0.5
    draws = read_draws(place)
    (tmp_path / POPULATION).unlink()
    again = read_validation(place, VisitSettings(), FlagRules(), draws=draws)
    assert again == read, "what is read already is not read again"
    read = read_validation(place, VisitSettings(), FlagRules())
    assert read is not None
    assert read.num_rows == 3
    assert np.all(ValidationStars.from_table(read).independent_C == 1)


def test_stars_that_a_cascade_rules_out_are_never_listed_and_count_as_lost() -> None:
    tested = table(300, 1)
    ruled_out = np.arange(300) % 4 == 0
    reduced = tested.append_column("ruled_out", pa.array(ruled_out))
    stars = ValidationStars.from_table(reduced)
    assert np.array_equal(stars.allowed_N, ~ruled_out)
    assert np.array_equal(stars.n_C, ValidationStars.from_table(tested).n_C)
    goal = ListGoal(goal="completeness", level=0.99)
    lists = [choose_threshold(one, "MP", goal).completeness.value for one in (tested, reduced)]
    assert lists[0] > 0.95
    assert lists[1] < 0.8


def test_stars_of_a_kind_that_is_not_asked_do_not_count(tmp_path: Path) -> None:
    """A star without a measured band is of unknown kind."""
    tested = table(4, 1).append_column("star", pa.array(["a", "b", "c", "d"]))
    tested = tested.append_column("snr", pa.array([50.0, 50.0, 50.0, 1.0]))
    tested = tested.append_column("tio5", pa.array([1.0, None, 1.0, 1.0]))
    pq.write_table(tested, tmp_path / VALIDATION)
    place: Any = SimpleNamespace(path=str(tmp_path))
    for rules, allowed in (
        (FlagRules(), [True, True, True, False]),
        (FlagRules(ask=("FGK",)), [True, True]),
    ):
        read = read_validation(place, VisitSettings(), rules)
        assert read is not None
        assert ValidationStars.from_table(read).allowed_N.tolist() == allowed
    pq.write_table(tested.drop_columns(["tio5"]), tmp_path / VALIDATION)
    read = read_validation(place, VisitSettings(), FlagRules(ask=("FGK",)))
    assert read is not None
    few = ValidationStars.from_table(read).allowed_N.tolist()
    assert few == [True, True, True, False], "nothing in the table tells a kind"


def test_stars_of_other_kinds_make_no_list_of_asked_stars_purer(tmp_path: Path) -> None:
    """The class shares of a survey are those of asked kinds: 1,400 M stars had made a purity of 0.60 0.80."""
    prior = {"MP": 5.0, "CEMP": 1.0, "NMP": 94.0}
    asked = mixed_stars.validation((300, 300, 600), 5)
    others = mixed_stars.table(np.full(1400, 2), np.tile([0.001, 0.0005, 0.9985], (1400, 1)))
    both = pa.concat_tables([asked, others])
    is_asked = np.arange(both.num_rows) < asked.num_rows
    columns = {"star": np.arange(both.num_rows).astype(str), "snr": np.full(both.num_rows, 50.0)}
    columns |= {"tio5": np.where(is_asked, 1.0, 0.5), "cah2": np.where(is_asked, 1.0, 0.5)}
    for name, values in columns.items():
        both = both.append_column(name, pa.array(values))
    pq.write_table(both, tmp_path / VALIDATION)
    place: Any = SimpleNamespace(path=str(tmp_path))
    read = read_validation(place, VisitSettings(), FlagRules())
    assert read is not None
    assert read.num_rows == asked.num_rows
    goal = ListGoal(level=0.8, prior=prior)
    found, alone = (choose_threshold(one, "MP", goal, mix_of_stars(asked, prior)) for one in (read, asked))
    assert found.value == alone.value
    assert found.purity == alone.purity


def test_flags_that_need_labels_keep_validation_stars_out_too(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"FeH": [-2.0, -2.0], "CFe": [0.0, 1.5], "predicted_class": [1, 1]}
    tested = table(2, 1)
    for name, values in (columns | {"star": ["a", "b"], "snr": [50.0, 50.0]}).items():
        tested = tested.append_column(name, pa.array(values))
    pq.write_table(tested, tmp_path / VALIDATION)
    place: Any = SimpleNamespace(path=str(tmp_path))
    rules = FlagRules(leave_out=flag_bits(["classes_disagree", "spectrum", "large_error", "visits_disagree"]))
    read = read_validation(place, VisitSettings(), rules)
    assert read is not None
    assert ValidationStars.from_table(read).allowed_N.tolist() == [False, True]
    assert rules.untested(read) == ["SPECTRUM", "VISITS_DISAGREE", "LARGE_ERROR"]
    assert FlagRules().untested(read) == []
