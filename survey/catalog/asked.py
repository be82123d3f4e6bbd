"""Who is asked whether it is metal-poor: the columns that say so, and all stars that are not, in two tables.

`asked` decides who may be in the lists. It follows from the kind of a star and the flags that keep it out:

yes        an F, G or K star (or of unknown kind) about which nothing forbids a promise
not_fgk    a star of another kind: the lists were not tested for it
unsure     a star that would be asked, but flags keep it out: its spectrum or its answers forbid a promise

Rows go to disk region by region. Shape: N stars.
"""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files
from survey.answers import LINE_COLUMNS, ColumnSpec
from survey.catalog import kinds
from survey.catalog.flags import COLUMNS as FLAG_COLUMNS
from survey.catalog.flags import Bits, FlagRules, words_of
from survey.catalog.visits import PROBABILITIES, label_names
from survey.store.indices import INDICES
from survey.tables.columns import described_schema

YES, NOT_FGK, UNSURE = "yes", "not_fgk", "unsure"
NOT_ASKED = (NOT_FGK, UNSURE)
"""The stars of each are in a table of this name."""
COLUMNS: dict[str, ColumnSpec] = {
    "kind": kinds.COLUMN,
    "asked": (
        "string",
        "may the star be in the lists: yes, not_fgk (of another kind), unsure (flags forbid a promise)",
        "",
        "meta.code.qual",
    ),
    "asked_why": ("string", "the flags that keep the star out of the lists; empty if none", "", "meta.note"),
}
IDENTITY = ("star", "obsid", "ra", "dec", "path", "class", "subclass", "z", "n_visits")
LEAN = (
    *IDENTITY,
    *COLUMNS,
    "snr",
    "snr_total",
    "domain",
    "predicted_class",
    *PROBABILITIES,
    "score_mp",
    "score_cemp",
    *LINE_COLUMNS,
    *INDICES,
)
"""The columns of the tables, besides labels with their errors, and flags."""
ENDING = ".parquet"
SEPARATOR = ", "


def asked_columns(table: pa.Table, bits_N: tuple[Bits, ...], rules: FlagRules) -> dict[str, NDArray[Any]]:
    """The columns of stars with these flags (`flag_warn`, `flag_bad`, `flag_info`)."""
    warn_N, bad_N, info_N = bits_N
    kind_N = kinds.kinds(table, warn_N | bad_N | info_N)
    excluding_N = rules.excluding(table, *bits_N)
    is_other_N = ~np.isin(kind_N, rules.ask)
    asked_N = np.select([is_other_N, excluding_N != 0], [NOT_FGK, UNSURE], YES)
    distinct, row_N = np.unique(excluding_N, return_inverse=True)
    why_N = np.array([words_of(int(bits)) for bits in distinct], object)[row_N]
    why_N[is_other_N & (excluding_N == 0)] = "its kind"
    return {"kind": kind_N, "asked": asked_N.astype(object), "asked_why": why_N}


def is_asked(stars: pa.Table) -> NDArray[np.bool_]:
    """Which stars may be in the lists."""
    return _equals(stars, YES)


def count_asked(stars: pa.Table) -> dict[str, dict[str, int]]:
    """How many stars are asked, by kind, and what keeps the others out; a star may have several reasons."""
    counts = {name: _count(stars[name]) for name in ("asked", "kind")}
    for name in NOT_ASKED:
        reasons: Counter[str] = Counter()
        for texts, count in _count(stars["asked_why"].filter(pa.array(_equals(stars, name)))).items():
            reasons.update(dict.fromkeys(texts.split(SEPARATOR), count))
        counts[name] = dict(reasons)
    return counts


class NotAsked:
    """The tables of the stars that are not asked, written to a local folder as the stars come."""

    def __init__(self, folder: Path, origin: Mapping[str, str]) -> None:
        self.folder, self.origin = folder, dict(origin)
        self._writers: dict[str, pq.ParquetWriter] = {}

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        lean = _lean(stars)
        for name in NOT_ASKED:
            rows = lean.filter(pa.array(_equals(stars, name)))
            if name not in self._writers:
                schema = described_schema(rows.schema, self.origin).with_metadata(self.origin)
                self.folder.mkdir(parents=True, exist_ok=True)
                self._writers[name] = pq.ParquetWriter(self._path(name), schema, compression="zstd")
            self._writers[name].write_table(rows.cast(self._writers[name].schema))

    def publish(self, target: str) -> None:
        """Finish the tables and move them to a folder or prefix."""
        for name, writer in self._writers.items():
            writer.close()
            place = files.join(target, name + ENDING)
            if files.is_remote(target):
                files.write(place, self._path(name).read_bytes())
            else:
                shutil.move(self._path(name), place)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{ENDING}"


def _lean(stars: pa.Table) -> pa.Table:
    """The columns that a reader of these tables needs."""
    labels = [column for name in label_names(stars) for column in (name, f"{name}_err")]
    wanted = [*LEAN, *labels, *FLAG_COLUMNS]
    return stars.select([name for name in wanted if name in stars.column_names])


def _equals(stars: pa.Table, value: str) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(stars["asked"], value).to_numpy(), bool)


def _count(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
