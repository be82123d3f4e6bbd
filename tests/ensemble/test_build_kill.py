"""Kills at random moments while an ensemble is built: the next run ends with the same result.

SURVEY_KILLS=20 is the long form.
"""

import json
import os
import random
import time
from pathlib import Path

import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import ENSEMBLE
from survey.ensemble.settings import Build
from tests.ensemble import small_runs
from tests.processes import new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.long, pytest.mark.kill, pytest.mark.timeout(1800 + 120 * KILLS)]

TRAIN = {
    "model": "prism",
    "options": {"components": 16, "hidden": 32},
    "targets": ["FeH", "CFe"],
    "epochs": 10,
    "batch": 16,
    "split": small_runs.SPLIT,
    "tracking": {"use": "never"},
}


def test_a_killed_job_ends_with_the_result_of_an_undisturbed_one(tmp_path: Path) -> None:
    small_runs.place(tmp_path)
    given = {
        "store": str(tmp_path / "store"),
        "labels": str(tmp_path / "labels.csv"),
        "train": TRAIN,
        "seeds": 2,
        "threads": 1,
        "gpu": "never",
    }
    wanted = build(
        Build.from_dict("ensemble", given | {"ensemble": str(tmp_path / "undisturbed")})
    ).document.id
    team, dice = tmp_path / "team", random.Random(3)
    values = (given | {"ensemble": str(team)}).items()
    arguments = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values]
    with new_workplace() as place:
        for _ in range(KILLS):
            job = place.python("jobs/ensemble.py", *arguments)
            job.until(lambda: (team / "runs").exists())
            time.sleep(dice.uniform(0, 6))
            if job.process.poll() is not None:
                break
            job.kill()
        last = place.python("jobs/ensemble.py", *arguments)
        assert last.wait() == 0, last.err
        assert "ensemble" in last.out
    assert json.loads((team / ENSEMBLE.file).read_text())["id"] == wanted
    for name in ("validation.parquet", "metrics.parquet", "diversity.parquet", "domain.safetensors"):
        assert (team / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
