"""Models of single elements. `tune` searches for the settings of a network, of trees and of ridge regression
for each element. The winners are compared on the same stars with one network for all elements and with the
mean label.

    python -m benchmarks.abundances [trials=24] [seeds=5] [kinds=prism,xgboost,lightgbm,ridge] [work=FOLDER]

The spectra are computed with exact [C/Fe], [Mg/Fe] and [Ca/Fe]; they are prepared, split and trained on as
recipes/abundances.yaml says. Results in the work folder are used again, so the program can be stopped and
started. The test part is read once, at the end, by the first seed of the winner of each model; so is
`direct`, a set of other stars from other model atmospheres. The search itself compares its winners with the
defaults, by trainings with other seeds.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from survey.cluster.work import run_trainings
from survey.ensemble.build import build
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import evaluate
from survey.evaluate.result import Evaluation
from survey.evaluate.settings import Evaluate
from survey.recipes import merge, read_section
from survey.search.results import PickedTrial
from survey.search.settings import Tune
from survey.search.study import SECONDS
from survey.search.tune import SearchOutcome, tune
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
RECIPE = ROOT / "recipes" / "abundances.yaml"
ELEMENTS = {"C_FE": "CFe", "MG_FE": "MgFe", "CA_FE": "CaFe"}
BINS = [0.0, 10.0, 20.0, 50.0]
TREES = ("xgboost", "lightgbm")
"""The search does not stop these early: with a small learning rate, trees are worse for hundreds of rounds
and better at the end."""
MEAN, TOGETHER = "mean", "multi-element"
"""Trained without a search: the mean label, and the recipe's network with all elements at once."""


def make_stores(work: Path) -> None:
    """Make a store of each of the two sets."""
    for name in ("reference", "direct"):
        given = {"input": str(DATA / f"{name}.parquet"), "store": str(work / name), "workers": 1}
        ingest(Ingest.from_dict("ingest", read_section(RECIPE, "ingest") | given))


def training(work: Path) -> dict[str, Any]:
    """The settings that all trainings share."""
    given = {
        "store": str(work / "reference"),
        "labels": str(DATA / "reference.parquet"),
        "tracking": {"use": "never"},
    }
    return merge(read_section(RECIPE, "train"), given)


def search(work: Path, kind: str, trials: int, seeds: int) -> SearchOutcome:
    """The search for one model over all elements, two trainings at a time."""
    values: dict[str, Any] = {
        "train": training(work),
        "study": str(work / f"study-{kind}"),
        "space": str(ROOT / "tune" / f"{kind}.yaml"),
        "elements": list(ELEMENTS),
        "trials": trials,
        "stages": 2,
        "seeds": seeds,
        "winners": str(work / "winners"),
        "name": kind,
        "tracking": {"use": "never"},
    }
    if kind in TREES:
        values["prune"] = {"name": "none"}
    settings = Tune.from_dict("tune", values)
    return tune(settings, run_trainings(settings))


def winner_runs(outcome: SearchOutcome, element: str) -> list[str]:
    """The runs of a winner, one for each seed."""
    schedule = next(each for each in outcome.schedules if each.target.name == element)
    number = schedule.ranked()["best"].number
    return [str(Path(outcome.settings.study) / name) for name in schedule.seed_runs(number)]


def train(work: Path, name: str, **changes: Any) -> str:
    """Train a run without a search; returns its path."""
    values = merge(training(work), changes) | {"run": str(work / name)}
    settings = Train.from_dict("train", values)
    if plan(settings):
        learn(settings)
    return settings.run


def make_ensemble(work: Path, element: str, runs: list[str]) -> str:
    """An ensemble of all seeds of a winner, with weights from validation; returns its path."""
    values = {"ensemble": str(work / f"ensemble-{element}"), "runs": runs, "members": []}
    settings = Build.from_dict("ensemble", values)
    build(settings)
    return settings.ensemble


def comparison(work: Path, of: str, against: list[str], set_name: str) -> pa.Table:
    """Compare runs and ensembles on the same stars: those of the test part, or those of `direct`."""
    folder = "direct" if set_name == "direct" else "benchmark"
    values = {"of": of, "against": against, "snr": BINS, "to": f"{of}/evaluations/{folder}"}
    if set_name == "direct":
        values |= {"store": str(work / "direct"), "labels": str(DATA / "direct.parquet")}
    evaluation = evaluate(Evaluate.from_dict("evaluate", values))
    assert isinstance(evaluation, Evaluation)
    assert evaluation.against is not None
    return evaluation.against


