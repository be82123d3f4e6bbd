"""How much labels scatter from one visit of a star to the next, measured on the stars of the survey itself.

The error of a label that comes from the spectrum (`_err_data`) is that of one visit against the truth. A part
of it is common to all visits of a star, so the mean of many visits has it too. Only the part that is new in
each visit shrinks. It follows the law a² + (b / signal to noise)², fitted to the differences of two visits of
many stars. With fewer than `LEAST` of these, nothing is known of it, and no error shrinks.

Shapes: N rows, V rows of stars with several visits, P pairs of visits.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from survey.catalog.stars import read_shards
from survey.catalog.visits import Flags, Rows, float_column, repeated_visits
from survey.ensemble.label_errors import WITHIN, NoiseLaw, fit_noise_law
from survey.predict.output import Predictions

LEAST, MOST = 20, 20_000
"""With fewer stars with two visits there is no law; of more stars, so many are drawn."""
SEED = 2025


def measure_scatter(predictions: Predictions, star_N: NDArray[np.int32]) -> dict[str, NoiseLaw]:
    """The scatter of labels from visit to visit; `star_N` is the star of each prediction."""
    visits_S = np.bincount(star_N)
    several_S = np.flatnonzero(visits_S > 1)
    if len(several_S) < LEAST or not predictions.labels:
        return {}
    if len(several_S) > MOST:
        several_S = np.random.default_rng(SEED).choice(several_S, MOST, replace=False)
    chosen_N = np.isin(star_N, several_S)
    labels = [column for name in predictions.labels for column in (name, f"{name}_err_data")]
    tables, start = [], 0
    for table in read_shards(predictions, [*labels, "snr", "domain", "visit", "path", "row"]):
        tables.append(table.filter(pa.array(chosen_N[start : start + table.num_rows])))
        start += table.num_rows
    return fit_scatter(pa.concat_tables(tables), star_N[chosen_N], predictions.labels)


def fit_scatter(visits: pa.Table, star_V: ArrayLike, labels: tuple[str, ...]) -> dict[str, NoiseLaw]:
    """The laws of these labels, from visits in the domain; a visit that occurs more than once counts once."""
    code_V = np.unique(star_V, return_inverse=True)[1]
    usable_V = ~repeated_visits(visits, code_V) & ~(float_column(visits, "domain") > 1)
    snr_V = np.fmax(float_column(visits, "snr"), 1.0)
    laws = {}
    for name in labels:
        value_V, error_V = float_column(visits, name), float_column(visits, f"{name}_err_data")
        pair_P2 = _pairs(code_V, usable_V & np.isfinite(value_V) & (error_V > 0))
        half_P = np.diff(value_V[pair_P2], axis=1)[:, 0] / np.sqrt(2)
        if len(half_P) >= LEAST and np.quantile(np.abs(half_P), WITHIN) > 0:
            snr_P = (snr_V[pair_P2] ** -2.0).mean(1) ** -0.5
            laws[name] = fit_noise_law(half_P, np.zeros(len(half_P)), snr_P)
    return laws


def _pairs(code_V: Rows, usable_V: Flags) -> Rows:
    """Two usable visits (P, 2) of each star that has them, drawn at random."""
    row_V = np.random.default_rng(SEED).permutation(np.flatnonzero(usable_V))
    row_V = row_V[np.argsort(code_V[row_V], kind="stable")]
    first_V = np.flatnonzero(np.diff(code_V[row_V], prepend=-1))
    count = np.diff(first_V, append=len(row_V))
    return np.stack([row_V[first_V[count > 1] + visit] for visit in (0, 1)], 1)
