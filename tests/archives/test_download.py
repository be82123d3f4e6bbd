"""A download from an archive that behaves badly: everything arrives sound, or is listed with its reason."""

import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from survey.archives.document import DOWNLOAD
from survey.archives.settings import Download
from survey.folder import Folder
from survey.sources import fits
from survey.sources.reading import unpack
from tests.archives.archive_server import PASSING, PERMANENT, TOKEN, Asked, Served, Server, serve
from tests.commands import survey
from tests.forks import JobServer, job_server
from tests.processes import Job, Workplace, new_workplace

REASON = {
    "404": "not_there",
    "403": "forbidden",
    "html for ever": "page",
    "damaged for ever": "damaged",
    "500 for ever": "server_error",
    "another file": "other_file",
}
QUICK = ["rate=1000", "timeout=1", "first_wait=0.01", "retries=4", "missing_above=1", "stop_after=0"]


def arguments(server: Server, out: Path, *more: str) -> list[str]:
    """A download from this archive; what is given counts in place of `QUICK`."""
    given = {item.partition("=")[0] for item in more}
    quick = [item for item in QUICK if item.partition("=")[0] not in given]
    return ["download", "archive=lamost", f"options.base={server.base}", f"out={out}", *quick, *more]


def give_troubles(files: list[Served], seed: int, stalls: int) -> dict[str, str]:
    """Troubles for half of the files; those with a permanent one, and the reason that they will get."""
    draw = random.Random(seed)
    passing, permanent = cycle(PASSING), cycle(PERMANENT)
    expected = {}
    for number, served in enumerate(files):
        if number % 20 == 7:
            trouble = next(permanent)
            served.troubles, expected[served.key] = [trouble], REASON[trouble]
        elif number % 2:
            troubles = [next(passing) for _ in range(draw.choice((1, 1, 2)))]
            served.troubles = [name for name in troubles if stalls > 0 or not name.startswith("stall")]
            stalls -= sum(name.startswith("stall") for name in troubles)
    return expected


def check_folder(out: Path, files: list[Served], expected: dict[str, str]) -> None:
    """Every file is here, byte for byte, or missing for its reason."""
    here = {row["obsid"]: row for row in pq.read_table(out / "catalogue.parquet").to_pylist()}
    missing = {row["key"]: row["reason"] for row in pq.read_table(out / "missing.parquet").to_pylist()}
    assert missing == expected
    for served in files:
        if served.key not in expected:
            row = here[int(served.key)]
            assert (out / row["path"]).read_bytes() == served.data
            assert row["bytes"] == len(served.data)
    assert len(here) == len(files) - len(expected)
    assert not (out / ".partial").exists()
    document = Folder(str(out), DOWNLOAD).document()
    assert (document.wanted, document.complete) == (len(files), len(here))
    assert document.missing == dict(Counter(expected.values()))


def check_pace(server: Server, begun: float, rate: float, connections: int) -> None:
    """Never more requests than the rate allows since the beginning, whatever delays a busy machine adds."""
    mirrored: list[Asked] = server.other.asked  # type: ignore[attr-defined]
    moments = sorted(asked.moment for asked in [*server.asked, *mirrored])
    for number, moment in enumerate(moments, 1):
        assert number <= rate * (moment - begun), "requests follow each other too fast"
    for first, moment in enumerate(moments):
        within = sum(moment <= other < moment + 1 for other in moments[first : first + 10_000])
        assert within <= rate + 1 + connections  # those on their way when the second begins
    assert server.most_open <= connections


