"""What a list of candidates says about itself in its files: what it holds, its threshold, what to expect."""

from collections.abc import Collection

from survey.catalog.candidates import CandidateRules
from survey.catalog.criteria import definitions
from survey.catalog.settings import ListName
from survey.catalog.thresholds import Threshold
from survey.catalog.votable import Parameter, TableInfo
from survey.metrics.intervals import Measure


def about_list(
    name: ListName, file: str, rules: CandidateRules, labels: Collection[str], notes: tuple[str, ...]
) -> TableInfo:
    """What the list of candidates says: `notes` on why it is short come first."""
    text = (
        f"{name} candidates ({definitions(rules.criterion)[name]}), best first; "
        f"selected by {rules.selected_by(name, labels)}"
    )
    threshold = rules.thresholds.get(name)
    if threshold is None:
        return TableInfo(file, text, notes=notes)
    withheld = [f"nothing is promised of the list: {reason}" for reason in threshold.withheld]
    return TableInfo(file, text, tuple(_parameters(threshold)), (*withheld, *notes, *threshold.notes))


def about_next_best(name: ListName, file: str, rules: CandidateRules) -> TableInfo:
    """What the list of the next best stars says."""
    text = f"the best stars that are not in the list of {name} candidates, with what keeps each of them out"
    threshold = rules.thresholds.get(name)
    return TableInfo(file, text, tuple(_parameters(threshold)[:1]) if threshold else ())


def _parameters(threshold: Threshold) -> list[Parameter]:
    """The threshold and what it was chosen for, the expected purity and completeness."""
    goal = threshold.goal
    return [
        Parameter(
            "score_threshold",
            threshold.value,
            f"a star is in the list if its {threshold.column} is at least this",
            "stat.probability;stat.min",
        ),
        Parameter("goal", goal.words, "what the threshold was chosen for", "meta.note"),
        *_measure(threshold.purity, "share of the stars in the list that belong in it"),
        *_measure(threshold.completeness, "share of the stars that belong in the list which are in it"),
    ]


def _measure(measure: Measure, text: str) -> list[Parameter]:
    """The value of an expected share, and the ends of its interval."""
    name = f"expected_{measure.metric}"
    return [
        Parameter(name, measure.value, f"{text}, to be expected", "stat.probability"),
        Parameter(
            f"{name}_low",
            measure.low,
            f"lower end of the 95 % interval of {name}",
            "stat.probability;stat.min",
        ),
        Parameter(
            f"{name}_high",
            measure.high,
            f"upper end of the 95 % interval of {name}",
            "stat.probability;stat.max",
        ),
    ]
