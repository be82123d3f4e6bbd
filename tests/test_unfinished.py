"""What a killed process has left half written is removed by a later job, and nothing else is."""

import os
from pathlib import Path

from survey import files
from survey.folder import Document, Folder, Kind
from survey.unfinished import LEFT_AFTER

BOX = Kind("box", Document, version=1, job="fill", shared=True)


def left(path: Path, age: float = 2 * LEFT_AFTER) -> Path:
    """A temporary file as a killed `files.write` leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.written_beside(str(path), b"half") as partial:
        kept = partial.rename(partial.with_suffix(".kept"))
    here = kept.rename(kept.with_suffix(".tmp"))
    os.utime(here, (here.stat().st_mtime - age,) * 2)
    return here


def test_writes_that_were_left_long_ago_are_removed_with_the_claim_of_a_folder(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "box"), BOX)
    folder.begin({})
    gone = [left(tmp_path / "box" / name) for name in ("box.json", "spectra/part-00000.parquet")]
    stay = [left(tmp_path / "box" / "box.json", age=60), tmp_path / "box" / "settings.json"]
    for name in (".mine.tmp", "spectra/a.1-0123abcd.tmp", ".a.1-0123abcd.tmp.fits"):
        stay.append(tmp_path / "box" / name)
        stay[-1].touch()
        os.utime(stay[-1], (0, 0))
    with folder.claim({}):
        assert not any(path.exists() for path in gone)
        assert all(path.exists() for path in stay)


def test_a_folder_of_another_job_keeps_its_files(tmp_path: Path) -> None:
    here = left(tmp_path / "other" / "a.fits")
    with Folder(str(tmp_path / "other"), BOX).claim({}):
        assert here.exists()


def test_a_half_written_file_is_no_content_of_a_folder(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "box"), BOX)
    (tmp_path / "box" / "arrays").mkdir(parents=True)
    (tmp_path / "box" / "arrays" / "a.npy").touch()
    left(tmp_path / "box" / "arrays" / "b.npy")
    assert list(folder.finish(Document(version=1, id="x"), ["arrays/"]).content) == ["arrays/a.npy"]
