"""What a person sees of a search: how far it is, what was found with intervals, why trials failed, and its plots."""

from collections.abc import Mapping, Sequence
from typing import Any

from survey import files
from survey.reports import study_plots
from survey.search.progress import text
from survey.search.target import Quest
from survey.search.tune import STUDY, TABLE, Outcome, tracker

PLOTS, DRAWN = "plots", "pictures.json"
ROLES = {"best": "best", "second": "second", "usual": "recipe"}


def pictures(outcome: Outcome) -> list[str]:
    """Draw what is not there yet, into the study and to the tracker; the paths of all plots. A study that is only looked at is left as it is."""
    folder = files.join(outcome.settings.study, PLOTS)
    drawn = files.join(folder, DRAWN)
    before: dict[str, list[str]] = files.read_json(drawn) if files.exists(drawn) else {}
    for quest in outcome.quests:
        if outcome.made or quest.aim.name not in before:
            before[quest.aim.name] = _drawn(quest, folder, outcome.winners)
            files.write_json(drawn, before)
    return [files.join(folder, name) for quest in outcome.quests for name in before[quest.aim.name]]


def _drawn(quest: Quest, folder: str, winners: Sequence[str]) -> list[str]:
    names = []
    for name, png in study_plots.pictures(quest).items():
        names.append(f"{quest.aim.name}-{name}.png")
        files.write(files.join(folder, names[-1]), png)
    own = [path for path in winners if f"-{quest.aim.name}" in path.rpartition("/")[2]]
    with tracker(quest) as tracked:
        tracked.keep(
            [
                *(files.join(folder, name) for name in names),
                *own,
                *(files.join(quest.settings.study, name) for name in (TABLE, STUDY)),
            ]
        )
    return names


def summary(outcome: Outcome, pictures: Sequence[str]) -> str:
    """How far the study is, what it found, and where to look."""
    settings = outcome.settings
    lines = [text(one) + "\n" for one in outcome.standings] or ["no trial yet\n"]
    lines += [table(name, one) + "\n" for name, one in outcome.found.items()]
    if settings.show:
        left = any(one.finished < one.wanted for one in outcome.standings)
        nobody = f"nobody seems to be at work on it{'; the same command as before goes on' if left else ''}"
        at_work = f"at work: {outcome.driver}" if outcome.driver else nobody
        return "\n".join([*lines, f"study      {settings.study}, {at_work}"])
    lines.append(f"study      {settings.study}{'' if outcome.made else ', finished before: nothing to do'}")
    if pictures:
        counted = f"{len(pictures)} plot{'s' if len(pictures) > 1 else ''}"
        lines.append(
            f"look at    {files.join(settings.study, PLOTS)}  {counted}; {files.join(settings.study, TABLE)}"
        )
    if settings.tracking.wanted():
        lines.append(f"tracked    mlflow ui --backend-store-uri {settings.tracking.address(settings.study)}")
    if outcome.winners:
        others = f"   (or with={', '.join(outcome.winners[1:])})" if outcome.winners[1:] else ""
        lines.append(f"next       python jobs/train.py RECIPE with={outcome.winners[0]} run=RUN{others}")
    return "\n".join(lines)


def table(name: str, found: Mapping[str, Any]) -> str:
    """The best two beside the recipe as it is, and what was gained."""
    metric = found["metrics"][0]
    head = f"{name:<10} {'trial':>6} {metric:>14}   {'with other seeds':<32} settings"
    lines = [head]
    for role, word in ROLES.items():
        if role in found:
            one = found[role]
            told = " ".join(f"{key}={value}" for key, value in one["set"].items()) or (
                "as it is" if role == "usual" else "none changed"
            )
            lines.append(
                f"  {word:<8} {one['trial']:>6} {one['values'][0]:>14.5g}   {_repeated(one['repeated']):<32} {told}"
            )
    if gain := found.get("gain"):
        low_high = f" ({_between(gain['interval'])})" if gain["interval"] else ""
        nothing = (
            "; no sure gain: the interval holds 0"
            if gain["interval"] and gain["interval"][0] <= 0 <= gain["interval"][1]
            else ""
        )
        share = f", {gain['share']:+.1%}" if gain["share"] is not None else ""
        itself = found["usual"]["trial"] == found["best"]["trial"]
        whole = (
            "nothing that was tried is better" if itself else f"{gain['by']:+.4g}{low_high}{share}{nothing}"
        )
        lines.append(f"  gain over the recipe {whole}")
    elif "best" not in found:
        lines.append("  no trial went to its end")
    lines += [f"  {key}: {reason}" for key, reason in found["unwell"].items()]
    return "\n".join(lines)


def _repeated(one: Mapping[str, Any]) -> str:
    """A mean with its interval and number of seeds."""
    if not one["values"]:
        return "not repeated"
    interval = f" ({_between(one['interval'])})" if one["interval"] else ""
    return f"{one['mean']:.4g}{interval}, {len(one['values'])} seeds"


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.4g} to {interval[1]:.4g}"
