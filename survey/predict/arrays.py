"""Predictions as plain arrays, for those who like numpy: probabilities and labels as .npy, who they are of beside them in the same order.

arrays/class_probabilities.npy (N, C) and labels.npy (N, L), float32, labels in physical units, NaN where not known; ids.parquet; columns.json.
Both arrays are held in memory while they are written: 0.4 GB for 11 million spectra of three classes and five labels.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.predict.output import ARRAYS, Predictions

COLUMNS = "columns.json"
IDS = ("path", "row", "visit", "star", "obsid", "survey", "ra", "dec", "snr", "shard", "place")


def there(folder: str) -> bool:
    """Whether predictions have arrays, which then have to follow them."""
    return files.exists(files.join(folder, ARRAYS, COLUMNS))


def write(predictions: Predictions) -> None:
    """The arrays of all shards, one after the other; `columns.json` is last."""
    names = {
        "class_probabilities": [f"p_{name.lower()}" for name in predictions.about["classes"]],
        "labels": list(predictions.labels),
    }
    held = {
        kind: np.empty((predictions.about["rows"], len(columns)), np.float32)
        for kind, columns in names.items()
        if columns
    }
    ids, at = _Ids(), 0
    for table in predictions.tables([*IDS, *names["class_probabilities"], *names["labels"]]):
        for kind, array in held.items():
            for number, name in enumerate(names[kind]):
                array[at : at + table.num_rows, number] = table[name].to_numpy(zero_copy_only=False)
        ids.add(table.select(IDS))
        at += table.num_rows
    folder = files.join(predictions.path, ARRAYS)
    files.remove(files.join(folder, COLUMNS))
    for kind, array in held.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files.write(files.join(folder, f"{kind}.npy"), buffer.getbuffer())
    files.write(files.join(folder, "ids.parquet"), memoryview(ids.data()))
    about = {
        "class_probabilities": predictions.about["classes"],
        "labels": names["labels"],
        "units": predictions.about["units"],
    }
    files.write_json(files.join(folder, COLUMNS), about | {"predictions": predictions.about["id"]})


class _Ids:
    """A table that grows as the bytes of a Parquet file."""

    def __init__(self) -> None:
        self.sink = pa.BufferOutputStream()
        self.writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        plain = table.replace_schema_metadata()
        self.writer = self.writer or pq.ParquetWriter(self.sink, plain.schema, compression="zstd")
        self.writer.write_table(plain)

    def data(self) -> pa.Buffer:
        if self.writer:
            self.writer.close()
        return self.sink.getvalue()
