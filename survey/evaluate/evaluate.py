"""A run or an ensemble, evaluated on spectra with known labels; or predictions, evaluated against labels or
by their drift.

Several runs and ensembles may be compared: then all answer about the same spectra, of stars that none of
them was trained on or selected by.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from survey import files, machine
from survey.ensemble import holdout, member_scores
from survey.ensemble.diversity import ENSEMBLE_NAME
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers, open_ensemble, single_member
from survey.ensemble.line_key import signal_to_noise
from survey.ensemble.members import check_passes
from survey.evaluate import compare, result
from survey.evaluate.against_labels import evaluate_predictions, name_of_labels
from survey.evaluate.drift import Drift, is_predictions, measure_drift
from survey.evaluate.own_criterion import with_own_criterion
from survey.evaluate.result import AGAINST, MEMBERS, METRICS, PREDICTIONS, Evaluation, EvaluationDocument, Key
from survey.evaluate.settings import Evaluate
from survey.labelling.samples import Samples
from survey.labels import CLASSES
from survey.machine import ThreadChooser
from survey.metrics.score import LabelledAnswers
from survey.settings import SettingsError
from survey.store.store import Store, open_store
from survey.training.run import Run
from survey.training.settings import Precision

NOT_FOR_PREDICTIONS = {
    "against": "the runs themselves with of=",
    "store": "the ensemble with of=",
    "passes": "the ensemble with of=",
}
"""Settings that predictions cannot use, and what to give instead."""


def evaluate(settings: Evaluate) -> Evaluation | Drift:
    """Evaluate what the settings name: a run, an ensemble or predictions."""
    if not is_predictions(settings.of):
        return evaluate_ensemble(settings)
    for name, instead in NOT_FOR_PREDICTIONS.items():
        if getattr(settings, name):
            raise SettingsError(
                f"evaluate: {name}: {settings.of} holds predictions, which cannot use it; leave it out, or "
                f"give {instead}"
            )
    if settings.labels is None:
        return measure_drift(settings.of, settings.odd, settings.to)
    return evaluate_predictions(settings)


def evaluate_ensemble(settings: Evaluate) -> Evaluation:
    """Evaluate a run or an ensemble on a part of its samples, or on other labelled spectra, and write the
    result.
    """
    ensemble = open_ensemble(settings.of, machine.device())
    if not (ensemble.classes or ensemble.labels):
        raise SettingsError(
            f"evaluate: of={settings.of}: it predicts neither classes nor labels, so there is nothing to "
            "compare; give it to survey predict with embeddings=true, and the predictions to survey latent"
        )
    compared = compare.open_all(settings.of, ensemble, settings.against)
    passes = _passes(settings, ensemble)
    trainings = [run.document.settings for run in ensemble.members.runs]
    if settings.labels:
        join = settings.join.model_copy(update={"table": settings.labels})
        own = holdout.with_own_columns(join, trainings)
        join = settings.join.model_copy(update={"columns": own.columns})
        settings = settings.model_copy(update={"join": join})
    settings = with_own_criterion(settings, trainings)
    folder = settings.to or files.join(settings.of, "evaluations", _name(settings))
    key = _key(settings, compared, ensemble, passes)
    if settings.labels:
        key |= {"store": open_store(settings.store or ensemble.store_path).id}
        key |= result.labels_key(settings.labels)
    is_new = not result.is_finished(folder, key)
    if is_new:
        threads = machine.settle(settings.threads)
        samples, store = _samples(settings, ensemble)
        samples, left_out = compare.fair_samples(
            compared, samples, "test" if settings.labels else settings.split
        )
        compare.check_comparison(compared, store, samples, left_out)
        ensembles = compared or {settings.of: ensemble}
        answers = _answers(settings, ensembles, samples, store.path, passes, threads)
        row_N = member_scores.answered_rows(
            [one.answers for one in answers.values()], f"evaluate: {settings.of}"
        )
        changes: dict[str, Any] = {"no_answer": len(samples) - len(row_N)}
        samples = samples.at(row_N)
        tables = _tables(settings, ensembles, {name: one.at(row_N) for name, one in answers.items()}, samples)
        document = _document(settings, key, ensembles, samples, store)
        if compared:
            changes["against"] = compare.describe_comparison(compared, left_out)
        result.write_evaluation(folder, tables, document.model_copy(update=changes))
    evaluation = result.read_evaluation(folder, settings.labels_name, is_new=is_new)
    if settings.csv:
        result.write_csv(evaluation)
    return evaluation


def _answers(
    settings: Evaluate,
    ensembles: Mapping[str, Ensemble],
    samples: Samples,
    store: str,
    passes: int,
    threads: ThreadChooser,
) -> dict[str, EnsembleAnswers]:
    """The answers of all that are compared by name, the one that is evaluated first."""
    answers: dict[str, EnsembleAnswers] = {}
    for name, one in ensembles.items():
        own_passes = one.document.passes if answers else passes
        answers[name] = _predict(one, samples, store, settings.precision, own_passes, threads)
    return answers


def _tables(
    settings: Evaluate,
    ensembles: Mapping[str, Ensemble],
    answers: Mapping[str, EnsembleAnswers],
    samples: Samples,
) -> dict[str, pa.Table]:
    """The tables of an evaluation, from the answers of all that are compared."""
    first, *others = ensembles
    ensemble = ensembles[first]
    labelled = member_scores.label_all(ensemble, answers[first], samples, settings.labels_name)
    scores = member_scores.scores_table(labelled, settings)
    tables = {
        METRICS: member_scores.metrics_of(scores, ENSEMBLE_NAME),
        MEMBERS: scores,
        PREDICTIONS: member_scores.answers_table(answers[first], labelled, samples, ensemble.labels),
    }
    if others:
        labelled_of = {first: labelled[ENSEMBLE_NAME]}
        for name in others:
            has_same = (ensembles[name].classes or CLASSES) == (ensemble.classes or CLASSES)
            known = samples if has_same else holdout.without_classes(samples)
            labelled_of[name] = member_scores.label_answers(answers[name].answers, known)
        stars = samples.extra["star"].to_pylist()
        tables[AGAINST] = compare.comparison_table(labelled_of, stars, settings)
    return tables


def predict_labelled(
    of: Run | Ensemble,
    samples: Samples,
    store: str,
    precision: Precision = "float32",
    passes: int = 0,
    threads: ThreadChooser | None = None,
) -> LabelledAnswers:
    """The answers of a run or an ensemble about labelled spectra, with the truth."""
    ensemble = single_member(of) if isinstance(of, Run) else of
    answers = _predict(ensemble, samples, store, precision, passes, threads).answers
    return member_scores.label_answers(answers, samples)


def _predict(
    ensemble: Ensemble,
    samples: Samples,
    store: str,
    precision: str,
    passes: int,
    threads: ThreadChooser | None,
) -> EnsembleAnswers:
    member_answers, latents = ensemble.members.predict_store(
        store, samples.shard_row_N2, "evaluate", precision=precision, passes=passes, threads=threads
    )
    return ensemble.conclude(member_answers, latents, signal_to_noise(samples.extra))


def _passes(settings: Evaluate, ensemble: Ensemble) -> int:
    """The number of dropout passes; calibrated errors hold only for the number that they were fitted with."""
    fitted = ensemble.document.passes
    passes = fitted if settings.passes is None else settings.passes
    if ensemble.document.calibrated and passes != fitted:
        raise SettingsError(
            f"evaluate: passes={passes}: the ensemble {settings.of} was calibrated with {fitted}; give "
            f"{fitted} or null"
        )
    check_passes((run.net for run in ensemble.members.runs), passes, "evaluate")
    return passes


def _key(settings: Evaluate, compared: Mapping[str, Ensemble], ensemble: Ensemble, passes: int) -> Key:
    key: Key = {"run": ensemble.id, "settings": settings.plain() | {"passes": passes}}
    if compared:
        key["against"] = {name: other.id for name, other in list(compared.items())[1:]}
    return key


def _name(settings: Evaluate) -> str:
    """The folder of an evaluation among those of one run or ensemble."""
    name: str = settings.split
    if settings.labels:
        name = name_of_labels(settings.labels, str(settings.store))
    if settings.against:
        name += f"-against-{hashlib.sha256('|'.join(settings.against).encode()).hexdigest()[:6]}"
    return name


def _samples(settings: Evaluate, ensemble: Ensemble) -> tuple[Samples, Store]:
    """The labelled spectra to evaluate, and their store."""
    trained, kind = ensemble.document.store, "run" if len(ensemble.members.runs) == 1 else "ensemble"
    store = open_store(settings.store or ensemble.store_path)
    if settings.labels:
        return _unseen_samples(settings, ensemble, store, kind), store
    if store.id != trained.id:
        raise SettingsError(
            f"evaluate: {store.path}: is not the store that the {kind} was trained on (id {trained.id}, "
            f"here {store.id}), so there "
            "are no labels to compare with; give labels= too, or store= with the present path of that store"
        )
    samples = holdout.part_samples(ensemble.members, store, settings.split)
    if settings.split == "test" and len(samples):
        samples = samples.at(np.flatnonzero(~holdout.recalibrated(ensemble.path, samples.extra)))
    if not len(samples):
        raise SettingsError(
            f"evaluate: split={settings.split}: the {kind} {settings.of} has no spectra of this part in "
            f"{store.path}; give another split, or store= and labels= of stars that it has not seen"
        )
    return samples, store


def _unseen_samples(settings: Evaluate, ensemble: Ensemble, store: Store, kind: str) -> Samples:
    """The spectra of a store with labels from another table, of stars that no member was trained on or
    selected by and that the ensemble was not recalibrated with.
    """
    ensemble.check_grid(store.grid, f"evaluate: {store.path}")
    join = settings.join.model_copy(update={"table": settings.labels})
    samples = holdout.label_samples(ensemble.members, store, join)
    unseen = holdout.unseen_by(ensemble, samples.extra)
    if not len(unseen):
        raise SettingsError(
            f"evaluate: labels={settings.labels}: the {kind} was trained on all of these stars, selected by "
            "them, or recalibrated with them; give others"
        )
    return samples.at(unseen)


def _document(
    settings: Evaluate, key: Key, ensembles: Mapping[str, Ensemble], samples: Samples, store: Store
) -> EvaluationDocument:
    """The document; the evaluation is noted in the folders of all that answered, the evaluated one first."""
    what = _name(settings)
    first, *others = ensembles.values()
    runs = [run for ensemble in ensembles.values() for run in ensemble.members.runs]
    differing = [
        f"{run.path}: {text}"
        for run in runs
        for text in run.document.store.prepare.differences(store.prepare)
    ]
    document = result.note_reading(
        first.path,
        what,
        len(samples),
        key,
        labels=first.labels,
        classes=first.classes,
        intervals=first.document.calibrated,
        prepare_differences=tuple(differing),
        no_truth=_no_truth(samples) if settings.labels else (),
    )
    for other in others:
        result.note_reading(
            other.path, what, len(samples), key | {"run": other.id}, labels=(), classes=(), intervals=False
        )
    return document


def _no_truth(samples: Samples) -> tuple[str, ...]:
    """The labels of which no spectrum has a value."""
    values = zip(samples.labels, samples.label_NL.T, strict=True)
    return tuple(name for name, label_N in values if not np.isfinite(label_N).any())
