"""Spectra of a training batch, each changed a little as instruments and reductions do, so that a network learns what does not matter.

For training only. Every random number comes from one generator and is drawn for the whole batch, however many workers share it: what
becomes of a spectrum depends on the generator and on its place in the batch, not on the number of workers. A bad pixel stays bad (ivar 0,
flux 1) through all of it.

A method is a function of `survey.training.distortions`, a field of its name in `Augment`, and its usual strengths in the preset `none`.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from survey.settings import Settings
from survey.training import distortions
from survey.training.distortions import Draws, Spectra


def _given(about: str, **limits: float) -> Any:
    """A value that the preset fills where none is given; None survives when settings are laid over defaults, a preset's value would not."""
    return Field(None, description=f"{about}; null: as the preset", **limits)  # type: ignore[call-overload]


class Method(Settings):
    """How often a method is used; each has its strengths beside it."""

    probability: float | None = _given("share of the spectra that are augmented which it changes", ge=0, le=1)


class Flip(Method):
    """The spectrum back to front."""


class Shift(Method):
    """Moved along the grid."""

    max_pixels: float | None = _given("largest shift to either side, in pixels", ge=0, le=1000)


class Smoothing(Method):
    """Smoothed by a Gaussian."""

    sigma: float | None = _given("largest width of the Gaussian (its sigma), in pixels", ge=0, le=50)


class Scaling(Method):
    """Multiplied by a number."""

    by: float | None = _given("largest distance of the factor from 1", ge=0, le=0.9)


class Drift(Method):
    """Multiplied by a slow curve."""

    strength: float | None = _given("largest distance of the curve from 1", ge=0, le=0.9)


class Offset(Method):
    """A number added."""

    by: float | None = _given("largest number that is added, of the continuum, either sign", ge=0, le=1)


class Noise(Method):
    """Noise that is the same in all pixels."""

    sd: float | None = _given("standard deviation of the noise, of the continuum", ge=0, le=1)


class IvarNoise(Method):
    """Noise in proportion to the spectrum's own."""

    strength: float | None = _given("largest ratio of the added noise to the spectrum's own", ge=0, le=100)


class Dropout(Method):
    """Gaps."""

    bands: int | None = _given("number of gaps", ge=1, le=100)
    width: int | None = _given("largest width of a gap, in pixels", ge=1)


class Augment(Settings):
    """How spectra are changed in training; the fields from `flip` on are the methods, in the order in which they are used."""

    preset: Literal["none", "light", "full", "survey"] = Field(
        "none",
        description="values of all that is null: nothing; system 0's light or full; or what LAMOST and SDSS do to a spectrum",
    )
    probability: float | None = _given("share of the spectra that are augmented at all", ge=0, le=1)
    flip: Flip = Field(Flip(), description="back to front; destroys the meaning of wavelengths")
    shift: Shift = Field(Shift(), description="velocities a little off")
    smoothing: Smoothing = Field(Smoothing(), description="poorer resolution")
    scaling: Scaling = Field(Scaling(), description="continua too high or too low")
    drift: Drift = Field(Drift(), description="continua that bend wrongly")
    offset: Offset = Field(Offset(), description="light that is not the star's")
    noise: Noise = Field(Noise(), description="constant noise")
    ivar_noise: IvarNoise = Field(IvarNoise(), description="shorter exposures")
    dropout: Dropout = Field(Dropout(), description="gaps")

    def lasting(self) -> dict[str, Any]:
        """What decides the outcome: the values with the preset's in place of null; the preset's name alone decides nothing."""
        kept = {name: value for name, value in super().lasting().items() if name != "preset"}
        return _laid(_laid(PRESETS["none"], PRESETS[self.preset]), kept)


METHODS: dict[str, Callable[..., Spectra]] = {
    name: getattr(distortions, name)
    for name, field in Augment.model_fields.items()
    if isinstance(field.default, Method)
}
"""The methods by name, in the order in which they are used: the light's way from the star through the telescope to the reduction."""

PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "probability": 1.0,
        "flip": {"probability": 0.0},
        "shift": {"probability": 0.0, "max_pixels": 3.0},
        "smoothing": {"probability": 0.0, "sigma": 2.0},
        "scaling": {"probability": 0.0, "by": 0.08},
        "drift": {"probability": 0.0, "strength": 0.015},
        "offset": {"probability": 0.0, "by": 0.01},
        "noise": {"probability": 0.0, "sd": 0.008},
        "ivar_noise": {"probability": 0.0, "strength": 1.0},
        "dropout": {"probability": 0.0, "bands": 2, "width": 60},
    },
    "light": {
        "probability": 0.3,
        "noise": {"probability": 0.5, "sd": 0.005},
        "scaling": {"probability": 0.4, "by": 0.05},
    },
    "full": {
        "probability": 0.6,
        "noise": {"probability": 0.4, "sd": 0.008},
        "scaling": {"probability": 0.3, "by": 0.08},
        "drift": {"probability": 0.35, "strength": 0.015},
        "shift": {"probability": 0.25, "max_pixels": 3.0},
    },
    "survey": {
        "probability": 0.8,
        "shift": {"probability": 0.5, "max_pixels": 0.5},
        "smoothing": {"probability": 0.2, "sigma": 1.0},
        "scaling": {"probability": 0.3, "by": 0.02},
        "drift": {"probability": 0.5, "strength": 0.02},
        "offset": {"probability": 0.2, "by": 0.01},
        "ivar_noise": {"probability": 0.5, "strength": 1.0},
        "dropout": {"probability": 0.3, "bands": 2, "width": 60},
    },
}
"""Values by preset. `none` holds all usual strengths with every method off; the others are laid over it."""


def _laid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested values, those above before those below except where they are None."""
    filled = {
        name: _laid(below[name], value) if isinstance(value, dict) else value for name, value in above.items()
    }
    return below | {name: value for name, value in filled.items() if value is not None}


def alone(settings: Augment, method: str) -> Augment:
    """The same strengths, but this method only, and on every spectrum."""
    if method not in METHODS:
        raise ValueError(f"augment: there is no method {method!r}; there are {', '.join(METHODS)}")
    values = settings.lasting() | {"probability": 1.0}
    for name in METHODS:
        values[name] = values[name] | {"probability": float(name == method)}
    return Augment.checked("augment", values)


def augmented(
    settings: Augment,
    flux_BP: Tensor,
    ivar_BP: Tensor,
    continuum_BP: Tensor | None,
    generator: torch.Generator,
    share: tuple[int, int] = (0, 1),
) -> tuple[Tensor, Tensor, Tensor | None]:
    """New spectra in place of these, which stay as they are; `share` = this worker's place and the number of workers that share the batch.

    Workers hold equally many rows and generators of the same state, which go on in step.
    """
    rank, size = share
    if not 0 <= rank < size:
        raise ValueError(
            f"augment: share is place {rank} of {size} workers; give a place from 0 to {size - 1}"
        )
    if ivar_BP.shape != flux_BP.shape or (continuum_BP is not None and continuum_BP.shape != flux_BP.shape):
        raise ValueError(
            f"augment: flux is {tuple(flux_BP.shape)}, ivar or continuum of another shape; give arrays of one batch and grid"
        )
    values = settings.lasting()
    rows, used = len(flux_BP), [name for name in METHODS if values[name]["probability"] > 0]
    flux_BP, ivar_BP = _mended(flux_BP, ivar_BP)
    lit = Spectra(flux_BP, ivar_BP, None if continuum_BP is None else continuum_BP.clone())
    drawn = torch.rand((rows * size, 1 + len(used)), generator=generator, device=generator.device).cpu()
    for column, name in enumerate(used, 1):
        strengths = dict(values[name])
        chosen = (drawn[:, 0] < values["probability"]) & (drawn[:, column] < strengths.pop("probability"))
        first, last = (int(chosen[:row].sum()) for row in (rank * rows, (rank + 1) * rows))
        draws = Draws(generator, int(chosen.sum()), slice(first, last), flux_BP)
        at = chosen[rank * rows : (rank + 1) * rows].nonzero()[:, 0].to(flux_BP.device)
        # also with no row here: the generator must go on as that of a worker with some
        _put(lit, at, METHODS[name](_taken(lit, at), draws, **strengths))
    return lit


def _mended(flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Flux and ivar of which every bad pixel has ivar 0 and flux 1."""
    good_BP = ivar_BP > 0
    return torch.where(good_BP, flux_BP, 1.0), torch.where(good_BP, ivar_BP, 0.0)


def _taken(lit: Spectra, at: Tensor) -> Spectra:
    return Spectra(*(None if values_BP is None else values_BP.index_select(0, at) for values_BP in lit))  # type: ignore[arg-type]


def _put(lit: Spectra, at: Tensor, made: Spectra) -> None:
    """Rows that were changed, in the places that they were taken from."""
    flux_BP, ivar_BP = _mended(made.flux_BP, made.ivar_BP)
    lit.flux_BP.index_copy_(0, at, flux_BP)
    lit.ivar_BP.index_copy_(0, at, ivar_BP)
    if lit.continuum_BP is not None and made.continuum_BP is not None:
        lit.continuum_BP.index_copy_(0, at, made.continuum_BP)
