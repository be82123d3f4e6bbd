"""How fast requests follow each other, by a clock that the test turns."""

import threading

import pytest

from survey.archives.pace import EndedError, Pace


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def moments(pace: Pace, clock: Clock, count: int) -> list[float]:
    found = []
    for _ in range(count):
        pace.wait()
        found.append(clock.now)
    return found


def test_requests_are_never_closer_than_the_rate_allows_and_the_first_waits_too() -> None:
    clock = Clock()
    found = moments(Pace(4, clock, clock.sleep), clock, 9)
    assert found == pytest.approx([100.25 + 0.25 * number for number in range(9)])


def test_a_late_request_does_not_let_others_catch_up() -> None:
    clock = Clock()
    pace = Pace(4, clock, clock.sleep)
    pace.wait()
    clock.now += 10
    assert moments(pace, clock, 3) == pytest.approx([110.25, 110.5, 110.75])


def test_nobody_sends_during_a_pause() -> None:
    clock = Clock()
    pace = Pace(4, clock, clock.sleep)
    pace.wait()
    pace.pause(30)
    pace.pause(5)
    assert moments(pace, clock, 2) == pytest.approx([130.25, 130.5])


def test_the_end_of_the_job_ends_every_wait() -> None:
    pace = Pace(0.001)
    ended = []

    def wait() -> None:
        try:
            pace.wait()
        except EndedError:
            ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    pace.stop.set()
    for thread in threads:
        thread.join(10)
    assert ended == [True] * 3
    with pytest.raises(EndedError):
        pace.rest(100)
