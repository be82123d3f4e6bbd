"""What can fail on a cluster of hosts: cables, disks, memory, the bucket, the driver, a part of Ray."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster import hosts
from tests.cluster.bucket import Bucket
from tests.cluster.ray_up import Cluster

OF_WORKERS = ("cut", "raylet")
"""Faults that would be the loss of the cluster if they struck its head."""


@dataclass(frozen=True)
class Fault:
    """What strikes, for how many seconds, and how it ends."""

    text: str
    begin: Callable[[], object]
    seconds: float = 0
    end: Callable[[], object] = lambda: None


def faults(made: Cluster, bucket: Bucket, job: str, is_alone: bool) -> dict[str, Fault]:
    """All faults for a job, by short names. They strike a worker, or the head where the driver is alone."""
    head, host = made.hosts[0], made.hosts[0 if is_alone else 1]
    who = "the head" if is_alone else "a worker"
    full = "fallocate -l $(df --output=avail -B1 {0} | tail -1) {0}/full || true"
    found = {
        "cut": Fault(f"the cable of {who} is out for 60 s", host.cut, 60, host.join),
        "driver": Fault("the driver is killed", lambda: head.ssh(f"pkill -9 -f '[j]obs/{job}.py'")),
        "crash": Fault("the S3 server is killed, and back after 30 s", bucket.kill, 30, bucket.restart),
        "raylet": Fault(f"the raylet of {who} is killed", lambda: host.ssh("pkill -9 raylet")),
        "pause": Fault("the bucket does not answer for 30 s", bucket.pause, 30, bucket.proceed),
        "disk": Fault(
            f"/tmp of {who} is full for 30 s",
            lambda: host.ssh(full.format(hosts.TEMPORARY)), 30,
            lambda: host.ssh(f"rm {hosts.TEMPORARY}/full"),
        ),
        "memory": Fault(
            f"/dev/shm of {who} (object store) is full for 30 s",
            lambda: host.ssh(full.format("/dev/shm")), 30, lambda: host.ssh("rm /dev/shm/full"),
        ),
        "slow": Fault(f"{who} has 2 Mbit/s for 60 s", lambda: host.slow("2mbit"), 60, host.steady),
        "blink": Fault(f"the cable of {who} is out for 5 s", host.cut, 5, host.join),
    }  # fmt: skip
    return {name: fault for name, fault in found.items() if not (is_alone and name in OF_WORKERS)}
