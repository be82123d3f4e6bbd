"""Without a survey: the stars of the catalogues themselves. Shapes: R rows of a catalogue, S stars."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.label_tables.catalogue_settings import STAR_IDS
from survey.label_tables.match_stars import StarMatches
from survey.label_tables.read_catalogue import CatalogueRows
from survey.label_tables.star_positions import StarPositions
from survey.label_tables.survey_stars import SurveyStars
from survey.labelling import star_id
from survey.labelling.star_id import Codes


def own_stars(catalogues: Sequence[CatalogueRows], group: Sequence[Codes]) -> SurveyStars:
    """The stars of all catalogues, each with the position and ids of the first row that has them.

    The catalogues are in order of priority.
    """
    code_R = np.concatenate(group)
    count = int(code_R.max(initial=-1)) + 1
    known_R = np.concatenate([rows.positions.known for rows in catalogues])
    sky = {
        name: np.concatenate([getattr(rows.positions, name) for rows in catalogues])
        for name in ("ra_R", "dec_R", "epoch_R", "pm_R2")
    }
    first_S = _first(code_R, known_R, count)
    has = first_S >= 0
    ra, dec, epoch = (np.where(has, sky[name][first_S], np.nan) for name in ("ra_R", "dec_R", "epoch_R"))
    motion = np.where(has[:, None], sky["pm_R2"][first_S], 0.0)
    nowhere = np.zeros(count, bool)
    positions = StarPositions(ra, dec, epoch, motion, nowhere, nowhere)
    ids = {}
    for kind in ("obsid", "visit", *STAR_IDS):
        texts = [
            rows.ids.get(kind, pa.nulls(len(rows), pa.string())).cast(pa.string()) for rows in catalogues
        ]
        text = pa.concat_arrays(texts)
        index = _first(code_R, text.is_valid().to_numpy(zero_copy_only=False), count)
        if (index >= 0).any():
            ids[kind] = text.take(pa.array(index, mask=index < 0))
    star_S = np.arange(count)
    encoded = [star_id.encode(ids[kind]) for kind in STAR_IDS if kind in ids]
    numbered = pa.array([f"row {number}" for number in range(count)], pa.string())
    visits = pc.coalesce(*(ids[kind] for kind in ("visit", "obsid") if kind in ids), numbered)
    names = star_id.name_stars(star_S, encoded, positions.ra_R, positions.dec_R, visits) if count else star_S
    return SurveyStars(
        "", ids, positions, np.full(count, np.nan), {}, star_S, np.asarray(names, object)
    )  # fmt: skip


def own_matches(catalogues: Sequence[CatalogueRows], group: Sequence[Codes]) -> list[StarMatches]:
    """Each row that is kept is a row of its own star."""
    found = []
    for rows, codes in zip(catalogues, group, strict=True):
        by = np.where(rows.kept, "itself", "").astype(object)
        none = np.zeros(len(rows), bool)
        found.append(StarMatches(np.where(rows.kept, codes, -1), by, np.full(len(rows), np.nan), none))
    return found


def _first(code_R: Codes, wanted_R: np.ndarray, count: int) -> Codes:
    """The first wanted row of each code; -1 where there is none."""
    first = np.full(count, -1, np.int64)
    index = np.flatnonzero(wanted_R & (code_R >= 0))[::-1]
    first[code_R[index]] = index
    return first
