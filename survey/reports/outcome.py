"""What a person sees of an evaluation: its plots, in its folder, and its numbers."""

from collections.abc import Sequence

from survey import files
from survey.inference.evaluate import Outcome
from survey.inference.evaluation import text
from survey.reports import ensemble, evaluation

DRAWN = "pictures.json"


def pictures(outcome: Outcome) -> list[str]:
    """Draw what is not there yet; the paths of all plots."""
    drawn = files.join(outcome.folder, DRAWN)
    if not outcome.made and files.exists(drawn):
        return [files.join(outcome.folder, name) for name in files.read_json(drawn)]
    paths = []
    made = evaluation.pictures(outcome.judged, outcome.criterion) | ensemble.of_judged(outcome.judged, outcome.raw, outcome.compared)
    for name, png in made.items():
        paths.append(files.join(outcome.folder, f"{name}.png"))
        files.write(paths[-1], png)
    files.write_json(drawn, [path.rpartition("/")[2] for path in paths])
    return paths


def summary(outcome: Outcome, pictures: Sequence[str]) -> str:
    """The metrics, when they were made, and where the rest is."""
    about = outcome.about
    when = "made now" if outcome.made else f"made {about['date']}, shown again"
    again = f"; this part was evaluated {about['read_before']} times before" if about["read_before"] else ""
    blocks = [text(outcome.table), *([ensemble.compared(outcome.compared), ensemble.held(outcome.compared)] if outcome.raw else [])]
    lines = [
        *(f"{block}\n" for block in blocks if block),
        *(f"beware     prepared otherwise than for {told}" for told in about.get("prepared_otherwise", ())),
        f"evaluated  {about['what']}: {about['spectra']:,} spectra, {when}{again}",
        f"look at    {outcome.folder}  {len(pictures)} plots, metrics.parquet, predictions.parquet",
    ]
    return "\n".join(lines)
