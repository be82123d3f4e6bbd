"""Input and store in buckets, against a server of its own; it and the driver are killed at random. SURVEY_KILLS=20 is the long form."""

import io
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import buckets, files
from survey.spectrum import Refused
from survey.store.ingest import Ingest, Report, ingest
from survey.store.manifest import open_manifest
from survey.store.manifest.catalogue import understood
from survey.store.store import open_store
from survey.tables import read as streams
from tests import survey_files
from tests.processes import Job, Workplace
from tests.s3.conftest import SECRET, Server, put

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.s3, pytest.mark.timeout(120 + 60 * KILLS)]

PREPARE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
SHARDS, SIZE = 8, 25


def run(source: str, store: str, runner: Callable[..., Any] = map, **given: Any) -> Report:
    values = {"input": source, "store": store, "shard": 4, "refuse_above": 1.0, "prepare": PREPARE}
    return ingest(Ingest.checked("ingest", values | given), runner)


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
    return table.assign(path=table["path"].map(os.path.basename))


def listing(store: str) -> dict[str, tuple[str, Any]]:
    """What is in a store and since when."""
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
    """200 objects in s3://sky/large, and the parts of a store that nobody disturbed."""
    base = list((survey_files.named(range(25)) | survey_files.BROKEN).items())
    put(
        "s3://sky/large",
        {f"{number:04d}-{base[number % 28][0]}": base[number % 28][1] for number in range(SHARDS * SIZE)},
    )
    report = run("s3://sky/large", "s3://sky/undisturbed", shard=SIZE)
    assert (report.rows_in, report.shards) == (SHARDS * SIZE, SHARDS)
    return parts("s3://sky/undisturbed")


def parts(store: str) -> dict[str, bytes]:
    found = [
        entry.path
        for kind in ("spectra", "refused", "markers")
        for entry in files.walk(files.join(store, kind))
    ]
    return {path.removeprefix(store): files.read(path) for path in found}


@pytest.mark.parametrize("where", ["input", "store", "both"])
def test_buckets_give_the_rows_that_folders_give(small: Path, tmp_path: Path, where: str) -> None:
    source = str(small / "in") if where == "store" else "s3://sky/small"
    store = str(tmp_path / "store") if where == "input" else f"s3://sky/store-{where}"
    report = run(source, store)
    assert (report.rows_in, report.written, report.made) == (13, 10, 4)
    for kind in ("spectra", "refused"):
        pd.testing.assert_frame_equal(rows(store, kind), rows(str(small / "store"), kind))
    assert open_store(store).about["written"] == 10
    assert sum(table.num_rows for table in open_store(store).tables(["flux"])) == 10


@pytest.mark.usefixtures("small")
def test_a_second_run_writes_nothing_and_a_second_night_only_what_is_new() -> None:
    store = "s3://sky/nights/store"
    put("s3://sky/nights/in", survey_files.named(range(6)))
    run("s3://sky/nights/in", store)
    first = listing(store)
    assert run("s3://sky/nights/in", store).made == 0
    assert listing(store) == first
    put("s3://sky/nights/in", survey_files.named(range(6, 11)))
    report = run("s3://sky/nights/in", store)
    assert (report.made, report.plan.new_rows, report.plan.changed) == (2, 5, 0)
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
    report = run("s3://sky/changing/in", store, reread=True)
    assert (report.made, report.plan.redo, report.refused) == (1, (0,), {"not_fits": 1})


def test_an_object_is_read_by_one_request(
    server: Server, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    send = buckets.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *settings: Any, **request: Any) -> Any:
        asked[method] += 1
        return await send(self, method, *settings, **request)

    monkeypatch.setattr(buckets.S3FileSystem, "_call_s3", counted)
    names = sorted(path.name for path in (small / "in").iterdir())
    data = list(files.fetch([f"s3://sky/small/{name}" for name in names]))
    assert data == [(small / "in" / name).read_bytes() for name in names]
    assert asked == {"get_object": 13}


