"""The rows that are farthest from the centre of their class, those in the emptiest places, and the most
typical rows.

Shapes: N rows.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.latent.latents import Floats32, Latents
from survey.latent.map_table import MapColumns, words
from survey.tables.columns import described_field

BY_CENTRE, BY_DENSITY = "centre", "density"
OUTLIER, TYPICAL = "outlier", "typical"


def outlier_table(latents: Latents, columns: MapColumns, top: int) -> pa.Table:
    """The first and the last rows by both scores: `by` says which score, `kind` which end, `rank` which row.

    A row may be in the table several times.
    """
    pieces = []
    for by, score_N in ((BY_CENTRE, columns.ratio_N), (BY_DENSITY, columns.density_N)):
        for kind, sign in ((OUTLIER, -1), (TYPICAL, 1)):
            rows = ends(score_N, top, sign)
            pieces.append(_listed(latents, columns, rows, by, kind))
    return pa.concat_tables(pieces)


def ends(score_N: Floats32, top: int, sign: int) -> NDArray[np.int64]:
    """The rows of the highest (sign -1) or lowest (1) scores, in order."""
    known = np.flatnonzero(np.isfinite(score_N))
    keys_N = sign * score_N[known]
    if len(known) > top:
        near = np.argpartition(keys_N, top - 1)[:top]
        limit = keys_N[near].max()
        candidates = np.flatnonzero(keys_N <= limit)
    else:
        candidates = np.arange(len(known))
    order = candidates[np.argsort(keys_N[candidates], kind="stable")][:top]
    return np.asarray(known[order], np.int64)


def _listed(latents: Latents, columns: MapColumns, rows: NDArray[np.int64], by: str, kind: str) -> pa.Table:
    table = latents.take(rows)
    count = len(rows)
    added = {
        "by": (pa.array([by] * count, pa.string()), "the score: centre (centre_ratio) or density"),
        "kind": (pa.array([kind] * count, pa.string()), "outlier or typical"),
        "rank": (pa.array(np.arange(1, count + 1)), "place in this list"),
        "group": (words(columns.group_names, columns.group_N[rows]), "class whose centre is meant"),
        "cluster": (pa.array(columns.cluster_N[rows]), "cluster; -1 = in none"),
        "centre_ratio": (
            pa.array(columns.ratio_N[rows], from_pandas=True),
            "distance from the centre of the class, in units of the class's median distance",
        ),
        "density_score": (
            pa.array(columns.density_N[rows], from_pandas=True),
            "mean distance to the nearest rows of the sample, in units of the median",
        ),
    }
    for name, (values, text) in added.items():
        table = table.append_column(described_field(name, values.type, text), values)
    return table
