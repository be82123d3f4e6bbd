"""Predictions of small stores by untrained networks, for the tests of every room that makes some."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from survey.predict.output import open_predictions
from survey.predict.predict import PredictResult, predict
from survey.predict.settings import Predict
from survey.predict.workers import MakeWorker, Workers


def settings(folder: Path, **changes: Any) -> Predict:
    """Settings of a prediction with the ensemble and the store of a folder, or with its survey files."""
    values = {
        "ensemble": str(folder / "ensemble"),
        "store": str(folder / "store"),
        "predictions": str(folder / "predictions"),
        "threads": 1,
        "batch": 3,
    }
    return Predict.from_dict("predict", values | changes)


def predicted(folder: Path, **changes: Any) -> tuple[PredictResult, pa.Table]:
    """The result of a prediction, and its rows."""
    result = predict(settings(folder, **changes))
    return result, pa.concat_tables(open_predictions(result.path).tables())


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as numbers, NaN where it is null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False))


def stopped_after(results: int, change: Callable[[], None] | None = None) -> Workers:
    """Workers that are interrupted after so many results; before the first they may make a change."""

    def run(make_worker: MakeWorker, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        if change:
            change()
        worker = make_worker(1, 1, False)
        for number, shard in enumerate(shards):
            if number == results:
                raise KeyboardInterrupt
            yield worker(shard)

    return run
