"""Runs -> an ensemble: who counts how much, what makes the answers true, and what was gained, all by spectra that no member has learned from.

settings.json        what was asked for
runs/                the members, where they were trained for this ensemble; others stay where they are
domain.safetensors   the training spectra as every member sees them
validation.parquet   what the ensemble says of its validation spectra, before (`_raw`) and after calibration, beside the truth
metrics.parquet      how right that is, and how right each member is
diversity.parquet    how alike the members are, and what is gained by asking all of them
ensemble.json        what the ensemble is: written last
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from survey import __version__, files, machine
from survey.ensemble import calibration as calibrate
from survey.ensemble import diversity, split, weights
from survey.ensemble import judged as comparison
from survey.ensemble.combine import Floats, Told, Weights, combine
from survey.ensemble.domain import Domain
from survey.ensemble.ensemble import (
    DOMAIN,
    ENSEMBLE,
    VERSION,
    Ensemble,
    Said,
    about_ensemble,
    described,
    member_paths,
    named,
    told_path,
)
from survey.ensemble.members import Latents, Members, check_passes, open_members, prepared_otherwise
from survey.ensemble.settings import RUNS, Build, trainings
from survey.labelling.samples import Samples
from survey.metrics.score import Evaluation, Judged
from survey.models.network import Network
from survey.settings import SettingsError, differences
from survey.store.store import open_store
from survey.tables.read import absolute
from survey.training import checkpoint
from survey.training import run as bundle
from survey.training.batches import chance
from survey.training.train import PLAN, Train, begin
from survey.training.worker import learn

SETTINGS, VALIDATION, METRICS, DIVERSITY = (
    "settings.json",
    "validation.parquet",
    "metrics.parquet",
    "diversity.parquet",
)
LEAST = 20
"""Fewer validation spectra say nothing of weights or errors."""
MOST = 20_000
"""So many training spectra say what the members know."""


@dataclass(frozen=True)
class Built:
    """A finished ensemble: its folder and description, whether it was made just now and, where there are validation spectra, the metrics of
    everyone, the members' diversity, and the answers (`raw`: before calibration).
    """

    folder: str
    about: dict[str, Any]
    metrics: pa.Table | None
    diversity: pa.Table | None
    judged: Judged | None
    raw: Judged | None
    made: bool


def alone(settings: Train) -> None:
    """Train in this process."""
    if begin(settings):
        learn(settings)


def build(settings: Build, train: Callable[[Train], object] = alone) -> Built:
    """Make the ensemble, by `train` first those of its members that are not there yet; one that is finished is left alone."""
    settings = settings.model_copy(
        update={
            name: absolute(path)
            for name in ("ensemble", "store", "labels")
            if (path := getattr(settings, name))
        }
    )
    settings = settings.model_copy(update={"runs": tuple(map(absolute, settings.runs))})
    planned = trainings(settings)
    named(settings.runs or [one.run for one in planned])  # a run that is given twice is told before any work
    if _agree(settings):
        return _finished(settings.ensemble, made=False)
    for one in planned:
        begin(one)  # what is wrong with one of them is told before any is trained
    check_passes(map(_network, planned), settings.passes if planned else 0, "ensemble")
    for one in planned:
        train(one)
    machine.settle(settings.threads or machine.cpus())
    device = machine.device() if settings.gpu == "auto" else torch.device("cpu")
    members = open_members(settings.runs or [one.run for one in planned], device)
    check_passes((run.net for run in members.runs), settings.passes, "ensemble")
    if isinstance(settings.weights, tuple):
        weights.fixed(
            members.speaks(), settings.weights
        )  # what is wrong with them is told before any spectrum is read
    _write(settings, *_fitted(settings, members))
    return _finished(settings.ensemble, made=True)


def _agree(settings: Build) -> bool:
    """Whether the ensemble is finished, with these settings; with others it is an error that names what differs."""
    path, folder = files.join(settings.ensemble, SETTINGS), settings.ensemble
    lasting = json.loads(json.dumps(settings.lasting(), default=str))
    if files.exists(files.join(folder, ENSEMBLE)):
        if found := list(_other(files.read_json(path)["settings"], lasting)):
            raise SettingsError(
                f"ensemble: {folder}: was made with other settings: {'; '.join(found)}; give these again, or another ensemble="
            )
        member_paths(folder, about_ensemble(folder))  # the members that it was made of are still there
        return True
    if not _begun(path) and (strangers := [name for name in files.names(folder) if name != RUNS]):
        raise SettingsError(
            f"ensemble: {folder}: holds {', '.join(strangers[:3])} but is no ensemble; give an empty or a new folder"
        )
    told = {
        "version": VERSION,
        "code": __version__,
        "fingerprint": settings.fingerprint(),
        "settings": lasting,
    }
    files.write_json(path, told)
    return False


def _begun(path: str) -> bool:
    """Whether settings are those of an ensemble: other jobs leave a file of that name too."""
    told = files.read_json(path) if files.exists(path) else None
    return isinstance(told, dict) and {RUNS, "weights"} <= told.get("settings", {}).keys()


def _other(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Where settings differ, in words; members that are not trained in both are told by their names alone."""
    named = [one[RUNS] for one in (before, now)]
    if all(isinstance(runs, dict) for runs in named) and named[0].keys() != named[1].keys():
        told = [", ".join(runs) for runs in named]
        yield f"{RUNS}={told[0]} there, {told[1]} now"
        before, now = ({key: value for key, value in one.items() if key != RUNS} for one in (before, now))
    yield from differences(before, now)


