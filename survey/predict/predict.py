"""A store or survey files -> predictions, exactly once, with all members in one pass.

The input decides which spectrum is in which shard. A shard is done if it has a marker of these settings, this
ensemble and this version of its spectra. All other shards are predicted by the workers of the caller (this
process, or actors of Ray). `predictions.json` is written last.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from survey import checked, files, machine
from survey.ensemble.calibrated_run import calibrated
from survey.ensemble.cascade import Cascade, folder_of
from survey.ensemble.ensemble import ENSEMBLE, Ensemble, open_ensemble
from survey.ensemble.fit_cascade import finished_cascade, fitted_cascade
from survey.folder import Folder
from survey.predict import inputs, numpy_arrays
from survey.predict.autotune import Autotuner, TrialRequest
from survey.predict.describe import describe
from survey.predict.inputs import PredictionInput, StoreInput
from survey.predict.output import (
    ARRAYS,
    PLAN,
    POPULATION,
    PREDICTIONS,
    VALIDATION,
    Choice,
    PredictionMarker,
    Predictions,
    PredictionsDocument,
)
from survey.predict.settings import Predict
from survey.predict.worker import PredictionSpec, Worker
from survey.predict.workers import Workers, local_workers
from survey.progress import Progress
from survey.recipes import shipped
from survey.settings import SettingsError, differences
from survey.store import manifest
from survey.store.ingest import RefusalsError
from survey.store.markers import (
    SHARDS,
    complete_markers,
    marker_table,
    readable_now,
    refused_examples,
    shard_file,
)
from survey.store.settings import Ingest
from survey.store.store import open_store

MIN_ROWS_TO_MEASURE = 20_000
"""With fewer spectra, a trial takes longer than it saves."""

MIN_ROWS_TO_COMPILE = 200_000
"""Compiling takes a minute or more on every worker; it pays from this many spectra on."""

OF_THE_SHARDS = {"ensemble", "store", "input", "ingest", "calibrate", "cascade"}
"""Settings besides those of the result that decide what is in a shard."""

MIN_SHARDS_TO_COMPARE_THREADS = 100
"""Numbers of threads are compared on whole shards, about 30 of them."""


@dataclass(frozen=True)
class PredictResult:
    """Finished predictions, and the number of shards that this run made.

    Of survey files: the plan, the inputs that the predictions are of, and what was assumed of tables.
    """

    path: str
    document: PredictionsDocument
    created: int
    plan: manifest.IngestPlan | None
    inputs: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Begun:
    """What is known before the first shard. `settings` are those of the folder's settings.json."""

    ensemble: Ensemble
    inputs: PredictionInput
    settings: dict[str, Any]
    plan: manifest.IngestPlan | None
    note: str = ""
    cascade: Cascade | None = None

    @property
    def tested(self) -> str:
        """The folder with the tables of tested stars: that of the cascade, or of the ensemble."""
        return folder_of(self.ensemble).path if self.cascade else self.ensemble.path


def predict(settings: Predict, workers: Workers | None = None) -> PredictResult:
    """Makes, extends or completes predictions; if nothing is left to do, it changes nothing."""
    folder = Folder(files.absolute(settings.predictions), PREDICTIONS)
    with folder.claim(settings.plain() | settings.model_dump(mode="json", include=OF_THE_SHARDS)):
        result = _predict(
            settings, folder, workers or local_workers(settings.threads, settings.gpu == "auto")
        )
    machine.release_memory()
    _check_refusals(settings, folder.path, result.document)
    return result


