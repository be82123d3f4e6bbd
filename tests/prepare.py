"""Loads all modules and compiles the loops once, before the processes of the tests would each do so."""

import importlib
import tempfile
from pathlib import Path

from survey.store.ingest import ingest
from survey.store.settings import Ingest
from tests import survey_files

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    for path in sorted((root / "survey").rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    with tempfile.TemporaryDirectory() as folder:
        files = survey_files.write(Path(folder) / "files", range(2))
        ingest(Ingest.from_dict("ingest", {"input": str(files), "store": f"{folder}/store"}))
