"""Jobs as separate processes, for tests that watch, kill and restart them. No process outlives its test."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import psutil

ROOT = Path(__file__).resolve().parents[1]
MARK = "SURVEY_TEST_MARK"


class Workplace:
    """A home folder, a folder for Ray, and a mark in the environment by which its processes are found."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.jobs: list[Job] = []
        (folder / "home").mkdir()
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(folder),
            "RAY_ADDRESS": "local",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": mpl.get_cachedir(),  # its list of fonts takes seconds to make
            MARK: self.mark,
        }
        # another kernel of BLAS than in this process would give other last bits
        self.environment |= {
            name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")
        }

    def start(self, *command: str, **environment: str) -> "Job":
        """Start a command without standard input, in its own session."""
        self.jobs.append(
            Job([*command], self.environment | environment, self.folder / f"log-{len(self.jobs)}")
        )
        return self.jobs[-1]

    def python(self, script: str, *arguments: str, **environment: str) -> "Job":
        """A script of the checkout."""
        return self.start(sys.executable, script, *arguments, **environment)

    def processes(self) -> list[psutil.Process]:
        """All living processes that were started here."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid in {job.process.pid for job in self.jobs if job.process.poll() is None}:
            return True  # a fork has the mark, but its first environment is another
        try:
            return process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def sweep(self) -> None:
        """Kill all processes that were started here and wait until they are gone."""
        for _ in range(100):
            alive = self.processes()
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if not alive:
                for job in self.jobs:
                    job.wait()
                return
            time.sleep(0.1)
        raise AssertionError(f"still alive: {self.processes()}")


@contextlib.contextmanager
def new_workplace() -> Iterator[Workplace]:
    """A workplace in a folder whose name is short enough for Ray's sockets; swept afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sv-", dir="/tmp"))
    place = Workplace(folder)
    try:
        yield place
    finally:
        place.sweep()
        shutil.rmtree(folder, ignore_errors=True)


class Job:
    """A running command. Its output goes to a file, so no pipe can fill up."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self.log.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self.log.with_suffix(".err").read_text()

    def wait(self, seconds: float = 900) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def until(self, condition: Callable[[], bool], seconds: float = 900) -> bool:
        """Wait until the condition holds; false if the job ended before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            if self.process.poll() is not None:
                return condition()
            time.sleep(0.01)
        raise TimeoutError(f"not so after {seconds} s; the job printed {self.out} {self.err}")

    def kill(self) -> None:
        """SIGKILL to the command and its process group, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
