"""The same objects in two surveys: how near they are to each other in the latent space, and how much the
two surveys differ as a whole.

An object of the first survey is compared with all other objects of the second: where its own partner is the
nearest of all, its rank is 1. Of several visits of the partner the nearest counts. Shapes: P pairs, N rows of
the first survey, M of the second, C components.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from scipy.spatial import cKDTree

from survey.labelling import keys, star_id
from survey.labelling.visit_names import FOLDER, array, distinct_names, with_folders
from survey.latent.components import Floats
from survey.latent.latents import Floats32, Latents, Rows
from survey.latent.neighbours import pieces, squared_distances
from survey.latent.row_labels import key_table
from survey.latent.settings import Pairs
from survey.settings import JobError
from survey.tables.columns import described_field

LISTED = ("visit", "star", "path")
"""Columns of the second survey's row that the table of pairs has, with the ending `_other`."""
KEYS_IN_ORDER = ("visit", "star", "position")
DISTANCES = ("mmd", "sinkhorn", "coral")


class PairSummary(BaseModel):
    """How the pairs rank, and how far the two surveys are from each other.

    `distances` compare the two surveys; `within` compares two halves of the first survey, which shows how
    large a distance is by chance; both are empty if a survey has one row with a latent only. `chance` is the
    median rank of a random row. Without any pair, the ranks are null. With another ensemble, the two latent
    spaces may have nothing in common.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    other_id: str
    same_ensemble: bool
    other_rows: int
    by: str
    pairs: int
    ranked: int
    median_rank: float | None
    chance: float
    top_1: float | None
    top_10: float | None
    distances: dict[str, float]
    within: dict[str, float]


@dataclass(frozen=True)
class FoundPairs:
    """The rows of the same objects in both surveys; for each row of the second, the number of its object."""

    by: str
    first_P: Rows
    other_P: Rows
    object_M: Rows


def find_pairs(first: Latents, other: Latents, settings: Pairs) -> FoundPairs:
    """The objects that both predictions have, each row of the first at most once; there may be none."""
    tables = key_table(first), key_table(other)
    object_M = _objects(tables[1], settings.radius)
    best = FoundPairs("", np.empty(0, np.int64), np.empty(0, np.int64), object_M)
    for by in KEYS_IN_ORDER if settings.by == "auto" else (settings.by,):
        if by == "position":
            found = FoundPairs(by, *_by_position(*tables, settings.radius), object_M)
        else:
            found = FoundPairs(by, *_by_name(by, *tables), object_M)
            if settings.by == "auto":
                found = _without_distant(found, *tables, settings.radius)
        if len(found.first_P) > len(best.first_P):
            best = found
    if not len(best.first_P) and settings.by != "auto":
        raise JobError(
            f"latent: other: {other.predictions.path}: no object is in {first.predictions.path} too, by "
            f"{settings.by}; leave out pairs.by=, or give a larger pairs.radius="
        )
    return best


def _objects(table: pa.Table, radius: float) -> Rows:
    """One number for the rows of an object: of the same name, or within the radius (arcsec)."""
    codes, _ = star_id.encode(star_id.clean_ids(array(table["star"])))
    ra_M, dec_M = (keys.to_floats(array(table[name])) for name in ("ra", "dec"))
    return star_id.connect(codes, star_id.friends_of_friends(ra_M, dec_M, radius))


def _by_name(column: str, first: pa.Table, other: pa.Table) -> tuple[Rows, Rows]:
    """Rows with the same name of the star or the visit; of several rows of the second survey, the first."""
    if column == "visit":
        tables = [with_folders(table) for table in (first, other)]
        visit, folder = (
            pa.concat_arrays([array(table[name]).cast(pa.string()) for table in tables])
            for name in ("visit", FOLDER)
        )
        table_N = np.repeat([0, 1], [first.num_rows, other.num_rows])
        texts = pc.utf8_lower(distinct_names(keys.file_stems(visit), folder, table_N))
    else:
        ids = [
            star_id.clean_ids(table[column].combine_chunks()).cast(pa.string()) for table in (first, other)
        ]
        texts = pa.concat_arrays(ids)
    codes, _ = star_id.encode(texts)
    code_N, code_M = codes[: first.num_rows], codes[first.num_rows :]
    row_G = np.full(codes.max(initial=-1) + 2, -1, np.int64)
    row_G[code_M[::-1]] = np.arange(len(code_M))[::-1]
    row_G[-1] = -1
    partner_N = row_G[code_N]
    rows = np.flatnonzero(partner_N >= 0)
    return rows, partner_N[rows]


def _without_distant(found: FoundPairs, first: pa.Table, other: pa.Table, radius: float) -> FoundPairs:
    """The pairs without those whose positions are farther apart than the radius (arcsec).

    Names such as 000001 may stand for other objects in another survey.
    """
    places = []
    for table, rows_P in ((first, found.first_P), (other, found.other_P)):
        places.append([keys.to_floats(table[name].combine_chunks())[rows_P] for name in ("ra", "dec")])
    both_P = star_id.has_position(*places[0]) & star_id.has_position(*places[1])
    first_P3, other_P3 = (star_id.unit_vectors(ra_P[both_P], dec_P[both_P]) for ra_P, dec_P in places)
    kept_P = ~both_P
    kept_P[both_P] = np.linalg.norm(first_P3 - other_P3, axis=1) <= star_id.chord(radius)
    if distant := int((~kept_P).sum()):
        logging.getLogger(__name__).warning(
            "latent: other: %d rows with the same %s are more than %g arcsec apart, so they are no pairs; "
            "pairs.by=%s takes them",
            *(distant, found.by, radius, found.by),
        )
    return replace(found, first_P=found.first_P[kept_P], other_P=found.other_P[kept_P])


def _by_position(first: pa.Table, other: pa.Table, radius: float) -> tuple[Rows, Rows]:
    """Rows whose nearest row of the second survey is within the radius (arcsec)."""
    ra_N, dec_N, ra_M, dec_M = (
        keys.to_floats(table[name].combine_chunks()) for table in (first, other) for name in ("ra", "dec")
    )
    rows_N = np.flatnonzero(star_id.has_position(ra_N, dec_N))
    rows_M = np.flatnonzero(star_id.has_position(ra_M, dec_M))
    if not (rows_N.size and rows_M.size):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    tree = cKDTree(star_id.unit_vectors(ra_M[rows_M], dec_M[rows_M]))
    points = star_id.unit_vectors(ra_N[rows_N], dec_N[rows_N])
    distance_N, nearest_N = tree.query(points, distance_upper_bound=star_id.chord(radius))
    near_N = np.isfinite(distance_N)
    return rows_N[near_N], rows_M[nearest_N[near_N]]


def rank_pairs(
    found: FoundPairs, first_NC: Floats32, other_MC: Floats32, most: int, seed: int
) -> tuple[FoundPairs, Floats, Rows]:
    """The pairs that were ranked, their distances, and how many rows of the second survey are nearer, plus 1.

    Other visits of the partner are no rivals; the nearest of them is that of the pair. A pair of which a row
    has no latent is left out; of more than `most`, a random part is ranked.
    """
    other_P, distance_P = _nearest_visits(found, first_NC, other_MC)
    chosen = np.flatnonzero(np.isfinite(distance_P))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    ranked = replace(found, first_P=found.first_P[chosen], other_P=other_P[chosen])
    first_PC, distance_P = first_NC[ranked.first_P], distance_P[chosen]
    object_P = found.object_M[ranked.other_P]
    rank_P = np.ones(len(chosen), np.int64)
    step = max(1, (1 << 24) // max(len(chosen), 1))
    for start in range(0, len(other_MC), step):
        block_MC = other_MC[start : start + step]
        square_PM = squared_distances(first_PC, block_MC)
        square_PM[object_P[:, None] == found.object_M[start : start + step]] = np.inf
        rank_P += (square_PM < (distance_P**2)[:, None]).sum(1)
    return ranked, distance_P, rank_P


def _nearest_visits(found: FoundPairs, first_NC: Floats32, other_MC: Floats32) -> tuple[Rows, Floats]:
    """The row of each partner's nearest visit, and its distance; infinite without a latent."""
    order_M = np.argsort(found.object_M, kind="stable")
    sorted_M, object_P = found.object_M[order_M], found.object_M[found.other_P]
    begin_P, end_P = (np.searchsorted(sorted_M, object_P, side) for side in ("left", "right"))
    row_P, distance_P = found.other_P.copy(), np.full(len(found.other_P), np.inf)
    for visit in range(int((end_P - begin_P).max(initial=0))):
        pairs = np.flatnonzero(begin_P + visit < end_P)
        rows = order_M[begin_P[pairs] + visit]
        apart = np.linalg.norm(first_NC[found.first_P[pairs]] - other_MC[rows], axis=1)
        nearer = apart < distance_P[pairs]  # never where one of both has no latent
        row_P[pairs[nearer]], distance_P[pairs[nearer]] = rows[nearer], apart[nearer]
    return row_P, distance_P


