"""What the pipeline of a survey calls an object: from its class and subclass, as LAMOST and SDSS write them.

Shape: N spectra.
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CLASSES: dict[str, str] = {"GALAXY": "galaxy", "QSO": "quasar", "SKY": "sky"}
TYPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"WD|^D[ABCOQZ][A-Z]?\d*(\.\d)?$|^CARBON_?DQ|^CV"), "white_dwarf"),
    (re.compile(r"^CARBON|^C-[A-Z]"), "carbon"),
    (re.compile(r"^(D|SD|ESD|USD|G)?[MLT]\d|^(SD|ESD|USD)?M$|^LDWARF"), "M"),
    (re.compile(r"^(O|OB|B)(\d|$)|^SD(O|B|OB)\d*$"), "hot"),
)
"""Subclasses of the survey for which the lists were not tested. A stars are not among them: the width of
H delta decides."""
ORDINARY = re.compile(r"^[FGK]\d?")
"""Subclasses of F, G and K stars."""
OTHER_KINDS = tuple(dict.fromkeys(kind for _, kind in TYPES))
"""The kinds that a subclass may say, besides F, G and K stars."""


def survey_kinds(table: pa.Table) -> NDArray[np.object_]:
    """The kind that the pipeline of the survey gives each row; empty text if it gives none of `Kind`."""
    kind_N = np.full(table.num_rows, "", object)
    if "subclass" in table.column_names:
        kind_N[:] = _by_text(table["subclass"], _kind_of_type)
    if "class" in table.column_names:
        by_class_N = _by_text(table["class"], lambda text: CLASSES.get(text, ""))
        kind_N = np.where(by_class_N != "", by_class_N, kind_N)
    return kind_N


def _by_text(column: pa.ChunkedArray, kind_of: Callable[[str], str]) -> NDArray[np.object_]:
    """The kind of each text; few texts differ."""
    encoded = column.combine_chunks().cast(pa.string()).fill_null("").dictionary_encode()
    found = [kind_of(text.strip().upper()) for text in encoded.dictionary.to_pylist()]
    return np.asarray(np.array([*found, ""], object)[encoded.indices.to_numpy()], object)


def _kind_of_type(text: str) -> str:
    other = next((kind for pattern, kind in TYPES if pattern.search(text)), "")
    return other or ("FGK" if ORDINARY.search(text) else "")
