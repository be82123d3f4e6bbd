"""Questions to a bucket are asked many at a time, those to a disk one by one as before."""

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from survey import files
from survey.store import markers
from survey.store.manifest import forget, open_manifest, plan
from survey.store.markers import Marker, readable_now
from survey.store.settings import Input
from survey.store.side_by_side import side_by_side

AT_ONCE = 8


class Bucket:
    """Answers no question before `AT_ONCE` are asked at the same time."""

    def __init__(self, *there: str) -> None:
        self.there, self.asked = there, threading.Barrier(AT_ONCE, timeout=20)

    def stat_of(self, path: str) -> files.Entry | None:
        self.asked.wait()
        return files.Entry(path, 1, 0.0) if path in self.there else None


def test_remote_items_are_done_side_by_side_and_give_their_results_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket = Bucket("s3://b/3")
    paths = [f"s3://b/{number}" for number in range(5 * AT_ONCE)]
    results = list(side_by_side(bucket.stat_of, paths, files.is_remote, "ask", len(paths)))
    assert [entry and entry.path for entry in results] == [None] * 3 + ["s3://b/3"] + [None] * 36
    assert "ask: 40 files" in capsys.readouterr().err


def test_items_on_a_disk_are_done_by_the_caller_and_those_of_a_mixture_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = list(side_by_side(lambda _: threading.get_ident(), range(5), lambda _: False, "ask"))
    assert threads == [threading.get_ident()] * 5
    assert capsys.readouterr().err == ""
    numbers = list(range(1000))
    assert list(side_by_side(lambda number: number, numbers, lambda number: number % 3 > 0)) == numbers


def test_an_error_of_one_item_ends_the_work() -> None:
    def fail(path: str) -> None:
        raise ConnectionError(path)

    with pytest.raises(ConnectionError, match="s3://b/0"):
        list(side_by_side(fail, ["s3://b/0", "s3://b/1"], files.is_remote))


def test_missing_objects_are_looked_for_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(folder: str, shard: int) -> list[dict[str, object]]:
        return [{"path": f"s3://b/{shard}-{number}", "row": -1} for number in range(2)]

    monkeypatch.setattr(markers, "missing_files", missing)
    monkeypatch.setattr(files, "stat_of", Bucket("s3://b/2-1").stat_of)
    shards = [
        Marker(shard=shard, rows_in=2, refused={"missing": 2}, settings="", version=0) for shard in range(4)
    ]
    failed = Marker(shard=9, rows_in=2, refused={"damaged": 1}, settings="", version=0)
    assert readable_now("/store", [*shards, failed]) == {2, 9}


def test_rows_to_forget_are_looked_for_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"s3://b/{number}.fits" for number in range(AT_ONCE)]
    pd.DataFrame({"file": paths}).to_csv(tmp_path / "c.csv", index=False)
    plan(Input(input=str(tmp_path / "c.csv"), shard=4), str(tmp_path / "store"))
    manifest = open_manifest(str(tmp_path / "store"))
    monkeypatch.setattr(
        forget, "missing_files", lambda _, shard: [{"path": path, "row": -1} for path in paths]
    )
    monkeypatch.setattr(files, "stat_of", Bucket().stat_of)
    assert forget.never_found(manifest, np.arange(len(paths))).tolist() == list(range(AT_ONCE))
