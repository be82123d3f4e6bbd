"""What a person sees of an evaluation: its plots, in its folder, and its numbers."""

from collections.abc import Sequence

from survey import files
from survey.inference.evaluate import Outcome
from survey.inference.evaluation import text
from survey.reports import evaluation


def pictures(outcome: Outcome) -> list[str]:
    """Draw what is not there yet; the paths of all plots."""
    paths = []
    for name, png in ({} if not outcome.made and _drawn(outcome) else evaluation.pictures(outcome.judged, outcome.criterion)).items():
        path = files.join(outcome.folder, f"{name}.png")
        files.write(path, png)
        paths.append(path)
    return paths or _drawn(outcome)


def _drawn(outcome: Outcome) -> list[str]:
    return [files.join(outcome.folder, name) for name in files.names(outcome.folder) if name.endswith(".png")]


def summary(outcome: Outcome, pictures: Sequence[str]) -> str:
    """The metrics, when they were made, and where the rest is."""
    about = outcome.about
    when = "made now" if outcome.made else f"made {about['date']}, shown again"
    again = f"; this part was evaluated {about['read_before']} times before" if about["read_before"] else ""
    lines = [
        text(outcome.table),
        "",
        f"evaluated  {about['what']}: {about['spectra']:,} spectra, {when}{again}",
        f"look at    {outcome.folder}  {len(pictures)} plots, metrics.parquet, predictions.parquet",
    ]
    return "\n".join(lines)
