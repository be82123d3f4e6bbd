"""Whatever there is to evaluate: a run or an ensemble is asked; predictions are judged by labels, or without any looked at shard by shard."""

from survey.evaluate.against_labels import outside
from survey.evaluate.drift import Trend, is_predictions, trend
from survey.evaluate.evaluate import Evaluate, evaluate
from survey.evaluate.result import Outcome
from survey.settings import SettingsError

ASKED = {
    "against": "the runs themselves with of=",
    "store": "the ensemble with of=",
    "passes": "the ensemble with of=",
}
"""What predictions cannot be asked for any more, and what can be."""


def review(settings: Evaluate) -> Outcome | Trend:
    """Evaluate what the settings name."""
    if not is_predictions(settings.of):
        return evaluate(settings)
    for name, advice in ASKED.items():
        if getattr(settings, name):
            raise SettingsError(
                f"evaluate: {name}: {settings.of} holds predictions, which are made; leave it out, or give {advice}"
            )
    if settings.labels is None:
        return trend(settings.of, settings.odd, settings.to)
    return outside(settings)
