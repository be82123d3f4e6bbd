"""Spectra of a store, or survey files -> predictions, exactly once, all members in one pass.

The input fixes which spectrum belongs to which shard. A shard whose marker is there, of these settings, this ensemble and this version of its
spectra, is done; all others are made, by whatever the caller runs them with (this process, or actors of Ray). `predictions.json` comes last.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from survey import __version__, files
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.predict import arrays, inputs
from survey.predict.autotune import USUAL, Trial
from survey.predict.inputs import FromStore, Origin
from survey.predict.output import PLAN, PREDICTIONS, SETTINGS, VALIDATION, VERSION, Predictions
from survey.predict.worker import Asking, Choice, Worker, chosen, written
from survey.predict.workers import Crew, alone
from survey.progress import Progress
from survey.settings import Settings, SettingsError, differences, laid
from survey.store import manifest, markers
from survey.store.ingest import Ingest, RefusalsError, check_sources, returned
from survey.store.store import open_store, part
from survey.tables import read

MANY = 20_000
"""Fewer spectra are done before measurements would pay."""
WORTH = 200_000
"""Compiling networks takes a minute or more on every worker: worth it from so many spectra on."""


class Predict(Settings):
    """Settings of a prediction."""

    SECTIONS: ClassVar[tuple[str, ...]] = ("ingest",)
    INERT: ClassVar[frozenset[str]] = frozenset(
        {
            "ensemble",
            "store",
            "input",
            "ingest",
            "predictions",
            "prepared",
            "workers",
            "threads",
            "gpu",
            "arrays",
            "refuse_above",
        }
    )

    ensemble: str = Field(description="the ensemble to ask, or a run")
    store: str | None = Field(None, description="the store whose spectra are asked about")
    input: str | None = Field(
        None,
        description="or survey files: a folder, an s3:// prefix, a catalogue or a table, as jobs/ingest.py takes it",
    )
    ingest: dict[str, Any] = Field(
        {},
        description="how those files are read: settings of jobs/ingest.py; the recipe's section of that name",
    )
    predictions: str = Field(description="folder or s3:// prefix of the predictions to make or to lengthen")
    prepared: Literal["same", "any"] = Field(
        "same", description="spectra have to be prepared as those of the training; any = they need not"
    )
    precision: Literal["float32", "bf16", "fp16", "auto"] = Field(
        "auto",
        description="of the networks' arithmetic; auto = 16 bits on a GPU where they say the same as float32",
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="spectra that the networks see together; null = what is fastest on the first shard",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="compile the networks; auto = on a GPU, for many spectra, if it pays"
    )
    workers: int | None = Field(
        None, ge=1, description="processes that predict; null = one per CPU, or per GPU; 1 = without Ray"
    )
    threads: int | None = Field(None, ge=1, description="threads of a worker; null = its share of the CPUs")
    gpu: Literal["auto", "never"] = Field(
        "auto", description="use GPUs where there are some, one for each worker"
    )
    seed: int = Field(0, ge=0, description="of the random numbers that dropout passes draw")
    embeddings: bool = Field(
        False, description="keep the last features of the networks too, as a column `latent`"
    )
    members: bool = Field(False, description="keep what each member says too, as columns m0_..., m1_...")
    arrays: bool = Field(False, description="write probabilities and labels as .npy too, into arrays/")
    refuse_above: float | None = Field(
        None,
        ge=0,
        le=1,
        description="a larger share of refused files fails the job, after all is written; null = as ingest.refuse_above says",
    )


@dataclass(frozen=True)
class Report:
    """What is in the predictions now (`about` is predictions.json), and what this run did: shards `made`, and the `plan` of survey files."""

    path: str
    about: dict[str, Any]
    made: int
    plan: manifest.Plan | None


def predict(settings: Predict, crew: Crew | None = None) -> Report:
    """Make the predictions, lengthen them, or complete them; a run with nothing left to do does nothing."""
    crew = crew or alone(settings.threads, settings.gpu == "auto")
    ensemble, found, fixed, plan = _begin(settings)
    asking = _asking(settings, ensemble, found)
    asking = replace(asking, choice=_choice(settings, asking, crew))
    said = json.dumps(
        [fixed["settings"], fixed["ensemble"], written(replace(asking.choice, notes=()))], sort_keys=True
    )
    asking = replace(asking, fingerprint=hashlib.sha256(said.encode()).hexdigest()[:16])
    done = _done(asking, bool(settings.ingest.get("reread")))
    missing = [shard for shard in range(found.shards) if shard not in done]
    _withdraw(asking.folder, missing)
    for marker in _made(crew, asking, missing, done):
        done[marker["shard"]] = marker
    if len(done) != found.shards:
        raise RuntimeError(
            f"predict: {asking.folder}: {len(done)} of {found.shards} shards were made; please report this"
        )
    about = _about(asking, ensemble, fixed, [done[shard] for shard in sorted(done)])
    _finish(settings, asking, about)
    _check_refusals(settings, asking.folder, about)
    return Report(asking.folder, about, len(missing), plan)


def _asking(settings: Predict, ensemble: Ensemble, found: Origin) -> Asking:
    """What every shard is predicted with, as far as it is known without a trial."""
    folder, where = read.absolute(settings.predictions), read.absolute(settings.ensemble)
    choice = Choice(
        settings.batch or USUAL, "float32" if settings.precision == "auto" else settings.precision, False
    )
    return Asking(
        folder, where, ensemble.id, found, choice, "", settings.seed, settings.members, settings.embeddings
    )


def _begin(settings: Predict) -> tuple[Ensemble, Origin, dict[str, Any], manifest.Plan | None]:
    """Check everything, write the settings, list the input: what comes before the first shard."""
    if (settings.store is None) == (settings.input is None):
        what = "neither is given" if settings.store is None else "both are given"
        raise SettingsError(
            f"predict: store, input: {what}; give store= with the folder of a store, or input= with survey files"
        )
    ensemble = open_ensemble(settings.ensemble)
    reading = _reading(settings, ensemble)
    fixed: dict[str, Any] = {"settings": json.loads(json.dumps(settings.lasting())), "ensemble": ensemble.id}
    if settings.store is not None:
        found: Origin = _stored(settings, ensemble)
        _agree(
            settings,
            fixed
            | {
                "origin": {
                    "kind": found.kind,
                    "path": found.path,
                    "first": found.version(0) if found.shards else None,
                }
            },
        )
        return ensemble, found, fixed, None
    fixed["settings"]["ingest"] = json.loads(json.dumps(reading.lasting(), default=str))
    _agree(settings, fixed | {"origin": {"kind": "files", "path": reading.input, "first": None}})
    found, plan = inputs.from_files(reading)
    return ensemble, found, fixed, plan


def _reading(settings: Predict, ensemble: Ensemble) -> Ingest:
    """How survey files are read: as the section `ingest` says; what it leaves open of the preparation is as in the training."""
    learned = ensemble.members.runs[0].about["store"]["prepare"]
    given = {name: value for name, value in settings.ingest.items() if name not in ("input", "store")}
    given["prepare"] = laid(learned, given.get("prepare", {}))
    where = {"input": settings.input or "", "store": read.absolute(settings.predictions)}
    reading = Ingest.checked("predict: ingest", given | where)
    if settings.input is not None:
        check_sources(reading)
        grid = reading.prepare.points()
        ensemble.fits(
            {
                **{name: getattr(grid, name) for name in ("start", "stop", "step", "scale")},
                "points": len(grid),
            },
            "predict: ingest.prepare",
        )
        if settings.prepared == "same":
            inputs.check_prepared(
                ensemble, json.loads(reading.prepare.model_dump_json()), "predict: ingest.prepare"
            )
    return reading


def _stored(settings: Predict, ensemble: Ensemble) -> FromStore:
    store = open_store(read.absolute(str(settings.store)))
    ensemble.fits(store.about["grid"], f"predict: {store.path}")
    if settings.prepared == "same":
        inputs.check_prepared(ensemble, store.about["settings"]["prepare"], f"predict: {store.path}")
    return FromStore.of(store)


def _agree(settings: Predict, fixed: dict[str, Any]) -> None:
    """The predictions are new or were made with the same settings, by the same ensemble, from the same store; else nothing was made yet."""
    folder = settings.predictions
    path = files.join(folder, SETTINGS)
    before = files.read_json(path) if files.exists(path) else {}
    if "ensemble" not in before:
        if strangers := files.names(folder):
            raise SettingsError(
                f"predict: predictions: {folder}: holds {', '.join(strangers[:3])} but no predictions; give an empty or a new folder"
            )
    elif before["version"] != VERSION:
        raise SettingsError(
            f"predict: predictions: {folder}: is of version {before['version']}, this code writes {VERSION}; give another predictions="
        )
    elif differing := list(_differing(before, fixed)):
        if files.names(files.join(folder, "markers")):
            raise SettingsError(
                f"predict: predictions: {folder}: was made otherwise: {'; '.join(differing)}; give the same again, or another predictions="
            )
        files.remove(files.join(folder, PLAN))
    else:
        return
    files.write_json(path, {"version": VERSION, "code": __version__, **fixed})


def _differing(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What is other than it was; a store may lie elsewhere by now, a folder of survey files may be another night's."""
    yield from differences(before["settings"], now["settings"])
    yield from differences({"ensemble": before["ensemble"]}, {"ensemble": now["ensemble"]})
    there, here = before["origin"], now["origin"]
    if there["kind"] != here["kind"]:
        yield f"from {there['kind']} there, from {here['kind']} now"
    elif there["path"] != here["path"] and there["first"] != here["first"]:
        yield f"store={there['path']} there, {here['path']} now, and its first spectra are others"