def test_what_a_bad_archive_serves_arrives_sound_or_is_listed_with_its_reason(
    mocked: Path, served: list[Served], token: str, tmp_path: Path
) -> None:
    expected = give_troubles(served, seed=1, stalls=4)
    with serve(served, needs_token=True) as server:
        server.other_file = served[0].data
        begun = time.monotonic()
        catalogue = f"input={mocked / 'catalog.csv.gz'}"
        done = survey(*arguments(server, tmp_path / "out", catalogue, "connections=6", "rate=400"))
        assert done.returncode == 0, done.stderr
        check_folder(tmp_path / "out", served, expected)
        check_pace(server, begun, 400, 6)
        assert f"{len(served) - len(expected)} files" in done.stdout
        assert all(f"{reason}: " in done.stdout for reason in expected.values())
        mirrored = server.other.seen_text  # type: ignore[attr-defined]
        assert mirrored, "some files come from the mirror"
        assert not any(token in text for text in mirrored), "the token went to another host"
        assert all(asked.signed for asked in server.asked)
        asked = len(server.asked)
        again = survey(*arguments(server, tmp_path / "out", catalogue, "again=false"))
        passing = [key for key, reason in expected.items() if reason in ("page", "damaged", "server_error")]
        assert {one.key for one in server.asked[asked:]} == set(passing), "the rest is settled"
        check_folder(tmp_path / "out", served, expected)
        assert again.returncode == 0


def test_a_finished_download_asks_for_nothing(served: list[Served], tmp_path: Path) -> None:
    some = served[:5]
    with serve(some) as server:
        ids = f"ids=[{','.join(one.key for one in some)}]"
        first = survey(*arguments(server, tmp_path / "out", ids))
        asked = len(server.asked)
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
        second = survey(*arguments(server, tmp_path / "out", ids))
        assert len(server.asked) == asked == 5
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "5 by this run with 5 requests" in first.stdout
    assert "nothing to do" in second.stdout


def test_a_folder_grows_by_another_selection(served: list[Served], tmp_path: Path) -> None:
    with serve(served) as server:
        survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key},{served[1].key}]"))
        done = survey(*arguments(server, tmp_path / "out", f"ids=[{served[1].key},{served[2].key}]"))
        assert done.returncode == 0, done.stderr
        assert Counter(asked.key for asked in server.asked) == {one.key: 1 for one in served[:3]}
    check_folder(tmp_path / "out", served[:3], {})


def test_a_file_that_was_removed_or_cut_is_fetched_again_and_no_other(
    served: list[Served], tmp_path: Path
) -> None:
    some = served[:4]
    with serve(some) as server:
        ids = f"ids=[{','.join(one.key for one in some)}]"
        survey(*arguments(server, tmp_path / "out", ids))
        paths = pq.read_table(tmp_path / "out/catalogue.parquet")["path"].to_pylist()
        (tmp_path / "out" / paths[0]).unlink()
        (tmp_path / "out" / paths[2]).write_bytes(b"SIMPLE  = cut")
        survey(*arguments(server, tmp_path / "out", ids))
        assert Counter(asked.key for asked in server.asked[4:]) == {some[0].key: 1, some[2].key: 1}
    check_folder(tmp_path / "out", some, {})


@pytest.fixture(scope="module")
def forks() -> Iterator[JobServer]:
    """Starts jobs as forks."""
    with job_server("survey.archives.download", "survey.reports.download") as server:
        yield server


Start = Callable[..., Job]
"""Starts a script with arguments in a workplace."""


def start(python: Start, place: Workplace, server: Server, out: Path, *more: str) -> Job:
    return python(place, "jobs/download.py", *arguments(server, out, *more)[1:], LAMOST_TOKEN=TOKEN)


def final_files(out: Path) -> list[Path]:
    """The files under their final names."""
    return [path for path in out.rglob("spec-*") if ".partial" not in path.parts]


def sound_files(out: Path) -> dict[str, str]:
    """The files under their final names: each can be read to its end; their obsids and paths."""
    found = {}
    for path in final_files(out):
        hdus = fits.parse(unpack(path.read_bytes()))
        assert len(hdus) >= 1
        found[str(hdus[0].cards.get("OBSID"))] = str(path)
    return found


def write_catalogue(path: Path, files: list[Served]) -> None:
    path.write_text("\n".join(["obsid|snrg", *(f"{one.key}|20.5" for one in files)]) + "\n")