def _network(settings: Train) -> Network:
    """The network that a training will train, as its plan says."""
    plan = files.read_json(files.join(settings.run, PLAN))
    return bundle.network(plan)


@dataclass(frozen=True)
class Known:
    """The spectra that an ensemble is fitted by, and what the members say of them: of those of validation (`told` is
    None where there are none) and, as their last features, of some that they have learned from; the range of labels among the latter.
    """

    store: dict[str, Any]
    validation: Samples
    ranges: dict[str, tuple[float, float]]
    told: Told | None = None
    latents: Latents = field(default_factory=list)
    learned: Latents = field(default_factory=list)


def _known(settings: Build, members: Members) -> Known:
    """Ask the members about validation and training spectra."""
    store = open_store(settings.store or members.runs[0].about["store"]["path"])
    members.runs[0].fits(store.about["grid"], f"ensemble: {store.path}")
    for run in members.runs:
        if differing := prepared_otherwise(run, store.about["settings"]["prepare"]):
            raise SettingsError(
                f"ensemble: {store.path}: its spectra are prepared otherwise than those that {run.path} has learned from: {'; '.join(differing)}; "
                "give runs that were trained on spectra prepared alike, or another store="
            )
    given = settings.runs and settings.labels
    pool = (
        split.joined(members, store, settings.join.model_copy(update={"table": settings.labels}))
        if given
        else split.pooled(members, store)
    )
    seen = split.seen(members, pool.about)
    validation, train = pool.at(seen.part("validation")), pool.at(seen.part("train"))
    _check_enough(settings, store.path, len(pool), len(validation), len(train))
    known = Known(
        {"path": store.path, "id": store.about["id"], "prepare": store.about["settings"]["prepare"]},
        validation,
        _ranges(train),
    )
    ask = partial(members.ask_store, store.path, precision=settings.precision, seed=settings.seed)
    if len(validation):
        told, latents = ask(validation.place_N2, "validation", passes=settings.passes)
        known = replace(known, told=told, latents=latents)
    if settings.domain:
        some = np.sort(chance(settings.seed, 1).permutation(len(train))[:MOST])
        known = replace(known, learned=ask(train.place_N2[some], "training")[1])
    return known


def _ranges(train: Samples) -> dict[str, tuple[float, float]]:
    """The lowest and highest label among the spectra that members have learned from: beyond, answers are guesses."""
    known = {
        name: column[np.isfinite(column)] for name, column in zip(train.labels, train.label_NL.T, strict=True)
    }
    return {name: (float(column.min()), float(column.max())) for name, column in known.items() if column.size}


def _check_enough(settings: Build, store: str, labelled: int, validation: int, train: int) -> None:
    """What is wanted needs spectra that no member has learned from, and some that members have."""
    if settings.chooses() and not labelled:
        raise SettingsError(
            f"ensemble: {store}: is not the store of a member, so that no label of its spectra is known; give labels= too, or leave out store="
        )
    if settings.chooses() and validation < LEAST:
        raise SettingsError(
            f"ensemble: {store}: {validation} spectra are in the validation part of a member and in the train part of none; weights and calibration "
            f"need {LEAST}; give members of one split, or calibrate=false weights=equal"
        )
    if settings.domain and not train:
        raise SettingsError(
            f"ensemble: {store}: no labelled spectrum in it was trained on, so that none shows what is far from them; give the store of a member, "
            "or domain=false"
        )


