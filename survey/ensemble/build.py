"""Runs -> an ensemble: weights, calibration, and the gain over single members, all from spectra that no
member has seen.

settings.json        the settings of the ensemble, written first
runs/                the members that were trained for this ensemble; other members stay where they are
domain.safetensors   the training spectra in the latent space of each member
line_key.safetensors the formula of [Fe/H] from indices of lines
other_kinds.safetensors  the classifier of stars of other kinds
validation.parquet   the answers about the validation spectra, calibrated and not (`_raw`), and the truth
population.parquet   the answers about a test population drawn from them, and the truth (if it is asked for)
samples.parquet      the stars of the recalibration, which do not test the ensemble (if it is asked for)
metrics.parquet      metrics of the ensemble and of each member
diversity.parquet    how alike the members are, and what the ensemble gains over the best member
ensemble.json        the document of the ensemble, written last
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from survey import files, machine
from survey.ensemble import diversity, member_scores, weights
from survey.ensemble.criterion import check_criteria, check_population, criterion_of
from survey.ensemble.drawn_stars import predict_population
from survey.ensemble.ensemble import (
    DOMAIN,
    ENSEMBLE,
    LINE_KEY,
    OTHER_KINDS,
    POPULATION,
    VALIDATION,
    Ensemble,
    EnsembleDocument,
    member_paths,
)
from survey.ensemble.fit_data import FitData, predict_fit_data
from survey.ensemble.fit_ensemble import fit_ensemble, fit_recalibration, population_of
from survey.ensemble.line_key import read_indices, signal_to_noise
from survey.ensemble.member_names import path_from, short_names
from survey.ensemble.members import check_passes, open_members
from survey.ensemble.origins import ADVICE, made_from
from survey.ensemble.recalibration import Recalibration
from survey.ensemble.settings import RUNS, Build, trainings
from survey.folder import Folder
from survey.labelling.samples import SAMPLES, Samples
from survey.labelling.samples import write as write_samples
from survey.labels import CLASSES
from survey.metrics.score import LabelledAnswers
from survey.metrics.settings import ScoreSettings
from survey.metrics.star_visits import star_numbers
from survey.models.network import Network
from survey.recipes import merge
from survey.settings import differences
from survey.store.store import open_store
from survey.training import checkpoint
from survey.training.made_from import MadeFrom
from survey.training.run import network, read_plan
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

METRICS, DIVERSITY = "metrics.parquet", "diversity.parquet"


@dataclass(frozen=True)
class BuiltEnsemble:
    """A finished ensemble: its folder and document, and whether it was built just now.

    With validation spectra it also has the metrics, the diversity of the members, and the labelled answers,
    calibrated and not.
    """

    folder: str
    document: EnsembleDocument
    metrics: pa.Table | None
    diversity: pa.Table | None
    calibrated: LabelledAnswers | None
    uncalibrated: LabelledAnswers | None
    is_new: bool


def run_locally(settings: Train) -> None:
    """Train a run in this process."""
    if plan(settings):
        learn(settings)


def build(settings: Build, train: Callable[[Train], object] = run_locally) -> BuiltEnsemble:
    """Build the ensemble; `train` trains those members that are not finished.

    A finished ensemble stays as it is. If its tables or stores have another content now, that is an error.
    """
    settings = _with_absolute_paths(settings)
    planned = trainings(settings)
    short_names(
        settings.runs or [one.run for one in planned]
    )  # a run that is given twice is an error, before any work
    folder = Folder(settings.ensemble, ENSEMBLE)
    with folder.claim(settings.plain()), folder.undone_on_error():
        return _build(settings, planned, folder, train)


def _build(
    settings: Build, planned: list[Train], folder: Folder[EnsembleDocument], train: Callable[[Train], object]
) -> BuiltEnsemble:
    values, document = settings.plain(), folder.sound_document()
    agrees = folder.agree(values, started=folder.is_finished(), allowed=(RUNS,), compare=_differences)
    content = made_from(settings, planned, document.made_from if document else MadeFrom())
    if document is not None:
        member_paths(folder.path, document)  # the members must still be there
        document.made_from.check(f"ensemble: ensemble: {folder.path}", content, ADVICE)
        return _read(folder, is_new=False)
    folder.withdraw()
    if not agrees:
        folder.begin(values, fingerprint=settings.fingerprint())
    for training in planned:
        plan(training)  # report a wrong setting of one before any is trained
    if planned:
        _check_planned(settings, planned)
    for training in planned:
        train(training)
    threads = machine.settle(settings.threads)
    device = machine.device() if settings.gpu == "auto" else torch.device("cpu")
    members = open_members(settings.runs or [one.run for one in planned], device)
    check_passes((run.net for run in members.runs), settings.passes, "ensemble")
    check_population(settings.population, criterion_of(members.runs), members.labels)
    if isinstance(settings.weights, tuple):  # report wrong weights before any spectrum is read
        weights.user_weights(members.placeholder_answers(), settings.weights)
    data = predict_fit_data(settings, members, threads)
    ensemble = fit_ensemble(settings, members, data)
    _write(settings, ensemble, data, content, *fit_recalibration(settings, ensemble, threads))
    return _read(folder, is_new=True)


def _with_absolute_paths(settings: Build) -> Build:
    changes: dict[str, Any] = {"runs": tuple(map(files.absolute, settings.runs))}
    for name in ("ensemble", "store", "labels"):
        if path := getattr(settings, name):
            changes[name] = files.absolute(path)
    stars = settings.recalibrate
    paths = {"store": _absolute(stars.store), "labels": _absolute(stars.labels)}
    changes["recalibrate"] = stars.model_copy(update=paths)
    return settings.model_copy(update=changes)


def _absolute(path: str) -> str:
    """A path as an absolute one; none stays none."""
    return files.absolute(path) if path else ""


def _check_planned(settings: Build, planned: list[Train]) -> None:
    """Report what would fail after the trainings, from their plans."""
    nets = [_planned_network(training) for training in planned]
    check_passes(nets, settings.passes, "ensemble")
    criteria = {
        training.run: training.join.criterion
        for training, net in zip(planned, nets, strict=True)
        if net.task.classifies and training.classes == CLASSES
    }
    check_criteria(criteria)
    criterion = next(iter(criteria.values()), planned[0].join.criterion)
    check_population(settings.population, criterion, {name for net in nets for name in net.task.labels})


def _planned_network(training: Train) -> Network:
    """The network of a training, as its plan has it."""
    return network(read_plan(training.run))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """The settings that differ; if other members were trained, their names instead of all their settings."""
    runs = [settings[RUNS] for settings in (old, new)]
    if all(isinstance(names, dict) for names in runs) and runs[0].keys() != runs[1].keys():
        yield f"{RUNS}={', '.join(runs[0])} there, {', '.join(runs[1])} now"
        old, new = ({key: value for key, value in one.items() if key != RUNS} for one in (old, new))
    yield from differences(_with_defaults(old), new)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an ensemble. Those that did not exist when it was made have their defaults, and its paths
    are absolute.
    """
    filled = merge(Build(ensemble="", runs=("",)).plain(), settings)
    for name in ("store", "labels"):
        filled["recalibrate"][name] = _absolute(filled["recalibrate"][name])
    if isinstance(filled.get(RUNS), dict):
        of_run = Train(store="", labels="", run="").plain()
        filled[RUNS] = {name: merge(of_run, values) for name, values in filled[RUNS].items()}
    return {name: value for name, value in filled.items() if name != RUNS or RUNS in settings}


