"""What happens to jobs on a cluster of two hosts when a host, a cable, a disk, a driver or the bucket fails.

    python -m benchmarks.chaos [stages=ingest,train,tune,ensemble,predict,catalog] [faults=cut,slow,...]

Three steps for each stage, as Ray's own tests of chaos do it: warm (a run that is not counted), calm (a run
without a fault), storm (a run for each fault, which strikes in the middle). After each storm the results have
to be those of the calm run, byte for byte; all CPUs of the cluster are free again, and no half-written file,
claim or temporary folder is left in the bucket or on a host. Ensembles and catalogs are made by the driver
alone: their faults strike the head. Hosts are namespaces of this machine (tests/cluster/hosts.py), the bucket
is moto's S3 at the desk. Needs root and openssh-server; takes an hour and a half. Prints a table for
RESULTS.md.
"""

import hashlib
import io
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch

import psutil
import pyarrow.parquet as pq

from survey import files
from tests.cluster import hosts
from tests.cluster.bucket import NAME, S3, Bucket, unfinished
from tests.cluster.faults import Fault, faults
from tests.cluster.ray_up import Cluster, cluster
from tests.processes import Job

SKY = f"s3://{NAME}"
SHARED = f"{hosts.FOLDER}/data"
"""A disk that all hosts share: the file in which a search records its trials cannot be in a bucket."""
LABELS = f"labels={SKY}/files/labels.parquet"
NETWORK = "model=prism 'options={components: 16, hidden: 32}'"


@dataclass(frozen=True)
class Stage:
    """A job, its settings, and the folder that it makes. Patterns are those of `fnmatch`, below the folder.

    `results`: the files that no fault may change. `middle`: so many files are there in the middle of the job.
    `is_alone`: the driver does all the work.
    """

    settings: str
    folder: str
    results: tuple[str, ...] = ("*",)
    middle: tuple[str, int] = ("*", 1)
    is_alone: bool = False
    recipe: str = "cemp"


STAGES = {
    "mock": Stage(f"out={SKY}/files n=800 chunk=100", f"{SKY}/files"),
    "ingest": Stage(
        f"input={SKY}/files store={SKY}/store shard=25",
        f"{SKY}/store",
        results=("spectra/*", "refused/*"),
        middle=("markers/*", 6),
    ),
    "train": Stage(
        f"store={SKY}/store {LABELS} run={SKY}/run {NETWORK} epochs=12 workers=2 threads=1 gpu=never "
        "tracking.use=never",
        f"{SKY}/run",
        results=("model.safetensors",),
        middle=("checkpoints/*", 1),
    ),
    "tune": Stage(
        f"store={SKY}/store {LABELS} study={SHARED}/study space=tune/prism.yaml elements=[FE] trials=6 "
        "seeds=1 sampler=random stages=1 prune.name=none workers=2 threads=1 tracking.use=never "
        "train.model=prism train.epochs=8 'train.options={components: 16, hidden: 32}'",
        f"{SHARED}/study",
        results=("trials.parquet", "recipes/*", "*/model.safetensors"),
        middle=("trials/*/run.json", 2),
        recipe="abundances",
    ),
    "ensemble": Stage(
        f"ensemble={SKY}/ensemble runs=[{SKY}/run] passes=60 threads=1",
        f"{SKY}/ensemble",
        results=("*.safetensors", "validation.parquet"),
        is_alone=True,
    ),
    "predict": Stage(
        f"predictions={SKY}/predictions ensemble={SKY}/ensemble store={SKY}/store workers=2 threads=1 "
        "batch=32 gpu=never",
        f"{SKY}/predictions",
        results=("predictions/*",),
        middle=("markers/*", 6),
    ),
    "catalog": Stage(
        f"predictions={SKY}/predictions catalog={SKY}/catalog",
        f"{SKY}/catalog",
        results=("*_candidates.*", "next_*", "*.csv", "not_fgk.parquet", "unsure.parquet", "curves.parquet"),
        is_alone=True,
    ),
}
"""The road, in its order."""
CLOCKS = {"trials.parquet": ["training_seconds"]}
"""Columns with times, which differ from run to run."""
IDENTS = {".yaml": b"  study: "}
"""Beginnings of lines, by the ending of a file, that hold the random name of a study."""
TRIES, PATIENCE_S = 4, 1200


