"""The selection function against counting by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from survey.catalog.selection import BINS, CURVES, Bins, by_bins, curve
from survey.catalog.thresholds import KINDS, Kind, Search, choose, mix_of
from survey.metrics.intervals import wilson
from survey.settings import SettingsError
from tests.catalog import mixed_stars
from tests.catalog.mixed_stars import probabilities, stars

TRUE = {"MP": (0, 1), "CEMP": (1,)}
EDGES = Bins(snr=(10.0, 30.0), teff=(5000.0, 6000.0))


def observed(counts: tuple[int, ...] = (300, 200, 400), seed: int = 0) -> pa.Table:
    """Validation stars at several signal to noises, whose features blur where it is low, and temperatures."""
    random = np.random.default_rng(seed)
    class_N, feature_N2 = stars(random, counts)
    snr = random.choice([5.0, 20.0, 80.0], len(class_N))
    feature_N2 += random.standard_normal(feature_N2.shape) * (5 / snr)[:, None]
    return mixed_stars.table(
        class_N, probabilities(feature_N2), snr=snr, Teff=random.uniform(4500, 6500, len(class_N))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_bins_are_those_of_counting_by_hand(kind: Kind) -> None:
    table = observed()
    found = choose(table, kind, Search(goal="f1", prior="validation"))
    rows = by_bins(table, found, EDGES)
    frame = table.to_pandas()
    frame["true"] = frame["true_class"].isin(TRUE[kind])
    frame["listed"] = found.passes(frame[["p_mp", "p_cemp", "p_nmp"]].to_numpy())
    frame["snr_bin"] = pd.cut(
        frame["snr"], [-np.inf, 10, 30, np.inf], right=False, labels=["<10", "10-30", ">30"]
    ).astype(str)
    frame["teff_bin"] = pd.cut(
        frame["Teff"], [-np.inf, 5000, 6000, np.inf], right=False, labels=["<5000", "5000-6000", ">6000"]
    ).astype(str)
    assert len(rows) == 2 * 4 * 4
    for row in rows.to_pylist():
        part = frame
        for column, name in (("snr_bin", row["snr"]), ("teff_bin", row["Teff"])):
            part = part if name == "all" else part[part[column] == name]
        asked = part[part["listed"]] if row["metric"] == "purity" else part[part["true"]]
        hits = (asked["true"] & asked["listed"]).sum()
        assert row["n"] == len(asked)
        assert row["few"] == (len(asked) < 5)
        optimism = found.optimism[0 if row["metric"] == "purity" else 1]
        low, high = wilson(hits, len(asked))
        if 10 < hits < len(asked) - 5:
            plain = 1 / (1 + np.exp(-np.log(row["value"] / (1 - row["value"])) - optimism))
            assert plain == pytest.approx(hits / len(asked))
            assert (row["low"], row["high"]) == pytest.approx(
                (float(low), float(high)), abs=0.08
            )  # Jeffreys, less the optimism


def test_the_row_of_all_stars_is_what_the_threshold_promises() -> None:
    table = observed()
    found = choose(
        table,
        "MP",
        Search(goal="f1", prior={"MP": 1, "CEMP": 1, "NMP": 8}),
        mix_of(table, {"MP": 1, "CEMP": 1, "NMP": 8}),
    )
    purity, completeness = by_bins(table, found).to_pylist()[:2]
    for row, told in ((purity, found.purity), (completeness, found.completeness)):
        assert (row["snr"], row["Teff"], row["metric"]) == ("all", "all", told.metric)
        assert row["value"] == pytest.approx(told.value)
        assert (row["low"], row["high"]) == pytest.approx((told.low, told.high), abs=0.02)


def test_noisy_stars_are_found_less_often() -> None:
    table = observed((2000, 2000, 2000))
    rows = by_bins(table, choose(table, "CEMP", Search(goal="f1")), EDGES).to_pylist()
    found = {row["snr"]: row for row in rows if row["Teff"] == "all" and row["metric"] == "completeness"}
    assert found["<10"]["high"] < found[">30"]["low"]


def test_edges_are_written_as_numbers_too_and_open_ones_are_null() -> None:
    rows = by_bins(observed(), choose(observed(), "MP"), EDGES).to_pylist()
    edges = {row["snr"]: (row["snr_low"], row["snr_high"]) for row in rows}
    assert edges == {"all": (None, None), "<10": (None, 10.0), "10-30": (10.0, 30.0), ">30": (30.0, None)}
    assert {row["Teff"]: (row["Teff_low"], row["Teff_high"]) for row in rows}["5000-6000"] == (5000.0, 6000.0)


def test_an_empty_bin_is_null_and_marked() -> None:
    table = observed()
    rows = by_bins(table, choose(table, "MP"), Bins(snr=(1.0,), teff=())).to_pylist()
    empty = [row for row in rows if row["snr"] == "<1"]
    assert [(row["value"], row["low"], row["high"], row["n"], row["few"]) for row in empty] == [
        (None, None, None, 0, True)
    ] * 2


def test_the_signal_to_noise_of_all_visits_comes_first_and_without_any_there_are_no_bins_of_it() -> None:
    table = observed().drop_columns(["Teff"])
    found = choose(table, "MP")
    total = table.append_column("snr_total", pa.array(np.full(table.num_rows, 1e3)))
    filled = {row["snr"] for row in by_bins(total, found, EDGES).to_pylist() if row["n"]}
    assert filled == {"all", ">30"}
    assert {(row["snr"], row["Teff"]) for row in by_bins(table.drop_columns(["snr"]), found).to_pylist()} == {
        ("all", "all")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_runs_through_what_each_threshold_gives(kind: Kind) -> None:
    table = observed()
    found = choose(table, kind, Search(prior="validation"))
    rows = curve(table, found).to_pylist()
    score = found.score(np.stack([table[name].to_numpy() for name in ("p_mp", "p_cemp", "p_nmp")], 1))
    true = np.isin(table["true_class"].to_numpy(), TRUE[kind])
    for row in rows:
        chosen = score >= row["threshold"]
        share = true[chosen].mean() if row["metric"] == "purity" and chosen.any() else chosen[true].mean()
        assert (
            row["value"] is None
            if row["metric"] == "purity" and not chosen.any()
            else row["value"] == pytest.approx(share)
        )
    complete = [row["value"] for row in rows if row["metric"] == "completeness"]
    assert complete[0] == 1
    assert (np.diff(complete) <= 0).all()


def test_tables_have_the_columns_that_they_say_and_no_star_is_no_crash() -> None:
    table = observed((0, 0, 0))
    found = choose(table, "MP")
    assert by_bins(table, found).schema.equals(BINS)
    assert curve(table, found).schema.equals(CURVES)
    assert all(row["value"] is None for row in curve(table, found).to_pylist())
    assert all(field.metadata[b"description"] for field in (*BINS, *CURVES))


def test_edges_have_to_rise() -> None:
    with pytest.raises(
        SettingsError, match=r"catalog: snr: .*edges 10, 5 do not rise; give each above the one before"
    ):
        Bins.checked("catalog", {"snr": [10.0, 5.0]})
