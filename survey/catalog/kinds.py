"""What kind of object a star is: by its lines and bands, and by what the survey's own pipeline calls it.

The lists are tested on F, G and K stars only. Bands and lines are flags (`survey.catalog.flags`); the type of
the survey is read here, from its class and subclass, as LAMOST and SDSS write them. Shape: N stars.
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import ColumnSpec
from survey.catalog.bands import NEEDED as BAND_COLUMNS
from survey.catalog.flag_settings import CatalogFlag, Kind
from survey.catalog.visits import float_column

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
"""The flags of a kind. The type of the survey, if it is one of `TYPES`, outweighs them."""
KIND_BITS = int(sum(FLAGS) | CatalogFlag.NOT_A_STAR | CatalogFlag.SURVEY_TYPE)
"""All bits that keep a star out of the lists because of its kind."""
CLASSES: dict[str, Kind] = {"GALAXY": "galaxy", "QSO": "quasar", "SKY": "sky"}
TYPES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"WD|^D[ABCOQZ][A-Z]?\d*(\.\d)?$|^CARBON_?DQ|^CV"), "white_dwarf"),
    (re.compile(r"^CARBON|^C-[A-Z]"), "carbon"),
    (re.compile(r"^(D|SD|ESD|USD|G)?[MLT]\d|^(SD|ESD|USD)?M$|^LDWARF"), "M"),
    (re.compile(r"^(O|OB|B)(\d|$)|^SD(O|B|OB)\d*$"), "hot"),
)
"""Subclasses of the survey for which the lists were not tested. A stars are not among them: the width of
H delta decides."""
ORDINARY = re.compile(r"^[FGK]\d?")
"""Subclasses of F, G and K stars."""
INDICES = ("tio5", "cah2", "h_delta")
"""A star with any of these is FGK unless something speaks against it."""

NEEDED = tuple(dict.fromkeys((*INDICES, *BAND_COLUMNS, "class", "subclass", "snr", "Teff", "Teff_err")))
"""The columns that decide the kind."""


def survey_kinds(table: pa.Table) -> NDArray[np.object_]:
    """The kind that the pipeline of the survey gives each row; empty text if it gives none of `Kind`."""
    kind_N = np.full(table.num_rows, "", object)
    if "subclass" in table.column_names:
        kind_N[:] = _by_text(table["subclass"], _kind_of_type)
    if "class" in table.column_names:
        by_class_N = _by_text(table["class"], lambda text: CLASSES.get(text, ""))
        kind_N = np.where(by_class_N != "", by_class_N, kind_N)
    return kind_N


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


def _by_text(column: pa.ChunkedArray, kind_of: Callable[[str], str]) -> NDArray[np.object_]:
    """The kind of each text; few texts differ."""
    encoded = column.combine_chunks().cast(pa.string()).fill_null("").dictionary_encode()
    found = [kind_of(text.strip().upper()) for text in encoded.dictionary.to_pylist()]
    return np.asarray(np.array([*found, ""], object)[encoded.indices.to_numpy()], object)


def _kind_of_type(text: str) -> str:
    other = next((kind for pattern, kind in TYPES if pattern.search(text)), "")
    return other or ("FGK" if ORDINARY.search(text) else "")
