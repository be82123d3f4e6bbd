"""Predictions compared with labels from another table, such as those of GALAH or LASP, for the spectra that
both have.

Stars that a member of the ensemble was trained on or selected by, or that the ensemble was recalibrated
with, are left out. A member that is not found any more has unknown training stars; the document counts such
members.
"""

import hashlib

import numpy as np
import pyarrow as pa

from survey import files
from survey.answers import Answers, Floats
from survey.ensemble import member_scores
from survey.ensemble.diversity import ENSEMBLE_NAME
from survey.ensemble.holdout import (
    member_settings,
    present_folder,
    recalibrated,
    seen_in_training,
    with_own_classes,
    with_own_columns,
)
from survey.evaluate import result
from survey.evaluate.own_criterion import with_own_criterion
from survey.evaluate.result import MEMBERS, METRICS, PREDICTIONS, Evaluation, Key
from survey.evaluate.settings import Evaluate
from survey.labelling import join, samples
from survey.labelling.join import Labelled
from survey.labelling.rows import available_labels
from survey.metrics.score import LabelledAnswers, extra_columns
from survey.predict.output import Predictions, open_predictions
from survey.settings import SettingsError


def evaluate_predictions(settings: Evaluate) -> Evaluation:
    """Evaluate finished predictions against a table of labels."""
    table = str(settings.labels)
    predictions = open_predictions(settings.of)
    folder = settings.to or files.join(settings.of, "evaluations", name_of_labels(table, ""))
    trainings = member_settings(predictions.member_ids, predictions.path)
    joining = with_own_columns(settings.join.model_copy(update={"table": table}), trainings)
    joining = with_own_classes(joining, predictions.classes, trainings)
    join_settings = settings.join.model_copy(update={"columns": joining.columns})
    settings = with_own_criterion(settings.model_copy(update={"join": join_settings}), trainings)
    joining = joining.model_copy(update={"criterion": settings.join.criterion})
    key: Key = {"run": predictions.id, "settings": settings.plain(), **result.labels_key(table)}
    is_new = not result.is_finished(folder, key)
    if is_new:
        wanted = available_labels(joining, predictions.labels)
        if not wanted and not predictions.classes:
            raise SettingsError(
                f"evaluate: labels={table}: has none of the labels of {settings.of} "
                f"({', '.join(predictions.labels)}); "
                f"give join.columns={{{predictions.labels[0]}: its column}}, or another table"
            )
        _write(settings, predictions, join.join(joining, predictions, wanted), folder, key)
    evaluation = result.read_evaluation(folder, settings.labels_name, is_new=is_new, errors=complete_errors)
    if settings.csv:
        result.write_csv(evaluation)
    return evaluation


def name_of_labels(labels: str, store: str) -> str:
    """The folder of an evaluation with other labels: the name of their table, and a hash of its path and
    the store.
    """
    stem = labels.rstrip("/").rpartition("/")[2].partition(".")[0]
    return f"{stem}-{hashlib.sha256(f'{store}|{labels}'.encode()).hexdigest()[:6]}"


def _write(settings: Evaluate, predictions: Predictions, labelled: Labelled, folder: str, key: Key) -> None:
    """Compare the answers about the labelled spectra with the labels, and write the evaluation."""
    all_samples = samples.from_labelled(labelled, labelled.labels)
    table = _rows(predictions, labelled)
    seen_N, missing = seen_in_training(predictions.member_ids, predictions.path, all_samples.extra)
    ensemble = predictions.document.ensemble
    seen_N |= recalibrated(present_folder(ensemble.path, predictions.path, ensemble.id), all_samples.extra)
    answers = Answers.from_table(table, predictions.labels, predictions.classes)
    no_answer_N = ~answers.is_complete_N
    keep = np.flatnonzero(~seen_N & ~no_answer_N)
    if not len(keep):
        raise SettingsError(
            f"evaluate: labels={settings.labels}: no spectrum is left to evaluate {settings.of}: of "
            f"{len(all_samples):,} spectra with "
            f"labels, {seen_N.sum():,} are of stars that members were trained on, and "
            f"{no_answer_N.sum():,} have no answer; give others"
        )
    chosen, table = all_samples.at(keep), table.take(pa.array(keep))
    compared = answers.at(keep).with_labels(chosen.labels).without_empty()
    truth = LabelledAnswers(
        compared,
        chosen.class_N,
        member_scores.true_labels(chosen, compared.labels),
        complete_errors(compared),
        extra_columns(chosen.extra),
        settings.labels_name,
    )
    scores = member_scores.scores_table({ENSEMBLE_NAME: truth}, settings)
    tables = {METRICS: member_scores.metrics_of(scores, ENSEMBLE_NAME), MEMBERS: scores}
    columns = {name: chosen.extra[name] for name in chosen.extra.column_names}
    columns |= {
        "shard": pa.array(labelled.shard_N[keep]),
        "row_in_shard": pa.array(labelled.row_in_shard_N[keep]),
    }
    columns |= {"path": table["path"]} | truth.truth_columns()
    arrays = compared.to_columns()
    columns |= {name: pa.array(array, from_pandas=True) for name, array in arrays.items()}
    tables[PREDICTIONS] = pa.table(columns)
    document = result.note_reading(
        settings.of,
        name_of_labels(str(settings.labels), ""),
        len(chosen),
        key,
        labels=chosen.labels,
        classes=predictions.classes,
        intervals=True,
        joined=labelled.counts.text(),
        seen_in_training=int(seen_N.sum()),
        no_answer=int((no_answer_N & ~seen_N).sum()),
        missing_members=missing,
        no_truth=tuple(name for name in predictions.labels if name not in compared.labels),
    )
    result.write_evaluation(folder, tables, document)


def _rows(predictions: Predictions, labelled: Labelled) -> pa.Table:
    """The rows of predictions that have labels, in the order of the labels, without latents and members."""
    parts = []
    for shard in np.unique(labelled.shard_N).tolist():
        table = predictions.table(shard)
        names = [name for name in table.column_names if name != "latent" and not name.startswith("m")]
        rows = pa.array(labelled.row_in_shard_N[labelled.shard_N == shard])
        parts.append(table.select(names).take(rows))
    return pa.concat_tables(parts).combine_chunks()


def complete_errors(answers: Answers) -> Floats | None:
    """The whole errors of the labels that have one above 0 for every spectrum, NaN for the others; None
    without any.
    """
    if answers.err_NL is None:
        return None
    complete_L = (answers.err_NL > 0).all(0)
    return np.where(complete_L, answers.err_NL, np.nan) if complete_L.any() else None
