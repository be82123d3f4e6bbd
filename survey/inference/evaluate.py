"""A run asked about spectra whose labels are known, and what comes of it: predictions, metrics with intervals, in a folder of the run.

The test part is read once: an evaluation that is there is shown again, not made again, and each is noted in the run with its date, so that
nobody chooses by the test without a trace.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from survey import files, machine
from survey.inference.evaluation import Evaluation, Judged, evaluated
from survey.labels import Criterion
from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.shards import open_store
from survey.training import bundle, labelling, lineage, samples
from survey.training.batches import Reader, Spectra
from survey.training.bundle import Run
from survey.training.exam import asked, lists, units
from survey.training.labelling import Labels
from survey.training.precision import Precision
from survey.training.samples import Samples

METRICS, PREDICTIONS, NOTE, READS = "metrics.parquet", "predictions.parquet", "evaluation.json", "evaluations.json"


class Evaluate(Evaluation):
    """Settings of an evaluation."""

    INERT: ClassVar[frozenset[str]] = frozenset({"of", "to", "threads"})

    of: str = Field(description="the run to evaluate")
    split: Literal["test", "validation", "train", "all"] = Field("test", description="part of the run's own samples; all for other labels")
    store: str | None = Field(None, description="another store than the run's, on the same grid; with labels=")
    labels: str | None = Field(None, description="another table of labels; all its spectra are evaluated that the run was not trained on")
    join: Labels = Field(Labels(), description="how those labels and spectra find each other")
    to: str | None = Field(None, description="folder of the results; null = evaluations/ in the run")
    precision: Precision = Field("float32", description="of the network's arithmetic")
    threads: int | None = Field(None, ge=1, description="threads; null = all CPUs")


@dataclass(frozen=True)
class Outcome:
    """An evaluation that is written: where, the metrics, the answers behind them, and whether it was made just now."""

    folder: str
    table: pa.Table
    judged: Judged
    about: dict[str, Any]
    made: bool

    @property
    def criterion(self) -> Criterion:
        """Which [Fe/H] and [C/Fe] count as carbon-enhanced in it."""
        found: Criterion = self.about["key"]["settings"]["criterion"]
        return found


def evaluate(settings: Evaluate) -> Outcome:
    """Ask the run about a part of its samples, or about other labelled spectra, and write down how right it is."""
    run = bundle.open_run(settings.of, machine.device())
    folder = settings.to or files.join(settings.of, "evaluations", _name(settings))
    note = files.join(folder, NOTE)
    key = {"run": run.about["id"], "settings": json.loads(json.dumps(settings.lasting(), default=str))}
    if files.exists(note) and files.read_json(note)["key"] == key:
        table, said = (pq.read_table(pa.BufferReader(files.read(files.join(folder, name)))) for name in (METRICS, PREDICTIONS))
        return Outcome(folder, table, _judged_again(run, said), files.read_json(note), made=False)
    machine.settle(settings.threads or machine.cpus())
    some, store = _samples(settings, run)
    judged = judge(run, some, store, settings.precision)
    table = evaluated(judged, settings)
    about = _note(settings, run, some, key)
    _write(folder, table, _predictions(judged, some), about)
    return Outcome(folder, table, judged, about, made=True)


def judge(run: Run, some: Samples, store: str, precision: Precision = "float32") -> Judged:
    """What a run says of labelled spectra, beside the truth."""
    reader = Reader(store, "continuum" in run.net.inputs)
    with Progress("evaluate", len(some), "spectra") as bar:
        answers = asked(run.net, _counted(reader(lists(some.place_N2)), bar), run.device, precision)
    said = units(answers, run.scaling)
    about = {name: some.about[name].to_numpy(zero_copy_only=False) for name in ("snr", "snr_g", "layout") if name in some.about.column_names}
    return Judged(some.class_N, some.label_NL, run.labels, said.get("p"), said.get("mu"), said.get("sigma"), about=about)


def _counted(parts: Iterator[Spectra], bar: Progress) -> Iterator[Spectra]:
    for part in parts:
        yield part
        bar.add(len(part))


def _name(settings: Evaluate) -> str:
    if not settings.labels:
        return settings.split
    stem = settings.labels.rstrip("/").rpartition("/")[2].partition(".")[0]
    return f"{stem}-{hashlib.sha256(f'{settings.store}|{settings.labels}'.encode()).hexdigest()[:6]}"


def _samples(settings: Evaluate, run: Run) -> tuple[Samples, str]:
    """The spectra to ask about, with their labels, and the store that they are in."""
    own = samples.read(settings.of)
    store = open_store(settings.store or run.about["store"]["path"])
    if not settings.labels:
        some = own.part(settings.split)
        if not len(some):
            raise SettingsError(f"evaluate: split={settings.split}: the run {settings.of} has no spectra in it; give another split")
        if store.about["id"] != run.about["store"]["id"]:
            raise SettingsError(
                f"evaluate: {store.path}: is not the store that the run was trained on ({run.about['store']['id']}, this is {store.about['id']}), "
                "and without labels there is nothing to compare with; give labels= too, or store= where that store lies now"
            )
        return some, store.path
    run.fits(store.about["grid"], f"evaluate: {store.path}")
    joining = settings.join.model_copy(update={"table": settings.labels})
    labelled = labelling.join(joining, store, labelling.present(joining, run.labels))
    some = samples.of(labelled, run.labels)
    fresh = lineage.unseen(settings.of, some.about)
    if not len(fresh):
        raise SettingsError(f"evaluate: labels={settings.labels}: the run has learned from all of these stars, or chosen by them; give others")
    return some.at(fresh), store.path


def _note(settings: Evaluate, run: Run, some: Samples, key: dict[str, Any]) -> dict[str, Any]:
    """What was evaluated, noted in the run too: how often its test part has been looked at is part of the result."""
    path = files.join(settings.of, READS)
    before = files.read_json(path) if files.exists(path) else []
    row = {"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), "what": _name(settings), "spectra": len(some), **key}
    files.write_json(path, [*before, row])
    earlier = sum(other["what"] == row["what"] and other["run"] == run.about["id"] for other in before)
    return {"key": key, "date": row["date"], "what": row["what"], "spectra": len(some), "read_before": earlier}


def _predictions(judged: Judged, some: Samples) -> pa.Table:
    """One row per spectrum: who it is, the truth, the answers."""
    columns: dict[str, Any] = {name: some.about[name] for name in some.about.column_names}
    columns["class_number"] = pa.array(judged.class_N)
    for number, name in enumerate(judged.classes):
        if judged.p_NC is not None:
            columns[f"p_{name.lower()}"] = pa.array(judged.p_NC[:, number])
    for number, name in enumerate(judged.labels):
        columns[f"true_{name}"] = pa.array(judged.label_NL[:, number], from_pandas=True)
        for kind, array in (("", judged.mu_NL), ("_err", judged.sigma_NL)):
            if array is not None:
                columns[f"{name}{kind}"] = pa.array(array[:, number])
    return pa.table(columns)


def _judged_again(run: Run, table: pa.Table) -> Judged:
    """The answers of an evaluation that was made before."""
    there = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}

    def stacked(names: list[str]) -> Any:
        return np.stack([there[name].astype(np.float64) for name in names], 1) if names and names[0] in there else None

    labels = run.labels
    truth = stacked([f"true_{name}" for name in labels])
    blank = Judged(there["class_number"], np.empty((table.num_rows, 0)) if truth is None else truth, labels, np.zeros((table.num_rows, 3)) + 1 / 3)
    about = {name: there[name] for name in ("snr", "snr_g", "layout") if name in there}
    p_NC = stacked([f"p_{name.lower()}" for name in blank.classes])
    return replace(blank, p_NC=p_NC, mu_NL=stacked(list(labels)), sigma_NL=stacked([f"{name}_err" for name in labels]), about=about)


def _write(folder: str, table: pa.Table, predictions: pa.Table, about: dict[str, Any]) -> None:
    files.remove(files.join(folder, NOTE))  # of an evaluation with other settings: its tables are about to go
    for name, content in ((METRICS, table), (PREDICTIONS, predictions)):
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink)
        files.write(files.join(folder, name), memoryview(sink.getvalue()))
    files.write_json(files.join(folder, NOTE), about)
