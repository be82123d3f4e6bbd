"""Finished folders by hand: the tables of shards, and documents that are changed and stay sound."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from survey import checked, files
from survey.checked import WrittenFile
from survey.folder import Folder
from survey.predict.output import (
    PREDICTIONS,
    PredictionMarker,
    PredictionsDocument,
    open_predictions,
)
from survey.store.markers import SHARDS, IngestMarker, Marker, marker_table, shard_file
from survey.store.store import STORE, StoreDocument

NONE = WrittenFile(size=0, crc=0)


def finish_store(folder: Path, document: StoreDocument, spectra: list[pa.Buffer]) -> None:
    """Write the spectra of all shards and the document of a store."""
    markers: list[Marker] = [
        IngestMarker(
            shard=shard,
            files=0,
            rows_in=0,
            written=0,
            refused={},
            settings=document.fingerprint,
            version=0,
            spectra=checked.write(shard_file(str(folder), "spectra", shard), data),
            refused_files=NONE,
        )
        for shard, data in enumerate(spectra)
    ]
    _finish(folder, markers)
    Folder(str(folder), STORE).finish(document, [SHARDS])


def finish_predictions(folder: Path, document: PredictionsDocument, tables: list[pa.Buffer]) -> None:
    """Write the tables of all shards and the document of predictions."""
    markers: list[Marker] = [
        PredictionMarker(
            shard=shard,
            rows_in=0,
            rows=0,
            no_answer=0,
            outside_training=0,
            per_class={},
            refused={},
            settings=document.fingerprint,
            version=0,
            predictions=checked.write(shard_file(str(folder), "predictions", shard), data),
        )
        for shard, data in enumerate(tables)
    ]
    _finish(folder, markers)
    Folder(str(folder), PREDICTIONS).finish(document, [SHARDS])


def _finish(folder: Path, markers: list[Marker]) -> None:
    files.write_table(str(folder / SHARDS), marker_table(markers))


def change_document(path: Path, change: Callable[[dict[str, Any]], Any] | Mapping[str, Any]) -> None:
    """Change a document on disk, by a function or by new values; its checksum is made right again."""
    values = json.loads(path.read_text())
    values.pop(checked.CHECKSUM)
    if callable(change):
        change(values)
    else:
        values |= change
    checked.write_json(str(path), values)


def seal_predictions(folder: Path) -> None:
    """Make the checksums of predictions right after their tables were changed by hand."""
    predictions = open_predictions(str(folder))
    markers = [
        marker.model_copy(update={"predictions": WrittenFile.at(predictions.file(marker.shard))})
        for marker in predictions.markers
    ]
    files.write_table(str(folder / SHARDS), marker_table(markers))
    written = WrittenFile.at(str(folder / SHARDS)).model_dump()
    change_document(folder / PREDICTIONS.file, lambda document: document["content"].update({SHARDS: written}))
