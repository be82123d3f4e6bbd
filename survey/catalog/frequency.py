"""The prior test: how many CEMP stars can there be among the metal-poor stars of a catalog?

The stars of the MP list are counted by [Fe/H], and multiplied with the published shares of CEMP stars. A CEMP
list that is longer than the result holds other stars, whatever its expected purity says. If the MP list holds
ordinary stars, the result is too large, and the test too mild. Shape: N stars.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa

from survey.catalog.check_settings import CempFrequency
from survey.catalog.document import FrequencyBinRecord, FrequencyRecord
from survey.catalog.visits import float_column

CHANCE = 2.0
"""The range is widened by so many standard deviations of the number of stars."""


def cemp_frequency(mp: pa.Table, cemp: pa.Table, settings: CempFrequency) -> FrequencyRecord | None:
    """How many CEMP stars the MP list can have, against the CEMP list; None without [Fe/H]."""
    if "FeH" not in mp.column_names:
        return None
    ends = [np.inf, *settings.edges, -np.inf]
    bins = [
        FrequencyBinRecord(
            low=low if np.isfinite(low) else None,
            high=high if np.isfinite(high) else None,
            mp=_between(mp, low, high),
            cemp=_between(cemp, low, high),
            least=least,
            most=most,
        )
        for (high, low), least, most in zip(pairwise(ends), settings.least, settings.most, strict=True)
    ]
    fewest, most = (sum(bin_.mp * getattr(bin_, end) for bin_ in bins) for end in ("least", "most"))
    fewest, most = max(fewest - CHANCE * fewest**0.5, 0.0), most + CHANCE * most**0.5
    listed = sum(bin_.cemp for bin_ in bins)
    warning = ""
    if listed > most:
        warning = (
            f"longer than can be: it has {listed:,} stars with [Fe/H], but the {sum(b.mp for b in bins):,} "
            f"stars of the MP list can have at most {most:,.0f} CEMP stars by published frequencies; "
            f"{listed - most:,.0f} or more are something else"
        )
    return FrequencyRecord(bins=tuple(bins), fewest=fewest, most=most, listed=listed, warning=warning)


def _between(stars: pa.Table, low: float, high: float) -> int:
    """Stars with [Fe/H] from low, included, to high."""
    feh_N = float_column(stars, "FeH")
    return int(((feh_N >= low) & (feh_N < high)).sum())
