"""Stores of objects that have a spectrum, an image, or both; and of images alone."""

import csv
import io
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from survey.mock import mock
from survey.mock.settings import Mock
from survey.settings import SettingsError
from survey.store.ingest import IngestResult, ingest
from survey.store.schema import Flag, image_array
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training.batches import read_spectra

SIZE = 24


def picture(seed: int, size: int = 48) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve objects: spectra of the mock survey and pictures; some lack one, some pictures are damaged."""
    folder = tmp_path_factory.mktemp("objects")
    values = {"out": "x", "n": 100, "broken": 0.0, "gz": 0.0, "layouts": {"sdss": 1.0}, "visits": 0.0}
    _, contents = mock.compute(Mock.from_dict("mock", values), 0)
    with (folder / "objects.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "ra", "dec", "spectrum", "image"])
        for number, data in enumerate(islice(contents, 12)):
            assert data is not None
            spectrum, image = f"{number}.fits", f"{number}.png"
            (folder / spectrum).write_bytes(data)
            (folder / image).write_bytes(picture(number))
            if number == 2:
                (folder / image).write_bytes(b"<html>")
            if number == 3:
                (folder / image).unlink()
            has = (number != 5, number not in (4, 6))
            table.writerow([f"star{number}", number, 0.5, spectrum * has[0], image * has[1]])
    return folder


def made(folder: Path, store: Path, **prepare: Any) -> IngestResult:
    values = {
        "input": str(folder),
        "store": str(store),
        "sources": ["sdss", "images", "tar"],
        "shard": 5,
        "prepare": {"grid": "sdss3522", "image": {"size": SIZE}} | prepare,
        "refuse_above": 1.0,
    }
    return ingest(Ingest.from_dict("ingest", values))


def test_each_object_is_a_row_with_what_it_has(objects: Path, tmp_path: Path) -> None:
    result = made(objects / "objects.csv", tmp_path / "store")
    assert result.document.written == 12
    assert result.document.flagged["no_image"] == 4
    assert result.document.flagged["no_spectrum"] == 1
    store = open_store(str(tmp_path / "store"))
    rows = [row for table in store.tables() for row in table.to_pylist()]
    assert [row["visit"] for row in rows].index("5") == 5, "the order is that of the catalogue"
    assert [row["image_problem"] for row in rows[2:7]] == ["bad_image", "missing", "none", None, "none"]
    assert [bool(row["flags"] & Flag.NO_SPECTRUM) for row in rows] == [number == 5 for number in range(12)]
    shard_row_N2 = np.array([(number // 5, number % 5) for number in range(12)])
    spectra = read_spectra(store, shard_row_N2, ("image",))
    assert spectra.image is not None
    assert spectra.image.shape == (12, 3, SIZE, SIZE)
    has_image = spectra.image.flatten(1).amax(1) > 0
    assert has_image.tolist() == [number not in (2, 3, 4, 6) for number in range(12)]
    assert ((spectra.ivar > 0).sum(1) > 0).tolist() == [number != 5 for number in range(12)]
    with Image.open(io.BytesIO(picture(7))) as image:
        pixels = np.asarray(image).reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(spectra.image[7].numpy() - pixels).max() <= 0.5


def test_a_damaged_image_refuses_its_object_if_that_is_wanted(objects: Path, tmp_path: Path) -> None:
    image = {"size": SIZE, "missing": "refuse"}
    result = made(objects / "objects.csv", tmp_path / "store", image=image)
    assert result.document.refused == {"missing": 1, "bad_image": 1}
    assert result.document.rows_in == 12


def test_the_same_store_is_made_again_byte_by_byte(objects: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        made(objects / "objects.csv", tmp_path / name)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one/spectra").iterdir())
    assert len(names) == 3
    for path in names:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert made(objects / "objects.csv", tmp_path / "one").created == 0


def test_a_store_of_images_alone_has_no_pixels_of_spectra(objects: Path, tmp_path: Path) -> None:
    result = made(objects, tmp_path / "store", grid="none")
    written = sum(path.suffix == ".png" for path in objects.iterdir()) - 1
    assert result.document.written == written
    assert result.document.refused == {"unknown_layout": 12, "bad_image": 1}, "spectra have no place in it"
    store = open_store(str(tmp_path / "store"))
    assert len(store.grid) == 0
    (table, *_) = (table for table in store.tables() if table.num_rows)
    assert "flux" not in table.column_names
    assert image_array(table["image"], (3, SIZE, SIZE)).any()
    spectra = read_spectra(store, np.empty((0, 2), int))
    assert spectra.flux.shape[1] == 0


def test_a_list_of_images_with_plate_mjd_and_fiber_is_no_list_of_spectra(
    objects: Path, tmp_path: Path
) -> None:
    """Galaxy Zoo and others give the spectrum of a galaxy, by which it was chosen, beside its picture."""
    table = tmp_path / "sdss.csv"
    rows = "".join(f"295,51985,{number},{number}.5,{objects}/{number}.png\n" for number in (7, 8))
    table.write_text(f"plate,mjd,fiberid,ra,image\n{rows}")
    result = made(table, tmp_path / "store", grid="none")
    assert (result.document.written, result.document.refused) == (2, {})
    (written,) = open_store(str(tmp_path / "store")).tables()
    assert [Path(path).name for path in written["path"].to_pylist()] == ["7.png", "8.png"]
    assert written["ra"].to_pylist() == [7.5, 8.5]
    with_spectra = made(table, tmp_path / "both")
    assert with_spectra.document.refused == {"missing": 2}, "there the image is that of a spectrum"


def test_images_of_a_tar_file_are_rows(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for number in range(7):
            data = picture(number) if number != 4 else b"no image"
            member = tarfile.TarInfo(f"a/ra={number}.5&dec=-1.25.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    result = made(tmp_path / "many.tar", tmp_path / "store", grid="none")
    assert (result.document.written, result.document.refused) == (6, {"bad_image": 1})
    rows = [row for table in open_store(str(tmp_path / "store")).tables() for row in table.to_pylist()]
    assert [row["ra"] for row in rows] == [0.5, 1.5, 2.5, 3.5, 5.5, 6.5]
    assert {row["dec"] for row in rows} == {-1.25}
    (tmp_path / "cut.tar").write_bytes((tmp_path / "many.tar").read_bytes()[:700])
    with pytest.raises(ValueError, match=r"cut.tar: no tar file that can be read .*; copy it again"):
        made(tmp_path / "cut.tar", tmp_path / "other", grid="none")


def test_a_store_keeps_something() -> None:
    values = {"input": "x", "store": "y", "prepare": {"grid": "none"}}
    with pytest.raises(SettingsError, match=r"grid: none is a store of images only; give image.size"):
        Ingest.from_dict("ingest", values)


def test_without_spectra_there_is_none_to_draw() -> None:
    values = {"input": "x", "store": "y", "preview": 2, "prepare": {"grid": "none", "image": {"size": 16}}}
    with pytest.raises(SettingsError, match=r"preview: 2, but with prepare.grid=none there are no spectra"):
        Ingest.from_dict("ingest", values)
