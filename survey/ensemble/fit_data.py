"""The spectra that an ensemble is fitted to, and what its members predict of them. Shapes: N spectra."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from survey import machine
from survey.answers import Floats
from survey.ensemble import holdout
from survey.ensemble.combine import MemberAnswers, combine
from survey.ensemble.criterion import criterion_of, with_criterion
from survey.ensemble.domain import choose_spectra
from survey.ensemble.learned_ranges import label_ranges
from survey.ensemble.line_key import TEFF, LineKey, LineKeyRecord, fit_line_key
from survey.ensemble.member_scores import answered_rows
from survey.ensemble.members import Latents, Members
from survey.ensemble.other_kinds import (
    KindSpectra,
    OtherKinds,
    OtherKindsRecord,
    fit_other_kinds,
    unlabelled_others,
    with_kind_columns,
)
from survey.ensemble.settings import Build
from survey.ensemble.weights import user_weights
from survey.labelling.samples import Samples
from survey.metrics.star_visits import star_numbers
from survey.settings import SettingsError
from survey.store.store import Store, open_store
from survey.training.run import StoreSource
from survey.training.source_settings import MAIN
from survey.training.sources import known, source_names

LEAST, LEAST_OF_OTHERS = 20, 50
"""With fewer validation stars there are no fitted weights and no calibration; with fewer stars of other
sources errors are calibrated on all."""


@dataclass(frozen=True)
class FitData:
    """The spectra that an ensemble is fitted to, and what its members predict of them.

    `member_answers` and `latents` are of the validation spectra; None and empty where there are none.
    `training_latents` are of some training spectra, for the domain, and `training_class_N` their classes.
    `ranges` are those of the training labels; `train` are the training spectra.
    """

    store: StoreSource
    train: Samples
    validation: Samples
    ranges: dict[str, tuple[float, float]]
    member_answers: MemberAnswers | None = None
    latents: Latents = field(default_factory=list)
    training_latents: Latents = field(default_factory=list)
    training_class_N: NDArray[np.int8] | None = None
    line_key: tuple[LineKey | None, LineKeyRecord] = (None, LineKeyRecord())
    other_kinds: tuple[OtherKinds | None, OtherKindsRecord] = (None, OtherKindsRecord())

    def labels_for_errors(self, errors_from: str) -> tuple[Floats, tuple[str, ...]]:
        """The true labels (N, L) that errors are calibrated on, NaN elsewhere; notes on what is missing.

        Computed stars are easier than real ones: errors that hold on them are too small on the sky.
        """
        samples = self.validation
        label_NL = samples.label_NL.copy()
        if errors_from == "all":
            return label_NL, ()
        chosen_N = np.asarray(source_names(samples) != MAIN)
        if "Teff" in samples.labels:
            teff_N = label_NL[:, samples.labels.index("Teff")]
            chosen_N &= ~((teff_N < TEFF[0]) | (teff_N > TEFF[1]))
        star_N = star_numbers(samples.extra["star"])
        notes = []
        for name, label_N in zip(samples.labels, label_NL.T, strict=True):  # a view of each column
            count = len(np.unique(star_N[chosen_N & np.isfinite(label_N)]))
            if count >= LEAST_OF_OTHERS:
                label_N[~chosen_N] = np.nan
            elif count:
                notes.append(
                    f"{name}: known of {count} of the validation stars of other sources, "
                    f"{LEAST_OF_OTHERS} are needed; "
                    "its errors are calibrated on all stars, and may be too small for real ones"
                )
        return label_NL, tuple(notes)


def predict_fit_data(
    settings: Build, members: Members, threads: machine.ThreadChooser, seen_by: Members | None = None
) -> FitData:
    """The members' answers about validation and training spectra: those of `seen_by`, else of the members."""
    store = open_store((settings.store if settings.runs else "") or members.runs[0].store_path)
    members.check_store(store)
    pool, validation, train = _fit_samples(settings, seen_by or members, store)
    answers, latents, training_latents, class_N = None, Latents(), Latents(), None
    predict = partial(
        members.predict_store, store.path, precision=settings.precision, seed=settings.seed, threads=threads
    )
    if len(validation):
        answers, latents = predict(validation.shard_row_N2, "predict validation part", passes=settings.passes)
        if members.classes or members.labels:
            row_N = _answered_rows(settings, members, answers, store.path)
            validation, answers = validation.at(row_N), answers.at(np.arange(answers.members), row_N)
            latents = [latent_ND[row_N] for latent_ND in latents]
    others: tuple[OtherKinds | None, OtherKindsRecord] = (None, OtherKindsRecord())
    if len(train) and (settings.domain or settings.other_kinds):
        chosen = train.at(choose_spectra(train.class_N, settings.seed))
        training_latents, class_N = predict(chosen.shard_row_N2, "predict training part")[1], chosen.class_N
        if settings.other_kinds and len(validation):
            fitted = KindSpectra.of_samples(chosen, training_latents)
            places = unlabelled_others(store, pool.shard_row_N2, settings.seed)
            places = holdout.not_held_out(seen_by or members, store, places)
            if len(places):
                fitted = fitted.with_others(predict(places, "predict other kinds")[1])
            others = fit_other_kinds(fitted, KindSpectra.of_samples(validation, latents))
    reference = StoreSource(path=store.path, id=store.id, prepare=store.prepare)
    key = fit_line_key(store, train, validation, settings.seed)
    ranges = label_ranges(train, members.runs)
    validation = with_kind_columns(validation, store)
    return FitData(
        reference, train, validation, ranges, answers, latents, training_latents, class_N, key, others
    )