def test_what_is_not_there_or_too_large_is_refused(
    server: Server, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped, plain = (f"s3://sky/small/{survey_files.name(number)}" for number in (0, 1))
    other = [zipped.removesuffix(".gz"), f"{plain}.gz"]
    assert list(files.fetch(other)) == [files.read(zipped), files.read(plain)]
    missing = next(iter(files.fetch(["s3://sky/small/none.fits"])))
    assert isinstance(missing, Refused)
    assert (missing.reason, missing.detail) == ("missing", "no such object")
    monkeypatch.setattr(files, "LARGEST", 70000)
    large = next(iter(files.fetch([plain])))
    assert isinstance(large, Refused)
    assert (large.reason, large.detail) == ("too_large", f"{len(survey_files.file(1))} bytes")


@pytest.mark.usefixtures("small")
def test_files_and_prefixes_are_told_apart() -> None:
    name = f"s3://sky/small/{survey_files.name(1)}"
    assert [files.exists(path) for path in (name, "s3://sky/small", "s3://sky/small/", "s3://sky", "s3://sky/smal", "s3://sky/none")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
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


def test_names_beyond_one_page_of_a_listing_are_all_there(server: Server) -> None:
    put("s3://sky/pages", {f"{number:04d}": b"" for number in range(1003)})
    assert files.names("s3://sky/pages") == [f"{number:04d}" for number in range(1003)]
    assert sum(1 for _ in files.walk("s3://sky/pages")) == 1003


def job(place: Workplace, source: str, store: str, *arguments: str, **environment: str) -> Job:
    given = [
        f"input={source}",
        f"store={store}",
        "refuse_above=1.0",
        f"prepare={json.dumps(PREPARE)}",
        *arguments,
    ]
    return place.python("jobs/ingest.py", *given, **environment)


def failed(run: Job, *said: str, seconds: float = 60) -> None:
    """It has ended with a message of one line that holds these words, and no traceback."""
    assert run.wait(seconds) == 1
    assert "Traceback" not in run.err, run.err
    last = run.err.splitlines()[-1]
    assert all(part in last for part in said), last
    assert SECRET not in run.err + run.out


@pytest.mark.usefixtures("small")
def test_a_missing_bucket_is_named_with_what_to_do(place: Workplace, server: Server, tmp_path: Path) -> None:
    said = (
        "s3://absent: there is no such bucket at",
        server.environment["AWS_ENDPOINT_URL"],
        "create it, or mend its name or AWS_ENDPOINT_URL",
    )
    failed(job(place, "s3://absent/in", str(tmp_path / "store"), "workers=1"), *said)
    (tmp_path / "catalogue.csv").write_text("filename,rv\na.fits,1\n")
    wrong = [
        ("s3://sky/small", "s3://absent/store", ""),
        (str(tmp_path / "catalogue.csv"), str(tmp_path / "other"), "s3://absent/in"),
    ]
    for source, store, folder in wrong:
        with pytest.raises(FileNotFoundError) as caught:
            run(source, store, files=folder)
        assert all(part in str(caught.value) for part in said)


ADVICE = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile in ~/.aws) and what they may do in this bucket"


def test_a_wrong_key_is_named_with_what_to_do(place: Workplace) -> None:
    strict = Server(place, INITIAL_NO_AUTH_ACTION_COUNT="0")
    strict.start()
    failed(
        job(place, "s3://sky/small", f"{place.folder}/store", "workers=1", **strict.environment),
        "s3://sky/small: ",
        ADVICE,
    )


def test_no_key_at_all_is_named_with_what_to_do(
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


def test_a_server_that_stays_away_fails_the_run_and_the_next_completes_it(
    server: Server, large: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PATIENCE", 2.0)

    def unplugged(function: Callable[[int], Any], shards: Iterable[int]) -> Iterator[Any]:
        for number, shard in enumerate(shards):
            if number == 3:
                server.kill()
            yield function(shard)

    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        run("s3://sky/large", "s3://sky/unplugged", unplugged, shard=SIZE)
    assert time.monotonic() - started < 30
    assert f"{server.environment['AWS_ENDPOINT_URL']} has not answered for " in str(caught.value)
    assert "check the network and AWS_ENDPOINT_URL, then run it again: what is done stays done" in str(
        caught.value
    )
    server.start()
    assert run("s3://sky/large", "s3://sky/unplugged", shard=SIZE).made == SHARDS - 3
    assert parts("s3://sky/unplugged") == large


@pytest.mark.usefixtures("small")
def test_a_bucket_that_is_away_is_not_taken_for_damage(
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
            lambda: understood("s3://sky/away/catalogue.csv", "s3://sky/away", ""),
            lambda: listed.shard(0),
            lambda: streams.head("s3://sky/away/spectra/table.parquet"),
            lambda: list(files.fetch(["s3://sky/small/broken-1.fits"])),
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


@pytest.mark.kill
@pytest.mark.cluster
@pytest.mark.long
def test_a_server_may_be_killed_and_come_back_in_the_middle_of_a_run(
    server: Server, place: Workplace, large: dict[str, bytes]
) -> None:
    chance = random.Random(3)
    moments = []
    for number in range(KILLS):
        store = f"s3://sky/server-{number}"
        during = job(place, "s3://sky/large", store, f"shard={SIZE}", "workers=2")
        wanted = chance.randint(0, SHARDS - 4)
        assert during.until(
            lambda store=store, wanted=wanted: bool(files.names(store)) and markers(store) >= wanted
        )
        moments.append((markers(store), round(away := chance.uniform(0, 12), 1)))
        server.restart(away)
        assert during.wait() == 0, during.err
        assert parts(store) == large
        assert listed(store) == SHARDS * SIZE
    print(f"{KILLS} kills of the server at so many shards, away for so many seconds: {moments}")


def listed(store: str) -> int:
    paths = [*rows(store)["path"], *rows(store, "refused")["path"]]
    assert len(paths) == len(set(paths))
    return len(paths)


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
        assert during.until(
            lambda store=store, wanted=wanted: bool(files.names(store)) and markers(store) >= wanted
        )
        time.sleep(chance.uniform(0, 0.3))
        during.kill()
        moments.append(markers(store))
        last = job(place, "s3://sky/large", store, f"shard={SIZE}", "workers=2")
        assert last.wait() == 0, last.err
        assert parts(store) == large
        assert listed(store) == SHARDS * SIZE
        assert "store.json" in files.names(store)
    print(f"{KILLS} kills of the driver at so many shards: {moments}")
    assert wrote_no_secret(place, "s3://sky/driver-0")


def wrote_no_secret(place: Workplace, store: str) -> bool:
    """Neither the store nor anything that the jobs left on the disk, Ray's logs included, holds the secret."""
    looked = [files.read(entry.path) for entry in files.walk(store)]
    looked += [
        path.read_bytes() for path in place.folder.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert len(looked) > 50
    return not any(SECRET.encode() in data for data in looked)


@pytest.mark.long
def test_a_job_gives_up_a_server_that_stays_away_after_a_minute_or_two(
    server: Server, place: Workplace, large: dict[str, bytes]
) -> None:
    during = job(place, "s3://sky/large", "s3://sky/forsaken", f"shard={SIZE}", "workers=2")
    assert during.until(lambda: markers("s3://sky/forsaken") >= 2)
    server.kill()
    started = time.monotonic()
    try:
        failed(during, "has not answered for", "what is done stays done", seconds=150)
        assert 60 < time.monotonic() - started < 130
    finally:
        server.start()
    again = job(place, "s3://sky/large", "s3://sky/forsaken", f"shard={SIZE}", "workers=2")
    assert again.wait() == 0, again.err
    assert parts("s3://sky/forsaken") == large


def test_threads_share_one_client(server: Server, small: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(files.read("s3://sky/small/broken-1.fits")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [survey_files.BROKEN["broken-1.fits"]] * 8
