"""The stars of a list that may be observed, with what is needed to choose among them.

Every star of the list has a probability, a magnitude, an exposure and hours of visibility, or a reason why it
cannot be observed. Shapes: N stars.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.catalog.document import CATALOG, CatalogDocument
from survey.catalog.settings import ListName
from survey.catalog.vetted import COLUMNS as VERDICT_COLUMNS
from survey.catalog.vetted import Vetted
from survey.catalog.visits import float_column
from survey.checked import WrittenFile
from survey.folder import Folder
from survey.followup.chances import expected_purity, probabilities
from survey.followup.exposures import Magnitudes
from survey.followup.settings import FollowupList, FollowupSettings
from survey.followup.visibility import Darkness, Visibility, look
from survey.settings import JobError, SettingsError

Floats = NDArray[np.float64]
LISTS: dict[FollowupList, tuple[str, ListName]] = {
    "cemp": ("cemp_candidates", "CEMP"),
    "mp": ("mp_candidates", "MP"),
    "next_cemp": ("next_cemp", "CEMP"),
    "next_mp": ("next_mp", "MP"),
}
"""The file of each list, and what its stars should be."""
REJECTED = "rejected by people"


@dataclass(frozen=True)
class ListToObserve:
    """A list of a catalog, with the verdicts about it, and the expected purity that the catalog states."""

    table: pa.Table
    document: CatalogDocument
    search: str
    promised: float
    verdicts: dict[str, int]
    notes: tuple[str, ...]
    identity: tuple[Any, ...]

    @classmethod
    def open(cls, settings: FollowupSettings) -> Self:
        """The list that the settings name."""
        folder = Folder(files.absolute(settings.of or ""), CATALOG)
        document = folder.document()
        file, search = LISTS[settings.list_]
        table = folder.table(f"{file}.parquet", document=document)
        if not table.num_rows:
            raise JobError(
                f"followup: of={settings.of}: list={settings.list_}: the list is empty; give another list="
            )
        table, notes = _with_verdicts(table, settings)
        verdicts: dict[str, int] = {}
        if "verdict" in table.column_names:
            verdicts = dict(Counter(verdict for verdict in table["verdict"].to_pylist() if verdict))
        tables = [path for path in (settings.verdicts, settings.magnitudes) if path]
        identity = (document.content[f"{file}.parquet"].crc, *(WrittenFile.at(path).crc for path in tables))
        return cls(table, document, search, expected_purity(table), verdicts, notes, identity)


def _with_verdicts(table: pa.Table, settings: FollowupSettings) -> tuple[pa.Table, tuple[str, ...]]:
    """The list with the verdicts of a table in place of its own."""
    if not settings.verdicts:
        return table, ()
    vetted = Vetted.read(settings.verdicts, "followup")
    table = table.drop_columns([name for name in VERDICT_COLUMNS if name in table.column_names])
    known = set(table["star"].to_pylist())
    elsewhere = sum(star not in known for star in vetted.by_star)
    if elsewhere == len(vetted.by_star):
        raise SettingsError(
            f"followup: verdicts: {settings.verdicts}: none of its {elsewhere:,} stars is in the list "
            f"{settings.list_} of {settings.of}; give the verdicts about this list"
        )
    note = f"verdicts about stars that are not in this list: {elsewhere:,}" if elsewhere else ""
    return vetted.add_to(table, LISTS[settings.list_][1]), (note,) if note else ()


@dataclass(frozen=True)
class VettedCandidates:
    """The stars of a list with their numbers; `reason_N` is empty for those that can be observed."""

    table: pa.Table
    p_N: Floats
    snr_N: Floats
    magnitudes: Magnitudes
    seconds_N: Floats
    cost_N: Floats
    sky: Visibility
    reason_N: NDArray[np.object_]

    @classmethod
    def of(cls, listed: ListToObserve, dark: Darkness, settings: FollowupSettings) -> Self:
        """What is known of each star of the list."""
        table = listed.table
        p_N = probabilities(table, f"score_{listed.search.lower()}", settings.odds)
        ra_N, dec_N = float_column(table, "ra"), float_column(table, "dec")
        placed_N = np.isfinite(ra_N) & np.isfinite(dec_N)
        ra_N, dec_N = np.where(placed_N, ra_N, 0.0), np.where(placed_N, dec_N, -90.0)
        magnitudes = Magnitudes.of(table, settings)
        sky = look(ra_N, dec_N, magnitudes.value_N, dark, settings.sky, settings.exposure)
        snr = "snr_total" if "snr_total" in table.column_names else "snr_best"
        found = cls(
            table,
            p_N,
            float_column(table, snr),
            magnitudes,
            sky.seconds_N,
            sky.seconds_N + settings.exposure.overhead,
            sky,
            np.full(table.num_rows, "", object),
        )
        return replace(found, reason_N=found._reasons(placed_N, settings))

    def _reasons(self, placed_N: NDArray[np.bool_], settings: FollowupSettings) -> NDArray[np.object_]:
        """Why each star cannot be observed; empty if it can."""
        rules, reason_N = settings.exposure, np.full(len(self.p_N), "", object)
        has_verdict = "verdict" in self.table.column_names and not settings.keep_rejected
        rejected_N = np.array([has_verdict and v == "reject" for v in self.verdicts()], bool)
        known_N = np.isfinite(self.magnitudes.value_N)
        short_N = self.sky.longest_N * 3600 < np.nan_to_num(self.seconds_N)
        wrong = {
            REJECTED: rejected_N,
            "no position": ~placed_N,
            f"no magnitude in {', '.join(settings.magnitude)}": ~known_N,
            f"too faint: needs more than {rules.most:g} s": known_N & (self.seconds_N > rules.most),
            "never observable: too low, too near to the moon, or by day": self.sky.hours_N == 0,
            "never observable for as long as its exposure without a break": short_N,
        }
        for reason, wrong_N in wrong.items():
            reason_N[wrong_N & (reason_N == "")] = reason
        return reason_N

    def verdicts(self) -> list[str]:
        """The verdict about each star; empty if there is none."""
        if "verdict" not in self.table.column_names:
            return [""] * self.table.num_rows
        return [verdict or "" for verdict in self.table["verdict"].to_pylist()]
