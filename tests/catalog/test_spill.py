"""A catalog takes its place on a disk completely or not at all."""

from pathlib import Path

import pytest

from survey.catalog.spill import WORK, publish, scratch_folder

MARKER = "marker.json"


def make(folder: Path, *names: str) -> Path:
    """A folder with these files and the marker."""
    for name in (*names, MARKER):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_new_folder_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "catalog" / "hats", "old/tile")
    with scratch_folder(str(tmp_path / "catalog")) as work:
        new = make(work / "new", "new/tile", "other")
        publish(new, str(tmp_path / "catalog" / "hats"), MARKER)
    assert files_in(tmp_path / "catalog") == {"hats/new/tile", "hats/other", f"hats/{MARKER}"}


def fail(catalog: Path) -> None:
    with scratch_folder(str(catalog)) as work:
        assert files_in(work) == set()
        make(work / "half")
        raise KeyError


def test_nothing_is_left_of_a_job_that_failed_or_was_killed(tmp_path: Path) -> None:
    make(tmp_path / "catalog" / WORK, "of a killed job")
    with pytest.raises(KeyError):
        fail(tmp_path / "catalog")
    assert files_in(tmp_path) == set()


def test_the_marker_is_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-removed catalog, stopped at the worst moment, has no marker."""
    make(tmp_path / "hats", "tile")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("survey.catalog.spill.shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        publish(make(tmp_path / "new"), str(tmp_path / "hats"), MARKER)
    assert files_in(tmp_path / "hats") == {"tile"}
