"""The settings of a download: what is wanted from which archive, and how politely it is fetched.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

import math
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from survey import files, plugins
from survey.help import rows_text, setting_rows
from survey.settings import Settings, SettingsError

KIND = "archives"
"""The kind of plugin that an archive is (`survey.plugins`)."""

Cut = Annotated[tuple[float | str | None, ...], Field(strict=False, min_length=1, max_length=1000)]
"""What a cut keeps: [lowest, highest] with null for no limit, or a list of words."""


class Selection(Settings):
    """Which files are wanted: rows of a catalogue, ids, or all around a position."""

    input: str = Field(
        "", description="the archive's catalogue: CSV with , or |, Parquet, FITS or VOTable, gzipped or not"
    )
    cuts: dict[str, Cut] = Field(
        {},
        description="what rows of the catalogue must have, by column: [lowest, highest] with null for no "
        "limit, or a list of words, such as {snrg: [20, null], class: [STAR]}; a missing value never passes",
    )
    ids: tuple[str, ...] = Field(
        (),
        strict=False,
        description="ids of single files: obsid (lamost), PLATE-MJD-FIBER or PLATE-MJD-FIBER-RUN2D (sdss), "
        "'RA,DEC' in degrees (images)",
    )
    around: tuple[float, float, float] | None = Field(
        None,
        strict=False,
        description="[ra, dec, radius] in degrees: only rows of the catalogue within this circle; without "
        "input= the archive is asked what it has there (lamost)",
    )
    columns: dict[str, str] = Field(
        {}, description="your names of the columns that the archive needs, such as {obsid: lamost_obsid}"
    )
    most: int | None = Field(None, ge=1, description="at most so many files, the first ones; null = all")
    catalogues: tuple[str, ...] = Field(
        (),
        strict=False,
        description="catalogues to fetch, by the archive's own names, such as dr10_v2.0_LRS_stellar.csv.gz",
    )

    @field_validator("ids", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: Any) -> Any:
        """An obsid is a number in the YAML of a recipe."""
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(str(item) if type(item) is int else item for item in items)

    @field_validator("cuts", mode="before")
    @classmethod
    def _single_words(cls, value: Any) -> Any:
        """A single word is a list of one."""
        if not isinstance(value, dict):
            return value
        return {name: (cut,) if isinstance(cut, str) else cut for name, cut in value.items()}

    @field_validator("cuts")
    @classmethod
    def _check_ranges(cls, value: dict[str, Cut]) -> dict[str, Cut]:
        for name, cut in value.items():
            if not is_range(cut) and not all(isinstance(word, str) for word in cut):
                raise ValueError(
                    f"{name}: {list(cut)} is no cut; give [lowest, highest] with null for no limit, or words"
                )
            low, high = limits(cut) if is_range(cut) else (0.0, 0.0)
            if low > high:
                raise ValueError(f"{name}: the range [{low:g}, {high:g}] is empty; give [lowest, highest]")
        return value

    @field_validator("around")
    @classmethod
    def _check_circle(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None:
            ra, dec, radius = value
            if not (0 <= ra < 360 and -90 <= dec <= 90 and 0 < radius <= 180):
                raise ValueError("needs 0 <= ra < 360, -90 <= dec <= 90 and 0 < radius <= 180, in degrees")
        return value

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if not (self.input or self.ids or self.around or self.catalogues):
            raise SettingsError("nothing is wanted; give input=, ids=, around= or catalogues=")
        if self.cuts and not self.input:
            raise SettingsError("cuts: are for the rows of a catalogue; give input= too")
        return self


class Download(Selection):
    """Settings of a download."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(Selection.model_fields) | {
        "out",
        "rate",
        "connections",
        "retries",
        "first_wait",
        "longest_wait",
        "timeout",
        "stop_after",
        "keep_free",
        "missing_above",
        "again",
        "checksums",
    }

    OUTPUT: ClassVar[str] = "out"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("input", "cuts", "ids", "around", "catalogues", "options", "most"),
        *("rate", "connections", "checksums", "again"),
    )

    archive: str = Field(description="lamost, sdss or legacy (a file in survey/archives)")
    out: str = Field(description="folder to write to, on a disk of this machine")
    options: dict[str, Any] = Field(
        {}, description="options of the archive, such as {release: dr8, version: v2.0}"
    )
    rate: float = Field(4.0, gt=0, le=1000, description="requests per second, never more")
    connections: int = Field(4, ge=1, le=64, description="connections at a time, never more")
    retries: int = Field(5, ge=0, le=100, description="further attempts for a file that did not arrive sound")
    first_wait: float = Field(
        1.0, ge=0, le=3600, description="seconds before the second attempt; doubled before each further one"
    )
    longest_wait: float = Field(
        900.0,
        ge=0,
        le=86400,
        description="seconds: no wait is longer; if the archive asks for more, the job ends",
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="seconds without an answer or bytes after which a connection is closed",
    )
    checksums: str = Field(
        "",
        description="path or address of a list of checksums as md5sum, sha1sum or sha256sum write it, "
        "compared by the paths of files; files that are here already are compared too",
    )
    stop_after: int = Field(
        50,
        ge=0,
        description="the job ends if so many files in a row do not arrive; 0 = never. Files that the archive "
        "does not have count only as long as none has arrived",
    )
    keep_free: float = Field(
        1.0, ge=0, description="gigabytes of the disk that stay free: the job ends before it fills them"
    )
    missing_above: float = Field(
        0.05,
        ge=0,
        le=1,
        description="the job fails, after all is written, if more files than this did not arrive",
    )
    again: bool = Field(
        False, description="ask again for files that the archive did not have or did not give before"
    )

    @model_validator(mode="after")
    def _check_archive(self) -> Self:
        plugins.options(KIND, self.archive).from_dict("", self.options, "options.")
        if files.is_remote(self.out):
            raise SettingsError(
                f"out: {self.out}: a bucket; give a folder on a disk, and copy it to the bucket afterwards"
            )
        return self

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """The options of the archive that is given, else of lamost."""
        name = str(given.get("archive", "lamost"))
        rows = setting_rows(plugins.options(KIND, name), "options.", given.get("options"))
        there = ", ".join(plugins.names(KIND))
        return f"\noptions of archive={name} (the archives are {there})\n\n{rows_text(rows)}\n"

    def archive_options(self) -> Any:
        """The options of the archive with their defaults."""
        return plugins.options(KIND, self.archive).from_dict("", self.options, "options.")

    def result_settings(self) -> dict[str, Any]:
        """The values that decide the result: the archive and which of its data, not where it is."""
        return super().result_settings() | {"options": self.archive_options().result_settings()}


def is_range(cut: Cut) -> bool:
    """Whether a cut is a range of numbers."""
    return len(cut) == 2 and not any(isinstance(limit, str) for limit in cut)


def limits(cut: Cut) -> tuple[float, float]:
    """The lowest and the highest number that pass."""
    low, high = cut
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))
