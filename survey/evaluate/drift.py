"""Predictions shard by shard, also while they come in: what is told in each, and which shards are unlike the others.

A shard that departs may be another field of the sky, a night with clouds, or a fault: nothing here says which. What was read of a shard is kept, so
that looking again costs the new shards only. Shapes: S shards, N spectra of one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files
from survey.labels import CLASSES
from survey.metrics.labels import robust_scatter
from survey.predict.output import PREDICTIONS, SETTINGS
from survey.settings import SettingsError
from survey.store import markers
from survey.store.store import part

Floats = NDArray[np.float64]

BATCHES = "batches.parquet"
LEAST = 5
"""Shards from which on one of them can be unlike the others."""
SIXTEEN, EIGHTY_FOUR = "_16", "_84"
"""Endings of the columns that hold the ends of the middle 68 % of a label."""
ROUNDING = 1e-6
"""Shards that differ by less are alike, though all others be the same."""
ERROR, SHARE, FLAGS = "_err", "share_", "unlike"
"""Ending of the columns of median errors, beginning of those of class shares, and the column that names what is unlike the other shards."""


@dataclass(frozen=True)
class Trend:
    """Predictions as far as they are there: a row per shard (`table`), the classes and labels that are told, and whether they are finished."""

    path: str
    table: pa.Table
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    finished: bool
    folder: str
    new: int

    def column(self, name: str) -> Floats:
        """Numbers of a column; NaN where there is none."""
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False), np.float64)

    @property
    def unlike(self) -> dict[int, list[str]]:
        """What is unlike the other shards, by shard."""
        return {
            row["shard"]: row[FLAGS] for row in self.table.select(["shard", FLAGS]).to_pylist() if row[FLAGS]
        }


def is_predictions(path: str) -> bool:
    """Whether a folder holds predictions, finished or under way."""
    if files.exists(files.join(path, PREDICTIONS)):
        return True
    settings = files.join(path, SETTINGS)
    return files.exists(settings) and {"ensemble", "origin"} <= set(files.read_json(settings))


def trend(path: str, odd: float, to: str | None = None) -> Trend:
    """What there is of some predictions, written into `BATCHES`."""
    folder = to or files.join(path, "evaluations", "trend")
    where = files.join(folder, BATCHES)
    kept = files.read_table(where).to_pylist() if files.exists(where) else []
    known = {
        (row["shard"], row["crc"]): row for row in kept
    }  # an ensemble's shards all tell the same, so the columns are the same too
    there = markers.whole(path, {"predictions": "predictions"})
    if not there:
        raise SettingsError(
            f"evaluate: {path}: no shard of these predictions is there yet; look again once jobs/predict.py has made one"
        )
    rows, new = [], 0
    for shard, marker in sorted(there.items()):
        row = known.get((shard, marker["predictions"]["crc"]))
        new += row is None
        rows.append(row or _row(part(path, "predictions", shard), marker))
    classes = tuple(name for name in CLASSES if f"{SHARE}{name}" in rows[0])
    labels = tuple(name.removesuffix(SIXTEEN) for name in rows[0] if name.endswith(SIXTEEN))
    for row, unlike in zip(rows, _unlike(rows, classes, labels, odd), strict=True):
        row[FLAGS] = unlike
    table = pa.Table.from_pylist(rows, _schema(classes, labels))
    files.write_table(where, table)
    return Trend(path, table, classes, labels, files.exists(files.join(path, PREDICTIONS)), folder, new)


def _schema(classes: tuple[str, ...], labels: tuple[str, ...]) -> pa.Schema:
    columns: list[tuple[str, pa.DataType, str]] = [
        ("shard", pa.int64(), "shard of the predictions"),
        ("crc", pa.int64(), "checksum of its file"),
        ("rows", pa.int64(), "spectra"),
        ("silent", pa.int64(), "of these, without an answer"),
        ("snr", pa.float64(), "median signal to noise"),
        (
            "outside",
            pa.float64(),
            "share of spectra far from those of the training (domain > 1); null where that is not known",
        ),
    ]
    columns += [(f"{SHARE}{name}", pa.float64(), f"share of spectra called {name}") for name in classes]
    for name in labels:
        columns += [
            (name, pa.float64(), f"median {name}"),
            (f"{name}{ERROR}", pa.float64(), f"median error of {name}"),
        ]
        columns += [
            (f"{name}{end}", pa.float64(), f"{end[1:]} % of {name} lie below")
            for end in (SIXTEEN, EIGHTY_FOUR)
        ]
    columns.append((FLAGS, pa.list_(pa.string()), "columns by which the shard is unlike the others"))
    return pa.schema([pa.field(name, kind, metadata={"description": about}) for name, kind, about in columns])


def _row(path: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    """What is in a shard."""
    file = pq.ParquetFile(pa.BufferReader(files.read(path)))
    labels = [name.removesuffix("_spread") for name in file.schema_arrow.names if name.endswith("_spread")]
    wanted = [
        "snr",
        "domain",
        *(["said"] if "said" in file.schema_arrow.names else []),
        *labels,
        *(f"{name}{ERROR}" for name in labels),
    ]
    table = file.read(wanted, use_threads=False)
    found = {
        name: np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
        for name in table.column_names
    }
    row = {
        "shard": marker["shard"],
        "crc": marker["predictions"]["crc"],
        "rows": table.num_rows,
        "silent": marker["silent"],
    }
    row |= {
        "snr": _quantile(found["snr"], 0.5),
        "outside": _mean(found["domain"] > 1, np.isfinite(found["domain"])),
    }
    if "said" in found:
        row |= {
            f"{SHARE}{name}": _mean(found["said"] == number, found["said"] >= 0)
            for number, name in enumerate(CLASSES)
        }
    for name in labels:
        row |= {name: _quantile(found[name], 0.5), f"{name}{ERROR}": _quantile(found[f"{name}{ERROR}"], 0.5)}
        row |= {
            f"{name}{SIXTEEN}": _quantile(found[name], 0.16),
            f"{name}{EIGHTY_FOUR}": _quantile(found[name], 0.84),
        }
    return row


def _quantile(values_N: Floats, share: float) -> float | None:
    known = values_N[np.isfinite(values_N)]
    return float(np.quantile(known, share)) if len(known) else None


def _mean(yes_N: NDArray[np.bool_], known_N: NDArray[np.bool_]) -> float | None:
    return float(yes_N[known_N].mean()) if known_N.any() else None


def _unlike(
    rows: list[dict[str, Any]], classes: tuple[str, ...], labels: tuple[str, ...], odd: float
) -> Iterator[list[str]]:
    """For each shard the columns in which it departs from the others."""
    columns = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)
        for name in rows[0]
        if name != FLAGS
    }
    rows_S = np.maximum(columns["rows"], 1)
    far = {}
    for name in (
        "snr",
        "outside",
        *(f"{SHARE}{one}" for one in classes),
        *labels,
        *(f"{name}{ERROR}" for name in labels),
    ):
        noise_S = np.zeros(len(rows))
        if name in labels:  # a median is off by about 1.25 standard deviations over the root of the number
            noise_S = (
                1.25 * (columns[f"{name}{EIGHTY_FOUR}"] - columns[f"{name}{SIXTEEN}"]) / 2 / np.sqrt(rows_S)
            )
        elif name == "outside" or name.startswith(SHARE):
            middle = float(np.average(np.nan_to_num(columns[name]), weights=rows_S))
            noise_S = np.sqrt((middle * (1 - middle) + 1 / rows_S) / rows_S)
        far[name] = departs(columns[name], rows_S, noise_S, odd)
    return ([name for name, flags in far.items() if flags[number]] for number in range(len(rows)))


def departs(value_S: Floats, rows_S: Floats, noise_S: Floats, odd: float) -> NDArray[np.bool_]:
    """Which values lie more than so many sigmas from their median; sigma is their robust scatter, larger where a shard has fewer rows than most,
    or the noise of a value where that is larger still.
    """
    known = np.isfinite(value_S)
    if known.sum() < LEAST:
        return np.zeros(len(value_S), bool)
    middle = np.median(value_S[known])
    scatter = robust_scatter(value_S[known])
    sigma_S = np.maximum(np.nan_to_num(noise_S), scatter * np.sqrt(np.maximum(np.median(rows_S) / rows_S, 1)))
    far_S = np.abs(np.nan_to_num(value_S, nan=middle) - middle)
    return np.asarray((far_S > odd * sigma_S) & (far_S > ROUNDING * max(abs(middle), 1)))
