"""The report of an evaluation: its plots and the list of residuals in its folder, and the text for the
terminal.
"""

from collections.abc import Sequence
from typing import Any

from survey import files
from survey.evaluate.drift import Drift
from survey.evaluate.result import Evaluation, EvaluationDocument
from survey.evaluate.settings import Evaluate
from survey.labels import Criterion
from survey.metrics.score import LabelledAnswers
from survey.metrics.text import metrics_text
from survey.reports import (
    class_plots,
    compare,
    drift,
    ensemble,
    isochrones,
    kiel_plots,
    label_plots,
    residuals,
)
from survey.reports.isochrones import Isochrone

PICTURES, RESIDUALS = "pictures.json", "residuals.txt"


def read_isochrones(settings: Evaluate) -> tuple[Isochrone, ...]:
    """The isochrones for Kiel diagrams; a file that cannot be read is reported before any work."""
    return isochrones.choose(settings.isochrones, settings.ages)


def pictures(evaluation: Evaluation | Drift, curves: Sequence[Isochrone] = ()) -> list[str]:
    """Draw what is not drawn yet, and write the list of residuals; the paths of all plots."""
    if isinstance(evaluation, Drift):
        return drift.write(evaluation)
    look = {
        "evaluation": [evaluation.document.id, evaluation.document.date],
        "labels_name": evaluation.calibrated.labels_name,
        "isochrones": [curve.digest for curve in curves],
    }
    drawn = _drawn(evaluation.folder)
    if not evaluation.is_new and drawn.get("look") == look:
        return [files.join(evaluation.folder, name) for name in drawn["names"]]
    old = set(drawn.get("names", []))
    paths = _draw(evaluation, curves, look)
    for name in sorted(old - {path.rpartition("/")[2] for path in paths}):
        files.remove(files.join(evaluation.folder, name))  # a plot of another evaluation
    return paths


def _drawn(folder: str) -> dict[str, Any]:
    """The names of the plots that are drawn, and their look."""
    path = files.join(folder, PICTURES)
    drawn = files.read_json(path) if files.exists(path) else {}
    return drawn if isinstance(drawn, dict) else {}


def _draw(evaluation: Evaluation, curves: Sequence[Isochrone], look: dict[str, Any]) -> list[str]:
    png_of = evaluation_pictures(evaluation.calibrated, evaluation.criterion, curves)
    png_of |= ensemble.calibration_pictures(
        evaluation.calibrated, evaluation.uncalibrated, evaluation.members
    )
    if evaluation.against is not None:
        png_of |= compare.pictures(evaluation.against)
    text = residuals.report(evaluation.calibrated, evaluation.answers())
    files.write(files.join(evaluation.folder, RESIDUALS), text.encode())
    names = [f"{name}.png" for name in png_of]
    for name, png in zip(names, png_of.values(), strict=True):
        files.write(files.join(evaluation.folder, name), png)
    files.write_json(files.join(evaluation.folder, PICTURES), {"names": names, "look": look})
    return [files.join(evaluation.folder, name) for name in names]


def summary(evaluation: Evaluation | Drift, pictures: Sequence[str]) -> str:
    """The metrics, the date of the evaluation, and where the rest is."""
    if isinstance(evaluation, Drift):
        return drift.summary(evaluation, pictures)
    document = evaluation.document
    when = "made now" if evaluation.is_new else f"made {document.date}, shown again"
    again = ""
    if document.read_before:
        again = f"; this part was evaluated {document.read_before} times before"
    blocks = [metrics_text(evaluation.metrics), residuals.by_gravity(evaluation.metrics)]
    if evaluation.uncalibrated:
        blocks += [ensemble.main_numbers(evaluation.members), ensemble.coverages(evaluation.members)]
    if evaluation.against is not None and document.against is not None:
        blocks.append(compare.summary(evaluation.against, document.against))
    lines = [
        *(f"{block}\n" for block in blocks if block),
        *(f"warning    spectra are prepared differently: {text}" for text in document.prepare_differences),
        *_labels_used(document, evaluation.calibrated.labels_name),
        *_no_truth(document),
        f"evaluated  {document.what}: {document.spectra:,} spectra, {when}{again}",
        f"look at    {evaluation.folder}  {len(pictures)} plots, {RESIDUALS}, metrics.parquet, "
        "predictions.parquet",
    ]
    return "\n".join(lines)


def _labels_used(document: EvaluationDocument, labels_name: str) -> list[str]:
    """The spectra that were left out; of evaluated predictions also the labels, and what is unknown."""
    if document.joined is None:
        text = f"left out   {document.no_answer:,} spectra without an answer"
        return [text] if document.no_answer else []
    lines = [
        f"truth      {labels_name}, from {document.key['settings']['labels']}",
        f"left out   {document.seen_in_training:,} spectra of stars that a member was trained on or that the "
        "ensemble was recalibrated with, "
        f"{document.no_answer:,} without an answer",
    ]
    if document.missing_members:
        lines.append(
            f"warning    {document.missing_members} members are not at their paths any more: these spectra "
            "may contain stars that they were trained on"
        )
    return lines


def _no_truth(document: EvaluationDocument) -> list[str]:
    """The predicted labels that were not evaluated, because the given table has no value of them."""
    missing = document.no_truth
    if not missing:
        return []
    table = document.key["settings"]["labels"]
    columns = ", ".join(f"{name}: ITS_COLUMN" for name in missing)
    return [
        f"warning    {', '.join(missing)} not evaluated: no value in {table}; if it has other names for "
        f"them, give join.columns={{{columns}}}"
    ]


def evaluation_pictures(
    labelled: LabelledAnswers, criterion: Criterion = "carbon_0.7", isochrones: Sequence[Isochrone] = ()
) -> dict[str, bytes]:
    """All plots that these answers allow.

    They are of classes, of each label (`label_FeH`), of each abundance in the Kiel diagram (`kiel_CFe`),
    and of all labels together. The criterion is that of carbon-enhanced stars, for classes by predicted
    labels.
    """
    drawn = {
        "confusion": class_plots.confusion_matrices(labelled, criterion),
        "curves": class_plots.threshold_curves(labelled),
        "reliability": class_plots.calibration(labelled),
    }
    drawn |= {f"label_{name}": label_plots.label_residuals(labelled, name) for name in labelled.labels}
    drawn |= {
        "coverage": label_plots.coverage(labelled),
        "snr": label_plots.residuals_by_snr(labelled),
        "kiel": kiel_plots.kiel(labelled, isochrones),
    }
    for name in kiel_plots.abundance_labels(labelled):
        drawn[f"kiel_{name}"] = kiel_plots.abundance(labelled, name, isochrones)
    return {name: png for name, png in drawn.items() if png is not None}
