"""The table of metrics by group, and the summary that people read."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from survey import labels
from survey.metrics.score import SCHEMA, Evaluation, Judged, evaluated, groups, snr_names, text
from survey.settings import SettingsError

NAMES = ("FeH", "CFe", "CH", "Teff", "logg")


def judged(size: int = 300, seed: int = 0) -> Judged:
    rng = np.random.default_rng(seed)
    feh, cfe = rng.uniform(-3.5, 0.3, size), rng.normal(0.3, 0.5, size)
    label = np.stack([feh, cfe, feh + cfe, rng.uniform(4000, 6500, size), rng.uniform(1, 5, size)], 1)
    mu = label + rng.normal(0, [0.1, 0.1, 0.1, 80, 0.2], label.shape)
    poor, carbon = 1 / (1 + np.exp((mu[:, 0] + 1) / 0.1)), 1 / (1 + np.exp(-(mu[:, 1] - 0.7) / 0.1))
    p = np.stack([poor * (1 - carbon), poor * carbon, 1 - poor], 1)
    truth = np.where(rng.random(size) < 0.9, labels.classes(feh, cfe), labels.MISSING)
    label = np.where(rng.random(label.shape) < 0.05, np.nan, label)
    snr = np.where(rng.random(size) < 0.05, np.nan, rng.lognormal(3.3, 0.8, size))
    about: dict[str, Any] = {
        "snr": snr,
        "layout": np.array(["new", "old", None], object)[rng.integers(3, size=size)],
    }
    return Judged(truth, label, NAMES, p, mu, np.full(label.shape, 0.2) * [1, 1, 1, 400, 1], about=about)


@pytest.fixture(scope="module")
def whole() -> Judged:
    return judged()


@pytest.fixture(scope="module")
def table(whole: Judged) -> pa.Table:
    return evaluated(whole)


def value(table: pa.Table, *key: str) -> dict[str, Any]:
    found = [
        row for row in table.to_pylist() if (row["kind"], row["group"], row["subject"], row["metric"]) == key
    ]
    assert len(found) == 1, key
    return found[0]


def test_every_group_holds_what_its_spectra_alone_would_give(whole: Judged, table: pa.Table) -> None:
    part = (whole.about["snr"] >= 20) & (whole.about["snr"] < 30)
    known = part & (whole.class_N >= 0)
    row = value(table, "snr", "20-30", "all", "accuracy")
    assert whole.p_NC is not None
    assert whole.mu_NL is not None
    assert row["value"] == pytest.approx(sk.accuracy_score(whole.class_N[known], whole.p_NC[known].argmax(1)))
    assert (row["rows"], row["n"]) == (part.sum(), known.sum())
    assert row["low"] <= row["value"] <= row["high"]
    giants = whole.label_NL[:, 4] < 4
    told = giants & np.isfinite(whole.label_NL[:, 3])
    error = sk.mean_absolute_error(whole.label_NL[told, 3], whole.mu_NL[told, 3])
    assert value(table, "gravity", "giant", "Teff", "mae")["value"] == pytest.approx(error)


def test_groups_of_a_kind_hold_every_spectrum_once(whole: Judged, table: pa.Table) -> None:
    seen: dict[str, np.ndarray] = {}
    for kind, _, chosen in groups(whole, Evaluation()):
        seen[kind] = seen.get(kind, 0) + chosen.astype(int)
    assert set(seen) == {"all", "snr", "gravity", "iron", "layout"}
    assert all((count == 1).all() for count in seen.values())
    assert set(table["kind"].to_pylist()) == set(seen)
    assert {"not known"} < set(table["group"].to_pylist())


def test_edges_belong_to_the_bin_above_and_what_lies_below_the_first_is_not_known() -> None:
    some = judged(5)
    some = replace(some, about={"snr_g": np.array([10.0, 9.99, 5000.0, -1.0, np.nan]), "snr": np.zeros(5)})
    found = {
        group: np.flatnonzero(chosen).tolist()
        for kind, group, chosen in groups(some, Evaluation())
        if kind == "snr"
    }
    assert found == {"0-10": [1], "10-20": [0], ">100": [2], "not known": [3, 4]}
    assert snr_names((0.0, 10.0)) == ["0-10", ">10"]
    other = replace(some, about={"snr_g": np.full(5, np.nan), "snr": np.full(5, 12.0)})
    assert [group for kind, group, _ in groups(other, Evaluation()) if kind == "snr"] == ["10-20"], (
        "a g band that nobody has is no g band"
    )


def test_empty_groups_are_left_out_and_small_ones_marked() -> None:
    some = judged(40)
    some = replace(some, about={"snr": np.append(np.full(37, 15.0), [55.0] * 3)})
    rows = evaluated(some).to_pylist()
    assert {row["group"] for row in rows if row["kind"] == "snr"} == {"10-20", "50-100"}
    assert all(row["few"] for row in rows if row["group"] == "50-100")
    assert not any(row["few"] for row in rows if row["group"] == "10-20" and row["metric"] == "mae")
    assert value(evaluated(some, Evaluation(few=100)), "all", "all", "FeH", "mae")["few"]


def test_the_table_survives_parquet(table: pa.Table, tmp_path: Any) -> None:
    assert table.schema == SCHEMA
    pq.write_table(table, tmp_path / "metrics.parquet")
    assert pq.read_table(tmp_path / "metrics.parquet").equals(table)
    assert not np.isnan(table["value"].to_numpy()).any()


def test_carbon_stars_by_labels_stand_beside_those_by_probabilities(table: pa.Table) -> None:
    by_class, by_labels = (
        value(table, "all", "all", subject, "recall") for subject in ("CEMP", "CEMP by labels")
    )
    assert by_class["n"] == by_labels["n"]
    assert (
        value(table, "all", "all", "[Fe/H] classes", "accuracy")["n"]
        == value(table, "all", "all", "FeH", "mae")["n"]
    )
    assert value(table, "all", "all", "CFe", "identity_rms")["value"] == pytest.approx(
        0.1 * np.sqrt(3), rel=0.15
    )


def test_classes_alone_and_labels_alone_are_judged_too(whole: Judged) -> None:
    kinds = {row["metric"] for row in evaluated(replace(whole, mu_NL=None, sigma_NL=None)).to_pylist()}
    assert "accuracy" in kinds
    assert "mae" not in kinds
    alone = evaluated(replace(whole, p_NC=None, sigma_NL=None, class_N=np.full(len(whole), -1))).to_pylist()
    assert "coverage_68" not in {row["metric"] for row in alone}
    assert {row["subject"] for row in alone} >= set(NAMES)
    stars = Judged(
        np.array([0, 1, 4]),
        np.zeros((3, 0)),
        p_NC=np.eye(5)[[0, 1, 3]],
        classes=("M0", "M1", "M2", "M3", "M4"),
    )
    assert value(evaluated(stars), "all", "all", "all", "accuracy")["value"] == pytest.approx(2 / 3)
    assert "M4" in text(evaluated(stars))


def test_truth_that_labels_lack_is_taken_from_beside_them() -> None:
    some = judged(4)
    some = replace(some, about={"logg": np.array([1.0, 2.0, 4.5, 5.0])}, label_NL=np.full((4, 5), np.nan))
    assert [group for kind, group, _ in groups(some, Evaluation()) if kind == "gravity"] == ["giant", "dwarf"]
    assert some.said("MgFe") is None
    assert some.truth("MgFe") is None
    assert some.snr() is None


def test_the_summary_tells_classes_labels_and_groups_in_lines_for_a_mail(table: pa.Table) -> None:
    told = text(table)
    accuracy = value(table, "all", "all", "all", "accuracy")
    assert f"accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in told
    line = next(line for line in told.splitlines() if line.startswith("Teff"))
    assert line.split()[:3] == ["Teff", "K", str(value(table, "all", "all", "Teff", "mae")["n"])]
    assert f"{value(table, 'all', 'all', 'Teff', 'mae')['value']:.1f} [" in line
    for start in (
        "evaluation of 300 spectra",
        "  CEMP ",
        "S/N 20-30",
        "gravity giant",
        "[Fe/H] EMP",
        "layout new",
    ):
        assert any(line.startswith(start) for line in told.splitlines()), start
    assert told.isascii()
    assert max(map(len, told.splitlines())) < 160
    assert not any(line.rstrip() != line for line in told.splitlines())


def test_the_summary_marks_what_rests_on_few_and_says_when_there_is_nothing() -> None:
    small = text(evaluated(judged(6)))
    assert "* from few spectra" in small
    assert "* from few" not in text(evaluated(judged(6), Evaluation(few=1)))
    nothing = judged(6)
    nothing = replace(
        nothing,
        class_N=np.full(6, -1),
        label_NL=np.full((6, 5), np.nan),
        labels=("Teff", "logg", "aFe", "vmic", "rv"),
        about={},
    )
    assert evaluated(nothing.of(np.zeros(6, bool))).num_rows == 0
    assert text(evaluated(nothing)) == "evaluation: no spectrum has a known class or label"


def test_answers_that_do_not_fit_are_said_when_they_are_put_together(whole: Judged) -> None:
    for change, told in (
        (
            {"mu_NL": np.zeros((3, 5))},
            r"labels \(mu\) of shape \(3, 5\); 300 spectra with 5 labels need \(300, 5\)",
        ),
        ({"about": {"snr": np.zeros(2)}}, "column snr of 2 values beside 300 spectra"),
        ({"p_NC": None, "mu_NL": None}, "neither class probabilities nor labels"),
        ({"p_NC": np.full((2, 3), 1 / 3)}, "2 rows of probabilities beside 300 spectra"),
        ({"mu_NL": np.full((300, 5), np.nan)}, "300 of 300 predictions are not finite"),
        ({"class_N": np.full(300, 9)}, "a true class is 9"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(whole, **change)


def test_settings_take_lists_and_refuse_edges_that_do_not_rise() -> None:
    assert Evaluation.checked("x", {"snr": [0, 10]}).snr == (0, 10)
    with pytest.raises(SettingsError, match="edges 0, 10, 10 do not rise"):
        Evaluation.checked("x", {"snr": [0, 10, 10]})
    with pytest.raises(SettingsError, match=r"edges \(none\) do not rise"):
        Evaluation.checked("x", {"snr": []})


def test_the_same_answers_give_the_same_table(whole: Judged, table: pa.Table) -> None:
    assert evaluated(whole).equals(table)
