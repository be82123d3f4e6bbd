"""Input and store in buckets, with a private server. The server and the driver are killed at random moments.

SURVEY_KILLS=20 is the long form.
"""

import io
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from survey import buckets, files
from survey.fetch import fetch
from survey.spectrum import Refused
from survey.store.ingest import IngestResult, ingest
from survey.store.manifest import open_manifest
from survey.store.manifest.catalogue import open_catalogue
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.tables.read import first_bytes
from tests import survey_files
from tests.commands import survey
from tests.processes import Job, Workplace
from tests.s3.conftest import PAGE, SECRET, Server, put

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800 + 120 * KILLS)]

PREPARE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
SHARDS, SIZE = 8, 25 if KILLS > 1 else 8


def run(source: str, store: str, run_shards: Callable[..., Any] = map, **changes: Any) -> IngestResult:
    values = {"input": source, "store": store, "shard": 4, "refuse_above": 1.0, "prepare": PREPARE}
    return ingest(Ingest.from_dict("ingest", values | changes), run_shards)


def rows(store: str, kind: str = "spectra") -> pd.DataFrame:
    """The rows of a store, their paths without folder."""
    data = [
        files.read(entry.path)
        for entry in files.walk(files.join(store, kind))
        if entry.path.endswith(".parquet")
    ]
    table = pa.concat_tables(
        [pq.read_table(io.BytesIO(part)).replace_schema_metadata() for part in data]
    ).to_pandas()
    frame: pd.DataFrame = table.assign(path=table["path"].map(os.path.basename))
    return frame


def listing(store: str) -> dict[str, tuple[str, Any]]:
    """The objects of a store with their times."""
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    page = files.bucket_system().call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix + "/")
    return {facts["Key"]: (facts["ETag"], facts["LastModified"]) for facts in page["Contents"]}


