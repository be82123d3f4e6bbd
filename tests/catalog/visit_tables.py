"""Small tables of predictions for the visits of a few stars, with anything odd about them."""

from typing import Any

import numpy as np
import pyarrow as pa

from survey.labels import CLASSES
from survey.predict import output

LABELS = ("Teff", "FeH", "CH", "CFe")


def visits(star: list[int], seed: Any = 0, **replaced: Any) -> pa.Table:
    """A visit with random answers for each number of a star; given columns replace these, None = null."""
    random, count = np.random.default_rng(seed), len(star)
    p_NC = random.dirichlet(np.ones(3), count)
    columns: dict[str, Any] = {
        "path": [f"file-{number}" for number in range(count)],
        "visit": [f"visit-{number}" for number in range(count)],
        "obsid": 10**17 + np.arange(count),
        "ra": 10.0 + np.array(star) * 0.1 + random.normal(0, 1e-4, count),
        "dec": 20.0 + random.normal(0, 1e-4, count),
        "snr": random.uniform(5, 100, count),
        "flags": 2 ** random.integers(0, 8, count),
        "egp": random.normal(0, 0.1, count),
        "shard": np.zeros(count),
        "row_in_shard": np.arange(count),
        "predicted_class": p_NC.argmax(1),
        "class_entropy": -(p_NC * np.log(p_NC)).sum(1),
        "class_entropy_model": random.uniform(0, 0.1, count),
        "domain": random.uniform(0, 0.9, count),
    }
    columns |= {f"p_{name.lower()}": p_NC[:, number] for number, name in enumerate(CLASSES)}
    for name in LABELS:
        data, model = random.uniform(0.05, 0.3, (2, count))
        error = np.hypot(data, model)
        value = random.normal(0, 1, count)
        columns |= {
            name: value,
            f"{name}_err": error,
            f"{name}_err_data": data,
            f"{name}_err_model": model,
            f"{name}_spread": model / 2,
            f"{name}_low": value - 2 * error,
            f"{name}_high": value + 3 * error,
        }
    columns |= replaced
    fields = [field for field in output.schema(CLASSES, LABELS) if field.name in columns]
    return pa.table([_column(columns[field.name], field.type) for field in fields], pa.schema(fields))


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_integer(kind):
        values = np.asarray(values, np.int64)
    return pa.array(values, kind, from_pandas=pa.types.is_floating(kind))
