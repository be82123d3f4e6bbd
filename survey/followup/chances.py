"""The probability that a star belongs in its list, from its score, the expected purity, and verdicts.

Scores are calibrated probabilities. Where the catalog states the expected purity of the list, the log odds of
all scores are shifted alike, so that their mean is this purity. The verdict of people multiplies the odds,
less so if the spectrum is poor. Shapes: N stars.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from survey.catalog.visits import float_column
from survey.followup.settings import VerdictSettings

Floats = NDArray[np.float64]
SUREST = 0.995
"""No probability is nearer to 0 or 1, and no expected purity: lists are not as sure as their scores."""
UNKNOWN = 0.5
"""The probability of a star without a score."""
QUALITIES, WEIGHTS = (1.0, 2.0, 3.0), (0.0, 0.5, 1.0)
"""How much of a verdict counts by the quality of the spectrum by eye, 1 (no use) to 4."""


def expected_purity(table: pa.Table) -> float:
    """The expected purity of a list, which its last row has; NaN if the catalog promises none."""
    if "purity_to_here" not in table.column_names or not table.num_rows:
        return float("nan")
    return float(float_column(table, "purity_to_here")[-1])


def probabilities(table: pa.Table, score: str, odds: VerdictSettings) -> Floats:
    """The probability of each star of a list, best first."""
    if score not in table.column_names:
        return _with_verdicts(np.full(table.num_rows, UNKNOWN), table, odds)
    score_N = float_column(table, score)
    p_N = np.clip(np.where(np.isfinite(score_N), score_N, UNKNOWN), 1 - SUREST, SUREST)
    return _with_verdicts(shifted_to_mean(p_N, expected_purity(table)), table, odds)


def shifted_to_mean(p_N: Floats, mean: float) -> Floats:
    """Probabilities whose log odds are shifted alike, so that this is their mean; unchanged for NaN."""
    if not np.isfinite(mean) or not len(p_N):
        return p_N
    mean = float(np.clip(mean, 1 - SUREST, SUREST))
    odds_N = logit(p_N)
    shift = brentq(lambda offset: float(expit(odds_N + offset).mean()) - mean, -30, 30)
    return np.asarray(np.clip(expit(odds_N + shift), 1 - SUREST, SUREST))


def _with_verdicts(p_N: Floats, table: pa.Table, odds: VerdictSettings) -> Floats:
    """The probabilities after the verdicts of people, where there are some."""
    if "verdict" not in table.column_names:
        return p_N
    factor = {name: getattr(odds, name) for name in type(odds).model_fields}
    factor_N = np.array([factor.get(verdict or "", 1.0) for verdict in table["verdict"].to_pylist()])
    weight_N = np.ones(table.num_rows)
    if "verdict_quality" in table.column_names:
        quality_N = float_column(table, "verdict_quality")
        known_N = np.isfinite(quality_N)
        weight_N[known_N] = np.interp(quality_N[known_N], QUALITIES, WEIGHTS)
    changed_N = expit(logit(p_N) + weight_N * np.log(factor_N))
    return np.asarray(np.clip(changed_N, 1 - SUREST, SUREST))
