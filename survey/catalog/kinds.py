"""What kind of object a star is: by its lines and bands, and by what the survey's own pipeline calls it.

The lists are tested on F, G and K stars only. Bands and lines are flags (`survey.catalog.flags`); the type of
the survey is read from its class and subclass (`survey.labelling.survey_types`). Shape: N stars.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import ColumnSpec
from survey.catalog.bands import NEEDED as BAND_COLUMNS
from survey.catalog.flag_settings import CatalogFlag, Kind
from survey.catalog.visits import float_column
from survey.labelling.survey_types import survey_kinds

COLUMN: ColumnSpec = (
    "string",
    "what the object is, by its lines and bands and by the survey's own type: FGK, hot, M (L and T too), "
    "carbon, white_dwarf, galaxy, quasar, sky, or unknown",
    "",
    "src.class",
)
FLAGS: dict[CatalogFlag, Kind] = {
    CatalogFlag.HOT_STAR: "hot",
    CatalogFlag.MOLECULAR_BANDS: "M",
    CatalogFlag.M_SUBDWARF: "M",
    CatalogFlag.CARBON_BANDS: "carbon",
}
"""The flags of a kind. The type of the survey outweighs them."""
KIND_BITS = int(sum(FLAGS) | CatalogFlag.NOT_A_STAR | CatalogFlag.SURVEY_TYPE)
"""All bits that keep a star out of the lists because of its kind."""
INDICES = ("tio5", "cah2", "h_delta")
"""A star with any of these is FGK unless something speaks against it."""

NEEDED = tuple(dict.fromkeys((*INDICES, *BAND_COLUMNS, "class", "subclass", "snr", "Teff", "Teff_err")))
"""The columns that decide the kind."""


def tells_kind(table: pa.Table) -> bool:
    """Whether a table has a column that tells the kind of its rows, be it null in many."""
    return not {*INDICES, "class", "subclass"}.isdisjoint(table.column_names)


def kinds(table: pa.Table, bits_N: NDArray[np.int32]) -> NDArray[np.object_]:
    """The kind of each row with these flags (`flag_warn`, `flag_bad`, `flag_info` together).

    Bands and lines count only if the signal to noise allows it, and the survey knows what it is.
    """
    survey_N = survey_kinds(table)
    measured_N = np.isfinite(np.stack([float_column(table, name) for name in INDICES])).any(0)
    kind_N: NDArray[np.object_] = np.full(table.num_rows, "unknown", object)
    kind_N[measured_N | (survey_N == "FGK")] = "FGK"
    for flag, kind in FLAGS.items():
        kind_N[(bits_N & int(flag)) != 0] = kind
    # noise has bands of any kind
    kind_N[(bits_N & int(CatalogFlag.UNKNOWN_OBJECT | CatalogFlag.VERY_LOW_SNR)) != 0] = "unknown"
    has_type_N = ~np.isin(survey_N, ("", "FGK"))
    kind_N[has_type_N] = survey_N[has_type_N]
    return kind_N
