"""Where on the sky a FITS image is: by its cards RA and DEC, or by the middle of its world coordinates.

RA and DEC are degrees, also as text, or text in hours and degrees (`10:13:34.7`, `-02 07 57.9`). Cut-out
services give world coordinates only; the object of a cut-out is in its middle.
"""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Card = Callable[[str], Any]
"""Gives the value of a card, or None."""

_SEXAGESIMAL = re.compile(r"\s*[-+]?\d{1,3}[ :hd]+\d{1,2}([ :m']+\d{1,2}(\.\d*)?)?[s\"]?\s*")


def position(card: Card, height: int, width: int) -> dict[str, float]:
    """Right ascension and declination in degrees; empty if the header does not say them."""
    ra, dec = _degrees(card("RA"), "hourangle"), _degrees(card("DEC"), "deg")
    return _middle(card, height, width) if ra is None or dec is None else {"ra": ra, "dec": dec}


def _degrees(value: Any, unit: str) -> Any:
    """A number as it is, decimal text as degrees, sexagesimal text in its unit; anything else is None."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return float(value) if math.isfinite(float(value)) else None
    if not _SEXAGESIMAL.fullmatch(value):
        return None
    from astropy.coordinates import Angle  # takes a moment, and few headers need it

    try:
        return float(Angle(value, unit).degree)
    except ValueError:
        return None


def _middle(card: Card, height: int, width: int) -> dict[str, float]:
    """The position of the middle of an image with equatorial coordinates of J2000."""
    kinds = [str(card(f"CTYPE{axis}")) for axis in (1, 2)]
    is_equatorial = kinds[0].startswith("RA--") and kinds[1].startswith("DEC-")
    if not is_equatorial or card("EQUINOX") == 1950 or str(card("RADESYS")).startswith("FK4"):
        return {}
    from astropy.wcs import WcsError, Wcsprm

    wcs = Wcsprm(naxis=2)
    try:
        wcs.ctype = [kind.removesuffix("-SIP") for kind in kinds]  # that bends by a part of the pixels
        wcs.crval, wcs.crpix = _pair(card, "CRVAL"), _pair(card, "CRPIX")
        if (matrix := _matrix(card, "CD", 0.0)) is not None:
            wcs.cd = matrix
        else:
            wcs.cdelt = _pair(card, "CDELT")
            if (matrix := _matrix(card, "PC", 1.0)) is not None:
                wcs.pc = matrix
            else:
                wcs.crota = [0.0, float(card("CROTA2") or 0)]
        place = wcs.p2s([[(width + 1) / 2, (height + 1) / 2]], 1)["world"][0]
    except (TypeError, ValueError, WcsError):  # a card is missing or makes no sense
        return {}
    return dict(zip(("ra", "dec"), place.tolist(), strict=True))


def _pair(card: Card, name: str) -> list[float]:
    """The numbers of both axes."""
    pair = [float(card(f"{name}{axis}")) for axis in (1, 2)]
    if not all(map(math.isfinite, pair)):
        raise ValueError(f"{name}: {pair}")
    return pair


def _matrix(card: Card, name: str, diagonal: float) -> list[list[float]] | None:
    """The numbers of a matrix, where those on the diagonal may be left out; None without any of them."""
    given = [[card(f"{name}{row}_{column}") for column in (1, 2)] for row in (1, 2)]
    if given == [[None, None], [None, None]]:
        return None
    return [
        [float((diagonal if row == column else 0.0) if value is None else value) for column, value in each]
        for row, each in enumerate(map(enumerate, given))
    ]
