"""Injection and recovery: what the CEMP list finds of real stars that carbon was put into.

Real metal-poor stars with measured carbon are few, so no list can be tested on them. The test population of
an ensemble holds real stars whose spectra were changed as those of computed stars change with carbon
(survey.ensemble.drawn_stars). How many of them are in the list, by their new [C/Fe]? Their own carbon was not
known before, so it is uncertain by about 0.3. Shape: N draws.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from survey.catalog.candidates import CandidateRules
from survey.catalog.document import IntervalRecord, RecoveryRecord
from survey.catalog.prior import ordinary_probabilities
from survey.catalog.visits import float_column, is_ruled_out
from survey.ensemble.draws import BASE, INJECTED, injected
from survey.metrics.intervals import independent_share, share_measure

BINS = ((-0.2, 0.4), (0.4, 1.0), (1.0, 1.5), (1.5, 2.2))
"""[C/Fe]. Of the first no star belongs in the list, of the second it is not sure, of the others all do."""


def recovery_records(rules: CandidateRules, draws: pa.Table | None) -> tuple[RecoveryRecord, ...]:
    """What the CEMP list finds, by [C/Fe]; nothing without such draws."""
    threshold = rules.thresholds.get("CEMP")
    if draws is None or threshold is None or not injected(draws).num_rows:
        return ()
    table = injected(draws)
    passed_N = threshold.passes(ordinary_probabilities(table)) & ~is_ruled_out(table)
    return tuple(_records(table, passed_N, passed_N & ~rules.flags.keep_out(table)))


def _records(table: pa.Table, passed_N: np.ndarray, listed_N: np.ndarray) -> Iterator[RecoveryRecord]:
    """The counts in each bin; draws of one star are alike and count as fewer."""
    carbon_N, base_N = float_column(table, INJECTED), table[BASE].to_numpy()
    for low, high in BINS:
        inside_N = (carbon_N >= low) & (carbon_N < high)
        n, listed = int(inside_N.sum()), int(listed_N[inside_N].sum())
        if not n:
            continue
        independent = independent_share(listed_N[inside_N].astype(np.float64), base_N[inside_N])
        found = share_measure("CEMP list", "recovery", listed, n, independent)
        share = IntervalRecord(value=found.value, low=found.low, high=found.high)
        passed, stars = int(passed_N[inside_N].sum()), len(np.unique(base_N[inside_N]))
        yield RecoveryRecord(low=low, high=high, stars=stars, n=n, passed=passed, listed=listed, share=share)
