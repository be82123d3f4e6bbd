"""Room on this machine's disk while a catalog is made, and how what was made there takes its place, whole or not at all.

A catalog's folder of thousands of files cannot be written at once; so it is made aside, and moved (a bucket: uploaded, the file that proves it
complete last).
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from survey import files

WORK = ".work"


@contextmanager
def scratch(catalog: str) -> Iterator[Path]:
    """An empty folder for as long as it is used: in the catalog's own folder, for a bucket among this machine's temporary files."""
    if files.is_remote(catalog):
        with tempfile.TemporaryDirectory(prefix="survey-catalog-") as folder:
            yield Path(folder)
        return
    work = Path(catalog, WORK)
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work)


def publish(made: Path, target: str, proof: str) -> None:
    """A finished folder in the place of what was there; `proof` is the file without which it is none: gone first, there last."""
    files.remove(files.join(target, proof))
    if not files.is_remote(target):
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
        return
    for entry in list(files.walk(target)):
        files.remove(entry.path)
    names = [str(path.relative_to(made)) for path in sorted(made.rglob("*")) if path.is_file()]
    for name in sorted(names, key=lambda name: name == proof):
        files.write(files.join(target, name), (made / name).read_bytes())
