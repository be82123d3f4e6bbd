"""Rows of a catalogue matched to the stars of a survey: by visit, by id of a star, else by position.

A match by id whose positions disagree is refused. A position is matched to the nearest star within a radius,
after both are brought to the same year; where another star is nearly as near, the row is refused or flagged.
Shapes: R rows of the catalogue, N visits and S stars of the survey.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from survey.label_tables.catalogue_settings import STAR_IDS
from survey.label_tables.read_catalogue import CatalogueRows
from survey.label_tables.settings import StarMatch
from survey.label_tables.star_positions import StarPositions, arcsec_between, positions_in_names
from survey.label_tables.survey_stars import SurveyStars
from survey.labelling import star_id
from survey.labelling.star_id import Codes, Floats

POSITION = "position"
NEAREST = 8
"""Positions of the survey that are looked at around a row, to find a second star."""
BLOCK = 1 << 18
"""Rows that are looked up at a time."""

FAR_FROM_ID = "id and position disagree"
AMBIGUOUS = "two stars of the survey are as near"
NOT_IN_SURVEY = "no such star in the survey"
TWO_ROWS = "two stars of the catalogue are as near to one of the survey"
NEARER_ROW = "another star of the catalogue is nearer"
SWAPPED_AT_LEAST = 20

PUNCTUATION = r"[\s_+./*'-]"
"""What two spellings of a name may differ in."""
ONE_PLACE = 0.5
"""Arcsec. Designations are made from measured coordinates: those that are this near are of one star."""


@dataclass
class StarMatches:
    """The star of each row (-1: none), what matched it, and how far apart the positions are (arcsec).

    `is_ambiguous_R`: another star was nearly as near, and the nearer one was taken.
    """

    star_R: Codes
    by_R: NDArray[np.object_]
    arcsec_R: Floats
    is_ambiguous_R: NDArray[np.bool_]


def match_rows(rows: CatalogueRows, survey: SurveyStars, settings: StarMatch) -> StarMatches:
    """The star of each row that is kept; rows without a star are refused with a reason."""
    here, there = _same_year(rows.positions, survey.positions)
    found = StarMatches(
        np.full(len(rows), -1, np.int64),
        np.full(len(rows), "", object),
        np.full(len(rows), np.nan),
        np.zeros(len(rows), bool),
    )
    visit_R = _match_ids(rows, survey, found)
    _measure(found, visit_R, here, there)
    with np.errstate(invalid="ignore"):
        is_far_R = found.arcsec_R > settings.check
    rows.refuse(is_far_R, FAR_FROM_ID)
    found.star_R[is_far_R] = -1
    left_R = rows.kept & (found.star_R < 0) & here.known
    _match_positions(rows, found, left_R, here, there, survey.star_N, settings)
    _refuse_crowds(rows, found, settings)
    _check_swapped(rows, found, here, there, survey, settings)
    rows.refuse(found.star_R < 0, NOT_IN_SURVEY)
    found.star_R[~rows.kept] = -1
    return found


def _same_year(here: StarPositions, there: StarPositions) -> tuple[StarPositions, StarPositions]:
    """Both positions in one year: the side that knows how its stars move is moved."""
    years_here, years_there = _year(here), _year(there)
    if here.has_motion and np.isfinite(years_there):
        return here.at(years_there), there
    if there.has_motion and np.isfinite(years_here):
        return here, there.at(years_here)
    return here, there


def _year(positions: StarPositions) -> float:
    """The middle of the years of positions, NaN if they are unknown."""
    years = positions.epoch_R[np.isfinite(positions.epoch_R)]
    return float(np.median(years)) if years.size else np.nan


def _match_ids(rows: CatalogueRows, survey: SurveyStars, found: StarMatches) -> Codes:
    """Matches rows by the ids that both sides have, the most exact first; the visit of the survey of each."""
    visit_R = np.full(len(rows), -1, np.int64)
    for kind in ("obsid", "visit", *STAR_IDS):
        if kind not in rows.ids or kind not in survey.ids:
            continue
        open_R = np.flatnonzero(rows.kept & (visit_R < 0))
        wanted = rows.ids[kind].take(pa.array(open_R))
        index = pc.fill_null(pc.index_in(wanted, value_set=survey.ids[kind], skip_nulls=True), -1)
        visits = index.to_numpy(zero_copy_only=False).astype(np.int64)
        chosen = open_R[visits >= 0]
        visit_R[chosen], found.by_R[chosen] = visits[visits >= 0], kind
    found.star_R[visit_R >= 0] = survey.star_N[visit_R[visit_R >= 0]]
    return visit_R


def _measure(found: StarMatches, visit_R: Codes, here: StarPositions, there: StarPositions) -> None:
    """How far apart the positions of matched rows are, where both are known."""
    matched = np.flatnonzero(visit_R >= 0)
    matched = matched[here.known[matched] & there.known[visit_R[matched]]]
    visits = visit_R[matched]
    found.arcsec_R[matched] = arcsec_between(
        here.ra_R[matched], here.dec_R[matched], there.ra_R[visits], there.dec_R[visits]
    )


class _Sky:
    """The distinct positions of stars, for a look-up of the nearest."""

    def __init__(self, positions: StarPositions, star_N: Codes) -> None:
        known = np.flatnonzero(positions.known)
        order = known[np.lexsort((positions.dec_R[known], positions.ra_R[known], star_N[known]))]
        place = np.stack([star_N[order], positions.ra_R[order], positions.dec_R[order]], 1)
        is_new = np.ones(len(order), bool)
        is_new[1:] = (np.diff(place, axis=0) != 0).any(1)
        self.star_P = star_N[order[is_new]]
        points = star_id.unit_vectors(place[is_new, 1], place[is_new, 2])
        self.tree = cKDTree(points, balanced_tree=False) if len(points) else None

    def nearest(self, ra: Floats, dec: Floats, arcsec: float) -> tuple[Codes, Floats, Floats]:
        """The nearest star within an angle (-1: none), its distance, and that of the nearest other star."""
        star, first, second = (
            np.full(len(ra), -1, np.int64),
            np.full(len(ra), np.inf),
            np.full(len(ra), np.inf),
        )
        if self.tree is None or not len(ra):
            return star, first, second
        count = min(NEAREST, len(self.star_P))
        limit = star_id.chord(arcsec)
        for start in range(0, len(ra), BLOCK):
            part = slice(start, start + BLOCK)
            points = star_id.unit_vectors(ra[part], dec[part])
            chords, index = self.tree.query(points, k=[*range(1, count + 1)], distance_upper_bound=limit)
            is_near = np.isfinite(chords)
            stars = np.where(is_near, self.star_P[np.minimum(index, len(self.star_P) - 1)], -1)
            other = np.where(is_near & (stars != stars[:, :1]), chords, np.inf)
            star[part] = stars[:, 0]
            first[part], second[part] = _arcsec(chords[:, 0]), _arcsec(other.min(1))
        return star, first, second


def _arcsec(chords: Floats) -> Floats:
    angle = np.degrees(2 * np.arcsin(np.minimum(chords, 2) / 2)) * 3600
    return np.asarray(np.where(np.isinf(chords), np.inf, angle), np.float64)


def _match_positions(
    rows: CatalogueRows,
    found: StarMatches,
    left_R: NDArray[np.bool_],
    here: StarPositions,
    there: StarPositions,
    star_N: Codes,
    settings: StarMatch,
) -> None:
    """Matches the rows that are left to the nearest star."""
    index = np.flatnonzero(left_R)
    # a second star may be farther than the radius and still be nearly as near
    reach = settings.radius + settings.margin
    star, first, second = _Sky(there, star_N).nearest(here.ra_R[index], here.dec_R[index], reach)
    is_match = (star >= 0) & (first <= settings.radius)
    is_ambiguous = is_match & (second < first + settings.margin)
    if settings.ambiguous == "refuse":
        ambiguous_R = np.zeros(len(rows), bool)
        ambiguous_R[index[is_ambiguous]] = True
        rows.refuse(ambiguous_R, AMBIGUOUS)
        is_match &= ~is_ambiguous
    chosen = index[is_match]
    found.star_R[chosen], found.by_R[chosen] = star[is_match], POSITION
    found.arcsec_R[chosen] = first[is_match]
    found.is_ambiguous_R[index[is_ambiguous & is_match]] = True


def _refuse_crowds(rows: CatalogueRows, found: StarMatches, settings: StarMatch) -> None:
    """Several stars of one catalogue at one star of the survey: the nearest counts, if it is clearly nearest.

    A row that an id matched is the nearest. Rows with the same id, or of a catalogue without ids, are rows of
    one star.
    """
    kind = next((kind for kind in STAR_IDS if kind in rows.ids), None)
    if kind is None:
        return
    id_R = _codes(rows.ids[kind], is_spelled=kind == "name")
    by_position_R = rows.kept & (found.by_R == POSITION)
    index = np.flatnonzero(rows.kept & (found.star_R >= 0) & (id_R >= 0))
    apart_R = np.where(by_position_R, found.arcsec_R, 0)
    order = index[np.lexsort((apart_R[index], by_position_R[index], found.star_R[index]))]
    is_first = np.diff(found.star_R[order], prepend=-1) != 0
    first = order[is_first][np.cumsum(is_first) - 1]
    is_other = by_position_R[order] & (id_R[order] != id_R[first])
    if kind == "designation":
        ra_R, dec_R = positions_in_names(rows.ids[kind])
        is_other &= ~(arcsec_between(ra_R[order], dec_R[order], ra_R[first], dec_R[first]) < ONE_PLACE)
    if settings.ambiguous == "refuse":
        is_close = by_position_R[first] & (apart_R[order] < apart_R[first] + settings.margin)
        crowded = np.unique(found.star_R[order[is_other & is_close]])
        rows.refuse(by_position_R & np.isin(found.star_R, crowded), TWO_ROWS)
    farther_R = np.zeros(len(rows), bool)
    farther_R[order[is_other]] = True
    rows.refuse(farther_R, NEARER_ROW)


def _codes(ids: pa.Array, is_spelled: bool) -> Codes:
    """A code for each id; for each name, however it is spelled."""
    if is_spelled:
        ids = pc.utf8_upper(pc.replace_substring_regex(ids, PUNCTUATION, ""))
    return star_id.encode(ids)[0]


def _check_swapped(
    rows: CatalogueRows,
    found: StarMatches,
    here: StarPositions,
    there: StarPositions,
    survey: SurveyStars,
    settings: StarMatch,
) -> None:
    """An error if hardly a row matches, but many do with right ascension and declination swapped."""
    index = np.flatnonzero(here.known & rows.kept)[:BLOCK]
    matched = int((found.star_R >= 0).sum())
    if 10 * matched > len(index):
        return
    ra, dec = here.dec_R[index] % 360, here.ra_R[index]
    place = np.abs(dec) <= 90
    star, _, _ = _Sky(there, survey.star_N).nearest(ra[place], dec[place], settings.radius)
    if (count := int((star >= 0).sum())) >= max(SWAPPED_AT_LEAST, 10 * matched):
        raise ValueError(
            f"labels: sources.{rows.name}: {matched:,} rows match stars of {survey.path}, but {count:,} do "
            f"with ra and dec swapped; give sources.{rows.name}.position.ra= and .dec= the other way round"
        )


def group_stars(catalogues: list[CatalogueRows], arcsec: float) -> list[Codes]:
    """One code for all rows of all catalogues that are the same star, by an id or by position (-1: refused).

    Stars with a known motion are compared with each other in the year 2016, with the others in their years.
    """
    sizes = [len(rows) for rows in catalogues]
    kept = np.concatenate([rows.kept for rows in catalogues])
    has_motion = any(rows.positions.has_motion for rows in catalogues)
    codes = []
    for year in np.unique([2016.0, *_years_at_rest(catalogues)]) if has_motion else [2016.0]:
        moved = [rows.positions.at(year) for rows in catalogues]
        known = np.concatenate([positions.known for positions in moved]) & kept
        ra = np.where(known, np.concatenate([positions.ra_R for positions in moved]), np.nan)
        dec = np.concatenate([positions.dec_R for positions in moved])
        codes.append(star_id.friends_of_friends(ra, dec, arcsec))
    for kind in ("obsid", "visit", *STAR_IDS):
        texts = [rows.ids.get(kind, pa.nulls(len(rows), pa.string())) for rows in catalogues]
        if all(text.null_count == len(text) for text in texts):
            continue
        code, _ = star_id.encode(pa.concat_arrays([text.cast(pa.string()) for text in texts]))
        codes.append(np.where(kept, code, -1))
    star = np.where(kept, star_id.connect(*codes), -1)
    return np.split(star, np.cumsum(sizes)[:-1])


def _years_at_rest(catalogues: list[CatalogueRows]) -> Iterator[float]:
    """The year of the rows without a motion of each catalogue; NaN, for which nothing moves, if unknown."""
    for positions in (rows.positions for rows in catalogues):
        at_rest_R = positions.known & ~np.any(positions.pm_R2 != 0, axis=1)
        if at_rest_R.any():
            yield _year(replace(positions, epoch_R=np.where(at_rest_R, positions.epoch_R, np.nan)))
