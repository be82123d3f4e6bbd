"""A store or survey files -> predictions, exactly once, with all members in one pass.

The input decides which spectrum is in which shard. A shard is done if it has a marker of these settings, this
ensemble and this version of its spectra. All other shards are predicted by the workers of the caller (this
process, or actors of Ray). `predictions.json` is written last.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from survey import files
from survey.ensemble.calibrated_run import calibrated
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.folder import Folder
from survey.predict import inputs, numpy_arrays
from survey.predict.autotune import Autotuner, TrialRequest
from survey.predict.inputs import FilesInput, PredictionInput, StoreInput
from survey.predict.output import (
    PLAN,
    PREDICTIONS,
    VALIDATION,
    Choice,
    EnsembleReference,
    InputReference,
    MemberReference,
    PredictionMarker,
    Predictions,
    PredictionsDocument,
)
from survey.predict.settings import Predict
from survey.predict.worker import PredictionSpec, Worker
from survey.predict.workers import Workers, local_workers
from survey.progress import Progress
from survey.settings import differences
from survey.store import manifest, markers
from survey.store.ingest import RefusalsError
from survey.store.settings import Ingest
from survey.store.store import open_store, shard_file

MIN_ROWS_TO_MEASURE = 20_000
"""With fewer spectra, a trial takes longer than it saves."""

MIN_ROWS_TO_COMPILE = 200_000
"""Compiling takes a minute or more on every worker; it pays from this many spectra on."""

MIN_SHARDS_TO_COMPARE_THREADS = 100
"""Numbers of threads are compared on whole shards, about 30 of them."""


@dataclass(frozen=True)
class PredictResult:
    """Finished predictions, the number of shards that this run made, and the plan of survey files."""

    path: str
    document: PredictionsDocument
    created: int
    plan: manifest.IngestPlan | None


@dataclass(frozen=True)
class _Begun:
    """What is known before the first shard. `settings` are those of the folder's settings.json."""

    ensemble: Ensemble
    inputs: PredictionInput
    settings: dict[str, Any]
    plan: manifest.IngestPlan | None


def predict(settings: Predict, workers: Workers | None = None) -> PredictResult:
    """Makes, extends or completes predictions; if nothing is left to do, it changes nothing."""
    workers = workers or local_workers(settings.threads, settings.gpu == "auto")
    begun = _begin(settings)
    spec = _spec(settings, begun, workers)
    done = _finished_shards(spec, bool(settings.ingest.get("reread")))
    missing = [shard for shard in range(begun.inputs.shards) if shard not in done]
    _withdraw(spec.folder, missing)
    for marker in _predict_shards(workers, spec, missing, done):
        done[marker.shard] = marker
    if len(done) != begun.inputs.shards:
        raise RuntimeError(
            f"predict: {spec.folder}: {len(done)} of {begun.inputs.shards} shards were made; "
            "please report this"
        )
    document = _document(settings, spec, begun, [done[shard] for shard in sorted(done)])
    _finish(spec, document)
    _warn_of_inputs(spec, document)
    _check_refusals(settings, spec.folder, document)
    return PredictResult(spec.folder, document, len(missing), begun.plan)


def _begin(settings: Predict) -> _Begun:
    """Checks everything, writes the settings and lists the input: all before the first shard."""
    path = calibrated(settings.ensemble, settings.threads, settings.gpu == "auto")
    ensemble = open_ensemble(path)
    plain = settings.plain()
    if settings.store is not None:
        store_input = _store_input(settings, ensemble)
        first = store_input.version(0) if store_input.shards else None
        source = {"kind": store_input.kind, "path": store_input.path, "first_version": first}
        _agree(settings, plain | {"ensemble": ensemble.id, "source": source})
        return _Begun(ensemble, store_input, plain, None)
    ingest = _ingest_settings(settings, ensemble)
    plain |= {"ingest": ingest.plain()}
    source = {"kind": "files", "path": ingest.input, "first_version": None}
    _agree(settings, plain | {"ensemble": ensemble.id, "source": source})
    files_input, plan = inputs.list_files(ingest)
    return _Begun(ensemble, files_input, plain, plan)


def _store_input(settings: Predict, ensemble: Ensemble) -> StoreInput:
    store = open_store(files.absolute(str(settings.store)))
    ensemble.check_grid(store.grid, f"predict: {store.path}")
    if settings.prepared == "same":
        inputs.check_prepared(ensemble, store.prepare, f"predict: {store.path}")
    return StoreInput.from_store(store)


