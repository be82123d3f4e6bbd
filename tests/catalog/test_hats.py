"""The HATS catalog as lsdb, hats-import, mocpy and duckdb read it; searches against brute force."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse
from astropy.table import Table
from astropy.units import arcsec, deg
from mocpy import MOC
from upath import UPath

from survey.catalog import hats, sky
from survey.catalog.hats import HatsCounts, HatsWriter
from survey.catalog.sorting import PIXEL, PIXEL_FIELD, stars_by_region
from survey.catalog.stars import find_stars
from survey.catalog.visits import combine_visits
from tests.catalog import skies

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the libraries that read
ORIGIN = {"begun": "2026-01-01T00:00UTC", "ensemble": "0123abcd", "store": "feed5678", "recipe": "a\\b"}
COLUMNS = ["visit", "ra", "dec"]
PLACES = [(0.0, 0.0), (0.0, 90.0), (45.0, 41.81), (120.0, -30.0)]


def write(
    folder: Path, table: pa.Table, max_stars: int = 120, margin: float = 10.0, rows: int = 500
) -> HatsCounts:
    """Write the catalog of these predictions."""
    predictions = skies.write(folder / "predictions", table, 400)
    stars = find_stars(predictions)
    pixel_S = stars.pixel_S[: stars.with_position]
    tiles = sky.make_tiles(pixel_S, max_stars, sky.margin_order(margin) - 1)
    writer = HatsWriter(folder, tiles, ORIGIN, margin)
    for region in stars_by_region(predictions, stars, tiles, combine_visits, folder / "scratch", rows):
        writer.add(region)
    return writer.finish()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HatsCounts]:
    """Over a thousand stars: everywhere, in crowds at 0 h, a pole, a corner; five without a position."""
    random = np.random.default_rng(8)
    crowds = [skies.cluster(ra, dec, 250, 300, seed) for seed, (ra, dec) in enumerate(PLACES)]
    ra = np.concatenate([random.uniform(0, 360, 400), *(crowd[0] for crowd in crowds), np.full(5, np.nan)])
    dec = np.concatenate(
        [
            np.degrees(np.arcsin(random.uniform(-1, 1, 400))),
            *(crowd[1] for crowd in crowds),
            np.full(5, np.nan),
        ]
    )
    folder = tmp_path_factory.mktemp("catalog")
    return folder, write(folder, skies.rows(ra, dec, [None] * len(ra)))


@pytest.fixture(scope="module")
def lsdb() -> Iterator[Any]:
    """The library lsdb, on one thread. It compiles nothing: small skies take less time without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        reader = pytest.importorskip("lsdb")
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield reader


