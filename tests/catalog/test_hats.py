"""The HATS catalog as others read it: lsdb, hats-import's verification, mocpy, duckdb; searches and matches against brute force."""

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

from survey.catalog import hats, sky, sorting, stars, visits
from tests.catalog import skies

pytestmark = pytest.mark.filterwarnings("ignore")  # of the readers, whose warnings are theirs
ABOUT = {"ensemble": "0123abcd", "store": "feed5678", "recipe": "a\\b"}
SOME = ["visit", "ra", "dec"]
PLACES = [(0.0, 0.0), (0.0, 90.0), (45.0, 41.81), (120.0, -30.0)]


def write(
    folder: Path, table: pa.Table, most: int = 120, margin: float = 10.0, rows: int = 500
) -> hats.Written:
    """The catalog of these predictions."""
    predictions = skies.folder(folder / "predictions", table, 400)
    found = stars.find(predictions)
    tiles = sky.cut(found.pixel_S[: found.placed], most, sky.margin_order(margin) - 1)
    writer = hats.Writer(folder, tiles, ABOUT, margin)
    for part in sorting.by_region(predictions, found, tiles, visits.combined, folder / "scratch", rows):
        writer.add(part)
    return writer.finish()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, hats.Written]:
    """A few thousand stars: everywhere, and crowded at 0 h, at a pole, where base pixels meet; five without a position."""
    random = np.random.default_rng(8)
    crowds = [skies.cluster(ra, dec, 500, 300, seed) for seed, (ra, dec) in enumerate(PLACES)]
    ra = np.concatenate([random.uniform(0, 360, 800), *(crowd[0] for crowd in crowds), np.full(5, np.nan)])
    dec = np.concatenate(
        [
            np.degrees(np.arcsin(random.uniform(-1, 1, 800))),
            *(crowd[1] for crowd in crowds),
            np.full(5, np.nan),
        ]
    )
    folder = tmp_path_factory.mktemp("catalog")
    return folder, write(folder, skies.rows(ra, dec, [None] * len(ra)))


@pytest.fixture(scope="module")
def lsdb() -> Iterator[Any]:
    """lsdb on one thread."""
    reader = pytest.importorskip("lsdb")
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield reader


@pytest.fixture(scope="module")
def frame(made: tuple[Path, hats.Written]) -> pd.DataFrame:
    """All stars, read file by file."""
    files = sorted((made[0] / "hats" / "stars" / "dataset").rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]).to_pandas()


def test_lsdb_opens_it_with_all_stars_and_a_margin(
    made: tuple[Path, hats.Written], lsdb: Any, frame: pd.DataFrame
) -> None:
    folder, written = made
    catalog = lsdb.open_catalog(folder / "hats")
    assert len(catalog) == len(frame) == written.stars - written.unplaced
    assert written.unplaced == 5
    assert len(catalog.get_healpix_pixels()) == written.tiles > 30
    assert catalog.hc_structure.catalog_info.hats_max_rows <= 120
    assert len(catalog.margin) == written.margin > 100
    assert catalog.margin.hc_structure.catalog_info.margin_threshold == 10
    whole = catalog.compute()
    assert sorted(whole["visit"]) == sorted(frame["visit"])
    assert whole.index.is_monotonic_increasing or whole.index.name == sorting.PIXEL


@pytest.mark.parametrize(("ra", "dec"), PLACES)
def test_a_cone_holds_what_brute_force_finds(
    made: tuple[Path, hats.Written], lsdb: Any, frame: pd.DataFrame, ra: float, dec: float
) -> None:
    far = (
        SkyCoord(frame["ra"].to_numpy() * deg, frame["dec"].to_numpy() * deg)
        .separation(SkyCoord(ra * deg, dec * deg))
        .arcsec
    )
    found = lsdb.open_catalog(made[0] / "hats", columns=SOME).cone_search(ra, dec, 150).compute()
    assert len(found) > 50
    assert sorted(found["visit"]) == sorted(frame["visit"][far <= 150])


