"""Ray Data as a map: results, errors and deaths of workers, and jobs on a cluster."""

import importlib.util
import inspect
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ray._private import ray_constants, services

from survey.cluster import connection, stream
from survey.cluster.work import make_map
from survey.settings import JobError, SettingsError
from survey.store.ingest import ingest, plan_shards
from survey.store.settings import Ingest
from tests import survey_files
from tests.cluster.functions import UnpicklableError, dies_always, dies_once, refuses, square
from tests.commands import survey
from tests.processes import ROOT, Job, Workplace, new_workplace
from tests.training import lessons

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]

HAS_DASHBOARD = importlib.util.find_spec("aiohttp_cors") is not None
COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}


@pytest.mark.usefixtures("small_ray")
def test_a_stream_gives_the_results_of_a_map_from_other_processes() -> None:
    results = sorted(make_map(2)(square, range(7)), key=lambda result: result["number"])
    assert [{**result, "pid": 0} for result in results] == [
        {**square(number), "pid": 0} for number in range(7)
    ]
    assert os.getpid() not in {result["pid"] for result in results}


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


@pytest.mark.usefixtures("small_ray")
@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (SettingsError, ValueError),
        pytest.param(JobError, JobError, marks=pytest.mark.long),
        pytest.param(FileNotFoundError, FileNotFoundError, marks=pytest.mark.long),
        pytest.param(ZeroDivisionError, ZeroDivisionError, marks=pytest.mark.long),
    ],
)
def test_an_error_on_a_worker_is_raised_as_a_job_error_or_its_built_in_type_with_the_trace_of_the_worker(
    kind: type[Exception], becomes: type[Exception], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(becomes) as caught:
        list(make_map(2)(partial(refuses, kind), range(6)))
    assert type(caught.value) is becomes
    assert str(caught.value) == "shard 3: found 7; give 8"
    assert "on a worker:" in caught.value.__notes__[0]
    assert "in refuses" in caught.value.__notes__[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_error_that_cannot_be_pickled_is_raised_with_its_text() -> None:
    with pytest.raises(RuntimeError, match="UnpicklableError: shard 3: found 7; give 8"):
        list(make_map(2)(partial(refuses, UnpicklableError), range(6)))


@pytest.mark.usefixtures("small_ray")
def test_items_of_workers_that_die_are_done_again_and_their_results_come_once(tmp_path: Path) -> None:
    results = list(make_map(2)(partial(dies_once, tmp_path), range(5)))
    assert sorted(result["square"] for result in results) == [number * number for number in range(5)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_item_that_kills_every_worker_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_DEATHS", 3)
    with pytest.raises(
        ChildProcessError,
        match="item 2: 3 workers died of it, probably for lack of memory; make items smaller",
    ):
        list(make_map(2)(dies_always, range(4)))


@pytest.mark.usefixtures("small_ray")
def test_an_ingest_on_ray_writes_the_same_bytes_as_a_loop(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(10), broken=True)
    for name, run in (("loop", map), ("ray", make_map(2))):
        values = {
            "input": str(tmp_path / "in"),
            "store": str(tmp_path / name),
            "shard": 3,
            "refuse_above": 1.0,
            "prepare": COARSE,
        }
        ingest(Ingest.from_dict("ingest", values), run)
    written = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("part-*")}
        for name in ("loop", "ray")
    ]
    written = [
        {path: data for path, data in files.items() if path.parts[0] != "manifest"} for files in written
    ]
    assert written[0] == written[1]
    assert len(written[0]) == 15


@pytest.mark.usefixtures("small_ray")
def test_an_error_on_a_worker_is_printed_without_a_traceback_and_the_next_run_continues(
    tmp_path: Path,
) -> None:
    first = survey_files.write(tmp_path / "in", range(6))
    arguments = [f"input={first}", f"store={tmp_path / 'store'}", "shard=3", f"prepare={json.dumps(COARSE)}"]
    values = {"input": str(first), "store": str(tmp_path / "store"), "shard": 3, "prepare": COARSE}
    plan_shards(Ingest.from_dict("ingest", values))
    blocked = tmp_path / "store" / "spectra" / "part-00001.parquet"
    blocked.mkdir(parents=True)  # nothing can be written here
    failing = survey("ingest", *arguments, "workers=2")
    blocked.rmdir()
    run = survey("ingest", *arguments, "workers=2")
    assert failing.returncode == 1
    assert "Traceback" not in failing.stderr, failing.stderr
    assert "Is a directory" in failing.stderr.splitlines()[-1]
    assert str(blocked) in failing.stderr.splitlines()[-1]
    assert run.returncode == 0, run.stderr
    assert "shards     2 complete" in run.stdout


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
    import ray

    code = "import ray; from survey.cluster import connection; connection.connect(); "
    code += "print(ray.get_runtime_context().gcs_address)"
    run = workplace.python("-c", code, RAY_ADDRESS="")
    assert run.wait() == 0, run.err
    assert run.out.strip() not in ("", ray.get_runtime_context().gcs_address)


def test_an_address_without_ray_fails_at_once(workplace: Workplace) -> None:
    run = job(workplace, RAY_ADDRESS=f"127.0.0.1:{free_port()}")
    assert run.wait(250) == 1  # Ray itself would try for five minutes
    assert "Traceback" not in run.err, run.err
    assert (
        "no Ray there ([Errno 111] Connection refused); "
        "start one with `ray start --head`, or unset RAY_ADDRESS" in run.err
    )


@pytest.mark.parametrize("folder", ["x" * 100, pytest.param("file/below", marks=pytest.mark.long)])
def test_a_ray_that_does_not_start_is_one_sentence(workplace: Workplace, folder: str) -> None:
    (workplace.folder / "file").write_text("no folder")
    run = job(workplace, "workers=2", RAY_TMPDIR=str(workplace.folder / folder))
    assert run.wait() == 1
    assert "Traceback" not in run.err, run.err
    assert run.err.splitlines()[-1].startswith("Ray does not start (")
    assert run.err.splitlines()[-1].endswith("in RAY_TMPDIR; workers=1 needs no Ray")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Workplace, dict[str, str]]]:
    """A cluster started as in the README, in an empty home folder; and the environment of a client."""
    with new_workplace() as place:
        token = place.start("ray", "get-auth-token", "--generate", RAY_AUTH_MODE="token")
        assert token.wait() == 0, token.err
        port, page = free_port(), free_port()
        options = [
            "--num-cpus=2",
            f"--port={port}",
            f"--dashboard-port={page}",
            f"--include-dashboard={HAS_DASHBOARD}",
            "--block",
        ]
        options += [
            f"--temp-dir={place.folder}/ray",
            "--node-ip-address=127.0.0.1",
            "--object-store-memory=100000000",
        ]
        # another Ray on this machine uses the default port
        options += [f"--dashboard-agent-listen-port={free_port()}"]
        head = place.start("ray", "start", "--head", *options, RAY_AUTH_MODE="token")
        assert head.until(
            lambda: "Ray runtime started" in head.out + head.err and (not HAS_DASHBOARD or answers(page))
        )
        yield (
            place,
            {
                "RAY_AUTH_MODE": "token",
                "RAY_ADDRESS": f"127.0.0.1:{port}",
                "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{page}",
            },
        )