@pytest.fixture(scope="module")
def small(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten files and three broken ones in a folder, in s3://sky/small, and their local store."""
    folder = tmp_path_factory.mktemp("small")
    source = survey_files.write(folder / "in", range(10), broken=True)
    put("s3://sky/small", {path.name: path.read_bytes() for path in source.iterdir()})
    run(str(source), str(folder / "store"))
    return folder


@pytest.fixture(scope="module")
def large(server: Server) -> dict[str, bytes]:
    """Objects of eight shards in s3://sky/large, and the files of their undisturbed store."""
    base = list((survey_files.named(range(25)) | survey_files.BROKEN).items())
    contents = {f"{n:04d}-{base[n % 28][0]}": base[n % 28][1] for n in range(SHARDS * SIZE)}
    put("s3://sky/large", contents)
    document = run("s3://sky/large", "s3://sky/undisturbed", shard=SIZE).document
    assert (document.rows_in, document.shards) == (SHARDS * SIZE, SHARDS)
    return parts("s3://sky/undisturbed")


def parts(store: str) -> dict[str, bytes]:
    found = [
        entry.path
        for kind in ("spectra", "refused", "markers")
        for entry in files.walk(files.join(store, kind))
    ]
    return {path.removeprefix(store): files.read(path) for path in found}


@pytest.mark.parametrize("where", ["input", "store", "both"])
def test_buckets_and_folders_give_the_same_rows(small: Path, tmp_path: Path, where: str) -> None:
    source = str(small / "in") if where == "store" else "s3://sky/small"
    store = str(tmp_path / "store") if where == "input" else f"s3://sky/store-{where}"
    result = run(source, store)
    assert (result.document.rows_in, result.document.written, result.created) == (13, 10, 4)
    for kind in ("spectra", "refused"):
        pd.testing.assert_frame_equal(rows(store, kind), rows(str(small / "store"), kind))
    assert open_store(store).document == result.document
    assert sum(table.num_rows for table in open_store(store).tables(["flux"])) == 10


@pytest.mark.usefixtures("small")
def test_a_second_run_writes_nothing_and_a_second_night_only_new_shards() -> None:
    store = "s3://sky/nights/store"
    put("s3://sky/nights/in", survey_files.named(range(6)))
    run("s3://sky/nights/in", store)
    first = listing(store)
    assert run("s3://sky/nights/in", store).created == 0
    assert listing(store) == first
    put("s3://sky/nights/in", survey_files.named(range(6, 11)))
    result = run("s3://sky/nights/in", store)
    assert (result.created, result.plan.new_rows, result.plan.changed) == (2, 5, 0)
    second = listing(store)
    parts_before = {key: facts for key, facts in first.items() if "part-" in key}
    assert {key: second[key] for key in parts_before} == parts_before
    assert len(rows(store)) == 11


@pytest.mark.usefixtures("small")
def test_a_changed_object_is_found_and_read_again() -> None:
    store = "s3://sky/changing/store"
    put("s3://sky/changing/in", survey_files.named(range(6)))
    run("s3://sky/changing/in", store)
    put("s3://sky/changing/in", {survey_files.name(0): b"no FITS"})
    assert run("s3://sky/changing/in", store).plan.changed == 1
    result = run("s3://sky/changing/in", store, reread=True)
    assert (result.created, result.plan.redo, result.document.refused) == (1, (0,), {"not_fits": 1})


def test_an_object_is_read_by_one_request(
    server: Server, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`_call_s3` is private to s3fs; every request goes through it."""
    requests: Counter[str] = Counter()
    send = S3FileSystem._call_s3

    async def counted(self: Any, method: str, *settings: Any, **request: Any) -> Any:
        requests[method] += 1
        return await send(self, method, *settings, **request)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    names = sorted(path.name for path in (small / "in").iterdir())
    data = list(fetch([f"s3://sky/small/{name}" for name in names]))
    assert data == [(small / "in" / name).read_bytes() for name in names]
    assert requests == {"get_object": 13}


def test_missing_and_too_large_objects_are_refused(
    server: Server, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped, plain = (f"s3://sky/small/{survey_files.name(number)}" for number in (0, 1))
    other = [zipped.removesuffix(".gz"), f"{plain}.gz"]
    assert list(fetch(other)) == [files.read(zipped), files.read(plain)]
    missing = next(iter(fetch(["s3://sky/small/none.fits"])))
    assert isinstance(missing, Refused)
    assert (missing.reason, missing.detail) == ("missing", "no such object")
    monkeypatch.setattr(files, "LARGEST", 70000)
    large = next(iter(fetch([plain])))
    assert isinstance(large, Refused)
    assert (large.reason, large.detail) == ("too_large", f"{len(survey_files.file(1))} bytes")


@pytest.mark.usefixtures("small")
def test_files_and_prefixes_are_distinguished() -> None:
    name = f"s3://sky/small/{survey_files.name(1)}"
    there = (name, "s3://sky/small", "s3://sky/small/", "s3://sky")
    assert all(files.exists(path) for path in there)
    assert not any(files.exists(path) for path in ("s3://sky/smal", "s3://sky/none"))
    assert [files.is_folder(path) for path in (name, "s3://sky/small", "s3://sky", "s3://sky/smal")] == [
        False,
        True,
        True,
        False,
    ]
    assert files.names("s3://sky/nowhere") == []
    assert survey_files.name(1) in files.names("s3://sky/small/")
    assert "small" in files.names("s3://sky")
    files.write("s3://sky/gone", b"x")
    files.remove("s3://sky/gone")
    files.remove("s3://sky/gone")
    assert files.stat_of("s3://sky/gone") is None
    with pytest.raises(FileNotFoundError, match="s3://sky/gone: no such object"):
        files.read("s3://sky/gone")


def test_a_listing_of_more_than_one_page_is_complete(server: Server) -> None:
    count = 2 * PAGE + 3
    put("s3://sky/pages", {f"{number:04d}": b"" for number in range(count)})
    assert files.names("s3://sky/pages") == [f"{number:04d}" for number in range(count)]
    assert sum(1 for _ in files.walk("s3://sky/pages")) == count


def job(place: Workplace, source: str, store: str, *arguments: str, **environment: str) -> Job:
    settings = [
        f"input={source}",
        f"store={store}",
        "refuse_above=1.0",
        f"prepare={json.dumps(PREPARE)}",
        *arguments,
    ]
    return place.python("jobs/ingest.py", *settings, **environment)


def check_message(error: str, *texts: str) -> None:
    """The last line of the error holds these texts, and nothing is a traceback."""
    assert "Traceback" not in error, error
    last = error.splitlines()[-1]
    assert all(text in last for text in texts), last
    assert SECRET not in error


def check_failure(run: Job, *texts: str, seconds: float = 900) -> None:
    """The job has ended with a message of one line that holds these texts, and without a traceback."""
    assert run.wait(seconds) == 1
    check_message(run.err, *texts)
    assert SECRET not in run.out


@pytest.mark.usefixtures("small")
def test_a_missing_bucket_is_named_with_advice(server: Server, tmp_path: Path) -> None:
    texts = (
        "s3://absent: there is no such bucket at",
        server.environment["AWS_ENDPOINT_URL"],
        "create it, or correct its name or AWS_ENDPOINT_URL",
    )
    ended = survey("ingest", "input=s3://absent/in", f"store={tmp_path / 'store'}", "workers=1")
    assert ended.returncode == 1
    check_message(ended.stderr, *texts)
    (tmp_path / "catalogue.csv").write_text("filename,rv\na.fits,1\n")
    wrong = [
        ("s3://sky/small", "s3://absent/store", ""),
        (str(tmp_path / "catalogue.csv"), str(tmp_path / "other"), "s3://absent/in"),
    ]
    for source, store, folder in wrong:
        with pytest.raises(FileNotFoundError) as caught:
            run(source, store, files=folder)
        assert all(text in str(caught.value) for text in texts)


ADVICE = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile in ~/.aws) "
    "and their rights in this bucket"
)


@pytest.mark.usefixtures("small")
def test_a_wrong_key_is_reported_with_advice(server: Server, tmp_path: Path) -> None:
    accept_unknown_keys(server, 0)
    ended = survey("ingest", "input=s3://sky/small", f"store={tmp_path / 'store'}", "workers=1")
    accept_unknown_keys(server, 1e9)
    assert ended.returncode == 1
    check_message(ended.stderr, "s3://sky/small: ", ADVICE)


def accept_unknown_keys(server: Server, requests: float) -> None:
    """From now on, moto accepts so many requests with any key; then it knows no key."""
    url = f"{server.environment['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
    with urlopen(Request(url, str(requests).encode(), {"Content-Type": "text/plain"})) as answer:
        assert answer.status == 200


def test_a_missing_key_is_reported_with_advice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    keyless = buckets.Buckets(skip_instance_cache=True, config_kwargs={"retries": {"total_max_attempts": 1}})
    monkeypatch.setattr(files, "bucket_system", lambda: keyless)
    with pytest.raises(PermissionError) as caught:
        run("s3://sky/small", str(tmp_path / "store"))
    assert "Unable to locate credentials; " + ADVICE in str(caught.value)


def test_a_server_that_does_not_return_fails_the_run_and_the_next_run_completes_it(
    server: Server, large: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PATIENCE", 2.0)

    def unplugged(function: Callable[[int], Any], shards: Iterable[int]) -> Iterator[Any]:
        for number, shard in enumerate(shards):
            if number == 3:
                server.kill()
            yield function(shard)

    with pytest.raises(ConnectionError) as caught:
        run("s3://sky/large", "s3://sky/unplugged", unplugged, shard=SIZE)
    assert f"{server.environment['AWS_ENDPOINT_URL']} has not answered for " in str(caught.value)
    assert "check the network and AWS_ENDPOINT_URL, then run the same command again to continue" in str(
        caught.value
    )
    server.start()
    assert run("s3://sky/large", "s3://sky/unplugged", shard=SIZE).created == SHARDS - 3
    assert parts("s3://sky/unplugged") == large


@pytest.mark.usefixtures("small")
def test_an_unreachable_bucket_is_not_reported_as_damage(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"flux": [[1.0] * 5]}), table)
    put("s3://sky/away", {"catalogue.csv": b"filename\na.fits\n", "spectra/table.parquet": table.getvalue()})
    run("s3://sky/small", "s3://sky/away/store")
    listed = open_manifest("s3://sky/away/store")
    monkeypatch.setattr(buckets, "PATIENCE", 0.5)
    server.kill()
    try:
        reads: list[Callable[[], Any]] = [
            lambda: list(files.walk("s3://sky/away")),
            lambda: open_catalogue("s3://sky/away/catalogue.csv", "s3://sky/away", ""),
            lambda: listed.shard(0),
            lambda: first_bytes("s3://sky/away/spectra/table.parquet"),
            lambda: list(fetch(["s3://sky/small/broken-1.fits"])),
            lambda: files.write("s3://sky/away/new", b"x"),
            lambda: files.exists("s3://sky"),
        ]
        for read in reads:
            with pytest.raises(
                ConnectionError,
                match=r"^s3://sky.* has not answered for \d+ s .*; check the network and AWS_ENDPOINT_URL",
            ):
                read()
    finally:
        server.start()


def markers(store: str) -> int:
    return len(files.names(files.join(store, "markers")))


def has_markers(store: str, count: int) -> bool:
    return bool(files.names(store)) and markers(store) >= count


@pytest.mark.kill
@pytest.mark.cluster
@pytest.mark.long
def test_a_server_may_be_killed_and_restarted_during_a_run(
    server: Server, place: Workplace, large: dict[str, bytes]
) -> None:
    chance = random.Random(3)
    moments = []
    for number in range(KILLS):
        store = f"s3://sky/server-{number}"
        during = job(place, "s3://sky/large", store, f"shard={SIZE}", "workers=2")
        wanted = chance.randint(0, SHARDS - 4)
        assert during.until(partial(has_markers, store, wanted))
        moments.append((markers(store), round(pause := chance.uniform(0, 12), 1)))
        server.restart(pause)
        assert during.wait() == 0, during.err
        assert parts(store) == large
        assert listed(store) == SHARDS * SIZE
    print(f"{KILLS} kills of the server at so many shards, each for so many seconds: {moments}")


def listed(store: str) -> int:
    paths = [*rows(store)["path"], *rows(store, "refused")["path"]]
    assert len(paths) == len(set(paths))
    return len(paths)


@pytest.mark.long
@pytest.mark.kill
@pytest.mark.cluster
def test_a_driver_may_be_killed_while_its_store_is_in_a_bucket(
    server: Server, place: Workplace, large: dict[str, bytes]
) -> None:
    chance = random.Random(4)
    moments = []
    for number in range(KILLS):
        store = f"s3://sky/driver-{number}"
        during = job(place, "s3://sky/large", store, f"shard={SIZE}", "workers=2")
        wanted = chance.randint(0, SHARDS - 4)
        assert during.until(partial(has_markers, store, wanted))
        time.sleep(chance.uniform(0, 0.3))
        during.kill()
        moments.append(markers(store))
        last = job(place, "s3://sky/large", store, f"shard={SIZE}", "workers=2")
        assert last.wait() == 0, last.err
        assert parts(store) == large
        assert listed(store) == SHARDS * SIZE
        assert "store.json" in files.names(store)
    print(f"{KILLS} kills of the driver at so many shards: {moments}")
    check_no_secret(place, "s3://sky/driver-0")


def check_no_secret(place: Workplace, store: str) -> None:
    """No file of the store or of the disk, including Ray's logs, holds the secret."""
    contents = [files.read(entry.path) for entry in files.walk(store)]
    contents += [
        path.read_bytes() for path in place.folder.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert len(contents) > 50
    assert not any(SECRET.encode() in data for data in contents)


@pytest.mark.long
def test_a_job_fails_if_its_server_does_not_return(
    server: Server, place: Workplace, large: dict[str, bytes]
) -> None:
    during = job(place, "s3://sky/large", "s3://sky/abandoned", f"shard={SIZE}", "workers=2")
    assert during.until(lambda: markers("s3://sky/abandoned") >= 2)
    server.kill()
    try:
        check_failure(during, "has not answered for", "run the same command again to continue", seconds=150)
    finally:
        server.start()
    again = job(place, "s3://sky/large", "s3://sky/abandoned", f"shard={SIZE}", "workers=2")
    assert again.wait() == 0, again.err
    assert parts("s3://sky/abandoned") == large


def test_threads_share_one_client(server: Server, small: Path) -> None:
    contents: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: contents.append(files.read("s3://sky/small/broken-1.fits")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [survey_files.BROKEN["broken-1.fits"]] * 8
