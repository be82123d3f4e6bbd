"""Store + labels + space -> study: many trainings with different settings, and the best of them.

Everything is recorded, so a search that was stopped continues with the same command.

settings.json     the settings of the search and the study's id; written before any work
study.log         the trials (or study.db, or a server's database); optuna-dashboard opens it too
trials/           a run for each trial, with its history; the best two keep their weights
seeds/            the best two trials and the recipe, trained with other seeds
recipes/          the recipes of the best two, unless winners= names another folder
winners/          the best one, trained on training and validation part together, if that is wanted
trials.parquet    a row for each trial
plots/            pictures of the search
study.json        the results; written last, and again when a later call finds more
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.claim import holder
from survey.folder import SETTINGS, Document, Folder, Kind
from survey.labelling.unlabelled import NONE
from survey.progress import Progress
from survey.scratch import scratch_folder
from survey.search import results, storage
from survey.search.queue import TrainingQueue, run_locally
from survey.search.results import TargetResult
from survey.search.schedule import TRIALS, TargetSchedule
from survey.search.settings import Tune
from survey.search.space import Values
from survey.search.study import FINISHED, Study
from survey.search.study_progress import TargetProgress, read_progress, target_progress
from survey.search.target import Target, read_targets
from survey.settings import JobError, SettingsError, differences
from survey.store.store import open_store
from survey.training.made_from import paths_of
from survey.training.run import run_document
from survey.training.settings import Train
from survey.training.tracking import Tracker, tracking_uri
from survey.training.train import PATHS, plan

_log = logging.getLogger(__name__)

TABLE, TRACKED = "trials.parquet", "tracked"

RunTrainings = Callable[[TrainingQueue], None]
"""Runs the trainings of a search: in this process, or on Ray."""


class StudyDocument(Document):
    """The results of a study, by target."""

    results: dict[str, TargetResult]


STUDY = Kind("study", StudyDocument, 2, "tune")


@dataclass(frozen=True)
class SearchOutcome:
    """A study after a call. With show=true there are no schedules and no results.

    `is_new`: this call has changed the study. `driver`: the process that runs the study elsewhere.
    """

    settings: Tune
    progress: list[TargetProgress]
    schedules: list[TargetSchedule]
    results: dict[str, TargetResult]
    winners: list[str]
    is_new: bool
    driver: str = ""


def tune(settings: Tune, run_trainings: RunTrainings = run_locally) -> SearchOutcome:
    """Search until the wanted number of trials is finished; a study that has them is left alone."""
    settings = _with_absolute_paths(settings)
    folder = Folder(settings.study, STUDY)
    if settings.show:
        return _show(settings, folder)
    targets = read_targets(settings)
    with folder.claim(settings.plain()), ExitStack() as stack:
        stack.enter_context(storage.report_write_errors(settings.study))
        ident = _begin(settings, folder, targets)
        opened = storage.open_storage(settings.study, settings.storage)
        schedules = [
            TargetSchedule(settings, target, Study.open(settings, target, f"{ident}-{target.name}", opened))
            for target in targets
        ]
        _warn_of_partial_grids(schedules)
        if has_work := not all(schedule.is_done for schedule in schedules):
            _track(schedules, stack)
            _search(schedules, run_trainings)
        found = {schedule.target.name: results.target_result(schedule) for schedule in schedules}
        winners = [
            path
            for schedule in schedules
            for path in results.write_winners(settings, schedule, found[schedule.target.name])
        ]
        is_new = _finish(folder, ident, schedules, found)
        progress = [
            target_progress(schedule.study.optuna_study, schedule.target.name) for schedule in schedules
        ]
        return SearchOutcome(settings, progress, schedules, found, winners, has_work or is_new)


def _warn_of_partial_grids(schedules: Sequence[TargetSchedule]) -> None:
    """Name the grids that have more combinations than the wanted trials."""
    for schedule in schedules:
        count, wanted = len(schedule.study.grid), schedule.study.wanted
        if count + 1 > wanted:
            _log.warning(
                "tune: %s: the grid has %s combinations besides the recipe; trials=%d tries the recipe "
                "and %d of them, drawn at random; trials=%d tries all",
                schedule.target.name,
                f"{count:,}",
                wanted,
                wanted - 1,
                count + 1,
            )


def _with_absolute_paths(settings: Tune) -> Tune:
    """Paths that are right wherever a training runs."""
    paths = {
        name: files.absolute(path)
        for name in ("study", "store", "labels", "winners")
        if (path := getattr(settings, name)) and path != NONE
    }
    train = {
        name: files.absolute(value)
        if name in ("store", "labels", "start_from") and isinstance(value, str) and value != NONE
        else value
        for name, value in settings.train.items()
    }
    return settings.model_copy(update=paths | {"train": train})


def _show(settings: Tune, folder: Folder[StudyDocument]) -> SearchOutcome:
    """The progress of a study, from its folder and its storage."""
    begun = folder.settings()
    if begun is None:
        raise FileNotFoundError(
            f"{settings.study}: no {SETTINGS} in it, so it is no study; give study= of a study that was begun"
        )
    opened = storage.open_storage(settings.study, begun["storage"], write=False)
    progress = read_progress(_ident(folder), opened)
    return SearchOutcome(settings, progress, [], {}, [], False, holder(settings.study))


def _ident(folder: Folder[StudyDocument]) -> str:
    return str(files.read_json(folder.file(SETTINGS))["id"])


def _begin(settings: Tune, folder: Folder[StudyDocument], targets: Sequence[Target]) -> str:
    """The id of the study with these settings; a new study begins here, other settings are an error."""
    kept, contents = _result_settings(settings, targets[0])
    is_begun = folder.agree(kept, compare=partial(_differences, contents))
    for target in targets:
        if not files.exists(folder.file(TRIALS, target.name)):
            _try_plan(target)
    if not is_begun:
        name = re.sub(r"[^\w.-]", "_", settings.study.rstrip("/").rpartition("/")[2])
        folder.begin(kept, id=f"{name}-{secrets.token_hex(3)}")
    return _ident(folder)


def _try_plan(target: Target) -> None:
    """Report what is wrong with the trainings of a target before the first one: missing labels, an empty
    part.
    """
    with scratch_folder("tune") as folder:
        try:
            plan(target.training(folder, {}))
        except (ValueError, JobError) as error:
            raise SettingsError(f"tune: {target.name}: {error}") from error


def _result_settings(settings: Tune, target: Target) -> tuple[Values, dict[str, str]]:
    """The settings that decide the results, and the contents of stores, tables and runs by their paths: the
    settings hold these, not where they are now.
    """
    train = Train.from_dict("tune: train", target.train)
    contents = _contents(train)
    recipe = settings.train | {"store": train.store, "labels": train.labels, "run": train.run}
    kept = {
        name: value for name, value in settings.plain().items() if name not in ("store", "labels", "space")
    }
    values = Train.from_dict("tune: train", recipe).plain()
    return kept | {"train": _by_content(values, contents), "space": target.space.to_dict()}, contents


def _contents(train: Train) -> dict[str, str]:
    """The ids of stores and of the run to start from, and a hash of each label table, by their paths."""
    contents = {path: open_store(path).id for path in paths_of(train, "store").values()}
    for name, path in paths_of(train, "labels").items():
        if not files.exists(path):
            raise SettingsError(f"tune: {name}: {path}: no such file; give {name}=TABLE")
        with files.open_file(path) as stream:
            contents[path] = hashlib.file_digest(cast("Any", stream), "sha256").hexdigest()[:16]
    if train.start_from:
        contents[train.start_from] = run_document(train.start_from).id
    return contents


def _by_content(train: Values, contents: Mapping[str, str]) -> Values:
    """Settings of a training with the content of tables, stores and runs in place of their paths."""

    def named(values: Values) -> Values:
        return {
            name: contents.get(value, value) if name in PATHS and value else value
            for name, value in values.items()
        }

    sources = train.get("sources", {})
    return named(train) | (
        {"sources": {name: named(source) for name, source in sources.items()}} if sources else {}
    )


def _differences(contents: Mapping[str, str], before: Values, now: Values) -> Iterator[str]:
    """The settings that differ. Studies of earlier versions hold the paths of further sources."""
    yield from differences(before | {"train": _by_content(before["train"], contents)}, now)


def tracker(schedule: TargetSchedule) -> Tracker:
    """The MLflow run of a target, to which its trials belong."""
    settings, space = schedule.settings, schedule.target.space
    tracking = settings.tracking.model_copy(update={"uri": tracking_uri(settings.tracking, settings.study)})
    params = {
        "study": settings.study,
        "trials": settings.trials,
        "sampler": settings.sampler,
        "varied": dict(space.lines),
        "train": dict(space.fixed),
    }
    return Tracker(tracking, files.join(settings.study, TRACKED, schedule.study.name), params)


def _track(schedules: list[TargetSchedule], stack: ExitStack) -> None:
    """Open the target's MLflow runs, to which their trainings belong; none after a server did not answer."""
    for schedule in schedules:
        parent = stack.enter_context(tracker(schedule))
        if parent.id:
            schedule.tracking = parent.tracking.model_copy(update={"parent": parent.id})
        elif parent.is_active:
            _log.warning(
                "tune: the trainings of this call are not tracked, because %s does not answer; "
                "%s has their numbers",
                parent.uri,
                schedule.settings.study,
            )
            return


