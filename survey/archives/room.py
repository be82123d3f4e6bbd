"""Room on the disk: asked for before a download, and looked at during it."""

import shutil
from pathlib import Path

from survey.archives.journal import Journal
from survey.archives.settings import Download
from survey.archives.targets import WantedFile
from survey.settings import JobError


def has_room(folder: Path) -> int:
    """Free bytes of the disk on which a folder is, or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(
    folder: Path, settings: Download, journal: Journal, targets: list[WantedFile], expected: int
) -> None:
    """An error if the files that are to come would not fit. Sizes of catalogues are not known before."""
    count = sum(not target.is_catalogue for target in targets)
    size, free = count * journal.typical_size(expected), has_room(folder)
    if size > free - settings.keep_free * 1e9:
        raise JobError(
            f"download: out: {folder}: {count:,} files take about {size_text(size)}; {size_text(free)} are "
            f"free, and keep_free={settings.keep_free:g} GB stay so; make room, or give most= or other cuts="
        )


def size_text(size: float) -> str:
    """Bytes in words."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"