def kill_and_continue(python: Start, folder: Path, served: list[Served], tmp_path: Path, kills: int) -> None:
    """SIGKILL again and again: no file is damaged, none that was complete is asked for again."""
    expected = give_troubles(served, seed=2, stalls=2)
    out, draw = tmp_path / "out", random.Random(3)
    with serve(served, needs_token=True) as server, new_workplace() as place:
        server.other_file = served[0].data
        server.offers_ranges = True
        complete: set[str] = set()
        wanted = (f"input={folder / 'catalog.csv.gz'}", "connections=4", "rate=100")
        for _ in range(kills):
            before, begun = len(server.asked), len(complete)
            job = start(python, place, server, out, *wanted)
            more = draw.randint(1, max(len(served) // (kills + 2), 2))
            job.until(lambda goal=begun + more: len(final_files(out)) >= goal)  # type: ignore[misc]
            assert job.process.poll() is None, job.err
            time.sleep(draw.random() / 50)
            cmdline = Path(f"/proc/{job.process.pid}/cmdline").read_bytes()
            job.kill()
            assert TOKEN.encode() not in cmdline
            repeated = {asked.key for asked in server.asked[before:]} & complete
            assert not repeated, "complete files were asked for again"
            complete = set(sound_files(out))
        before = len(server.asked)
        last = start(python, place, server, out, *wanted)
        assert last.wait() == 0, last.err
        assert not {asked.key for asked in server.asked[before:]} & complete
        check_folder(out, served, expected)
        assert server.most_open <= 4
        texts = [job.out + job.err for job in place.jobs]
    assert not any(TOKEN in text for text in texts)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert TOKEN.encode() not in path.read_bytes(), f"{path} holds the token"


@pytest.mark.kill
def test_a_download_that_is_killed_twice_asks_for_no_complete_file_again(
    served: list[Served], tmp_path: Path, forks: JobServer
) -> None:
    write_catalogue(tmp_path / "catalog.csv.gz", served[:60])
    kill_and_continue(forks.python, tmp_path, served[:60], tmp_path, kills=2)


@pytest.fixture
def many(served: list[Served], tmp_path: Path) -> tuple[Path, list[Served]]:
    """2,000 files, and their catalogue: those of the mock survey under further obsids."""
    files = []
    for number in range(2000):
        one = served[number % len(served)]
        obsid = str(5_000_000 + number)
        data = unpack(one.data).replace(_card(one.key), _card(obsid), 1)
        name = f"spec-56615-MANY_sp{1 + number // 250:02d}-{1 + number % 250:03d}.fits"
        files.append(replace(one, key=obsid, name=name, data=bytes(data), troubles=[]))
    write_catalogue(tmp_path / "catalog.csv.gz", files)
    return tmp_path, files


def _card(obsid: str) -> bytes:
    return f"OBSID   = {obsid:>20}".encode()


@pytest.mark.long
def test_two_thousand_files_of_a_bad_archive_survive_ten_kills(
    many: tuple[Path, list[Served]], tmp_path: Path
) -> None:
    folder, files = many
    kill_and_continue(Workplace.python, folder, files, tmp_path, kills=10)


def test_an_ingest_reads_the_catalogue_and_the_folder_of_a_download(
    mocked: Path, served: list[Served], tmp_path: Path
) -> None:
    some = served[:60]
    by_obsid = f"ids=[{','.join(one.key for one in some[:20])}]"
    cut = "cuts={snrg: [10, null], class: STAR}"
    with serve(served) as server:
        survey(*arguments(server, tmp_path / "ids", by_obsid))
        done = survey(
            *arguments(server, tmp_path / "cut", f"input={mocked / 'catalog.csv.gz'}", cut, "most=40")
        )
        assert done.returncode == 0, done.stderr
    for name, source, count in (("ids", "ids", 20), ("cut", "cut/catalogue.parquet", 40)):
        store = tmp_path / f"store-{name}"
        made = survey(
            *(
                "ingest",
                "cemp",
                f"input={tmp_path / source}",
                f"store={store}",
                "workers=1",
                "refuse_above=0.2",
            )
        )
        assert made.returncode == 0, made.stderr
        assert f"rows in    {count}" in made.stdout
    rows = pq.read_table(tmp_path / "store-cut/spectra", columns=["obsid", "ra", "z"]).to_pylist()
    truth = {row["obsid"]: row for row in pq.read_table(mocked / "labels.parquet").to_pylist()}
    assert rows
    assert all(abs(row["ra"] - truth[row["obsid"]]["ra"]) < 1e-4 for row in rows)
    assert all(truth[row["obsid"]]["snr_g"] >= 9.99 for row in rows)


def test_status_describes_a_download(served: list[Served], tmp_path: Path) -> None:
    with serve(served) as server:
        survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key},424242]"))
    shown = survey("status", str(tmp_path / "out"))
    assert shown.returncode == 0, shown.stderr
    assert "finished" in shown.stdout
    assert "not_there" in shown.stdout


