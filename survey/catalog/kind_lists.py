"""Lists of stars of other kinds that are worth a look: M subdwarfs, and stars rich in carbon.

They come from bands (`survey.catalog.bands`) and from the survey's own type, not from the networks. A CEMP
star with strong bands of C2 is in the list of carbon stars too. Shape: N stars.
"""

from collections import Counter
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.answers import ColumnSpec
from survey.catalog.bands import is_rich_in_carbon, subdwarf_class, zeta
from survey.catalog.candidates import RANK, append_column
from survey.catalog.flag_settings import CatalogFlag, FlagLimits
from survey.catalog.visits import Flags
from survey.catalog.votable import TableInfo
from survey.labelling.survey_types import survey_kinds

KindList = Literal["m_subdwarfs", "carbon_stars"]
KIND_LISTS: tuple[KindList, ...] = get_args(KindList)
COLUMNS: dict[str, ColumnSpec] = {
    "zeta": (
        "float32",
        "TiO5 for its CaH2 + CaH3 (Lepine et al. 2007): 1 in M dwarfs like the Sun, 0 without TiO",
        "",
        "spect.index",
    ),
    "m_class": ("string", "class by zeta: sdM (below 0.825), esdM (0.5), usdM (0.2)", "", "src.spType"),
    "carbon_by": (
        "string",
        "what says that it is rich in carbon: bands (both of C2), survey (its own type)",
        "",
        "meta.note",
    ),
}
BANDS = ("c2_5165", "c2_4668", "cn_4160", "g_band", "tio5", "cah2", "cah3", "na_d")
FIRST = ("rank", "star", "ra", "dec", *COLUMNS, *BANDS, "snr_total")
"""The columns that these lists begin with, where they have them."""
ABOUT = {
    "m_subdwarfs": "M subdwarfs, the poorest in metals first: strong CaH and Na D, little TiO",
    "carbon_stars": "stars rich in carbon, the strongest C2 5165 first: by both Swan bands and CH, or by the "
    "survey's own type; CEMP stars with strong bands too",
}
NOT_CARBON = ("white_dwarf", "M", "hot", "galaxy", "quasar", "sky")
"""Kinds whose bands of C2 mean something else."""


class KindLists:
    """Collects the stars of each list as they come."""

    def __init__(self, limits: FlagLimits) -> None:
        self.limits = limits
        self._tables: dict[KindList, list[pa.Table]] = {name: [] for name in KIND_LISTS}

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        choose: dict[KindList, Callable[[pa.Table], tuple[Flags, dict[str, np.ndarray]]]] = {
            "m_subdwarfs": self._subdwarfs,
            "carbon_stars": self._carbon_stars,
        }
        usable = stars.filter(pa.array(_bits(stars, CatalogFlag.VERY_LOW_SNR) == 0))
        for name, choose_rows in choose.items():
            chosen_N, columns = choose_rows(usable)
            rows = usable.filter(pa.array(chosen_N))
            for column, values in columns.items():
                rows = append_column(rows, column, COLUMNS[column], values[chosen_N])
            if rows.num_rows or not self._tables[name]:
                self._tables[name].append(rows)

    def ranked(self, name: KindList) -> pa.Table:
        """A list, best first."""
        table = pa.concat_tables(self._tables[name])
        keys = [("zeta", "ascending")] if name == "m_subdwarfs" else [("c2_5165", "descending")]
        keys = [key for key in keys if key[0] in table.column_names]
        if keys:
            table = table.take(pc.sort_indices(table, sort_keys=keys))
        table = append_column(table, "rank", RANK, np.arange(1, table.num_rows + 1, dtype=np.int32))
        first = [column for column in FIRST if column in table.column_names]
        return table.select([*first, *(column for column in table.column_names if column not in first)])

    def counts(self) -> dict[str, dict[str, int]]:
        """How many stars each list has, by class and by what says so."""
        by: dict[KindList, str] = {"m_subdwarfs": "m_class", "carbon_stars": "carbon_by"}
        return {name: dict(Counter(self.ranked(name)[by[name]].to_pylist())) for name in KIND_LISTS}

    def _subdwarfs(self, stars: pa.Table) -> tuple[Flags, dict[str, np.ndarray]]:
        zeta_N = zeta(stars)
        class_N = np.array(subdwarf_class(zeta_N, self.limits), object)
        has_bands_N = _bits(stars, CatalogFlag.M_SUBDWARF) != 0
        is_m_N = np.asarray(pc.equal(stars["kind"], "M"), bool)
        return has_bands_N & is_m_N, {"zeta": zeta_N, "m_class": class_N}

    def _carbon_stars(self, stars: pa.Table) -> tuple[Flags, dict[str, np.ndarray]]:
        kind_N = stars["kind"].to_numpy()
        by_bands_N = is_rich_in_carbon(stars, self.limits) & ~np.isin(kind_N, NOT_CARBON)
        by_survey_N = survey_kinds(stars) == "carbon"
        why_N = np.select(
            [by_bands_N & by_survey_N, by_bands_N, by_survey_N], ["bands, survey", "bands", "survey"], ""
        )
        return by_bands_N | by_survey_N, {"carbon_by": why_N.astype(object)}


def about_kind(name: KindList) -> TableInfo:
    """What a list says about itself."""
    return TableInfo(name, ABOUT[name])


def _bits(stars: pa.Table, flag: CatalogFlag) -> np.ndarray:
    return np.asarray(stars["flag_bad"].to_numpy() & np.int32(flag))