def main() -> None:
    """Search, train, evaluate, print."""
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(arguments.get("work", ROOT / "benchmarks" / "work" / "abundances"))
    trials, seeds = int(arguments.get("trials", 24)), int(arguments.get("seeds", 5))
    kinds = arguments.get("kinds", "prism,xgboost,lightgbm,ridge").split(",")
    make_stores(work)
    outcomes = {kind: search(work, kind, trials, seeds) for kind in kinds}
    print_searches(outcomes)
    together = train(work, TOGETHER)
    rows: list[list[str]] = []
    for element, label in ELEMENTS.items():
        names = compared_runs(work, outcomes, element, together)
        of, *against = names.values()
        tables = [comparison(work, of, against, set_name) for set_name in ("test", "direct")]
        rows += list(table_rows(label, names, *tables))
    print_header(
        "label, model, MAE on test, difference from the first, S/N < 10, 10 to 20, 20 to 50, above, "
        "MAE on `direct`, difference from the first"
    )
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


def compared_runs(
    work: Path, outcomes: dict[str, SearchOutcome], element: str, together: str
) -> dict[str, str]:
    """The runs and ensembles that are compared for an element, by the names of the table."""
    first, *others = outcomes
    seeds = winner_runs(outcomes[first], element)
    mean = {"model": MEAN, "task": "reg", "targets": [element], "monitor": f"mae_{ELEMENTS[element]}"}
    names = {f"{first}, the winner": seeds[0]}
    if len(seeds) > 1:
        names[f"{len(seeds)} seeds of it"] = make_ensemble(work, element, seeds)
    names |= {f"{kind}, its winner": winner_runs(outcomes[kind], element)[0] for kind in others}
    return names | {
        "one network for all, as in the recipe": together,
        "the mean": train(work, f"{MEAN}-{element}", **mean),
    }


def print_searches(outcomes: dict[str, SearchOutcome]) -> None:
    """One line for each model and element: its trials, its time, and the gain over the defaults."""
    print_header(
        "search, element, complete; pruned; failed, CPU minutes, defaults: MAE on validation, "
        "winner: MAE on validation, gain"
    )
    for kind, outcome in outcomes.items():
        for schedule in outcome.schedules:
            result = outcome.results[schedule.target.name]
            times = [trial.user_attrs.get(SECONDS, 0.0) for trial in schedule.study.trials()]
            counts = "; ".join(str(result.trials[state]) for state in ("complete", "pruned", "failed"))
            gain = result.gain
            share = f"{gain.share:+.1%} {gain.interval or ''}" if gain and gain.share is not None else ""
            scores = f"{seed_scores(result.recipe)} | {seed_scores(result.best)}"
            print(
                f"| {kind} | {schedule.target.name} | {counts} | {sum(times) / 60:.0f} | {scores} | {share} |"
            )


def seed_scores(trial: PickedTrial | None) -> str:
    """The mean over seeds and its interval."""
    if trial is None or trial.seeds.mean is None:
        return ""
    return f"{trial.seeds.mean:.4f} {trial.seeds.interval or ''}"


def table_rows(label: str, names: dict[str, str], test: pa.Table, direct: pa.Table) -> Iterator[list[str]]:
    """The rows of one element. Both tables list the models in the order of `names`, by other names."""
    on_test, on_direct = (mae_rows(table, label) for table in (test, direct))
    for name, of_test, of_direct in zip(names, on_test, on_direct, strict=True):
        all_test, all_direct = of_test["all"][0], of_direct["all"][0]
        yield [
            label,
            name,
            f"{all_test['value']:.4f} [{all_test['low']:.4f}, {all_test['high']:.4f}]",
            difference(all_test),
            *(f"{row['value']:.3f}" for row in of_test["snr"]),
            f"{all_direct['value']:.3f} [{all_direct['low']:.3f}, {all_direct['high']:.3f}]",
            difference(all_direct),
        ]


def mae_rows(table: pa.Table, label: str) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """For each model in the order of the table, the mean absolute errors of a label by kind of group."""
    rows = table.to_pylist()
    for model in dict.fromkeys(row["who"] for row in rows):
        chosen = [row for row in rows if (row["who"], row["subject"], row["metric"]) == (model, label, "mae")]
        yield {kind: [row for row in chosen if row["kind"] == kind] for kind in ("all", "snr")}


def difference(row: dict[str, Any]) -> str:
    """The difference from the first model, with its interval."""
    if row["difference"] is None:
        return ""
    low_high = f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"
    return f"{row['difference']:+.4f} {low_high} {row['verdict']}"


def print_header(names: str) -> None:
    """The first two lines of a table."""
    columns = names.split(", ")
    print("\n| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")


if __name__ == "__main__":
    main()
