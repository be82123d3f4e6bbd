"""What happens to jobs on a cluster of two hosts when a host, a cable, a disk, a driver or the bucket fails.

    python -m benchmarks.chaos [stages=ingest,train,predict] [faults=cut,slow,...]

Three steps for each stage, as Ray's own tests of chaos do it: warm (a run that is not counted), calm (a run
without a fault), storm (a run for each fault, which strikes in the middle). After each storm the results have
to be those of the calm run, byte for byte; all CPUs of the cluster are free again, and no half-written file
is left in the bucket or on a host. Hosts are namespaces of this machine (tests/cluster/hosts.py), the bucket
is moto's S3 at the desk. Needs root and openssh-server; takes 40 minutes. Prints a table for RESULTS.md.
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from survey import files
from tests.cluster import hosts
from tests.cluster.ray_up import Cluster, cluster
from tests.processes import Job

PORT = 9000
S3 = {
    "AWS_ENDPOINT_URL": f"http://{hosts.DESK}:{PORT}",
    "AWS_ACCESS_KEY_ID": "AKIATESTSURVEY",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-this-program",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SKY = "s3://sky"
LABELS = f"labels={SKY}/files/labels.parquet"
SMALL = [
    "model=prism",
    "options={components: 16, hidden: 32}",
    "gpu=never",
    "tracking.use=never",
    "threads=1",
]
JOBS = {
    "mock": [f"out={SKY}/files", "n=800", "chunk=100"],
    "ingest": [f"input={SKY}/files", f"store={SKY}/store", "shard=25"],
    "train": [f"store={SKY}/store", LABELS, f"run={SKY}/run", "epochs=12", "workers=2", *SMALL],
    "ensemble": [f"ensemble={SKY}/ensemble", f"runs=[{SKY}/run]", "passes=60", "threads=1"],
    "predict": [
        *(f"predictions={SKY}/predictions", f"ensemble={SKY}/ensemble", f"store={SKY}/store"),
        *("workers=2", "threads=1", "batch=32", "gpu=never"),
    ],
}
FOLDERS = {"ingest": "store", "train": "run", "predict": "predictions"}
RESULTS = {
    "ingest": ("store/spectra/", "store/refused/"),
    "train": ("run/model.safetensors",),
    "predict": ("predictions/predictions/",),
}
MIDDLE = {
    "ingest": ("store/markers/", 6),
    "train": ("run/checkpoints/", 1),
    "predict": ("predictions/markers/", 6),
}
"""A stage is in its middle when so many objects are there."""
TRIES, PATIENCE_S = 4, 1200


class Bucket:
    """The S3 server at the desk, which can be stopped, and killed and started again with its content."""

    def __init__(self, made: Cluster) -> None:
        self.job = made.start(
            sys.executable, "tests/s3/server.py", str(PORT), str(made.folder / "journal"), hosts.DESK
        )
        self.starts = 0
        self.wait()
        os.environ.update(S3)
        files.bucket_system().call_s3("create_bucket", Bucket="sky")

    def wait(self) -> None:
        """Wait until one more server answers."""
        self.starts += 1
        hosts.until(
            lambda: self.job.out.count("is ready") == self.starts, f"the server starts: {self.job.err}"
        )

    def signal(self, number: int) -> None:
        """A signal to the process that serves."""
        os.kill(psutil.Process(self.job.process.pid).children()[0].pid, number)

    def restart(self) -> None:
        """Start a killed server again."""
        self.job.process.send_signal(signal.SIGUSR1)
        self.wait()

    def digest(self, prefixes: tuple[str, ...]) -> tuple[int, str]:
        """The number of objects below these prefixes, and a checksum of their names and bytes."""
        names = sorted(name for prefix in prefixes for name in self.names(prefix))
        total = hashlib.sha256()
        for name in names:
            total.update(name.encode() + files.read(f"{SKY}/{name}"))
        return len(names), total.hexdigest()

    def names(self, prefix: str) -> list[str]:
        """The objects below a prefix."""
        system = files.bucket_system()
        system.invalidate_cache()
        return [path.removeprefix("sky/") for path in system.find(f"{SKY}/{prefix}")]

    def leftovers(self) -> list[str]:
        """Temporary objects, and uploads that were begun and not ended."""
        uploads = files.bucket_system().call_s3("list_multipart_uploads", Bucket="sky").get("Uploads", [])
        return [name for name in self.names("") if "tmp" in name] + [str(upload["Key"]) for upload in uploads]

    def remove(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        for name in self.names(prefix):
            files.remove(f"{SKY}/{name}")


@dataclass(frozen=True)
class Fault:
    """What strikes, for how many seconds, and how it ends."""

    text: str
    begin: Callable[[], object]
    seconds: float = 0
    end: Callable[[], object] = lambda: None


def faults(made: Cluster, bucket: Bucket, stage: str) -> dict[str, Fault]:
    """All faults, by their short names. The second host is a worker; the driver runs on the first."""
    head, worker = made.hosts
    full = "fallocate -l $(df --output=avail -B1 {0} | tail -1) {0}/full || true"
    return {
        "cut": Fault("the cable of a worker is out for 60 s", worker.cut, 60, worker.join),
        "driver": Fault("the driver is killed", lambda: head.ssh(f"pkill -9 -f '[j]obs/{stage}.py'")),
        "crash": Fault(
            "the S3 server is killed, and back after 30 s",
            lambda: bucket.signal(signal.SIGKILL), 30, bucket.restart,
        ),
        "raylet": Fault("the raylet of a worker is killed", lambda: worker.ssh("pkill -9 raylet")),
        "pause": Fault(
            "the bucket does not answer for 30 s",
            lambda: bucket.signal(signal.SIGSTOP), 30, lambda: bucket.signal(signal.SIGCONT),
        ),
        "disk": Fault(
            "/tmp of a worker is full for 30 s",
            lambda: worker.ssh(full.format(hosts.TEMPORARY)), 30,
            lambda: worker.ssh(f"rm {hosts.TEMPORARY}/full"),
        ),
        "memory": Fault(
            "/dev/shm of a worker (object store) is full for 30 s",
            lambda: worker.ssh(full.format("/dev/shm")), 30, lambda: worker.ssh("rm /dev/shm/full"),
        ),
        "slow": Fault("a worker has 2 Mbit/s for 60 s", lambda: worker.slow("2mbit"), 60, worker.steady),
        "blink": Fault("the cable of a worker is out for 5 s", worker.cut, 5, worker.join),
    }  # fmt: skip


@dataclass
class Storm:
    """Runs of the jobs of one stage, and what was seen of them."""

    made: Cluster
    bucket: Bucket
    stage: str
    calm: tuple[int, str] = (0, "")
    calm_seconds: float = 0.0
    peak: float = 0.0
    notes: list[str] = field(default_factory=list)

    def run(self, fault: Fault | None = None) -> float:
        """Run the stage from its beginning, with this fault in its middle; the seconds until it is done."""
        self.bucket.remove(f"{FOLDERS[self.stage]}/")
        self.notes, self.peak, started = [], 0.0, time.monotonic()
        for number in range(TRIES):
            job = self.made.submit(self.stage, "recipes/cemp.yaml", *JOBS[self.stage])
            if fault and not number and self.wait(job, self.is_middle):
                self.strike(job, fault)
            self.wait(job, lambda: False)
            if job.wait() == 0:
                break
            self.notes.append(sentence(job))
        else:
            raise OSError(f"{self.stage}: {TRIES} tries failed:\n{job.out[-4000:]}\n{job.err[-2000:]}")
        return time.monotonic() - started

    def strike(self, job: Job, fault: Fault) -> None:
        """Let the fault happen, for its time or until the job has ended."""
        fault.begin()
        end = time.monotonic() + fault.seconds
        self.wait(job, lambda: time.monotonic() > end)
        fault.end()

    def wait(self, job: Job, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds, and watch the memory; false if the job has ended before."""
        limit = time.monotonic() + PATIENCE_S
        while job.process.poll() is None:
            self.peak = max(self.peak, memory_of(self.made))
            if condition():
                return True
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.stage} hangs:\n{job.out[-4000:]}\n{job.err[-2000:]}")
            time.sleep(0.3)
        return False

    def is_middle(self) -> bool:
        """Whether a part of the results is there."""
        prefix, count = MIDDLE[self.stage]
        return len(self.bucket.names(prefix)) >= count

    def row(self, name: str, fault: Fault) -> str:
        """One storm: a row of the table."""
        seconds = self.run(fault)
        tries = len(self.notes)
        peak, started, wrong = self.peak, time.monotonic(), []
        by_hand = []
        for _ in range(2):
            with suppress(TimeoutError):
                hosts.until(self.made.is_free, "all CPUs are free", 90)
                break
            by_hand += self.made.start_again()
        else:
            wrong.append(f"cluster: {self.made.state()}")
        free = time.monotonic() - started
        if self.bucket.digest(RESULTS[self.stage]) != self.calm:
            wrong.append("results differ")
        wrong += self.bucket.leftovers()
        left = f"ls -d {hosts.TEMPORARY}/survey-*"
        wrong += [line for host in self.made.hosts for line in host.ssh(left).stdout.split()]
        print(f"  {name}: {self.notes} {wrong}", file=sys.stderr, flush=True)
        return (
            f"| {self.stage} | {fault.text} | {'same command again' if tries else 'survived'} | "
            f"{'yes' if 'results differ' not in wrong else 'NO'} | {seconds - self.calm_seconds:+.0f} s | "
            f"{free:.0f} s{', by hand' if by_hand else ''} | {peak:.1f} GB | {'; '.join(wrong) or 'none'} |"
        )


