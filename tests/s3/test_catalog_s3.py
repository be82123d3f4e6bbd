"""A catalog in a bucket: made on this machine, then uploaded, its proof last."""

from pathlib import Path

import numpy as np
import pytest

from survey import files
from survey.catalog import hats, sky, sorting, stars, visits
from survey.catalog.spill import publish, scratch
from survey.reports import catalog
from tests.catalog import skies
from tests.catalog.test_catalog import made, survey
from tests.s3.conftest import Server, put

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]


def test_a_catalog_takes_the_place_of_another_in_a_bucket(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.answers()
    ra, dec = skies.cluster(10, 20, 60, 500, 1)
    skies.folder(tmp_path / "predictions", skies.rows(ra, dec, [None] * len(ra)))
    put(
        "s3://sky/catalog/hats",
        {"stars/dataset/Norder=0/Dir=0/Npix=99.parquet": b"of before", hats.PROOF: b"of before"},
    )
    written: list[str] = []
    before = files.write
    monkeypatch.setattr(files, "write", lambda path, data: (written.append(path), before(path, data)))
    with scratch("s3://sky/catalog") as work:
        predictions = skies.predictions.open_predictions(str(tmp_path / "predictions"))
        found = stars.find(predictions)
        tiles = sky.cut(found.pixel_S, 30, 10)
        writer = hats.Writer(work / "made", tiles, {"ensemble": "abc"})
        for part in sorting.by_region(predictions, found, tiles, visits.combined, work / "rows"):
            writer.add(part)
        writer.finish()
        made = {
            str(path.relative_to(work / "made" / "hats")): path.read_bytes()
            for path in (work / "made" / "hats").rglob("*")
            if path.is_file()
        }
        publish(work / "made" / "hats", "s3://sky/catalog/hats", hats.PROOF)
    there = {
        entry.path.removeprefix("s3://sky/catalog/hats/"): files.read(entry.path)
        for entry in files.walk("s3://sky/catalog/hats")
    }
    assert there == made
    assert written[-1] == f"s3://sky/catalog/hats/{hats.PROOF}"
    assert not work.exists()
    assert np.isfinite(found.ra_S).all()


def test_a_whole_catalog_is_made_from_a_bucket_into_a_bucket(server: Server, tmp_path: Path) -> None:
    assert server.answers()
    survey(tmp_path)
    put(
        "s3://sky/whole",
        {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file()
        },
    )
    given = {"known": ["s3://sky/whole/truth.csv"], "truth": "s3://sky/whole/truth.csv"}
    here = made(tmp_path, known=[str(tmp_path / "truth.csv")], truth=str(tmp_path / "truth.csv"))
    there = made(tmp_path, predictions="s3://sky/whole/said", catalog="s3://sky/whole/catalog", **given)
    assert catalog.pictures(there)[0].startswith("s3://sky/whole/catalog/")
    for name in ("mp_candidates.parquet", "known.parquet", "truth.parquet"):
        mine, other = here.table(name), there.table(name)
        assert mine is not None
        assert other is not None
        assert other.equals(mine)
    assert not made(
        tmp_path, predictions="s3://sky/whole/said", catalog="s3://sky/whole/catalog", **given
    ).made
