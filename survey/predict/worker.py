"""A worker of a prediction: it opens the ensemble once, then makes the tables of one shard after another.

Two threads may call a worker: while the networks compute one shard, the next is read and the last is written.
The networks compute one shard at a time, so that memory and numbers are those of a single shard. A worker
with one CPU that reads from a disk does one shard after the other: it has nothing to wait for, and two
threads that take turns on a CPU are a tenth slower.
Shapes: N spectra, M members, C classes, L labels, D features.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from survey import __version__, checked, files, machine
from survey.answers import LINE_COLUMNS, RULED_OUT
from survey.ensemble import line_key
from survey.ensemble.cascade import Cascade, open_cascade
from survey.ensemble.combine import MemberAnswers
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers, open_ensemble
from survey.labels import MISSING
from survey.predict import inputs, output
from survey.predict.inputs import PIXEL_COLUMNS, PredictionInput
from survey.predict.output import IDENTITY_COLUMNS, POSITION_COLUMNS, Choice, PredictionMarker
from survey.settings import JobError, Threads
from survey.store import store
from survey.store.make import ShardTables
from survey.store.markers import shard_file, write_marker
from survey.training.batches import random_generator

INPUT_COLUMNS = [*IDENTITY_COLUMNS, *PIXEL_COLUMNS]

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PredictionSpec:
    """What every shard is predicted with; sent to the workers.

    `compares_threads`: there are enough shards to measure which number of threads is the fastest.
    `cascade_id`: the cascade of the ensemble answers; empty if all members see all spectra.
    """

    folder: str
    ensemble: str
    ensemble_id: str
    inputs: PredictionInput
    choice: Choice
    fingerprint: str
    seed: int
    members: bool
    embeddings: bool
    compares_threads: bool = False
    cascade_id: str = ""


def open_on_device(spec: PredictionSpec, gpu: bool) -> Ensemble:
    """The ensemble on the GPU or the CPU; an ensemble that has changed since the job began is an error."""
    if gpu:
        machine.make_deterministic(spec.choice.precision == "float32")
    ensemble = open_ensemble(spec.ensemble, torch.device("cuda" if gpu else "cpu"))
    if ensemble.id != spec.ensemble_id:
        raise JobError(
            f"predict: {spec.ensemble}: the ensemble has changed since the job began "
            f"({spec.ensemble_id} then, {ensemble.id} now); put the old one back, "
            "or predict into another folder"
        )
    return ensemble


def _open_cascade(spec: PredictionSpec, ensemble: Ensemble) -> Cascade:
    """The cascade of the ensemble; one that has changed since the job began is an error."""
    cascade = open_cascade(ensemble)
    if cascade.document.id != spec.cascade_id:
        raise JobError(
            f"predict: {spec.ensemble}: its cascade has changed since the job began; "
            "run the same command again, or predict into another folder"
        )
    return cascade


class Worker:
    """Makes the tables and the marker of one shard after another."""

    def __init__(self, spec: PredictionSpec, threads: Threads, cpus: int, gpu: bool) -> None:
        self.spec = spec
        is_compared = threads == "auto" and spec.compares_threads and not gpu
        self.chooser = machine.settle(threads if threads != "auto" or is_compared else cpus, cpus)
        self.ensemble = open_on_device(spec, gpu)
        self.cascade = _open_cascade(spec, self.ensemble) if spec.cascade_id else None
        self.lock = threading.Lock()
        overlaps = (
            gpu or cpus > 1 or any(map(files.is_remote, (spec.folder, spec.inputs.path, *spec.inputs.paths)))
        )
        self.one_at_a_time: AbstractContextManager[Any] = nullcontext() if overlaps else threading.Lock()
        if spec.choice.compiled:
            compile_networks(self.ensemble)

    def __call__(self, shard: int) -> dict[str, Any]:
        """Writes the files of a shard and its marker, and returns the content of the marker."""
        with self.one_at_a_time:
            return self._predict_shard(shard)

    def _predict_shard(self, shard: int) -> dict[str, Any]:
        spec, folder = self.spec, self.spec.folder
        tables = spec.inputs.load(shard, INPUT_COLUMNS)
        spectra = inputs.to_spectra(
            tables.spectra, f"shard {shard} of {spec.inputs.path}", self.ensemble.members.extra_inputs
        )
        seed = int(random_generator(spec.seed, shard).integers(1 << 62))
        with self.lock, self.chooser.timed(max(len(spectra), 1)):
            answers = (self.cascade or self.ensemble).predict(
                spectra,
                line_key.signal_to_noise(tables.spectra),
                batch=spec.choice.batch,
                precision=spec.choice.precision,
                seed=seed,
            )
        no_input_N = np.asarray(~self.ensemble.members.have_input(spectra).any(0))
        table = prediction_table(spec, self.ensemble, answers, tables.spectra, shard, no_input_N)
        _check_rows(tables, table, shard)
        refused_files = None
        if spec.inputs.kind == "files":
            refused_files = checked.write(
                shard_file(folder, "refused", shard), store.to_parquet(tables.refused)
            )
        marker = PredictionMarker(
            shard=shard,
            rows_in=tables.rows_in,
            rows=table.num_rows,
            refused=tables.reasons,
            settings=spec.fingerprint,
            version=spec.inputs.version(shard),
            predictions=checked.write(shard_file(folder, "predictions", shard), output.to_parquet(table)),
            refused_files=refused_files,
            **_counts(answers, no_input_N, self.ensemble.classes),
        )
        write_marker(folder, marker)
        return marker.model_dump(mode="json")


def _check_rows(tables: ShardTables, table: pa.Table, shard: int) -> None:
    rows, refused = table.num_rows, tables.refused.num_rows
    if tables.rows_in != rows + refused:
        raise RuntimeError(
            f"predict: shard {shard}: {tables.rows_in} rows in, {rows} predicted and {refused} refused; "
            "please report this"
        )


def _counts(
    answers: EnsembleAnswers, no_input_N: NDArray[np.bool_], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Counts of the answers: rows of each class, without an answer, far from the training spectra."""
    final = answers.answers
    class_N, domain_N = final.predicted_class_N, final.domain_N
    per_class = {}
    for number, name in enumerate(classes):
        per_class[name] = 0 if class_N is None else int(((class_N == number) & ~no_input_N).sum())
    is_far_N = np.zeros(len(no_input_N), bool)
    if domain_N is not None:
        is_far_N = np.isfinite(domain_N) & (domain_N.astype(np.float32) > 1) & ~no_input_N
    ruled_out = None if answers.ruled_out_N is None else int(answers.ruled_out_N.sum())
    return {
        "per_class": per_class,
        "ruled_out": ruled_out,
        "no_answer": int((no_input_N | ~final.is_complete_N).sum()),
        "outside_training": int(is_far_N.sum()),
    }


