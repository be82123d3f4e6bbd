"""Unfinished writes: the temporary files that processes have left in a folder, as they were killed."""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
"""The temporary names of `survey.files.write`."""
LEFT_AFTER = 3600.0
"""Seconds since the last change of a temporary file. Other hosts may write into the folder just now, and no
name says which process of which host writes it; but no write takes so long."""


def remove_unfinished(folder: str) -> None:
    """Remove what was left long ago in a folder on a disk, and in the folders directly in it.

    An object of a bucket is there completely or not at all.
    """
    with suppress(OSError):  # it does no harm
        with tempfile.TemporaryFile(dir=folder) as now:
            limit = os.fstat(now.fileno()).st_mtime - LEFT_AFTER  # by the clock of the disk
        below = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        for place in (folder, *below):
            for entry in os.scandir(place):
                if NAME.fullmatch(entry.name):
                    with suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < limit:
                            Path(entry.path).unlink()