def _search(schedules: list[TargetSchedule], run_trainings: RunTrainings) -> None:
    """Run everything that is still to be trained."""
    trials = sum(max(schedule.study.wanted - schedule.study.count(*FINISHED), 0) for schedule in schedules)
    later = sum(3 * schedule.settings.seeds + schedule.settings.retrain for schedule in schedules)
    with Progress("tune", trials + later, "trainings") as bar:
        queue = TrainingQueue(schedules, bar.add)
        run_trainings(queue)
        queue.raise_error()


def _finish(
    folder: Folder[StudyDocument],
    ident: str,
    schedules: list[TargetSchedule],
    found: dict[str, TargetResult],
) -> bool:
    """Write the results if they are new; targets that this call did not name stay as they are."""
    sound = folder.sound_document()
    before = sound.results if sound else {}
    document = StudyDocument(version=STUDY.version, id=ident, results=before | found)
    if document.results == before:
        return False
    table = results.table(schedules)
    if others := [name for name in before if name not in found]:
        old = folder.table(TABLE, document=sound)
        kept = old.filter(pc.is_in(old["element"], pa.array(others)))
        table = pa.concat_tables([kept, table], promote_options="permissive")
    files.write_table(folder.file(TABLE), table)
    folder.finish(document, [TABLE])
    return True
