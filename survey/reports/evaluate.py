"""What a person sees of an evaluation: its plots and its report of residuals, in its folder, and its numbers."""

from collections.abc import Sequence
from typing import Any

from survey import files
from survey.evaluate.drift import Trend
from survey.evaluate.evaluate import Evaluate
from survey.evaluate.result import Outcome
from survey.metrics.score import text
from survey.reports import compare, drift, ensemble, evaluation_plots, isochrones, residuals
from survey.reports.isochrones import Isochrone

DRAWN, RESIDUALS = "pictures.json", "residuals.txt"


def drawing(settings: Evaluate) -> tuple[Isochrone, ...]:
    """What is to be drawn into Kiel diagrams; read before any work, so that a file that will not do is told at once."""
    return isochrones.chosen(settings.isochrones, settings.ages)


def pictures(found: Outcome | Trend, curves: Sequence[Isochrone] = ()) -> list[str]:
    """Draw what is not there yet, and write the report of residuals; the paths of all plots."""
    if isinstance(found, Trend):
        return drift.write(found)
    looks = {"called": found.judged.called, "isochrones": [one.name for one in curves]}
    before = _drawn(found.folder)
    if not found.made and before.get("looks") == looks:
        return [files.join(found.folder, name) for name in before["names"]]
    return _draw(found, curves, looks)


def _drawn(folder: str) -> dict[str, Any]:
    """What was drawn before, and how it was to look."""
    path = files.join(folder, DRAWN)
    told = files.read_json(path) if files.exists(path) else {}
    return told if isinstance(told, dict) else {}


def _draw(found: Outcome, curves: Sequence[Isochrone], looks: dict[str, Any]) -> list[str]:
    made = evaluation_plots.pictures(found.judged, found.criterion, curves) | ensemble.of_judged(
        found.judged, found.raw, found.compared
    )
    made |= compare.pictures(found.against) if found.against is not None else {}
    files.write(files.join(found.folder, RESIDUALS), residuals.report(found.judged, found.answers()).encode())
    for name, png in made.items():
        files.write(files.join(found.folder, f"{name}.png"), png)
    files.write_json(
        files.join(found.folder, DRAWN), {"names": [f"{name}.png" for name in made], "looks": looks}
    )
    return [files.join(found.folder, f"{name}.png") for name in made]


def summary(found: Outcome | Trend, pictures: Sequence[str]) -> str:
    """The metrics, when they were made, and where the rest is."""
    if isinstance(found, Trend):
        return drift.summary(found, pictures)
    about = found.about
    when = "made now" if found.made else f"made {about['date']}, shown again"
    again = f"; this part was evaluated {about['read_before']} times before" if about["read_before"] else ""
    blocks = [text(found.table), residuals.by_gravity(found.table)]
    blocks += [ensemble.compared(found.compared), ensemble.held(found.compared)] if found.raw else []
    blocks += [compare.summary(found.against, about["against"])] if found.against is not None else []
    lines = [
        *(f"{block}\n" for block in blocks if block),
        *(f"beware     prepared otherwise than for {told}" for told in about.get("prepared_otherwise", ())),
        *_met(about, found.judged.called),
        f"evaluated  {about['what']}: {about['spectra']:,} spectra, {when}{again}",
        f"look at    {found.folder}  {len(pictures)} plots, {RESIDUALS}, metrics.parquet, predictions.parquet",
    ]
    return "\n".join(lines)


def _met(about: dict[str, Any], called: str) -> list[str]:
    """Whose labels predictions were set beside, what was left out, and what is not known of them."""
    if "met" not in about:
        return []
    told = [f"truth      {called}, of {about['key']['settings']['labels']}"]
    told += [
        f"left out   {about['met']:,} spectra of stars that a member has met in training, {about['silent']:,} without an answer"
    ]
    if about["unread"]:
        told.append(
            f"beware     {about['unread']} members are not where they were: stars that they have learned from may be among these"
        )
    return told
