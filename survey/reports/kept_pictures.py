"""The pictures in the folder of a result: drawn once, and again when the result was made anew."""

from collections.abc import Iterable

from survey import files

ENDING = ".png"


def keep_pictures(folder: str, created: bool, drawn: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write pictures (name without ending, bytes) unless there are some of this result; their paths.

    They are drawn only then, if `drawn` is a generator.
    """
    before = [files.join(folder, name) for name in files.names(folder) if name.endswith(ENDING)]
    if before and not created:
        return sorted(before)
    for path in before:
        files.remove(path)
    paths = []
    for name, data in drawn:
        paths.append(files.join(folder, name + ENDING))
        files.write(paths[-1], data)
    return sorted(paths)
