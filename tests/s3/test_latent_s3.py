"""A look at a latent space in a bucket: the same numbers as on a disk."""

from pathlib import Path

import pytest

from survey import files
from survey.latent.latent import look
from survey.reports import latent as report
from tests.latent.drawn_latents import drawn, write_predictions
from tests.latent.test_latent import settings
from tests.s3.conftest import Server, put

pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800)]


def test_a_look_in_a_bucket_is_that_on_a_disk(server: Server, tmp_path: Path) -> None:
    assert server.answers()
    write_predictions(tmp_path / "p", drawn(300, spread=3.0)[0], 100)
    contents = {
        str(path.relative_to(tmp_path / "p")): path.read_bytes()
        for path in (tmp_path / "p").rglob("*")
        if path.is_file()
    }
    put("s3://sky/latent-predictions", contents)
    here = look(settings(tmp_path))
    there = look(
        settings(tmp_path, predictions="s3://sky/latent-predictions", latent="s3://sky/latent-folder")
    )
    for name in ("map.parquet", "outliers.parquet", "space.safetensors"):
        assert files.read(f"s3://sky/latent-folder/{name}") == (tmp_path / "l" / name).read_bytes()
    pictures = report.pictures(there)
    assert [path.rpartition("/")[2] for path in pictures] == ["components.png", "map_pca.png"]
    again = look(
        settings(tmp_path, predictions="s3://sky/latent-predictions", latent="s3://sky/latent-folder")
    )
    assert not again.created
    assert report.pictures(again) == pictures
    assert here.document.shares == there.document.shares
