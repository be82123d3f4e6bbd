"""The stars that pictures show of each list: its candidates, or, if it has none, the best stars that are not
in it.
"""

from dataclasses import dataclass

import pyarrow as pa

from survey.catalog.catalog import CatalogResult
from survey.catalog.settings import LIST_NAMES, ListName


@dataclass(frozen=True)
class ShownList:
    """The stars of a list, best first, and whether they are in it."""

    name: ListName
    table: pa.Table
    is_listed: bool

    @property
    def file(self) -> str:
        """The name of the table in the catalog, which the picture of the list gets too."""
        return f"{self.name.lower()}_candidates" if self.is_listed else f"next_{self.name.lower()}"

    @property
    def spectra_file(self) -> str:
        """The name of the picture of its spectra."""
        return f"{self.name.lower()}_spectra" if self.is_listed else f"{self.file}_spectra"

    def text(self, count: int) -> str:
        """So many of its stars, in words."""
        if self.is_listed:
            return f"{count:,} {self.name} candidate{'s' if count != 1 else ''}"
        return f"{count:,} best stars that are not in the {self.name} list, which is empty"


def shown_lists(result: CatalogResult) -> list[ShownList]:
    """What is shown of each list; a list without any star is left out."""
    shown = []
    for name in LIST_NAMES:
        for is_listed, file in ((True, f"{name.lower()}_candidates"), (False, f"next_{name.lower()}")):
            table = result.table(f"{file}.parquet")
            if table is not None and table.num_rows:
                shown.append(ShownList(name, table, is_listed))
                break
    return shown
