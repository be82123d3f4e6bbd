"""A mock survey is the same for the same settings, is continued after a stop, and comes with its true
labels."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from survey.claim import ClaimedError
from survey.mock import damage
from survey.mock.mock import describe, make
from survey.mock.settings import Mock
from survey.settings import SettingsError


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder except mock.json."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "mock.json"
    }


COUNT = 120
"""More files than one chunk has."""


def mock(folder: Path, **more: Any) -> Mock:
    return Mock.from_dict("mock", {"out": str(folder), "n": COUNT, "broken": 0.2} | more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("mock")
    return folder, make(mock(folder))


def test_the_same_settings_give_the_same_bytes_whatever_the_chunks(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    make(mock(tmp_path, chunk=100), run=lambda function, items: map(function, reversed(list(items))))
    ours, theirs = contents(done[0]), contents(tmp_path)
    assert list(ours) == list(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} <= {
        "labels.parquet",
        "catalog.csv.gz",
    }  # these are written chunk by chunk
    assert gzip.decompress(ours["catalog.csv.gz"]) == gzip.decompress(theirs["catalog.csv.gz"])
    assert pd.read_parquet(done[0] / "labels.parquet").equals(pd.read_parquet(tmp_path / "labels.parquet"))


def test_a_longer_survey_begins_with_the_same_files(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    make(mock(tmp_path, n=150))
    longer = contents(tmp_path)
    assert all(longer[name] == data for name, data in contents(done[0]).items() if ".fits" in name)


def test_another_seed_is_another_survey(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    make(mock(tmp_path, seed=1))
    assert not {name for name in contents(tmp_path) if ".fits" in name} & set(contents(done[0]))


def test_a_rerun_does_nothing(done: tuple[Path, dict[str, Any]]) -> None:
    before = {path: path.stat().st_mtime_ns for path in done[0].rglob("*")}
    again = make(mock(done[0], workers=3))
    assert again["new"] == 0
    assert again == done[1] | {"new": 0}
    assert before == {path: path.stat().st_mtime_ns for path in done[0].rglob("*")}


def test_only_stars_have_the_shares_of_a_survey(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"balance=survey is for objects=stars; give balance=reference"):
        mock(tmp_path, objects="galaxies", balance="survey", layouts={"sdss": 1})


def test_other_settings_in_the_same_folder_are_refused_with_what_differs(
    done: tuple[Path, dict[str, Any]],
) -> None:
    message = r"mock: .*mock\.json: was made with other settings: seed=0 there, 5 now; give the same settings"
    with pytest.raises(SettingsError, match=message):
        make(mock(done[0], seed=5))


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"mock: out: .*: holds store\.json but is no mock survey; give"):
        make(mock(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_run_that_was_stopped_continues_where_it_was(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def stopping(function: Any, items: Any) -> Any:
        yield function(next(iter(items)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(mock(tmp_path, chunk=100), run=stopping)
    assert not (tmp_path / "mock.json").exists()
    with pytest.raises(SettingsError, match="seed=0 there, 1 now"):
        make(mock(tmp_path, chunk=100, seed=1))
    assert make(mock(tmp_path, chunk=100))["new"] == COUNT - 100
    assert {name for name in contents(tmp_path) if ".fits" in name} == {
        name for name in contents(done[0]) if ".fits" in name
    }
    assert not list((tmp_path / "labels").iterdir())


def test_of_two_processes_one_makes_a_survey(tmp_path: Path) -> None:
    """The second one ended first and removed the parts that the first one was about to join."""

    def meanwhile(function: Any, items: Any) -> Any:
        for item in items:
            yield function(item)
            with pytest.raises(ClaimedError, match=r"mock: out: .*has been working in it .*survey mock"):
                make(mock(tmp_path, chunk=100))

    assert make(mock(tmp_path, chunk=100), run=meanwhile)["new"] == COUNT
    assert not list((tmp_path / "labels").iterdir())
    assert make(mock(tmp_path, chunk=100))["new"] == 0


@pytest.mark.kill
def test_a_killed_run_leaves_nothing_half_done(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    code = (
        "from survey.mock.mock import make; from survey.mock.settings import Mock; "
        f"make(Mock(out={str(tmp_path)!r}, n=100_000, broken=0.2, chunk=100))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[3]
    )
    while not (tmp_path / "labels" / "part-00001.parquet").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (tmp_path / "mock.json").exists()
    finished = pd.concat(
        [pd.read_parquet(path) for path in sorted((tmp_path / "labels").glob("part-*.parquet"))]
    )
    assert all((tmp_path / path).exists() for path in finished["path"])
    for name in {name for name in contents(done[0]) if ".fits" in name} & set(finished["path"]):
        assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()


def test_the_label_table_has_one_row_for_each_file(done: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = done
    labels = pd.read_parquet(folder / "labels.parquet")
    files = labels[labels["defect"] != "folder"]
    assert set(files["path"]) == {name for name in contents(folder) if ".fits" in name}
    assert all((folder / path).is_dir() for path in labels.loc[labels["defect"] == "folder", "path"])
    assert len(labels) == COUNT == labels["visit"].nunique() == summary["files"]
    assert summary["classes"] == labels["class"].value_counts().to_dict()
    assert json.loads((folder / "mock.json").read_text())["defects"] == summary["defects"]
    text = pd.read_csv(folder / "labels.csv")
    assert text["Teff"].tolist() == labels["Teff"].tolist()


def test_the_share_of_defective_files_is_as_given_and_all_kinds_occur() -> None:
    tables = [describe(Mock(out="nowhere", broken=0.05), batch) for batch in range(50)]
    defects = [name for table in tables for name in table["defect"].tolist() if name]
    assert len(defects) == pytest.approx(250, abs=3)
    assert set(defects) == set(damage.DEFECTS)
    assert max(map(defects.count, damage.DEFECTS)) <= 2 * 250 / len(damage.DEFECTS)


def test_expected_reasons_stand_beside_the_defects(done: tuple[Path, dict[str, Any]]) -> None:
    labels = pd.read_parquet(done[0] / "labels.parquet")
    broken = labels[labels["defect"].notna()]
    assert labels.loc[labels["defect"].isna(), "expected_reason"].isna().all()
    assert [damage.DEFECTS[name].reasons for name in broken["defect"]] == broken["expected_reason"].tolist()


def test_the_catalogue_lists_every_file_as_the_survey_would(done: tuple[Path, dict[str, Any]]) -> None:
    text = gzip.decompress((done[0] / "catalog.csv.gz").read_bytes()).decode()
    head, *rows = text.splitlines()
    names = "obsid designation obsdate lmjd planid spid fiberid ra dec snru snrg snrr snri snrz"
    assert head.split("|") == [*names.split(), "class", "subclass", "z", "z_err", "rv"]
    assert len(rows) == COUNT
    assert any("|-9999|" in row for row in rows)
    first = rows[0].split("|")
    assert first[1].startswith("LAMOST J")
    assert len(first[2]) == 10


def test_shares_and_weights_are_checked_before_any_work() -> None:
    cases: list[tuple[str, Any]] = [
        ("broken", 1.5),
        ("layouts", {}),
        ("layouts", {"lrs": 1.0}),
        ("layouts", {"mrs": -1.0}),
        ("chunk", 150),
        ("n", 0),
    ]
    for key, wrong in cases:
        with pytest.raises(SettingsError, match=key):
            Mock.from_dict("mock", {"out": "nowhere", key: wrong})
