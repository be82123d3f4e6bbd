"""Settings of a follow-up: the stars of a list to observe, and the results of their observation.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

import datetime
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey.settings import Settings

FollowupList = Literal["cemp", "mp", "next_cemp", "next_mp"]
"""The lists of a catalog that a sample can be drawn from."""
MOST_NIGHTS = 400


class ExposureSettings(Settings):
    """How long a star is exposed for the wanted signal to noise."""

    magnitude: float = Field(16.0, ge=-5, le=40, description="magnitude of the reference star")
    seconds: float = Field(
        1800.0,
        gt=0,
        le=1e6,
        description="exposure in which the reference star gets the wanted signal to noise, at airmass 1",
    )
    overhead: float = Field(
        120.0, ge=0, le=1e5, description="seconds for pointing and readout, for each star"
    )
    limited: Literal["source", "sky"] = Field(
        "source",
        description="source = the noise is that of the star: 2.5 times the time per magnitude; sky = the "
        "noise is that of the sky: 6.3 times",
    )
    extinction: float = Field(
        0.15, ge=0, le=3, description="magnitudes that a star loses per airmass, above airmass 1"
    )
    least: float = Field(60.0, ge=0, le=1e6, description="the shortest exposure, seconds")
    most: float = Field(
        10800.0, gt=0, le=1e6, description="the longest exposure, seconds; stars that need more are too faint"
    )


class SkySettings(Settings):
    """When a star can be observed."""

    altitude: float = Field(30.0, ge=0, lt=90, description="lowest altitude of a star, degrees")
    sun: float = Field(-18.0, ge=-60, le=0, description="it is dark when the sun is below, degrees")
    moon: float = Field(
        30.0, ge=0, le=180, description="least distance from the moon while it is up, degrees"
    )
    step: float = Field(10.0, ge=1, le=60, description="minutes between two looks at the sky")


class VerdictSettings(Settings):
    """How much the verdict of people changes the odds that a star belongs in the list."""

    accept: float = Field(3.0, gt=0, le=1000, description="the odds of an accepted star are multiplied by")
    unsure: float = Field(1.0, gt=0, le=1000, description="the same, of a star that people are unsure about")
    reject: float = Field(
        0.1, gt=0, le=1000, description="the same, of a rejected star, with keep_rejected=true"
    )


class StrataSettings(Settings):
    """The strata in which the random part of the sample is drawn."""

    probability: int = Field(
        3, ge=1, le=20, description="bins of the probability, with equal numbers of stars"
    )
    snr: int = Field(
        2, ge=1, le=10, description="bins of the signal to noise of the spectrum, in each of these"
    )
    allocation: Literal["neyman", "proportional"] = Field(
        "neyman",
        description="neyman = more stars where the outcome is least certain and exposures are short; "
        "proportional = by the number of stars",
    )


class FollowupSettings(Settings):
    """Settings of a follow-up."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {"of", "followup", "verdicts", "magnitudes", "results"}
    )
    OUTPUT: ClassVar[str] = "followup"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("of", "list", "site", "dates", "hours", "certify", "verdicts", "magnitude", "magnitudes"),
        *("exposure.magnitude", "exposure.seconds", "exposure.overhead", "exposure.limited", "results"),
    )

    followup: str = Field(description="folder or s3:// prefix of the sample and of its results")
    of: str | None = Field(None, description="the catalog; not needed with results=")
    list_: FollowupList = Field("cemp", alias="list", description="the list of the catalog")
    site: str = Field(
        "",
        description="observatory by name (Xinglong, La Palma, Paranal, ...), or longitude,latitude,height in "
        "degrees east, degrees north and metres",
    )
    dates: tuple[str, ...] = Field(
        (),
        strict=False,
        description="first and last night, each by the date of its evening: [2027-01-10,2027-01-20]",
    )
    hours: float | None = Field(
        None, gt=0, le=100_000, description="hours of observation that the sample may take, with overheads"
    )
    certify: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of the hours for stars that are drawn at random in strata, so that the purity of "
        "the list can be certified; the rest goes to the stars of the highest yield per hour",
    )
    verdicts: str | None = Field(
        None, description="table of survey report merge=...; null = the verdicts in the list, if it has some"
    )
    keep_rejected: bool = Field(
        False, description="stars that people rejected stay; false = they are not part of the vetted list"
    )
    odds: VerdictSettings = Field(VerdictSettings(), description="what a verdict changes")
    magnitude: tuple[str, ...] = Field(
        ("mag_gaia", "mag_g", "mag_r", "mag_i"),
        strict=False,
        description="columns with magnitudes: of each star the first one that is measured",
    )
    magnitudes: str | None = Field(
        None, description="table with a column star and these columns; null = those of the list"
    )
    exposure: ExposureSettings = Field(ExposureSettings(), description="how long a star is exposed")
    sky: SkySettings = Field(SkySettings(), description="when a star can be observed")
    strata: StrataSettings = Field(StrataSettings(), description="how the random part is drawn")
    seed: int = Field(0, ge=0, description="seed of the random part")
    results: str | None = Field(
        None,
        description="table of what was observed: star, and true (true or false) or the measured FeH and CFe",
    )

    @field_validator("dates", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        """Dates as text; YAML reads them as dates."""
        items = value if isinstance(value, list | tuple) else [value]
        return [item.isoformat() if isinstance(item, datetime.date) else str(item) for item in items]

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            return value
        try:
            days = [datetime.date.fromisoformat(text) for text in value]
        except ValueError:
            raise ValueError("is no list of dates; give [2027-01-10,2027-01-20], or one date") from None
        if len(days) > 2 or days[-1] < days[0]:
            raise ValueError("is not a first and a last night in this order; give [2027-01-10,2027-01-20]")
        if (days[-1] - days[0]).days >= MOST_NIGHTS:
            raise ValueError(f"are more than {MOST_NIGHTS} nights; give fewer nights")
        return value

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        """A sample needs a catalog, a site, nights and hours; results need a sample only."""
        if self.of is None and self.results is None:
            raise ValueError(
                "of: not given; give of=CATALOG for a sample, or results=FILE.csv for the results of one"
            )
        if self.of is None:
            for name in type(self).model_fields:
                is_given = name in self.model_fields_set and getattr(self, name) is not None
                if is_given and name not in ("followup", "results"):
                    key = name.rstrip("_")
                    raise ValueError(
                        f"{key}: belongs to a new sample, and results= alone is about one that was drawn; "
                        f"leave {key}= out, or give of=CATALOG too"
                    )
        else:
            examples = {
                "site": "site=Xinglong",
                "dates": "dates=[2027-01-10,2027-01-20]",
                "hours": "hours=20",
            }
            for name, example in examples.items():
                if not getattr(self, name):
                    raise ValueError(f"{name}: not given; give {example}")
        if not self.magnitude:
            raise ValueError("magnitude: [] names no column; give [mag_g], or another column")
        return self

    def nights(self) -> tuple[datetime.date, ...]:
        """The evenings of all nights."""
        first, last = (datetime.date.fromisoformat(self.dates[place]) for place in (0, -1))
        return tuple(first + datetime.timedelta(day) for day in range((last - first).days + 1))