@pytest.mark.long
def test_a_cluster_that_was_started_by_hand_is_found_on_its_machine_without_its_address(
    cluster: tuple[Workplace, dict[str, str]],
) -> None:
    place, environment = cluster
    code = "import ray; from survey.cluster import connection; connection.connect(); "
    code += "print(ray.get_runtime_context().gcs_address)"
    run = place.python("-c", code, RAY_ADDRESS="")  # the token is in the home folder
    assert run.wait() == 0, run.err
    assert run.out.strip().rpartition(":")[2] == environment["RAY_ADDRESS"].rpartition(":")[2]
    barred = job(place, "workers=2", "shard=2", RAY_ADDRESS="", RAY_AUTH_MODE="disabled")
    assert barred.wait() == 1
    assert "Traceback" not in barred.err, barred.err
    assert barred.err.splitlines()[-1].startswith("the cluster of Ray cannot be joined (")


@pytest.mark.long
def test_a_job_runs_on_a_cluster_with_a_token_and_an_error_on_a_worker_is_printed_without_a_traceback(
    cluster: tuple[Workplace, dict[str, str]],
) -> None:
    place, environment = cluster
    first = survey_files.write(place.folder / "in", range(6), broken=True)
    values = {"input": str(first), "store": str(place.folder / "store"), "shard": 3, "refuse_above": 0.5}
    plan_shards(Ingest.from_dict("ingest", values))
    blocked = place.folder / "store" / "spectra" / "part-00001.parquet"
    blocked.mkdir(parents=True)  # nothing can be written here
    failing = job(place, "refuse_above=0.5", **environment)
    assert failing.wait() == 1
    blocked.rmdir()
    run = job(place, "refuse_above=0.5", **environment)
    assert run.wait() == 0, run.err
    assert "Traceback" not in failing.err, failing.err
    assert "Is a directory" in failing.err.splitlines()[-1]
    assert str(blocked) in failing.err.splitlines()[-1]
    assert "shards     3 complete" in run.out


@pytest.mark.long
@pytest.mark.skipif(not HAS_DASHBOARD, reason="needs ray[default]: without it a head has no server for jobs")
def test_a_submitted_job_runs_to_its_end_and_its_failure_is_reported(
    cluster: tuple[Workplace, dict[str, str]],
) -> None:
    place, environment = cluster
    survey_files.write(place.folder / "in", range(6), broken=True)
    command = ["ray", "job", "submit", "--working-dir", str(ROOT), "--", "python", "jobs/ingest.py"]
    arguments = [f"input={place.folder}/in", f"store={place.folder}/submitted", "shard=3"]
    run = place.start(*command, *arguments, "refuse_above=0.5", **environment)
    assert run.wait() == 0, run.out + run.err
    assert "shards     3 complete, 3 made by this run" in run.out
    again = place.start(*command, *arguments, "refuse_above=0.1", **environment)
    assert again.wait() == 1
    assert "more than refuse_above=0.1 allows" in again.out


@pytest.mark.long
@pytest.mark.skipif(not HAS_DASHBOARD, reason="needs ray[default]: without it a head has no server for jobs")
def test_a_submitted_training_shares_its_work_between_two_workers_and_is_left_alone_when_it_is_finished(
    cluster: tuple[Workplace, dict[str, str]],
) -> None:
    place, environment = cluster
    lessons.store(place.folder / "toys", 120)
    folder = place.folder
    command = ["ray", "job", "submit", "--working-dir", str(ROOT), "--", "python", "jobs/train.py"]
    given = [f"store={folder}/toys", f"labels={folder}/labels.csv", f"run={folder}/run", "epochs=1"]
    given += ["model=prism", "options.components=16", "options.hidden=32", "workers=2", "tracking.use=never"]
    run = place.start(*command, *given, **environment)
    assert run.wait() == 0, run.out + run.err
    assert json.loads((folder / "run" / "run.json").read_text())["workers"] == 2
    again = place.start(*command, *given, **environment)
    assert again.wait() == 0, again.out + again.err
    assert "finished before: nothing to do" in again.out