def test_a_wrong_token_ends_the_job_after_few_requests(
    served: list[Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = f"ids=[{','.join(one.key for one in served[:100])}]"
    monkeypatch.setenv("LAMOST_TOKEN", "wrong-token-1234")
    with serve(served, needs_token=True) as server:
        done = survey(*arguments(server, tmp_path / "out", ids, "stop_after=50"))
        assert len(server.asked) < 60
    assert done.returncode == 1
    assert "needs_login: a page in place of the file: LAMOST: please log in" in done.stderr
    assert "the archive does not take the token in LAMOST_TOKEN" in done.stderr
    assert "wrong-token" not in done.stderr + done.stdout
    assert done.stderr.count("\n") < 3


def test_a_log_of_everything_shows_no_token(
    served: list[Served], token: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for one, trouble in zip(served, PASSING, strict=False):
        one.troubles = [trouble] * 3
    with serve(served[:16], needs_token=True) as server:
        ids = f"ids=[{','.join(one.key for one in served[:16])}]"
        done = survey(*arguments(server, tmp_path / "out", ids, "retries=0"))
        assert server.asked
    assert "missing" in done.stdout
    assert token not in done.stdout + done.stderr + caplog.text
    texts = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(token.encode() in text for text in texts)


def test_a_page_that_repeats_the_token_is_stored_and_shown_without_it(
    served: list[Served], token: str, tmp_path: Path
) -> None:
    page = f"<html><title>Token {token} has expired</title></html>".encode()
    some = [Served(one.key, one.name, page) for one in served[:3]]
    with serve(some, needs_token=True) as server:
        ids = f"ids=[{','.join(one.key for one in some)}]"
        done = survey(*arguments(server, tmp_path / "out", ids, "retries=0", "stop_after=3"))
    assert "needs_login: a page in place of the file: Token *** has expired" in done.stderr
    texts = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert token.lower() not in f"{done.stdout}{done.stderr}{texts}".lower()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", ""),
        (b"obsid,ra,dec\n", " (it answers 'obsid,ra,dec')"),
        (f"nothing for token={TOKEN}".encode(), " (it answers 'nothing for token=***')"),
    ],
)
def test_an_archive_that_lists_nothing_around_a_position_is_named(
    text: bytes, shown: str, token: str, tmp_path: Path
) -> None:
    del token
    with serve([Served("10.00000000,20.00000000", "x", text)]) as server:
        done = survey(*arguments(server, tmp_path / "out", "around=[10,20,0.1]"))
    said = f"around: {server.base} lists no spectra within 0.1 degrees of 10,20{shown}; give a larger radius"
    assert done.returncode == 1
    assert said in done.stderr


def test_an_archive_that_asks_for_a_long_pause_ends_the_job(served: list[Served], tmp_path: Path) -> None:
    served[0].troubles = ["429"]
    with serve(served) as server:
        server.retry_after = "7200"
        done = survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key}]"))
        assert len(server.asked) == 1
        assert done.returncode == 1
        assert "asks to come back after 7,200 s (HTTP 429 Too Many Requests)" in done.stderr
        server.retry_after = "0"
        done = survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key}]"))
        assert done.returncode == 0, done.stderr


