"""One net per element against trees, ridge and the mean: each kind searched by the same `tune`, judged on the same test stars, in one run.

    python benchmarks/abundances.py [trials=24] [seeds=5] [kinds=prism,xgboost,lightgbm,ridge] [work=benchmarks/work/abundances]

Computed spectra with exact [C/Fe], [Mg/Fe], [Ca/Fe]; prepared, split and trained as recipes/abundances.yaml says. What is finished in the work folder
is not done again, so the program can be stopped and started. The test part is read once, at the end, by the first seed of each kind's winner; so is
`direct`, a set of other stars from other models. Search against the defaults: the repetitions with other seeds that the search itself makes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from survey.cluster import search
from survey.ensemble.build import build
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import Evaluate, evaluate
from survey.search.settings import Tune
from survey.search.study import seconds
from survey.search.tune import Outcome, tune
from survey.settings import laid, section
from survey.store.ingest import Ingest, ingest
from survey.training.train import Train, begin
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
RECIPE = ROOT / "recipes" / "abundances.yaml"
ELEMENTS = {"C_FE": "CFe", "MG_FE": "MgFe", "CA_FE": "CaFe"}
BINS = [0.0, 10.0, 20.0, 50.0]
TREES = ("xgboost", "lightgbm")
"""Not stopped early: a small learning rate is behind for hundreds of rounds and better in the end."""
ALONE, TOGETHER = "mean", "multi-element"
"""Who is trained without a search: the mean label, and the recipe's net with all elements at once."""


def stores(work: Path) -> None:
    """The sets as stores."""
    for name in ("reference", "direct"):
        given = {"input": str(DATA / f"{name}.parquet"), "store": str(work / name), "workers": 1}
        ingest(Ingest.checked("ingest", section(RECIPE, "ingest") | given))


def base(work: Path) -> dict[str, Any]:
    """How all are trained."""
    given = {
        "store": str(work / "reference"),
        "labels": str(DATA / "reference.parquet"),
        "tracking": {"use": "never"},
    }
    return laid(section(RECIPE, "train"), given)


def searched(work: Path, kind: str, trials: int, seeds: int) -> Outcome:
    """The search of one kind of model over all elements, two trainings at a time."""
    given: dict[str, Any] = {
        "train": base(work),
        "study": str(work / f"study-{kind}"),
        "space": str(ROOT / "tune" / f"{kind}.yaml"),
    }
    given |= {
        "elements": list(ELEMENTS),
        "trials": trials,
        "stages": 2,
        "seeds": seeds,
        "winners": str(work / "winners"),
        "name": kind,
    }
    if kind in TREES:
        given["prune"] = {"name": "none"}
    settings = Tune.checked("tune", given | {"tracking": {"use": "never"}})
    return tune(settings, search.place(settings))


def winner(outcome: Outcome, element: str) -> list[str]:
    """The runs of a winner, a seed each."""
    quest = next(quest for quest in outcome.quests if quest.aim.name == element)
    number = quest.ranked()["best"].number
    return [str(Path(quest.settings.study) / name) for name in quest.repeats(number)]


def trained(work: Path, name: str, **changes: Any) -> str:
    """A run without a search."""
    made = Train.checked("train", laid(base(work), changes) | {"run": str(work / name)})
    if begin(made):
        learn(made)
    return made.run


def ensemble(work: Path, element: str, runs: list[str]) -> str:
    """The seeds of a winner together, weighted by validation."""
    made = Build.checked(
        "ensemble", {"ensemble": str(work / f"ensemble-{element}"), "runs": runs, "members": []}
    )
    build(made)
    return made.ensemble


def judged(work: Path, of: str, against: list[str], far: bool) -> pa.Table:
    """Everyone by the same stars: the test part, or another set."""
    given: dict[str, Any] = {
        "of": of,
        "against": against,
        "snr": BINS,
        "to": f"{of}/evaluations/{'direct' if far else 'benchmark'}",
    }
    if far:
        given |= {"store": str(work / "direct"), "labels": str(DATA / "direct.parquet")}
    outcome = evaluate(Evaluate.checked("evaluate", given))
    assert outcome.against is not None
    return outcome.against


