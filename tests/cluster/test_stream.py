"""Ray Data as a map: results, errors and deaths of workers, and jobs on a cluster."""

import importlib.util
import inspect
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants, services

from survey.cluster import connection, stream
from survey.cluster.work import make_map
from survey.settings import JobError, SettingsError
from survey.store.ingest import ingest, plan_shards
from survey.store.settings import Ingest
from tests import survey_files
from tests.cluster.functions import UnpicklableError, dies_always, dies_once, refuses, square
from tests.commands import survey
from tests.processes import Job, Workplace

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]

HAS_DASHBOARD = importlib.util.find_spec("aiohttp_cors") is not None
COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_items_may_be_texts() -> None:
    assert sorted(
        result["text"] for result in make_map(2)(lambda text: {"text": text.upper()}, ["a", "b/c", "ü"])
    ) == ["A", "B/C", "Ü"]


@pytest.mark.parametrize(("workers", "items"), [(1, [1, 2, 3]), (None, [1, 2, 3]), (4, [1]), (4, [])])
def test_one_worker_or_one_item_needs_no_ray(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, items: list[int]
) -> None:
    monkeypatch.setattr(connection, "connect", lambda: pytest.fail("Ray was started"))
    assert list(make_map(workers)(square, items)) == [square(item) for item in items]


KINDS = pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (SettingsError, ValueError),
        (JobError, JobError),
        (FileNotFoundError, FileNotFoundError),
        (ZeroDivisionError, ZeroDivisionError),
    ],
)


def check_error(results: Callable[[], object], becomes: type[Exception]) -> None:
    with pytest.raises(becomes) as caught:
        results()
    assert type(caught.value) is becomes
    assert str(caught.value) == "shard 3: found 7; give 8"
    assert "on a worker:" in caught.value.__notes__[0]
    assert "in refuses" in caught.value.__notes__[0]


@KINDS
def test_an_error_becomes_a_text_and_again_a_job_error_or_its_built_in_type_with_its_trace(
    kind: type[Exception], becomes: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two ends of the road; the next test goes all of it."""
    monkeypatch.setattr(stream, "count_deaths", lambda *_: 0)
    text = stream.result_json(partial(refuses, kind), 3, None, 1)
    check_error(lambda: stream.read_result(text), becomes)


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
@KINDS
def test_an_error_on_a_worker_is_raised_as_a_job_error_or_its_built_in_type_with_the_trace_of_the_worker(
    kind: type[Exception], becomes: type[Exception], capfd: pytest.CaptureFixture[str]
) -> None:
    check_error(lambda: list(make_map(2)(partial(refuses, kind), range(6))), becomes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_error_that_cannot_be_pickled_is_raised_with_its_text() -> None:
    with pytest.raises(RuntimeError, match="UnpicklableError: shard 3: found 7; give 8"):
        list(make_map(2)(partial(refuses, UnpicklableError), range(6)))


@pytest.mark.usefixtures("small_ray")
def test_a_stream_gives_the_results_of_a_map_from_other_processes_once_though_some_die(
    tmp_path: Path,
) -> None:
    results = list(make_map(2)(partial(dies_once, tmp_path), range(3)))
    by_number = sorted(results, key=lambda result: int(result["number"]))
    assert [{**result, "pid": 0} for result in by_number] == [{**square(item), "pid": 0} for item in range(3)]
    assert os.getpid() not in {result["pid"] for result in results}
    assert [path.name for path in tmp_path.iterdir()] == ["died-0"]


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_item_that_kills_every_worker_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_DEATHS", 3)
    with pytest.raises(
        ChildProcessError,
        match="item 2: 3 workers died of it, probably for lack of memory; make items smaller",
    ):
        list(make_map(2)(dies_always, range(4)))


def parts(store: Path) -> dict[str, bytes]:
    """The files of the shards by name."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("part-*")
        if path.parent.name != "manifest"
    }


@pytest.mark.usefixtures("small_ray")
def test_an_error_on_a_worker_is_printed_without_a_traceback_and_the_next_run_ends_like_a_loop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = survey_files.write(tmp_path / "in", range(6), broken=True)
    values: dict[str, Any] = {"input": str(first), "store": str(tmp_path / "store"), "shard": 3}
    values |= {"prepare": COARSE, "refuse_above": 1.0}
    arguments = [f"{name}={values[name]}" for name in ("input", "store", "shard", "refuse_above")]
    arguments += [f"prepare={json.dumps(COARSE)}", "workers=2"]
    plan_shards(Ingest.from_dict("ingest", values))
    blocked = tmp_path / "store" / "spectra" / "part-00001.parquet"
    blocked.mkdir(parents=True)  # nothing can be written here
    capfd.readouterr()
    failing = survey("ingest", *arguments)
    blocked.rmdir()
    run = survey("ingest", *arguments)
    assert failing.returncode == 1
    assert "Traceback" not in failing.stderr, failing.stderr
    assert "Is a directory" in failing.stderr.splitlines()[-1]
    assert str(blocked) in failing.stderr.splitlines()[-1]
    assert run.returncode == 0, run.stderr
    assert "shards     3 complete" in run.stdout
    assert capfd.readouterr() == ("", "")
    ingest(Ingest.from_dict("ingest", values | {"store": str(tmp_path / "loop")}))
    assert parts(tmp_path / "store") == parts(tmp_path / "loop")
    assert len(parts(tmp_path / "loop")) == 9


