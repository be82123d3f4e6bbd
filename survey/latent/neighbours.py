"""Nearest neighbours by distance in the latent space, found exactly, piece by piece.

Shapes: N rows, C components, S rows of the sample, Q rows asked about, K neighbours.
"""

import difflib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.latent.components import Floats
from survey.latent.latents import Floats32, Latents, Rows
from survey.progress import Progress
from survey.settings import SettingsError

PIECE = 8192
"""Rows whose distances to the sample are in memory at the same time: 660 MB for a sample of 20,000."""
NAME_COLUMNS = ("star", "visit", "obsid", "path")
"""Columns by which an object is named."""
MOST_EXAMPLES = 500
FILE_ENDING = r"(?i)(\.(fits?|jpe?g|png|npy))?(\.gz)?$"


def nearest_in_sample(
    component_NC: Floats32, sample_S: Rows, count: int
) -> tuple[NDArray[np.int32], Floats32]:
    """For each row the nearest rows of the sample but itself, as numbers in the sample, and the distances.

    -1 and NaN for a row without a latent.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = len(component_NC)
    nearest_NK, distance_NK = np.full((rows, count), -1, np.int32), np.full((rows, count), np.nan, np.float32)
    tree = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(component_NC[sample_S])
    with Progress("latent: neighbours", rows, "rows") as progress:
        for piece in pieces(rows):
            known = piece.start + np.flatnonzero(np.isfinite(component_NC[piece]).all(1))
            progress.add(piece.stop - piece.start)
            if not known.size:
                continue
            distance_NL, nearest_NL = tree.kneighbors(component_NC[known])
            is_self_NL = sample_S[nearest_NL] == known[:, None]
            is_self_NL[~is_self_NL.any(1), -1] = True  # of the others, the farthest is one too many
            kept_NL = ~is_self_NL
            nearest_NK[known] = nearest_NL[kept_NL].reshape(-1, count)
            distance_NK[known] = distance_NL[kept_NL].reshape(-1, count)
    return nearest_NK, distance_NK


def pieces(rows: int) -> Iterator[slice]:
    """Slices of `PIECE` rows."""
    for start in range(0, rows, PIECE):
        yield slice(start, min(start + PIECE, rows))


def squared_distances(first_QC: Floats32, other_NC: Floats32) -> Floats32:
    """Squared distances (Q, N)."""
    product_QN = first_QC @ other_NC.T
    square_QN = (first_QC**2).sum(1)[:, None] + (other_NC**2).sum(1) - 2 * product_QN
    return np.asarray(np.maximum(square_QN, 0))


def nearest_of_all(component_NC: Floats32, asked: Rows, count: int) -> tuple[Rows, Floats]:
    """For each row asked about the nearest rows of all but itself, and their distances (Q, K)."""
    queries_QC = component_NC[asked]
    best_QK = np.full((len(asked), 0), np.inf, np.float32)
    row_QK = np.empty((len(asked), 0), np.int64)
    for piece in pieces(len(component_NC)):
        square_QN = squared_distances(queries_QC, component_NC[piece])
        number_N = np.arange(piece.start, piece.stop)
        square_QN[~np.isfinite(square_QN) | (number_N == asked[:, None])] = np.inf
        both_QL = np.concatenate([best_QK, square_QN], 1)
        rows_QL = np.concatenate([row_QK, np.broadcast_to(number_N, square_QN.shape)], 1)
        chosen_QK = np.argsort(both_QL, axis=1, kind="stable")[:, :count]
        best_QK = np.take_along_axis(both_QL, chosen_QK, 1)
        row_QK = np.take_along_axis(rows_QL, chosen_QK, 1)
    exact_QK = np.linalg.norm(component_NC[row_QK] - queries_QC[:, None], axis=2).astype(np.float64)
    exact_QK[~np.isfinite(best_QK)] = np.nan
    return row_QK, exact_QK


def find_rows(latents: Latents, names: tuple[str, ...]) -> dict[str, int]:
    """The first row of each name: a star, a visit, an obsid, or a file with or without its folder."""
    stems = {name: _stem(name) for name in names}
    wanted = pa.array(sorted(set(stems.values())), pa.string())
    columns = [name for name in NAME_COLUMNS if name in latents.identity]
    found: dict[str, int] = {}
    examples: list[str] = []
    for start, table in latents.tables(columns):
        for column in columns:
            texts = _texts(table[column].combine_chunks(), column)
            is_wanted_N = pc.is_in(texts, value_set=wanted).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(is_wanted_N).tolist():
                found.setdefault(texts[row].as_py(), start + row)
            if not start:
                examples += filter(None, texts[:MOST_EXAMPLES].to_pylist())
        if len(found) == len(wanted):
            break
    for name, stem in stems.items():
        if stem not in found:
            near = difflib.get_close_matches(stem, examples, 1)
            raise SettingsError(
                f"latent: like: {name}: no row of the predictions has this {', '.join(columns)}; "
                + (f"did you mean {near[0]}?" if near else f"give one such as {', '.join(examples[:3])}")
            )
    return {name: found[stem] for name, stem in stems.items()}


def _texts(column: pa.Array, name: str) -> pa.Array:
    texts = pc.cast(column, pa.string())
    if name == "path":
        texts = pc.replace_substring_regex(texts, r"^.*/", "")
        texts = pc.replace_substring_regex(texts, FILE_ENDING, "")
    return texts


def _stem(name: str) -> str:
    """A name without folders and ending, if it is that of a file."""
    text = pa.array([name], pa.string())
    return str(pc.replace_substring_regex(_texts(text, "path"), r"\s+$", "")[0])
