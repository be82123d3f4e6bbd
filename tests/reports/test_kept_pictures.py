"""Pictures belong to one result: drawn once, and again where they are of another one or not complete."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from survey.folder import Document
from survey.reports.kept_pictures import PICTURES, keep_pictures


def result(identity: str) -> Document:
    return Document(version=1, id=identity)


def drawn(text: str, *names: str, fails: bool = False) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, text.encode()
    if fails:
        raise KeyboardInterrupt


def never() -> Iterator[tuple[str, bytes]]:
    yield from ()
    raise AssertionError("these pictures are drawn already")


def test_pictures_are_drawn_once(tmp_path: Path) -> None:
    paths = keep_pictures(str(tmp_path), result("a"), drawn("a", "two", "one"))
    assert paths == [str(tmp_path / name) for name in ("one.png", "two.png")]
    assert keep_pictures(str(tmp_path), result("a"), never()) == paths


def test_a_result_without_pictures_is_not_drawn_again(tmp_path: Path) -> None:
    assert keep_pictures(str(tmp_path), result("a"), drawn("a")) == []
    assert keep_pictures(str(tmp_path), result("a"), never()) == []


def test_pictures_of_another_result_do_not_stay(tmp_path: Path) -> None:
    """Also if the process that made the other result ended before it drew them."""
    keep_pictures(str(tmp_path), result("a"), drawn("a", "one", "two"))
    [path] = keep_pictures(str(tmp_path), result("b"), drawn("b", "one"))
    assert Path(path).read_text() == "b"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["one.png", PICTURES]


def test_pictures_that_were_stopped_or_lost_are_drawn_again(tmp_path: Path) -> None:
    keep_pictures(str(tmp_path), result("a"), drawn("a", "one", "two"))
    with pytest.raises(KeyboardInterrupt):
        keep_pictures(str(tmp_path), result("b"), drawn("b", "one", fails=True))
    paths = keep_pictures(str(tmp_path), result("b"), drawn("b", "one", "two"))
    assert [Path(path).read_text() for path in paths] == ["b", "b"]
    Path(paths[0]).unlink()
    assert keep_pictures(str(tmp_path), result("b"), drawn("b", "one", "two")) == paths
    assert Path(paths[0]).exists()


def test_pictures_of_an_older_version_are_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_text("old")
    keep_pictures(str(tmp_path), result("a"), drawn("a", "one"))
    assert not (tmp_path / "old.png").exists()
