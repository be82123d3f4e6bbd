"""Rows sorted into regions and combined there, against combining all of them at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from survey.catalog.sky import Tiles, make_tiles
from survey.catalog.sorting import PIXEL, stars_by_region
from survey.catalog.stars import Stars, find_stars
from survey.catalog.visits import combine_visits
from survey.labelling import star_id
from survey.predict.output import Predictions
from tests.catalog import skies


def write_survey(
    folder: Path, count: int = 700, seed: int = 1, shard: int = 90
) -> tuple[Predictions, pa.Table]:
    """Visits in random order, a tenth without a position, half without a name."""
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0, 360, count // 2), np.degrees(np.arcsin(random.uniform(-1, 1, count // 2)))
    star = random.integers(0, count // 2, count)
    lost = random.random(count) < 0.1
    names = [f"LAMOST S{number}" if random.random() < 0.5 else None for number in star]
    table = skies.rows(np.where(lost, np.nan, ra[star]), np.where(lost, np.nan, dec[star]), names, seed)
    return skies.write(folder / "predictions", table, shard), table


def stars_and_tiles(predictions: Predictions, max_stars: int = 40) -> tuple[Stars, Tiles]:
    stars = find_stars(predictions)
    return stars, make_tiles(stars.pixel_S[: stars.with_position], max_stars, 12)


def sorted_stars(
    predictions: Predictions,
    scratch: Path,
    rows: int = 100,
    combine: Callable[[pa.Table, np.ndarray], pa.Table] = combine_visits,
) -> list[pa.Table]:
    """The tables of all regions."""
    stars, tiles = stars_and_tiles(predictions)
    return list(stars_by_region(predictions, stars, tiles, combine, scratch, rows))


def test_regions_give_the_same_as_all_rows_at_once(tmp_path: Path) -> None:
    predictions, table = write_survey(tmp_path)
    tables = sorted_stars(predictions, tmp_path / "scratch")
    assert len(tables) > 5
    assert list((tmp_path / "scratch").iterdir()) == []
    regions = pa.concat_tables(tables)
    ra, dec = (table[name].to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
    ids, visit = [table["star"].combine_chunks()], table["visit"].combine_chunks()
    names = star_id.identify(ids, ra, dec, visit)
    _, code = np.unique(names.astype(str), return_inverse=True)
    at_once = combine_visits(table, code)
    assert regions.num_rows == at_once.num_rows
    by_visit = [side.sort_by("visit") for side in (regions, at_once)]
    for name in at_once.column_names:
        first, second = (side[name] for side in by_visit)
        if name in ("ra", "dec"):
            np.testing.assert_allclose(first.to_numpy(), second.to_numpy(), rtol=0, atol=1e-12)
        elif name != "star":
            assert first.combine_chunks().equals(second.combine_chunks()), name
    star_of_visit = dict(zip(table["visit"].to_pylist(), names, strict=True))
    assert [star_of_visit[visit] for visit in regions["visit"].to_pylist()] == regions["star"].to_pylist()


def test_stars_are_ordered_along_the_sky_and_those_without_a_position_come_last(tmp_path: Path) -> None:
    tables = sorted_stars(write_survey(tmp_path)[0], tmp_path / "scratch")
    pixel = pa.concat_tables(tables)[PIXEL]
    known = pixel.drop_null().to_numpy()
    assert pixel.slice(0, len(known)).null_count == 0
    assert 0 < len(known) < len(pixel)
    assert (np.diff(known) >= 0).all()
    assert all(table[PIXEL].null_count in (0, table.num_rows) for table in tables)


def test_a_region_has_complete_tiles_and_about_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    predictions, _ = write_survey(tmp_path)
    _, tiles = stars_and_tiles(predictions)
    rows: list[int] = []

    def combine(table: pa.Table, star_N: np.ndarray) -> pa.Table:
        rows.append(table.num_rows)
        return combine_visits(table, star_N)

    tables = sorted_stars(predictions, tmp_path / "scratch", 100, combine)
    assert sum(rows) == 700
    pixels = [table[PIXEL].to_numpy() for table in tables if table[PIXEL].null_count == 0]
    tile = [np.unique(tiles.tile_of(pixel)) for pixel in pixels]
    assert len(np.concatenate(tile)) == len(np.unique(np.concatenate(tile))) == (tiles.count_T > 0).sum()
    assert all(count <= 100 or len(tile[number]) == 1 for number, count in enumerate(rows[: len(tile)]))
    assert all(count <= 100 for count in rows[len(tile) :])


def test_the_size_of_a_region_does_not_change_the_result(tmp_path: Path) -> None:
    predictions, _ = write_survey(tmp_path, 200)
    small, large = (
        pa.concat_tables(sorted_stars(predictions, tmp_path / "scratch", rows)).combine_chunks()
        for rows in (1, 10**6)
    )
    assert small.equals(large)


def test_predictions_without_a_row_give_a_table_with_all_columns(tmp_path: Path) -> None:
    predictions = skies.write(tmp_path, skies.rows(np.empty(0), np.empty(0), []))
    [empty] = sorted_stars(predictions, tmp_path / "scratch")
    assert empty.num_rows == 0
    assert {PIXEL, "ra", "p_cemp", "n_visits"} <= set(empty.column_names)


def test_a_survey_without_any_position_is_combined_too(tmp_path: Path) -> None:
    nowhere, names = np.full(500, np.nan), [f"S{number // 2}" for number in range(500)]
    predictions = skies.write(tmp_path, skies.rows(nowhere, nowhere, list(names)))
    tables = sorted_stars(predictions, tmp_path / "scratch")
    assert [table.num_rows for table in tables] == [50] * 5
    assert pc.all(pc.equal(pa.concat_tables(tables)["n_visits"], 2)).as_py()


def test_a_shard_that_changes_during_the_work_is_named(tmp_path: Path) -> None:
    predictions, table = write_survey(tmp_path)
    stars, tiles = stars_and_tiles(predictions)
    skies.write(tmp_path / "predictions", table.slice(0, 650), 90)
    regions = stars_by_region(predictions, stars, tiles, combine_visits, tmp_path / "scratch", 100)
    with pytest.raises(ValueError, match=r"part-00007.parquet: is damaged"):
        list(regions)


def test_a_combination_that_loses_stars_is_an_error(tmp_path: Path) -> None:
    predictions, _ = write_survey(tmp_path)
    with pytest.raises(RuntimeError, match=r"stars went in, .* rows came out; please report this"):
        sorted_stars(
            predictions,
            tmp_path / "scratch",
            combine=lambda table, star_N: combine_visits(table, star_N).slice(1),
        )
