"""The pictures of lists beside the truth: who is found, missed and wrongly listed, and where."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.metrics.intervals import wilson
from survey.reports.truth_plots import plot_truth
from tests.catalog.test_catalog import all_stars, run, write_survey


def test_the_table_has_each_star_of_known_class_with_its_true_labels(result: CatalogResult) -> None:
    table = result.table("truth_stars.parquet")
    assert table is not None
    stars = {row["star"]: row for row in all_stars(result).to_pylist()}
    truth = pq.read_table(Path(result.folder) / "truth.parquet").to_pylist()
    assert set(table["star"].to_pylist()) == set(stars)
    for row in table.to_pylist()[::50]:
        assert row["FeH"] == stars[row["star"]]["FeH"]
        assert row["cemp_candidate"] == stars[row["star"]]["cemp_candidate"]
        assert row["belongs_cemp"] == (row["true_FeH"] < -1 and row["true_CFe"] >= 0.7)
        assert row["belongs_mp"] == (row["true_FeH"] < -1)
    for measure in truth:
        belongs, listed = (
            np.asarray(table[column].to_numpy(zero_copy_only=False), bool)
            for column in (f"belongs_{measure['search'].lower()}", f"{measure['search'].lower()}_candidate")
        )
        n = listed.sum() if measure["metric"] == "purity" else belongs.sum()
        assert (measure["hits"], measure["n"]) == ((belongs & listed).sum(), n)


def flags(result: CatalogResult, name: str) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    table = result.table("truth_stars.parquet")
    assert table is not None
    belongs, listed = (
        np.asarray(table[column].to_numpy(zero_copy_only=False), bool)
        for column in (f"belongs_{name.lower()}", f"{name.lower()}_candidate")
    )
    return table, belongs, listed


def test_found_missed_and_wrongly_listed_stars_are_at_their_labels(
    result: CatalogResult, figures: list[Figure]
) -> None:
    assert list(plot_truth(result)) == ["MP", "CEMP"]
    table, belongs, listed = flags(result, "CEMP")
    parts = {"found": belongs & listed, "missed": belongs & ~listed, "wrongly listed": listed & ~belongs}
    panels = {axis.get_xlabel(): axis for axis in figures[1].axes}
    for xlabel, prefix in (("true [Fe/H] (dex)", "true_"), ("[Fe/H] (dex)", "")):
        axis = panels[xlabel]
        drawn = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axis.get_lines()}
        assert set(drawn) == {text for text, part in parts.items() if part.any()}
        for text, points in drawn.items():
            chosen = table.filter(pa.array(parts[text]))
            expected = np.stack([chosen[f"{prefix}FeH"].to_numpy(), chosen[f"{prefix}CFe"].to_numpy()], 1)
            assert points == pytest.approx(expected)
    title = figures[1].get_suptitle()
    assert all(f"{part.sum():,} {text}" in title for text, part in parts.items())


def test_the_bars_count_what_the_listed_stars_are(result: CatalogResult, figures: list[Figure]) -> None:
    plot_truth(result)
    table, _, listed = flags(result, "MP")
    chosen = table.filter(pa.array(listed)).to_pylist()
    axis = figures[0].axes[0]
    lengths = [bar.get_width() for bar in axis.patches]  # type: ignore[attr-defined]
    counts = [
        sum(row["belongs_cemp"] for row in chosen),
        sum(row["belongs_mp"] and not row["belongs_cemp"] for row in chosen),
        sum(not row["belongs_mp"] for row in chosen),
    ]
    assert lengths == counts
    low, high = wilson(counts[1], len(chosen))
    share = f"{counts[1]:,}: {counts[1] / len(chosen):.0%} ({float(low):.0%} to {float(high):.0%})"
    assert axis.texts[1].get_text() == share


def test_shares_by_signal_to_noise_have_wilson_intervals(
    result: CatalogResult, figures: list[Figure]
) -> None:
    plot_truth(result)
    table, belongs, listed = flags(result, "MP")
    snr = table["snr_total"].to_numpy()
    axis = next(axis for axis in figures[0].axes if axis.get_ylabel() == "share")
    completeness = next(each for each in axis.containers if each.get_label() == "completeness")
    points = np.asarray(completeness[0].get_xydata())
    ends = np.array(completeness[2][0].get_segments())[:, :, 1]
    edges = np.quantile(snr[belongs], np.linspace(0, 1, len(points) + 1)[1:-1])
    bins = np.searchsorted(edges, snr, "right")
    for place, (share, (low, high)) in enumerate(zip(points[:, 1], ends, strict=True)):
        here = belongs & (bins == place)
        hits = (here & listed).sum()
        assert share == pytest.approx(hits / here.sum())
        assert (low, high) == pytest.approx(tuple(map(float, wilson(hits, here.sum()))))


def test_without_truth_there_is_no_picture(tmp_path: Path, figures: list[Figure]) -> None:
    write_survey(tmp_path)
    assert plot_truth(run(tmp_path, exports=[])) == {}
    assert figures == []


def test_a_truth_without_carbon_judges_the_metal_poor_list_only(
    tmp_path: Path, figures: list[Figure]
) -> None:
    write_survey(tmp_path)
    lines = [line.rsplit(",", 1)[0] for line in (tmp_path / "truth.csv").read_text().splitlines()]
    (tmp_path / "iron.csv").write_text("\n".join(lines) + "\n")
    assert list(plot_truth(run(tmp_path, exports=[], truth=str(tmp_path / "iron.csv")))) == ["MP"]
    names = [text.get_text() for text in figures[0].axes[0].get_yticklabels()]
    assert names[-1] == "MP or CEMP"
