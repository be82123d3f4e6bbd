"""Clusters of several machines, each a part of Ray of its own on this one: machines come and are lost."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from survey.cluster import connection
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from tests import survey_files
from tests.processes import Job, Workplace, new_workplace

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]

STORE_BYTES = 80_000_000
HEAD = "f" * 51 + "00000"
"""The name of the head for Ray's imitation of a cloud."""
FREE = "import json, ray; ray.init(logging_level='ERROR'); print(json.dumps(ray.available_resources()))"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start_head(
    place: Workplace, cpus: int, *options: str, port: int = 0, **environment: str
) -> tuple[str, Job]:
    """A head with so many CPUs: its address, and its process."""
    port = port or free_port()
    ports = [f"--port={port}", f"--dashboard-port={free_port()}"]
    ports.append(f"--dashboard-agent-listen-port={free_port()}")
    head = place.start(
        *("ray", "start", "--head", "--block", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1"),
        *(f"--object-store-memory={STORE_BYTES}", *ports, *options),
        **environment,
    )
    assert head.until(lambda: "Ray runtime started" in head.out + head.err)
    return f"127.0.0.1:{port}", head


def nodes(place: Workplace, address: str) -> list[dict[str, Any]]:
    code = "import json, ray; ray.init(logging_level='ERROR'); "
    code += "print(json.dumps([n['Resources'] for n in ray.nodes() if n['Alive']]))"
    run = place.python("-c", code, RAY_ADDRESS=address)
    assert run.wait() == 0, run.err
    found: list[dict[str, Any]] = json.loads(run.out.splitlines()[-1])
    return found


def values(place: Workplace, store: str) -> dict[str, Any]:
    names = {"input": str(place.folder / "in"), "store": str(place.folder / store)}
    return names | {"shard": 1, "refuse_above": 0.5}


def start_ingest(place: Workplace, address: str) -> Job:
    given = [f"{name}={value}" for name, value in values(place, "store").items()]
    return place.python("jobs/ingest.py", *given, RAY_ADDRESS=address)


def parts(store: Path) -> dict[str, bytes]:
    kinds = ("spectra", "refused")
    return {f"{kind}/{path.name}": path.read_bytes() for kind in kinds for path in (store / kind).iterdir()}


@pytest.fixture
def place() -> Iterator[Workplace]:
    """A workplace with 60 files and the store that a loop makes of them."""
    with new_workplace() as workplace:
        survey_files.write(workplace.folder / "in", range(57), broken=True)
        ingest(Ingest.from_dict("ingest", values(workplace, "loop")))
        yield workplace


def check_store(place: Workplace) -> None:
    assert parts(place.folder / "store") == parts(place.folder / "loop")
    assert not list((place.folder / "store").rglob("*.tmp"))


@pytest.mark.parametrize("lost", ["raylet", "all"])
def test_a_machine_that_is_lost_costs_no_row_and_its_cpus_only(place: Workplace, lost: str) -> None:
    address, _ = start_head(place, 1)
    machine = place.start(
        *("ray", "start", "--block", f"--address={address}", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
        *(f"--object-store-memory={STORE_BYTES}", f"--dashboard-agent-listen-port={free_port()}"),
    )
    assert machine.until(lambda: "Ray runtime started" in machine.out + machine.err)
    assert sum(node["CPU"] for node in nodes(place, address)) == 3
    run = start_ingest(place, address)
    markers = place.folder / "store" / "markers"
    assert run.until(lambda: markers.exists() and len(list(markers.iterdir())) > 5)
    for process in psutil.Process(machine.process.pid).children(recursive=True):
        if lost == "all" or process.name() == "raylet":
            process.kill()
    assert run.wait() == 0, run.err
    assert "Traceback" not in run.err, run.err
    check_store(place)
    left = place.python("-c", FREE, RAY_ADDRESS=address)
    assert left.wait() == 0, left.err
    assert json.loads(left.out.splitlines()[-1])["CPU"] == 1  # nothing of the job holds a CPU


def test_a_head_that_is_lost_ends_the_job_with_a_sentence_and_a_new_one_completes_it(
    place: Workplace,
) -> None:
    address, head = start_head(place, 2)
    run = start_ingest(place, address)
    markers = place.folder / "store" / "markers"
    assert run.until(lambda: markers.exists() and len(list(markers.iterdir())) > 5)
    for process in psutil.Process(head.process.pid).children(recursive=True):
        process.kill()
    assert run.wait() == 1
    assert run.err.splitlines()[-1].endswith(connection.HEAD_GONE.partition("{address}")[2])
    assert "Traceback" not in run.err, run.err
    assert len(list(markers.iterdir())) < 60, "the head was lost too late for this test"
    again, _ = start_head(place, 2)
    continued = start_ingest(place, again)
    assert continued.wait() == 0, continued.err
    assert "shards     60 complete" in continued.out
    check_store(place)


def growing(place: Workplace, port: int) -> str:
    """A file for Ray's imitation of a cloud: up to two machines of two CPUs, none at the start."""
    names = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    lists = [*(f"{name}_commands" for name in names), "cluster_synced_files", "rsync_exclude", "rsync_filter"]
    empty: dict[str, Any] = {name: [] for name in lists}
    machine = {"CPU": 2, "object_store_memory": STORE_BYTES}
    content = {
        "cluster_name": "growing",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": HEAD,
            "launch_multiple": True,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "cpu": {"resources": machine, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }
    path = place.folder / "growing.json"
    path.write_text(json.dumps(content | empty))
    return str(path)


def test_a_cluster_that_begins_without_a_cpu_grows_as_a_job_needs_it(place: Workplace) -> None:
    port = free_port()
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0",
    }
    options = f"--autoscaling-config={growing(place, port)}"
    address, _ = start_head(place, 0, options, port=port, **environment)
    run = start_ingest(place, address)
    assert run.wait() == 0, run.err
    assert "the cluster has 0 CPUs, 1 are needed: waiting for machines" in run.err
    check_store(place)
