"""Every job opens at once: ``--help`` and a misspelt setting load no heavy library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from survey.settings import JOBS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "astropy",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "optuna",
    "pandas",
    "pyarrow",
    "ray",
    "s3fs",
    "scipy",
    "sklearn",
    "torch",
    "xgboost",
}
"""Libraries that take 0.1 to 3 seconds to import."""

RUN_JOB = """
import atexit, json, runpy, sys

def report():
    sys.stderr.write("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))

atexit.register(report)
job, *arguments = sys.argv[1:]
sys.argv = [job, *arguments]
runpy.run_path(job, run_name="__main__")
"""
"""Runs a job as its users do, and reports the loaded modules at the end."""

every_job = pytest.mark.parametrize("job", JOBS)


def run(job: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A finished job, and the modules that it has loaded."""
    command = [sys.executable, "-c", RUN_JOB, f"jobs/{job}.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done, set(json.loads(done.stderr.splitlines()[-1]))


@every_job
def test_help_loads_no_heavy_library(job: str) -> None:
    done, modules = run(job, "--help")
    assert done.returncode == 0
    assert f"usage: survey {job} " in done.stdout
    assert sorted(modules & HEAVY) == []


@every_job
def test_a_misspelt_setting_loads_no_heavy_library(job: str) -> None:
    done, modules = run(job, "recipes/cemp.yaml", "wrokers=3")
    assert done.returncode == 1
    assert f"{job}: wrokers: unknown setting (value 3)" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(modules & HEAVY) == []


@pytest.mark.parametrize("model", ["prism", "dualbranch", "lightgbm"])
def test_a_misspelt_option_of_a_network_loads_no_heavy_library(model: str) -> None:
    needed = ["store=x", "labels=y", "run=z"]
    done, modules = run("train", *needed, f"model={model}", "options.no_such_option=1")
    assert done.returncode == 1
    assert "no_such_option: unknown setting (value 1)" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(modules & HEAVY) == []