def _weights(settings: Build, members: Members, known: Known) -> Weights:
    """How much each member counts."""
    if settings.weights == "validation" and known.told:
        return weights.from_validation(
            known.told, known.validation.class_N, known.validation.label_NL, settings.metric, settings.how
        )
    if isinstance(settings.weights, tuple):
        return weights.fixed(members.speaks(), settings.weights, settings.how)
    return weights.equal(members.speaks(), settings.how)


def _fitted(settings: Build, members: Members) -> tuple[Ensemble, Known]:
    """The ensemble, by what is known."""
    known = _known(settings, members)
    weighed = _weights(settings, members, known)
    calibration, some = calibrate.none(members.labels, settings.coverage), known.validation
    if settings.calibrate and known.told:
        combined = combine(known.told, weighed)
        calibration = calibrate.fit(
            combined, some.class_N, some.label_NL, comparison.snr(some), settings.coverage
        )
    domain = Domain.fit(known.learned, known.latents or None) if settings.domain else None
    about: dict[str, Any] = {"version": VERSION, "code": __version__} | described(members, weighed)
    about |= {
        "passes": settings.passes,
        "calibrated": settings.calibrate,
        "calibration": calibration.told(),
        "domain": domain is not None,
    }
    kept = {name: about[name] for name in ("weights", "passes", "calibration")} | {
        "members": [member["id"] for member in about["members"]]
    }
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    tensors: dict[str, Floats] = domain.tensors() if domain else {}
    for name, array in tensors.items():
        digest.update(name.encode() + array.tobytes())
    stars = len(set(some.about["star"].to_pylist())) if len(some) else 0
    about |= {
        "id": digest.hexdigest()[:16],
        "store": known.store,
        "ranges": known.ranges,
        "validation": {"spectra": len(some), "stars": stars},
    }
    return Ensemble(settings.ensemble, about, members, weighed, calibration, domain), known


def _write(settings: Build, ensemble: Ensemble, known: Known) -> None:
    """All files of an ensemble, its description last."""
    folder, some = settings.ensemble, known.validation
    if ensemble.domain:
        tensors = {name: torch.from_numpy(array) for name, array in ensemble.domain.tensors().items()}
        checkpoint.write_tensors(files.join(folder, DOMAIN), tensors, {"version": VERSION})
    if known.told:
        said = ensemble.concluded(known.told, known.latents, comparison.snr(some))
        judged_of = comparison.everyone(ensemble, said, some)
        alike = diversity.table(known.told, said.combined, some.class_N, some.label_NL, ensemble.names)
        tables = {
            VALIDATION: _answers(judged_of, said, some),
            METRICS: comparison.table(judged_of, Evaluation()),
            DIVERSITY: alike,
        }
        for name, content in tables.items():
            files.write_table(files.join(folder, name), content)
    members = [member | {"path": told_path(folder, member["path"])} for member in ensemble.about["members"]]
    own = {
        "settings": json.loads(json.dumps(settings.lasting(), default=str)),
        "fingerprint": settings.fingerprint(),
    }
    files.write_json(files.join(folder, ENSEMBLE), ensemble.about | {"members": members} | own)


def _answers(judged_of: dict[str, Judged], said: Said, some: Samples) -> pa.Table:
    """One row per validation spectrum: who it is, the truth, what predictions say, and what they would say without calibration."""
    columns: dict[str, Any] = {name: some.about[name] for name in some.about.column_names}
    columns["true_class"] = pa.array(some.class_N, pa.int8())
    columns |= {
        f"true_{name}": pa.array(some.label_NL[:, number], from_pandas=True)
        for number, name in enumerate(some.labels)
    }
    columns |= {name: pa.array(array, from_pandas=True) for name, array in said.columns().items()}
    raw = (
        comparison.columns(judged_of[comparison.RAW], comparison.BEFORE)
        if comparison.RAW in judged_of
        else {}
    )
    return pa.table(
        columns | {name: pa.array(array.astype(np.float32), from_pandas=True) for name, array in raw.items()}
    )


def _finished(folder: str, made: bool) -> Built:
    """A finished ensemble from its folder."""
    about = about_ensemble(folder)
    tables = (
        {name: files.read_table(files.join(folder, name)) for name in (VALIDATION, METRICS, DIVERSITY)}
        if about["validation"]["spectra"]
        else {}
    )
    judged = raw = None
    if tables:
        answers, labels, classes = tables[VALIDATION], about["labels"], about["classes"]
        judged = comparison.read_back(answers, labels, classes, "true_class")
        if any(name.endswith(comparison.BEFORE) for name in answers.column_names):
            raw = comparison.read_back(answers, labels, classes, "true_class", comparison.BEFORE)
    return Built(folder, about, tables.get(METRICS), tables.get(DIVERSITY), judged, raw, made)