def sentence(job: Job) -> str:
    """The last line that a failed job has printed itself."""
    lines = [line for line in job.out.splitlines() if "cli.py" not in line and line.strip()]
    return ("TRACEBACK " if "Traceback" in job.out else "") + (lines[-1][:300] if lines else "nothing")


def memory_of(made: Cluster) -> float:
    """GB that the processes of the hosts hold for themselves."""
    total = 0
    for host in made.hosts:
        with suppress(psutil.Error):
            for process in psutil.Process(host.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    total += process.memory_info().rss - process.memory_info().shared
    return total / 1e9


def report(line: str) -> None:
    """Show at once what was found."""
    print(line, flush=True)


def storm_row(storm: Storm, name: str) -> str:
    """A row of the table; a storm that ends in an error of the program is a row too."""
    fault = faults(storm.made, storm.bucket, storm.stage)[name]
    try:
        return storm.row(name, fault)
    except (OSError, TimeoutError) as error:
        return f"| {storm.stage} | {fault.text} | FAILED | | | | | {' '.join(str(error).split())[-400:]} |"


def main(stages: list[str], wanted: list[str]) -> int:
    """All stages, then each fault in each stage; the number of storms after which something was wrong."""
    names = (
        "stage",
        "fault",
        "the job",
        "equal results",
        "longer by",
        "all CPUs free after",
        "memory",
        "left over",
    )
    wrong, storms = 0, []
    with cluster(2, S3) as made:
        bucket = Bucket(made)
        made.environment |= S3
        idle = memory_of(made)
        report(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
        for job in JOBS:
            if job not in FOLDERS:
                single = made.submit(job, "recipes/cemp.yaml", *JOBS[job])
                if single.wait():
                    raise OSError(single.out + single.err)
                continue
            storm = Storm(made, bucket, job)
            storm.run()
            if job in stages:
                storm.calm_seconds = storm.run()
                storm.calm = bucket.digest(RESULTS[job])
                seconds, (count, _) = storm.calm_seconds, storm.calm
                report(f"| {job} | none | {seconds:.0f} s, {count} files | | | | {storm.peak:.1f} GB | |")
                storms.append(storm)
        for name in wanted or faults(made, bucket, "ingest"):
            for storm in storms:
                row = storm_row(storm, name)
                wrong += not row.endswith("| none |")
                report(row)
        hosts.until(made.is_free, "all CPUs are free", 300)
        report(f"\nMemory of all hosts without a job: {idle:.1f} GB before, {memory_of(made):.1f} GB after.")
    return wrong


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if "at-desk" in sys.argv:
        names = given.get("stages", "ingest,train,predict").split(",")
        sys.exit(bool(main(names, [name for name in given.get("faults", "").split(",") if name])))
    sys.exit(hosts.at_desk("benchmarks.chaos", "at-desk", *sys.argv[1:]))
