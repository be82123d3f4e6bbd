"""Trainings per minute of `tune`, and of plain Optuna in two processes; the cost of a trial of Ray Tune.

    python -m benchmarks.search [n=40] [turns=3] [epochs=6] [store=STORE] [work=benchmarks/work/search]

Both have two trainings at a time with one thread each: `prism` on the reference set, the same space, sampler
and number of trials; no training is stopped early, and trials are recorded in a journal. Plain Optuna is two
processes with `study.optimize`, each of which makes its settings and calls `plan` and `learn`. "Whole" is
from the start of the command to its end, "steady" from the end of the second training to the end of the last.
The rest is the start and the end: imports, Ray, and the imports of the workers.
"""

import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from survey.cluster import connection
from survey.cluster import search as cluster
from survey.recipes import read_section
from survey.search.schedule import Request
from survey.search.seeds import read_scores
from survey.search.settings import Tune
from survey.search.trial import TrainingEnd
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
SPACE = {
    "optimiser.lr": {"log": [1e-4, 1e-2]},
    "optimiser.weight_decay": {"log": [1e-4, 1e-1]},
    "options.dropout": {"range": [0.0, 0.5]},
    "ema": {"range": [0.5, 0.995]},
}


def training(store: str, epochs: int) -> dict[str, Any]:
    """The settings that all trainings share."""
    fixed = {
        "model": "prism",
        "task": "reg",
        "targets": ["CFe"],
        "monitor": "mae_CFe",
        "tracking": {"use": "never"},
        "gpu": "never",
        "threads": 1,
    }
    return fixed | {"store": store, "labels": str(DATA / "reference.parquet"), "epochs": epochs}


def run_plain_optuna(folder: Path, store: str, epochs: int, count: int, seed: int) -> None:
    """One of the two processes of plain Optuna."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        chosen = {}
        for key, line in SPACE.items():
            low, high = line.get("log", line.get("range", []))
            chosen[key] = trial.suggest_float(key, low, high, log="log" in line)
        values = training(store, epochs) | {
            "run": str(folder / "trials" / str(trial.number)),
            "ema": chosen["ema"],
            "optimiser": {"lr": chosen["optimiser.lr"], "weight_decay": chosen["optimiser.weight_decay"]},
            "options": {"dropout": chosen["options.dropout"]},
        }
        settings = Train.from_dict("plain Optuna", values)
        plan(settings)
        learn(settings)
        scores = read_scores(settings.run)
        assert scores, "the run is not finished"
        return scores.validation["mae_CFe"]

    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    sampler = optuna.samplers.TPESampler(n_startup_trials=8, seed=seed)
    study = optuna.create_study(storage=storage, study_name="plain", load_if_exists=True, sampler=sampler)
    study.optimize(objective, n_trials=count)


def end_times(folder: Path) -> list[datetime]:
    """When the trainings of a study ended, in order."""
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
    return sorted(trial.datetime_complete for trial in study.trials if trial.datetime_complete)


def measure(folder: Path, commands: list[list[str]], count: int) -> dict[str, float]:
    """Run processes side by side: their trainings per minute, and the seconds that start and end take."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "space.yaml").write_text(json.dumps({"space": SPACE}))
    started = time.perf_counter()
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    seconds = time.perf_counter() - started
    times = end_times(folder / "study" if (folder / "study").exists() else folder)
    assert len(times) == count, f"{len(times)} trials instead of {count}"
    steady = (times[-1] - times[1]).total_seconds()
    return {
        "whole": 60 * count / seconds,
        "steady": 60 * (count - 2) / steady,
        "rest": seconds - steady * count / (count - 2),
    }


