"""Tar files of images: one that is damaged or cut is an error, so that no image is lost without a word."""

import io
import tarfile
from pathlib import Path

import pytest

from survey import files
from survey.sources import images, tar
from survey.spectrum import ImageOfObject, Refused

OPTIONS = tar.Options()


def write(path: Path, count: int = 6) -> bytes:
    _, image = images.example()
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
    return path.read_bytes()


def member_size() -> int:
    return tarfile.BLOCKSIZE * (1 + -(-len(images.example()[1]) // tarfile.BLOCKSIZE))


def test_a_damaged_header_that_is_not_the_first_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = bytearray(write(path))
    assert tar.count(str(path), OPTIONS) == 6
    data[2 * member_size() + 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar: no tar file .*damaged header.*; copy it again"):
        tar.count(str(path), OPTIONS)


@pytest.mark.parametrize("beyond", [-700, 0, 200])
def test_a_file_that_is_cut_anywhere_is_an_error(tmp_path: Path, beyond: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(write(path)[: 3 * member_size() + beyond])
    with pytest.raises(ValueError, match=r"a\.tar: no tar file .*; copy it again"):
        tar.count(str(path), OPTIONS)


def test_an_image_that_is_too_large_is_a_refused_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    write(path, 2)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("large.png")
        member.size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
    monkeypatch.setattr(files, "LARGEST", 4999)
    assert tar.count(str(path), OPTIONS) == 3
    *others, large = tar.read_rows(str(path), [0, 1, 2], OPTIONS)
    assert all(isinstance(found, ImageOfObject) for found in others)
    assert isinstance(large, Refused)
    assert (large.reason, large.detail) == ("too_large", "large.png: 5000 bytes")
