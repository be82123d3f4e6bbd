"""The labelled spectra of a run, written into the run before training: who they are, where in the store, in which part, with which labels.

Workers, evaluation and everybody who wants to know what a network was trained on read this one table; the labels are joined once only.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.labelling.join import Labelled
from survey.labelling.split import PARTS

SAMPLES = "samples.parquet"


@dataclass(frozen=True)
class Samples:
    """Labelled spectra in the order of the store: (shard, row), part, class, labels and their errors in physical units, and what else is known."""

    labels: tuple[str, ...]
    place_N2: NDArray[np.int64]
    part_N: NDArray[np.int8]
    class_N: NDArray[np.int8]
    label_NL: NDArray[np.float64]
    error_NL: NDArray[np.float64]
    about: pa.Table

    def __len__(self) -> int:
        return len(self.place_N2)

    def part(self, name: str) -> "Samples":
        """The samples of train, validation or test; `all` for every one."""
        if name == "all":
            return self
        if name not in PARTS:
            raise ValueError(f"split: there is no part {name!r}; there are {', '.join(PARTS)}, all")
        return self.at(np.flatnonzero(self.part_N == PARTS.index(name)))

    def at(self, index: NDArray[np.int64]) -> "Samples":
        """Some of them."""
        chosen = {
            name: getattr(self, name)[index]
            for name in ("place_N2", "part_N", "class_N", "label_NL", "error_NL")
        }
        return replace(self, about=self.about.take(pa.array(index)), **chosen)


def of(labelled: Labelled, labels: tuple[str, ...]) -> Samples:
    """Joined spectra as samples with these labels, unknown where the join has none; they belong to no part yet."""
    place_N2 = np.stack([labelled.shard, labelled.row], 1).astype(np.int64)
    arrays = {name: np.full((len(place_N2), len(labels)), np.nan) for name in ("label_NL", "error_NL")}
    for number, name in enumerate(labels):
        if name in labelled.labels:
            for kind, array in arrays.items():
                array[:, number] = getattr(labelled, kind)[:, labelled.labels.index(name)]
    about = labelled.about.append_column("star", [[str(star) for star in labelled.star]])
    return Samples(
        labels, place_N2, np.full(len(place_N2), -1, np.int8), labelled.class_N, about=about, **arrays
    )


def write(folder: str, samples: Samples) -> None:
    """The table of a run."""
    names = np.array([*PARTS, "none"], dtype=object)
    columns = {
        "shard": pa.array(samples.place_N2[:, 0]),
        "row": pa.array(samples.place_N2[:, 1]),
        "part": pa.array(names[samples.part_N], "string"),
        "class_number": pa.array(samples.class_N),
    }
    for number, name in enumerate(samples.labels):
        columns[f"label_{name}"] = pa.array(samples.label_NL[:, number], from_pandas=True)
        columns[f"error_{name}"] = pa.array(samples.error_NL[:, number], from_pandas=True)
    for name in samples.about.column_names:
        columns.setdefault(f"about_{name}", samples.about[name])
    files.write_table(files.join(folder, SAMPLES), pa.table(columns))


def read(folder: str) -> Samples:
    """The table of a run as it was written."""
    table = files.read_table(files.join(folder, SAMPLES))
    labels = tuple(name.removeprefix("label_") for name in table.column_names if name.startswith("label_"))
    count = table.num_rows

    def stacked(kind: str) -> NDArray[np.float64]:
        parts = [table[f"{kind}_{name}"].to_numpy(zero_copy_only=False).astype(np.float64) for name in labels]
        return np.stack(parts, 1) if parts else np.empty((count, 0))

    about = table.select([name for name in table.column_names if name.startswith("about_")])
    numbers = {name: number for number, name in enumerate(PARTS)} | {"none": -1}
    return Samples(
        labels,
        np.stack([table["shard"].to_numpy(), table["row"].to_numpy()], 1),
        np.array([numbers[name] for name in table["part"].to_pylist()], np.int8),
        table["class_number"].to_numpy(),
        stacked("label"),
        stacked("error"),
        about.rename_columns([name.removeprefix("about_") for name in about.column_names]),
    )