def commands(work: Path, store: str, count: int, epochs: int) -> dict[str, tuple[Path, list[list[str]]]]:
    """The folder and the commands of each of the two: `tune`, and plain Optuna."""
    set_by_search = ("task", "targets", "monitor")
    fixed = {key: value for key, value in training(store, epochs).items() if key not in set_by_search}
    arguments = [
        *(f"train.{key}={json.dumps(value)}" for key, value in fixed.items()),
        f"study={work}/tune/study",
        f"space={work}/tune/space.yaml",
        f"winners={work}/tune",
        "elements=[CFe]",
        f"trials={count}",
        "seeds=0",
        "prune.name=none",
        "tracking.use=never",
        "workers=2",
        "threads=1",
        "gpu=0",
    ]
    plain = [sys.executable, __file__, "plain", str(work / "plain"), store, str(epochs)]
    halves = [count - count // 2, count // 2]
    return {
        "tune": (work / "tune", [[sys.executable, "jobs/tune.py", *arguments]]),
        "plain Optuna": (
            work / "plain",
            [[*plain, str(half), str(seed)] for seed, half in enumerate(halves)],
        ),
    }


def compare(work: Path, store: str, count: int, epochs: int, turns: int) -> None:
    """Measure both, turn by turn, and print their medians."""
    both = commands(work, store, count, epochs)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in both}
    for turn in range(turns):
        for name in list(both) if turn % 2 == 0 else reversed(both):
            measured[name].append(measure(*both[name], count))
            rates = ", ".join(f"{kind} {value:.1f}" for kind, value in measured[name][-1].items())
            print(f"{name}: {rates}", file=sys.stderr, flush=True)
    medians = {
        name: {kind: median(row[kind] for row in rows) for kind in rows[0]} for name, rows in measured.items()
    }
    print(f"{count} trainings of {epochs} epochs, two at a time; medians of {turns} turns\n")
    print("| | whole, trainings/min | steady, trainings/min | start and end, s |")
    print("| --- " * 4 + "|")
    for name, row in medians.items():
        print(f"| {name} | {row['whole']:.1f} | {row['steady']:.1f} | {row['rest']:.1f} |")
    ratio = {kind: medians["tune"][kind] / medians["plain Optuna"][kind] for kind in ("whole", "steady")}
    print(f"| ratio | {ratio['whole']:.2f} | {ratio['steady']:.2f} | |")


@dataclass
class IdleQueue:
    """A queue without work: every request is for the same finished run."""

    settings: Train
    count: int
    requested: int = 0
    times: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether all trainings have ended."""
        return len(self.times) >= self.count

    def next(self) -> Request | None:
        """The same finished run again."""
        self.requested += 1
        return Request(str(self.requested), self.settings) if self.requested <= self.count else None

    def report(self, key: str, row: Mapping[str, float]) -> bool:
        """No training is stopped."""
        del key, row
        return False

    def end(self, key: str, end: TrainingEnd) -> None:
        """Note the time."""
        assert end.scores, (key, end.failed)
        self.times.append(time.perf_counter())


def measure_idle_trials(work: Path, store: str, count: int = 60) -> None:
    """Print what a trial of Ray Tune takes if there is nothing to train: two workers, six epochs."""
    settings = Train.from_dict("idle", training(store, 6) | {"run": str(work / "idle")})
    if plan(settings):
        learn(settings)
    connection.connect()
    queue = IdleQueue(settings, count)
    values = {"study": str(work / "none"), "workers": 2, "threads": 1, "gpu": 0, "show": True}
    cluster.run_on_ray(Tune.from_dict("idle", values), queue)  # type: ignore[arg-type]
    each = (queue.times[-1] - queue.times[3]) / (count - 4)
    print(f"\nan idle trial with six reported epochs: {each:.3f} s of two workers, {2 * each:.3f} s of one")


def main() -> None:
    """Compare both, then measure idle trials."""
    warnings.simplefilter("ignore")
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(arguments.get("work", ROOT / "benchmarks" / "work" / "search"))
    store = arguments.get("store", str(work / "reference"))
    if "store" not in arguments:
        given = {"input": str(DATA / "reference.parquet"), "store": store, "workers": 1}
        recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
        ingest(Ingest.from_dict("ingest", recipe | given))
    count = int(arguments.get("n", 40))
    assert count > 3, "n: give 4 or more"
    compare(work, store, count, int(arguments.get("epochs", 6)), int(arguments.get("turns", 3)))
    measure_idle_trials(work, store)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        run_plain_optuna(Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]))
    else:
        main()
