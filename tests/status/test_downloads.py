"""How far a download is: the files of its plan count, and their times give the rate."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest

from survey import files
from survey.archives.document import DOWNLOAD, DownloadDocument
from survey.archives.journal import COUNT, JOURNAL, Event, Journal, read_events
from survey.archives.plan_table import KEY, PLAN
from survey.archives.settings import Download
from survey.folder import Folder
from survey.reports.status import summary
from survey.status.look import look


def begun(out: Path, wanted: int, events: list[dict[str, object]]) -> Folder[DownloadDocument]:
    """A download of the keys 0, 1 ... with these lines in its journal."""
    settings = Download.from_dict("download", {"archive": "lamost", "ids": ["1"], "out": str(out)})
    folder = Folder(str(out), DOWNLOAD)
    folder.begin(settings.plain())
    files.write_table(str(out / PLAN), pa.table({KEY: [str(number) for number in range(wanted)]}))
    files.write_json(str(out / COUNT), {"wanted": wanted})
    (out / JOURNAL).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return folder


def here(key: object, **values: object) -> dict[str, object]:
    return {"key": str(key), "path": f"a/{key}.fits", "size": 1, "crc": 1} | values


def test_files_of_other_selections_do_not_count(tmp_path: Path) -> None:
    others = [here(f"other-{number}") for number in range(10)]
    more: list[dict[str, object]] = [{"key": "1", "reason": "not_there"}, {"key": "x", "reason": "busy"}]
    begun(tmp_path / "out", 2, [*others, here(0), *more])
    state = look(str(tmp_path / "out"))
    assert (state.done, state.total, state.refused) == (1, 2, {"not_there": 1})
    assert "done         1 of 2 files (50.0%)" in summary(state)


def test_a_journal_without_times_gives_no_rate(tmp_path: Path) -> None:
    folder = begun(tmp_path / "out", 10, [here(number) for number in range(5)])
    with folder.claim({}):
        state = look(str(tmp_path / "out"))
    assert (state.state, state.done, state.rate, state.seconds_left) == ("running", 5, None, None)


def test_times_of_the_journal_give_the_rate_and_the_time_left(tmp_path: Path) -> None:
    now = time.time()
    events = [here(number, time=now + 2 * number) for number in range(5)]
    gone: dict[str, object] = {"key": "5", "reason": "not_there", "time": now + 10}
    busy: dict[str, object] = {"key": "6", "reason": "busy", "time": now + 12}
    of_the_run_before: dict[str, object] = {"key": "7", "reason": "busy", "time": now - 10_000}
    no_name: dict[str, object] = {"key": "8", "reason": "bad_row", "time": now}
    folder = begun(tmp_path / "out", 20, [of_the_run_before, no_name, *events, gone, busy])
    with folder.claim({}):
        state = look(str(tmp_path / "out"))
    assert state.rate == pytest.approx(0.5)
    # 5 are here, 2 are not there or name no file, 1 did not arrive; that of the run before is asked for again
    assert state.seconds_left == pytest.approx(2 * (20 - 8))
    assert "\nrate         30.0 files/min\n" in summary(state)
    assert "\nleft         about 24" in summary(state)


def test_an_event_has_the_time_at_which_it_was_written(tmp_path: Path) -> None:
    before = time.time()
    journal = Journal(tmp_path)
    journal.add(Event("7", reason="not_there"))
    journal.close()
    (event,) = read_events(tmp_path / JOURNAL).values()
    assert before - 0.001 <= event.time <= time.time()
    assert event == Event("7", reason="not_there")