def test_a_match_across_edges_finds_what_brute_force_finds(
    made: tuple[Path, hats.Written], lsdb: Any, frame: pd.DataFrame
) -> None:
    """Our stars are the right side: the margin is what finds them beyond an edge. The left side is lsdb's own."""
    random = np.random.default_rng(5)
    parts = [skies.cluster(ra, dec, 1500, 320, 50 + seed, apart=0) for seed, (ra, dec) in enumerate(PLACES)]
    some = SkyCoord(frame["ra"].to_numpy()[:300] * deg, frame["dec"].to_numpy()[:300] * deg)
    near = some.directional_offset_by(random.uniform(0, 360, 300) * deg, random.uniform(0, 9, 300) * arcsec)
    ra = np.concatenate([*(part[0] for part in parts), near.ra.deg])
    dec = np.concatenate([*(part[1] for part in parts), near.dec.deg])
    left = lsdb.from_dataframe(
        pd.DataFrame({"number": np.arange(len(ra)), "ra": ra, "dec": dec}), margin_threshold=None
    )
    matched = left.crossmatch(
        lsdb.open_catalog(made[0] / "hats", columns=SOME), radius_arcsec=9.5, suffixes=("_left", "_right")
    ).compute()
    nearest, far, _ = SkyCoord(ra * deg, dec * deg).match_to_catalog_sky(
        SkyCoord(frame["ra"].to_numpy() * deg, frame["dec"].to_numpy() * deg)
    )
    hit = far.arcsec <= 9.5
    pairs = dict(
        zip(np.flatnonzero(hit).tolist(), frame["visit"].to_numpy()[nearest[hit]].tolist(), strict=True)
    )
    assert len(pairs) > 2000
    number, visit = (
        next(name for name in matched.columns if name.startswith(wanted)) for wanted in ("number", "visit")
    )
    assert dict(zip(matched[number], matched[visit], strict=True)) == pairs
    tiles = sky.cut(frame[sorting.PIXEL].sort_values().to_numpy(), 120, sky.margin_order(10) - 1)
    across = tiles.of(sky.pixels(ra[hit], dec[hit])) != tiles.of(
        frame[sorting.PIXEL].to_numpy()[nearest[hit]]
    )
    assert across.sum() > 50


@pytest.mark.parametrize("part", [".", "stars", "stars_10arcs"])
def test_it_passes_the_verification_of_hats_import(
    made: tuple[Path, hats.Written], part: str, tmp_path: Path
) -> None:
    verification = pytest.importorskip("hats_import.verification.run_verification")
    from hats_import.verification.arguments import VerificationArguments

    arguments = VerificationArguments(
        input_catalog_path=made[0] / "hats" / part, output_path=tmp_path, check_metadata=True, verbose=False
    )
    results = verification.run(arguments).results
    assert len(results) >= 7
    assert [(result.test, result.target) for result in results if not result.passed] == []


def test_columns_keep_their_meaning_and_origin_in_every_file(made: tuple[Path, hats.Written]) -> None:
    dataset = made[0] / "hats" / "stars" / "dataset"
    for file in (
        dataset / "_common_metadata",
        dataset / "_metadata",
        next(dataset.rglob("*.parquet")),
        made[0] / "unplaced.parquet",
    ):
        schema = pq.read_schema(file)
        assert schema.field("Teff").metadata == {
            b"description": b"effective temperature",
            b"unit": b"K",
            b"ucd": b"phys.temperature.effective",
        }
        assert all(b"description" in field.metadata for field in schema)
        assert schema.metadata[b"ensemble"] == b"0123abcd"
        assert schema.metadata[b"store"] == b"feed5678"