def _answered_rows(
    settings: Build, members: Members, answers: MemberAnswers, store: str
) -> NDArray[np.int64]:
    """The rows of the validation spectra that get answers, from members with a weight above 0."""
    given = settings.weights if isinstance(settings.weights, tuple) else np.ones(len(members.runs))
    weights = user_weights(members.placeholder_answers(), given)
    return answered_rows([combine(answers, weights)], f"ensemble: {store}")


def _fit_samples(settings: Build, seen_by: Members, store: Store) -> tuple[Samples, Samples, Samples]:
    """All labelled spectra, those of the validation part, and those of the training part with labels."""
    if settings.runs and settings.labels:
        join = settings.join.model_copy(update={"table": settings.labels})
        join = holdout.with_own_columns(join, [run.document.settings for run in seen_by.runs])
        join = with_criterion(join, criterion_of(seen_by.runs))
        pool = holdout.label_samples(seen_by, store, join)
    else:
        pool = holdout.pool_samples(seen_by, store)
    seen = holdout.seen_parts(seen_by, pool.extra)
    validation, train = pool.at(seen.part("validation")), pool.at(seen.part("train"))
    if seen_by.classes or seen_by.labels:
        train = known(train)
    stars = len(set(validation.extra["star"].to_pylist())) if len(validation) else 0
    _check_enough(settings, store.path, len(pool), stars, len(train))
    return pool, validation, train


def _check_enough(settings: Build, store: str, labelled: int, validation_stars: int, train: int) -> None:
    """There are enough validation stars for what is fitted to them, and training spectra for the domain."""
    if settings.needs_validation() and not labelled:
        raise SettingsError(
            f"ensemble: {store}: is not the store of a member, so the labels of its spectra are unknown; "
            "give labels= too, or leave out store="
        )
    if settings.needs_validation() and validation_stars < LEAST:
        raise SettingsError(
            f"ensemble: {store}: {validation_stars} stars are in the validation part of a member and in the "
            "train part of none; weights and "
            f"calibration need {LEAST}; give members with one split, or calibrate=false weights=equal"
        )
    if settings.domain and not train:
        raise SettingsError(
            f"ensemble: {store}: no member was trained on a labelled spectrum in it, so the distance from "
            "the training spectra is unknown; give the store of a member, or domain=false"
        )
