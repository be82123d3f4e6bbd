"""An ensemble -> its cascade, fitted to the spectra that the ensemble was fitted to, on the first use.

The fastest member is calibrated alone, as an ensemble of one, on the validation stars of the ensemble. Bounds
are fitted to these stars and to the draws of the test population, if the ensemble has one: the same draws, so
that catalogs of both choose nearly the same thresholds.
Shapes: N spectra, M members.
"""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from survey import files, machine
from survey.answers import RULED_OUT, Answers, Floats
from survey.ensemble import member_scores
from survey.ensemble.bounds import Bounds
from survey.ensemble.cascade import (
    CASCADE,
    Cascade,
    CascadeDocument,
    fastest_member,
    folder_of,
    open_cascade,
)
from survey.ensemble.drawn_stars import predict_draws
from survey.ensemble.draws import BASE, deciding
from survey.ensemble.ensemble import (
    DOMAIN,
    OTHER_KINDS,
    POPULATION,
    VALIDATION,
    Ensemble,
    EnsembleAnswers,
)
from survey.ensemble.fit_data import FitData, predict_fit_data
from survey.ensemble.fit_ensemble import fit_ensemble, fit_recalibration, population_of
from survey.ensemble.line_key import read_indices, signal_to_noise
from survey.ensemble.members import Members
from survey.ensemble.origins import ADVICE, made_from
from survey.ensemble.recalibration import Recalibration
from survey.ensemble.settings import RUNS, Build
from survey.folder import Folder
from survey.labelling.star_id import encode
from survey.labels import CLASSES, MISSING
from survey.metrics.score import TRUE_CLASS
from survey.settings import Threads
from survey.store.store import open_store
from survey.stored_paths import LostFolderError
from survey.training import checkpoint

Pair = tuple[pa.Table, pa.Table]
"""Tables of the same spectra: the answers of the fastest member alone, and those of the ensemble."""


def fitted_cascade(ensemble: Ensemble, threads: Threads = "auto") -> Cascade:
    """The cascade of an ensemble, which is fitted if it is not there."""
    fastest_member(ensemble)  # an ensemble that can have none is an error, before any work
    folder = folder_of(ensemble)
    if not _is_there(folder, ensemble):
        with folder.claim({"ensemble": ensemble.id}):
            _fit(ensemble, folder, threads)
    return open_cascade(ensemble)


def finished_cascade(ensemble: Ensemble) -> Cascade | None:
    """The cascade of an ensemble; None if it is not fitted yet."""
    fastest_member(ensemble)
    return open_cascade(ensemble) if _is_there(folder_of(ensemble), ensemble) else None


def _is_there(folder: Folder[CascadeDocument], ensemble: Ensemble) -> bool:
    """Whether the folder has a sound cascade of this ensemble."""
    document = folder.sound_document()
    return document is not None and document.ensemble == ensemble.id


def _fit(ensemble: Ensemble, folder: Folder[CascadeDocument], threads: Threads) -> None:
    logging.getLogger(__name__).info("predict: %s: is fitted, once for this ensemble", folder.path)
    number = fastest_member(ensemble)
    settings = _settings(ensemble, folder.path, number)
    kept = ensemble.document.made_from
    kept.check(f"ensemble: ensemble: {ensemble.path}", made_from(settings, (), kept), ADVICE)
    chooser = machine.settle(threads)
    member = Members((ensemble.members.runs[number],))
    data = predict_fit_data(settings, member, chooser, seen_by=ensemble.members)
    folder.withdraw()
    folder.begin({"ensemble": ensemble.id})
    fastest = fit_ensemble(settings, member, data)
    recalibration, _ = fit_recalibration(settings, fastest, chooser)
    document = fastest.document.model_copy(update={"recalibration": recalibration})
    fastest = replace(fastest, document=document)
    pairs = _tested(ensemble, fastest, data, settings)
    bounds = Bounds.fit(*_all_answers(pairs, ensemble.labels), _stars(pairs))
    _write(folder, ensemble, fastest, bounds, pairs)


def _settings(ensemble: Ensemble, folder: str, number: int) -> Build:
    """The settings of the fastest member as an ensemble of its own: those of the ensemble, its store."""
    document = ensemble.document
    values = {name: value for name, value in document.settings.items() if name != RUNS}
    if isinstance(document.settings.get(RUNS), dict):  # members that were trained know their labels
        values["labels"] = None
    runs = [ensemble.members.runs[number].path]
    values |= {"ensemble": folder, "runs": runs, "store": _store(ensemble), "weights": "equal"}
    return Build.from_dict("cascade", values)


def _store(ensemble: Ensemble) -> str:
    """The store with the validation spectra of the ensemble."""
    try:
        return ensemble.store_path
    except LostFolderError as error:
        raise LostFolderError(
            f"predict: cascade=true: {ensemble.path} has no cascade yet, and cannot be given one: {error}"
        ) from error


