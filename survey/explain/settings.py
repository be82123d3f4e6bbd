"""Settings of an explanation.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey.settings import Settings, Threads

Method = Literal["occlusion", "noise", "permutation", "gradients"]
"""A way to measure how much a block of wavelengths matters."""
METHODS: tuple[Method, ...] = ("occlusion", "noise", "permutation", "gradients")
BATCHES, FEWEST_IN_PART = 8, 4
"""Parts of the spectra whose importances are compared, and the fewest spectra of a part."""


class ExplainSettings(Settings):
    """Settings of an explanation."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"of", "explain", "threads"})
    OUTPUT: ClassVar[str] = "explain"
    COMMON: ClassVar[tuple[str, ...]] = ("store", "split", "count", "blocks", "methods", "spectra", "threads")

    of: str = Field(description="the run or ensemble to explain")
    explain: str = Field(description="folder or s3:// prefix of the result")
    store: str | None = Field(
        None, description="store whose spectra are used; null = the one that it was trained on"
    )
    split: Literal["test", "validation", "train", "all"] = Field(
        "test", description="part of its own samples; not used with store="
    )
    count: int = Field(256, ge=8, le=100_000, description="spectra that are used, drawn at random")
    least_snr: float = Field(10.0, ge=0, description="spectra with a lower signal to noise are left out")
    blocks: int = Field(60, ge=2, le=2000, description="blocks of wavelength, equal in log wavelength")
    methods: tuple[Method, ...] = Field(
        METHODS,
        strict=False,
        description="occlusion = a block becomes continuum; noise = continuum with the noise of the "
        "spectrum; permutation = the block of another spectrum; gradients = integrated gradients from the "
        "continuum, which trees and votes of members do not have",
    )
    steps: int = Field(24, ge=2, le=1000, description="steps of the integrated gradients")
    deleted: float = Field(
        0.1, gt=0, lt=1, description="share of the blocks that the test of strength takes away"
    )
    draws: int = Field(20, ge=2, le=1000, description="random choices that it compares with")
    batches: int = Field(
        BATCHES,
        ge=1,
        le=1000,
        description="parts of the spectra, in the order of the store, whose importances are compared; at "
        f"most one for {FEWEST_IN_PART} spectra of count=, which the default follows; fewer of few spectra",
    )
    spectra: tuple[str, ...] = Field(
        (), strict=False, description="obsids, visits or stars that are explained one by one too"
    )
    seed: int = Field(0, ge=0, description="seed of all that is drawn")
    threads: Threads = Field("auto", description="number of threads; auto = the fastest number, measured")

    @model_validator(mode="before")
    @classmethod
    def _follow_count(cls, values: Any) -> Any:
        """Where the number of parts is not given, a small `count` lowers it."""
        count = values.get("count") if isinstance(values, dict) else None
        if isinstance(count, int) and "batches" not in values and count >= FEWEST_IN_PART:
            return values | {"batches": min(BATCHES, count // FEWEST_IN_PART)}
        return values

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "occlusion" not in value or len(set(value)) < len(value):
            raise ValueError(
                "occlusion is not among them, or one is given twice; give occlusion, and some of "
                f"{', '.join(METHODS[1:])}"
            )
        return value

    @field_validator("spectra", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        if isinstance(value, (str, int)):
            value = [value]
        return [str(item) for item in value] if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if self.batches > self.count // FEWEST_IN_PART:
            most = self.count // FEWEST_IN_PART
            raise ValueError(
                f"batches: {self.batches} parts of {self.count} spectra: a part has at least "
                f"{FEWEST_IN_PART}; give batches={most} or fewer"
            )
        return self
