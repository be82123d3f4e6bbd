"""The settings of an ingest: which files are read, how their spectra are prepared, and what a store keeps.

Everything that needs no data is checked here, so that a wrong value is reported at once. Nothing heavy is
imported.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import plugins
from survey.help import rows_text, setting_rows
from survey.images.settings import PrepareImages
from survey.settings import Settings, SettingsError, similar
from survey.spectrum import GRIDS, Grid

ContinuumMethod = Literal["msfl", "segment", "spline", "dual", "none"]
"""The methods of `survey.store.continuum`."""


class Gate(Settings):
    """One limit of quality and what happens to a spectrum beyond it."""

    limit: float | None = Field(None, description="the limit; null = no gate")
    then: Literal["flag", "refuse"] = Field("flag", description="flag or refuse a spectrum beyond the limit")


class Gates(Settings):
    """The limits of quality."""

    coverage: Gate = Field(
        Gate(limit=0.9, then="refuse"), description="smallest share of the grid that a spectrum covers"
    )
    bad_pixels: Gate = Field(Gate(limit=0.3), description="largest share of covered points that are bad")
    few_pixels: Gate = Field(Gate(limit=100, then="refuse"), description="smallest number of good points")
    low_snr: Gate = Field(Gate(limit=3.0), description="lowest signal to noise (median per point)")
    outliers: Gate = Field(Gate(limit=0.1), description="largest share of good points that are outliers")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        for name in ("coverage", "bad_pixels", "outliers"):
            limit = getattr(self, name).limit
            if limit is not None and not 0 <= limit <= 1:
                raise ValueError(f"{name}.limit={limit:g}: it is a share; give a number from 0 to 1")
        return self


class Prepare(Settings):
    """How spectra are brought onto the grid."""

    grid: str | dict[str, float | str] = Field(
        "cemp4900",
        description=f"the wavelengths: {', '.join(GRIDS)} (images only), or "
        "{start, stop, step, scale: linear|log}",
    )
    velocity: Literal["rv_or_z", "z", "rest", "none"] = Field(
        "rv_or_z",
        description="shift to the rest frame by the rv of the catalogue or the source, or else by z; by z "
        "only; rest = the spectra are in the rest frame already; none = no shift, keep the observed frame",
    )
    masks: Literal["and", "or", "none"] = Field(
        "and",
        description="pixels are bad if the survey masks them in all exposures; in any exposure; or never",
    )
    despike: Literal["noise", "clip", "none"] = Field(
        "noise",
        description="remove spikes by their noise, or by a clip at 3 and 4 sigma (MPBDNet); or keep them",
    )
    resampling: Literal["linear", "conserving"] = Field(
        "linear", description="straight lines between pixels, or means that conserve flux"
    )
    continuum: ContinuumMethod = Field(
        "msfl", description="method of the continuum; dual keeps it in addition to the normalised flux"
    )
    floor: float = Field(
        0.05, ge=0, lt=1, description="points are bad where the continuum is below this share of its mean"
    )
    lowest: float = Field(-1.0, description="points of a lower normalised flux are bad and get flux 1")
    highest: float = Field(4.0, description="points of a higher normalised flux are bad and get flux 1")
    gates: Gates = Field(Gates(), description="limits of quality")
    image: PrepareImages = Field(PrepareImages(), description="how images are prepared")

    @model_validator(mode="after")
    def _keeps_the_continuum(self) -> Self:
        if not self.lowest < 1 < self.highest:
            raise ValueError(
                f"lowest={self.lowest:g}, highest={self.highest:g}: the continuum is 1, so every pixel would "
                "be marked bad; give lowest below 1 and highest above 1"
            )
        return self

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not len(self.wavelengths()) and not self.image.is_used:
            raise SettingsError("grid: none is a store of images only; give image.size, such as 64, too")
        return self

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, value: str | dict[str, float | str]) -> str | dict[str, float | str]:
        _grid(value)
        return value

    def wavelengths(self) -> Grid:
        """The grid itself."""
        return _grid(self.grid)

    def differences(self, other: "Prepare") -> list[str]:
        """How spectra of other settings differ, in words.

        The grid is not compared here: `Grid` objects are. Gates change no flux. Spectra that are in the rest
        frame already are like those that were shifted to it.
        """
        values, other_values = self.plain(), other.plain()
        frames = {self.velocity, other.velocity}
        same = {"velocity"} if "rest" in frames and "none" not in frames else set()
        names = [name for name in values if name not in {"grid", "gates"} | same]
        return [
            f"{name} is {other_values[name]}, not {values[name]}"
            for name in names
            if values[name] != other_values[name]
        ]


def _grid(value: str | dict[str, float | str]) -> Grid:
    if isinstance(value, dict):
        numbers = [value.get(name) for name in ("start", "stop", "step")]
        unknown = value.keys() - {"start", "stop", "step", "scale"}
        if unknown or any(not isinstance(number, int | float) for number in numbers):
            raise ValueError(
                "is no grid; give {start: NUMBER, stop: NUMBER, step: NUMBER, scale: linear|log}"
            )
        return Grid(**value)  # type: ignore[arg-type]
    if value not in GRIDS:
        raise ValueError(
            f"there is no grid of this name; there are {', '.join(GRIDS)}, "
            "or give start, stop, step and scale"
        )
    return GRIDS[value]


class Bits(Settings):
    """How many bits of the mantissa are kept; 23 is all of a float32."""

    flux: int = Field(14, ge=4, le=23, description="of flux: 14 rounds by 3e-5, far below any noise")
    ivar: int = Field(7, ge=2, le=23, description="of ivar: 7 rounds by 0.4 %")


class Input(Settings):
    """The files that a store is made from."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {"input", "files", "pattern", "image_pattern", "compare", "reread", "forget", "copies_above"}
    )

    input: str = Field(
        description="a folder or s3:// prefix of survey files, a catalogue (CSV or Parquet), "
        "a table of spectra (X.npy, or Parquet with a column flux) or one file"
    )
    files: str = Field(
        "",
        description="folder or s3:// prefix of a catalogue's files; empty = the folder of the catalogue",
    )
    pattern: str = Field(
        "",
        description="path of a catalogue row's file, such as {planid}/spec-{lmjd:05d}.fits; "
        "empty = from the column of files, or by the survey's own rule",
    )
    image_pattern: str = Field(
        "",
        description="path of the image of a catalogue row's object, such as {subclass}/{name}.jpg; "
        "empty = from the column image, if there is one",
    )
    shard: int = Field(
        1000, ge=1, le=20000, description="spectra per shard; fixed once the store has a shard"
    )
    compare: Literal["size", "time", "hash", "none"] = Field(
        "time", description="find changed files by size, by size or time, by content; or not at all"
    )
    reread: bool = Field(
        False,
        description="read the shards again that have changed files, files that were missing before, or files "
        "that a source could not read; rows that a shorter table has no more are taken out",
    )
    forget: Literal["none", "missing"] = Field(
        "none",
        description="missing = take rows out of the manifest whose file was not found and that the input "
        "does not name any more, as after a first attempt with a wrong folder",
    )
    copies_above: float = Field(
        0.05,
        ge=0,
        le=1,
        description="the job stops before the work if more of the new rows than this are copies of files "
        "that the store has under another path; 1 = take them a second time",
    )
    sources: tuple[str, ...] = Field(
        ("lamost", "sdss"),
        strict=False,
        description="the plugins that may read a file, in this order; ascii reads text and CSV",
    )
    options: dict[str, dict[str, Any]] = Field(
        {}, description="options of plugins, such as {lamost: {mrs: single}}"
    )

    @property
    def has_spectra(self) -> bool:
        """Whether spectra are kept; else the store has images only."""
        return True

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """The options of the sources that are given, else of the default ones."""
        return source_options_help(given)

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        """Every source exists, and its options are known."""
        known = plugins.names("sources")
        for key, names in (("sources", self.sources), ("options", self.options)):
            for name in names:
                if name not in known:
                    raise SettingsError(f"{key}: there is no source {name!r}; {similar(name, known)}")
        for name, values in self.options.items():
            plugins.options("sources", name).from_dict("", values, f"options.{name}.")
        return self