def _write(
    settings: Build,
    ensemble: Ensemble,
    data: FitData,
    origin: MadeFrom,
    recalibration: Recalibration,
    stars: Samples | None,
) -> None:
    """Write all files of an ensemble, its document last.

    Validation spectra are of other surveys than the one of the recalibration: their labels stay.
    """
    folder, samples = Folder(settings.ensemble, ENSEMBLE), data.validation
    content, key = [], ensemble.line_key
    for file, part in (
        (DOMAIN, ensemble.domain),
        (LINE_KEY, key),
        (OTHER_KINDS, ensemble.other_kinds),
    ):
        if part:
            content.append(file)
            tensors = {name: torch.from_numpy(array) for name, array in part.to_tensors().items()}
            checkpoint.write_tensors(folder.file(file), tensors, {"version": ENSEMBLE.version})
    if data.member_answers and ensemble.document.validation.spectra:
        result = ensemble.conclude(data.member_answers, data.latents, signal_to_noise(samples.extra))
        labelled = member_scores.label_all(ensemble, result, samples)
        truth, star_N = (samples.class_N, samples.label_NL), star_numbers(samples.extra["star"])
        scoring = ScoreSettings(criterion=criterion_of(ensemble.members.runs))
        tables = {
            VALIDATION: member_scores.answers_table(result, labelled, samples, samples.labels),
            METRICS: member_scores.scores_table(labelled, scoring),
            DIVERSITY: diversity.diversity_table(
                data.member_answers, result.answers, *truth, ensemble.names, star_N
            ),
        }
        if key:
            index_NI = read_indices(open_store(data.store.path), samples.shard_row_N2)
            tables[VALIDATION] = key.add_columns(tables[VALIDATION], index_NI)
        if settings.population.spectra:
            tables[POPULATION] = predict_population(ensemble, population_of(settings, ensemble.members, data))
        for name, table in tables.items():
            files.write_table(folder.file(name), table)
            content.append(name)
    if stars is not None:
        write_samples(folder.path, stars)
        content.append(SAMPLES)
    document = ensemble.document
    members = tuple(
        member.model_copy(update={"path": path_from(folder.path, member.path)}) for member in document.members
    )
    changes: dict[str, Any] = {
        "members": members,
        "recalibration": recalibration,
        "made_from": origin,
    }
    if recalibration.labels:
        text = document.id + recalibration.model_dump_json()
        changes["id"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.finish(document.model_copy(update=changes), content)


def _read(folder: Folder[EnsembleDocument], is_new: bool) -> BuiltEnsemble:
    """A finished ensemble from its folder."""
    document = folder.document()
    if not document.validation.spectra:
        return BuiltEnsemble(folder.path, document, None, None, None, None, is_new)
    answers, metrics, diverse = (
        folder.table(name, document=document) for name in (VALIDATION, METRICS, DIVERSITY)
    )
    final, before = member_scores.read_labelled(
        answers, document.labels, document.classes, intervals=document.calibrated
    )
    return BuiltEnsemble(folder.path, document, metrics, diverse, final, before, is_new)
