"""An S3 server for the session, and what a process needs to use it."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Workplace, new_workplace

SECRET = "a-secret-that-nobody-may-write-down"  # not the access key, which is no secret


class Server:
    """A server that can be killed and started again with what it held."""

    def __init__(self, place: Workplace, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = int(found.getsockname()[1])
        self.place, self.given = place, environment
        self.journal = place.folder / f"journal-{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIATESTSURVEY",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """It answers when this returns."""
        self.job = self.place.python(
            str(Path(__file__).with_name("server.py")), str(self.port), str(self.journal), **self.given
        )
        assert self.job.until(lambda: "ready" in self.job.out and self.answers()), self.job.err

    def answers(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.job.kill()

    def restart(self, away: float) -> None:
        """Killed, and started again after so many seconds."""
        self.kill()
        time.sleep(away)
        self.start()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with an empty bucket ``sky``; this process's credentials are for it."""
    from survey import files

    with new_workplace() as place, pytest.MonkeyPatch.context() as patch:
        started = Server(place)
        started.start()
        for name, value in started.environment.items():
            patch.setenv(name, value)
        files.bucket_system().call_s3("create_bucket", Bucket="sky")
        yield started


@pytest.fixture
def place(server: Server) -> Iterator[Workplace]:
    """A workplace whose jobs have the server's credentials."""
    with new_workplace() as found:
        found.environment |= server.environment
        yield found


def put(prefix: str, contents: dict[str, bytes]) -> None:
    """These objects below a prefix."""
    from survey import files

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: files.write(files.join(prefix, item[0]), item[1]), contents.items()))
