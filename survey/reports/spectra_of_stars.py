"""The spectra of stars of a catalog: read from the store that was predicted, or from the survey files.

A catalog keeps no spectra. A star's columns `shard` and `row_in_shard` say which row of the predictions is
its best visit; that row names the file. What is not at its place any more, or has changed, is not read.
"""

from collections.abc import Iterator, Mapping, Sequence
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
TOGETHER = 128
"""Files that are prepared together."""


@dataclass(frozen=True)
class StarSpectra:
    """Normalised spectra by their place, NaN where bad, on one grid. `why` says why there is none."""

    wave: Floats
    flux: Mapping[Place, Floats]
    why: str = ""


@dataclass(frozen=True)
class SpectrumPixels:
    """A spectrum at its place: normalised flux, inverse variance (0 = bad), the continuum if it is kept."""

    place: Place
    flux_P: Floats
    ivar_P: Floats
    continuum_P: Floats | None = None


@dataclass(frozen=True)
class OpenSpectra:
    """Spectra that are read one after the other. `missing` says what is wrong if none of them comes."""

    wave: Floats
    spectra: Iterator[SpectrumPixels]
    missing: str


def read_spectra_of(predictions_path: str, places: Sequence[Place]) -> StarSpectra:
    """The spectra at these places in the input of predictions."""
    opened = open_spectra_of(predictions_path, places)
    if isinstance(opened, str):
        return _none(opened)
    flux = {found.place: np.where(found.ivar_P > 0, found.flux_P, np.nan) for found in opened.spectra}
    return StarSpectra(opened.wave, flux) if flux else _none(opened.missing)


def open_spectra_of(
    predictions_path: str, places: Sequence[Place], curves: bool = False
) -> OpenSpectra | str:
    """The spectra at these places in the input of predictions, shard by shard; or why there is none.

    `curves` gives the continuum too, where it is known.
    """
    folder = Folder(predictions_path, PREDICTIONS)
    if not folder.is_finished():
        return f"the predictions are not at {predictions_path} any more"
    predictions = open_predictions(predictions_path)
    source = predictions.document.source
    if source.kind == "store":
        if not Folder(source.path, STORE).is_finished():
            return f"the store is not at {source.path} any more"
        store = open_store(source.path)
        missing = f"the store {store.path} has changed since it was predicted, or cannot be read"
        return OpenSpectra(store.grid.wave, _from_store(store, predictions, places, curves), missing)
    document = predictions.document
    values = document.settings["ingest"] | {"input": source.path, "store": predictions.path}
    ingest = Ingest.from_dict("catalog: ingest", values)
    spectra = _from_files(predictions, places, ingest, curves)
    missing = f"the files of {source.path} are not at their paths any more"
    return OpenSpectra(ingest.prepare.wavelengths().wave, spectra, missing)


def _none(why: str) -> StarSpectra:
    return StarSpectra(np.zeros(0), {}, why)


def _rows(
    predictions: Predictions, places: Sequence[Place], columns: list[str]
) -> Iterator[tuple[int, dict[Place, dict[str, Any]]]]:
    """These columns of the predictions at these places, shard by shard."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in dict.fromkeys(places):
        by_shard.setdefault(shard, []).append(number)
    for shard in sorted(by_shard):
        table = predictions.table(shard, columns)
        numbers = [number for number in by_shard[shard] if number < table.num_rows]
        rows = table.take(pa.array(numbers, pa.int64())).to_pylist()
        yield shard, {(shard, number): row for number, row in zip(numbers, rows, strict=True)}


def _from_store(
    store: Store, predictions: Predictions, places: Sequence[Place], curves: bool
) -> Iterator[SpectrumPixels]:
    """From the store, as far as it still has the spectra at these places that were predicted."""
    with_curve = curves and store.prepare.continuum == "dual"
    columns = ["flux", "ivar", *(["continuum"] if with_curve else [])]
    for shard, rows in _rows(predictions, places, IDENTITY):
        if shard >= store.shards:
            continue
        try:
            table = store.spectra(shard, [*IDENTITY, *columns])
        except (OSError, ValueError, pa.ArrowException):  # a missing or damaged file: its stars are not shown
            continue
        for place, row in rows.items():
            if place[1] < table.num_rows:
                stored = table.slice(place[1], 1)
                if stored.select(IDENTITY).to_pylist()[0] == row:
                    yield SpectrumPixels(place, *(_pixels(stored, name) for name in columns))


def _pixels(table: pa.Table, name: str) -> Floats:
    """The array of the only row of a table."""
    return np.asarray(table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False), np.float64)


def _from_files(
    predictions: Predictions, places: Sequence[Place], ingest: Ingest, curves: bool
) -> Iterator[SpectrumPixels]:
    """From the survey files, prepared as for the prediction; those files that are still there."""
    from survey.reports.raw_spectra import prepare_rows  # loads torch, which only this way needs

    for _, rows in _rows(predictions, places, [*IDENTITY, "velocity"]):
        places_here = list(rows)
        for start in range(0, len(places_here), TOGETHER):
            batch = places_here[start : start + TOGETHER]
            prepared = prepare_rows([rows[place] for place in batch], ingest, curves)
            for place, pixels in zip(batch, prepared, strict=True):
                if pixels is not None:
                    yield SpectrumPixels(place, *pixels)
