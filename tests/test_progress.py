"""The lines in a log of a long job."""

import re

import pytest

from survey import progress
from survey.progress import Progress, duration_text


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def strftime(self, pattern: str) -> str:
        return "12:00:00"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_log_has_a_line_every_ten_seconds_with_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("ingest", 1000, "files") as shown:
        for _ in range(10):
            clock.now += 3
            shown.add(30, "2 refused")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "12:00:00 ingest: 30 of 1,000 (3%), 1:37 left, 10 files/s, 2 refused"
    assert lines[-1] == "12:00:00 ingest: 300 files in 30 s, 2 refused"
    assert len(lines) == 4, "one after the first seconds, then one every ten, then the last"
    assert all(re.search(r"\d files/s", line) for line in lines[:-1])


def test_the_slow_first_step_of_a_long_job_predicts_no_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("train", 10_000, "spectra") as shown:
        for count in (64, 1_000):
            clock.now += 6
            shown.add(count)
        clock.now += 6
        shown.add(1_000)
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first.endswith("train: 64 of 10,000 (1%), 11 spectra/s")
    assert "left" in second


def test_a_job_of_unknown_length_shows_how_far_it_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("list", None, "files") as shown:
        clock.now += 4
        shown.add(12_345)
    assert "list: 12,345, 3,086 files/s" in capsys.readouterr().err


def test_the_last_line_of_a_failed_job_says_that_it_stopped(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def job() -> None:
        with Progress("ingest", 10, "files") as shown:
            clock.now += 0.5
            shown.add(3)
            raise KeyError

    with pytest.raises(KeyError):
        job()
    assert capsys.readouterr().err == "12:00:00 ingest: 3 files in 0.5 s, stopped\n"


def test_nothing_goes_to_stdout_and_no_line_is_rewritten(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("ingest", 10, "files") as shown:
        clock.now += 20
        shown.add(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    assert "\x1b" not in err


def test_long_times_are_hours_and_minutes() -> None:
    assert [duration_text(seconds) for seconds in (0.04, 9.96, 42.4, 60, 3599.6, 3661, 90_000)] == [
        "0.0 s",
        "10.0 s",
        "42 s",
        "1:00",
        "1:00:00",
        "1:01:01",
        "25:00:00",
    ]


def test_slow_work_is_counted_per_minute_and_without_progress_there_is_no_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("tune", 10, "trainings") as bar:
        clock.now += 20
        bar.add(0, "waiting")
        clock.now += 20
        bar.add(2)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("tune: 0 of 10 (0%), 0 trainings/s, waiting")
    assert "3.0 trainings/min" in second
    assert "2:40 left" in second
