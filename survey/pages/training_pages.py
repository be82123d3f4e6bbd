"""Pages about what was trained: runs, ensembles, studies, and evaluations of them."""

from typing import Any

import numpy as np
import pyarrow as pa

from survey import files
from survey.ensemble.diversity import ENSEMBLE_NAME
from survey.ensemble.ensemble import VALIDATION, EnsembleDocument
from survey.evaluate.result import EVALUATION, METRICS, PREDICTIONS, READS, EvaluationDocument
from survey.folder import Folder
from survey.pages.answer_blocks import answer_blocks, metric_tables
from survey.pages.page_text import plain_symbol
from survey.pages.report_blocks import (
    Block,
    ReportPage,
    as_json,
    columns_of,
    facts,
    notes,
    picture_names,
    pictures,
    table,
    text,
    tiles,
)
from survey.reports.evaluate import RESIDUALS
from survey.reports.tune import PLOTS, result_table
from survey.search.tune import TABLE, StudyDocument
from survey.training.run import HISTORY, RUN, RunDocument

EVALUATIONS = "evaluations"
EPOCHS = "epochs"
"""Plots over epochs with this name move together."""


def run_page(page: ReportPage, document: RunDocument, folder: str) -> None:
    """A trained network: its curves, its evaluations, what it was trained on."""
    history = Folder(folder, RUN).table(HISTORY, document=document)
    page.add(
        "Summary",
        tiles(
            [
                ("network", document.model, f"{document.parameters:,} parameters"),
                ("task", document.task.kind, ", ".join(document.task.labels)),
                ("best epoch", document.best_epoch, f"of {document.epochs}, by {document.monitor}"),
                ("training", f"{document.training_seconds:,.0f} s", document.device),
                *((name, part.spectra, f"{part.stars:,} stars") for name, part in document.parts.items()),
            ]
        ),
        facts({"store": document.store.path, "grid": str(document.grid)}),
        text(_optional(folder, "labels.txt"), "How labels were joined"),
    )
    page.add("Training curves", *_curves(page, history), about="Drag to zoom: all plots follow.")
    _evaluations(page, folder)
    page.add("Network", text(_optional(folder, "model.txt")))
    page.add("Plots", pictures(folder, picture_names(folder)))


def _optional(folder: str, name: str) -> str:
    path = files.join(folder, name)
    return files.read(path).decode(errors="replace") if files.exists(path) else ""


def _curves(page: ReportPage, history: pa.Table) -> list[Block | None]:
    """Losses, scores of classes, errors of labels and learning rate by epoch."""
    columns = {name: _numbers(history, name) for name in history.column_names}
    epoch = ("epoch", columns.pop("epoch"))
    losses = {name: columns[name] for name in columns if name.endswith("loss") and "log_loss" not in name}
    scores = {
        name.removeprefix("validation_").replace("_", " "): columns[name]
        for name in columns
        if name.startswith(("validation_f1", "validation_accuracy", "validation_average_precision"))
        and name != "validation_f1_weighted"
    }
    r2 = {
        plain_symbol(name.removeprefix("validation_r2_")): columns[name]
        for name in columns
        if name.startswith("validation_r2_") and not name.endswith("_mean")
    }
    others = {name: columns[name] for name in ("lr",) if name in columns}
    return [
        page.curves("Loss", epoch, losses, y="loss", sync=EPOCHS),
        page.curves("Classes of the validation part", epoch, scores, y="score", sync=EPOCHS),
        page.curves("R² of the labels of the validation part", epoch, r2, y="R²", sync=EPOCHS),
        page.curves("Learning rate", epoch, others, y="learning rate", sync=EPOCHS),
    ]


def _numbers(found: pa.Table, name: str) -> np.ndarray:
    return np.asarray(found[name].cast(pa.float64()).to_numpy(zero_copy_only=False))


def _evaluations(page: ReportPage, folder: str) -> None:
    """All evaluations that are finished in the folder of a run or an ensemble."""
    inner = files.join(folder, EVALUATIONS)
    for name in sorted(files.names(inner)) if files.is_folder(inner) else []:
        evaluation = Folder(files.join(inner, name), EVALUATION)
        if evaluation.is_finished():
            _evaluation(page, evaluation.document(), evaluation.path, f"Evaluation: {name}")
    path = files.join(folder, READS)
    if files.exists(path):
        rows = [[row.get(key) for key in ("date", "what", "spectra")] for row in files.read_json(path)]
        page.add("Readings of the parts", table("", ["date", "what", "spectra"], rows, numeric=[2]))


