"""The command line: ``survey JOB ...`` from anywhere, and what every job does before and after its work."""

import atexit
import importlib
import os
import runpy
import select
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import yaml

from survey import files
from survey.arguments import is_like_help, load, sort, values
from survey.help import PLANNED, WIDTH, help_text
from survey.messages import shorten, without_secrets
from survey.recipes import recipe_names, shipped
from survey.settings import JOBS, JobError, Settings, SettingsError, similar

S = TypeVar("S", bound=Settings)

STOPPED, TERMINATED = 130, 143
"""The exit codes after Ctrl-C and after SIGTERM, as shells expect them."""

HELP = ("-h", "--help", "help")
SHOW, PLAN = "show", "plan"


def main() -> None:
    """Run the job that is named first; the other arguments are its own."""
    _open_closed_streams()
    arguments = sys.argv[1:]
    if len(arguments) > 1 and arguments[0] in HELP and arguments[1] in JOBS:
        arguments = [arguments[1], "--help", *arguments[2:]]
    if not arguments or arguments[0] in HELP:
        sys.stdout.write(overview())
        return
    if arguments[0] in ("--version", "version"):
        from survey import __version__

        sys.stdout.write(f"survey {__version__}\n")
        return
    name = arguments[0]
    if name not in JOBS and is_like_help(name):
        raise SystemExit(f"survey: {shorten(name, 300)}: did you mean --help?")
    if name not in JOBS:
        raise SystemExit(f"survey: {shorten(name, 300)}: there is no such job; {similar(name, JOBS)}")
    sys.argv = [f"survey {name}", *arguments[1:]]
    with report_errors():
        runpy.run_path(str(shipped("jobs") / f"{name}.py"), run_name="__main__")


def overview() -> str:
    """All jobs with one sentence each, and the recipes that there are."""
    width = max(map(len, JOBS)) + 2
    indent = " " * (width + 2)
    jobs = "\n".join(
        textwrap.fill(f"  {name:<{width}}{_first_sentence(name)}", WIDTH, subsequent_indent=indent)
        for name in JOBS
    )
    return (
        f"usage: survey JOB [RECIPE] [key=value ...]\n\n{jobs}\n\n"
        f"recipes: {', '.join(recipe_names())}, or the path of your own YAML file\n"
        "survey JOB --help shows the settings of a job.\n"
    )


def _first_sentence(job: str) -> str:
    """The beginning of a job's description."""
    text = (shipped("jobs") / f"{job}.py").read_text(encoding="utf-8")
    return " ".join(text.split('"""')[1].split("\n\n")[0].split())


