"""An ensemble, or a run, asked about spectra whose labels are known, and what comes of it: predictions, metrics with intervals, in a folder of it.

Others may be set `against` it: then all are asked about the same spectra, of stars that none of them has learned from or chosen by.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from survey import files, machine
from survey.ensemble import judged as comparison
from survey.ensemble import split as parts
from survey.ensemble.ensemble import Ensemble, Said, alone, open_ensemble
from survey.ensemble.members import check_passes, prepared_otherwise
from survey.evaluate import compare, result, rivals
from survey.evaluate.result import AGAINST, COMPARED, METRICS, PREDICTIONS, Key, Outcome
from survey.labelling.join import Labels
from survey.labelling.samples import Samples
from survey.metrics.score import Evaluation, Judged
from survey.settings import SettingsError
from survey.store.store import Store, open_store
from survey.training.precision import Precision
from survey.training.run import Run


class Evaluate(Evaluation):
    """Settings of an evaluation."""

    INERT: ClassVar[frozenset[str]] = frozenset(
        {"of", "to", "threads", "against", "called", "csv", "odd", "isochrones", "ages"}
    )

    of: str = Field(
        description="the run, the ensemble or the predictions to evaluate; of predictions, finished or not, without labels the trend"
    )
    against: tuple[str, ...] = Field(
        (),
        strict=False,
        description="runs and ensembles to set beside it, all by the same spectra, which none of them has learned from",
    )
    split: Literal["test", "validation", "train", "all"] = Field(
        "test", description="part of its own samples, of all members; all for other labels"
    )
    store: str | None = Field(None, description="another store than its own, on the same grid; with labels=")
    labels: str | None = Field(
        None,
        description="another table of labels; all its spectra are evaluated that no member was trained on",
    )
    join: Labels = Field(Labels(), description="how those labels and spectra find each other")
    called: str = Field(
        "true", min_length=1, description="what tables and plots call those labels, such as GALAH"
    )
    to: str | None = Field(
        None, description="folder of the results; null = evaluations/ in the run or ensemble"
    )
    passes: int | None = Field(
        None,
        ge=0,
        description="passes with dropout (Monte Carlo) for the model's error; null = as the ensemble was built, 0",
    )
    precision: Precision = Field("float32", description="of the networks' arithmetic")
    threads: int | None = Field(None, ge=1, description="threads; null = all CPUs")
    csv: bool = Field(False, description="write the answers as predictions.csv too")
    odd: float = Field(
        5.0,
        gt=0,
        description="a shard of predictions is marked where it is so many robust sigmas off the others",
    )
    isochrones: tuple[str, ...] = Field(
        (), strict=False, description="files of MIST isochrones (.iso, .iso.cmd) to draw into Kiel diagrams"
    )
    ages: tuple[float, ...] = Field(
        (1.0, 3.0, 5.0, 10.0), strict=False, description="their ages in Gyr; the nearest in a file is drawn"
    )

    @field_validator("ages")
    @classmethod
    def _some_time(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) <= 0:
            raise ValueError("ages are numbers of Gyr above 0")
        return value


def evaluate(settings: Evaluate) -> Outcome:
    """Ask it about a part of its samples, or about other labelled spectra, and write down how right it is, and how right the others are."""
    ensemble = open_ensemble(settings.of, machine.device())
    asked = rivals.opened(settings.of, ensemble, settings.against)
    passes = _passes(settings, ensemble)
    folder = settings.to or files.join(settings.of, "evaluations", _name(settings))
    key = _key(settings, asked, ensemble, passes)
    if result.is_there(folder, key):
        return _shown(settings, result.again(folder, ensemble.labels, ensemble.classes, settings.called))
    machine.settle(settings.threads or machine.cpus())
    some, store = _samples(settings, ensemble)
    some, left_out = rivals.fair(asked, some, "test" if settings.labels else settings.split)
    rivals.check(asked, store, some, left_out)
    said = _asked(ensemble, some, store.path, settings.precision, passes)
    judged_of = comparison.everyone(ensemble, said, some, settings.called)
    compared = comparison.table(judged_of, settings)
    tables = {METRICS: comparison.metrics_of(compared, comparison.ENSEMBLE), COMPARED: compared}
    tables[PREDICTIONS] = result.rows(judged_of, some.about, said.columns())
    if asked:
        tables[AGAINST] = _against(settings, asked, judged_of[comparison.ENSEMBLE], some, store.path)
    about = _note(settings, key, asked or {settings.of: ensemble}, some, store) | rivals.told(asked, left_out)
    result.write(folder, tables, about)
    judged, raw = judged_of[comparison.ENSEMBLE], judged_of.get(comparison.RAW)
    return _shown(
        settings, Outcome(folder, tables[METRICS], compared, judged, raw, about, True, tables.get(AGAINST))
    )


def judge(
    of: Run | Ensemble, some: Samples, store: str, precision: Precision = "float32", passes: int = 0
) -> Judged:
    """What a run or an ensemble says of labelled spectra, beside the truth."""
    ensemble = alone(of) if isinstance(of, Run) else of
    return comparison.judged(_asked(ensemble, some, store, precision, passes).combined, some)


def _asked(ensemble: Ensemble, some: Samples, store: str, precision: str, passes: int) -> Said:
    told, latents = ensemble.members.ask_store(
        store, some.place_N2, "evaluate", precision=precision, passes=passes
    )
    return ensemble.concluded(told, latents, comparison.snr(some))


def _against(
    settings: Evaluate, asked: Mapping[str, Ensemble], own: Judged, some: Samples, store: str
) -> pa.Table:
    """The metrics of all who were asked about the same spectra, and how much better or worse the others are; the first is the one evaluated."""
    first, *others = asked
    judged_of = {first: own}
    for name in others:
        one = asked[name]
        judged_of[name] = judge(one, some, store, settings.precision, int(one.about["passes"]))
    return compare.table(judged_of, some.about["star"].to_pylist(), settings)


def _passes(settings: Evaluate, ensemble: Ensemble) -> int:
    """How often dropout is drawn; calibrated errors hold for as many passes as they were fitted with."""
    own = int(ensemble.about["passes"])
    passes = own if settings.passes is None else settings.passes
    if ensemble.about["calibrated"] and passes != own:
        raise SettingsError(
            f"evaluate: passes={passes}: the ensemble {settings.of} was calibrated with {own}; give these, or null"
        )
    check_passes((run.net for run in ensemble.members.runs), passes, "evaluate")
    return passes


def _key(settings: Evaluate, asked: Mapping[str, Ensemble], ensemble: Ensemble, passes: int) -> Key:
    key = {
        "run": ensemble.id,
        "settings": json.loads(json.dumps(settings.lasting() | {"passes": passes}, default=str)),
    }
    return key | ({"against": {name: one.id for name, one in list(asked.items())[1:]}} if asked else {})


def _name(settings: Evaluate) -> str:
    """The folder of an evaluation among those of one run."""
    name: str = settings.split
    if settings.labels:
        name = of_labels(settings.labels, str(settings.store))
    if settings.against:
        name += f"-against-{hashlib.sha256('|'.join(settings.against).encode()).hexdigest()[:6]}"
    return name


def of_labels(labels: str, origin: str) -> str:
    """The name of an evaluation by other labels: that of their table, told apart from others of the same name."""
    stem = labels.rstrip("/").rpartition("/")[2].partition(".")[0]
    return f"{stem}-{hashlib.sha256(f'{origin}|{labels}'.encode()).hexdigest()[:6]}"


def _samples(settings: Evaluate, ensemble: Ensemble) -> tuple[Samples, Store]:
    """The spectra to ask about, with their labels, and the store that they are in."""
    own, what = ensemble.about["store"], "run" if len(ensemble.members.runs) == 1 else "ensemble"
    store = open_store(settings.store or own["path"])
    if settings.labels:
        ensemble.fits(store.about["grid"], f"evaluate: {store.path}")
        some = parts.joined(
            ensemble.members, store, settings.join.model_copy(update={"table": settings.labels})
        )
        fresh = parts.unseen(ensemble.members, some.about)
        if not len(fresh):
            raise SettingsError(
                f"evaluate: labels={settings.labels}: the {what} has learned from all of these stars, or chosen by them; give others"
            )
        return some.at(fresh), store
    if store.about["id"] != own["id"]:
        raise SettingsError(
            f"evaluate: {store.path}: is not the store that the {what} was trained on ({own['id']}, this is {store.about['id']}), "
            "and without labels there is nothing to compare with; give labels= too, or store= where that store lies now"
        )
    some = parts.own(ensemble.members, store, settings.split)
    if not len(some):
        advice = "give another split, or store= and labels= of stars that it has not seen"
        raise SettingsError(
            f"evaluate: split={settings.split}: the {what} {settings.of} has no spectra in it in {store.path}; {advice}"
        )
    return some, store


def _note(
    settings: Evaluate, key: Key, asked: Mapping[str, Ensemble], some: Samples, store: Store
) -> dict[str, Any]:
    """What was evaluated, noted with everyone who was asked; the first is the one that is evaluated."""
    what, prepare = _name(settings), store.about["settings"]["prepare"]
    about, *_ = [result.noted(one.path, what, len(some), key | {"run": one.id}) for one in asked.values()]
    runs = (run for one in asked.values() for run in one.members.runs)
    return about | {
        "prepared_otherwise": [
            f"{run.path}: {told}" for run in runs for told in prepared_otherwise(run, prepare)
        ]
    }


def _shown(settings: Evaluate, found: Outcome) -> Outcome:
    """The outcome, with what is wanted beside its tables."""
    if settings.csv:
        result.write_csv(found)
    return found
