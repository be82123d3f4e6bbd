"""The Ray that a job works on: a cluster, or a small one of its own; waited for, watched, and explained.

A Ray that does not start, a cluster without a CPU, and the loss of either end the job with one sentence.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import ray
from ray._private import ray_constants
from ray._private.services import find_bootstrap_address
from ray.util.placement_group import placement_group, remove_placement_group

from survey.messages import shorten
from survey.settings import JobError

WATCH_S = 0.5
"""Seconds between two looks at the processes of a Ray that belongs to this process."""

RAY_ENDED = (
    "Ray has ended in the middle of the work, perhaps for lack of memory; run the same command again to "
    "continue; if that fails too, give workers=1, which needs no Ray"
)

GROW_S, PAUSE_S = 600.0, 5
"""Seconds in which a machine of a cloud has to come, and between two looks."""

REPORTED_S = 2.0
"""Seconds after which Ray knows of CPUs that were given back."""

HEAD_S = 20.0
"""Seconds after which a head that does not answer counts as lost."""

HEAD_GONE = (
    "the head of Ray at {address} does not answer any more; start a cluster, then run the same command again "
    "to continue"
)


def connect() -> None:
    """Connect to Ray: to the cluster of RAY_ADDRESS, or to that of `ray start` on this machine.

    Without either, or with RAY_ADDRESS=local, a private Ray starts. address="auto" is not used: it would also
    join the private Ray of another job, and end with it.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS", "")
        _check_address(address)
        # Without a cluster, no other machine needs to reach this Ray: all its ports are on 127.0.0.1.
        # (ray.init turns _node_ip_address="127.0.0.1" into the address of the network. Ray 2.60)
        is_private = address == "local" or not (address or find_bootstrap_address(None))
        ray_constants.ENABLE_RAY_CLUSTER = not is_private
        with _keep_signal_handlers(), _report_start(is_private):
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        hide_token()
        parts = [part for part in psutil.Process().children() if part.name() in ("raylet", "gcs_server")]
        watch = (
            partial(_watch, parts) if parts else partial(_watch_head, ray.get_runtime_context().gcs_address)
        )
        threading.Thread(target=watch, daemon=True, name="watch Ray").start()


def may_grow() -> bool:
    """Whether this job is on a cluster, to which machines may come when they are needed."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def await_cpus(wanted: int) -> float:
    """The CPUs of the cluster, when it has as many as wanted; an error if it has none for a long time.

    A cluster of `ray up` begins with few machines, or only with a head without CPUs for tasks. It starts
    others for a group of CPUs that waits.
    """
    cpus = float(ray.cluster_resources().get("CPU", 0))
    if cpus >= wanted or (cpus and not may_grow()):
        _report_busy(cpus, wanted)
        return cpus
    group = placement_group([{"CPU": 1}] * wanted)
    log, end = logging.getLogger(__name__), time.monotonic() + GROW_S
    text = "the cluster has %d CPUs, %d are needed: waiting for machines, up to %d minutes"
    text += "; or stop this and give fewer workers=" if wanted > 1 else ""
    log.warning(text, cpus, wanted, GROW_S / 60)
    while not group.wait(PAUSE_S) and time.monotonic() < end:
        pass
    remove_placement_group(group)
    cpus = float(ray.cluster_resources().get("CPU", 0))
    if not cpus:
        raise JobError(
            f"the cluster has no CPU for tasks, and none has come for {GROW_S / 60:.0f} minutes; "
            "`ray status` shows why; start a machine for it, then run the same command again"
        )
    return cpus


def _report_busy(cpus: float, wanted: int) -> None:
    """Say that other jobs have the CPUs: this one may wait for them, for hours without another word."""
    needed = min(wanted, cpus)
    if _free_cpus() >= needed:
        return
    time.sleep(REPORTED_S)
    if (free := _free_cpus()) < needed:
        logging.getLogger(__name__).warning(
            "other jobs use %g of the %g CPUs of the cluster: this one waits where they are not enough",
            cpus - free,
            cpus,
        )


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0))


def hide_token() -> None:
    """Only this user may read the token, which lets one run programs as this user. In Ray 2.60 all may."""
    with suppress(OSError):  # there is none, or it belongs to somebody else
        Path("~/.ray/auth_token").expanduser().chmod(0o600)


@contextmanager
def _report_start(is_private: bool) -> Iterator[None]:
    """A Ray that does not start, or a cluster that does not let this job in, is one sentence."""
    try:
        yield
    except Exception as error:  # ray.init raises any type, also Exception itself (2.60)
        text = shorten(" ".join(str(error).split()), 300)
        if not is_private:
            advice = "start the job as docs/cluster.md shows, or give RAY_ADDRESS=local"
            raise JobError(f"the cluster of Ray cannot be joined ({text}); {advice}") from error
        folder = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
        free = psutil.disk_usage(folder).free if Path(folder).is_dir() else 0
        raise JobError(
            f"Ray does not start ({text}); its files are in {folder}, where {free:,} bytes are free: "
            "make room, or give another folder with a short name in RAY_TMPDIR; workers=1 needs no Ray"
        ) from error


def _watch(parts: list[psutil.Process]) -> None:
    """End this process when a part of its own Ray has died.

    Ray 2.60 waits up to a minute then, prints stacks and logs, and ends the process without a sentence.
    """
    while all(_is_alive(part) for part in parts):
        time.sleep(WATCH_S)
    _end(RAY_ENDED)


def _watch_head(address: str) -> None:
    """End this process when the head of its cluster has gone. Ray 2.60 waits for a minute and prints logs."""
    host, _, port = address.rpartition(":")
    answered = time.monotonic()
    while ray.is_initialized() and time.monotonic() - answered < HEAD_S:
        time.sleep(4 * WATCH_S)
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_S / 4).close()
            answered = time.monotonic()
    _end(HEAD_GONE.format(address=address))


def _end(message: str) -> None:
    """End this process with a sentence, unless its work with Ray is over."""
    if ray.is_initialized():
        logging.getLogger(__name__).error("%s", message)
        logging.shutdown()
        os._exit(1)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """SIGTERM ends this process as before; ray.init sets a handler that exits with code 15."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _check_address(address: str) -> None:
    """Fail at once if nothing listens there: Ray itself would try for five minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise ConnectionError(
                f"RAY_ADDRESS={address}: no Ray there ({error}); "
                "start one with `ray start --head`, or unset RAY_ADDRESS to have one on this machine"
            ) from None