@pytest.mark.kill
def test_ctrl_c_ends_the_job_at_once_and_the_same_command_continues(
    served: list[Served], tmp_path: Path, forks: JobServer
) -> None:
    some = served[:40]
    some[20].troubles = ["stall at once"]
    ids = f"ids=[{','.join(one.key for one in some)}]"
    with serve(some) as server, new_workplace() as place:
        job = start(
            forks.python, place, server, tmp_path / "out", ids, "timeout=300", "connections=2", "rate=50"
        )
        job.until(lambda: len(final_files(tmp_path / "out")) >= 25)
        job.process.send_signal(signal.SIGINT)
        assert job.wait(60) == 130
        assert "stopped; run the same command again to continue" in job.err
        complete = set(sound_files(tmp_path / "out"))
        asked = len(server.asked)
        last = start(forks.python, place, server, tmp_path / "out", ids)
        assert last.wait() == 0, last.err
        assert not {one.key for one in server.asked[asked:]} & complete
    check_folder(tmp_path / "out", some, {})


def test_an_archive_that_is_not_there_ends_the_job_with_one_sentence(tmp_path: Path) -> None:
    done = survey(
        *("download", "archive=lamost", "options.base=http://127.0.0.1:9", f"out={tmp_path / 'out'}"),
        *("ids=[1,2,3,4]", "stop_after=3", "retries=1", "first_wait=0", "rate=1000"),
    )
    assert done.returncode == 1
    assert "3 files in a row did not arrive" in done.stderr
    assert "no_answer" in done.stderr
    assert "run the same command again later" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_missing_files_than_allowed_fail_the_job_after_all_is_written(
    served: list[Served], tmp_path: Path
) -> None:
    ids = f"ids=[{served[0].key},424242]"
    with serve(served) as server:
        done = survey(*arguments(server, tmp_path / "out", ids, "missing_above=0.05"))
    assert done.returncode == 1
    assert "1 of 2 files did not arrive, more than missing_above=0.05 allows (not_there 1)" in done.stderr
    assert (tmp_path / "out/download.json").exists()


def test_no_room_on_the_disk_is_said_before_the_first_request(served: list[Served], tmp_path: Path) -> None:
    with serve(served) as server:
        done = survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key}]", "keep_free=1e9"))
        assert not server.asked
    assert done.returncode == 1
    assert "1 files take about 100 kB" in done.stderr


def test_show_says_how_many_files_would_come_and_asks_for_none(
    mocked: Path, served: list[Served], tmp_path: Path
) -> None:
    with serve(served) as server:
        given = arguments(
            server, tmp_path / "out", f"input={mocked / 'catalog.csv.gz'}", "most=100", "rate=2"
        )
        done = survey(*given, "show=true")
        assert not server.asked
    assert done.returncode == 0, done.stderr
    assert "to fetch: 100 files, about 10 MB" in done.stdout
    assert "time: 50 s or more, at 2 requests per second" in done.stdout
    assert not (tmp_path / "out").exists()


def test_other_data_into_the_same_folder_is_refused(served: list[Served], tmp_path: Path) -> None:
    with serve(served) as server:
        survey(*arguments(server, tmp_path / "out", f"ids=[{served[0].key}]"))
        done = survey(*arguments(server, tmp_path / "out", f"ids=[{served[1].key}]", "options.release=dr8"))
    assert done.returncode == 1
    assert "release" in done.stderr
    assert "another out=" in done.stderr


def test_every_setting_that_changes_no_result_is_left_out_of_the_fingerprint() -> None:
    base = {"archive": "lamost", "out": "a", "ids": ["1"]}
    first = Download.from_dict("x", base)
    other = Download.from_dict(
        "x", base | {"rate": 1.0, "options": {"base": "http://mirror.org"}, "out": "b"}
    )
    assert first.fingerprint() == other.fingerprint()
    assert (
        first.fingerprint() != Download.from_dict("x", base | {"options": {"release": "dr8"}}).fingerprint()
    )