def job(workplace: Workplace, *arguments: str, **environment: str) -> Job:
    survey_files.write(workplace.folder / "in", range(6), broken=True)
    return workplace.python(
        "jobs/ingest.py",
        f"input={workplace.folder}/in",
        f"store={workplace.folder}/store",
        "shard=3",
        *arguments,
        **environment,
    )


def test_the_parts_of_ray_by_which_it_stays_on_this_machine_are_still_there() -> None:
    """They are private: `ray.init` has no public way to listen on 127.0.0.1 only (Ray 2.60)."""
    assert ray_constants.ENABLE_RAY_CLUSTER is not None
    source = inspect.getsource(services.get_node_ip_address)
    assert "ENABLE_RAY_CLUSTER" in source
    assert services.find_bootstrap_address("/nowhere") is None


@pytest.mark.long
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_private_ray_listens_on_this_machine_only_and_its_death_is_one_sentence(
    workplace: Workplace, part: str
) -> None:
    script = (
        "import psutil, sys, time\n"
        "from survey.cluster import connection\n"
        "from survey.cluster.work import make_map\n"
        "connection.connect()\n"
        "ours = [psutil.Process(), *psutil.Process().children(recursive=True)]\n"
        "places = [c for p in ours for c in p.net_connections() if c.status == 'LISTEN']\n"
        "print(len(places), {c.laddr.ip.removeprefix('::ffff:') for c in places}, flush=True)\n"
        f"[part] = [p for p in ours if p.name() == '{part}']\n"
        "results = make_map(2)(lambda number: time.sleep(60) or {}, range(20))\n"
        "part.kill()\n"
        "list(results)\n"
    )
    job = workplace.start(sys.executable, "-c", script)
    assert job.wait() == 1
    count, _, addresses = job.out.strip().partition(" ")
    assert int(count) > 5
    assert addresses == "{'127.0.0.1'}"
    assert job.err == f"{connection.RAY_ENDED}\n"


@pytest.mark.long
def test_a_job_with_its_own_ray_prints_only_its_progress(workplace: Workplace) -> None:
    run = job(workplace, "refuse_above=0.5", "workers=2")
    assert run.wait() == 0
    assert all(re.match(r"[0-9:]{8} (manifest|ingest): ", line) for line in run.err.splitlines()), run.err
    assert "shards     3 complete, 3 made by this run" in run.out


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_a_job_does_not_join_the_private_ray_of_another(workplace: Workplace) -> None:
    code = "import ray; from survey.cluster import connection; connection.connect(); "
    code += "print(ray.get_runtime_context().gcs_address)"
    run = workplace.python("-c", code, RAY_ADDRESS="")
    assert run.wait() == 0, run.err
    assert run.out.strip() not in ("", ray.get_runtime_context().gcs_address)


def test_an_address_without_ray_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for five minutes."""
    survey_files.write(tmp_path / "in", range(2))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    run = survey("ingest", f"input={tmp_path / 'in'}", f"store={tmp_path / 'store'}", "shard=1")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr, run.stderr
    assert (
        "no Ray there ([Errno 111] Connection refused); "
        "start one with `ray start --head`, or unset RAY_ADDRESS" in run.stderr
    )


def check_no_start(code: int, error: str) -> None:
    assert code == 1
    assert "Traceback" not in error, error
    assert error.splitlines()[-1].startswith("Ray does not start (")
    assert error.splitlines()[-1].endswith("in RAY_TMPDIR; workers=1 needs no Ray")


@pytest.mark.parametrize("kind", [OSError, ValueError, Exception])
def test_whatever_ray_raises_at_its_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(**_: object) -> None:
        raise kind("the path of the socket\nis too long")

    survey_files.write(tmp_path / "in", range(2))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    given = (f"input={tmp_path / 'in'}", f"store={tmp_path / 'store'}", "shard=1", "workers=2")
    run = survey("ingest", *given)
    check_no_start(run.returncode, run.stderr)


@pytest.mark.long
@pytest.mark.parametrize("folder", ["x" * 100, "file/below"])
def test_a_ray_that_does_not_start_is_one_sentence(workplace: Workplace, folder: str) -> None:
    (workplace.folder / "file").write_text("no folder")
    run = job(workplace, "workers=2", RAY_TMPDIR=str(workplace.folder / folder))
    check_no_start(run.wait(), run.err)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
