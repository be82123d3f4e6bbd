"""Rows sorted into regions and combined there, against combining all of them at once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from survey.catalog import sky, sorting, stars, visits
from survey.labelling import star_id as identity
from survey.predict.output import Predictions
from tests.catalog import skies


def survey(folder: Path, count: int = 700, seed: int = 1, shard: int = 90) -> tuple[Predictions, pa.Table]:
    """Visits in no order, a tenth without a position, half without a name."""
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0, 360, count // 2), np.degrees(np.arcsin(random.uniform(-1, 1, count // 2)))
    star = random.integers(0, count // 2, count)
    lost = random.random(count) < 0.1
    names = [f"LAMOST S{number}" if random.random() < 0.5 else None for number in star]
    table = skies.rows(np.where(lost, np.nan, ra[star]), np.where(lost, np.nan, dec[star]), names, seed)
    return skies.folder(folder / "predictions", table, shard), table


def sorted_stars(predictions: Predictions, scratch: Path, rows: int = 100, most: int = 40) -> list[pa.Table]:
    found = stars.find(predictions)
    tiles = sky.cut(found.pixel_S[: found.placed], most, 12)
    return list(sorting.by_region(predictions, found, tiles, visits.combined, scratch, rows))


def test_regions_give_what_all_rows_at_once_give(tmp_path: Path) -> None:
    predictions, table = survey(tmp_path)
    parts = sorted_stars(predictions, tmp_path / "scratch")
    assert len(parts) > 5
    assert list((tmp_path / "scratch").iterdir()) == []
    together = pa.concat_tables(parts)
    ra, dec = (table[name].to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
    names = identity.identities([table["star"].combine_chunks()], ra, dec, table["visit"].combine_chunks())
    _, code = np.unique(names.astype(str), return_inverse=True)
    whole = visits.combined(table, code)
    assert together.num_rows == whole.num_rows
    by_visit = [side.sort_by("visit") for side in (together, whole)]
    for name in whole.column_names:
        ours, theirs = (side[name] for side in by_visit)
        if name in ("ra", "dec"):
            np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-12)
        elif name != "star":
            assert ours.combine_chunks().equals(theirs.combine_chunks()), name
    visit_star = dict(zip(table["visit"].to_pylist(), names, strict=True))
    assert [visit_star[visit] for visit in together["visit"].to_pylist()] == together["star"].to_pylist()


def test_stars_come_along_the_sky_and_those_without_a_position_last(tmp_path: Path) -> None:
    parts = sorted_stars(survey(tmp_path)[0], tmp_path / "scratch")
    pixel = pa.concat_tables(parts)[sorting.PIXEL]
    known = pixel.drop_null().to_numpy()
    assert pixel.slice(0, len(known)).null_count == 0
    assert 0 < len(known) < len(pixel)
    assert (np.diff(known) >= 0).all()
    assert all(part[sorting.PIXEL].null_count in (0, part.num_rows) for part in parts)


def test_regions_are_whole_tiles_of_about_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    predictions, _ = survey(tmp_path)
    found = stars.find(predictions)
    tiles = sky.cut(found.pixel_S[: found.placed], 40, 12)
    rows: list[int] = []

    def combine(table: pa.Table, star_N: np.ndarray) -> pa.Table:
        rows.append(table.num_rows)
        return visits.combined(table, star_N)

    parts = list(sorting.by_region(predictions, found, tiles, combine, tmp_path / "scratch", 100))
    assert sum(rows) == 700
    placed = [part[sorting.PIXEL].to_numpy() for part in parts if part[sorting.PIXEL].null_count == 0]
    tile = [np.unique(tiles.of(pixel)) for pixel in placed]
    assert len(np.concatenate(tile)) == len(np.unique(np.concatenate(tile))) == (tiles.count_T > 0).sum()
    assert all(count <= 100 or len(tile[number]) == 1 for number, count in enumerate(rows[: len(tile)]))
    assert all(count <= 100 for count in rows[len(tile) :])


def test_the_same_tables_come_out_whatever_the_size_of_a_region(tmp_path: Path) -> None:
    predictions, _ = survey(tmp_path)
    small, large = (
        pa.concat_tables(sorted_stars(predictions, tmp_path / "scratch", rows)).combine_chunks()
        for rows in (1, 10**6)
    )
    assert small.equals(large)


def test_predictions_without_a_row_give_a_table_with_all_columns(tmp_path: Path) -> None:
    predictions = skies.folder(tmp_path, skies.rows(np.empty(0), np.empty(0), []))
    [empty] = sorted_stars(predictions, tmp_path / "scratch")
    assert empty.num_rows == 0
    assert {sorting.PIXEL, "ra", "p_cemp", "n_visits"} <= set(empty.column_names)


def test_a_survey_without_any_position_is_combined_as_well(tmp_path: Path) -> None:
    nowhere = np.full(500, np.nan)
    predictions = skies.folder(
        tmp_path, skies.rows(nowhere, nowhere, [f"S{number // 2}" for number in range(500)])
    )
    parts = sorted_stars(predictions, tmp_path / "scratch")
    assert [part.num_rows for part in parts] == [50] * 5
    assert pc.all(pc.equal(pa.concat_tables(parts)["n_visits"], 2)).as_py()


def test_a_shard_that_changes_meanwhile_is_named(tmp_path: Path) -> None:
    predictions, table = survey(tmp_path)
    found = stars.find(predictions)
    skies.folder(tmp_path / "predictions", table.slice(0, 650), 90)
    with pytest.raises(ValueError, match=r"predictions: shard 7 has 20 rows now, 70 before; run it again"):
        list(
            sorting.by_region(
                predictions,
                found,
                sky.cut(found.pixel_S[: found.placed], 40, 12),
                visits.combined,
                tmp_path / "scratch",
                100,
            )
        )


def test_a_combination_that_loses_stars_is_found_out(tmp_path: Path) -> None:
    predictions, _ = survey(tmp_path)
    found = stars.find(predictions)
    tiles = sky.cut(found.pixel_S[: found.placed], 40, 12)
    with pytest.raises(RuntimeError, match=r"stars went in, .* rows came out; please report this"):
        list(
            sorting.by_region(
                predictions,
                found,
                tiles,
                lambda table, star: visits.combined(table, star).slice(1),
                tmp_path / "scratch",
            )
        )
