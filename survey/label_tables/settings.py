"""Settings of the job `labels`: from catalogues of labels to a table that a training reads.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import labels
from survey.label_tables.catalogue_settings import LabelSource, Names, format_names
from survey.labels import Criterion
from survey.settings import Settings, similar

PUBLISHED = {"NMP": 4723, "MP": 4865, "CEMP": 167}
"""The classes of the published reference set: 4,723 NMP and 5,032 MP, of which 167 are CEMP."""

WEAK_KINDS = ("M", "late_K", "A", "hot", "white_dwarf", "galaxy", "quasar", "unknown")
"""What a survey's pipeline calls an object that is no metal-poor star of type F, G or K."""

TOLERANCE = {"Teff": 300.0, "logg": 0.6, "FeH": 0.4, "CFe": 0.5, "CH": 0.5}
DEFAULT_ERROR = {"Teff": 100.0, "logg": 0.2, "FeH": 0.12, "CFe": 0.2, "CH": 0.2}
OTHER_TOLERANCE, OTHER_ERROR = 0.5, 0.15
"""For labels that are not named; dex."""


class SurveyColumns(Settings):
    """The columns of a survey's catalogue, where they have other than the usual names."""

    ids: dict[str, Names] = Field(
        {}, description="columns of ids by kind (obsid, file, gaia_dr3, designation ...)"
    )
    ra: Names = Field((), description="column of right ascension (degrees)")
    dec: Names = Field((), description="column of declination (degrees)")
    pmra: Names = Field((), description="column of proper motion in ra times cos dec (mas/yr)")
    pmdec: Names = Field((), description="column of proper motion in dec (mas/yr)")
    epoch: float = Field(2000.0, ge=1800, le=2200, description="year of its positions")
    snr: Names = Field(
        (),
        description="columns of S/N: the first with a number for the visit; not given = snr_g, snrg, snr ...",
    )


class StarMatch(Settings):
    """How a row of a catalogue finds its star of the survey."""

    radius: float = Field(3.0, gt=0, le=60, description="largest distance of a match by position (arcsec)")
    margin: float = Field(
        1.0, ge=0, le=60, description="another star must be farther than the nearest by this (arcsec)"
    )
    ambiguous: Literal["refuse", "nearest"] = Field(
        "refuse",
        description="a row with two stars at nearly the same distance: refuse it, or take the nearer one",
    )
    check: float = Field(
        10.0, gt=0, le=3600, description="refuse a match by id whose positions are farther apart (arcsec)"
    )


