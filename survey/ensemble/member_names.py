"""Names of runs in an ensemble: short ones for tables, and paths in its document."""

from collections.abc import Sequence

from survey import files
from survey.ensemble import diversity
from survey.settings import SettingsError

INSIDE = "./"
"""Beginning of the path of a member that lies inside the ensemble's folder: both can be moved together."""
AROUND = ".."
"""The path of a member in whose folder the ensemble lies: both can be moved together too."""


def full_path(folder: str, path: str) -> str:
    """The path of a member, from that in the document of the ensemble in this folder."""
    if path == AROUND:
        return folder.rpartition("/")[0] or "."
    return files.join(folder, path.removeprefix(INSIDE)) if path.startswith(INSIDE) else path


def short_names(paths: Sequence[str]) -> list[str]:
    """Short names of runs: the ends of their paths, as long as needed to differ.

    No run gets the name of the ensemble's own row in tables.
    """
    full = [path.rstrip("/") for path in paths]
    if twice := sorted({path for path in full if full.count(path) > 1}):
        raise SettingsError(f"ensemble: runs: {', '.join(twice)} is given twice; give each run once")
    parts = [path.split("/") for path in full]
    for size in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-size:]) for part in parts]
        if len(set(names)) == len(names) and diversity.ENSEMBLE_NAME not in names:
            return names
    return full


def path_from(ensemble: str, path: str) -> str:
    """The path of a member as the document has it: relative, if one of both folders lies in the other."""
    if ensemble.rstrip("/").rpartition("/")[0] == path.rstrip("/"):
        return AROUND
    inside = f"{ensemble.rstrip('/')}/"
    return INSIDE + path.removeprefix(inside) if path.startswith(inside) else path