def _predict(settings: Predict, folder: Folder[PredictionsDocument], workers: Workers) -> PredictResult:
    with folder.undone_on_error():
        begun = begin(settings)
    spec = make_spec(settings, begun, workers)
    before = folder.sound_document()
    done = _finished_shards(spec, settings)
    missing = [shard for shard in range(begun.inputs.shards) if shard not in done]
    if before is None or (missing and missing[0] < before.shards):
        folder.withdraw()  # predictions are not finished while a shard of theirs is made again
        before = None
    for marker in _predict_shards(workers, spec, missing, done):
        done[marker.shard] = marker
    if len(done) != begun.inputs.shards:
        raise RuntimeError(
            f"predict: {spec.folder}: {len(done)} of {begun.inputs.shards} shards were made; "
            "please report this"
        )
    markers = [done[shard] for shard in sorted(done)]
    document = describe(spec, begun.ensemble, begun.settings, settings.arrays, markers, begun.cascade)
    if before is None or before.model_copy(update={"content": {}}) != document:
        before = _finish(folder, begun.tested, document, done)
    return PredictResult(spec.folder, before, len(missing), begun.plan, begun.inputs.paths, begun.note)


def begin(settings: Predict, ensemble_path: str = "") -> Begun:
    """Checks everything, writes the settings and lists the input: all before the first shard.

    Without the path of an ensemble, a run that `settings` name is calibrated first, and a missing cascade is
    fitted. With it, for a plan, the ensemble stays as it is.
    """
    path = ensemble_path or settings.ensemble or shipped_ensemble()
    if settings.calibrate and not ensemble_path:
        path = calibrated(path, settings.threads, settings.gpu == "auto")
    ensemble = open_ensemble(path)
    cascade = None
    if settings.cascade:
        cascade = finished_cascade(ensemble) if ensemble_path else fitted_cascade(ensemble, settings.threads)
    plain = settings.plain() | ({"cascade": cascade.document.id} if cascade else {})
    if settings.store is not None:
        store_input = _store_input(settings, ensemble)
        first = store_input.version(0) if store_input.shards else None
        source = {"kind": store_input.kind, "path": store_input.path, "first_version": first}
        _agree(settings, plain | {"ensemble": ensemble.id, "source": source})
        return Begun(ensemble, store_input, plain, None, cascade=cascade)
    ingest = _ingest_settings(settings, ensemble)
    plain |= {"ingest": ingest.plain()}
    source = {"kind": "files", "path": ingest.input, "first_version": None}
    _agree(settings, plain | {"ensemble": ensemble.id, "source": source})
    files_input, plan, note = inputs.list_files(ingest)
    return Begun(ensemble, files_input, plain, plan, note, cascade)


def shipped_ensemble() -> str:
    """The ensemble that comes with the program."""
    path = str(shipped("weights") / "cemp")
    if not Folder(path, ENSEMBLE).is_finished():
        raise SettingsError(
            f"predict: ensemble: not given, and there is none in {path}; give ensemble=, "
            "or make that one with make weights"
        )
    return path


def _store_input(settings: Predict, ensemble: Ensemble) -> StoreInput:
    store = open_store(files.absolute(str(settings.store)))
    ensemble.check_grid(store.grid, f"predict: {store.path}")
    if settings.prepared == "same":
        inputs.check_prepared(ensemble, store.prepare, f"predict: {store.path}", "prepare")
    return StoreInput.from_store(store)


def _ingest_settings(settings: Predict, ensemble: Ensemble) -> Ingest:
    """How survey files are read; what the settings leave open is as in the members' training."""
    trained = ensemble.members.runs[0].document.store.prepare
    ingest = settings.ingest_settings(trained.plain(), "predict")
    ingest = ingest.model_copy(update={"store": files.absolute(settings.predictions)})
    ensemble.check_grid(ingest.prepare.wavelengths(), "predict: ingest.prepare.grid")
    if settings.prepared == "same":
        inputs.check_prepared(ensemble, ingest.prepare, "predict: ingest.prepare", "ingest.prepare")
    return ingest


def _agree(settings: Predict, plain: dict[str, Any]) -> None:
    """Writes the settings of a new folder. A folder with other settings is an error once it has a shard."""
    folder = Folder(files.absolute(settings.predictions), PREDICTIONS)
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


