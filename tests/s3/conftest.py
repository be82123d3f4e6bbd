"""An S3 server for the session, and the environment of a process that uses it."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Job, Workplace, new_workplace

PAGE = 20
"""Objects in one page of a listing; a real server has 1,000."""
SECRET = "a-secret-that-nobody-may-write-down"  # the access key is no secret


class Server:
    """A server that can be killed and started again with its content."""

    job: Job

    def __init__(self, place: Workplace, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = int(unused.getsockname()[1])
        self.place, self.extra_environment, self.starts = place, environment, 0
        self.journal = place.folder / f"journal-{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIATESTSURVEY",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self.starts:
            self.job.process.send_signal(signal.SIGUSR1)
        else:
            script = str(Path(__file__).with_name("server.py"))
            self.job = self.place.python(script, str(self.port), str(self.journal), **self.extra_environment)
        self.starts += 1
        assert self.job.until(lambda: len(self.processes()) == self.starts and self.answers()), self.job.err

    def processes(self) -> list[int]:
        """The processes that have served, the present one last."""
        return [int(found) for found in re.findall(r"process (\d+) is ready", self.job.out)]

    def answers(self) -> bool:
        """Whether it accepts connections."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        os.kill(self.processes()[-1], signal.SIGKILL)

    def restart(self, pause: float) -> None:
        """Kill the server and start it again after so many seconds."""
        self.kill()
        time.sleep(pause)
        self.start()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with an empty bucket ``sky``; this process's credentials are for it."""
    from survey import files

    with new_workplace() as place, pytest.MonkeyPatch.context() as patch:
        server = Server(place, MOTO_S3_DEFAULT_MAX_KEYS=str(PAGE))
        server.start()
        for name, value in server.environment.items():
            patch.setenv(name, value)
        files.bucket_system().call_s3("create_bucket", Bucket="sky")
        yield server


@pytest.fixture
def place(server: Server) -> Iterator[Workplace]:
    """A workplace whose jobs have the server's credentials."""
    with new_workplace() as workplace:
        workplace.environment |= server.environment
        yield workplace


def put(prefix: str, contents: dict[str, bytes]) -> None:
    """Write these objects below a prefix."""
    from survey import files

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: files.write(files.join(prefix, item[0]), item[1]), contents.items()))
