"""The spectra of stars of a catalog: read from the store that was predicted, or from the survey files.

A catalog keeps no spectra. A star's columns `shard` and `row_in_shard` say which row of the predictions is
its best visit; that row names the file. What is not at its place any more, or has changed, is not read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.folder import Folder
from survey.predict.output import PREDICTIONS, Predictions, open_predictions
from survey.store.settings import Ingest
from survey.store.store import STORE, Store, open_store

Floats = NDArray[np.float64]
Place = tuple[int, int]
"""The shard and the row of a spectrum in the predictions."""

POSITION = ("shard", "row_in_shard")
IDENTITY = ["path", "row", "visit"]


@dataclass(frozen=True)
class StarSpectra:
    """Normalised spectra by their place, NaN where bad, on one grid. `why` says why there is none."""

    wave: Floats
    flux: Mapping[Place, Floats]
    why: str = ""


def _none(why: str) -> StarSpectra:
    return StarSpectra(np.zeros(0), {}, why)


def read_spectra_of(predictions_path: str, places: Sequence[Place]) -> StarSpectra:
    """The spectra at these places in the input of predictions."""
    folder = Folder(predictions_path, PREDICTIONS)
    if not folder.is_finished():
        return _none(f"the predictions are not at {predictions_path} any more")
    predictions = open_predictions(predictions_path)
    source = predictions.document.source
    if source.kind == "store":
        if not Folder(source.path, STORE).is_finished():
            return _none(f"the store is not at {source.path} any more")
        return _from_store(open_store(source.path), predictions, places)
    return _from_files(predictions, places)


def _rows(
    predictions: Predictions, places: Sequence[Place], columns: list[str]
) -> dict[Place, dict[str, Any]]:
    """These columns of the predictions at these places."""
    rows = {}
    for shard in sorted({shard for shard, _ in places}):
        table = predictions.table(shard, columns)
        for place in places:
            if place[0] == shard and place[1] < table.num_rows:
                rows[place] = table.slice(place[1], 1).to_pylist()[0]
    return rows


def _from_store(store: Store, predictions: Predictions, places: Sequence[Place]) -> StarSpectra:
    """From the store, as far as it still has the spectra at these places that were predicted."""
    flux = {}
    rows = _rows(predictions, places, IDENTITY)
    for shard in sorted({shard for shard, _ in rows if shard < store.shards}):
        try:
            table = store.spectra(shard, [*IDENTITY, "flux", "ivar"])
        except (OSError, ValueError, pa.ArrowException):  # a missing or damaged file: its stars are not shown
            continue
        for place, row in rows.items():
            if place[0] != shard or place[1] >= table.num_rows:
                continue
            stored = table.slice(place[1], 1)
            if stored.select(IDENTITY).to_pylist()[0] == row:
                flux[place] = _masked(*(_pixels(stored, name) for name in ("flux", "ivar")))
    if not flux:
        return _none(f"the store {store.path} has changed since it was predicted, or cannot be read")
    return StarSpectra(store.grid.wave, flux)


def _pixels(table: pa.Table, name: str) -> Floats:
    """The array of the only row of a table."""
    return np.asarray(table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False), np.float64)


def _masked(flux_P: Floats, ivar_P: Floats) -> Floats:
    return np.where(ivar_P > 0, flux_P, np.nan)


def _from_files(predictions: Predictions, places: Sequence[Place]) -> StarSpectra:
    """From the survey files, prepared as for the prediction; those files that are still there."""
    from survey.reports.raw_spectra import prepare_rows  # loads torch, which only this way needs

    document = predictions.document
    ingest = Ingest.from_dict(
        "catalog: ingest",
        document.settings["ingest"] | {"input": document.source.path, "store": predictions.path},
    )
    rows = _rows(predictions, places, [*IDENTITY, "velocity"])
    flux = {
        place: _masked(*pixels)
        for place, pixels in zip(rows, prepare_rows(list(rows.values()), ingest), strict=True)
        if pixels is not None
    }
    if not flux:
        return _none(f"the files of {document.source.path} are not at their paths any more")
    return StarSpectra(ingest.prepare.wavelengths().wave, flux)
