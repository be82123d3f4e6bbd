"""The table of metrics by group, and its text."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from survey import labels
from survey.metrics.score import SCHEMA, groups, metrics_table, snr_names
from survey.metrics.settings import ScoreSettings
from survey.metrics.text import metrics_text
from survey.settings import SettingsError
from tests.labelled import changed, labelled_answers

NAMES = ("FeH", "CFe", "CH", "Teff", "logg")


def answers(size: int = 300, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    feh, cfe = rng.uniform(-3.5, 0.3, size), rng.normal(0.3, 0.5, size)
    label = np.stack([feh, cfe, feh + cfe, rng.uniform(4000, 6500, size), rng.uniform(1, 5, size)], 1)
    value = label + rng.normal(0, [0.1, 0.1, 0.1, 80, 0.2], label.shape)
    poor, carbon = 1 / (1 + np.exp((value[:, 0] + 1) / 0.1)), 1 / (1 + np.exp(-(value[:, 1] - 0.7) / 0.1))
    p = np.stack([poor * (1 - carbon), poor * carbon, 1 - poor], 1)
    truth = np.where(rng.random(size) < 0.9, labels.classes(feh, cfe), labels.MISSING)
    label = np.where(rng.random(label.shape) < 0.05, np.nan, label)
    snr = np.where(rng.random(size) < 0.05, np.nan, rng.lognormal(3.3, 0.8, size))
    layout = np.array(["new", "old", None], object)[rng.integers(3, size=size)]
    sigma = np.full(label.shape, 0.2) * [1, 1, 1, 400, 1]
    extra = {"snr": snr, "layout": layout}
    return labelled_answers(truth, label, NAMES, p_NC=p, value_NL=value, sigma_NL=sigma, extra=extra)


@pytest.fixture(scope="module")
def labelled() -> Any:
    return answers()


@pytest.fixture(scope="module")
def table(labelled: Any) -> pa.Table:
    return metrics_table(labelled)


def row_of(table: pa.Table, *key: str) -> dict[str, Any]:
    columns = ("kind", "group", "subject", "metric")
    (only,) = [row for row in table.to_pylist() if tuple(row[name] for name in columns) == key]
    return dict(only)


def test_a_group_has_the_metrics_of_its_spectra(labelled: Any, table: pa.Table) -> None:
    part = (labelled.extra["snr"] >= 20) & (labelled.extra["snr"] < 30)
    known = part & (labelled.class_N >= 0)
    row = row_of(table, "snr", "20-30", "all", "accuracy")
    accuracy = sk.accuracy_score(labelled.class_N[known], labelled.p_NC[known].argmax(1))
    assert row["value"] == pytest.approx(accuracy)
    assert (row["rows"], row["n"]) == (part.sum(), known.sum())
    assert row["low"] <= row["value"] <= row["high"]
    giants = (labelled.label_NL[:, 4] < 4) & np.isfinite(labelled.label_NL[:, 3])
    error = sk.mean_absolute_error(labelled.label_NL[giants, 3], labelled.value_NL[giants, 3])
    assert row_of(table, "gravity", "giant", "Teff", "mae")["value"] == pytest.approx(error)


def test_the_groups_of_a_kind_contain_every_spectrum_once(labelled: Any, table: pa.Table) -> None:
    count_of: dict[str, np.ndarray] = {}
    for kind, _, mask_N in groups(labelled, ScoreSettings()):
        count_of[kind] = count_of.get(kind, np.zeros(len(labelled), int)) + mask_N
    assert set(count_of) == {"all", "snr", "gravity", "iron", "layout"}
    assert all((count == 1).all() for count in count_of.values())
    assert set(table["kind"].to_pylist()) == set(count_of)
    assert {"not known"} < set(table["group"].to_pylist())


def test_an_edge_belongs_to_the_bin_above_and_negative_values_are_unknown() -> None:
    snr_g = np.array([10.0, 9.99, 5000.0, -1.0, np.nan])
    labelled = changed(answers(5), extra={"snr_g": snr_g, "snr": np.zeros(5)})
    rows_of = {
        group: np.flatnonzero(mask_N).tolist()
        for kind, group, mask_N in groups(labelled, ScoreSettings())
        if kind == "snr"
    }
    assert rows_of == {"0-10": [1], "10-20": [0], ">100": [2], "not known": [3, 4]}
    assert snr_names((0.0, 10.0)) == ["0-10", ">10"]
    without_g = changed(labelled, extra={"snr_g": np.full(5, np.nan), "snr": np.full(5, 12.0)})
    bins = [group for kind, group, _ in groups(without_g, ScoreSettings()) if kind == "snr"]
    assert bins == ["10-20"], "a column snr_g without any number counts as missing"


def test_spectra_below_the_first_edge_have_a_bin_of_their_own() -> None:
    labelled = changed(answers(6), extra={"snr": np.array([0.0, 49.9, 50.0, 500.0, -1.0, np.nan])})
    for edges, rows in (((50.0, 100.0), {"<50": 2, "50-100": 1, ">100": 1}), ((60.0,), {"<60": 3, ">60": 1})):
        found = groups(labelled, ScoreSettings(snr=edges))
        counts = {group: int(mask_N.sum()) for kind, group, mask_N in found if kind == "snr"}
        assert counts == rows | {"not known": 2}


def test_empty_groups_are_left_out_and_small_ones_marked() -> None:
    labelled = changed(answers(40), extra={"snr": np.append(np.full(37, 15.0), [55.0] * 3)})
    rows = metrics_table(labelled).to_pylist()
    assert {row["group"] for row in rows if row["kind"] == "snr"} == {"10-20", "50-100"}
    assert all(row["few"] for row in rows if row["group"] == "50-100")
    assert not any(row["few"] for row in rows if row["group"] == "10-20" and row["metric"] == "mae")
    assert row_of(metrics_table(labelled, ScoreSettings(few=100)), "all", "all", "FeH", "mae")["few"]


def test_the_table_is_the_same_after_parquet(table: pa.Table, tmp_path: Path) -> None:
    assert table.schema == SCHEMA
    pq.write_table(table, tmp_path / "metrics.parquet")
    assert pq.read_table(tmp_path / "metrics.parquet").equals(table)
    assert not np.isnan(table["value"].to_numpy()).any()


def test_classes_by_labels_are_compared_like_those_by_probabilities(table: pa.Table) -> None:
    by_p, by_labels = (
        row_of(table, "all", "all", subject, "recall") for subject in ("CEMP", "CEMP by labels")
    )
    assert by_p["n"] == by_labels["n"]
    iron = row_of(table, "all", "all", "[Fe/H] classes", "accuracy")
    assert iron["n"] == row_of(table, "all", "all", "FeH", "mae")["n"]
    identity = row_of(table, "all", "all", "CFe", "identity_rms")
    assert identity["value"] == pytest.approx(0.1 * np.sqrt(3), rel=0.15)


def test_answers_with_only_classes_or_only_labels_have_metrics(labelled: Any) -> None:
    classes_only = metrics_table(changed(labelled, value_NL=None, sigma_NL=None)).to_pylist()
    metrics = {row["metric"] for row in classes_only}
    assert "accuracy" in metrics
    assert "mae" not in metrics
    unknown = np.full(len(labelled), -1)
    labels_only = metrics_table(changed(labelled, p_NC=None, sigma_NL=None, class_N=unknown)).to_pylist()
    assert "coverage_68" not in {row["metric"] for row in labels_only}
    assert {row["subject"] for row in labels_only} >= set(NAMES)
    stars = labelled_answers(
        [0, 1, 4], np.zeros((3, 0)), classes=("M0", "M1", "M2", "M3", "M4"), p_NC=np.eye(5)[[0, 1, 3]]
    )
    assert row_of(metrics_table(stars), "all", "all", "all", "accuracy")["value"] == pytest.approx(2 / 3)
    assert "M4" in metrics_text(metrics_table(stars))


def test_a_missing_true_label_is_taken_from_the_extra_columns() -> None:
    extra = {"logg": np.array([1.0, 2.0, 4.5, 5.0])}
    labelled = changed(answers(4), extra=extra, label_NL=np.full((4, 5), np.nan))
    kinds = [group for kind, group, _ in groups(labelled, ScoreSettings()) if kind == "gravity"]
    assert kinds == ["giant", "dwarf"]
    assert labelled.value("MgFe") is None
    assert labelled.true_label("MgFe") is None
    assert labelled.snr() is None


def test_the_text_has_classes_labels_and_groups_in_short_lines(table: pa.Table) -> None:
    text = metrics_text(table)
    accuracy = row_of(table, "all", "all", "all", "accuracy")
    assert f"accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in text
    line = next(line for line in text.splitlines() if line.startswith("Teff"))
    mae = row_of(table, "all", "all", "Teff", "mae")
    assert line.split()[:3] == ["Teff", "K", str(mae["n"])]
    assert f"{mae['value']:.1f} [" in line
    starts = (
        "evaluation of 300 spectra",
        "  CEMP ",
        "S/N 20-30",
        "gravity giant",
        "[Fe/H] EMP",
        "layout new",
    )
    for start in starts:
        assert any(line.startswith(start) for line in text.splitlines()), start
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 160
    assert not any(line.rstrip() != line for line in text.splitlines())


def test_the_text_marks_numbers_from_few_spectra_and_says_that_there_are_none() -> None:
    assert "* from few spectra" in metrics_text(metrics_table(answers(6)))
    assert "* from few" not in metrics_text(metrics_table(answers(6), ScoreSettings(few=1)))
    nothing = changed(
        answers(6),
        class_N=np.full(6, -1),
        label_NL=np.full((6, 5), np.nan),
        labels=("Teff", "logg", "aFe", "vmic", "rv"),
        extra={},
    )
    assert metrics_table(nothing.at(np.zeros(6, bool))).num_rows == 0
    assert metrics_text(metrics_table(nothing)) == "evaluation: no spectrum has a known class or label"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label_NL": np.zeros((3, 5))},
            r"labels \(truth\) of shape \(3, 5\); 300 spectra with 5 labels need \(300, 5\)",
        ),
        ({"extra": {"snr": np.zeros(2)}}, "column snr has 2 values for 300 spectra"),
        ({"p_NC": None, "value_NL": None}, "neither class probabilities nor labels"),
        ({"class_N": np.zeros(2, int)}, "answers about 300 spectra, the truth of 2"),
        ({"value_NL": np.full((300, 5), np.nan)}, "300 of 300 "),
        ({"class_N": np.full(300, 9)}, "true classes: one is 9"),
    ],
)
def test_answers_and_truth_that_do_not_fit_are_an_error(
    labelled: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        changed(labelled, **changes)


def test_edges_may_be_a_list_and_must_rise() -> None:
    assert ScoreSettings.from_dict("x", {"snr": [0, 10]}).snr == (0, 10)
    with pytest.raises(SettingsError, match="edges 0, 10, 10 do not rise"):
        ScoreSettings.from_dict("x", {"snr": [0, 10, 10]})
    with pytest.raises(SettingsError, match=r"edges \(none\) do not rise"):
        ScoreSettings.from_dict("x", {"snr": []})


def test_the_same_answers_give_the_same_table(labelled: Any, table: pa.Table) -> None:
    assert metrics_table(labelled).equals(table)
