"""A catalog in a bucket: made on this machine, then uploaded, its marker last."""

from pathlib import Path

import numpy as np
import pytest

from survey import files
from survey.catalog.hats import COLLECTION, HatsWriter
from survey.catalog.sky import make_tiles
from survey.catalog.sorting import stars_by_region
from survey.catalog.spill import publish, scratch_folder
from survey.catalog.stars import find_stars
from survey.catalog.visits import combine_visits
from survey.reports import catalog as report
from tests.catalog import skies
from tests.catalog.test_catalog import ALL_FORMATS, run, write_survey
from tests.s3.conftest import Server, put

pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800)]


def contents(folder: Path) -> dict[str, bytes]:
    """All files in a folder by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_catalog_replaces_another_in_a_bucket(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.answers()
    ra, dec = skies.cluster(10, 20, 60, 500, 1)
    predictions = skies.write(tmp_path / "predictions", skies.rows(ra, dec, [None] * len(ra)))
    old = {"stars/dataset/Norder=0/Dir=0/Npix=99.parquet": b"old", COLLECTION: b"old"}
    put("s3://sky/catalog/hats", old)
    written: list[str] = []
    write = files.write

    def record(path: str, data: bytes) -> None:
        written.append(path)
        write(path, data)

    monkeypatch.setattr(files, "write", record)
    with scratch_folder("s3://sky/catalog") as work:
        stars = find_stars(predictions)
        tiles = make_tiles(stars.pixel_S, 30, 10)
        writer = HatsWriter(work / "new", tiles, {"begun": "2026-01-01T00:00UTC", "ensemble": "abc"})
        for region in stars_by_region(predictions, stars, tiles, combine_visits, work / "rows"):
            writer.add(region)
        writer.finish()
        new = contents(work / "new" / "hats")
        publish(work / "new" / "hats", "s3://sky/catalog/hats", COLLECTION)
    in_bucket = {
        entry.path.removeprefix("s3://sky/catalog/hats/"): files.read(entry.path)
        for entry in files.walk("s3://sky/catalog/hats")
    }
    assert in_bucket == new
    assert written[-1] == f"s3://sky/catalog/hats/{COLLECTION}"
    assert not work.exists()
    assert np.isfinite(stars.ra_S).all()


def test_a_catalog_is_made_from_a_bucket_into_a_bucket(server: Server, tmp_path: Path) -> None:
    assert server.answers()
    write_survey(tmp_path)
    put("s3://sky/all", contents(tmp_path))
    truth = str(tmp_path / "truth.csv")
    local = run(tmp_path, known=[truth], truth=truth)
    settings = {
        "predictions": "s3://sky/all/predictions",
        "catalog": "s3://sky/all/catalog",
        "known": ["s3://sky/all/truth.csv"],
        "truth": "s3://sky/all/truth.csv",
        "exports": ALL_FORMATS,
    }
    remote = run(tmp_path, **settings)
    assert report.pictures(remote)[0].startswith("s3://sky/all/catalog/")
    for name in ("mp_candidates.parquet", "known.parquet", "truth.parquet"):
        first, second = local.table(name), remote.table(name)
        assert first is not None
        assert second is not None
        assert second.equals(first)
    for ending in ("vot", "fits", "csv"):
        assert files.exists(f"s3://sky/all/catalog/mp_candidates.{ending}")
    assert not run(tmp_path, **settings).created