def _choice(settings: Predict, asking: Asking, crew: Crew) -> Choice:
    """Batch, precision and whether networks are compiled: as it was fixed, else found out now, by a worker."""
    path = files.join(asking.folder, PLAN)
    if files.exists(path):
        return chosen(files.read_json(path))
    rows = sum(asking.inputs.rows_in(shard) for shard in range(asking.inputs.shards))
    choice = asking.choice
    trying = settings.compile if rows >= WORTH or settings.compile == "always" else "never"
    if asking.inputs.shards and (trying == "always" or rows >= MANY):
        wanted = {"batch": settings.batch, "precision": settings.precision, "compile": trying}
        choice = chosen(next(iter(crew(partial(Trial, asking, wanted), [0]))))
    files.write_json(path, written(choice))
    return choice


def _done(asking: Asking, reread: bool) -> dict[int, dict[str, Any]]:
    """Markers of the shards that are done: of these settings and this version of the spectra, with their files there in full."""
    kinds = {"predictions": "predictions"} | (
        {"refused": "refused_files"} if asking.inputs.kind == "files" else {}
    )
    there, done = markers.whole(asking.folder, kinds), {}
    for shard, marker in there.items():
        if shard >= asking.inputs.shards:  # of a store that was made anew and is smaller now
            for kind in (*kinds, "markers"):
                files.remove(part(asking.folder, kind, shard))
        elif marker["settings"] == asking.fingerprint and marker["version"] == asking.inputs.version(shard):
            done[shard] = marker
    return {
        shard: marker for shard, marker in done.items() if not (reread and returned(asking.folder, marker))
    }


