"""What a person sees of a search: its progress, its results with intervals, why
trials failed, and its plots.
"""

from collections.abc import Sequence

from survey import files
from survey.reports import study_plots
from survey.search.results import PickedTrial, TargetResult
from survey.search.schedule import TargetSchedule
from survey.search.seeds import SeedSummary
from survey.search.study_progress import progress_text
from survey.search.tune import STUDY, TABLE, SearchOutcome, tracker
from survey.training.tracking import tracking_uri

PLOTS, DRAWN = "plots", "pictures.json"


def pictures(outcome: SearchOutcome) -> list[str]:
    """Draw the plots that are missing or old, into the study and for the tracker; returns the paths of all
    plots.

    With show=true nothing is drawn.
    """
    folder = files.join(outcome.settings.study, PLOTS)
    list_file = files.join(folder, DRAWN)
    drawn: dict[str, list[str]] = files.read_json(list_file) if files.exists(list_file) else {}
    for schedule in outcome.schedules:
        if outcome.is_new or schedule.target.name not in drawn:
            drawn[schedule.target.name] = _draw(schedule, folder, outcome.winners)
            files.write_json(list_file, drawn)
    return [
        files.join(folder, name) for schedule in outcome.schedules for name in drawn[schedule.target.name]
    ]


def _draw(schedule: TargetSchedule, folder: str, winners: Sequence[str]) -> list[str]:
    """Draw all plots of a target, and give them to the tracker with the results; returns their names."""
    target, study = schedule.target.name, schedule.settings.study
    names = []
    for name, content in study_plots.pictures(schedule).items():
        names.append(f"{target}-{name}.png")
        files.write(files.join(folder, names[-1]), content)
    recipes = [path for path in winners if f"-{target}" in path.rpartition("/")[2]]
    documents = [files.join(study, name) for name in (TABLE, STUDY.file)]
    with tracker(schedule) as tracked:
        tracked.keep([*(files.join(folder, name) for name in names), *recipes, *documents])
    return names


def summary(outcome: SearchOutcome, pictures: Sequence[str]) -> str:
    """The progress of a study, its results, and where to look."""
    settings = outcome.settings
    lines = [progress_text(progress) + "\n" for progress in outcome.progress] or ["no trial yet\n"]
    lines += [result_table(name, result) + "\n" for name, result in outcome.results.items()]
    if settings.show:
        return "\n".join([*lines, f"study      {settings.study}, {_driver(outcome)}"])
    unchanged = "" if outcome.is_new else ", was finished before: nothing to do"
    lines.append(f"study      {settings.study}{unchanged}")
    if pictures:
        plots = f"{len(pictures)} plot{'s' if len(pictures) > 1 else ''}"
        folder, table = files.join(settings.study, PLOTS), files.join(settings.study, TABLE)
        lines.append(f"look at    {folder}  {plots}; {table}")
    if settings.tracking.is_on:
        uri = tracking_uri(settings.tracking, settings.study)
        lines.append(f"tracked    mlflow ui --backend-store-uri {uri}")
    if outcome.winners:
        best, *others = outcome.winners
        more = f"   (or with={', '.join(others)})" if others else ""
        lines.append(f"next       survey train RECIPE with={best} run=RUN{more}")
    return "\n".join(lines)


def _driver(outcome: SearchOutcome) -> str:
    if outcome.driver:
        return f"is run by {outcome.driver}"
    is_unfinished = any(progress.finished < progress.wanted for progress in outcome.progress)
    advice = "; the same command as before continues it" if is_unfinished else ""
    return f"is run by no process that this machine can see{advice}"


def result_table(name: str, result: TargetResult) -> str:
    """The best two trials and the recipe, and the gain over the recipe."""
    lines = [f"{name:<10} {'trial':>6} {result.metrics[0]:>14}   {'with other seeds':<32} settings"]
    for role, trial in result.picked().items():
        unchanged = "as it is" if role == "recipe" else "none changed"
        settings = " ".join(f"{key}={value}" for key, value in trial.settings.items()) or unchanged
        scores = f"{trial.trial:>6} {trial.values[0]:>14.5g}   {_seeds(trial.seeds):<32}"
        lines.append(f"  {role:<8} {scores} {settings}")
    if result.best is None:
        lines.append("  no trial reached its end")
    elif result.gain:
        lines.append(f"  gain over the recipe {_gain(result, result.best)}")
    lines += [f"  {key}: {reason}" for key, reason in result.failed_runs.items()]
    return "\n".join(lines)


def _gain(result: TargetResult, best: PickedTrial) -> str:
    gain = result.gain
    if gain is None or (result.recipe and result.recipe.trial == best.trial):
        return "nothing that was tried is better"
    text = f"{gain.by:+.4g}"
    if gain.interval:
        text += f" ({_between(gain.interval)})"
    if gain.share is not None:
        text += f", {gain.share:+.1%}"
    if gain.interval and gain.interval[0] <= 0 <= gain.interval[1]:
        text += "; not certain: the interval contains 0"
    return text


def _seeds(scores: SeedSummary) -> str:
    """A mean with its interval and the number of seeds."""
    if not scores.values:
        return "not repeated"
    interval = f" ({_between(scores.interval)})" if scores.interval else ""
    return f"{scores.mean:.4g}{interval}, {len(scores.values)} seeds"


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.4g} to {interval[1]:.4g}"