def pair_table(
    first: Latents, other: Latents, ranked: FoundPairs, distance_P: Floats, rank_P: Rows
) -> pa.Table:
    """A row for each ranked pair, the farthest first."""
    order = np.lexsort((-distance_P, -rank_P))
    table = first.take(ranked.first_P[order])
    there = other.take(
        ranked.other_P[order], [name for name in (*LISTED, "ra", "dec") if name in other.identity]
    )
    for name in there.column_names:
        table = table.append_column(
            described_field(f"{name}_other", there[name].type, f"{name} in the second survey"), there[name]
        )
    columns = {
        "distance": (distance_P[order], "distance between both in the latent space"),
        "rank": (rank_P[order], "1 = of all rows of the second survey, its own is the nearest"),
    }
    for name, (values, text) in columns.items():
        array = pa.array(values)
        table = table.append_column(described_field(name, array.type, text), array)
    return table


def summarise(
    first: Latents,
    other: Latents,
    found: FoundPairs,
    rank_P: Rows,
    other_rows: int,
    distances: tuple[dict[str, float], dict[str, float]],
) -> PairSummary:
    """The numbers of the pairs and of the two surveys."""
    return PairSummary(
        other_id=other.id,
        same_ensemble=first.predictions.document.ensemble.id == other.predictions.document.ensemble.id,
        other_rows=other_rows,
        by=found.by,
        pairs=len(found.first_P),
        ranked=len(rank_P),
        median_rank=float(np.median(rank_P)) if len(rank_P) else None,
        chance=(other_rows + 1) / 2,
        top_1=float((rank_P == 1).mean()) if len(rank_P) else None,
        top_10=float((rank_P <= 10).mean()) if len(rank_P) else None,
        distances=distances[0],
        within=distances[1],
    )