def _tested(ensemble: Ensemble, fastest: Ensemble, data: FitData, settings: Build) -> dict[str, Pair]:
    """The answers about the validation spectra and the test population, by the names of their files.

    They are of other surveys than the one of a recalibration: as in an ensemble, their labels stay.
    """
    ensemble, fastest = map(_not_recalibrated, (ensemble, fastest))
    samples, store = data.validation, open_store(data.store.path)
    snr_N, passes = signal_to_noise(samples.extra), ensemble.document.passes
    assert data.member_answers is not None  # there are validation spectra
    results = (
        fastest.conclude(data.member_answers, data.latents, snr_N),
        ensemble.conclude(
            *ensemble.members.predict_store(
                store.path, samples.shard_row_N2, "predict validation part", passes=passes, seed=settings.seed
            ),
            snr_N,
        ),
    )
    fast, full = (member_scores.answers_table(one, {}, samples, samples.labels) for one in results)
    if (key := ensemble.line_key) is not None:
        index_NI = read_indices(store, samples.shard_row_N2)
        fast, full = (key.add_columns(table, index_NI) for table in (fast, full))
    pairs = {VALIDATION: (fast, full)}
    if settings.population.spectra:
        number = ensemble.members.runs.index(fastest.members.runs[0])

        def conclude_fast(result: EnsembleAnswers, snr_N: Floats) -> Answers:
            answers = result.member_answers.at(np.array([number]), np.arange(len(result)))
            return fastest.conclude(answers, [result.latents[number]], snr_N).answers

        population = population_of(settings, ensemble.members, data)
        conclusions = [conclude_fast, lambda result, _: result.answers]
        fast, full = predict_draws(ensemble, population, conclusions)
        pairs[POPULATION] = fast, full
    return pairs


def _not_recalibrated(ensemble: Ensemble) -> Ensemble:
    """The ensemble with labels on the scale of its training."""
    document = ensemble.document.model_copy(update={"recalibration": Recalibration()})
    return replace(ensemble, document=document)


def _all_answers(pairs: dict[str, Pair], labels: tuple[str, ...]) -> tuple[Answers, Answers]:
    """The answers of the fastest member and of the ensemble about all tested spectra."""
    there = set.intersection(*(set(table.column_names) for pair in pairs.values() for table in pair))
    names = (
        [f"p_{name.lower()}" for name in CLASSES] + ["domain"] + [name for name in labels if name in there]
    )
    fast, full = (
        Answers.from_table(
            pa.concat_tables([deciding(pair[side]).select(names) for pair in pairs.values()]), labels, CLASSES
        )
        for side in (0, 1)
    )
    return fast, full


def _stars(pairs: dict[str, Pair]) -> NDArray[np.int64]:
    """The stars of all tested spectra, by number; a draw is of the star of its base."""
    code_N, _ = encode(pairs[VALIDATION][0]["star"].combine_chunks().cast(pa.string()))
    code_N = np.where(code_N < 0, code_N.max(initial=-1) + 1 + np.arange(len(code_N)), code_N)
    if POPULATION not in pairs:
        return code_N
    return np.concatenate([code_N, code_N[deciding(pairs[POPULATION][0])[BASE].to_numpy()]])


def _write(
    folder: Folder[CascadeDocument],
    ensemble: Ensemble,
    fastest: Ensemble,
    bounds: Bounds,
    pairs: dict[str, Pair],
) -> None:
    """Write all files of a cascade, its document last."""
    content, went_on = [], dict[str, float]()
    for file, part in ((DOMAIN, fastest.domain), (OTHER_KINDS, fastest.other_kinds)):
        if part:
            content.append(file)
            tensors = {name: torch.from_numpy(array) for name, array in part.to_tensors().items()}
            checkpoint.write_tensors(folder.file(file), tensors, {"version": CASCADE.version})
    for name, pair in pairs.items():
        ruled_out_N = bounds.rules_out(Answers.from_table(pair[0], ensemble.labels, CLASSES))
        table = _of_cascade(pair, ruled_out_N)
        files.write_table(folder.file(name), table)
        content.append(name)
        went_on = _shares(table)  # those of the population, if there is one
    member = fastest.document.members[0].model_copy(update={"path": fastest.names[0]})
    document = fastest.document.model_copy(update={"members": (member,), "settings": {}, "fingerprint": ""})
    text = f"{ensemble.id} {fastest.id} {document.recalibration} {bounds.model_dump_json()}"
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.finish(
        CascadeDocument(
            version=CASCADE.version,
            id=identity,
            ensemble=ensemble.id,
            fastest=document,
            bounds=bounds,
            went_on=went_on,
        ),
        content,
    )


def _of_cascade(pair: Pair, ruled_out_N: NDArray[np.bool_]) -> pa.Table:
    """The answers of the cascade: those of the fastest member where it rules out, else of the ensemble."""
    fast, full = pair
    mask = pa.array(ruled_out_N)
    columns = [pc.if_else(mask, fast[name], full[name]) for name in full.column_names]
    return pa.table(columns, names=full.column_names).append_column(RULED_OUT, mask)


def _shares(table: pa.Table) -> dict[str, float]:
    """The share of the spectra of each true class that all members see."""
    table = deciding(table)
    class_N = table[TRUE_CLASS].fill_null(MISSING).to_numpy()
    went_on_N = ~table[RULED_OUT].to_numpy(zero_copy_only=False)
    shares = ((name, went_on_N[class_N == number]) for number, name in enumerate(CLASSES))
    return {name: float(of_class_N.mean()) for name, of_class_N in shares if len(of_class_N)}
