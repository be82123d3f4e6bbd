"""One worker of a prediction: it opens the ensemble once and then makes shard after shard, from spectra to a table and a marker.

Two threads may call a worker: while the networks answer for one shard, the next is fetched and decoded and the last one is written. The
networks take turns, so that the memory and the numbers are those of one shard at a time.
"""

import threading
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from survey import __version__, files, machine
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.predict import inputs
from survey.predict.inputs import LOOKED_AT, Origin
from survey.predict.output import IDENTITY, packed
from survey.predict.rows import answered, predicted
from survey.settings import JobError
from survey.store import store
from survey.store.make import put
from survey.store.store import part
from survey.training.batches import chance

COLUMNS = [*IDENTITY, *LOOKED_AT]


@dataclass(frozen=True)
class Choice:
    """What is fixed before the first shard and holds for all of them, so that a rerun gives the same numbers."""

    batch: int
    precision: str
    compiled: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asking:
    """What every shard is predicted with: travels to the workers."""

    folder: str
    ensemble: str
    ensemble_id: str
    inputs: Origin
    choice: Choice
    fingerprint: str
    seed: int
    members: bool
    embeddings: bool


def opened(asking: Asking, threads: int, gpu: bool) -> Ensemble:
    """The ensemble that is meant, on the device that it is asked on, in a process made fit for it."""
    machine.settle(threads)
    if gpu:
        machine.steady(asking.choice.precision == "float32")
    ensemble = open_ensemble(asking.ensemble, torch.device("cuda" if gpu else "cpu"))
    if ensemble.id != asking.ensemble_id:
        raise JobError(
            f"predict: {asking.ensemble}: has become another ensemble since the job began ({asking.ensemble_id} then, {ensemble.id} now); "
            "put that one back, or predict into another folder"
        )
    return ensemble


class Worker:
    """Makes predictions of one shard after the other."""

    def __init__(self, asking: Asking, threads: int, gpu: bool) -> None:
        self.asking = asking
        self.ensemble = opened(asking, threads, gpu)
        self.turn = threading.Lock()
        if asking.choice.compiled:
            compiled(self.ensemble)

    def __call__(self, shard: int) -> dict[str, Any]:
        """Write the files of one shard and its marker; the marker's content comes back."""
        asking, folder = self.asking, self.asking.folder
        made = asking.inputs.load(shard, COLUMNS)
        table = self._table(made.spectra, shard)
        rows, refused = table.num_rows, made.refused.num_rows
        if made.rows_in != rows + refused:
            raise RuntimeError(
                f"predict: shard {shard}: {made.rows_in} rows in, {rows} predicted and {refused} refused; please report this"
            )
        marker = {
            "shard": shard,
            "rows_in": made.rows_in,
            "rows": rows,
            "refused": made.reasons,
            "settings": asking.fingerprint,
            "version": asking.inputs.version(shard),
            **counted(table, self.ensemble.classes),
            "predictions": put(part(folder, "predictions", shard), packed(table)),
        }
        if asking.inputs.kind == "files":
            marker["refused_files"] = put(part(folder, "refused", shard), store.packed(made.refused))
        files.write_json(part(folder, "markers", shard), marker)
        return marker

    def _table(self, known: pa.Table, shard: int) -> pa.Table:
        asking, choice = self.asking, self.asking.choice
        some = inputs.spectra(
            known, f"shard {shard} of {asking.inputs.path}", self.ensemble.members.needs_continuum
        )
        seed = int(chance(asking.seed, shard).integers(1 << 62))
        with self.turn:
            said = self.ensemble.said(
                some, snr(known), batch=choice.batch, precision=choice.precision, seed=seed
            )
        about = {
            "ensemble": asking.ensemble_id,
            "predictions": asking.fingerprint,
            "code": __version__,
            asking.inputs.kind: asking.inputs.id,
        }
        return predicted(
            self.ensemble,
            said,
            known,
            shard,
            inputs.without_light(some),
            asking.members,
            asking.embeddings,
            about,
        )


def snr(known: pa.Table) -> NDArray[np.float64]:
    """The signal to noise of spectra; NaN where it is not known."""
    return np.asarray(known["snr"].to_numpy(zero_copy_only=False), np.float64)


def counted(table: pa.Table, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a marker says of the answers: how often each class, how many rows without an answer, how many out of the domain."""
    answered_N = answered(table)
    said_N = table["said"].to_numpy() if classes else np.empty(0, np.int8)
    domain_N = table["domain"].to_numpy(zero_copy_only=False)
    return {
        "said": {name: int((said_N == number).sum()) for number, name in enumerate(classes)},
        "silent": int((~answered_N).sum()),
        "outside": int((domain_N > 1).sum()),
    }


def compiled(ensemble: Ensemble) -> None:
    """The networks of the ensemble as machine code of their own, made when they are first asked."""
    for run in ensemble.members.runs:
        run.net.compile()


def written(choice: Choice) -> dict[str, Any]:
    """A choice as JSON can hold it."""
    return asdict(choice)


def chosen(about: dict[str, Any]) -> Choice:
    """The choice that `written` gave."""
    return Choice(about["batch"], about["precision"], about["compiled"], tuple(about["notes"]))
