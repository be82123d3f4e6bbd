"""A finished folder: settings first, document last, and no other folder is touched."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from survey import __version__, files
from survey.folder import Document, Folder, Kind
from survey.settings import SettingsError
from survey.spectrum import Grid
from tests.finished import change_document


class BoxDocument(Document):
    count: int
    grid: Grid


BOX = Kind("box", BoxDocument, version=2, job="fill")
DOCUMENT = BoxDocument(version=2, id="abc", count=3, grid=Grid(4000.0, 4010.0, 1.0))


@pytest.fixture
def folder(tmp_path: Path) -> Folder[BoxDocument]:
    return Folder(str(tmp_path / "box"), BOX)


def test_a_folder_is_begun_with_settings_and_finished_with_its_document(folder: Folder[BoxDocument]) -> None:
    assert not folder.agree({"size": 1})
    folder.begin({"size": 1}, fingerprint="f")
    assert folder.agree({"size": 1})
    assert not folder.is_finished()
    folder.finish(DOCUMENT)
    assert folder.is_finished()
    assert folder.document() == DOCUMENT
    assert folder.document().code == __version__
    written = json.loads(Path(folder.file("settings.json")).read_text())
    assert datetime.fromisoformat(written.pop("begun")) == folder.begun()
    assert written == {
        "kind": "box",
        "version": 2,
        "code": __version__,
        "fingerprint": "f",
        "settings": {"size": 1},
    }


def test_a_folder_that_another_process_begins_between_two_looks_is_begun(
    folder: Folder[BoxDocument], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of equal settings may share a folder, and start at the same moment."""
    look = files.names

    def begin_first(path: str) -> list[str]:
        folder.begin({"size": 1})
        return look(path)

    monkeypatch.setattr(files, "names", begin_first)
    assert folder.agree({"size": 1})
    Path(folder.file("settings.json")).unlink()
    with pytest.raises(SettingsError, match="was made with other settings"):
        folder.agree({"size": 2})


def test_a_withdrawn_folder_is_not_finished(folder: Folder[BoxDocument]) -> None:
    folder.begin({})
    folder.finish(DOCUMENT)
    folder.withdraw()
    assert not folder.is_finished()
    with pytest.raises(
        FileNotFoundError,
        match=r"no box\.json in it, so no finished box; run survey fill with box=.* to the end",
    ):
        folder.document()


def test_other_settings_are_refused_by_key_and_values_once_work_has_started(
    folder: Folder[BoxDocument],
) -> None:
    folder.begin({"size": 1, "inner": {"a": 2}})
    with pytest.raises(SettingsError) as caught:
        folder.agree({"size": 1, "inner": {"a": 3}})
    assert str(caught.value) == (
        f"fill: box: {folder.path}: was made with other settings: inner.a=2 there, 3 now; "
        "give the same settings again, or another box="
    )
    assert not folder.agree({"size": 2}, started=False)


def test_differences_may_be_found_in_another_way(folder: Folder[BoxDocument]) -> None:
    folder.begin({"size": 1, "colour": "red"})
    assert folder.agree(
        {"size": 1, "colour": "blue"}, compare=lambda old, new: old["size"] - new["size"] or ()
    )


def test_a_folder_with_other_files_is_refused_and_left_alone(folder: Folder[BoxDocument]) -> None:
    Path(folder.path).mkdir()
    Path(folder.file("thesis.tex")).write_text("x")
    with pytest.raises(
        SettingsError, match=r"holds thesis\.tex but is no box; give an empty or a new folder"
    ):
        folder.agree({})
    assert not folder.agree({}, allowed=["thesis.tex"])
    assert [path.name for path in Path(folder.path).iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(folder: Folder[BoxDocument]) -> None:
    Path(folder.path).write_text("x")
    with pytest.raises(SettingsError, match="is a file; give an empty or a new folder"):
        folder.agree({})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"kind": "bag", "version": 2, "settings": {}}, "is the folder of another job (bag, not box)"),
        (
            {"kind": "box", "version": 1, "settings": {}},
            "a box of version 1, this code reads version 2; make it again with survey fill in a new folder",
        ),
        ({"version": 1, "settings": {}}, "a box of version 1, this code reads version 2"),
        ({"kind": "box", "version": 2}, "settings.json is not that of a box"),
        ([1], "settings.json is not that of a box"),
    ],
)
def test_settings_of_another_kind_or_version_are_refused(
    folder: Folder[BoxDocument], written: object, message: str
) -> None:
    Path(folder.path).mkdir()
    Path(folder.file("settings.json")).write_text(json.dumps(written))
    with pytest.raises(SettingsError) as caught:
        folder.agree({})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "a box of version 1, this code reads version 2"),
        (
            {"count": "many"},
            r"box\.json: damaged \(count: .*; run survey fill with the same settings again",
        ),
        ({"more": 1}, r"box\.json: damaged \(more: .*"),
        ({"grid": {"start": 1.0, "stop": 2.0, "step": 0.1}}, r"box\.json: damaged \(grid: .*"),
    ],
)
def test_a_document_that_is_old_or_damaged_is_named(
    folder: Folder[BoxDocument], change: dict[str, object], message: str
) -> None:
    folder.begin({})
    folder.finish(DOCUMENT)
    change_document(Path(folder.file("box.json")), change)
    with pytest.raises(ValueError, match=message):
        folder.document()


def test_a_document_that_is_no_json_is_named(folder: Folder[BoxDocument]) -> None:
    folder.begin({})
    Path(folder.file("box.json")).write_text("{")
    with pytest.raises(ValueError, match=r"box\.json: damaged .*; put a copy back"):
        folder.document()


def test_a_document_that_was_edited_by_hand_is_damaged(folder: Folder[BoxDocument]) -> None:
    folder.begin({})
    folder.finish(DOCUMENT)
    path = Path(folder.file("box.json"))
    path.write_text(path.read_text().replace('"count": 3', '"count": 4'))
    with pytest.raises(ValueError, match=r"box\.json: damaged, or edited by hand .*; run survey fill with"):
        folder.document()
    assert folder.sound_document() is None


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_file_of_the_content_that_changed_is_damaged(folder: Folder[BoxDocument], harm: str) -> None:
    folder.begin({})
    (Path(folder.path) / "parts").mkdir()
    for name in ("a.bin", "parts/b.bin"):
        Path(folder.file(name)).write_bytes(b"sixteen of bytes")
    folder.finish(DOCUMENT, ["a.bin", "parts/"])
    sound = folder.sound_document()
    assert sound is not None
    assert list(sound.content) == ["a.bin", "parts/b.bin"]
    assert folder.read("parts/b.bin") == b"sixteen of bytes"
    path = Path(folder.file("parts/b.bin"))
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(b"sixteen of bites" if harm == "flip" else b"sixteen")
    assert folder.sound_document() is None
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"b\.bin: is (damaged|missing).*; run survey fill"
    ):
        folder.read("parts/b.bin")
    assert folder.read("a.bin") == b"sixteen of bytes"


def test_damaged_or_lost_settings_of_a_finished_folder_have_an_advice_that_helps(
    folder: Folder[BoxDocument],
) -> None:
    folder.begin({})
    folder.finish(DOCUMENT)
    path = Path(folder.file("settings.json"))
    path.write_text("{")
    advice = "put a copy back, or give an empty or a new folder"
    with pytest.raises(ValueError, match=rf"settings\.json: damaged .*; {advice}$"):
        folder.agree({})
    path.unlink()
    with pytest.raises(
        SettingsError, match=rf"holds box\.json, but its settings\.json is missing; {advice}$"
    ):
        folder.agree({})
