"""Settings of further sources of training spectra: other stores, each with its own table of labels."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from survey.labelling.settings import Join
from survey.settings import Settings, SettingsError, similar


class Align(Settings):
    """Spectra of all sources get like features: a distance between them is a part of the loss."""

    method: Literal["none", "coral", "mmd", "sinkhorn", "adversary", "pairs"] = Field(
        "none",
        description="distance between the features of the main source and of the others: coral = means and "
        "covariances, mmd = kernels, sinkhorn = transport, adversary = how well a classifier recognises the "
        "source, pairs = between the same objects in both",
    )
    weight: float = Field(0.3, gt=0, description="how much it counts in the loss")
    balance: bool = Field(
        False,
        description="true = weight is the share of the rest of the loss that it has, whatever its size "
        "(by a factor of at most 10)",
    )
    warm_up: float = Field(
        2.0,
        ge=0,
        description="epochs without it, after which it rises for as many epochs again; keep=best and "
        "patience look at the epochs after these",
    )
    teff: tuple[float, float] = Field(
        (4000.0, 7000.0),
        strict=False,
        description="only stars with temperatures in this range (K), or of unknown temperature, are "
        "compared: stars that one source does not have must not become like others",
    )

    def check(self, has_several_sources: bool, epochs: int) -> None:
        """Checks that there is something to align, and time for it."""
        if self.method == "none":
            return
        if not has_several_sources:
            raise SettingsError(
                f"align.method: {self.method} makes the features of several sources alike, but there is one; "
                "give sources.NAME.store= too, or align.method=none"
            )
        if self.warm_up >= epochs:
            raise SettingsError(
                f"align.warm_up: {self.warm_up:g} of {epochs} epochs leaves none with alignment; "
                "give a smaller one, or more epochs"
            )

    def weight_at(self, epoch: float) -> float:
        """The weight at this point of a training."""
        rise = (epoch - self.warm_up) / self.warm_up if self.warm_up else 1.0
        return self.weight * min(max(rise, 0.0), 1.0)

    def is_full_at(self, epoch: float) -> bool:
        """Whether the weight rises no more from this point on; without a method it never does."""
        return self.method == "none" or self.weight_at(epoch) == self.weight


MAIN = "main"
"""The name of the source that `store` and `labels` of a training give."""


class Source(Settings):
    """A further store with labels, such as real stars beside computed ones. It needs a store to be used."""

    store: str = Field("", description="folder or s3:// prefix of the store; empty = the source is not used")
    labels: str = Field(
        "", description="table of labels of this source; none = its spectra have no labels (for align)"
    )
    join: Join | None = Field(None, description="how its labels are joined; null = as for the main source")
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the spectra of an epoch that come from this source; the epoch becomes longer, "
        "for sources without a share keep all their spectra; null = each spectrum once",
    )
    weight: float = Field(1.0, gt=0, description="weight of its spectra in the loss")
    may_be: dict[str, str] = Field(
        {},
        description="other class that a spectrum of a class may have too, such as {MP: CEMP} where carbon "
        "was not measured; the loss then takes both as right",
    )
    parts: Literal["all", "train"] = Field(
        "all", description="train = none of its stars is set apart for validation or test"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.store) != bool(self.labels):
            given, missing = ("store", "labels") if self.store else ("labels", "store")
            hint = "; labels=none = spectra without labels" if missing == "labels" else ""
            raise ValueError(f"{given} is given without {missing}; give both, or neither{hint}")
        return self

    def check_classes(self, classes: Sequence[str]) -> None:
        """An error if `may_be` names a class that there is not."""
        for name in (name for pair in self.may_be.items() for name in pair):
            if name not in classes:
                raise ValueError(f"may_be: there is no class {name!r}; {similar(name, classes)}")


def check_sources(sources: Mapping[str, Source], classes: Sequence[str]) -> None:
    """An error if a source that is used names a class that there is not, or if shares are too large."""
    used = {name: source for name, source in sources.items() if source.store}
    for name, source in used.items():
        try:
            source.check_classes(classes)
        except ValueError as error:
            raise SettingsError(f"sources.{name}.{error}") from None
    total = sum(source.share or 0.0 for source in used.values())
    if total > 1 - 1e-9:
        raise SettingsError(f"sources: the shares add up to {total:g}; give less than 1 in all")
