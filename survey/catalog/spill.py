"""Room on this machine's disk while a catalog is made, and the move of the result to its place.

A folder of thousands of files cannot be written at once. So it is made in a scratch folder and then moved
(to a bucket: uploaded, with the file that marks it complete last).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from survey import files, scratch

WORK = ".work"


@contextmanager
def scratch_folder(catalog: str) -> Iterator[Path]:
    """An empty folder that is removed at the end.

    It is in the catalog's own folder; for a bucket among this machine's temporary files.
    """
    if files.is_remote(catalog):
        with scratch.scratch_folder("catalog") as folder:
            yield Path(folder)
        return
    work = Path(catalog, WORK)
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work)


def publish(folder: Path, target: str, marker: str) -> None:
    """Replace the target by a finished folder.

    `marker` is the file that marks the folder complete: it is removed first and written last.
    """
    files.remove(files.join(target, marker))
    if not files.is_remote(target):
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        return
    for entry in list(files.walk(target)):
        files.remove(entry.path)
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    for name in sorted(names, key=lambda name: name == marker):
        files.write(files.join(target, name), (folder / name).read_bytes())
