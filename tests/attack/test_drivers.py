"""Three drivers start the same job in one folder, with equal and with other settings: those of one set of
settings end well, the others end with the reason, and the folder is sound.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.catalog.document import CATALOG
from survey.ensemble.ensemble import ENSEMBLE
from survey.folder import Folder, Kind
from survey.predict.output import PREDICTIONS
from survey.search.tune import STUDY
from survey.store.store import STORE
from survey.training.run import RUN
from tests import survey_files
from tests.catalog import skies
from tests.ensemble import small_runs, untrained
from tests.processes import Job, Workplace, new_workplace
from tests.training import lessons

TIMES = int(os.environ.get("SURVEY_ATTACKS", "1"))
"""How often each case is tried."""

LOST = ("has been working in it", "was made with other settings", "another job has changed the manifest")
CLASS_COLUMNS = ("predicted_class", "class_entropy", "class_entropy_model")


def ingest_input(place: Path) -> list[str]:
    survey_files.write(place / "files", range(60))
    return [f"input={place / 'files'}", "shard=10", "workers=1"]


def predict_input(place: Path) -> list[str]:
    untrained.three(place / "ensemble", untrained.store(place, range(20)))
    paths = [f"ensemble={place / 'ensemble'}", f"store={place / 'store'}"]
    return [*paths, "workers=1", "threads=1", "batch=3", "gpu=never"]


def training(place: Path) -> list[str]:
    lessons.store(place / "store", 120)
    return [f"store={place / 'store'}", f"labels={place / 'labels.csv'}", "threads=1"]


NETWORK = "model: prism, options: {components: 16, hidden: 32}, targets: [FeH, CFe], epochs: 3, batch: 16"


def train_input(place: Path) -> list[str]:
    pairs = ["model=prism", "options={components: 16, hidden: 32}", "targets=[FeH, CFe]", "epochs=3"]
    return [*training(place), *pairs, "batch=16", "gpu=never", "tracking.use=never"]


def tune_input(place: Path) -> list[str]:
    (place / "space.yaml").write_text("space: {optimiser.lr: {log: [0.001, 0.01]}}")
    values = [f"space={place / 'space.yaml'}", "trials=2", "seeds=0", "workers=1", "gpu=0"]
    return [*training(place), *values, f"train={{{NETWORK}}}", "tracking.use=never"]


def ensemble_input(place: Path) -> list[str]:
    small_runs.place(place, "both", "classes")
    return [f"runs=[{place / 'both'},{place / 'classes'}]", "threads=1", "gpu=never"]


def catalog_input(place: Path) -> list[str]:
    table = skies.rows(np.arange(20.0), np.arange(20.0), [f"J{number}" for number in range(20)])
    classes = [name for name in table.column_names if name.startswith("p_") or name in CLASS_COLUMNS]
    skies.write(place / "predictions", table.drop_columns(classes), classes=())
    return [f"predictions={place / 'predictions'}"]


@dataclass(frozen=True)
class Contest:
    """A job, its input, the setting of its folder, and two values of a setting."""

    job: str
    prepare: Callable[[Path], list[str]]
    kind: Kind[Any]
    values: tuple[str, str]


CONTESTS = [
    Contest("ingest", ingest_input, STORE, ("bits.flux=14", "bits.flux=10")),
    Contest("predict", predict_input, PREDICTIONS, ("seed=0", "seed=1")),
    Contest("train", train_input, RUN, ("seed=0", "seed=1")),
    Contest("tune", tune_input, STUDY, ("seed=0", "seed=1")),
    Contest("ensemble", ensemble_input, ENSEMBLE, ("coverage=0.95", "coverage=0.9")),
    Contest("catalog", catalog_input, CATALOG, ("radius=3", "radius=2")),
]


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as workplace:
        yield workplace


@pytest.mark.long
@pytest.mark.kill
@pytest.mark.parametrize("number", range(TIMES))
@pytest.mark.parametrize("drivers", [(0, 0, 0), (0, 1), (0, 1, 1)], ids=str)
@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.job)
def test_drivers_of_one_set_of_settings_make_one_sound_folder(
    place: Workplace, contest: Contest, drivers: tuple[int, ...], number: int
) -> None:
    del number
    folder, arguments = place.folder / "result", contest.prepare(place.folder)

    def start(value: int) -> Job:
        own = (f"{contest.kind.name}={folder}", contest.values[value])
        return place.start(sys.executable, f"jobs/{contest.job}.py", *arguments, *own)

    jobs = [(value, start(value)) for value in drivers]
    codes = [job.wait() for _, job in jobs]
    assert len({value for (value, _), code in zip(jobs, codes, strict=True) if code == 0}) == 1, jobs[0][
        1
    ].err
    for (_, job), code in zip(jobs, codes, strict=True):
        assert "Traceback" not in job.err, job.err
        assert code == 0 or any(reason in job.err for reason in LOST), job.err
    assert start(drivers[codes.index(0)]).wait() == 0
    assert Folder(str(folder), contest.kind).sound_document() is not None
