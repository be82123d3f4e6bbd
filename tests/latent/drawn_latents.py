"""Finished predictions with latents that are drawn around known centres, for the tests of this room."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import checked, files
from survey.folder import Folder
from survey.predict import output
from survey.predict.output import PREDICTIONS, PredictionsDocument
from survey.store.markers import SHARDS, marker_table, shard_file

CLASSES = ("MP", "CEMP", "NMP")


def drawn(
    rows: int, width: int = 12, classes: int = 3, spread: float = 6.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Latents (N, D) around a centre for each class, and the class of each row."""
    centre_CD = np.random.default_rng(1).normal(size=(classes, width)) * spread
    generator = np.random.default_rng(seed)
    class_N = generator.integers(classes, size=rows)
    noise_ND = generator.normal(size=(rows, width))
    return (centre_CD[class_N] + noise_ND).astype(np.float32), class_N


def positions(rows: int, first: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places on the sky that are degrees apart from each other."""
    number_N = np.arange(first, first + rows, dtype=np.float64)
    return (number_N * 1.7) % 360, -60 + (number_N // 200) * 0.9


def write_predictions(
    folder: Path,
    latent_ND: NDArray[np.float32] | None,
    shard_rows: int = 100,
    stars: Sequence[str] | None = None,
    predicted_N: NDArray[np.int64] | None = None,
    rows: int = 0,
    name: str = "drawn",
    first: int = 0,
    places: int | None = None,
    members: Mapping[str, str] | None = None,
) -> str:
    """Finished predictions of these latents, numbered from `first` on; the path of their folder.

    `places` is where the numbers of the positions begin, `members` are the ids of runs by their paths.
    """
    count = rows if latent_ND is None else len(latent_ND)
    width = 0 if latent_ND is None else latent_ND.shape[1]
    schema = output.schema(CLASSES, (), features=width)
    ra_N, dec_N = positions(count, first if places is None else places)
    numbers = range(first, first + count)
    known = {
        "path": [f"/data/spec-{number:05d}.fits" for number in numbers],
        "row": [-1] * count,
        "visit": [f"visit-{number:05d}" for number in numbers],
        "star": list(stars or [f"star {number}" for number in numbers]),
        "obsid": [number + 1 for number in numbers],
        "ra": ra_N,
        "dec": dec_N,
        "snr": 5 + np.arange(count) % 90,
        "predicted_class": np.full(count, -1) if predicted_N is None else predicted_N,
    }
    starts = range(0, max(count, 1), shard_rows)
    markers = []
    for shard, start in enumerate(starts):
        part = slice(start, min(start + shard_rows, count))
        table = _table(schema, known, latent_ND, part, shard)
        data = output.to_parquet(table)
        markers.append(_marker(folder, shard, table.num_rows, data))
    files.write_table(str(folder / SHARDS), marker_table(markers))
    document = PredictionsDocument.model_validate(_document(name, len(markers), count, members or {}))
    Folder(str(folder), PREDICTIONS).finish(document, [SHARDS])
    return str(folder)


def _table(
    schema: pa.Schema,
    known: dict[str, object],
    latent_ND: NDArray[np.float32] | None,
    part: slice,
    shard: int,
) -> pa.Table:
    rows = part.stop - part.start
    columns = []
    for field in schema:
        if field.name == "latent":
            assert latent_ND is not None
            flat = pa.array(latent_ND[part].reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        elif field.name in output.POSITION_COLUMNS:
            is_shard = field.name == "shard"
            columns.append(pa.array(np.full(rows, shard) if is_shard else np.arange(rows), field.type))
        elif field.name in known:
            columns.append(pa.array(known[field.name][part], field.type))  # type: ignore[index]
        else:
            columns.append(pa.nulls(rows, field.type))
    return pa.table(columns, schema=schema)


def _marker(folder: Path, shard: int, rows: int, data: pa.Buffer) -> output.PredictionMarker:
    return output.PredictionMarker(
        shard=shard,
        rows_in=rows,
        rows=rows,
        no_answer=0,
        outside_training=0,
        per_class={},
        refused={},
        settings="",
        version=0,
        predictions=checked.write(shard_file(str(folder), "predictions", shard), data),
    )


def _document(name: str, shards: int, rows: int, members: Mapping[str, str]) -> dict[str, object]:
    ensemble = {
        "path": "e",
        "id": "e",
        "members": [
            {"name": path, "path": path, "id": identity, "model": "prism"}
            for path, identity in members.items()
        ],
        "calibrated": True,
        "domain": False,
        "ranges": {},
    }
    return {
        "version": PREDICTIONS.version,
        "id": name,
        "shards": shards,
        "rows_in": rows,
        "rows": rows,
        "no_answer": 0,
        "outside_training": 0,
        "refused": {},
        "per_class": {},
        "labels": (),
        "classes": CLASSES,
        "units": {},
        "ensemble": ensemble,
        "source": {"kind": "store", "path": "s", "id": "s"},
        "choice": {"batch": 1, "precision": "float32"},
        "settings": {},
        "fingerprint": "",
    }
