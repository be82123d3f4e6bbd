"""Store + labels + space -> study: trainings of all kinds of settings, the best of them found, all of it noted so that it can go on at any time.

settings.json     what was asked for, and the study's id; written before any work
study.log         the trials (or study.db, or a server's database); optuna-dashboard opens it too
trials/           a run for each trial: what it was, how it went; weights of the best two
repeats/          the best two, and the recipe as it is, with other seeds
winners/          the best, trained on training and validation part together, where that is wanted
trials.parquet    a row for each trial
plots/            what a person looks at
study.json        what was found: written last
"""

import hashlib
import json
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey import __version__, files
from survey.progress import Progress
from survey.search import progress, results, storage, winners
from survey.search.progress import Standing
from survey.search.schedule import Search, here
from survey.search.settings import Aim, Tune, aims
from survey.search.space import checked
from survey.search.study import FINISHED, Study
from survey.search.target import TRIALS, Quest
from survey.settings import JobError, SettingsError, differences
from survey.store.store import open_store
from survey.tables.read import absolute
from survey.training.tracking import Tracker
from survey.training.train import Train, begin

SETTINGS, STUDY, TABLE, TRACKED = "settings.json", "study.json", "trials.parquet", "tracked"
VERSION = 1

Place = Callable[[Search], None]
"""Who does the work of a search: this process, or Ray."""


@dataclass(frozen=True)
class Outcome:
    """A study as it stands. Where it is only looked at there are no quests, and nothing is found; `driver` is who is at work on it elsewhere."""

    settings: Tune
    standings: list[Standing]
    quests: list[Quest]
    found: dict[str, dict[str, Any]]
    winners: list[str]
    made: bool
    driver: str = ""


def tune(settings: Tune, place: Place = here) -> Outcome:
    """Search until as many trials as are wanted are finished, and say what was found; a study that has them is left alone."""
    settings = _absolute(settings)
    if settings.show:
        return _looked_at(settings)
    wanted = aims(settings)
    ident = _agreed(settings, wanted)
    with storage.alone(settings.study), ExitStack() as stack:
        noted = storage.opened(settings.study, settings.storage)
        quests = [
            Quest(settings, aim, Study.opened(settings, aim, f"{ident}-{aim.name}", noted)) for aim in wanted
        ]
        if made := not all(quest.over for quest in quests):
            for quest in quests:
                stack.enter_context(_tracked(quest))
            _search(quests, place)
        found, files_of_winners, new = _concluded(settings, quests)
        stands = [progress.standing(quest.study.study, quest.aim.name) for quest in quests]
        return Outcome(settings, stands, quests, found, files_of_winners, made or new)


def _absolute(settings: Tune) -> Tune:
    """Paths that mean the same wherever a training runs."""
    own = {
        name: absolute(path)
        for name in ("study", "store", "labels", "winners")
        if (path := getattr(settings, name))
    }
    train = {
        name: absolute(path) if name in ("store", "labels", "before") and isinstance(path, str) else path
        for name, path in settings.train.items()
    }
    return settings.model_copy(update=own | {"train": train})


def _looked_at(settings: Tune) -> Outcome:
    """How a study stands, from what lies in its folder and its storage."""
    path = files.join(settings.study, SETTINGS)
    if not files.exists(path):
        raise FileNotFoundError(
            f"{settings.study}: no {SETTINGS} in it, so no study; give study= of one that was begun"
        )
    told = _told(path)
    noted = storage.opened(settings.study, told["settings"]["storage"], write=False)
    return Outcome(
        settings, progress.standings(told["id"], noted), [], {}, [], False, storage.driver(settings.study)
    )


def _told(path: str) -> dict[str, Any]:
    """What a study was begun with."""
    told = files.read_json(path)
    if not isinstance(told, dict) or "id" not in told or "storage" not in told.get("settings", {}):
        raise SettingsError(f"tune: study: {path}: is of no study; give a new folder")
    if told["version"] != VERSION:
        raise SettingsError(
            f"tune: study: {path}: is of version {told['version']}, this code writes {VERSION}; give another study="
        )
    return told


