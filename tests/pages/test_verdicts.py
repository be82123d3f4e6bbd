"""Files of verdicts of several people become one table."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from survey.pages.settings import ReportSettings
from survey.pages.verdicts import MergedVerdicts, merge_summary, merge_verdicts, read_verdicts
from survey.settings import SettingsError
from tests.commands import survey

COLUMNS = ("list_id", "list", "star", "look", "verdict", "quality", "note", "user", "time")


def row(star: str, verdict: str, user: str, **changes: Any) -> dict[str, Any]:
    values = {
        "list_id": "f00d",
        "list": "cemp",
        "star": star,
        "look": 1,
        "verdict": verdict,
        "quality": "",
        "note": "",
    }
    return {**values, "user": user, "time": "2026-11-29T10:00:00Z", **changes}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def merge(folder: Path, *paths: str) -> MergedVerdicts:
    table = str(folder / "merged.csv")
    return merge_verdicts(ReportSettings.from_dict("report", {"merge": list(paths), "table": table}))


def verdicts_of(merged: MergedVerdicts) -> dict[str, str]:
    return {each["star"]: each["verdict"] for each in merged.table.to_pylist()}


def test_the_verdict_of_most_people_counts_and_a_draw_is_unsure(tmp_path: Path) -> None:
    ann = write(
        tmp_path / "ann.csv",
        [row("a", "accept", "ann"), row("b", "accept", "ann"), row("c", "reject", "ann")],
    )
    bob = write(tmp_path / "bob.csv", [row("a", "accept", "bob"), row("b", "reject", "bob")])
    cai = write(tmp_path / "cai.csv", [row("a", "reject", "cai")])
    merged = merge(tmp_path, ann, bob, cai)
    assert verdicts_of(merged) == {"a": "accept", "b": "unsure", "c": "reject"}
    [first] = [each for each in merged.table.to_pylist() if each["star"] == "a"]
    assert (first["people"], first["accept"], first["reject"], first["unsure"]) == (3, 2, 1, 0)
    assert first["verdicts"] == "ann: accept; bob: accept; cai: reject"
    assert merged.people == {"ann": 3, "bob": 2, "cai": 1}


def test_json_and_csv_say_the_same(tmp_path: Path) -> None:
    note = 'a "quoted", note\nof two lines, 星'
    rows = [row("a", "accept", "ann", quality=3, note=note), row("b", "unsure", "ann", look=2)]
    as_csv = write(tmp_path / "ann.csv", rows)
    as_json = tmp_path / "ann.json"
    as_json.write_text(json.dumps({"format": "survey-verdicts", "version": 1, "verdicts": rows}))
    assert read_verdicts(as_csv) == read_verdicts(str(as_json))
    assert read_verdicts(as_csv)[0].note == note


def test_the_newer_of_two_verdicts_of_one_person_counts(tmp_path: Path) -> None:
    old = write(tmp_path / "old.csv", [row("a", "accept", "ann", time="2026-11-29T10:00:00Z")])
    new = write(tmp_path / "new.csv", [row("a", "reject", "ann", time="2026-11-30T10:00:00Z")])
    for paths in ((old, new), (new, old)):
        assert verdicts_of(merge(tmp_path, *paths)) == {"a": "reject"}


def test_a_verdict_that_was_taken_back_later_does_not_count(tmp_path: Path) -> None:
    early, late = "2026-11-29T10:00:00Z", "2026-11-30T10:00:00Z"
    old = write(tmp_path / "old.csv", [row(star, "accept", "ann", time=early) for star in "abc"])
    rows = [row("a", "", "ann", note="a blend", time=late), row("b", "", "ann", time=late)]
    new = write(tmp_path / "new.csv", rows)
    bob = write(tmp_path / "bob.csv", [row("a", "reject", "bob"), row("b", "", "bob", quality=2, time=early)])
    for paths in ((old, new, bob), (bob, new, old)):
        merged = merge(tmp_path, *paths)
        assert verdicts_of(merged) == {"a": "reject", "c": "accept"}
        assert merged.people == {"ann": 1, "bob": 1}
        first = merged.table.to_pylist()[0]
        assert (first["people"], first["verdicts"], first["notes"]) == (1, "bob: reject", "ann: a blend")
    with pytest.raises(ValueError, match="no verdict in them"):
        merge(tmp_path, new)


def test_second_looks_change_no_verdict_and_show_how_a_person_agrees_with_himself(tmp_path: Path) -> None:
    rows = [
        row("a", "accept", "ann"),
        row("a", "reject", "ann", look=2),
        row("b", "reject", "ann"),
        row("b", "reject", "ann", look=2),
    ]
    merged = merge(tmp_path, write(tmp_path / "ann.csv", rows))
    assert verdicts_of(merged) == {"a": "accept", "b": "reject"}
    [again] = merged.themselves
    assert (again.stars, again.share) == (2, 0.5)
    assert "again      ann: 50% of 2 stars alike" in merge_summary(merged)


def test_a_row_with_a_note_only_is_no_verdict(tmp_path: Path) -> None:
    rows = [row("a", "accept", "ann"), row("b", "", "ann", note="look again", quality=2)]
    assert verdicts_of(merge(tmp_path, write(tmp_path / "ann.csv", rows))) == {"a": "accept"}


def test_the_command_writes_the_table_and_prints_kappa(tmp_path: Path) -> None:
    stars = "abcdefgh"
    ann = write(
        tmp_path / "ann.csv", [row(star, "accept" if star < "e" else "reject", "ann") for star in stars]
    )
    bob = write(
        tmp_path / "bob.csv", [row(star, "accept" if star < "d" else "reject", "bob") for star in stars]
    )
    done = survey("report", f"merge=[{ann},{bob}]", f"table={tmp_path / 'merged.parquet'}")
    assert done.returncode == 0, done.stderr
    # by hand: 7 of 8 alike; by chance 0.5 * 0.375 + 0.5 * 0.625 = 0.5; (0.875 - 0.5) / 0.5 = 0.75
    assert "agree      ann and bob: 88% of 8 stars alike, Cohen's kappa 0.75" in done.stdout
    assert pq.ParquetFile(tmp_path / "merged.parquet").metadata.num_rows == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "maybe"}, "row 2: the verdict is 'maybe'; give accept, reject, unsure"),
        ({"look": "x"}, "row 2: the look is 'x'; give 1 or 2"),
        ({"quality": "9"}, "row 2: the quality is '9'; give 1, 2, 3 or 4"),
        ({"user": ""}, "star a: the name of the person is missing"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "ann.csv", [row("a", "accept", "ann") | change])
    done = survey("report", f"merge=[{path}]", f"table={tmp_path / 'merged.csv'}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "merged.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"star,verdict\na,accept\n", "no column list_id"),
        (b"\xff\xfe\x00", "byte 0 is no text in UTF-8"),
        (b"", "no column list_id"),
        (b'{"format": "other"}', "no file of verdicts"),
        (b'{"verdicts": [', "no JSON"),
        (b'{"format": "survey-verdicts", "verdicts": [3]}', "verdict 0: is no object"),
    ],
)
def test_what_is_no_file_of_verdicts_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_verdicts(str(path))


def test_a_merged_table_replaces_only_a_merged_table(tmp_path: Path) -> None:
    ann = write(tmp_path / "ann.csv", [row("a", "accept", "ann")])
    bob = write(tmp_path / "bob.csv", [row("a", "accept", "bob")])
    before = Path(bob).read_bytes()

    def merged(table: Path, *paths: str) -> MergedVerdicts:
        given = {"merge": list(paths), "table": str(table)}
        return merge_verdicts(ReportSettings.from_dict("report", given))

    with pytest.raises(SettingsError, match=r"bob.csv: is among the files of merge=, and would be lost"):
        merged(tmp_path / "x" / ".." / "bob.csv", ann, bob)
    with pytest.raises(SettingsError, match=r"bob.csv: is there and is no table of merged verdicts \(no col"):
        merged(tmp_path / "bob.csv", ann)
    assert Path(bob).read_bytes() == before
    for name in ("verdicts.csv", "verdicts.parquet"):
        for _ in range(2):
            assert merged(tmp_path / name, ann, bob).table.num_rows == 1


def test_files_of_two_lists_are_not_merged(tmp_path: Path) -> None:
    ann = write(tmp_path / "ann.csv", [row("a", "accept", "ann")])
    bob = write(tmp_path / "bob.csv", [row("a", "accept", "bob", list_id="cafe")])
    with pytest.raises(
        ValueError, match=r"is of the list f00d, .* of the list cafe; merge files of one list"
    ):
        merge(tmp_path, ann, bob)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge=[a.csv]"], "table: not given; give table=FILE.csv"),
        (["merge=[a.csv]", "table=x.txt"], "give a name that ends in .csv or .parquet"),
        (["merge=[a.csv]", "of=x"], "of and merge are given both"),
        (["merge=[nowhere.csv]", "table=x.csv"], "nowhere.csv: no such file"),
        ([], "of: not given; give of=FOLDER"),
        (
            ["of=x", "explanation=y"],
            "explanation: belongs to of= with list=, not to of= without list=; ",
        ),
        (["of=x", "most=5"], "most: belongs to of= with list="),
        (["of=x", "table=x.csv"], "table: belongs to merge="),
        (["of=x", "list=mp", "points=5000"], "points: belongs to of= without list=, not to of= with list="),
        (["merge=[a.csv]", "table=x.csv", "page=x.html"], "page: belongs to of= with list=, not to merge="),
        (["merge=[a.csv]", "table=x.csv", "list=mp"], "list: belongs to of= with list=, not to merge="),
    ],
)
def test_settings_that_do_not_fit_are_answered_with_what_to_give(arguments: list[str], message: str) -> None:
    done = survey("report", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
