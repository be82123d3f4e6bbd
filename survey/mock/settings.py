"""The settings of a mock survey."""

from typing import ClassVar, Literal, get_args

from pydantic import Field, field_validator

from survey.settings import Settings

Layout = Literal["lrs_image", "lrs_image_subcont", "lrs_table", "mrs", "sdss"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
"""How the files of the surveys are built: LAMOST low resolution in three ways, LAMOST medium resolution,
SDSS."""

BATCH = 100
"""Spectra are computed in batches of so many files."""


class Mock(Settings):
    """A mock survey."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"out", "workers"})

    OUTPUT: ClassVar[str] = "out"

    out: str = Field(description="folder or s3:// prefix to write to")
    n: int = Field(2000, ge=1, le=10**9, description="number of files, including the defective ones")
    seed: int = Field(0, ge=0, description="seed of all random numbers: another seed gives other stars")
    broken: float = Field(0.02, ge=0, le=1, description="share of defective files, all kinds equally often")
    balance: Literal["reference", "balanced"] = Field(
        "reference", description="shares of the classes: as in the published reference set, or a third each"
    )
    layouts: dict[Layout, float] = Field(
        {"lrs_image": 0.6, "lrs_table": 0.25, "lrs_image_subcont": 0.15},
        description=f"relative number of files in each layout of {', '.join(LAYOUTS)}",
    )
    visits: float = Field(0.15, ge=0, le=1, description="share of stars that are observed 2 to 4 times")
    gz: float = Field(0.8, ge=0, le=1, description="share of gzipped files")
    snr: float = Field(1.0, gt=0, description="factor on the signal to noise (median 32 in g)")
    chunk: int = Field(1000, ge=BATCH, multiple_of=BATCH, description="files per task, a multiple of 100")
    workers: int | None = Field(None, ge=1, description="processes that write; null = one for each CPU")

    @field_validator("layouts")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("needs weights of at least 0, and one above 0")
        return value
