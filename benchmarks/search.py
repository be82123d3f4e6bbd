"""Trainings per minute of `tune` beside bare Optuna that runs the same objective in two processes; what Tune costs where a training takes no time.

    python benchmarks/search.py [n=40] [turns=3] [epochs=6] [store=STORE] [work=benchmarks/work/search]

Both: two trainings at a time with one thread each, `prism` on the reference set, the same space, sampler and number of trials, nobody stopped, trials
in a journal. Bare Optuna: two processes with `study.optimize`, each making its settings, then `begin`, `learn`. Whole: from the start of the command
to its end. Steady: from the second training's end to the last one's. The rest is start-up and end: imports, Ray, the workers' own imports.
"""

import json
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from survey.cluster import search as cluster
from survey.cluster import stream
from survey.search.settings import Tune
from survey.search.target import Order
from survey.settings import section
from survey.store.ingest import Ingest, ingest
from survey.training import run
from survey.training.train import Train, begin
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
    """What all trainings have."""
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


def bare(folder: Path, store: str, epochs: int, count: int, seed: int) -> None:
    """One of the two processes of bare Optuna."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        drawn = {
            key: trial.suggest_float(key, *line.get("log", line.get("range", [])), log="log" in line)  # type: ignore[misc]
            for key, line in SPACE.items()
        }
        values = training(store, epochs) | {
            "run": str(folder / "trials" / str(trial.number)),
            "ema": drawn["ema"],
        }
        values["optimiser"] = {"lr": drawn["optimiser.lr"], "weight_decay": drawn["optimiser.weight_decay"]}
        values["options"] = {"dropout": drawn["options.dropout"]}
        settings = Train.checked("bare", values)
        begin(settings)
        learn(settings)
        return float(run.about_run(settings.run)["validation"]["mae_CFe"])

    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    sampler = optuna.samplers.TPESampler(n_startup_trials=8, seed=seed)
    study = optuna.create_study(storage=storage, study_name="bare", load_if_exists=True, sampler=sampler)
    study.optimize(objective, n_trials=count)


def ends(folder: Path) -> list[datetime]:
    """When the trainings of a study ended, the first one first."""
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
    return sorted(trial.datetime_complete for trial in study.trials if trial.datetime_complete)


def timed(folder: Path, commands: list[list[str]], count: int) -> dict[str, float]:
    """Seconds of some processes side by side, and their rates per minute."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "space.yaml").write_text(json.dumps({"space": SPACE}))
    started = time.perf_counter()
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    whole = time.perf_counter() - started
    when = ends(folder / "study" if (folder / "study").exists() else folder)
    assert len(when) == count, f"{len(when)} trials instead of {count}"
    steady = (when[-1] - when[1]).total_seconds()
    return {
        "whole": 60 * count / whole,
        "steady": 60 * (count - 2) / steady,
        "beside": whole - steady * count / (count - 2),
    }


def compared(work: Path, store: str, count: int, epochs: int, turns: int) -> None:
    """Both, turn by turn."""
    train = [
        f"train.{key}={json.dumps(value)}"
        for key, value in training(store, epochs).items()
        if key not in ("task", "targets", "monitor")
    ]
    own = [
        f"study={work}/ours/study",
        f"space={work}/ours/space.yaml",
        f"winners={work}/ours",
        "elements=[CFe]",
        f"trials={count}",
        "seeds=0",
    ]
    own += ["prune.name=none", "tracking.use=never", "workers=2", "threads=1", "gpu=0"]
    ours = [[sys.executable, "jobs/tune.py", *train, *own]]
    halves = [count - count // 2, count // 2]
    theirs = [
        [sys.executable, __file__, "bare", str(work / "bare"), store, str(epochs), str(half), str(seed)]
        for seed, half in enumerate(halves)
    ]
    found: dict[str, list[dict[str, float]]] = {"tune": [], "bare Optuna": []}
    for turn in range(turns):
        order = [("tune", ours, "ours"), ("bare Optuna", theirs, "bare")]
        for name, commands, folder in order if turn % 2 == 0 else order[::-1]:
            found[name].append(timed(work / folder, commands, count))
            print(
                f"{name}: {', '.join(f'{kind} {value:.1f}' for kind, value in found[name][-1].items())}",
                file=sys.stderr,
                flush=True,
            )
    middle = {
        name: {kind: median(row[kind] for row in rows) for kind in rows[0]} for name, rows in found.items()
    }
    print(f"{count} trainings of {epochs} epochs, two at a time; medians of {turns} turns\n")
    print("| | whole, trainings/min | steady, trainings/min | start-up and end, s |")
    print("| --- " * 4 + "|")
    for name, row in middle.items():
        print(f"| {name} | {row['whole']:.1f} | {row['steady']:.1f} | {row['beside']:.1f} |")
    ratio = {kind: middle["tune"][kind] / middle["bare Optuna"][kind] for kind in ("whole", "steady")}
    print(f"| ratio | {ratio['whole']:.2f} | {ratio['steady']:.2f} | |")


@dataclass
class Idle:
    """A search whose trainings are over before they have begun."""

    settings: Train
    count: int
    given: int = 0
    when: list[float] = field(default_factory=list)
    trouble: str = ""

    @property
    def over(self) -> bool:
        """Whether all are back."""
        return len(self.when) >= self.count

    def next(self) -> Order | None:
        """The same finished run again."""
        self.given += 1
        return Order(str(self.given), self.settings) if self.given <= self.count else None

    def heard(self, key: str, row: Any) -> bool:
        """Nothing is stopped."""
        del key, row
        return False

    def ended(self, key: str, told: dict[str, Any]) -> None:
        """One is back."""
        assert "about" in told, (key, told)
        self.when.append(time.perf_counter())


def idle(work: Path, store: str, count: int = 60) -> None:
    """What a trial of Tune takes when there is nothing to train: two workers, six epochs told of each."""
    settings = Train.checked("idle", training(store, 6) | {"run": str(work / "idle")})
    if begin(settings):
        learn(settings)
    stream.connect()
    search = Idle(settings, count)
    cluster._tuned(
        Tune.checked("idle", {"study": str(work / "none"), "workers": 2, "threads": 1, "gpu": 0}), search
    )  # type: ignore[arg-type]
    each = (search.when[-1] - search.when[3]) / (count - 4)
    print(f"\nan idle trial, six epochs told: {each:.3f} s of two workers, {2 * each:.3f} s of one")


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare(Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]))
        raise SystemExit
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    place = Path(given.get("work", ROOT / "benchmarks" / "work" / "search"))
    spectra = given.get("store", str(place / "reference"))
    if "store" not in given:
        recipe = section(ROOT / "recipes" / "cemp.yaml", "ingest")
        ingest(
            Ingest.checked(
                "ingest", recipe | {"input": str(DATA / "reference.parquet"), "store": spectra, "workers": 1}
            )
        )
    number = int(given.get("n", 40))
    assert number > 3, "n: give 4 or more"
    compared(place, spectra, number, int(given.get("epochs", 6)), int(given.get("turns", 3)))
    idle(place, spectra)
