"""Predictions as plain numpy arrays: probabilities and labels as .npy files, with the spectra they are of.

arrays/class_probabilities.npy (N, C)   float32
arrays/labels.npy (N, L)                float32, physical units, NaN where unknown
arrays/ids.parquet                      the identity of each row
arrays/columns.json                     the names of the columns; written last

Both arrays are held in memory while they are written: 0.4 GB for 11 million spectra of three classes and five
labels.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.predict.output import ARRAYS, Predictions

COLUMNS = "columns.json"
IDS = ("path", "row", "visit", "star", "obsid", "survey", "ra", "dec", "snr", "shard", "row_in_shard")


def exist(folder: str) -> bool:
    """Whether predictions have arrays, which are then kept up to date."""
    return files.exists(files.join(folder, ARRAYS, COLUMNS))


def write(predictions: Predictions) -> None:
    """Writes the arrays of all shards, one after the other."""
    document, folder = predictions.document, files.join(predictions.path, ARRAYS)
    names = {
        "class_probabilities": [f"p_{name.lower()}" for name in document.classes],
        "labels": list(document.labels),
    }
    arrays = {
        kind: np.empty((document.rows, len(columns)), np.float32)
        for kind, columns in names.items()
        if columns
    }
    ids, start = _ParquetBuffer(), 0
    for table in predictions.tables([*IDS, *names["class_probabilities"], *names["labels"]]):
        stop = start + table.num_rows
        for kind, array in arrays.items():
            for number, name in enumerate(names[kind]):
                array[start:stop, number] = table[name].to_numpy(zero_copy_only=False)
        ids.add(table.select(IDS))
        start = stop
    files.remove(files.join(folder, COLUMNS))
    for kind, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files.write(files.join(folder, f"{kind}.npy"), buffer.getbuffer())
    files.write(files.join(folder, "ids.parquet"), memoryview(ids.data()))
    columns_text = {
        "class_probabilities": document.classes,
        "labels": names["labels"],
        "units": document.units,
        "predictions": document.id,
    }
    files.write_json(files.join(folder, COLUMNS), columns_text)


class _ParquetBuffer:
    """A growing table as the bytes of a Parquet file."""

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