def prediction_table(
    spec: PredictionSpec,
    ensemble: Ensemble,
    answers: EnsembleAnswers,
    spectra: pa.Table,
    shard: int,
    no_input_N: NDArray[np.bool_],
) -> pa.Table:
    """A row for each spectrum of a shard: its identity and its answers; none if no member has its input."""
    rows = len(no_input_N)
    columns = answers.answers.to_columns()
    columns |= _line_columns(ensemble, spectra)
    if answers.ruled_out_N is not None:
        columns[RULED_OUT] = answers.ruled_out_N
    columns |= {"shard": np.full(rows, shard, np.int32), "row_in_shard": np.arange(rows, dtype=np.int32)}
    if spec.members:
        columns |= _member_columns(answers.member_answers)
    latent_ND = np.empty((rows, 0), np.float32)
    if spec.embeddings:
        latent_ND = np.concatenate(answers.latents, 1)
    schema = output.schema(
        ensemble.classes,
        ensemble.labels,
        ensemble.names if spec.members else (),
        latent_ND.shape[1],
        _provenance(spec),
        cascade=bool(spec.cascade_id),
    )
    arrays = []
    for field in schema:
        if field.name in IDENTITY_COLUMNS:
            missing = field.name not in spectra.column_names
            arrays.append(pa.nulls(rows, field.type) if missing else spectra[field.name])
        elif field.name == "latent":
            arrays.append(_list_array(np.where(no_input_N[:, None], np.nan, latent_ND), field.type))
        else:
            arrays.append(_array(columns[field.name], no_input_N, field))
    return pa.table(arrays, schema=schema)


def _provenance(spec: PredictionSpec) -> dict[str, str]:
    return {
        "ensemble": spec.ensemble_id,
        "predictions": spec.fingerprint,
        "code": __version__,
        spec.inputs.kind: spec.inputs.id,
    }


def _array(values: NDArray[Any], no_input_N: NDArray[np.bool_], field: pa.Field) -> pa.Array:
    """The numbers of a column; null where a number is unknown or no member has its input."""
    if field.name == "predicted_class":
        return pa.array(np.where(no_input_N, MISSING, values), field.type)
    if field.name in POSITION_COLUMNS or field.name == RULED_OUT:
        return pa.array(values, field.type)
    numbers = np.asarray(values, np.float32)
    return pa.array(numbers, field.type, mask=no_input_N | ~np.isfinite(numbers))


def _list_array(values_ND: NDArray[np.float32], kind: pa.DataType) -> pa.Array:
    flat = np.ascontiguousarray(values_ND, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)


def _line_columns(ensemble: Ensemble, spectra: pa.Table) -> Columns:
    """[Fe/H] from the indices of lines and its error; NaN if the ensemble has no formula for it."""
    unknown_N = np.full(spectra.num_rows, np.nan)
    if ensemble.line_key is None:
        return dict.fromkeys(LINE_COLUMNS, unknown_N)
    values = ensemble.line_key.estimate(line_key.index_array(spectra), line_key.signal_to_noise(spectra))
    return dict(zip(LINE_COLUMNS, values, strict=True))


def _member_columns(answers: MemberAnswers) -> Columns:
    """The answers of each member; its error is that of the data and of its dropout passes."""
    columns = Columns()
    for number in range(answers.members):
        for column, name in enumerate(answers.classes):
            columns[f"m{number}_p_{name.lower()}"] = answers.p_MNC[number, :, column]
        variance_NL = answers.var_data_MNL[number] + answers.var_passes_MNL[number]
        for column, name in enumerate(answers.labels):
            columns[f"m{number}_{name}"] = answers.value_MNL[number, :, column]
            columns[f"m{number}_{name}_err"] = np.sqrt(variance_NL[:, column])
    return columns


def compile_networks(ensemble: Ensemble) -> None:
    """Compiles the networks of an ensemble; the work is done when they are first used."""
    for run in ensemble.members.runs:
        run.net.compile()