def start(cls: type[S], job: str, description: str, plan: str = "") -> S:
    """The settings from ``sys.argv``. ``--help`` and ``show=true`` print text, an error is printed; each of
    these ends the program.

    ``show=plan`` measures what the job would take, for the jobs in `PLANNED`; it ends the program too.
    `plan` is the dotted name of a function that describes what the job would do; ``show=true`` calls it.

    Threads of torch that wait for each other sleep from now on, instead of keeping a CPU busy. With other
    work on the machine, training with two threads is then much faster: 12 times for prism
    (benchmarks/RESULTS.md). OpenMP reads this when torch is loaded; it changes no result.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _open_closed_streams()
    arguments = sys.argv[1:]
    with report_errors():
        if {"-h", "--help"} & set(arguments):
            sys.stdout.write(_help(cls, job, description, [item for item in arguments if item not in HELP]))
            raise SystemExit(0)
        if f"{SHOW}={PLAN}" in arguments:
            sys.stdout.write(_estimate(cls, job, arguments))
            raise SystemExit(0)
        shows = any(_asks_to_show(item) for item in arguments)
        if shows and SHOW in cls.model_fields:
            settings = load(cls, job, arguments)
            if files.exists(files.join(getattr(settings, cls.OUTPUT), "settings.json")):
                return settings  # the job shows the progress of its folder
        settings = load(cls, job, [item for item in arguments if not item.startswith(f"{SHOW}=")])
        if shows:
            sys.stdout.write(_intent(settings, job, plan))
            raise SystemExit(0)
        return settings


def _asks_to_show(item: str) -> bool:
    key, _, value = item.partition("=")
    if key != SHOW:
        return False
    if value not in ("true", "false"):
        raise SettingsError(
            f"{item}: give show=true to see what would be done, or show=plan for the time that it would take"
        )
    return value == "true"


def _estimate(cls: type[Settings], job: str, arguments: list[str]) -> str:
    """What a job would take: its time, bytes, requests and dollars. Workers and prices begin with `plan.`."""
    if job not in PLANNED:
        raise SettingsError(f"{job}: {SHOW}={PLAN}: is for {', '.join(PLANNED)}; give {SHOW}=true")
    own = [item for item in arguments if not item.startswith((f"{SHOW}=", f"{PLAN}."))]
    assumed = [item.removeprefix(f"{PLAN}.") for item in arguments if item.startswith(f"{PLAN}.")]
    settings = load(cls, job, own)
    text = importlib.import_module("survey.estimate.estimate").text(job, settings, assumed)
    return f"{text}\nnothing was done ({SHOW}={PLAN})\n"


def _help(cls: type[Settings], job: str, description: str, arguments: list[str]) -> str:
    """The help text, with the values of the recipe and of the other arguments."""
    wants_all = "all" in arguments
    arguments = [item for item in arguments if item != "all"]
    found = sort(cls, job, arguments)
    common = () if wants_all else cls.COMMON
    given = values(cls, job, found)
    text = help_text(cls, job, description, given, found.recipe_name(), common, cls.ARGUMENT)
    return text + (cls.extra_help(given) if wants_all or not common else "")


def _intent(settings: Settings, job: str, plan: str) -> str:
    """What a job would do with these settings: all settings as a recipe, its folder, and its plan."""
    section = {job: settings.model_dump(mode="json")}
    lines = [yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=100).rstrip(), ""]
    if settings.OUTPUT:
        path = str(getattr(settings, settings.OUTPUT))
        names = sorted(files.names(path)) if path else []
        state = "exists: it would be completed, or left as it is if it is finished"
        lines.append(f"{settings.OUTPUT}: {path} {state if names else 'would be made'}")
    if plan:
        module, _, function = plan.rpartition(".")
        lines.append(getattr(importlib.import_module(module), function)(settings))
    lines.append("nothing was done (show=true)")
    return "\n".join(lines) + "\n"


def _os_error_text(error: OSError) -> str:
    """The message of an error of the operating system, without its number."""
    if error.errno is None or not error.strerror or not error.filename:
        return str(error)
    return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"


@contextmanager
def report_errors() -> Iterator[None]:
    """Errors that a user can correct, Ctrl-C and SIGTERM end the program with a message only."""
    terminations: list[int] = []
    try:
        with _terminate_like_ctrl_c(terminations):
            yield
    except (ValueError, JobError) as error:
        raise SystemExit(without_secrets(str(error))) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _drop_unread_output():
            raise SystemExit(0) from None
        raise SystemExit(without_secrets(_os_error_text(error))) from error
    except KeyboardInterrupt:
        code = TERMINATED if terminations else STOPPED
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one ends the program at once
            signal.signal(number, lambda *_: os._exit(code))
        with suppress(OSError):
            sys.stderr.write("stopped; run the same command again to continue\n")
        raise SystemExit(code) from None


@contextmanager
def _terminate_like_ctrl_c(terminations: list[int]) -> Iterator[None]:
    """SIGTERM, as a batch system sends it, ends a job like Ctrl-C: what is open is closed, Ray is stopped.

    Its number is added to `terminations`. (Ray Train raises another error than the one of the handler.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _: object) -> None:
        terminations.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _open_closed_streams() -> None:
    """Standard streams that are closed lead nowhere.

    Otherwise, the next file that is opened would take their number, and get what is written to them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the end
    atexit.register(_drop_unread_output)


def _drop_unread_output() -> bool:
    """Whether the reader of the output has gone, as after ``| head``. Then the rest of it leads nowhere."""
    output = select.poll()
    output.register(1, select.POLLOUT)
    has_gone = any(event & select.POLLERR for _, event in output.poll(0))
    if has_gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return has_gone