def survey_distances(
    first_NC: Floats32, other_MC: Floats32, rows: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The distances between the distributions of two surveys, and between two halves of the first; none where
    a survey has one row only, as that has no distribution.
    """
    generator = np.random.default_rng(seed)
    first_NC, other_MC = _finite(first_NC), _finite(other_MC)
    count = min(rows, len(first_NC) // 2, len(other_MC))
    if count < 2:
        return {}, {}
    halves = generator.permutation(len(first_NC))[: 2 * count]
    one, two = first_NC[halves[:count]], first_NC[halves[count:]]
    third = other_MC[generator.permutation(len(other_MC))[:count]]
    return _distances(one, third), _distances(one, two)


def _finite(component_NC: Floats32) -> Floats32:
    return np.concatenate(
        [component_NC[piece][np.isfinite(component_NC[piece, 0])] for piece in pieces(len(component_NC))]
    )


def _distances(first_NC: Floats32, other_MC: Floats32) -> dict[str, float]:
    """All distances; components are scaled by their common spread, so that they do not depend on the unit.

    One number scales all components: a component of small variance counts little.
    """
    import torch

    from survey.training.alignment import DISTANCES as FUNCTIONS

    both_SC = np.concatenate([first_NC, other_MC])
    spread = max(float(both_SC.std(0).max()), 1e-12)
    centre_C = both_SC.mean(0)
    one, two = (torch.from_numpy((part - centre_C) / spread) for part in (first_NC, other_MC))
    with torch.no_grad():
        return {name: float(FUNCTIONS[name](one, two)) for name in DISTANCES}
