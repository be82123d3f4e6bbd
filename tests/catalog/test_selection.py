"""The selection function against counting by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit, logit

from survey.catalog.prior import ClassMix
from survey.catalog.purity import expected_completeness, expected_purity
from survey.catalog.selection import BINS, CURVES, selection_function, threshold_curve
from survey.catalog.selection_settings import SelectionBins
from survey.catalog.settings import LIST_NAMES, ListGoal, ListName
from survey.catalog.thresholds import choose_threshold, mix_of_stars
from survey.metrics.intervals import wilson
from survey.settings import SettingsError
from tests.catalog import mixed_stars
from tests.catalog.mixed_stars import p_of, probabilities, stars

TRUE = {"MP": (0, 1), "CEMP": (1,)}
EDGES = SelectionBins(snr=(10.0, 30.0), teff=(5000.0, 6000.0))


def observed(counts: tuple[int, ...] = (300, 200, 400), seed: int = 0) -> pa.Table:
    """Validation stars at several signal to noises, with noisy features if it is low, and temperatures."""
    random = np.random.default_rng(seed)
    class_N, feature_N2 = stars(random, counts)
    snr = random.choice([5.0, 20.0, 80.0], len(class_N))
    feature_N2 += random.standard_normal(feature_N2.shape) * (5 / snr)[:, None]
    teff = random.uniform(4500, 6500, len(class_N))
    return mixed_stars.table(class_N, probabilities(feature_N2), snr=snr, Teff=teff)


@pytest.mark.parametrize("name", LIST_NAMES)
def test_bins_are_those_of_counting_by_hand(name: ListName) -> None:
    table = observed()
    threshold = choose_threshold(table, name, ListGoal(goal="f1", prior="validation"))
    rows = selection_function(table, threshold, EDGES)
    frame = table.to_pandas()
    frame["true"] = frame["true_class"].isin(TRUE[name])
    frame["listed"] = threshold.passes(p_of(table))
    snr_edges, teff_edges = [-np.inf, 10, 30, np.inf], [-np.inf, 5000, 6000, np.inf]
    snr_bins = pd.cut(frame["snr"], snr_edges, right=False, labels=["<10", "10-30", ">30"])
    teff_bins = pd.cut(frame["Teff"], teff_edges, right=False, labels=["<5000", "5000-6000", ">6000"])
    frame["snr_bin"], frame["teff_bin"] = snr_bins.astype(str), teff_bins.astype(str)
    assert len(rows) == 2 * 4 * 4
    for row in rows.to_pylist():
        inside = frame
        for column, bin_name in (("snr_bin", row["snr"]), ("teff_bin", row["Teff"])):
            inside = inside if bin_name == "all" else inside[inside[column] == bin_name]
        counted = inside[inside["listed"]] if row["metric"] == "purity" else inside[inside["true"]]
        hits = (counted["true"] & counted["listed"]).sum()
        assert row["n"] == len(counted)
        assert row["few"] == (len(counted) < 5)
        optimism = threshold.optimism[0 if row["metric"] == "purity" else 1]
        if 10 < hits < len(counted) - 5:
            plain = 1 / (1 + np.exp(-np.log(row["value"] / (1 - row["value"])) - optimism))
            assert plain == pytest.approx(hits / len(counted))
            bounds = tuple(float(bound) for bound in wilson(hits, len(counted)))
            assert (row["low"], row["high"]) == pytest.approx(bounds, abs=0.08)  # Jeffreys, less the optimism


def test_the_row_of_all_stars_is_what_the_threshold_promises() -> None:
    table = observed()
    prior = {"MP": 1.0, "CEMP": 1.0, "NMP": 8.0}
    goal = ListGoal(goal="f1", prior=prior)
    threshold = choose_threshold(table, "MP", goal, mix_of_stars(table, prior))
    purity, completeness = selection_function(table, threshold).to_pylist()[:2]
    for row, measure in ((purity, threshold.purity), (completeness, threshold.completeness)):
        assert (row["snr"], row["Teff"], row["metric"]) == ("all", "all", measure.metric)
        assert (row["value"], row["low"], row["high"]) == (measure.value, measure.low, measure.high)


def test_noisy_stars_are_found_less_often() -> None:
    table = observed((2000, 2000, 2000))
    threshold = choose_threshold(table, "CEMP", ListGoal(goal="f1"))
    rows = selection_function(table, threshold, EDGES).to_pylist()
    complete = {row["snr"]: row for row in rows if row["Teff"] == "all" and row["metric"] == "completeness"}
    assert complete["<10"]["high"] < complete[">30"]["low"]


def test_edges_are_written_as_numbers_too_and_open_ones_are_null() -> None:
    rows = selection_function(observed(), choose_threshold(observed(), "MP"), EDGES).to_pylist()
    edges = {row["snr"]: (row["snr_low"], row["snr_high"]) for row in rows}
    assert edges == {"all": (None, None), "<10": (None, 10.0), "10-30": (10.0, 30.0), ">30": (30.0, None)}
    teff_edges = {row["Teff"]: (row["Teff_low"], row["Teff_high"]) for row in rows}
    assert teff_edges["5000-6000"] == (5000.0, 6000.0)


def test_an_empty_bin_is_null_and_marked() -> None:
    table = observed()
    bins = SelectionBins(snr=(1.0,), teff=())
    rows = selection_function(table, choose_threshold(table, "MP"), bins).to_pylist()
    empty = [row for row in rows if row["snr"] == "<1"]
    values = [[row[key] for key in ("value", "low", "high", "n", "few")] for row in empty]
    assert values == [[None, None, None, 0, True]] * 2


def test_the_total_signal_to_noise_comes_first_and_without_any_there_are_no_bins_of_it() -> None:
    table = observed().drop_columns(["Teff"])
    threshold = choose_threshold(table, "MP")
    total = table.append_column("snr_total", pa.array(np.full(table.num_rows, 1e3)))
    filled = {row["snr"] for row in selection_function(total, threshold, EDGES).to_pylist() if row["n"]}
    assert filled == {"all", ">30"}
    rows = selection_function(table.drop_columns(["snr"]), threshold).to_pylist()
    assert {(row["snr"], row["Teff"]) for row in rows} == {("all", "all")}


def test_the_promise_of_the_list_is_a_point_of_the_curve_to_the_last_digit() -> None:
    table = observed()
    threshold = choose_threshold(table, "CEMP", ListGoal(goal="f1", prior="validation"))
    rows = [
        row for row in threshold_curve(table, threshold).to_pylist() if row["threshold"] == threshold.value
    ]
    for row, measure in zip(rows, (threshold.purity, threshold.completeness), strict=True):
        values = row["metric"], row["value"], row["low"], row["high"]
        assert values == (measure.metric, measure.value, measure.low, measure.high)


@pytest.mark.parametrize("name", LIST_NAMES)
def test_a_curve_goes_through_the_values_of_each_threshold(name: ListName) -> None:
    table = observed()
    threshold = choose_threshold(table, name, ListGoal(prior="validation"))
    rows = threshold_curve(table, threshold).to_pylist()
    score, true = threshold.score(p_of(table)), np.isin(table["true_class"].to_numpy(), TRUE[name])
    for row in rows:
        listed = score >= row["threshold"]
        counted = true if row["metric"] == "completeness" else listed
        if not counted.any():
            assert row["value"] is None
            continue
        share = (true & listed)[counted].mean()
        optimism = threshold.optimism[row["metric"] == "completeness"]
        assert row["value"] == pytest.approx(expit(logit(share) - optimism))
    complete = [row["value"] for row in rows if row["metric"] == "completeness"]
    assert complete[0] == 1
    assert (np.diff(complete) <= 0).all()


def test_the_tables_have_their_columns_even_without_a_star() -> None:
    table = observed((0, 0, 0))
    threshold = choose_threshold(table, "MP")
    assert selection_function(table, threshold).schema.equals(BINS)
    assert threshold_curve(table, threshold).schema.equals(CURVES)
    assert all(row["value"] is None for row in threshold_curve(table, threshold).to_pylist())
    assert all(field.metadata[b"description"] for field in (*BINS, *CURVES))


def test_edges_must_rise() -> None:
    message = r"catalog: snr: .*edges 10, 5 do not rise; give each edge above the one before"
    with pytest.raises(SettingsError, match=message):
        SelectionBins.from_dict("catalog", {"snr": [10.0, 5.0]})


@pytest.mark.parametrize("size", [3, 355, 4000])
def test_the_interval_of_a_list_of_a_small_survey_reaches_beyond_its_value(size: int) -> None:
    """With less than half a star expected, no star was drawn: the value was the upper end."""
    table = mixed_stars.validation((300, 300, 600), 1)
    mix = replace(mix_of_stars(table, {"MP": 4, "CEMP": 0.1, "NMP": 95.9}), size=size)
    threshold = choose_threshold(table, "CEMP", ListGoal(goal="f1"), mix)
    for measure in (threshold.purity, threshold.completeness):
        assert measure.low < measure.value < measure.high


def test_an_interval_holds_the_share_of_listed_stars_in_small_surveys() -> None:
    """With known shares and rates, the purity of nearly all surveys of this size is in the interval."""
    rate_C, share_C, n_C = np.array([0.05, 0.5, 0.001]), np.array([0.04, 0.01, 0.95]), np.full(3, 100_000)
    mix = ClassMix("given", share_C, share_C, np.tile(share_C, (400, 1)), 2000)
    k_XC = np.rint(rate_C * n_C).astype(np.int64)[None]
    [purity], [complete] = (
        expected_purity(k_XC, n_C, "CEMP", mix),
        expected_completeness(k_XC, n_C, "CEMP", mix),
    )
    rng = np.random.default_rng(0)
    stars_RC = rng.multinomial(2000, share_C, 1000)
    listed_RC = rng.binomial(stars_RC, rate_C)
    for measure, share_R in (
        (purity, listed_RC[:, 1] / listed_RC.sum(1)),
        (complete, listed_RC[:, 1] / stars_RC[:, 1]),
    ):
        inside = ((measure.low <= share_R) & (share_R <= measure.high)).mean()
        assert 0.93 <= inside <= 0.98, measure
