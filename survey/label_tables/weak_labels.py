"""Weak labels from a survey's own classification, and pairs of visits of one star.

Most objects of a survey are no metal-poor stars of type F, G or K, and the survey's pipeline says so: M
stars, hot stars, white dwarfs, galaxies. Their rows have a class and a weight, and no other label. Carbon
stars are left out: they may be what is looked for. Shapes: N visits, S stars of the survey.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.label_tables.settings import WeakLabels
from survey.label_tables.survey_stars import SurveyStars
from survey.labelling.split import hash_to_unit
from survey.labelling.star_id import Codes
from survey.labelling.survey_types import survey_kinds

PATTERNS = {"A": r"(?i)^\s*(ma|da)?A\d", "late_K": r"(?i)^\s*[dg]?K[5-9]"}
"""Subclasses that `survey_kinds` does not name, or counts as F, G and K."""


def object_kinds(survey: SurveyStars) -> NDArray[np.object_]:
    """What the survey's pipeline calls each visit: one of `WEAK_KINDS`, another kind, or empty."""
    columns = {name: survey.carried[name] for name in ("class", "subclass") if name in survey.carried}
    kind_N = np.full(len(survey), "", object)
    if not columns:
        return kind_N
    kind_N = survey_kinds(pa.table(columns)).copy()
    if "subclass" in columns:
        text = columns["subclass"].cast(pa.string())
        for kind, pattern in PATTERNS.items():
            is_kind = pc.fill_null(pc.match_substring_regex(text, pattern), False)
            kind_N[is_kind.to_numpy(zero_copy_only=False) & np.isin(kind_N, ["", "FGK"])] = kind
    if "class" in columns:
        text = pc.utf8_upper(pc.utf8_trim_whitespace(columns["class"].cast(pa.string())))
        is_unknown = pc.fill_null(pc.equal(text, "UNKNOWN"), False).to_numpy(zero_copy_only=False)
        kind_N[is_unknown & (kind_N == "")] = "unknown"
    return kind_N


def weak_visits(
    settings: WeakLabels, survey: SurveyStars, best_S: Codes, has_label_S: NDArray[np.bool_]
) -> tuple[Codes, NDArray[np.object_], dict[str, int]]:
    """The visits that get a weak label, their kinds, and how many stars of each kind there are.

    Each star has its best visit. A star whose visits are called different kinds is left out, and so is one
    that a catalogue has labels of.
    """
    kind_N = object_kinds(survey)
    usable_S = (best_S >= 0) & ~has_label_S
    same_S = np.ones(survey.stars, bool)
    best_N = best_S[survey.star_N]
    differs_N = (best_N >= 0) & (kind_N != kind_N[np.maximum(best_N, 0)])
    same_S[survey.star_N[differs_N]] = False
    visits = best_S[usable_S & same_S]
    kinds = kind_N[visits]
    available = {name: count for name, count in Counter(kinds.tolist()).items() if name in settings.kinds}
    chosen = []
    for kind in settings.kinds:
        index = visits[kinds == kind]
        names = survey.name_S[survey.star_N[index]]
        order = np.argsort([hash_to_unit("weak", str(name)) for name in names], kind="stable")
        chosen.append(index[order[: settings.most]])
    visits = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    return visits.astype(np.int64), kind_N[visits], available


def repeat_pairs(survey: SurveyStars, usable_N: NDArray[np.bool_], best_S: Codes) -> tuple[Codes, Codes]:
    """Pairs of visits of one star: its best visit, and each other usable one."""
    best_N = best_S[survey.star_N]
    other = np.flatnonzero(usable_N & (best_N >= 0) & (best_N != np.arange(len(survey))))
    other = other[np.lexsort((other, best_N[other]))]
    return best_N[other], other