def source_options_help(given: Mapping[str, Any], section: str = "") -> str:
    """The options of sources for a help text, with the given values of an ingest.

    `section` is written before the names. Arrays are read whatever the sources are.
    """
    chosen = given.get("sources", Input.model_fields["sources"].default)
    named = [chosen] if isinstance(chosen, str) else list(chosen)
    options = given.get("options") or {}
    rows = [
        row
        for name in dict.fromkeys([*map(str, named), "arrays"])
        for row in setting_rows(
            plugins.options("sources", name), f"{section}options.{name}.", options.get(name) or {}
        )
    ]
    there = ", ".join(plugins.names("sources"))
    more = "" if "arrays" in named else " and of arrays"
    heading = f"options of {section}sources=[{','.join(map(str, named))}]{more}"
    return f"\n{heading} (the sources are {there})\n\n{rows_text(rows)}\n"


class Ingest(Input):
    """Settings of the ingest."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = Input.NOT_IN_RESULT | {
        "store",
        "refuse_above",
        "workers",
        "preview",
        "verify",
    }

    OUTPUT: ClassVar[str] = "store"
    COMMON: ClassVar[tuple[str, ...]] = (
        "files",
        "pattern",
        "sources",
        "options",
        "prepare.grid",
        "prepare.velocity",
        "prepare.continuum",
        "prepare.gates.low_snr.limit",
        "shard",
        "reread",
        "refuse_above",
        "workers",
        "preview",
    )

    store: str = Field(description="folder or s3:// prefix of the store to make or to extend")
    prepare: Prepare = Field(Prepare(), description="how spectra are brought onto the grid")
    bits: Bits = Field(Bits(), description="how exactly numbers are kept")
    refuse_above: float = Field(
        0.05,
        ge=0,
        le=1,
        description="the job fails, after all is written, if more files than this are refused",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="shards made at a time; null = one per CPU of this machine or cluster "
        "(few: without Ray); 1 = without Ray",
    )
    verify: bool = Field(
        True,
        description="compare the checksums of finished shards before the work, about 1 s per GB; "
        "false = only their sizes",
    )
    preview: int = Field(
        0,
        ge=0,
        le=1000,
        description="number of spectra to draw, stage by stage, as PNG in the store's preview/",
    )

    @model_validator(mode="after")
    def _has_spectra_to_draw(self) -> Self:
        if self.preview and not self.has_spectra:
            raise SettingsError(
                f"preview: {self.preview}, but with prepare.grid=none there are no spectra to draw; "
                "leave preview out"
            )
        return self

    @property
    def has_spectra(self) -> bool:
        """Whether the grid has points."""
        return len(self.prepare.wavelengths()) > 0
