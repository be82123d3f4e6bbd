"""Jobs on a cluster that was started by hand: found, joined with its token, given jobs."""

import json
from collections.abc import Iterator

import pytest

from survey.store.ingest import plan_shards
from survey.store.settings import Ingest
from tests import survey_files
from tests.cluster.test_stream import HAS_DASHBOARD, answers, free_port, job
from tests.processes import ROOT, Workplace, new_workplace
from tests.training import lessons

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]


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
