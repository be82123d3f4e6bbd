"""Loads all modules and tests and compiles the loops once, before each process of the tests would do so.

That loading has no effect is seen here, where it costs nothing: it is the short form of
`tests/test_structure.py::test_importing_has_no_effect`.
"""

import importlib
import io
import logging
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_all(folder: Path) -> None:
    """Import every module, in an empty folder that is home too. The folder stays empty, and Ray is off."""
    import matplotlib as mpl

    os.environ["MPLCONFIGDIR"] = mpl.get_cachedir()  # its list of fonts takes seconds to make
    os.environ["HOME"] = str(folder)
    os.chdir(folder)
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        for path in sorted((ROOT / "survey").rglob("*.py")):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert not printed.getvalue(), f"an import has printed {printed.getvalue()}"
    ray = sys.modules["ray"]
    assert not ray.is_initialized(), "an import has started Ray"
    assert not logging.getLogger().handlers, "an import has changed what is logged"
    found = sorted(str(path) for path in folder.rglob("*"))
    assert not found, f"an import has written {found}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        load_all(Path(home))
        os.chdir(ROOT)
    from survey.store.ingest import ingest
    from survey.store.settings import Ingest
    from tests import survey_files

    with tempfile.TemporaryDirectory() as folder:
        files = survey_files.write(Path(folder) / "files", range(2))
        ingest(Ingest.from_dict("ingest", {"input": str(files), "store": f"{folder}/store"}))
    with redirect_stdout(io.StringIO()) as found:
        failed = pytest.main(["--collect-only"])
    sys.exit(found.getvalue() if failed else 0)