def evaluation_page(page: ReportPage, document: EvaluationDocument, folder: str) -> None:
    """An evaluation in a folder of its own."""
    _evaluation(page, document, folder, "Evaluation")


def _evaluation(page: ReportPage, document: EvaluationDocument, folder: str, title: str) -> None:
    evaluation = Folder(folder, EVALUATION)
    answers, metrics = (evaluation.table(name, document=document) for name in (PREDICTIONS, METRICS))
    classes = document.classes
    page.add(
        title,
        facts(
            {
                "of": document.what,
                "spectra": document.spectra,
                "date": document.date,
                "earlier readings": document.read_before or None,
            }
        ),
        notes(document.prepare_differences, tone="warn"),
        *metric_tables(metrics),
        *answer_blocks(page, answers, classes) if classes else answer_blocks(page, answers),
        page.long_table("All metrics", columns_of(metrics)),
        text(_optional(folder, RESIDUALS), "Largest residuals"),
        pictures(folder, picture_names(folder), "Plots"),
    )


def ensemble_page(page: ReportPage, document: EnsembleDocument, folder: str) -> None:
    """An ensemble: members, weights, calibration, and how good its answers are."""
    weights = document.weights.to_dict()
    rows = [[member.name, member.model, member.task.kind, member.path] for member in document.members]
    page.add(
        "Summary",
        tiles(
            [
                (
                    "members",
                    len(document.members),
                    ", ".join(sorted({one.model for one in document.members})),
                ),
                ("calibrated", document.calibrated, ""),
                ("validation spectra", document.validation.spectra, f"{document.validation.stars:,} stars"),
                ("domain", document.domain, "distance from the training spectra"),
                ("second key", document.line_key.spectra or None, "spectra behind [Fe/H] from lines"),
            ]
        ),
        None
        if document.calibrated
        else notes(["It is not calibrated: do not believe its errors."], tone="warn"),
        table("Members", ["name", "network", "task", "path"], rows, numeric=[]),
        facts(
            {
                "store": document.store.path,
                "grid": str(document.grid),
                "labels": ", ".join(document.labels),
                "classes": ", ".join(document.classes),
            }
        ),
    )
    calibration = document.calibration.to_dict()
    page.add("Weights and calibration", as_json("weights", weights), as_json("calibration", calibration))
    _answers_of_ensemble(page, document, folder)
    _evaluations(page, folder)
    page.add("Plots", pictures(folder, picture_names(folder)))


def _answers_of_ensemble(page: ReportPage, document: EnsembleDocument, folder: str) -> None:
    """Answers about the validation spectra, and the metrics of the ensemble and of each member."""
    blocks: list[Block | None] = []
    path = files.join(folder, METRICS)
    if files.exists(path):
        metrics = files.read_table(path)
        for who in (ENSEMBLE_NAME, *document.names):
            blocks += metric_tables(metrics, who)
    path = files.join(folder, VALIDATION)
    if files.exists(path):
        answers = files.read_table(path)
        blocks += (
            answer_blocks(page, answers, document.classes)
            if document.classes
            else answer_blocks(page, answers)
        )
    page.add("Validation spectra", *blocks, about="These spectra chose the weights and the calibration.")


def study_page(page: ReportPage, document: StudyDocument, folder: str) -> None:
    """A search: its trials, what won, what mattered."""
    trials = files.read_table(files.join(folder, TABLE)) if files.exists(files.join(folder, TABLE)) else None
    rows: list[tuple[str, Any, str]] = []
    for name, result in document.results.items():
        counts = ", ".join(f"{count} {state}" for state, count in result.trials.items())
        best = result.best.values[0] if result.best else None
        rows += [
            (f"{name}: trials", sum(result.trials.get(state, 0) for state in ("complete", "pruned")), counts),
            (f"{name}: best {result.metrics[0]}", best, ""),
        ]
    results = "\n\n".join(result_table(name, result) for name, result in document.results.items())
    page.add("Summary", tiles(rows), text(results))
    for name, result in document.results.items():
        importance = sorted(result.importances.items(), key=lambda item: -item[1])
        lines = [[setting, f"{share:.2f}"] for setting, share in importance]
        page.add(f"What mattered: {name}", table("", ["setting", "importance"], lines))
    if trials is not None:
        simple = [field.name for field in trials.schema if not pa.types.is_nested(field.type)]
        page.add("Trials", page.long_table("", columns_of(trials, simple)))
    page.add("Plots", pictures(folder, picture_names(folder, PLOTS)))