def main() -> None:
    """Search, train, judge, print."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "abundances"))
    trials, seeds = int(given.get("trials", 24)), int(given.get("seeds", 5))
    kinds = given.get("kinds", "prism,xgboost,lightgbm,ridge").split(",")
    stores(work)
    outcomes = {kind: searched(work, kind, trials, seeds) for kind in kinds}
    _print_searches(outcomes)
    together = trained(work, TOGETHER)
    rows = []
    for element, label in ELEMENTS.items():
        runs = {kind: winner(outcome, element)[0] for kind, outcome in outcomes.items()}
        alone = trained(
            work, f"{ALONE}-{element}", model=ALONE, task="reg", targets=[element], monitor=f"mae_{label}"
        )
        seeds_of = winner(outcomes[kinds[0]], element)
        names = {f"{kinds[0]}, the winner": runs.pop(kinds[0])}
        if len(seeds_of) > 1:
            names[f"{len(seeds_of)} seeds of it"] = ensemble(work, element, seeds_of)
        names |= {f"{kind}, its winner": run for kind, run in runs.items()} | {
            "one net for all, as in the recipe": together,
            "the mean": alone,
        }
        of, *against = names.values()
        tables = [judged(work, of, against, far) for far in (False, True)]
        rows += list(_row(label, names, *tables))
    _print_judged(rows)


def _print_searches(outcomes: dict[str, Outcome]) -> None:
    _head(
        "search, element, complete; pruned; failed, CPU minutes, defaults: MAE on validation, winner: MAE on validation, gain"
    )
    for kind, outcome in outcomes.items():
        for quest in outcome.quests:
            found = outcome.found[quest.aim.name]
            spent = (
                sum(one.user_attrs.get("training_seconds", seconds(one)) for one in quest.study.trials()) / 60
            )
            counts = "; ".join(str(found["trials"][state]) for state in ("complete", "pruned", "failed"))
            usual, best, gain = found.get("usual"), found["best"], found.get("gain") or {}
            told = [_repeated(one["repeated"]) if one else "" for one in (usual, best)]
            share = f"{gain['share']:+.1%} {gain['interval'] or ''}" if gain.get("share") is not None else ""
            print(f"| {kind} | {quest.aim.name} | {counts} | {spent:.0f} | {told[0]} | {told[1]} | {share} |")


def _repeated(one: dict[str, Any]) -> str:
    return f"{one['mean']:.4f} {one['interval'] or ''}" if one["mean"] is not None else ""


def _row(label: str, names: dict[str, str], test: pa.Table, far: pa.Table) -> Iterator[list[str]]:
    """Everyone's cells for one element, in the order of the names; tables tell them by names of their own, in the same order."""
    for name, who in zip(names, list(dict.fromkeys(test["who"].to_pylist())), strict=True):
        whole = _found(test, who, label, "all")
        cells = [
            label,
            name,
            f"{whole['value']:.4f} [{whole['low']:.4f}, {whole['high']:.4f}]",
            _difference(whole),
        ]
        cells += [
            f"{row['value']:.3f}" for row in test.to_pylist() if row["kind"] == "snr" and _is(row, who, label)
        ]
        other = _found(
            far, list(dict.fromkeys(far["who"].to_pylist()))[list(names).index(name)], label, "all"
        )
        yield [*cells, f"{other['value']:.3f} [{other['low']:.3f}, {other['high']:.3f}]", _difference(other)]


def _is(row: dict[str, Any], who: str, label: str) -> bool:
    return (row["who"], row["subject"], row["metric"]) == (who, label, "mae")


def _found(table: pa.Table, who: str, label: str, kind: str) -> dict[str, Any]:
    return next(row for row in table.to_pylist() if row["kind"] == kind and _is(row, who, label))


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return ""
    return f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}] {row['verdict']}"


def _print_judged(rows: list[list[str]]) -> None:
    _head(
        "label, who, MAE on test, beside the first, S/N < 10, 10 to 20, 20 to 50, above, MAE on `direct`, beside the first"
    )
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


def _head(names: str) -> None:
    print("\n| " + " | ".join(names.split(", ")) + " |\n" + "| --- " * len(names.split(", ")) + "|")


if __name__ == "__main__":
    main()
