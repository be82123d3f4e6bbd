"""Predictions shard by shard, also while they are made: their medians and shares, and which shards depart
from the others.

A shard that departs may be another field of the sky, a night with clouds, or a fault: this module does not
say which. The numbers of a shard are kept, so that the next look reads only new shards. Shapes: S shards, N
spectra of one shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files
from survey.answers import Floats, label_names
from survey.folder import SETTINGS, Folder
from survey.metrics.labels import robust_scatter
from survey.predict.output import ADVICE, PREDICTIONS, PredictionMarker
from survey.settings import SettingsError
from survey.store.markers import complete_markers, shard_file

BATCHES = "batches.parquet"
LEAST = 5
"""With fewer shards none can depart from the others."""
FEW = 10
"""The scatter of so few shards is uncertain: it counts 1 + (FEW / shards)^2 times, twice for ten shards.

So of equal shards none departs in 96 to 98 of 100 looks at six columns, for any number of shards.
"""
SIXTEEN, EIGHTY_FOUR = "_16", "_84"
"""Endings of the columns with the ends of the middle 68 % of a label."""
ROUNDING = 1e-6
"""Shards that differ by less are equal, even if all other shards are exactly the same."""
ERROR, SHARE, DEPARTS = "_err", "share_", "departs"
"""Ending of the columns of median errors, beginning of those of class shares, column with the names of odd
columns.
"""


@dataclass(frozen=True)
class Drift:
    """Predictions as far as they are made: a row per shard (`table`), the classes and labels, and whether
    all are made.

    `new` is the number of shards since the last look.
    """

    path: str
    table: pa.Table
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    finished: bool
    folder: str
    new: int

    def column(self, name: str) -> Floats:
        """The numbers of a column; NaN where there is none."""
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False), np.float64)

    @property
    def departing(self) -> dict[int, list[str]]:
        """The columns in which a shard departs from the others, by shard."""
        rows = self.table.select(["shard", DEPARTS]).to_pylist()
        return {row["shard"]: row[DEPARTS] for row in rows if row[DEPARTS]}


def is_predictions(path: str) -> bool:
    """Whether a folder holds predictions, finished or not."""
    folder = Folder(path, PREDICTIONS)
    if folder.is_finished():
        return True
    settings = files.join(path, SETTINGS)
    return files.exists(settings) and files.read_json(settings).get("kind") == PREDICTIONS.name


def measure_drift(path: str, odd: float, to: str | None = None) -> Drift:
    """The numbers of the shards that are made, written into `BATCHES`."""
    folder = to or files.join(path, "evaluations", "drift")
    file = files.join(folder, BATCHES)
    kept = files.read_table(file).to_pylist() if files.exists(file) else []
    row_of = {(row["shard"], row["crc"]): row for row in kept}
    markers = complete_markers(path, PredictionMarker, {"predictions": "predictions"})
    if not markers:
        raise SettingsError(
            f"evaluate: {path}: no shard of these predictions is made yet; try again when survey predict "
            "has made one"
        )
    rows, new = [], 0
    for shard, marker in sorted(markers.items()):
        row = row_of.get((shard, marker.predictions.crc))
        new += row is None
        rows.append(row or _shard_row(shard_file(path, "predictions", shard), marker))
    # All shards of an ensemble have the same columns.
    classes = tuple(name.removeprefix(SHARE) for name in rows[0] if name.startswith(SHARE))
    labels = tuple(name.removesuffix(SIXTEEN) for name in rows[0] if name.endswith(SIXTEEN))
    for row, names in zip(rows, _departing(rows, classes, labels, odd), strict=True):
        row[DEPARTS] = names
    table = pa.Table.from_pylist(rows, _schema(classes, labels))
    files.write_table(file, table)
    return Drift(path, table, classes, labels, Folder(path, PREDICTIONS).is_finished(), folder, new)


def _schema(classes: tuple[str, ...], labels: tuple[str, ...]) -> pa.Schema:
    columns: list[tuple[str, pa.DataType, str]] = [
        ("shard", pa.int64(), "shard of the predictions"),
        ("crc", pa.int64(), "checksum of its file"),
        ("rows", pa.int64(), "spectra"),
        ("no_answer", pa.int64(), "spectra without an answer"),
        ("snr", pa.float64(), "median signal to noise"),
        (
            "outside_training",
            pa.float64(),
            "share of spectra far from the training spectra (domain > 1); null where unknown",
        ),
    ]
    columns += [
        (f"{SHARE}{name}", pa.float64(), f"share of spectra with the class {name}") for name in classes
    ]
    for name in labels:
        columns += [
            (name, pa.float64(), f"median {name}"),
            (f"{name}{ERROR}", pa.float64(), f"median error of {name}"),
            (f"{name}{SIXTEEN}", pa.float64(), f"16 % of {name} are below this value"),
            (f"{name}{EIGHTY_FOUR}", pa.float64(), f"84 % of {name} are below this value"),
        ]
    columns.append((DEPARTS, pa.list_(pa.string()), "columns in which the shard departs from the others"))
    return pa.schema(
        [pa.field(name, kind, metadata={"description": description}) for name, kind, description in columns]
    )


def _shard_row(path: str, marker: PredictionMarker) -> dict[str, Any]:
    """The numbers of a shard."""
    file = pq.ParquetFile(pa.BufferReader(marker.predictions.read(path, ADVICE)))
    names = file.schema_arrow.names
    labels = label_names(names)
    wanted = ["snr", "domain", *(["predicted_class"] if "predicted_class" in names else [])]
    wanted += [*labels, *(f"{name}{ERROR}" for name in labels)]
    table = file.read(wanted, use_threads=False)
    column = {
        name: np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
        for name in table.column_names
    }
    row = {
        "shard": marker.shard,
        "crc": marker.predictions.crc,
        "rows": table.num_rows,
        "no_answer": marker.no_answer,
        "snr": _quantile(column["snr"], 0.5),
        "outside_training": _mean(column["domain"] > 1, np.isfinite(column["domain"])),
    }
    if "predicted_class" in column:
        class_N = column["predicted_class"]
        for number, name in enumerate(marker.per_class):
            row[f"{SHARE}{name}"] = _mean(class_N == number, class_N >= 0)
    for name in labels:
        row[name] = _quantile(column[name], 0.5)
        row[f"{name}{ERROR}"] = _quantile(column[f"{name}{ERROR}"], 0.5)
        row[f"{name}{SIXTEEN}"] = _quantile(column[name], 0.16)
        row[f"{name}{EIGHTY_FOUR}"] = _quantile(column[name], 0.84)
    return row


def _quantile(values_N: Floats, share: float) -> float | None:
    finite_N = values_N[np.isfinite(values_N)]
    return float(np.quantile(finite_N, share)) if len(finite_N) else None


def _mean(yes_N: NDArray[np.bool_], known_N: NDArray[np.bool_]) -> float | None:
    return float(yes_N[known_N].mean()) if known_N.any() else None


def _departing(
    rows: list[dict[str, Any]], classes: tuple[str, ...], labels: tuple[str, ...], odd: float
) -> Iterator[list[str]]:
    """For each shard the columns in which it departs from the others."""
    columns = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)
        for name in rows[0]
        if name != DEPARTS
    }
    rows_S = np.maximum(columns["rows"], 1)
    names = ["snr", "outside_training", *(f"{SHARE}{name}" for name in classes)]
    names += [*labels, *(f"{name}{ERROR}" for name in labels)]
    departs_of = {}
    for name in names:
        noise_S = np.zeros(len(rows))
        if (
            name in labels
        ):  # the error of a median: about 1.25 standard deviations over the root of the number
            scatter_S = (columns[f"{name}{EIGHTY_FOUR}"] - columns[f"{name}{SIXTEEN}"]) / 2
            noise_S = 1.25 * scatter_S / np.sqrt(rows_S)
        elif name == "outside_training" or name.startswith(SHARE):
            middle = float(np.average(np.nan_to_num(columns[name]), weights=rows_S))
            noise_S = np.sqrt((middle * (1 - middle) + 1 / rows_S) / rows_S)
        departs_of[name] = departs(columns[name], rows_S, noise_S, odd)
    return ([name for name, flags in departs_of.items() if flags[number]] for number in range(len(rows)))


def departs(value_S: Floats, rows_S: Floats, noise_S: Floats, odd: float) -> NDArray[np.bool_]:
    """Which values are more than `odd` sigmas from their median.

    Sigma is the robust scatter of the values, larger among few shards and where a shard has fewer rows than
    most; or the noise of a value, where that is larger still.
    """
    known = np.isfinite(value_S)
    if known.sum() < LEAST:
        return np.zeros(len(value_S), bool)
    middle = np.median(value_S[known])
    scatter = robust_scatter(value_S[known]) * (1 + (FEW / known.sum()) ** 2)
    sigma_S = np.maximum(np.nan_to_num(noise_S), scatter * np.sqrt(np.maximum(np.median(rows_S) / rows_S, 1)))
    distance_S = np.abs(np.nan_to_num(value_S, nan=middle) - middle)
    return np.asarray((distance_S > odd * sigma_S) & (distance_S > ROUNDING * max(abs(middle), 1)))
