"""The settings of a mock survey."""

from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from survey.settings import Settings

Layout = Literal["lrs_image", "lrs_image_subcont", "lrs_table", "mrs", "sdss"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
"""How the files of the surveys are built: LAMOST low resolution in three ways, LAMOST medium resolution,
SDSS."""

BATCH = 100
"""Spectra are computed in batches of so many files."""

OF_SPECTRA = frozenset({"layouts", "visits", "gz"})
OF_IMAGES = frozenset({"image_pixels"})
OF_M_STARS = frozenset({"image_missing", "spectrum_missing"})
OF_GALAXIES = frozenset({"overlap"})
OF_STARS = frozenset({"extras"})
UNUSED = {
    "stars": OF_IMAGES | OF_M_STARS | OF_GALAXIES | {"objects"},
    "m_stars": OF_GALAXIES | OF_STARS,
    "galaxies": OF_SPECTRA | OF_M_STARS | OF_STARS,
}
"""By what the survey observes: the settings that do not matter."""
PIXELS = {"stars": 0, "m_stars": 128, "galaxies": 256}


class Mock(Settings):
    """A mock survey."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"out", "workers"})

    OUTPUT: ClassVar[str] = "out"

    out: str = Field(description="folder or s3:// prefix to write to")
    n: int = Field(2000, ge=1, le=10**9, description="number of files, including the defective ones")
    objects: Literal["stars", "m_stars", "galaxies"] = Field(
        "stars",
        description="what is observed: stars of all metallicities, M dwarfs with an image each, "
        "or galaxies in two imaging surveys",
    )
    seed: int = Field(0, ge=0, description="seed of all random numbers: another seed gives other objects")
    broken: float = Field(
        0.02, ge=0, le=1, description="share of defective files, all kinds equally often; images too"
    )
    balance: Literal["reference", "balanced", "survey"] = Field(
        "reference",
        description="shares of the classes: as in the published reference set, all equal, or (of stars) as a "
        "survey meets them: 4 % metal-poor",
    )
    layouts: dict[Layout, float] = Field(
        {"lrs_image": 0.6, "lrs_table": 0.25, "lrs_image_subcont": 0.15},
        description=f"relative number of files in each layout of {', '.join(LAYOUTS)}",
    )
    visits: float = Field(0.15, ge=0, le=1, description="share of stars that are observed 2 to 4 times")
    gz: float = Field(0.8, ge=0, le=1, description="share of gzipped files")
    snr: float = Field(1.0, gt=0, description="factor on the signal to noise (median 32 in g)")
    image_pixels: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="pixels of a side of an image; null = 128 for stars, 256 for galaxies",
    )
    image_missing: float = Field(0.0, ge=0, le=1, description="share of M stars without an image")
    spectrum_missing: float = Field(0.0, ge=0, le=1, description="share of M stars without a spectrum")
    overlap: float = Field(
        1.0, ge=0, le=1, description="share of the galaxies that the second imaging survey has too"
    )
    extras: bool = Field(
        False,
        description="also write archives/: catalogues of labels like those of APOGEE, SAGA, JINAbase and "
        "LAMOST, with mistakes and what was planted; for the job labels",
    )
    chunk: int = Field(1000, ge=BATCH, multiple_of=BATCH, description="files per task, a multiple of 100")
    workers: int | None = Field(None, ge=1, description="processes that write; null = one for each CPU")

    @field_validator("layouts")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("needs weights of at least 0, and one above 0")
        return value

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.image_missing + self.spectrum_missing > 1:
            raise ValueError(
                f"image_missing={self.image_missing} and spectrum_missing={self.spectrum_missing}: "
                "give shares with a sum of at most 1, because no star lacks both"
            )
        if self.balance == "survey" and self.objects != "stars":
            raise ValueError(
                f"balance=survey is for objects=stars; give balance=reference for {self.objects}"
            )
        return self

    @property
    def pixels(self) -> int:
        """Pixels of a side of an image."""
        return self.image_pixels or PIXELS[self.objects]

    @property
    def has_images(self) -> bool:
        """Whether images are written."""
        return self.objects == "galaxies" or (self.objects == "m_stars" and self.image_missing < 1)

    def result_settings(self) -> dict[str, Any]:
        """The values that decide the result: those that matter for what is observed."""
        values = super().result_settings()
        # without extras, a survey is the same as before there were any
        unused = UNUSED[self.objects] | (set() if self.extras else {"extras"})
        return {name: value for name, value in values.items() if name not in unused}
