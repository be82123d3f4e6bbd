"""What a catalogue of labels is: its columns, its cuts, and how much it counts.

A description of a known catalogue is a YAML file in `catalogues/`; its name is given as `format`. A source of
a recipe is such a description with the values of the recipe in place of its own. This file imports nothing
heavy, so that a job reports a wrong setting at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from survey import labels
from survey.recipes import find_file, merge, parse
from survey.settings import Settings, SettingsError, similar

FOLDER = Path(__file__).parent / "catalogues"

VISIT_IDS = ("obsid", "visit", "file")
"""Ids of an observation of the survey."""
STAR_IDS = ("gaia_dr3", "gaia_dr2", "designation", "apogee_id", "name")
"""Ids of a star. Only ids of one kind are compared."""
ID_KINDS = (*VISIT_IDS, *STAR_IDS)


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
"""Names of a column: the first that the file has is taken, because releases name it differently."""


class Cut(Settings):
    """Which rows a column lets pass. An empty cell passes only where `empty` is true."""

    min: float | None = Field(None, description="smallest number that passes")
    max: float | None = Field(None, description="largest number that passes")
    equals: tuple[str | int | float, ...] = Field(
        (), strict=False, description="words or numbers that pass, no others"
    )
    differs: tuple[str | int | float, ...] = Field(
        (), strict=False, description="words or numbers that do not pass"
    )
    bits_off: tuple[int, ...] = Field(
        (), strict=False, description="bits of a whole number, from 0, that must not be set"
    )
    without: tuple[str, ...] = Field((), strict=False, description="words that the text must not contain")
    empty: bool = Field(False, description="whether an empty cell passes")
    optional: bool = Field(False, description="whether the file may lack the column; then all rows pass")

    @field_validator("bits_off")
    @classmethod
    def _check_bits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 <= bit < 63 for bit in value):
            raise ValueError("a bit is a number from 0 to 62; give such numbers")
        return value


class LabelColumn(Settings):
    """The column of a label, and what its numbers are."""

    column: Names = Field((), description="names of the column; the first that the file has is taken")
    error: Names = Field((), description="names of the column of its error")
    scale: Literal["as_is", "x_h", "log_eps"] = Field(
        "as_is",
        description="as_is = the label itself ([Fe/H], [C/Fe], K ...); x_h = [X/H] of the element of a label "
        "[X/Fe]; log_eps = log eps(X), where hydrogen is 12",
    )
    unit: Literal["", "log10"] = Field(
        "", description="log10 = the column holds the logarithm, such as log Teff"
    )
    factor: float = Field(1.0, gt=0, description="the label is the number of the column times this factor")
    default_error: float | None = Field(None, gt=0, description="error of a value without one")
    limit: Names = Field((), description="names of a column that is filled where the value is a limit")
    good: dict[str, Cut] = Field({}, description="cuts on other columns that concern this label only")
    optional: bool = Field(False, description="whether the file may lack the column")


class SkyColumns(Settings):
    """The columns of the position."""

    ra: Names = Field((), description="names of the column of right ascension")
    dec: Names = Field((), description="names of the column of declination")
    unit: Literal["auto", "deg", "hour", "rad"] = Field(
        "auto",
        description="unit of right ascension; auto = degrees, or hours where it is text like 10 13 34.7; "
        "rad = both in radians",
    )
    epoch: float | str | None = Field(
        None, description="year of the positions, or the column that holds it; null = unknown, not moved"
    )
    pmra: Names = Field((), description="names of the column of proper motion in ra times cos dec (mas/yr)")
    pmdec: Names = Field((), description="names of the column of proper motion in dec (mas/yr)")
    name: Names = Field(
        (), description="names of a column with names that contain the position, like 2M06561343+2737243"
    )


class LabelSource(Settings):
    """A catalogue of labels: a known format, changed and completed by these settings."""

    format: str = Field("", description="a known catalogue, or the path of your own description (YAML)")
    file: str = Field("", description="its file, from `folder` if it is no absolute path")
    about: str = Field("", description="what the catalogue is")
    where: str = Field("", description="where a user gets it")
    ids: dict[str, Names] = Field(
        {}, description=f"columns of ids, by kind: {', '.join(ID_KINDS)}; only equal kinds are compared"
    )
    position: SkyColumns = Field(SkyColumns(), description="columns of the position")
    labels: dict[str, LabelColumn] = Field(
        {}, description="columns of labels, by label; not given = columns with the usual names of labels"
    )
    snr: Names = Field((), description="names of the column of S/N; the best row of a star is that with most")
    cuts: dict[str, Cut] = Field({}, description="rows that are used, by column")
    missing: tuple[float, ...] = Field(
        (),
        strict=False,
        description="more numbers that stand for no measurement, besides -9999, 999, 99.99 ...",
    )
    solar: str = Field(
        "",
        description="solar abundances of its [X/H] and [X/Fe], if they are to be put on those of the job; "
        "empty = taken as published",
    )
    carbon_correction: Names = Field(
        (), description="names of a column with the evolutionary correction of [C/Fe] (dex to be added)"
    )
    duplicates: Literal["best", "mean", "refuse"] = Field(
        "best",
        description="several rows of one star: the one with the highest S/N (else the smallest errors), "
        "their mean weighted by errors, or none of them",
    )
    priority: int = Field(10, description="sources with a lower number are preferred")
    weight: float = Field(1.0, gt=0, description="factor on the weight of its labels in a mean")

    @model_validator(mode="before")
    @classmethod
    def _with_description(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("format"), str) or not values["format"]:
            return values
        return merge(read_description(values["format"]), values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.labels:
            if labels.label(name).name != name:
                raise ValueError(f"labels: {name}: its usual name is {labels.label(name).name}; give that")
            if not self.labels[name].column:
                raise ValueError(f"labels.{name}.column: not given; give the name of the column")
        for kind in self.ids:
            if kind not in ID_KINDS:
                raise ValueError(f"ids: there is no kind {kind!r}; {similar(kind, ID_KINDS)}")
        if bool(self.position.ra) != bool(self.position.dec):
            raise ValueError("position: ra or dec is given without the other; give both, or neither")
        if bool(self.position.pmra) != bool(self.position.pmdec):
            raise ValueError("position: pmra or pmdec is given without the other; give both, or neither")
        return self


def format_names() -> list[str]:
    """The names of the known catalogues."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_description(name: str) -> dict[str, Any]:
    """The description of a known catalogue by its name, or of your own by the path of its file."""
    known = FOLDER / f"{name}.yaml"
    path = known if name in format_names() else find_file(name, "catalogues")
    if path is None:
        raise ValueError(
            f"format: there is no catalogue {name!r}; {similar(name, format_names())} "
            "(or the path of a YAML file with ids, position and labels)"
        )
    try:
        content = parse(path.read_text(encoding="utf-8"), str(path))
    except SettingsError as error:
        raise ValueError(str(error)) from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise SettingsError(f"format: {path}: holds {found}; give ids, position and labels")
    return content
