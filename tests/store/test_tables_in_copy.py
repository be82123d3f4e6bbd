"""Tables of spectra that an ingest meets while they are copied: refused with what is wrong, later read."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from survey.spectrum import GRIDS
from survey.store.ingest import IngestResult, ingest
from survey.store.manifest import open_manifest
from survey.store.settings import Ingest

SPECTRA = 4


def array() -> bytes:
    sink = io.BytesIO()
    noise = np.random.default_rng(1).normal(1, 0.02, (SPECTRA, len(GRIDS["cemp4900"])))
    np.save(sink, noise.astype("f4"))
    return sink.getvalue()


def archive() -> bytes:
    sink, rng = io.BytesIO(), np.random.default_rng(1)
    with tarfile.open(fileobj=sink, mode="w") as file:
        for number in range(SPECTRA):
            picture = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(picture, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture.getvalue())
            picture.seek(0)
            file.addfile(member, picture)
    return sink.getvalue()


TABLES = {
    "X.npy": (array(), "an array of shape (4, 4900) takes 78,528; copy the file again"),
    "a.tar": (archive(), "a.tar: "),
}


def made(folder: Path, store: Path) -> IngestResult:
    values = {
        "input": str(folder),
        "store": str(store),
        "sources": ["images", "tar"],
        "prepare": {"velocity": "none", "image": {"size": 8}, "gates": {"low_snr": {"limit": None}}},
        "refuse_above": 1.0,
        "shard": 3,
    }
    return ingest(Ingest.from_dict("ingest", values))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_still_copied_is_refused_for_that_and_its_row_goes_later(
    tmp_path: Path, name: str
) -> None:
    folder, store = tmp_path / "in", tmp_path / "store"
    folder.mkdir()
    data, why = TABLES[name]
    (folder / name).write_bytes(data[: len(data) * 2 // 5])
    first = made(folder, store)
    assert (first.document.written, first.document.refused) == (0, {"damaged": 1})
    (refused,) = pq.read_table(store / "refused").to_pylist()
    assert (refused["path"], refused["row"]) == (str(folder / name), -1)
    assert why in refused["detail"]

    (folder / name).write_bytes(data)
    second = made(folder, store)
    assert (second.document.rows_in, second.document.written, second.document.refused) == (4, 4, {})
    assert (second.plan.rows, second.plan.new_rows, second.plan.vanished) == (4, 4, 0)
    manifest = open_manifest(str(store))
    rows = [row for shard in range(manifest.shards) for row in manifest.shard(shard)["row"].to_pylist()]
    assert rows == list(range(SPECTRA))
    assert pq.read_table(store / "refused").num_rows == 0

    third = made(folder, store)
    assert (third.created, third.plan.new_rows, third.plan.known) == (0, 0, 4)
