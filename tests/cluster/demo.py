"""The road from files to a catalog, on a cluster of two hosts and on one host: `make cluster-demo`.

`ray up` starts the cluster with cluster/local.yaml, each job is submitted by `ray job submit`, and `ray down`
ends it. The same jobs then run at the desk, without the cluster. Both have to end with the same bytes.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster import hosts
from tests.cluster.ray_up import Cluster, cluster

LABELS = "labels={at}/files/labels.parquet"
SMALL = "model=prism options={{components: 16, hidden: 32}} gpu=never tracking.use=never"
ROAD = {
    "mock": "out={at}/files n=1200 chunk=100",
    "ingest": "input={at}/files store={at}/store shard=100",
    "train": f"store={{at}}/store {LABELS} run={{at}}/run epochs=4 workers=2 threads=1 {SMALL}",
    "tune": f"study={{at}}/study store={{at}}/store {LABELS} trials=2 seeds=0 workers=2 train.model=prism "
    "space=tune/prism.yaml train.epochs=2 elements=[FE] tracking.use=never",
    "ensemble": "ensemble={at}/ensemble runs=[{at}/run] threads=1",
    "predict": "predictions={at}/predictions ensemble={at}/ensemble store={at}/store threads=1 batch=64 "
    "gpu=never workers=2",
    "catalog": "predictions={at}/predictions catalog={at}/catalog",
}
"""The jobs with their settings; a word with spaces in braces stays one."""
EQUAL = {
    "mock": ("files/**/*.fits*", "files/labels.parquet"),
    "ingest": ("store/spectra/*", "store/refused/*"),
    "train": ("run/model.safetensors",),
    "ensemble": ("ensemble/**/*.safetensors",),
    "predict": ("predictions/predictions/*",),
    "catalog": ("catalog/*.parquet", "catalog/*.csv"),
}
"""The files of each job that have to be the same, byte for byte, on a cluster and on one host."""
AT_WORK = {"train": "[R]ayTrainWorker", "predict": "[r]ay::Actor"}
"""Processes of a job that show on which hosts it runs. Two workers train together, on both hosts."""


def words(job: str, at: Path) -> list[str]:
    """The settings of a job whose folders are in `at`."""
    recipe = "recipes/abundances.yaml" if job == "tune" else "recipes/cemp.yaml"
    text = ROAD[job].format(at=at)
    found: list[str] = [recipe]
    for word in text.split(" "):
        if found[-1].count("{") > found[-1].count("}"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def compare(first: Path, second: Path, patterns: tuple[str, ...]) -> tuple[int, list[str]]:
    """How many files match the patterns, and which of them are not the same in both folders."""
    names = {
        path.relative_to(at).as_posix()
        for at in (first, second) for pattern in patterns for path in at.glob(pattern) if path.is_file()
    }  # fmt: skip

    def differs(name: str) -> bool:
        pair = (first / name, second / name)
        return not all(path.exists() for path in pair) or pair[0].read_bytes() != pair[1].read_bytes()

    return len(names), sorted(name for name in names if differs(name))


def on_cluster(made: Cluster, job: str) -> tuple[float, str]:
    """Submit a job and wait for it: the seconds that it took, and what was seen of it on the hosts."""
    started, seen = time.monotonic(), set()
    run = made.submit(job, *words(job, made.data / "road"))
    pattern = AT_WORK.get(job)
    while run.process.poll() is None:
        seen |= {host.name for host in made.hosts if pattern and host.processes(pattern)}
        time.sleep(0.3)
    if run.wait():
        raise OSError(f"{job} failed on the cluster:\n{run.out}\n{run.err}")
    if job == "train" and len(seen) < len(made.hosts):
        raise OSError(f"{job} ran on {sorted(seen)} only")
    return time.monotonic() - started, f"on {' and '.join(sorted(seen))}" if seen else ""


def on_one_host(made: Cluster, job: str) -> float:
    """Run a job at the desk, with a Ray of its own if it needs one; the seconds that it took."""
    started = time.monotonic()
    made.environment["RAY_ADDRESS"] = "local"
    made.call("survey", job, *words(job, made.data / "road"))
    del made.environment["RAY_ADDRESS"]
    return time.monotonic() - started


def show(say: Callable[[str], None] = print) -> int:
    """Go the road twice; returns how many files differ."""
    differing: list[str] = []
    say("two hosts, each a set of namespaces of this machine, with SSH; ray up cluster/local.yaml")
    started = time.monotonic()
    with cluster(2) as made:
        say(f"ray up     {time.monotonic() - started:.0f} s, CPUs of the hosts: {made.state()['nodes']}")
        for job in ROAD:
            seconds, place = on_cluster(made, job)
            say(f"{job:10} {seconds:.0f} s on the cluster {place}")
        hosts.until(made.is_free, "all CPUs are free again", 300)
        started = time.monotonic()
    say(f"ray down   {time.monotonic() - started:.0f} s, nothing of Ray is left on any host")
    (made.data / "road").rename(
        made.data / "cluster"
    )  # some files hold paths, so both roads have the same ones
    for job, patterns in EQUAL.items():
        seconds = on_one_host(made, job)
        count, wrong = compare(made.data / "cluster", made.data / "road", patterns)
        differing += wrong if count else [f"no file of {job}"]
        say(f"{job:10} {seconds:.0f} s on one host; {count} files, {len(wrong)} differ")
    say("equal: the cluster and one host make the same files" if not differing else f"DIFFERENT: {differing}")
    return len(differing)


if __name__ == "__main__":
    if "at-desk" in sys.argv:
        sys.exit(bool(show(lambda text: print(text, flush=True))))
    sys.exit(hosts.at_desk("tests.cluster.demo", "at-desk"))
