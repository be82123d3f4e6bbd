"""A cluster of `ray up cluster/local.yaml` on hosts of this machine, with jobs as in docs/cluster.md."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.cluster import hosts
from tests.cluster.hosts import ROOT, Host
from tests.processes import Job

STORE_BYTES = 100_000_000
"""The object store of a host."""
SHARE = 0.5
"""A host has so many CPUs of Ray for each CPU of this machine."""
STATE = """
import json, ray
ray.init(logging_level='ERROR')
nodes = [node['Resources'].get('CPU', 0) for node in ray.nodes() if node['Alive']]
print(json.dumps({'nodes': nodes, 'free': ray.available_resources().get('CPU', 0)}))
"""
DASHBOARD = "http://127.0.0.1:8265"


class Cluster:
    """Hosts with Ray; the first is the head. `desk` is the folder and home of who works with it."""

    def __init__(self, machines: list[Host]) -> None:
        self.head, *self.workers = self.hosts = machines
        self.folder = machines[0].folder
        self.data, self.desk = self.folder / "data", self.folder / "desk"
        self.desk.mkdir()
        self.jobs: list[Job] = []
        self.environment = {
            "PATH": hosts.PATH,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # as in the shells of `ray up`: sums of two threads have other last bits
            "HOME": str(self.desk),
            "USER": hosts.USER,
            "LANG": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_API_SERVER_ADDRESS": DASHBOARD,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.file = self.folder / "local.yaml"
        self.file.write_text(self._settings())

    def _settings(self) -> str:
        """cluster/local.yaml with the addresses, the key, the programs and the sizes of these hosts."""
        text = (ROOT / "cluster" / "local.yaml").read_text()
        workers = ", ".join(host.address for host in self.workers)
        self.cpus = max(int(SHARE * (os.cpu_count() or 1)), 1)
        for old, new in (
            ("head_ip: 192.168.1.10", f"head_ip: {self.head.address}"),
            ("worker_ips: [192.168.1.11, 192.168.1.12]", f"worker_ips: [{workers}]"),
            ("max_workers: 2 ", f"max_workers: {len(self.workers)} "),
            ("~/.ssh/id_ed25519", str(self.folder / "key")),
            ("/opt/survey/bin", str(Path(sys.executable).parent)),
            (
                "--object-store-memory=2000000000",
                f"--object-store-memory={STORE_BYTES} --num-cpus={self.cpus}",
            ),
        ):
            assert old in text, f"cluster/local.yaml has no {old}"
            text = text.replace(old, new)
        return text

    def start(self, *command: str) -> Job:
        """Start a command at the desk, in the checkout."""
        self.jobs.append(Job([*command], self.environment, self.desk / f"log-{len(self.jobs)}"))
        return self.jobs[-1]

    def call(self, *command: str) -> Job:
        """Run a command at the desk, which must succeed."""
        job = self.start(*command)
        if job.wait():
            raise OSError(f"{' '.join(command)}: {job.out}{job.err}")
        return job

    def submit(self, job: str, *arguments: str) -> Job:
        """Submit a job of this checkout."""
        command = ["ray", "job", "submit", "--working-dir", ".", "--", "python", f"jobs/{job}.py"]
        return self.start(*command, *arguments)

    def state(self) -> dict[str, Any]:
        """The CPUs of each node that is alive, and how many of all are free."""
        python = f'RAY_AUTH_MODE=token {sys.executable} -c "{STATE}"'
        done = self.head.ssh(python)
        try:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        except (IndexError, ValueError):
            return {"nodes": [], "free": 0, "error": done.stderr}

    def is_free(self) -> bool:
        """Whether all hosts are there, and nothing holds a CPU."""
        state = self.state()
        return len(state["nodes"]) == len(self.hosts) and state["free"] == sum(state["nodes"])

    def start_again(self) -> list[str]:
        """Start Ray by hand on the machines that have none; their names."""
        absent = [host for host in self.workers if not has_ray(host)]
        command = f"ray stop; ray start --address={self.head.address}:6379 --num-cpus={self.cpus}"
        programs = f"export PATH={Path(sys.executable).parent}:$PATH RAY_AUTH_MODE=token"
        for host in absent:
            host.ssh(f"{programs}; {command} --object-store-memory={STORE_BYTES}", 180)
        return [host.name for host in absent]

    def up(self) -> None:
        """Start the cluster, and the tunnel to its dashboard."""
        self.call("ray", "get-auth-token", "--generate")
        self.call("ray", "up", "-y", str(self.file))
        self.tunnel = self.start("ray", "dashboard", str(self.file))
        hosts.until(self.is_free, "all hosts have joined", 600)

    def down(self) -> None:
        """Stop the cluster. Workers end by themselves, a minute after the head."""
        with suppress(ProcessLookupError):
            self.tunnel.kill()
        self.call("ray", "down", "-y", str(self.file))
        hosts.until(lambda: not any(map(has_ray, self.hosts)), "nothing of Ray is left on any host", 300)


def has_ray(host: Host) -> bool:
    """Whether a part of Ray runs on the host."""
    return bool(host.processes("[r]aylet|[g]cs_server"))


@contextmanager
def cluster(count: int, environment: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster of so many hosts, stopped and checked at the end."""
    with hosts.start(count, environment) as machines:
        found = Cluster(machines)
        found.up()
        yield found
        found.down()
