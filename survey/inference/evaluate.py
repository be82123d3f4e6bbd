"""An ensemble, or a run, asked about spectra whose labels are known, and what comes of it: predictions, metrics with intervals, in a folder of it.

The test part is read once: an evaluation that is there is shown again, not made again, and each is noted in the folder with its date, so that
nobody chooses by the test without a trace.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from survey import files, machine
from survey.inference import comparison, parts
from survey.inference.ensemble import Ensemble, Said, alone, open_ensemble
from survey.inference.evaluation import Evaluation, Judged
from survey.inference.members import check_passes, prepared_otherwise
from survey.labels import Criterion
from survey.settings import SettingsError
from survey.store.shards import Store, open_store
from survey.training.bundle import Run
from survey.training.labelling import Labels
from survey.training.precision import Precision
from survey.training.samples import Samples

METRICS, PREDICTIONS, COMPARED, NOTE, READS = "metrics.parquet", "predictions.parquet", "members.parquet", "evaluation.json", "evaluations.json"


class Evaluate(Evaluation):
    """Settings of an evaluation."""

    INERT: ClassVar[frozenset[str]] = frozenset({"of", "to", "threads"})

    of: str = Field(description="the run or the ensemble to evaluate")
    split: Literal["test", "validation", "train", "all"] = Field("test", description="part of its own samples, of all members; all for other labels")
    store: str | None = Field(None, description="another store than its own, on the same grid; with labels=")
    labels: str | None = Field(None, description="another table of labels; all its spectra are evaluated that no member was trained on")
    join: Labels = Field(Labels(), description="how those labels and spectra find each other")
    to: str | None = Field(None, description="folder of the results; null = evaluations/ in the run or ensemble")
    passes: int | None = Field(None, ge=0, description="passes with dropout (Monte Carlo) for the model's error; null = as the ensemble was built, 0")
    precision: Precision = Field("float32", description="of the networks' arithmetic")
    threads: int | None = Field(None, ge=1, description="threads; null = all CPUs")


@dataclass(frozen=True)
class Outcome:
    """An evaluation that is written: where, the metrics, those of the members beside the ensemble's, the answers (`raw`: before calibration, of
    an ensemble alone), and whether it was made just now.
    """

    folder: str
    table: pa.Table
    compared: pa.Table
    judged: Judged
    raw: Judged | None
    about: dict[str, Any]
    made: bool

    @property
    def criterion(self) -> Criterion:
        """Which [Fe/H] and [C/Fe] count as carbon-enhanced in it."""
        found: Criterion = self.about["key"]["settings"]["criterion"]
        return found


def evaluate(settings: Evaluate) -> Outcome:
    """Ask it about a part of its samples, or about other labelled spectra, and write down how right it is."""
    ensemble = open_ensemble(settings.of, machine.device())
    passes = _passes(settings, ensemble)
    folder = settings.to or files.join(settings.of, "evaluations", _name(settings))
    key = {"run": ensemble.id, "settings": json.loads(json.dumps(settings.lasting() | {"passes": passes}, default=str))}
    note = files.join(folder, NOTE)
    if files.exists(note) and files.read_json(note)["key"] == key:
        return _again(ensemble, folder)
    machine.settle(settings.threads or machine.cpus())
    some, store = _samples(settings, ensemble)
    said = _asked(ensemble, some, store.path, settings.precision, passes)
    judged_of = comparison.everyone(ensemble, said, some)
    compared = comparison.table(judged_of, settings)
    table = comparison.metrics_of(compared, comparison.ENSEMBLE)
    otherwise = [f"{run.path}: {one}" for run in ensemble.members.runs for one in prepared_otherwise(run, store.about["settings"]["prepare"])]
    about = _note(settings, ensemble, some, key) | {"prepared_otherwise": otherwise}
    _write(folder, {METRICS: table, COMPARED: compared, PREDICTIONS: _predictions(judged_of, some, said)}, about)
    return Outcome(folder, table, compared, judged_of[comparison.ENSEMBLE], judged_of.get(comparison.RAW), about, made=True)


def judge(of: Run | Ensemble, some: Samples, store: str, precision: Precision = "float32", passes: int = 0) -> Judged:
    """What a run or an ensemble says of labelled spectra, beside the truth."""
    ensemble = alone(of) if isinstance(of, Run) else of
    return comparison.judged(_asked(ensemble, some, store, precision, passes).combined, some)


def _asked(ensemble: Ensemble, some: Samples, store: str, precision: str, passes: int) -> Said:
    told, latents = ensemble.members.ask_store(store, some.place_N2, "evaluate", precision=precision, passes=passes)
    return ensemble.concluded(told, latents, comparison.snr(some))


def _passes(settings: Evaluate, ensemble: Ensemble) -> int:
    """How often dropout is drawn; calibrated errors hold for as many passes as they were fitted with."""
    own = int(ensemble.about["passes"])
    passes = own if settings.passes is None else settings.passes
    if ensemble.about["calibrated"] and passes != own:
        raise SettingsError(f"evaluate: passes={passes}: the ensemble {settings.of} was calibrated with {own}; give these, or null")
    check_passes((run.net for run in ensemble.members.runs), passes, "evaluate")
    return passes


def _name(settings: Evaluate) -> str:
    if not settings.labels:
        return settings.split
    stem = settings.labels.rstrip("/").rpartition("/")[2].partition(".")[0]
    return f"{stem}-{hashlib.sha256(f'{settings.store}|{settings.labels}'.encode()).hexdigest()[:6]}"


def _samples(settings: Evaluate, ensemble: Ensemble) -> tuple[Samples, Store]:
    """The spectra to ask about, with their labels, and the store that they are in."""
    own, what = ensemble.about["store"], "run" if len(ensemble.members.runs) == 1 else "ensemble"
    store = open_store(settings.store or own["path"])
    if settings.labels:
        ensemble.fits(store.about["grid"], f"evaluate: {store.path}")
        some = parts.joined(ensemble.members, store, settings.join.model_copy(update={"table": settings.labels}))
        fresh = parts.unseen(ensemble.members, some.about)
        if not len(fresh):
            raise SettingsError(f"evaluate: labels={settings.labels}: the {what} has learned from all of these stars, or chosen by them; give others")
        return some.at(fresh), store
    if store.about["id"] != own["id"]:
        raise SettingsError(
            f"evaluate: {store.path}: is not the store that the {what} was trained on ({own['id']}, this is {store.about['id']}), "
            "and without labels there is nothing to compare with; give labels= too, or store= where that store lies now"
        )
    some = parts.own(ensemble.members, store, settings.split)
    if not len(some):
        advice = "give another split, or store= and labels= of stars that it has not seen"
        raise SettingsError(f"evaluate: split={settings.split}: the {what} {settings.of} has no spectra in it in {store.path}; {advice}")
    return some, store


def _note(settings: Evaluate, ensemble: Ensemble, some: Samples, key: dict[str, Any]) -> dict[str, Any]:
    """What was evaluated, noted beside it too: how often its test part has been looked at is part of the result."""
    path = files.join(settings.of, READS)
    before = files.read_json(path) if files.exists(path) else []
    row = {"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), "what": _name(settings), "spectra": len(some), **key}
    files.write_json(path, [*before, row])
    earlier = sum(other["what"] == row["what"] and other["run"] == ensemble.id for other in before)
    return {"key": key, "date": row["date"], "what": row["what"], "spectra": len(some), "read_before": earlier}


def _predictions(judged_of: Mapping[str, Judged], some: Samples, said: Said) -> pa.Table:
    """One row per spectrum: who it is, the truth, the answers; of an ensemble also all else that it says, and what it was before calibration."""
    judged, raw = judged_of[comparison.ENSEMBLE], judged_of.get(comparison.RAW)
    columns: dict[str, Any] = {name: some.about[name] for name in some.about.column_names}
    columns["class_number"] = pa.array(judged.class_N)
    columns |= {name: pa.array(array, from_pandas=name.startswith("true_")) for name, array in comparison.columns(judged).items()}
    if raw:
        columns |= {name: pa.array(array) for name, array in comparison.columns(raw, comparison.BEFORE).items()}
        columns |= {name: pa.array(array, from_pandas=True) for name, array in said.columns().items() if name not in columns}
    return pa.table(columns)


def _again(ensemble: Ensemble, folder: str) -> Outcome:
    """The outcome of an evaluation that was made before."""
    names = (METRICS, COMPARED, PREDICTIONS)
    table, compared, said = (files.read_table(files.join(folder, name)) for name in names)
    endings = ("", comparison.BEFORE) if any(name.endswith(comparison.BEFORE) for name in said.column_names) else ("",)
    judged, *raw = (comparison.read_back(said, ensemble.labels, ensemble.classes, "class_number", ending) for ending in endings)
    return Outcome(folder, table, compared, judged, raw[0] if raw else None, files.read_json(files.join(folder, NOTE)), made=False)


def _write(folder: str, tables: Mapping[str, pa.Table], about: dict[str, Any]) -> None:
    files.remove(files.join(folder, NOTE))  # of an evaluation with other settings: its tables are about to go
    for name, content in tables.items():
        files.write_table(files.join(folder, name), content)
    files.write_json(files.join(folder, NOTE), about)
