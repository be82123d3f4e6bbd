"""An S3 server at the desk of a cluster of hosts: it can be paused, and killed and started again."""

import os
import signal
import sys

import psutil

from survey import files
from tests.cluster import hosts
from tests.cluster.ray_up import Cluster

PORT = 9000
S3 = {
    "AWS_ENDPOINT_URL": f"http://{hosts.DESK}:{PORT}",
    "AWS_ACCESS_KEY_ID": "AKIATESTSURVEY",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-this-program",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""The environment of all that use the bucket."""
NAME = "sky"
UNFINISHED = ("tmp", "claim")
"""Parts of the names of files that a finished job has not left behind."""


class Bucket:
    """moto's S3 with one bucket. What was written is there again after a restart."""

    def __init__(self, made: Cluster) -> None:
        self.job = made.start(
            sys.executable, "tests/s3/server.py", str(PORT), str(made.folder / "journal"), hosts.DESK
        )
        self.starts = 0
        self.wait()
        os.environ.update(S3)
        files.bucket_system().call_s3("create_bucket", Bucket=NAME)

    def wait(self) -> None:
        """Wait until one more server answers."""
        self.starts += 1
        hosts.until(
            lambda: self.job.out.count("is ready") == self.starts, f"the server starts: {self.job.err}"
        )

    def signal(self, number: int) -> None:
        """A signal to the process that serves."""
        os.kill(psutil.Process(self.job.process.pid).children()[0].pid, number)

    def pause(self) -> None:
        """Let it answer nothing."""
        self.signal(signal.SIGSTOP)

    def proceed(self) -> None:
        """Let it answer again."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it in the middle of its answers."""
        self.signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start a killed server again."""
        self.job.process.send_signal(signal.SIGUSR1)
        self.wait()

    def leftovers(self) -> list[str]:
        """Temporary objects, claims, and uploads that were begun and not ended."""
        uploads = files.bucket_system().call_s3("list_multipart_uploads", Bucket=NAME).get("Uploads", [])
        return unfinished(f"s3://{NAME}") + [str(upload["Key"]) for upload in uploads]


def unfinished(folder: str) -> list[str]:
    """Files below a folder or prefix that a finished job has not left behind."""
    paths = [entry.path for entry in files.walk(folder)]
    return [path for path in paths if any(part in path.rpartition("/")[2] for part in UNFINISHED)]
