"""Every job opens at once: ``--help`` and a misspelt setting load no heavy library."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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

RUN_JOBS = """
import contextlib, io, json, os, runpy, sys
import survey.command

def run(job, *arguments):
    sys.argv = [job, *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = runpy.run_path(job, run_name="__main__") and 0
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):  # Python prints the text of SystemExit
                code = print(code, file=err) or 1
    modules = sorted({name.split(".")[0] for name in sys.modules})
    return code or 0, out.getvalue(), err.getvalue(), modules

for commands in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if not os.fork():
        print(json.dumps([run(*command) for command in commands]))
        sys.exit()
    os.wait()
"""
"""Runs commands as their users do, and reports the loaded modules after each. What all jobs need is loaded
once; the commands of one job run in a process of their own.
"""

MISSPELT = ("recipes/cemp.yaml", "wrokers=3")
OPTIONS = [
    ("store=x", "labels=y", "run=z", f"model={model}", "options.no_such_option=1")
    for model in ("prism", "dualbranch", "lightgbm")
]
every_job = pytest.mark.parametrize("job", JOBS)


def run_jobs(commands: list[list[tuple[str, ...]]]) -> list[tuple[int, str, str, list[str]]]:
    """Exit code, output, errors and loaded modules of each command; those of a list share a process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_JOBS, json.dumps(commands)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(result) for line in done.stdout.splitlines() for result in json.loads(line)]


@pytest.fixture(scope="module")
def ended() -> dict[tuple[str, ...], Any]:
    """The ends of all commands of this file."""
    commands: list[list[tuple[str, ...]]]
    commands = [[(f"jobs/{job}.py", "--help"), (f"jobs/{job}.py", *MISSPELT)] for job in JOBS]
    commands[JOBS.index("train")] += [("jobs/train.py", *given) for given in OPTIONS]
    names = [command for job in commands for command in job]
    return dict(zip(names, run_jobs(commands), strict=True))


@every_job
def test_help_loads_no_heavy_library(job: str, ended: dict[tuple[str, ...], Any]) -> None:
    code, out, _, modules = ended[f"jobs/{job}.py", "--help"]
    assert code == 0
    assert f"usage: survey {job} " in out
    assert sorted(HEAVY.intersection(modules)) == []


@every_job
def test_a_misspelt_setting_loads_no_heavy_library(job: str, ended: dict[tuple[str, ...], Any]) -> None:
    code, _, err, modules = ended[(f"jobs/{job}.py", *MISSPELT)]
    assert code == 1
    assert f"{job}: wrokers: unknown setting (value 3)" in err
    assert "Traceback" not in err
    assert sorted(HEAVY.intersection(modules)) == []


@pytest.mark.parametrize("given", OPTIONS, ids=lambda given: given[3])
def test_a_misspelt_option_of_a_network_loads_no_heavy_library(
    given: tuple[str, ...], ended: dict[tuple[str, ...], Any]
) -> None:
    code, _, err, modules = ended["jobs/train.py", *given]
    assert code == 1
    assert "no_such_option: unknown setting (value 1)" in err
    assert "Traceback" not in err
    assert sorted(HEAVY.intersection(modules)) == []