def _withdraw(folder: str, missing: list[int]) -> None:
    """Predictions of which shards are to be made again are not finished until they are."""
    path = files.join(folder, PREDICTIONS)
    if missing and files.exists(path) and missing[0] < files.read_json(path)["shards"]:
        files.remove(path)


def _made(
    crew: Crew, asking: Asking, missing: list[int], done: dict[int, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Make the missing shards and say how it goes."""
    if not missing:
        return
    refused = sum(sum(marker["refused"].values()) for marker in done.values())
    silent = sum(marker["silent"] for marker in done.values())
    with Progress("predict", sum(map(asking.inputs.rows_in, missing)), "spectra") as progress:
        for marker in crew(partial(Worker, asking), missing):
            refused, silent = refused + sum(marker["refused"].values()), silent + marker["silent"]
            progress.add(
                marker["rows_in"],
                f"{refused:,} refused" + (f", {silent:,} without an answer" if silent else ""),
            )
            yield marker


def _about(
    asking: Asking, ensemble: Ensemble, fixed: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the predictions are; every row that went in has to be in them or among the refused."""
    totals: dict[str, Counter[str]] = {name: Counter() for name in ("refused", "said")}
    digest = hashlib.sha256(asking.fingerprint.encode())
    for row in rows:
        digest.update(
            f"{row['shard']} {row['predictions']['crc']} {row.get('refused_files', {}).get('crc')}\n".encode()
        )
        for name, total in totals.items():
            total.update(row[name])
    counts = {name: sum(row[name] for row in rows) for name in ("rows_in", "rows", "silent", "outside")}
    refused = totals["refused"]
    if counts["rows_in"] != counts["rows"] + refused.total():
        raise RuntimeError(
            f"predict: {asking.folder}: {counts['rows_in']} rows in, {counts['rows']} predicted, {refused.total()} refused; please report this"
        )
    return {
        "version": VERSION,
        "id": digest.hexdigest()[:16],
        "code": __version__,
        "shards": len(rows),
        **counts,
        "refused": dict(sorted(refused.items(), key=lambda item: -item[1])),
        "said": dict(totals["said"]),
        "labels": list(ensemble.labels),
        "classes": list(ensemble.classes),
        "units": ensemble.units,
        "ensemble": {"path": asking.ensemble, "id": ensemble.id, "about": ensemble.about},
        "source": {"kind": asking.inputs.kind, "path": asking.inputs.path, "id": asking.inputs.id},
        "choice": written(asking.choice),
        "settings": fixed["settings"],
        "fingerprint": asking.fingerprint,
    }


def _finish(settings: Predict, asking: Asking, about: dict[str, Any]) -> None:
    """Write what goes with the predictions and, last, what they are."""
    path, validation = files.join(asking.folder, PREDICTIONS), files.join(asking.ensemble, VALIDATION)
    before = files.read_json(path) if files.exists(path) else {}
    about["arrays"] = settings.arrays or arrays.there(asking.folder)
    if before == json.loads(json.dumps(about)):
        return
    if about["arrays"]:
        arrays.write(Predictions(asking.folder, about))
    if files.exists(validation):
        files.write(files.join(asking.folder, VALIDATION), files.read(validation))
    files.write_json(path, about)


def _check_refusals(settings: Predict, folder: str, about: dict[str, Any]) -> None:
    usual = settings.ingest.get("refuse_above", Ingest.model_fields["refuse_above"].default)
    limit = usual if settings.refuse_above is None else settings.refuse_above
    count, rows_in = sum(about["refused"].values()), about["rows_in"]
    if count > limit * rows_in:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in about["refused"].items())
        raise RefusalsError(
            f"predict: {folder}: the predictions are complete, but {count:,} of {rows_in:,} rows ({count / rows_in:.1%}) were refused, more than "
            f"refuse_above={limit:g} allows ({reasons}); look into {files.join(folder, 'refused')}, then mend the input or raise refuse_above="
        )
