"""The table of the map: a row for each row of the predictions, written shard by shard.

Shapes: N rows, A coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files
from survey.answers import ColumnSpec
from survey.latent.latents import Floats32, Latents
from survey.latent.row_labels import RowClasses
from survey.predict.output import IDENTITY_COLUMNS, POSITION_COLUMNS, UCDS, UNITS
from survey.tables.columns import described_field

MAP_NAMES = {"pca": "principal component", "umap": "coordinate of UMAP", "pacmap": "coordinate of PaCMAP"}
LABEL = "label_"
"""What the columns of given classes begin with."""
COLUMNS: dict[str, ColumnSpec] = {
    "cluster": ("int32", "cluster, the largest is 0; -1 = in none", "", "meta.code"),
    "group": ("string", "the class whose centre is meant by centre_ratio; null = none", "", "src.class"),
    "centre_ratio": (
        "float32",
        "distance from the centre of the class, in units of the class's median distance",
        "",
        "stat.value",
    ),
    "density_score": (
        "float32",
        "mean distance to the nearest rows of the sample, in units of the median; large = a lonely row",
        "",
        "stat.value",
    ),
}


@dataclass(frozen=True)
class MapColumns:
    """What is known of all rows: places on the maps, clusters, groups and scores, and given classes."""

    maps: Mapping[str, Floats32]
    cluster_N: NDArray[np.int32]
    group_N: NDArray[np.int32]
    group_names: Sequence[str]
    ratio_N: Floats32
    density_N: Floats32
    questions: Sequence[RowClasses]

    def schema(self, latents: Latents) -> pa.Schema:
        """The columns of the table."""
        known: dict[str, ColumnSpec] = {
            name: (*IDENTITY_COLUMNS[name], UNITS.get(name, ""), UCDS[name])
            for name in latents.identity
            if name in IDENTITY_COLUMNS
        }
        known |= POSITION_COLUMNS
        known["predicted_class"] = ("int8", "number of the predicted class; -1 = none", "", "src.class")
        fields = [described_field(name, *known[name]) for name in latents.identity]
        fields += [
            described_field(f"{name}_{axis}", "float32", f"{MAP_NAMES[name]} {axis}", "", "pos.cartesian")
            for name, place_NA in self.maps.items()
            for axis in range(1, place_NA.shape[1] + 1)
        ]
        fields += [described_field(name, *column) for name, column in COLUMNS.items()]
        fields += [
            described_field(LABEL + question.name, "string", f"the class {question.name} that was given")
            for question in self.questions
        ]
        return pa.schema(fields)

    def rows(self, part: slice) -> dict[str, pa.Array]:
        """All columns but the identity, of some rows."""
        columns: dict[str, pa.Array] = {}
        for name, place_NA in self.maps.items():
            for number in range(place_NA.shape[1]):
                columns[f"{name}_{number + 1}"] = _numbers(place_NA[part, number])
        columns["cluster"] = pa.array(self.cluster_N[part], pa.int32())
        columns["group"] = words(self.group_names, self.group_N[part])
        columns["centre_ratio"] = _numbers(self.ratio_N[part])
        columns["density_score"] = _numbers(self.density_N[part])
        for question in self.questions:
            columns[LABEL + question.name] = words(question.classes, question.class_N[part])
        return columns


def words(names: Sequence[str], number_N: NDArray[np.int32]) -> pa.Array:
    """Numbers as the names that they stand for, null below 0."""
    if not len(names):
        return pa.nulls(len(number_N), pa.string())
    return pa.array(list(names), pa.string()).take(pa.array(number_N, mask=number_N < 0))


def _numbers(value_N: Floats32) -> pa.Array:
    return pa.array(value_N, pa.float32(), from_pandas=True)


def write_map(path: str, latents: Latents, columns: MapColumns) -> None:
    """Write the table, shard by shard, so that the identity of all rows is never in memory at once."""
    schema = columns.schema(latents)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start, identity in latents.tables(latents.identity):
            values = {name: identity[name] for name in latents.identity}
            values |= columns.rows(slice(start, start + identity.num_rows))
            writer.write_table(pa.table(values).cast(schema))
    files.write(path, memoryview(sink.getvalue()))
