"""The labelled spectra of a run, as a table that is written before training.

A row says where the spectrum is in the store, which star it is of, in which part, and with which labels. The
labels are joined once; training, evaluation and everything else read this table.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.labelling.join import Labelled
from survey.labelling.settings import PARTS

SAMPLES = "samples.parquet"

LABEL, ERROR, EXTRA = "label_", "error_", "extra_"
"""Beginnings of the names of columns: labels, their errors, other columns of the spectra."""


@dataclass(frozen=True)
class Samples:
    """Labelled spectra in the order of the store.

    `shard_row_N2` holds the shard and the row in the shard, `part_N` the number of the part in `PARTS` (-1:
    no part). Labels and errors are in physical units. `extra` holds other columns, such as the star.
    """

    labels: tuple[str, ...]
    shard_row_N2: NDArray[np.int64]
    part_N: NDArray[np.int8]
    class_N: NDArray[np.int8]
    label_NL: NDArray[np.float64]
    error_NL: NDArray[np.float64]
    extra: pa.Table

    def __len__(self) -> int:
        return len(self.shard_row_N2)

    def part(self, name: str) -> "Samples":
        """The samples of train, validation or test; `all` gives every sample."""
        if name == "all":
            return self
        if name not in PARTS:
            raise ValueError(f"split: there is no part {name!r}; give one of {', '.join(PARTS)}, all")
        return self.at(np.flatnonzero(self.part_N == PARTS.index(name)))

    def at(self, index: NDArray[np.int64]) -> "Samples":
        """The samples of these numbers."""
        return replace(
            self,
            shard_row_N2=self.shard_row_N2[index],
            part_N=self.part_N[index],
            class_N=self.class_N[index],
            label_NL=self.label_NL[index],
            error_NL=self.error_NL[index],
            extra=self.extra.take(pa.array(index)),
        )


def from_labelled(labelled: Labelled, labels: tuple[str, ...]) -> Samples:
    """Joined spectra as samples with these labels, NaN for a label that was not joined; in no part yet."""
    shard_row_N2 = np.stack([labelled.shard_N, labelled.row_in_shard_N], 1).astype(np.int64)
    label_NL, error_NL = (np.full((len(labelled), len(labels)), np.nan) for _ in range(2))
    for number, name in enumerate(labels):
        if name in labelled.labels:
            label_NL[:, number] = labelled.label_NL[:, labelled.labels.index(name)]
            error_NL[:, number] = labelled.error_NL[:, labelled.labels.index(name)]
    part_N = np.full(len(labelled), -1, np.int8)
    extra = labelled.extra.append_column("star", [[str(star) for star in labelled.star_N]])
    return Samples(labels, shard_row_N2, part_N, labelled.class_N, label_NL, error_NL, extra)


def write(folder: str, samples: Samples) -> None:
    """Writes the table into the folder of a run."""
    names = np.array([*PARTS, "none"], dtype=object)
    columns = {
        "shard": pa.array(samples.shard_row_N2[:, 0]),
        "row_in_shard": pa.array(samples.shard_row_N2[:, 1]),
        "part": pa.array(names[samples.part_N], "string"),
        "class_number": pa.array(samples.class_N),
    }
    for number, name in enumerate(samples.labels):
        columns[LABEL + name] = pa.array(samples.label_NL[:, number], from_pandas=True)
        columns[ERROR + name] = pa.array(samples.error_NL[:, number], from_pandas=True)
    for name in samples.extra.column_names:
        columns[EXTRA + name] = samples.extra[name]
    files.write_table(files.join(folder, SAMPLES), pa.table(columns))


def read(folder: str) -> Samples:
    """The table of a run, as it was written."""
    table = files.read_table(files.join(folder, SAMPLES))
    labels = tuple(name.removeprefix(LABEL) for name in table.column_names if name.startswith(LABEL))

    def stacked(prefix: str) -> NDArray[np.float64]:
        columns = [table[prefix + name].to_numpy(zero_copy_only=False) for name in labels]
        if not columns:
            return np.empty((table.num_rows, 0))
        return np.stack([column.astype(np.float64) for column in columns], 1)

    numbers = {name: number for number, name in enumerate(PARTS)} | {"none": -1}
    extra = table.select([name for name in table.column_names if name.startswith(EXTRA)])
    return Samples(
        labels,
        np.stack([table["shard"].to_numpy(), table["row_in_shard"].to_numpy()], 1),
        np.array([numbers[name] for name in table["part"].to_pylist()], np.int8),
        table["class_number"].to_numpy(),
        stacked(LABEL),
        stacked(ERROR),
        extra.rename_columns([name.removeprefix(EXTRA) for name in extra.column_names]),
    )
