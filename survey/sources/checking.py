"""What a source gives is checked here, so that no plugin can stop a shard: an error of its code, an unknown
key of a visit, arrays that do not fit are `Refused`.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from survey.sources import wavelengths
from survey.sources.visit import valid_values
from survey.spectrum import VISIT_KEYS, ImageOfObject, LogWave, Refused, Spectrum

Found = Spectrum | ImageOfObject
"""What a source finds in a file."""

WRONG_CODE = (NameError, AttributeError, ImportError, TypeError, NotImplementedError)
"""Errors that the code of a source has, whatever the file is. Others may come from a damaged file."""
_KEYS = frozenset(VISIT_KEYS)


@contextmanager
def damage_refused(source: str) -> Iterator[None]:
    """Whatever goes wrong with what a source gives is `Refused`: a reader of others may do anything."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Exception as error:  # any error of a plugin over a damaged file: one file must not end a shard
        reason = "plugin_error" if isinstance(error, WRONG_CODE) else "damaged"
        raise Refused(
            reason,
            f"survey/sources/{source}.py: {type(error).__name__}: {str(error)[:200]}{_place(error, source)}",
        ) from error


def _place(error: Exception, source: str) -> str:
    """The line of the code in which an error was raised."""
    steps = traceback.extract_tb(error.__traceback__)
    inside = [step for step in steps if step.filename.endswith(f"/sources/{source}.py")]
    return f" (line {inside[-1].lineno})" if inside else ""


def checked(found: Found, source: str, visit: str) -> Found:
    """A spectrum or an image that the store can use, with valid values of its visit; else `Refused`.

    `visit` is the name of the visit, if the source gives none.
    """
    usual = {"visit": visit, "survey": source, "layout": source}
    check_keys([found], source)
    if isinstance(found, ImageOfObject):
        if found.pixels.ndim != 3 or 0 in found.pixels.shape or found.pixels.dtype.kind not in "fiu":
            raise Refused("image_shape", f"pixels are {found.pixels.shape} {found.pixels.dtype}")
    else:
        _check_pixels(found)
    found.visit = usual | valid_values(found.visit.items())
    return found


def check_keys(found: Sequence[Found], source: str) -> None:
    """Refuse what says something of its visit that a store has no place for."""
    unknown = {key for each in found for key in each.visit.keys() - _KEYS}
    if unknown:
        raise Refused(
            "plugin_error",
            f"survey/sources/{source}.py: visit has the unknown key {min(unknown)!r}; the keys are "
            f"{', '.join(VISIT_KEYS)}",
        )


def _check_pixels(spectrum: Spectrum) -> None:
    """Refuse a spectrum whose arrays do not fit."""
    size = len(spectrum.wave)
    for what, values in (("flux", spectrum.flux), ("ivar", spectrum.ivar)):
        if values.shape != (size,) or values.dtype.kind not in "fiu":
            raise Refused("bad_row", f"{what} is {values.shape} {values.dtype} for {size} wavelengths")
    for mask in (spectrum.bad, spectrum.suspect):
        if mask is not None and (mask.shape != (size,) or mask.dtype != bool):
            raise Refused("bad_row", f"a mask of {mask.shape} {mask.dtype} for {size} pixels")
    if size < 2:
        raise Refused("bad_row", f"{size} pixels")
    if not isinstance(spectrum.wave, LogWave):
        wavelengths.check(spectrum.wave)