def _ingest_settings(settings: Predict, ensemble: Ensemble) -> Ingest:
    """How survey files are read; what the settings leave open is as in the members' training."""
    trained = ensemble.members.runs[0].document.store.prepare
    ingest = settings.ingest_settings(trained.plain(), "predict: ingest")
    ingest = ingest.model_copy(update={"store": files.absolute(settings.predictions)})
    ensemble.check_grid(ingest.prepare.wavelengths(), "predict: ingest.prepare.grid")
    if settings.prepared == "same":
        inputs.check_prepared(ensemble, ingest.prepare, "predict: ingest.prepare")
    return ingest


def _agree(settings: Predict, plain: dict[str, Any]) -> None:
    """Writes the settings of a new folder. A folder with other settings is an error once it has a shard."""
    folder = Folder(settings.predictions, PREDICTIONS)
    is_started = bool(files.names(folder.file("markers")))
    if not folder.agree(plain, started=is_started, compare=_differences):
        files.remove(folder.file(PLAN))
        folder.begin(plain)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Settings that differ. A store may have moved; survey files may be those of another night."""
    old, new = before["source"], now["source"]
    yield from differences(before | {"source": None}, now | {"source": None})
    if old["kind"] != new["kind"]:
        yield f"source={old['kind']} there, {new['kind']} now"
    elif old["path"] != new["path"] and old["first_version"] != new["first_version"]:
        yield f"store={old['path']} there, {new['path']} now, and its first spectra differ"


def _spec(settings: Predict, begun: _Begun, workers: Workers) -> PredictionSpec:
    """What every shard is predicted with; batch, precision and compilation come from a trial."""
    plan, ensemble = begun.inputs, begun.ensemble
    rows = sum(plan.rows_in(shard) for shard in range(plan.shards))
    is_compiled = settings.compile == "always" or rows >= MIN_ROWS_TO_COMPILE
    compile_mode = settings.compile if is_compiled else "never"
    request = TrialRequest(settings.batch, settings.precision, compile_mode)
    spec = PredictionSpec(
        folder=files.absolute(settings.predictions),
        ensemble=files.absolute(ensemble.path),
        ensemble_id=ensemble.id,
        inputs=plan,
        choice=request.default_choice,
        fingerprint="",
        seed=settings.seed,
        members=settings.members,
        embeddings=settings.embeddings,
        compares_threads=plan.shards >= MIN_SHARDS_TO_COMPARE_THREADS,
    )
    choice = _choice(spec, request, rows, workers)
    decisive = choice.model_dump(mode="json", exclude={"notes"})
    text = json.dumps([begun.settings, ensemble.id, decisive], sort_keys=True)
    return replace(spec, choice=choice, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16])


def _choice(spec: PredictionSpec, request: TrialRequest, rows: int, workers: Workers) -> Choice:
    """Batch, precision and compilation: as an earlier run chose, or by a trial on a worker."""
    path = files.join(spec.folder, PLAN)
    if files.exists(path):
        return Choice.model_validate(files.read_json(path))
    choice = spec.choice
    if spec.inputs.shards and (request.compile == "always" or rows >= MIN_ROWS_TO_MEASURE):
        result = next(iter(workers(partial(Autotuner, spec, request), [0])))
        choice = Choice.model_validate(result)
    files.write_json(path, choice.model_dump(mode="json"))
    return choice


def _finished_shards(spec: PredictionSpec, reread: bool) -> dict[int, PredictionMarker]:
    """The markers of finished shards: of these settings and these spectra, with all their files."""
    kinds = {"predictions": "predictions"}
    if spec.inputs.kind == "files":
        kinds["refused"] = "refused_files"
    finished = {}
    for shard, marker in markers.complete_markers(spec.folder, PredictionMarker, kinds).items():
        if shard >= spec.inputs.shards:  # the store was made again and is smaller now
            for kind in (*kinds, "markers"):
                files.remove(shard_file(spec.folder, kind, shard))
        elif marker.settings == spec.fingerprint and marker.version == spec.inputs.version(shard):
            finished[shard] = marker
    if reread:
        for shard, marker in list(finished.items()):
            if markers.missing_files_returned(spec.folder, marker):
                del finished[shard]
    return finished


def _withdraw(path: str, missing: list[int]) -> None:
    """Predictions are not finished while a shard of theirs is made again."""
    folder = Folder(path, PREDICTIONS)
    if missing and folder.is_finished() and missing[0] < folder.document().shards:
        folder.withdraw()


def _predict_shards(
    workers: Workers, spec: PredictionSpec, missing: list[int], done: dict[int, PredictionMarker]
) -> Iterator[PredictionMarker]:
    """Makes the missing shards and shows the progress."""
    if not missing:
        return
    refused = sum(sum(marker.refused.values()) for marker in done.values())
    no_answer = sum(marker.no_answer for marker in done.values())
    with Progress("predict", sum(map(spec.inputs.rows_in, missing)), "spectra") as progress:
        for result in workers(partial(Worker, spec), missing):
            marker = PredictionMarker.model_validate(result)
            refused, no_answer = refused + sum(marker.refused.values()), no_answer + marker.no_answer
            text = f"{refused:,} refused" + (f", {no_answer:,} without an answer" if no_answer else "")
            progress.add(marker.rows_in, text)
            yield marker


def _document(
    settings: Predict, spec: PredictionSpec, begun: _Begun, done: list[PredictionMarker]
) -> PredictionsDocument:
    """The document; every row of the input must be predicted or refused."""
    refused, per_class = Counter[str](), Counter[str]()
    digest = hashlib.sha256(spec.fingerprint.encode())
    for marker in done:
        refused_crc = marker.refused_files.crc if marker.refused_files else None
        digest.update(f"{marker.shard} {marker.predictions.crc} {refused_crc}\n".encode())
        refused.update(marker.refused)
        per_class.update(marker.per_class)
    rows_in, rows = sum(marker.rows_in for marker in done), sum(marker.rows for marker in done)
    if rows_in != rows + refused.total():
        raise RuntimeError(
            f"predict: {spec.folder}: {rows_in} rows in, {rows} predicted, {refused.total()} refused; "
            "please report this"
        )
    return PredictionsDocument(
        version=PREDICTIONS.version,
        id=digest.hexdigest()[:16],
        shards=len(done),
        rows_in=rows_in,
        rows=rows,
        no_answer=sum(marker.no_answer for marker in done),
        outside_training=sum(marker.outside_training for marker in done),
        refused=dict(sorted(refused.items(), key=lambda item: -item[1])),
        per_class=dict(per_class),
        labels=begun.ensemble.labels,
        classes=begun.ensemble.classes,
        units=begun.ensemble.units,
        ensemble=_ensemble_reference(spec.ensemble, begun.ensemble),
        source=InputReference(kind=begun.inputs.kind, path=begun.inputs.path, id=begun.inputs.id),
        choice=spec.choice,
        arrays=settings.arrays or numpy_arrays.exist(spec.folder),
        settings=begun.settings,
        fingerprint=spec.fingerprint,
    )


def _ensemble_reference(path: str, ensemble: Ensemble) -> EnsembleReference:
    document = ensemble.document
    return EnsembleReference(
        path=path,
        id=ensemble.id,
        members=tuple(
            MemberReference(name=member.name, path=full_path, id=member.id, model=member.model)
            for member, full_path in zip(document.members, document.paths(path), strict=True)
        ),
        calibrated=document.calibrated,
        domain=document.domain,
        ranges=document.ranges,
    )


def _finish(spec: PredictionSpec, document: PredictionsDocument) -> None:
    """Writes the arrays, the validation table and, last, the document; nothing if it is there already."""
    folder = Folder(spec.folder, PREDICTIONS)
    if folder.is_finished() and folder.document() == document:
        return
    if document.arrays:
        numpy_arrays.write(Predictions(spec.folder, document))
    validation = files.join(spec.ensemble, VALIDATION)
    if files.exists(validation):
        files.write(folder.file(VALIDATION), files.read(validation))
    folder.finish(document)


def _warn_of_inputs(spec: PredictionSpec, document: PredictionsDocument) -> None:
    """A line about predictions that hold the spectra of several inputs: perhaps only one was meant."""
    if isinstance(spec.inputs, FilesInput):
        paths = dict.fromkeys(record.input for record in spec.inputs.spec.manifest.inputs)
        if len(paths) > 1:
            logging.getLogger(__name__).warning(
                "predict: %s: holds %s spectra of %d inputs now: %s; for those of one input alone, "
                "give another predictions=",
                *(spec.folder, f"{document.rows:,}", len(paths), ", ".join(paths)),
            )


def _check_refusals(settings: Predict, folder: str, document: PredictionsDocument) -> None:
    limit = settings.largest_refused_share
    count, rows_in = sum(document.refused.values()), document.rows_in
    if count > limit * rows_in:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in document.refused.items())
        raise RefusalsError(
            f"predict: {folder}: the predictions are complete, but {count:,} of {rows_in:,} rows "
            f"({count / rows_in:.1%}) were refused, more than refuse_above={limit:g} allows ({reasons}); "
            f"read {files.join(folder, 'refused')}, then correct the input or raise refuse_above="
        )
