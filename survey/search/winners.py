"""The best two of each aim as small files that `with=` lays over their recipe: what differs from it, and how that was found."""

from typing import Any

import yaml

from survey import files
from survey.search.results import differing
from survey.search.settings import Tune
from survey.search.space import laid_over
from survey.search.target import Quest

ENDINGS = {"best": "", "second": "-second"}
LOCAL = ("store", "labels", "run", "workers")
"""What belongs to the place of a training, not to its settings."""


def paths(settings: Tune, quest: Quest) -> dict[str, str]:
    """Where the files of an aim's best two are."""
    begins = settings.name or settings.study.rstrip("/").rpartition("/")[2]
    return {
        role: files.join(settings.winners, f"{begins}-{quest.aim.name}{ending}.yaml")
        for role, ending in ENDINGS.items()
    }


def write(settings: Tune, quest: Quest, found: dict[str, Any]) -> list[str]:
    """Write them; a file that says the same already is left alone."""
    made = []
    for role, path in paths(settings, quest).items():
        if role in found:
            text = _text(settings, quest, found, role)
            if not files.exists(path) or files.read(path).decode() != text:
                files.write(path, text.encode())
            made.append(path)
    return made


def _text(settings: Tune, quest: Quest, found: dict[str, Any], role: str) -> str:
    one, usual = found[role], found.get("usual", {})
    train = {
        name: value for name, value in laid_over(quest.aim.train, one["set"]).items() if name not in LOCAL
    }
    metric, score = found["metrics"][0], one["repeated"]
    with_seeds = (
        f"{score['mean']:.4g} (mean of {len(score['values'])} seeds)"
        if score["values"]
        else f"{one['values'][0]:.4g} (one training)"
    )
    told = {
        "about": f"{quest.aim.name}, {'the best' if role == 'best' else 'the second best'} of a search: {metric} {with_seeds} on the validation part",
        "found": {
            "study": found["study"],
            "trial": one["trial"],
            "metrics": dict(zip(found["metrics"], one["values"], strict=True)),
            "score": score["mean"] if score["values"] else one["values"][0],
            "interval": score["interval"],
            "seeds": len(score["values"]),
            "trials": found["trials"],
            "recipe": {"score": usual["repeated"]["mean"], "interval": usual["repeated"]["interval"]}
            if usual
            else None,
            "gain": found.get("gain") if role == "best" else None,
        },
        "train": differing(settings.train, train),
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=140)
