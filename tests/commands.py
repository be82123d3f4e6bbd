"""Commands in this process. A process of its own takes seconds, because it imports all libraries again."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from survey.command import main

ROOT = Path(__file__).resolve().parents[1]


def survey(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What `survey ...` prints in this folder, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    code: str | int | None = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["survey", *arguments])
        try:
            main()
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):  # Python prints the text of SystemExit
        return subprocess.CompletedProcess(arguments, 1, out.getvalue(), f"{err.getvalue()}{code}\n")
    return subprocess.CompletedProcess(arguments, code or 0, out.getvalue(), err.getvalue())
