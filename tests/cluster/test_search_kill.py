"""A search whose driver is killed at random moments, continued with a copy in another place, and run on a
cluster.

SURVEY_KILLS=10 is the long form.
"""

import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from survey.search import storage
from tests.cluster.test_stream import HAS_DASHBOARD, free_port
from tests.processes import ROOT, Workplace
from tests.search import sweeps
from tests.training import lessons

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
TRIALS = 6
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(1800 + 120 * KILLS)]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    sweeps.write_space(folder)
    return folder


def arguments(toys: Path, folder: Path, trials: int = TRIALS, epochs: int = 6) -> list[str]:
    train = [f"train.{key}={json.dumps(value)}" for key, value in (sweeps.TRAIN | {"epochs": epochs}).items()]
    own = [
        f"space={toys / 'space.yaml'}",
        "elements=[FE]",
        f"trials={trials}",
        "seeds=1",
        "tracking.use=never",
        "gpu=0",
        "prune.first=2",
    ]
    return [
        f"store={toys / 'store'}",
        f"labels={toys / 'labels.csv'}",
        f"study={folder / 'study'}",
        f"winners={folder / 'winners'}",
        *train,
        *own,
    ]


def trials(folder: Path) -> list[FrozenTrial]:
    """The trials that a study has recorded so far."""
    if not (folder / "study" / storage.JOURNAL).exists():
        return []
    opened = storage.open_storage(str(folder / "study"), "journal", write=False)
    names = optuna.get_all_study_names(opened)
    return optuna.load_study(study_name=names[0], storage=opened).trials if names else []


def finished(folder: Path) -> dict[int, Any]:
    """State, values and params of the trials that have ended, by number."""
    ended = [trial for trial in trials(folder) if trial.state.is_finished()]
    return {trial.number: (trial.state, trial.values, trial.params) for trial in ended}


@pytest.mark.long
def test_no_finished_trial_is_lost_if_the_driver_is_killed_and_a_copy_continues_in_another_place(
    toys: Path, workplace: Workplace
) -> None:
    folder, dice = workplace.folder / "here", random.Random(5)
    ended: dict[int, Any] = {}

    def has_new_epoch() -> bool:
        return any(trial.intermediate_values for trial in trials(folder)[len(ended) :])

    for _ in range(KILLS):
        job = workplace.python("jobs/tune.py", *arguments(toys, folder))
        if not job.until(has_new_epoch):
            assert job.wait() == 0, job.err
            break
        time.sleep(dice.uniform(0, 4))
        job.kill()
        workplace.sweep()  # what the job had started
        now = finished(folder)
        assert ended.items() <= now.items()
        ended = now
    unfinished = [trial.number for trial in trials(folder) if not trial.state.is_finished()]
    assert len(unfinished) <= 3  # two that run and one that waits
    elsewhere = workplace.folder / "elsewhere"
    shutil.copytree(folder, elsewhere)
    last = workplace.python("jobs/tune.py", *arguments(toys, elsewhere))
    assert last.wait(240) == 0, last.err
    done = finished(elsewhere)
    assert ended.items() <= done.items()
    assert sorted(done) == list(range(TRIALS))
    assert f"{TRIALS} of {TRIALS} trials finished" in last.out
    assert "Traceback" not in last.err


@pytest.mark.long
@pytest.mark.skipif(not HAS_DASHBOARD, reason="needs ray[default]: without it a head has no server for jobs")
def test_a_search_is_submitted_to_a_cluster_and_watched_from_another_shell(
    toys: Path, workplace: Workplace
) -> None:
    page, folder, token = free_port(), workplace.folder, {"RAY_AUTH_MODE": "token"}
    assert workplace.start("ray", "get-auth-token", "--generate", **token).wait() == 0
    options = [
        f"--port={free_port()}",
        f"--dashboard-port={page}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--num-cpus=2",
    ]
    options += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}/ray", "--object-store-memory=100000000"]
    head = workplace.start("ray", "start", "--head", *options, **token)
    assert head.wait(100) == 0, head.err
    command = [
        "ray",
        "job",
        "submit",
        "--working-dir",
        str(ROOT),
        "--",
        "python",
        "jobs/tune.py",
        *arguments(toys, folder, 20, 60),
    ]
    command += ["prune.name=none"]  # long enough to be looked at
    job = workplace.start(
        *command, RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{page}", RAY_ADDRESS="", **token
    )
    assert job.until(lambda: any(trial.intermediate_values for trial in trials(folder))), job.out
    look = workplace.python("jobs/tune.py", f"study={folder / 'study'}", "show=true")
    assert look.wait() == 0, look.err
    assert "of 20 trials finished" in look.out
    assert "running  trial" in look.out
    assert "is run by process" in look.out
    assert job.wait(200) == 0, job.out
    assert "20 of 20 trials finished" in job.out
