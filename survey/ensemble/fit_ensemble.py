"""An ensemble, fitted to the spectra that no member has seen: weights, calibration, distances."""

import hashlib
import json
from dataclasses import replace

import numpy as np

from survey import machine
from survey.ensemble import holdout, weights
from survey.ensemble.calibration import Calibration, fit_calibration, no_calibration
from survey.ensemble.combine import Weights, anomaly_unit, combine
from survey.ensemble.criterion import criterion_of
from survey.ensemble.domain import Domain
from survey.ensemble.drawn_stars import TestPopulation
from survey.ensemble.ensemble import ENSEMBLE, Ensemble, EnsembleDocument, ValidationSize, member_fields
from survey.ensemble.fit_data import FitData
from survey.ensemble.learned_ranges import labels_as_learned
from survey.ensemble.line_key import LineKey, signal_to_noise
from survey.ensemble.members import Members
from survey.ensemble.other_kinds import OtherKinds
from survey.ensemble.recalibration import Recalibration
from survey.ensemble.settings import Build
from survey.labelling.samples import Samples
from survey.metrics.star_visits import star_numbers
from survey.settings import SettingsError
from survey.store.store import open_store


def fit_ensemble(settings: Build, members: Members, data: FitData) -> Ensemble:
    """The ensemble, fitted to the validation spectra."""
    member_weights = _fit_weights(settings, members, data)
    calibration, samples = no_calibration(members.labels, settings.coverage), data.validation
    predicts = bool(members.classes or members.labels)
    if settings.calibrate and data.member_answers and predicts:
        label_NL, notes = data.labels_for_errors(settings.errors_from)
        # a few stars beyond the ranges would make the intervals of all stars wide
        label_NL = np.where(label_NL == labels_as_learned(samples, members.runs), label_NL, np.nan)
        calibration = fit_calibration(
            combine(data.member_answers, member_weights),
            samples.class_N,
            label_NL,
            signal_to_noise(samples.extra),
            settings.coverage,
            star_numbers(samples.extra["star"]),
        )
        calibration = replace(calibration, notes=(*calibration.notes, *notes))
    domain = None
    if settings.domain:
        classes = data.training_class_N, samples.class_N
        domain = Domain.fit(data.training_latents, data.latents or None, *classes)
    stars = len(set(samples.extra["star"].to_pylist())) if len(samples) else 0
    size = ValidationSize(spectra=len(samples), stars=stars) if predicts else ValidationSize()
    (key, key_record), (others, others_record) = data.line_key, data.other_kinds
    document = EnsembleDocument(
        version=ENSEMBLE.version,
        id=_id(settings, members, member_weights, calibration, (domain, key, others)),
        **member_fields(members, member_weights),
        passes=settings.passes,
        calibrated=settings.calibrate and (calibration.is_fitted or not predicts),
        calibration=calibration,
        domain=domain is not None,
        anomaly=anomaly_unit(data.member_answers),
        line_key=key_record,
        other_kinds=others_record,
        store=data.store,
        ranges=data.ranges,
        validation=size,
        settings=settings.plain(),
        fingerprint=settings.fingerprint(),
    )
    return Ensemble(settings.ensemble, document, members, domain, key, others)


def _fit_weights(settings: Build, members: Members, data: FitData) -> Weights:
    """The weight of each member."""
    predicts = bool(members.classes or members.labels)
    if settings.weights == "validation" and data.member_answers and predicts:
        truth = data.validation.class_N, labels_as_learned(data.validation, members.runs)
        star_N = star_numbers(data.validation.extra["star"])
        return weights.fit_weights(data.member_answers, *truth, settings.metric, settings.combine, star_N)
    if isinstance(settings.weights, tuple):
        return weights.user_weights(members.placeholder_answers(), settings.weights, settings.combine)
    return weights.equal_weights(members.placeholder_answers(), settings.combine)


def _id(
    settings: Build,
    members: Members,
    weights: Weights,
    calibration: Calibration,
    parts: tuple[Domain | LineKey | OtherKinds | None, ...],
) -> str:
    """A hash of all that decides the answers."""
    values = {
        "members": [run.document.id for run in members.runs],
        "weights": weights.to_dict(),
        "passes": settings.passes,
        "calibration": calibration.to_dict(),
    }
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for part in (part for part in parts if part):
        for name, array in part.to_tensors().items():
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()[:16]


def fit_recalibration(
    settings: Build, ensemble: Ensemble, threads: machine.ThreadChooser
) -> tuple[Recalibration, Samples | None]:
    """The corrections of labels, and the stars of a survey that they come from.

    No member was trained or validated on these stars.
    """
    wanted, members = settings.recalibrate, ensemble.members
    if not wanted.store:
        return Recalibration(), None
    store = open_store(wanted.store)
    members.check_store(store)
    stars = holdout.label_samples(members, store, wanted.join.model_copy(update={"table": wanted.labels}))
    stars = stars.at(holdout.unseen(members, stars.extra))
    if not len(stars):
        raise SettingsError(
            f"ensemble: recalibrate: {wanted.store}: every labelled star of it was learned or validated on; "
            "give stars that the members have not seen"
        )
    answers, latents = members.predict_store(
        store.path,
        stars.shard_row_N2,
        "predict stars of the survey",
        precision=settings.precision,
        passes=settings.passes,
        seed=settings.seed,
        threads=threads,
    )
    result = ensemble.conclude(answers, latents, signal_to_noise(stars.extra)).answers
    star_N = np.array(stars.extra["star"].to_pylist(), object)
    fitted = Recalibration.fit(wanted.form, store.id, result, stars.labels, stars.label_NL, star_N)
    return fitted, stars


def population_of(settings: Build, members: Members, data: FitData) -> TestPopulation:
    """The test population of an ensemble."""
    store, criterion = open_store(data.store.path), criterion_of(members.runs)
    return TestPopulation(settings.population, store, data.train, data.validation, criterion, settings.seed)
