"""Settings of pages to look at: a report of a folder, or verdicts that are merged.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from survey.settings import Settings

VettedList = Literal["cemp", "mp", "next_cemp", "next_mp", "carbon_stars", "m_subdwarfs"]
"""The lists of a catalog whose stars can be looked at one by one."""
TASKS = {
    "merge=": {"merge", "table"},
    "of= with list=": {"of", "page", "list_", "most", "again", "comparison", "visits", "explanation"},
    "of= without list=": {"of", "page", "points"},
}
"""The settings of each of three tasks."""


class ReportSettings(Settings):
    """Settings of a page."""

    COMMON: ClassVar[tuple[str, ...]] = ("of", "page", "list", "most", "merge", "table")

    of: str | None = Field(
        None,
        description="the finished folder to show: of any job but mock",
    )
    page: str | None = Field(
        None,
        description="the HTML file to write; null = beside the folder, with its name; of a list with the "
        "name of the list too",
    )
    list_: VettedList | None = Field(
        None,
        alias="list",
        description="of a catalog: a page to vet this list star by star, instead of a page about all stars",
    )
    most: int = Field(
        5000, ge=1, le=20_000, description="vetting: the most candidates on the page, best first"
    )
    again: float = Field(
        0.05, ge=0, le=0.5, description="vetting: share of the candidates that are shown a second time, blind"
    )
    comparison: bool = Field(
        True, description="vetting: with each candidate the nearest normal star of equal parameters"
    )
    visits: bool = Field(True, description="vetting: the spectra of all visits, not of the best one only")
    explanation: str | None = Field(
        None,
        description="vetting: folder of survey explain, whose importances are drawn under the spectra",
    )
    points: int = Field(
        1_000_000,
        ge=1000,
        le=20_000_000,
        description="of a catalog or a latent space: the most rows that are in the page one by one; of more "
        "rows a sample",
    )
    merge: tuple[str, ...] = Field(
        (), strict=False, description="files of verdicts of one list (CSV or JSON) to merge, with agreement"
    )
    table: str | None = Field(
        None, description="with merge=: the file of the merged verdicts, CSV or Parquet by its ending"
    )

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        """A page of a folder, or a merged table."""
        if self.merge and self.of:
            raise ValueError("of and merge are given both; give of=FOLDER for a page, or merge=[FILE, ...]")
        if not self.merge and not self.of:
            raise ValueError("of: not given; give of=FOLDER for a page, or merge=[FILE, ...] for verdicts")
        if self.merge and not self.table:
            raise ValueError("table: not given; give table=FILE.csv for the merged verdicts")
        if self.merge and self.table and not self.table.endswith((".csv", ".parquet")):
            raise ValueError(f"table: {self.table!r}: give a name that ends in .csv or .parquet")
        task = "merge=" if self.merge else "of= with list=" if self.list_ else "of= without list="
        for name in type(self).model_fields:
            if name in self.model_fields_set and name not in TASKS[task] and getattr(self, name) is not None:
                key, other = name.rstrip("_"), next(other for other, names in TASKS.items() if name in names)
                raise ValueError(f"{key}: belongs to {other}, not to {task}; leave {key}= out")
        return self