@pytest.fixture(scope="module")
def frame(catalog: tuple[Path, HatsCounts]) -> pd.DataFrame:
    """All stars, read file by file."""
    files = sorted((catalog[0] / "hats" / "stars" / "dataset").rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    return pd.DataFrame(table.to_pandas())


def test_lsdb_opens_the_catalog_with_all_stars_and_a_margin(
    catalog: tuple[Path, HatsCounts], lsdb: Any, frame: pd.DataFrame
) -> None:
    folder, counts = catalog
    opened = lsdb.open_catalog(folder / "hats")
    assert len(opened) == len(frame) == counts.stars - counts.no_position
    assert counts.no_position == 5
    assert len(opened.get_healpix_pixels()) == counts.tiles > 15
    assert opened.hc_structure.catalog_info.hats_max_rows <= 120
    assert len(opened.margin) == counts.margin > 25
    assert opened.margin.hc_structure.catalog_info.margin_threshold == 10
    stars = opened.compute()
    assert sorted(stars["visit"]) == sorted(frame["visit"])
    assert stars.index.is_monotonic_increasing or stars.index.name == PIXEL


@pytest.mark.parametrize(("ra", "dec"), PLACES)
def test_a_cone_search_gives_the_stars_that_brute_force_finds(
    catalog: tuple[Path, HatsCounts], lsdb: Any, frame: pd.DataFrame, ra: float, dec: float
) -> None:
    distance = positions(frame).separation(SkyCoord(ra * deg, dec * deg)).arcsec
    opened = lsdb.open_catalog(catalog[0] / "hats", columns=COLUMNS)
    in_cone = opened.cone_search(ra, dec, 150).compute()
    assert len(in_cone) > 30
    assert sorted(in_cone["visit"]) == sorted(frame["visit"][distance <= 150])


def positions(frame: pd.DataFrame) -> SkyCoord:
    return SkyCoord(frame["ra"].to_numpy() * deg, frame["dec"].to_numpy() * deg)


@pytest.mark.long
def test_a_match_across_edges_gives_the_pairs_that_brute_force_finds(
    catalog: tuple[Path, HatsCounts], lsdb: Any, frame: pd.DataFrame
) -> None:
    """The catalog is the right side: its margin has the stars beyond an edge. Lsdb makes the left side."""
    random = np.random.default_rng(5)
    crowds = [skies.cluster(ra, dec, 500, 320, 50 + seed, apart=0) for seed, (ra, dec) in enumerate(PLACES)]
    angle, distance = random.uniform(0, 360, 300) * deg, random.uniform(0, 9, 300) * arcsec
    near = positions(frame)[:300].directional_offset_by(angle, distance)
    ra = np.concatenate([*(crowd[0] for crowd in crowds), near.ra.deg])
    dec = np.concatenate([*(crowd[1] for crowd in crowds), near.dec.deg])
    points = pd.DataFrame({"number": np.arange(len(ra)), "ra": ra, "dec": dec})
    left = lsdb.from_dataframe(points, margin_threshold=None)
    right = lsdb.open_catalog(catalog[0] / "hats", columns=COLUMNS)
    matched = left.crossmatch(right, radius_arcsec=9.5, suffixes=("_left", "_right")).compute()
    nearest, distance, _ = SkyCoord(ra * deg, dec * deg).match_to_catalog_sky(positions(frame))
    hit = distance.arcsec <= 9.5
    visits = frame["visit"].to_numpy()[nearest[hit]].tolist()
    pairs = dict(zip(np.flatnonzero(hit).tolist(), visits, strict=True))
    assert len(pairs) > 400
    number = next(name for name in matched.columns if name.startswith("number"))
    visit = next(name for name in matched.columns if name.startswith("visit"))
    assert dict(zip(matched[number], matched[visit], strict=True)) == pairs
    tiles = sky.make_tiles(frame[PIXEL].sort_values().to_numpy(), 120, sky.margin_order(10) - 1)
    tile = tiles.tile_of(sky.pixels(ra[hit], dec[hit]))
    assert (tile != tiles.tile_of(frame[PIXEL].to_numpy()[nearest[hit]])).sum() > 8


@pytest.mark.parametrize("part", [".", "stars", "stars_10arcs"])
def test_the_catalog_passes_the_verification_of_hats_import(
    catalog: tuple[Path, HatsCounts], part: str, tmp_path: Path
) -> None:
    verification = pytest.importorskip("hats_import.verification.run_verification")
    from hats_import.verification.arguments import VerificationArguments

    arguments = VerificationArguments(
        input_catalog_path=UPath(catalog[0] / "hats" / part),
        output_path=UPath(tmp_path),
        check_metadata=True,
        verbose=False,
    )
    results = verification.run(arguments).results
    assert len(results) >= 7
    assert [(result.test, result.target) for result in results if not result.passed] == []


def test_columns_keep_their_description_and_origin_in_each_file(catalog: tuple[Path, HatsCounts]) -> None:
    dataset = catalog[0] / "hats" / "stars" / "dataset"
    footers = (dataset / "_common_metadata", dataset / "_metadata")
    for file in (*footers, next(dataset.rglob("*.parquet")), catalog[0] / "no_position.parquet"):
        schema = pq.read_schema(file)
        assert schema.field("Teff").metadata == {
            b"description": b"effective temperature",
            b"unit": b"K",
            b"ucd": b"phys.temperature.effective",
        }
        assert all(b"description" in field.metadata for field in schema)
        assert schema.metadata[b"ensemble"] == b"0123abcd"
        assert schema.metadata[b"store"] == b"feed5678"


def test_tiles_are_sorted_by_the_column_that_the_format_names(catalog: tuple[Path, HatsCounts]) -> None:
    for part in ("stars", "stars_10arcs"):
        for file in (catalog[0] / "hats" / part / "dataset").rglob("*.parquet"):
            pixel = pq.read_table(file, columns=[PIXEL], partitioning=None)[PIXEL].to_numpy()
            order, number = int(file.parts[-3].removeprefix("Norder=")), int(file.stem.removeprefix("Npix="))
            assert (np.diff(pixel) >= 0).all()
            assert ((pixel >> 2 * (29 - order)) == number).all() == (part == "stars")


def test_duckdb_pandas_and_astropy_read_the_tiles(
    catalog: tuple[Path, HatsCounts], frame: pd.DataFrame
) -> None:
    duckdb = pytest.importorskip("duckdb")
    dataset = catalog[0] / "hats" / "stars" / "dataset"
    [(count, best)] = duckdb.sql(
        f"select count(*), max(p_cemp) from read_parquet('{dataset}/**/*.parquet')"
    ).fetchall()
    assert count == len(frame)
    assert best == pytest.approx(frame["p_cemp"].max())
    file = next(dataset.rglob("*.parquet"))
    assert pd.read_parquet(file, columns=["ra"])["ra"].between(0, 360).all()
    assert (Table.read(file, format="parquet")["dec"] <= 90).all()
    head = parse(io.BytesIO(pq.read_schema(file).metadata[b"IVOA.VOTable-Parquet.content"])).get_first_table()
    assert head.get_field_by_id_or_name("Teff").unit == "K"


def test_the_maps_show_the_positions_of_the_stars(
    catalog: tuple[Path, HatsCounts], lsdb: Any, frame: pd.DataFrame
) -> None:
    occupied = np.unique(sky.pixels(frame["ra"], frame["dec"], hats.MAP_ORDER))
    moc = MOC.from_fits(catalog[0] / "hats" / "stars" / "moc.fits")
    assert np.array_equal(np.sort(moc.flatten()), occupied)
    structure = lsdb.open_catalog(catalog[0] / "hats").hc_structure
    assert structure.moc == moc
    assert structure.catalog_info.moc_sky_fraction == pytest.approx(moc.sky_fraction, abs=1e-6)
    from hats.io.skymap import read_skymap

    assert read_skymap(structure, 3).sum() == len(frame)


def test_stars_without_a_position_have_their_own_file(catalog: tuple[Path, HatsCounts]) -> None:
    table = pq.read_table(catalog[0] / "no_position.parquet")
    assert table.num_rows == 5
    assert PIXEL not in table.column_names
    assert table["ra"].null_count == 5


def test_no_star_at_all_gives_an_empty_catalog_that_can_be_opened(tmp_path: Path) -> None:
    reader = pytest.importorskip("hats")
    from hats.io.validation import is_valid_catalog

    counts = write(tmp_path, skies.rows(np.empty(0), np.empty(0), []))
    assert counts == HatsCounts(0, 0, 0, 0)
    assert is_valid_catalog(tmp_path / "hats")
    assert len(reader.read_hats(tmp_path / "hats").main_catalog.get_healpix_pixels()) == 0
    assert "p_cemp" in pq.read_schema(tmp_path / "hats" / "stars" / "dataset" / "_common_metadata").names


@pytest.mark.parametrize("margin", [0.0, 2.5])
def test_the_margin_can_be_chosen(tmp_path: Path, margin: float, lsdb: Any) -> None:
    ra, dec = skies.cluster(10, 20, 300, 100, 2)
    write(tmp_path, skies.rows(ra, dec, [None] * len(ra)), margin=margin)
    opened = lsdb.open_catalog(tmp_path / "hats")
    assert len(opened) == len(ra)
    names = {path.name for path in (tmp_path / "hats").iterdir()}
    assert names == {"collection.properties", "stars"} | ({"stars_2_5arcs"} if margin else set())
    assert (opened.margin is None) == (margin == 0)


def test_stars_out_of_order_and_changing_columns_are_refused(tmp_path: Path) -> None:
    table = pa.table({PIXEL: pa.array([5, 3]), "ra": [1.0, 2.0]})
    ra = pa.field("ra", pa.float64(), metadata={"description": "position"})
    table = table.cast(pa.schema([PIXEL_FIELD, ra]))
    writer = HatsWriter(tmp_path, sky.make_tiles(np.array([3, 5]), 10, 5), ORIGIN)
    with pytest.raises(ValueError, match="stars are not in the order of the sky; sort them by their pixels"):
        writer.add(table)
    with pytest.raises(ValueError, match="columns change: ra; give each table the same columns"):
        writer.add(table.drop_columns(["ra"]))
    with pytest.raises(ValueError, match="no table of stars was added; add at least an empty one"):
        HatsWriter(tmp_path / "other", sky.make_tiles(np.empty(0, np.int64), 10, 5), ORIGIN).finish()
