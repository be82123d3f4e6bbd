"""``show=plan``: what a job would take, before it is started. Its output is not touched."""

from collections.abc import Callable
from typing import Any

from survey.arguments import load
from survey.estimate import shard_work, training_work
from survey.estimate.cost import Cost
from survey.estimate.settings import Prices

ESTIMATES: dict[str, Callable[[Any, Prices], Cost]] = {
    "ingest": shard_work.estimate_ingest,
    "predict": shard_work.estimate_prediction,
    "train": training_work.estimate_training,
    "ensemble": training_work.estimate_ensemble,
    "tune": training_work.estimate_search,
}


def text(job: str, settings: Any, assumed: list[str]) -> str:
    """What a job with these settings would take; `assumed` are workers and prices as key=value."""
    prices = load(Prices, "plan", assumed)
    return ESTIMATES[job](settings, prices).text(prices)
