"""The command `survey`: from any folder, with help, show=true and exit codes."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from survey.recipes import recipe_names
from survey.settings import JOBS
from survey.training.settings import Train
from tests.commands import survey

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from survey.command import main; main()"]


def test_the_command_lists_all_jobs_and_recipes(tmp_path: Path) -> None:
    done = survey("--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in JOBS:
        assert f"\n  {name} " in done.stdout
    assert f"recipes: {', '.join(recipe_names())}" in done.stdout
    assert survey(cwd=tmp_path).stdout == done.stdout
    assert (
        survey("trian", cwd=tmp_path).stderr == "survey: trian: there is no such job; did you mean train?\n"
    )


def test_help_of_a_job_is_shown_in_either_order_and_misspelt_help_is_understood(tmp_path: Path) -> None:
    assert survey("help", "predict", cwd=tmp_path).stdout == survey("predict", "--help", cwd=tmp_path).stdout
    for item in ("--hlp", "-help", "-H"):
        assert survey(item, cwd=tmp_path).stderr == f"survey: {item}: did you mean --help?\n"


def test_a_job_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    done = survey("ingest", "cemp", "input=nowhere", "store=store", cwd=tmp_path)
    assert (done.returncode, "nowhere" in done.stderr) == (1, True)
    assert not (tmp_path / "store").exists()


def test_a_job_runs_from_any_folder_with_a_recipe_by_name(tmp_path: Path) -> None:
    done = survey("mock", "cemp", "out=files", "n=20", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "files" / "labels.parquet").is_file()


def test_help_shows_what_is_needed_then_what_is_common_with_the_values_of_the_recipe(tmp_path: Path) -> None:
    text = survey("train", "cemp", "batch=32", "--help", cwd=tmp_path).stdout
    needed, common = text.partition("often changed, with the values of the recipe cemp")[::2]
    assert needed.index("  store ") < needed.index("  labels ") < needed.index("  run ")
    assert "  epochs        whole number, here 24 (default 60)" in common
    assert "  batch         whole number, here 32 (default 64)" in common
    assert [line.split()[0] for line in common.splitlines() if line[:3].strip() and line[:2] == "  "] == list(
        Train.COMMON
    )
    assert "survey train cemp --help all shows all" in common
    every = survey("train", "cemp", "model=mpbdnet", "--help", "all", cwd=tmp_path).stdout
    assert "optimiser.weight_decay" in every
    assert "options of model=mpbdnet" in every


@pytest.mark.parametrize(
    ("arguments", "section"),
    [(("ingest", "sources=[hdf5,ascii]"), ""), (("predict", "ingest.sources=[hdf5,ascii]"), "ingest.")],
)
def test_help_lists_the_options_of_the_sources(
    tmp_path: Path, arguments: tuple[str, str], section: str
) -> None:
    def options(*more: str) -> list[str]:
        lines = survey(*more, "--help", "all", cwd=tmp_path).stdout.splitlines()
        return [line.split()[0] for line in lines if line.startswith(f"  {section}options.")]

    names = ["hdf5.group", "hdf5.wave", "hdf5.medium", "ascii.wave", "ascii.medium", "ascii.third"]
    grid = [f"arrays.grid{part}" for part in ("", ".start", ".stop", ".step", ".scale")]
    assert options(*arguments) == [f"{section}options.{name}" for name in [*names, *grid]]
    assert options(arguments[0])[0] == f"{section}options.lamost.mrs"


@pytest.mark.parametrize("job", JOBS)
def test_common_settings_exist(job: str, tmp_path: Path) -> None:
    def names(*arguments: str) -> set[str]:
        lines = survey(job, *arguments, cwd=tmp_path).stdout.splitlines()
        return {line.split()[0] for line in lines if line[:2] == "  " and line[2:3].isalpha()}

    assert names("--help") <= names("--help", "all")


def test_show_prints_the_settings_as_a_recipe_and_the_plan_and_does_nothing(tmp_path: Path) -> None:
    survey("mock", "cemp", "out=files", "n=20", "broken=0", "workers=1", cwd=tmp_path)
    done = survey("ingest", "cemp", "input=files", "store=store", "show=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings, _, plan = done.stdout.partition("\n\n")
    assert yaml.safe_load(settings)["ingest"]["prepare"]["grid"] == "cemp4900"
    assert "store: store would be made" in plan
    assert "input: 20 rows in 1 shard" in plan
    assert not (tmp_path / "store").exists()
    wrong = survey("ingest", "cemp", "input=files", "store=store", "show=yes", cwd=tmp_path)
    advice = "give show=true to see what would be done, or show=plan for the time that it would take"
    assert (wrong.returncode, wrong.stderr) == (1, f"show=yes: {advice}\n")


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[2]}"
    interruptible = [sys.executable, "-c", code]  # processes in the background of a shell ignore the signal
    with subprocess.Popen(
        [*interruptible, "mock", "cemp", "out=files", "n=20000", "workers=1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        assert "mock" in process.stderr.readline()  # the first line of its progress: the work has begun
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.endswith("stopped; run the same command again to continue\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_with_one_line_and_a_second_one_at_once(number: int, code: int) -> None:
    """The second one comes while the program ends, when Python would print a stack."""
    script = (
        "import atexit, os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
        "from survey.command import report_errors\n"
        f"atexit.register(lambda: (os.kill(os.getpid(), {number}), time.sleep(60)))\n"
        f"with report_errors():\n    os.kill(os.getpid(), {number})\n    time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "stopped; run the same command again to continue\n")


@pytest.mark.parametrize(
    "ending",
    [
        "2>&- > >(true)",
        pytest.param("2>&- >&-", marks=pytest.mark.long),
        pytest.param("2> >(true) > >(true)", marks=pytest.mark.long),
    ],
)
def test_a_job_ends_well_whose_output_nobody_reads(tmp_path: Path, ending: str) -> None:
    """Its files are right: no message gets into them, though they may have the number of a closed stream."""
    script = f'"$@" mock cemp out=files n=20 workers=1 {ending}'
    done = subprocess.run(
        ["/bin/bash", "-c", script, "bash", *COMMAND],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "files" / "labels.parquet").is_file()


def test_an_error_is_printed_without_passwords(tmp_path: Path) -> None:
    done = survey("ingest", "s3://AKIA:hush@bucket/x", "store=s", cwd=tmp_path)
    assert done.returncode == 1
    assert "s3://AKIA:***@bucket/x: which setting is this for?" in done.stderr
    assert "hush" not in done.stderr


@pytest.mark.long
def test_a_wheel_holds_jobs_recipes_and_search_spaces(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("survey_processor-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, ending in (("jobs", "py"), ("recipes", "yaml"), ("tune", "yaml")):
        expected = {f"survey/{folder}/{path.name}" for path in (ROOT / folder).glob(f"*.{ending}")}
        assert expected <= names
    assert {f"survey/pages/static/{path.name}" for path in (ROOT / "survey/pages/static").iterdir()} <= names
    assert not [name for name in names if name.split("/")[0] in ("jobs", "recipes", "tune", "tests")]
