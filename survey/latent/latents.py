"""The rows of predictions that have a latent: read shard by shard, never all columns at once.

Shapes: N rows, D features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.predict.output import Predictions, open_predictions
from survey.progress import Progress
from survey.settings import SettingsError

LATENT = "latent"
KEYS = ("path", "row", "visit", "star", "obsid", "ra", "dec")
"""Columns that say which object a row is."""
SHOWN = ("snr", "predicted_class")
IDENTITY = ("shard", "row_in_shard", *KEYS, *SHOWN)
"""Columns of every table of results, as far as the predictions have them."""
LARGEST = 4096
"""Features of a latent; the covariances of more do not fit in memory."""

Floats32 = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Latents:
    """Finished predictions with a latent of so many features, and those columns of `IDENTITY` that exist."""

    predictions: Predictions
    width: int
    identity: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def id(self) -> str:
        """The id of the predictions."""
        return self.predictions.id

    def starts(self) -> Rows:
        """The number of the first row of each shard, and behind the last one the number of rows."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    def blocks(self, purpose: str) -> Iterator[tuple[int, Floats32]]:
        """The latents shard by shard: the number of the first row, and the features (N, D).

        A long work shows its progress, with this purpose.
        """
        with Progress(f"latent: {purpose}", len(self), "rows") as progress:
            for shard, start in enumerate(self.starts()[:-1].tolist()):
                latent_ND = features(self.predictions.table(shard, [LATENT])[LATENT])
                yield start, latent_ND
                progress.add(len(latent_ND))

    def tables(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """These columns shard by shard: the number of the first row, and the table."""
        for shard, start in enumerate(self.starts()[:-1].tolist()):
            table = self.predictions.table(shard, list(columns))
            yield start, table.select(list(columns)).replace_schema_metadata()

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A column of all rows; None if the predictions have no such column."""
        if name not in self.identity:
            return None
        return pa.chunked_array([chunk for _, table in self.tables([name]) for chunk in table[name].chunks])

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """The identity of these rows (or other columns), in the order of the numbers given."""
        names = list(self.identity if columns is None else columns)
        starts = self.starts()
        shard_N = np.searchsorted(starts, rows, side="right") - 1
        order = np.argsort(shard_N, kind="stable")
        pieces = []
        for shard in np.unique(shard_N).tolist():
            inside = rows[order][shard_N[order] == shard] - starts[shard]
            table = self.predictions.table(shard, names).select(names).replace_schema_metadata()
            pieces.append(table.take(pa.array(inside)))
        if not pieces:
            return self.predictions.table(0, names).select(names).replace_schema_metadata().slice(0, 0)
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(pieces).take(pa.array(back))


def open_latents(path: str, setting: str = "predictions") -> Latents:
    """The latents of finished predictions."""
    predictions = open_predictions(path)
    wanted = [*IDENTITY, LATENT]
    first = predictions.table(0, wanted) if predictions.shards else pa.table({})
    if LATENT not in first.column_names:
        raise SettingsError(
            f"latent: {setting}: {path}: these predictions have no column latent; "
            "make them again, in a new folder, with survey predict embeddings=true"
        )
    width = _width(first[LATENT].type)
    if not 1 < width <= LARGEST:
        raise SettingsError(
            f"latent: {setting}: {path}: a latent of {width:,} features; 2 to {LARGEST:,} can be used; "
            "predict with fewer members"
        )
    identity = tuple(name for name in IDENTITY if name in first.column_names)
    return Latents(predictions, width, identity, tuple(marker.rows for marker in predictions.markers))


def _width(kind: pa.DataType) -> int:
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def features(column: pa.ChunkedArray) -> Floats32:
    """The features (N, D) of a column of lists, NaN where there is none."""
    lists = column.combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    width = lists.type.list_size
    flat = lists.values.slice(lists.offset * width, len(lists) * width)
    latent_ND = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, width)
    if lists.null_count:
        latent_ND = np.where(lists.is_valid().to_numpy(zero_copy_only=False)[:, None], latent_ND, np.nan)
    return np.asarray(latent_ND, np.float32)