def test_tiles_are_sorted_by_the_column_that_the_format_names(made: tuple[Path, hats.Written]) -> None:
    for part in ("stars", "stars_10arcs"):
        for file in (made[0] / "hats" / part / "dataset").rglob("*.parquet"):
            pixel = pq.read_table(file, columns=[sorting.PIXEL], partitioning=None)[sorting.PIXEL].to_numpy()
            order, number = int(file.parts[-3].removeprefix("Norder=")), int(file.stem.removeprefix("Npix="))
            assert (np.diff(pixel) >= 0).all()
            assert ((pixel >> 2 * (29 - order)) == number).all() == (part == "stars")


def test_duckdb_pandas_and_astropy_read_the_tiles(
    made: tuple[Path, hats.Written], frame: pd.DataFrame
) -> None:
    duckdb = pytest.importorskip("duckdb")
    dataset = made[0] / "hats" / "stars" / "dataset"
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


def test_maps_show_where_the_stars_are(
    made: tuple[Path, hats.Written], lsdb: Any, frame: pd.DataFrame
) -> None:
    occupied = np.unique(sky.pixels(frame["ra"], frame["dec"], hats.MAP_ORDER))
    moc = MOC.from_fits(made[0] / "hats" / "stars" / "moc.fits")
    assert np.array_equal(np.sort(moc.flatten()), occupied)
    catalog = lsdb.open_catalog(made[0] / "hats").hc_structure
    assert catalog.moc == moc
    assert catalog.catalog_info.moc_sky_fraction == pytest.approx(moc.sky_fraction, abs=1e-6)
    from hats.io.skymap import read_skymap

    assert read_skymap(catalog, 3).sum() == len(frame)


def test_stars_without_a_position_are_kept_beside(made: tuple[Path, hats.Written]) -> None:
    table = pq.read_table(made[0] / "unplaced.parquet")
    assert table.num_rows == 5
    assert sorting.PIXEL not in table.column_names
    assert table["ra"].null_count == 5


def test_no_star_at_all_makes_an_empty_catalog_that_opens(tmp_path: Path) -> None:
    reader = pytest.importorskip("hats")
    from hats.io.validation import is_valid_catalog

    written = write(tmp_path, skies.rows(np.empty(0), np.empty(0), []))
    assert written == hats.Written(0, 0, 0, 0)
    assert is_valid_catalog(tmp_path / "hats")
    assert len(reader.read_hats(tmp_path / "hats").main_catalog.get_healpix_pixels()) == 0
    assert "p_cemp" in pq.read_schema(tmp_path / "hats" / "stars" / "dataset" / "_common_metadata").names


@pytest.mark.parametrize("margin", [0.0, 2.5])
def test_the_margin_is_a_choice(tmp_path: Path, margin: float, lsdb: Any) -> None:
    ra, dec = skies.cluster(10, 20, 300, 100, 2)
    write(tmp_path, skies.rows(ra, dec, [None] * len(ra)), margin=margin)
    catalog = lsdb.open_catalog(tmp_path / "hats")
    assert len(catalog) == len(ra)
    names = {path.name for path in (tmp_path / "hats").iterdir()}
    assert names == {"collection.properties", "stars"} | ({"stars_2_5arcs"} if margin else set())
    assert (catalog.margin is None) == (margin == 0)


def test_stars_out_of_order_and_changing_columns_are_refused(tmp_path: Path) -> None:
    table = pa.table({sorting.PIXEL: pa.array([5, 3]), "ra": [1.0, 2.0]})
    table = table.cast(
        pa.schema([sorting.PIXEL_FIELD, pa.field("ra", pa.float64(), metadata={"description": "here"})])
    )
    writer = hats.Writer(tmp_path, sky.cut(np.array([3, 5]), 10, 5), ABOUT)
    with pytest.raises(ValueError, match="stars come out of order; add them sorted by their pixels"):
        writer.add(table)
    with pytest.raises(ValueError, match="columns change: ra; give every table the same"):
        writer.add(table.drop_columns(["ra"]))
    with pytest.raises(ValueError, match="no table of stars came, not even an empty one"):
        hats.Writer(tmp_path / "other", sky.cut(np.empty(0, np.int64), 10, 5), ABOUT).finish()
