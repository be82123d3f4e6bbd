"""Jobs as forks of a process that has loaded the libraries: each is a process of its own, and begins at once.

A job of `Workplace.python` imports all libraries anew, which takes most of its CPU time. A fork is for tests
that kill a job and start it again; it needs a job that does not start Ray.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.processes import ROOT, Job, Workplace

INGEST = (
    "survey.store.ingest",
    *(f"survey.store.loops.{name}" for name in ("byte_planes", "clipped_fit", "normalise", "to_grid")),
    "survey.reports.ingest",
    "survey.reports.preview",
)
"""The modules of an ingest."""


class Fork:
    """A job that was forked, with the methods of Popen that tests use. Its exit code comes by a file."""

    def __init__(self, pid: int, code: Path) -> None:
        self.pid, self.code = pid, code

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return int(self.code.read_text()) if self.code.exists() else None

    def wait(self, seconds: float = 900) -> int:
        """Its exit code, when it has ended."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} still runs after {seconds} s")
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkedJob(Job):
    """A job of a workplace that was forked."""

    def __init__(self, process: Fork, log: Path) -> None:
        self.process, self.log = process, log  # type: ignore[assignment]


class JobServer:
    """A process that has loaded these modules and forks for each job."""

    def __init__(self, *modules: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.forks", *modules]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def python(self, place: Workplace, script: str, *arguments: str, **environment: str) -> Job:
        """A script of the checkout, as `Workplace.python` starts it."""
        log = place.folder / f"log-{len(place.jobs)}"
        request = {
            "command": [script, *arguments],
            "environment": place.environment | environment,
            "log": str(log),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        place.jobs.append(ForkedJob(Fork(pid, log.with_suffix(".code")), log))
        return place.jobs[-1]


@contextmanager
def job_server(*modules: str) -> Iterator[JobServer]:
    """A server of jobs; it ends with the block, after its jobs."""
    server = JobServer(*modules)
    try:
        yield server
    finally:
        with server.process:
            assert server.process.stdin is not None
            server.process.stdin.close()


def serve() -> list[str]:
    """Fork for each request on standard input. Returns in a fork only, with the command of its job."""
    codes: dict[int, Path] = {}

    def note_ends(number: int, frame: FrameType | None) -> None:
        while codes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            path = codes.pop(pid)
            path.with_suffix(".part").write_text(str(os.waitstatus_to_exitcode(status)))
            path.with_suffix(".part").rename(path)

    signal.signal(signal.SIGCHLD, note_ends)
    for line in sys.stdin:
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        child = os.fork()
        if child:
            codes[child] = Path(request["log"]).with_suffix(".code")
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if not child:
            _settle(request["environment"], Path(request["log"]))
            command: list[str] = request["command"]
            return command
        print(child, flush=True)
    sys.exit()


def _settle(environment: dict[str, str], log: Path) -> None:
    """A session, an environment and streams of its own."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, Path(os.devnull)), (1, log.with_suffix(".out")), (2, log.with_suffix(".err"))):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # a fork need not look at what is loaded
    sys.argv = serve()
    runpy.run_path(sys.argv[0], run_name="__main__")
