"""What any network is set up with, whatever its architecture: its task, and its view of the spectra."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from survey.settings import Settings

TaskKind = Literal["cls", "reg", "cls_reg", "none"]
"""Classification, regression of labels, both, or neither: then a network learns by losses of its own."""
Window = Annotated[tuple[float, float], Field(strict=False)]


@dataclass(frozen=True)
class Task:
    """What a network predicts: classes, labels (rows of `survey.labels`, scaled), or both.

    With `sigma` it predicts the uncertainty of each label too.
    """

    kind: TaskKind
    labels: tuple[str, ...] = ()
    classes: int = 3
    sigma: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise ValueError(f"task: there is no task {self.kind!r}; give {', '.join(get_args(TaskKind))}")
        if self.regresses and not self.labels:
            raise ValueError(f"task: {self.kind} has no labels; name at least one, such as FeH")

    @property
    def classifies(self) -> bool:
        """Whether it predicts classes."""
        return self.kind in ("cls", "cls_reg")

    @property
    def regresses(self) -> bool:
        """Whether it predicts labels."""
        return self.kind in ("reg", "cls_reg")


class View(Settings):
    """Which part of a spectrum a network sees, and how it is clipped and smoothed first."""

    windows: tuple[Window, ...] = Field(
        (),
        strict=False,
        description="ranges of vacuum wavelength in angstrom that are seen, such as "
        "[[5160, 5190], [8490, 8670]]; none = all",
    )
    clip: tuple[float, float] | None = Field(
        None, strict=False, description="limits to which flux is clipped, such as [0, 2]"
    )
    smooth: int = Field(
        0,
        ge=0,
        le=99,
        description="width in pixels of a Savitzky-Golay filter of order 2, an odd number from 5; 0 = none",
    )

    @field_validator("windows")
    @classmethod
    def _rising(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in value:
            if not 0 < low < high:
                raise ValueError(
                    f"the window {low:g} to {high:g} is empty; give [low, high], such as [5160, 5190]"
                )
        return value

    @field_validator("clip")
    @classmethod
    def _around_continuum(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and not value[0] < 1 < value[1]:
            raise ValueError("the continuum, 1, is not between the limits; give limits such as [0, 2]")
        return value

    @field_validator("smooth")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value and (value % 2 == 0 or value < 5):
            raise ValueError("is not an odd number from 5; give one, or 0 for no smoothing")
        return value