def make_spec(settings: Predict, begun: Begun, workers: Workers) -> PredictionSpec:
    """What every shard is predicted with; batch, precision and compilation come from a trial."""
    ensemble = begun.ensemble
    rows = sum(begun.inputs.rows_in(shard) for shard in range(begun.inputs.shards))
    is_compiled = settings.compile == "always" or rows >= MIN_ROWS_TO_COMPILE
    compile_mode = settings.compile if is_compiled else "never"
    request = TrialRequest(settings.batch, settings.precision, compile_mode)
    spec = PredictionSpec(
        folder=files.absolute(settings.predictions),
        ensemble=files.absolute(ensemble.path),
        ensemble_id=ensemble.id,
        inputs=begun.inputs,
        choice=request.default_choice,
        fingerprint="",
        seed=settings.seed,
        members=settings.members,
        embeddings=settings.embeddings,
        compares_threads=begun.inputs.shards >= MIN_SHARDS_TO_COMPARE_THREADS,
        cascade_id=begun.cascade.document.id if begun.cascade else "",
    )
    choice = _choice(spec, request, rows, workers)
    decisive = choice.model_dump(mode="json", exclude={"notes"})
    text = json.dumps([begun.settings, ensemble.id, decisive], sort_keys=True)
    return replace(spec, choice=choice, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16])


def _choice(spec: PredictionSpec, request: TrialRequest, rows: int, workers: Workers) -> Choice:
    """Batch, precision and compilation: as an earlier run chose, or by a trial on a worker."""
    path = files.join(spec.folder, PLAN)
    try:
        return Choice.model_validate(checked.read_json(path, "it is measured again"))
    except FileNotFoundError:
        pass
    except ValueError as error:
        logging.getLogger(__name__).warning("predict: %s", error)
    choice = spec.choice
    if spec.inputs.shards and (request.compile == "always" or rows >= MIN_ROWS_TO_MEASURE):
        result = next(iter(workers(partial(Autotuner, spec, request), [0])))
        choice = Choice.model_validate(result)
    checked.write_json(path, choice.model_dump(mode="json"))
    return choice


def _finished_shards(spec: PredictionSpec, settings: Predict) -> dict[int, PredictionMarker]:
    """The markers of finished shards: of these settings and these spectra, with all their files."""
    kinds = {"predictions": "predictions"}
    if spec.inputs.kind == "files":
        kinds["refused"] = "refused_files"
    finished = {}
    complete = complete_markers(spec.folder, PredictionMarker, kinds, settings.verify)
    for shard, marker in complete.items():
        if shard >= spec.inputs.shards:  # the store was made again and is smaller now
            for kind in (*kinds, "markers"):
                files.remove(shard_file(spec.folder, kind, shard))
        elif marker.settings == spec.fingerprint and marker.version == spec.inputs.version(shard):
            finished[shard] = marker
    if settings.ingest.get("reread"):
        for shard in readable_now(spec.folder, finished.values()):
            del finished[shard]
    return finished


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


def _finish(
    folder: Folder[PredictionsDocument],
    tested: str,
    document: PredictionsDocument,
    done: dict[int, PredictionMarker],
) -> PredictionsDocument:
    """Writes the table of shards, the arrays, the tables of tested stars and, last, the document."""
    folder.withdraw()
    content = [SHARDS, PLAN]
    shards = marker_table(list(done.values()))
    files.write_table(folder.file(SHARDS), shards, durable=True)
    if document.arrays:
        markers = tuple(done[shard] for shard in sorted(done))
        numpy_arrays.write(Predictions(folder.path, document, markers))
        content.append(f"{ARRAYS}/")
    for name in (VALIDATION, POPULATION):  # the catalog needs them, and not the ensemble
        if files.exists(table := files.join(tested, name)):
            files.write(folder.file(name), files.read(table))
            content.append(name)
    return folder.finish(document, content)


def _check_refusals(settings: Predict, folder: str, document: PredictionsDocument) -> None:
    limit = settings.largest_refused_share
    count, rows_in = sum(document.refused.values()), document.rows_in
    if count > limit * rows_in:
        raise RefusalsError(
            f"predict: {folder}: the predictions are complete, but {count:,} of {rows_in:,} rows "
            f"({count / rows_in:.1%}) were refused, more than refuse_above={limit:g} allows "
            f"({refused_examples(folder, document.refused, document.shards)}); "
            f"read {files.join(folder, 'refused')}, then correct the input or raise refuse_above="
        )