class Combine(Settings):
    """How one value comes from several sources."""

    method: Literal["priority", "mean"] = Field(
        "priority", description="the source with the lowest priority number, or the mean weighted by errors"
    )
    sigma: float = Field(4.0, gt=0, description="two sources contradict beyond so many of their joint errors")
    tolerance: dict[str, float] = Field(
        TOLERANCE, description=f"and beyond this, by label (other labels {OTHER_TOLERANCE} dex)"
    )
    default_error: dict[str, float] = Field(
        DEFAULT_ERROR, description=f"errors of values without one, by label (other labels {OTHER_ERROR} dex)"
    )
    contradicting: Literal["keep", "drop_label", "drop_star"] = Field(
        "keep", description="a label on which sources contradict: keep and flag it, leave it out, or the star"
    )

    @field_validator("tolerance", "default_error")
    @classmethod
    def _check_labels(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in value.items():
            if labels.label(name).name != name or number <= 0:
                raise ValueError(f"{name}: {number}: give the name of a label, and a number above 0")
        return value

    def tolerance_of(self, name: str) -> float:
        """The difference of a label from which two values may contradict."""
        return self.tolerance.get(name, TOLERANCE.get(name, OTHER_TOLERANCE))

    def error_of(self, name: str) -> float:
        """The error of a label that has none."""
        return self.default_error.get(name, DEFAULT_ERROR.get(name, OTHER_ERROR))


class CommonScale(Settings):
    """How the scale of each source is compared with that of one of them, by the stars in common."""

    apply: bool = Field(False, description="whether labels are put on the scale of the reference")
    reference: str = Field(
        "", description="the source with the scale; not given = that of lowest priority number"
    )
    labels: tuple[str, ...] = Field(
        ("Teff", "logg", "FeH", "CFe"), strict=False, description="labels that are compared"
    )
    slope: bool = Field(True, description="whether a slope is fitted besides the offset")
    least: int = Field(
        20, ge=5, description="fewest stars in common for an offset; for a slope three times that"
    )
    bootstrap: int = Field(500, ge=50, le=10_000, description="resamples from which the 95 % intervals come")
    seed: int = Field(0, ge=0, description="seed of these resamples")


class ReferenceSet(Settings):
    """Which of the labelled stars the table holds."""

    balance: Literal["all", "published", "equal"] = Field(
        "all",
        description="all = every labelled star; published = as many of each class as in the published set, "
        "or fewer in the same proportion; equal = as many of each class; not beside counts",
    )
    counts: dict[str, int] = Field(
        {},
        description="wanted stars by class, such as {NMP: 4723}, in place of `balance`; "
        "{} = none, also where the recipe has some",
    )
    shrink: bool = Field(
        False,
        description="if a class has too few stars, take fewer of the others too, in the same proportion",
    )
    prefer: Literal["random", "snr"] = Field(
        "random", description="which stars of a class: random ones, or those with the highest S/N"
    )
    visits: Literal["best", "all"] = Field(
        "best", description="the visit of each star with the highest S/N, or all its visits"
    )
    seed: int = Field(0, ge=0, description="seed of the random choice")

    @field_validator("counts")
    @classmethod
    def _check_classes(cls, value: dict[str, int]) -> dict[str, int]:
        for name, count in value.items():
            if name not in labels.CLASSES:
                raise ValueError(f"there is no class {name!r}; {similar(name, labels.CLASSES)}")
            if count < 0:
                raise ValueError(f"{name}: {count}: give a number from 0")
        return value


class WeakLabels(Settings):
    """Rows for objects that the survey's own pipeline calls something else than F, G or K stars."""

    kinds: tuple[Literal["M", "late_K", "A", "hot", "white_dwarf", "galaxy", "quasar", "unknown"], ...] = (
        Field((), strict=False, description="kinds that get a weak label; none = no table of weak labels")
    )
    label: Literal["NMP", "other"] = Field("NMP", description="the class of these rows")
    weight: float = Field(0.2, gt=0, le=1, description="value of their column weight")
    most: int = Field(2000, ge=1, description="most stars of each kind; a random part, if there are more")


class LabelTables(Settings):
    """Settings of the job labels."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"labels"})
    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ("labels",)
    OUTPUT: ClassVar[str] = "labels"
    COMMON: ClassVar[tuple[str, ...]] = (
        "to", "folder", "missing", "snr", "criterion", "combine.method", "scale.apply", "reference.balance",
        "reference.visits", "weak.kinds",
    )  # fmt: skip

    labels: str = Field(description="folder or s3:// prefix of the result")
    sources: dict[str, LabelSource] = Field(
        description="catalogues by names of yours, such as {saga: {format: saga, file: saga.tsv}}; "
        f"known formats: {', '.join(format_names())}"
    )
    to: str = Field(
        "",
        description="a survey's catalogue or a store whose stars get labels; not given = all stars there are",
    )
    folder: str = Field("", description="folder of the files of the sources")
    missing: Literal["error", "skip"] = Field(
        "error", description="a source whose file is not there: an error, or it is left out and named"
    )
    survey: SurveyColumns = Field(SurveyColumns(), description="columns of the survey's catalogue")
    snr: float = Field(
        0.0,
        ge=0,
        description="visits of the survey below this S/N, or without a known one, are left out; needs to=",
    )
    solar: str = Field(
        "asplund2009",
        description="solar abundances for log eps: asplund2009, asplund2021, grevesse2007, grevesse1998, "
        "lodders2003, or the path of a YAML file like {Fe: 7.50, C: 8.43}",
    )
    match: StarMatch = Field(StarMatch(), description="how rows find their stars")
    combine: Combine = Field(Combine(), description="how one value comes from several sources")
    scale: CommonScale = Field(CommonScale(), description="comparison of the scales of the sources")
    criterion: Criterion = Field("carbon_0.7", description="when [C/Fe] counts as enhanced")
    natal: bool = Field(
        False, description="classes by [C/Fe] with the evolutionary correction, where a source gives one"
    )
    reference: ReferenceSet = Field(ReferenceSet(), description="which labelled stars the table holds")
    weak: WeakLabels = Field(WeakLabels(), description="weak labels from the survey's own classification")
    repeats: bool = Field(False, description="whether pairs of visits of a star are listed, for calibration")

    @model_validator(mode="before")
    @classmethod
    def _check_balance(cls, values: Any) -> Any:
        """Counts of a recipe do not silently win over a balance."""
        reference = values.get("reference") if isinstance(values, dict) else None
        if isinstance(reference, dict) and reference.get("counts") and "balance" in reference:
            raise ValueError(
                f"reference.balance: {reference['balance']}: is not used beside reference.counts="
                f"{reference['counts']}; give reference.counts={{}} too, or leave reference.balance out"
            )
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError(
                "sources: none is given; give sources.NAME.format= and .file=, or a recipe with them"
            )
        for name, source in self.sources.items():
            if not name.isidentifier():
                raise ValueError(f"sources: {name!r}: give a name of letters, digits and _")
            if not source.file:
                raise ValueError(f"sources.{name}.file: not given; give the file of the catalogue")
        if self.snr and not self.to:
            raise ValueError(
                f"snr: {self.snr:g}: only visits have a S/N, and without to= there are none; give to="
            )
        if self.scale.reference and self.scale.reference not in self.sources:
            near = similar(self.scale.reference, self.sources)
            raise ValueError(f"scale.reference: there is no source {self.scale.reference!r}; {near}")
        return self

    def by_priority(self) -> list[str]:
        """The names of the sources, the preferred one first."""
        return sorted(self.sources, key=lambda name: self.sources[name].priority)
