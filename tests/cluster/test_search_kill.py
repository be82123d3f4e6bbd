"""Kills of a sweep's driver at random moments, going on with a copy elsewhere, a sweep as a job of a cluster. SURVEY_KILLS=10 is the long form."""

import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.search import storage
from tests.cluster.test_stream import HAS_DASHBOARD, free_port
from tests.processes import ROOT, Workplace
from tests.search import sweeps
from tests.training import lessons

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
TRIALS = 6
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(250 + 60 * KILLS)]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    sweeps.space(folder)
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


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """What is noted of a study now."""
    if not (folder / "study" / storage.JOURNAL).exists():
        return []
    noted = storage.opened(str(folder / "study"), "journal", write=False)
    names = optuna.get_all_study_names(noted)
    return optuna.load_study(study_name=names[0], storage=noted).trials if names else []


def finished(folder: Path) -> dict[int, Any]:
    """Trials that are over, by number: how they ended, and with what."""
    return {
        one.number: (one.state, one.values, one.params) for one in trials(folder) if one.state.is_finished()
    }


def test_no_finished_trial_is_lost_when_the_driver_is_killed_and_a_copy_goes_on_elsewhere(
    toys: Path, workplace: Workplace
):
    folder, dice = workplace.folder / "here", random.Random(5)
    over: dict[int, Any] = {}
    for _ in range(KILLS):
        job = workplace.python("jobs/tune.py", *arguments(toys, folder))
        before = len(over)
        if not job.until(
            lambda before=before: any(one.intermediate_values for one in trials(folder)[before:]), 200
        ):
            assert job.wait() == 0, job.err
            break
        time.sleep(dice.uniform(0, 4))
        job.kill()
        workplace.sweep()  # what the job had started
        now = finished(folder)
        assert over.items() <= now.items()
        over = now
    under_way = [one.number for one in trials(folder) if not one.state.is_finished()]
    assert len(under_way) <= 3  # two at work and one that waits
    elsewhere = workplace.folder / "elsewhere"
    shutil.copytree(folder, elsewhere)
    last = workplace.python("jobs/tune.py", *arguments(toys, elsewhere))
    assert last.wait(240) == 0, last.err
    done = finished(elsewhere)
    assert over.items() <= done.items()
    assert sorted(done) == list(range(TRIALS))
    assert f"{TRIALS} of {TRIALS} trials finished" in last.out
    assert "Traceback" not in last.err


@pytest.mark.long
@pytest.mark.skipif(not HAS_DASHBOARD, reason="needs ray[default]: without it a head has no server for jobs")
def test_a_sweep_is_submitted_to_a_cluster_and_watched_from_another_shell(toys: Path, workplace: Workplace):
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
    assert job.until(lambda: any(one.intermediate_values for one in trials(folder)), 200), job.out
    look = workplace.python("jobs/tune.py", f"study={folder / 'study'}", "show=true")
    assert look.wait() == 0, look.err
    assert "of 20 trials finished" in look.out
    assert "running  trial" in look.out
    assert "at work: process" in look.out
    assert job.wait(200) == 0, job.out
    assert "20 of 20 trials finished" in job.out