def below(stage: Stage, patterns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The files of a stage that match one of the patterns: name below the folder, and path."""
    if not files.is_folder(stage.folder):
        return
    for entry in files.walk(stage.folder):
        name = entry.path.removeprefix(f"{stage.folder}/")
        if any(fnmatch(name, pattern) for pattern in patterns):
            yield name, entry.path


def digests(stage: Stage) -> dict[str, str]:
    """A checksum of each file of the results, without times and random names."""
    found = {}
    for name, path in below(stage, stage.results):
        content = files.read(path)
        if name in CLOCKS:
            table = pq.read_table(io.BytesIO(content)).drop_columns(CLOCKS[name])
            content = repr(table.sort_by("trial").to_pylist()).encode()
        for ending, beginning in IDENTS.items():
            if name.endswith(ending):
                content = b"".join(line for line in content.splitlines() if not line.startswith(beginning))
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def remove(stage: Stage) -> None:
    """Remove all files of a stage."""
    for _, path in list(below(stage, ("*",))):
        files.remove(path)
    if not files.is_remote(stage.folder):
        shutil.rmtree(stage.folder, ignore_errors=True)


@dataclass
class Storm:
    """Runs of one stage, and what was seen of them. `calm`: checksums of the results without a fault."""

    made: Cluster
    bucket: Bucket
    job: str
    calm: dict[str, str] = field(default_factory=dict)
    calm_seconds: float = 0.0
    peak: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        """The stage of the job."""
        return STAGES[self.job]

    def start(self) -> Job:
        """Submit the job."""
        words = shlex.split(self.stage.settings)
        return self.made.submit(self.job, f"recipes/{self.stage.recipe}.yaml", *words)

    def run(self, fault: Fault | None = None) -> float:
        """Run the stage from its beginning, with this fault in its middle; the seconds until it is done."""
        remove(self.stage)
        self.notes, self.peak, started = [], 0.0, time.monotonic()
        for number in range(TRIES):
            job = self.start()
            if fault and not number and self.wait(job, self.is_middle):
                self.strike(job, fault)
            self.wait(job, lambda: False)
            if job.wait() == 0:
                break
            self.notes.append(sentence(job))
        else:
            raise OSError(f"{self.job}: {TRIES} tries failed:\n{job.out[-4000:]}\n{job.err[-2000:]}")
        return time.monotonic() - started

    def strike(self, job: Job, fault: Fault) -> None:
        """Let the fault happen, for its time or until the job has ended."""
        fault.begin()
        try:
            end = time.monotonic() + fault.seconds
            self.wait(job, lambda: time.monotonic() > end)
        finally:
            fault.end()

    def wait(self, job: Job, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds, and watch the memory; false if the job has ended before."""
        limit = time.monotonic() + PATIENCE_S
        while job.process.poll() is None:
            self.peak = max(self.peak, memory_of(self.made))
            if condition():
                return True
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.job} hangs:\n{job.out[-4000:]}\n{job.err[-2000:]}")
            time.sleep(0.3)
        return False

    def is_middle(self) -> bool:
        """Whether a part of the results is there."""
        pattern, count = self.stage.middle
        return sum(1 for _ in below(self.stage, (pattern,))) >= count

    def wrong_results(self) -> list[str]:
        """Which results are not those of the calm run."""
        now = digests(self.stage)
        differing = sorted(name for name in {*now, *self.calm} if now.get(name) != self.calm.get(name))
        more = [f"and {len(differing) - 3} more"] if len(differing) > 3 else []
        return [f"{name} differs" for name in differing[:3]] + more

    def leftovers(self) -> list[str]:
        """What jobs should have removed: in the bucket, in the folder of the stage, on the hosts."""
        found = self.bucket.leftovers()
        found += [] if files.is_remote(self.stage.folder) else unfinished(self.stage.folder)
        command = f"ls -d {hosts.TEMPORARY}/survey-*"
        return found + [line for host in self.made.hosts for line in host.ssh(command).stdout.split()]

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
        differing = self.wrong_results()
        wrong += differing + self.leftovers()
        print(f"  {name}: {self.notes} {wrong}", file=sys.stderr, flush=True)
        return (
            f"| {self.job} | {fault.text} | {'same command again' if tries else 'survived'} | "
            f"{'NO' if differing else 'yes'} | {seconds - self.calm_seconds:+.0f} s | "
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


def storm_row(storm: Storm, name: str, fault: Fault) -> str:
    """A row of the table; a storm that ends in an error of the program is a row too."""
    try:
        return storm.row(name, fault)
    except (OSError, TimeoutError) as error:
        return f"| {storm.job} | {fault.text} | FAILED | | | | | {' '.join(str(error).split())[-400:]} |"


def prepare(made: Cluster, bucket: Bucket, wanted: list[str]) -> Iterator[Storm]:
    """Go the road as far as it is needed; each wanted stage twice, and it has to end the same way."""
    last = max(list(STAGES).index(job) for job in wanted)
    for job in list(STAGES)[: last + 1]:
        if job == "tune" and job not in wanted:
            continue
        storm = Storm(made, bucket, job)
        storm.run()
        if job not in wanted:
            continue
        storm.calm = digests(storm.stage)
        storm.calm_seconds = storm.run()
        differing = "; ".join(storm.wrong_results())
        report(
            f"| {job} | none | {storm.calm_seconds:.0f} s, {len(storm.calm)} files | {differing or 'yes'} "
            f"| | | {storm.peak:.1f} GB | {'; '.join(storm.leftovers()) or 'none'} |"
        )
        yield storm


def main(stages: list[str], wanted: list[str]) -> int:
    """All stages, then each fault in each stage; the number of storms after which something was wrong."""
    titles = ("stage", "fault", "the job", "equal results", "longer by", "all CPUs free after", "memory")
    wrong = 0
    with cluster(2, S3) as made:
        bucket = Bucket(made)
        known = faults(made, bucket, "", False)
        if unknown := set(wanted) - known.keys():
            sys.exit(f"unknown faults {', '.join(sorted(unknown))}; give some of {', '.join(known)}")
        made.environment |= S3
        idle = memory_of(made)
        report(f"| {' | '.join((*titles, 'left over'))} |\n|{' --- |' * (len(titles) + 1)}")
        storms = list(prepare(made, bucket, stages))
        for name in wanted or known:
            for storm in storms:
                if fault := faults(made, bucket, storm.job, storm.stage.is_alone).get(name):
                    row = storm_row(storm, name, fault)
                    wrong += not row.endswith("| none |")
                    report(row)
        hosts.until(made.is_free, "all CPUs are free", 300)
        report(f"\nMemory of all hosts without a job: {idle:.1f} GB before, {memory_of(made):.1f} GB after.")
    return wrong


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if "at-desk" in sys.argv:
        names = given.get("stages", "ingest,train,tune,ensemble,predict,catalog").split(",")
        sys.exit(bool(main(names, [name for name in given.get("faults", "").split(",") if name])))
    sys.exit(hosts.at_desk("benchmarks.chaos", "at-desk", *sys.argv[1:]))
