"""The answers of an ensemble and of each member with the truth, and the table of their metrics.

The table shows what the ensemble gains over its members, and what calibration changes.
Shapes: N spectra, M members, C classes, L labels.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.answers import UNCALIBRATED, Answers, Floats
from survey.ensemble.combine import MemberAnswers, Weights, combine
from survey.ensemble.diversity import ENSEMBLE_NAME
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers
from survey.labelling.samples import Samples
from survey.metrics.score import (
    KINDS,
    SCHEMA,
    TRUE,
    TRUE_CLASS,
    LabelledAnswers,
    extra_columns,
    metrics_table,
    scoring_errors,
)
from survey.metrics.settings import ScoreSettings
from survey.settings import SettingsError

BEFORE_CALIBRATION = "before calibration"
"""The name of the ensemble before calibration, among the members and the ensemble."""

WHO = pa.field(
    "who",
    pa.string(),
    metadata={"description": f"a member by its name, {ENSEMBLE_NAME}, or the ensemble {BEFORE_CALIBRATION}"},
)
WHO_SCHEMA = pa.schema([WHO, *SCHEMA])


def answered_rows(several: Sequence[Answers], where: str) -> NDArray[np.int64]:
    """The rows of the spectra that have a class and every label in all of these answers, as far as any
    spectrum has one. The log says how many others there are.
    """
    kept = [one.without_empty() for one in several]
    parts = [array for one in kept for array in (one.p_NC, one.value_NL)]
    finite = [np.isfinite(array).all(1) for array in parts if array is not None]
    row_N = np.flatnonzero(np.all(finite, 0)) if finite else np.empty(0, np.int64)
    left_out, count = len(several[0]) - len(row_N), len(several[0])
    why = "no good pixel inside view.windows, or a network that has diverged"
    if not len(row_N):
        raise SettingsError(
            f"{where}: none of {count:,} spectra has an answer ({why}); give others, or train again"
        )
    if left_out:
        logging.getLogger(__name__).warning(
            "%s: %s of %s spectra left out, without an answer (%s)", where, f"{left_out:,}", f"{count:,}", why
        )
    return row_N


def label_answers(answers: Answers, samples: Samples, labels_name: str = "true") -> LabelledAnswers:
    """Answers about labelled spectra with the truth, without labels and classes
    that have no answer at all.
    """
    answers = answers.without_empty()
    return LabelledAnswers(
        answers,
        samples.class_N,
        true_labels(samples, answers.labels),
        scoring_errors(answers),
        extra_columns(samples.extra),
        labels_name,
    )


def true_labels(samples: Samples, labels: tuple[str, ...]) -> Floats:
    """The true labels of samples in this order; NaN where they are unknown."""
    unknown_N = np.full(len(samples), np.nan)
    column_of = {name: samples.label_NL[:, number] for number, name in enumerate(samples.labels)}
    columns = [column_of.get(name, unknown_N) for name in labels]
    return np.stack(columns, 1) if columns else np.empty((len(samples), 0))


def label_all(
    ensemble: Ensemble, result: EnsembleAnswers, samples: Samples, labels_name: str = "true"
) -> dict[str, LabelledAnswers]:
    """The labelled answers of each member, of the ensemble before calibration, and of the ensemble, by name.

    A single run that is not calibrated has only the last. Intervals count only where they were calibrated.
    """
    calibrated = ensemble.document.calibrated
    answers = result.answers if calibrated else replace(result.answers, low_NL=None, high_NL=None)
    labelled = {ENSEMBLE_NAME: label_answers(answers, samples, labels_name)}
    if len(ensemble.names) == 1 and not calibrated:
        return labelled
    members = {
        name: _label_member(result.member_answers, number, samples)
        for number, name in enumerate(ensemble.names)
    }
    before = label_answers(result.uncalibrated, samples, labels_name)
    return members | {BEFORE_CALIBRATION: before} | labelled


def _label_member(member_answers: MemberAnswers, number: int, samples: Samples) -> LabelledAnswers:
    """The answers of one member, about the spectra for which it has any."""
    only_M = np.eye(member_answers.members)[number]
    weights = Weights(only_M, np.repeat(only_M[:, None], len(member_answers.labels), 1))
    has_answer_N = member_answers.has_class()[number] | member_answers.has_label()[number].any(1)
    answers = combine(member_answers, weights).at(has_answer_N)
    return label_answers(answers, samples.at(np.flatnonzero(has_answer_N)))


def answers_table(
    result: EnsembleAnswers,
    labelled: Mapping[str, LabelledAnswers],
    samples: Samples,
    labels: tuple[str, ...],
) -> pa.Table:
    """One row per spectrum: its columns in the samples, the truth, the answers, and the answers before
    calibration.

    `labels` are the true labels that the table has; the last part is there where there are such answers.
    """
    columns = {name: samples.extra[name] for name in samples.extra.column_names}
    columns[TRUE_CLASS] = pa.array(samples.class_N, pa.int8())
    truth_NL = true_labels(samples, labels)
    for number, name in enumerate(labels):
        columns[f"{TRUE}{name}"] = pa.array(truth_NL[:, number], from_pandas=True)
    arrays = result.answers.to_columns()
    if BEFORE_CALIBRATION in labelled:
        arrays |= result.uncalibrated.to_columns(UNCALIBRATED)
    columns |= {name: pa.array(array, from_pandas=True) for name, array in arrays.items()}
    return pa.table(columns)


def read_labelled(
    table: pa.Table,
    labels: tuple[str, ...],
    classes: tuple[str, ...],
    *,
    intervals: bool,
    labels_name: str = "true",
    errors: Callable[[Answers], Floats | None] = scoring_errors,
) -> tuple[LabelledAnswers, LabelledAnswers | None]:
    """The labelled answers that a table holds: calibrated, and before calibration where the table has them.

    Without `intervals` these are left out, because they were not calibrated. `errors` gives the errors to
    compare.
    """
    final = LabelledAnswers.from_table(table, labels, classes, labels_name=labels_name, errors=errors)
    if not intervals:
        final = replace(final, answers=replace(final.answers, low_NL=None, high_NL=None))
    if not any(name.endswith(UNCALIBRATED) for name in table.column_names):
        return final, None
    before = LabelledAnswers.from_table(table, labels, classes, UNCALIBRATED, labels_name, errors)
    return final, before


def scores_table(labelled: Mapping[str, LabelledAnswers], settings: ScoreSettings) -> pa.Table:
    """The metrics of the ensemble and its members by name; of members only those of all spectra together.

    The columns are those of `WHO_SCHEMA`.
    """
    tables = []
    for who, answers in labelled.items():
        kinds = KINDS if who in (ENSEMBLE_NAME, BEFORE_CALIBRATION) else ("all",)
        table = metrics_table(answers, settings, kinds)
        tables.append(table.add_column(0, WHO, [[who] * table.num_rows]))
    return pa.concat_tables(tables).cast(WHO_SCHEMA)


def metrics_of(scores: pa.Table, who: str) -> pa.Table:
    """The metrics of one of them, from the table of all."""
    chosen = scores.filter(pc.equal(scores["who"], who))
    return chosen.drop_columns(["who"]).cast(SCHEMA).combine_chunks()
