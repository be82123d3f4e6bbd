"""Single requests: what is continued, what is asked anew, and how long a server may let us wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from survey.archives.addresses import Access
from survey.archives.failures import FetchError
from survey.archives.journal import Event, Journal, crc_of
from survey.archives.pace import Pace
from survey.archives.partial import partial_path
from survey.archives.transfer import Transfer, retry_after
from tests.archives.archive_server import Served, Server, serve

DATA = bytes(range(256)) * 4000


def transfer(server: Server) -> Transfer:
    return Transfer(Access(server.base), Pace(1000), connections=1, timeout=1)


def get(server: Server, partial: Path, key: str = "a") -> bytes:
    return transfer(server).fetch(f"{server.base}/{key}", partial).path.read_bytes()


def test_a_part_is_continued_where_the_server_knows_its_version(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    with serve([Served("a", "a", DATA, ["cut"])]) as server:
        server.offers_ranges = True
        with pytest.raises(FetchError, match="512,000 bytes did not arrive"):
            get(server, partial)
        assert partial.stat().st_size == len(DATA) // 2
        assert get(server, partial) == DATA
        assert [asked.range for asked in server.asked] == ["", f"bytes={len(DATA) // 2}-"]


def test_a_part_of_another_version_is_fetched_anew(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    with serve([Served("a", "a", DATA, ["cut"])]) as server:
        server.offers_ranges = True
        with pytest.raises(FetchError):
            get(server, partial)
        server.files["a"].data = DATA[::-1] + b"longer"
        assert get(server, partial) == DATA[::-1] + b"longer"


def test_without_ranges_a_file_is_fetched_anew(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    with serve([Served("a", "a", DATA, ["cut"])]) as server:
        with pytest.raises(FetchError):
            get(server, partial)
        assert get(server, partial) == DATA
        assert [asked.range for asked in server.asked] == ["", ""]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("404", "not_there"),
        ("403", "forbidden"),
        ("500", "server_error"),
        ("429", "busy"),
        ("503", "busy"),
        ("cut", "truncated"),
        ("long", "truncated"),
        ("chunked cut", "truncated"),
        ("close", "no_answer"),
        ("stall", "no_answer"),
        ("stall at once", "no_answer"),
    ],
)
def test_each_trouble_has_its_reason(trouble: str, reason: str, tmp_path: Path) -> None:
    with serve([Served("a", "a", DATA, [trouble])]) as server:
        with pytest.raises(FetchError) as caught:
            get(server, tmp_path / "partial")
        assert caught.value.reason in (reason, "no_answer" if trouble == "chunked cut" else reason)


def test_a_file_that_is_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    for trouble in ("", "chunked"):
        with serve([Served("a", "a", DATA, [trouble])]) as server:
            with pytest.raises(FetchError) as caught:
                transfer(server).fetch(f"{server.base}/a", tmp_path / "partial", largest=1000)
            assert caught.value.reason == "too_large"


def test_circles_of_redirects_end(tmp_path: Path) -> None:
    with serve([Served("a", "a", DATA, ["redirect"] * 20)]) as server:
        with pytest.raises(FetchError) as caught:
            get(server, tmp_path / "partial")
        assert caught.value.reason == "redirects"
        assert len(server.asked) == 6


@pytest.mark.parametrize(
    "location",
    ["http://[::1/x", "http://host:99999/x", "http://host:0/x", "http://" + "a" * 70 + "/x", "ftp://host/x"],
)
def test_a_redirect_to_no_address_fails_one_file(location: str, tmp_path: Path) -> None:
    with serve([Served("a", "a", DATA, [f"to {location}"]), Served("b", "b", DATA)]) as server:
        with pytest.raises(FetchError) as caught:
            get(server, tmp_path / "partial")
        assert caught.value.reason == "redirects"
        assert get(server, tmp_path / "partial", "b") == DATA


def test_waits_are_given_as_seconds_or_as_a_date_by_the_clock_of_the_server() -> None:
    wrong_clock = datetime(2011, 10, 24, 12, 0, 0, tzinfo=UTC)
    later = format_datetime(wrong_clock + timedelta(seconds=90), usegmt=True)
    assert retry_after({"Retry-After": "120"}) == 120
    assert retry_after({"Retry-After": later, "Date": format_datetime(wrong_clock, usegmt=True)}) == 90
    assert retry_after({"Retry-After": format_datetime(wrong_clock, usegmt=True)}) == 0
    soon = retry_after({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert soon is not None
    assert 3000 < soon <= 3600
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


def test_a_kill_between_the_journal_and_the_renaming_loses_nothing(tmp_path: Path) -> None:
    partial = partial_path(tmp_path, "7")
    partial.parent.mkdir()
    partial.write_bytes(DATA)
    journal = Journal(tmp_path)
    journal.add(Event("7", "plan/spec.fits", len(DATA), crc_of(partial)))
    journal.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "8", "pa')  # a line that a kill has cut
    again = Journal(tmp_path)
    again.read()
    assert again.is_settled("7", again=False)
    assert (tmp_path / "plan/spec.fits").read_bytes() == DATA
    assert not partial.exists()
    again.add(Event("9", reason="not_there"))
    again.close()
    last = Journal(tmp_path)
    last.read()
    assert set(last.events) == {"7", "9"}


def test_a_look_at_a_journal_renames_nothing(tmp_path: Path) -> None:
    partial = partial_path(tmp_path, "7")
    partial.parent.mkdir()
    partial.write_bytes(DATA)
    journal = Journal(tmp_path)
    journal.add(Event("7", "plan/spec.fits", len(DATA), crc_of(partial)))
    looked = Journal(tmp_path)
    looked.read(finish=False)
    assert looked.is_settled("7", again=False)
    assert partial.read_bytes() == DATA
    assert not (tmp_path / "plan").exists()
    journal.complete(journal.events["7"], partial)  # the process that works in the folder is not disturbed
    journal.close()
    assert (tmp_path / "plan/spec.fits").read_bytes() == DATA


def test_a_journal_that_names_a_file_which_is_not_there_is_not_believed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(Event("7", "plan/spec.fits", 10, 1))
    journal.close()
    again = Journal(tmp_path)
    again.read()
    assert not again.is_settled("7", again=False)


def test_two_files_of_one_name_get_two_paths(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.free_path("plan/spec.fits", "7") == "plan/spec.fits"
    assert journal.free_path("plan/spec.fits", "8") == "plan/8-spec.fits"
    assert journal.free_path("plan/spec.fits", "7") == "plan/spec.fits"
