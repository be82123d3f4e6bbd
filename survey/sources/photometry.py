"""Magnitudes and Gaia's number of a source, as a survey's input catalogue states them in the header.

LAMOST writes up to seven magnitudes, whose bands one card names (`ugrizjh`, `gri`, `gbprp` of Gaia), or one
card for each band of Pan-STARRS. Its name of an object is a number of Gaia if it begins with G, or if the
magnitudes are Gaia's.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from survey.sources.header import Cards
from survey.sources.visit import text_or_none

BANDS = ("g", "r", "i")
"""The bands whose magnitudes are kept, besides G of Gaia."""
GAIA_BANDS = ("gbprp", "gbpgrp", "gaia")
"""How MAGTYPE begins if the first magnitude is G of Gaia."""
MAGTYPE, MAG1_TO_7 = "MAGTYPE", tuple(f"MAG{number}" for number in range(1, 8))
PAN_STARRS = tuple(f"MAG_PS_{band.upper()}" for band in BANDS)

_LETTERS = frozenset("ugrizyjhkbv")
"""The bands that have one letter."""
_GAIA_NUMBER = re.compile(r"\d{9,19}")
_NANOMAGGIES = 22.5
"""The magnitude of a flux of 1 in the unit of SDSS."""


def lamost_photometry(cards: Cards) -> dict[str, Any]:
    """The columns of a visit that describe the brightness of a LAMOST target, and its number in Gaia."""
    bands = (text_or_none(cards.get(MAGTYPE)) or "").lower()
    is_gaia = bands.startswith(GAIA_BANDS)
    name = text_or_none(cards.get("OBJNAME")) or ""
    number = name.removeprefix("G") if is_gaia or name.startswith("G") else ""
    values: dict[str, Any] = {"gaia_source_id": number if _GAIA_NUMBER.fullmatch(number) else None}
    if is_gaia:
        return values | {"mag_gaia": cards.get(MAG1_TO_7[0]), "mag_system": bands}
    if bands:
        values["mag_system"] = bands
        return values | {f"mag_{band}": cards.get(card) for band, card in _cards_of_bands(bands)}
    measured = [cards.get(card) for card in PAN_STARRS]
    if any(value is not None for value in measured):
        values |= dict(zip((f"mag_{band}" for band in BANDS), measured, strict=True))
        values["mag_system"] = "ps"
    return values


@lru_cache
def _cards_of_bands(bands: str) -> tuple[tuple[str, str], ...]:
    """The bands that are kept, with their cards.

    Names such as BR1R2I or FIBERMAGR do not say which card holds which band, so they give none.
    """
    if not _LETTERS.issuperset(bands) or len(set(bands)) != len(bands):
        return ()
    return tuple((band, card) for band, card in zip(bands, MAG1_TO_7, strict=False) if band in BANDS)


def sdss_photometry(fluxes: object) -> dict[str, Any]:
    """Magnitudes from the five fluxes in nanomaggies that the fibre's position has in the images."""
    if not isinstance(fluxes, Sequence) or len(fluxes) != 5:
        return {}
    magnitudes = {
        f"mag_{band}": _NANOMAGGIES - 2.5 * math.log10(flux)
        for band, flux in zip("ugriz", fluxes, strict=True)
        if band in BANDS and isinstance(flux, (int, float)) and math.isfinite(flux) and flux > 0
    }
    return magnitudes | {"mag_system": "sdss"} if magnitudes else {}
