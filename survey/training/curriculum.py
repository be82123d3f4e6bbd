"""More data as a training goes on: the first epochs see few spectra and are cheap, so that a search can end a poor trial before it has cost much."""

from typing import Self

from pydantic import Field, model_validator

from survey.settings import Settings


class Growth(Settings):
    """How much of the training part an epoch sees. Those seen in an epoch are seen in all later ones too."""

    first: float = Field(1.0, gt=0, le=1, description="share of the training spectra in the first epoch")
    epochs: int = Field(
        0,
        ge=0,
        description="epochs until all are seen; the share grows by the same factor from one to the next",
    )

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if (self.first < 1) != (self.epochs > 0):
            raise ValueError(
                f"growth: first={self.first:g} with epochs={self.epochs}: give both, such as first=0.25 epochs=6, or neither"
            )
        return self

    def share(self, epoch: int) -> float:
        """The share of the training spectra in an epoch, the first of which is 0."""
        return 1.0 if epoch >= self.epochs else float(self.first ** (1 - epoch / self.epochs))