def _agreed(settings: Tune, wanted: list[Aim]) -> str:
    """The id of a study that has these settings; a new one has it from now on, one of other settings is an error that names what differs."""
    path, lasting = files.join(settings.study, SETTINGS), _lasting(settings, wanted)
    told = _told(path) if files.exists(path) else None
    if told and (found := list(differences(told["settings"], lasting))):
        raise SettingsError(
            f"tune: {settings.study}: is a study of other settings: {'; '.join(found)}; give these again, or another study="
        )
    if not told and (strangers := files.names(settings.study)):
        raise SettingsError(
            f"tune: study: {settings.study}: holds {', '.join(strangers[:3])} but is no study; give an empty or a new folder"
        )
    for aim in wanted:
        if not files.exists(files.join(settings.study, TRIALS, aim.name)):
            _rehearse(aim)
    if not told:
        told = {"version": VERSION, "code": __version__, "id": secrets.token_hex(4), "settings": lasting}
        files.write_json(path, told)
    return str(told["id"])


def _rehearse(aim: Aim) -> None:
    """What is wrong with an aim's trainings is told before any is begun: labels that are not there, a part without stars, a metric that is none."""
    with tempfile.TemporaryDirectory(prefix="survey-tune-") as folder:
        try:
            begin(aim.training(folder, {}))
        except (ValueError, JobError) as error:
            raise SettingsError(f"tune: {aim.name}: {error}") from error


def _lasting(settings: Tune, wanted: list[Aim]) -> dict[str, Any]:
    """What decides what a study finds; store and labels by what they are, not by where they are now."""
    first = checked("tune: train", wanted[0].train)
    kept = {
        name: value
        for name, value in settings.lasting().items()
        if name not in ("store", "labels", "space", "train")
    }
    base = Train.checked(
        "tune: train", settings.train | {"store": first.store, "labels": first.labels, "run": first.run}
    ).lasting()
    if not files.exists(first.labels):
        raise SettingsError(f"tune: labels: {first.labels}: no such file; give labels=TABLE")
    digest = hashlib.sha256(files.read(first.labels)).hexdigest()[:16]
    kept |= {
        "train": base | {"store": open_store(first.store).about["id"], "labels": digest},
        "tried": wanted[0].space.text,
    }
    lasting: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return lasting


def tracker(quest: Quest) -> Tracker:
    """The MLflow run of an aim, to which its trials belong."""
    settings, space = quest.settings, quest.aim.space
    beside = settings.tracking.model_copy(update={"uri": settings.tracking.address(settings.study)})
    params = {
        "study": settings.study,
        "trials": settings.trials,
        "sampler": settings.sampler,
        "tried": space.text["space"],
        "train": space.text["train"],
    }
    return Tracker(beside, files.join(settings.study, TRACKED, quest.study.name), params)


@contextmanager
def _tracked(quest: Quest) -> Iterator[None]:
    """The aim's MLflow run is open, and its trainings are told to belong to it."""
    with tracker(quest) as parent:
        if parent.id:
            quest.tracking = parent.tracking.model_copy(update={"parent": parent.id})
        else:
            quest.tracking = parent.tracking.model_copy(update={"use": "never"})
        yield


def _search(quests: list[Quest], place: Place) -> None:
    """Everything that is still to be trained."""
    left = sum(max(quest.study.wanted - quest.study.count(*FINISHED), 0) for quest in quests)
    more = sum((3 * quest.settings.seeds + quest.settings.retrain) for quest in quests)
    with Progress("tune", left + more, "trainings") as bar:
        search = Search(quests, bar.add)
        place(search)
        search.settle()


def _concluded(settings: Tune, quests: list[Quest]) -> tuple[dict[str, dict[str, Any]], list[str], bool]:
    """What was found, written where it is not there yet; aims that were not asked for this time stay as they are."""
    found = {quest.aim.name: results.found(quest) for quest in quests}
    made = [path for quest in quests for path in winners.write(settings, quest, found[quest.aim.name])]
    path, table = files.join(settings.study, STUDY), results.table(quests)
    before = files.read_json(path)["found"] if files.exists(path) else {}
    told = json.loads(json.dumps(before | found, default=str))
    if told == before:
        return found, made, False
    if others := [name for name in before if name not in found]:
        old = files.read_table(files.join(settings.study, TABLE))
        table = pa.concat_tables(
            [old.filter(pc.is_in(old["element"], pa.array(others))), table], promote_options="permissive"
        )
    files.write_table(files.join(settings.study, TABLE), table)
    files.write_json(path, {"version": VERSION, "code": __version__, "found": told})
    return found, made, True
