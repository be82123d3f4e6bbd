"""Settings of augmentation: which methods change a training spectrum, how often, and how strongly.

The field of a method in `Augment` has the name of its function in `survey.training.distortions`; the fields
of its settings class are the arguments of that function. `PRESETS["none"]` holds the default strengths.
"""

from typing import Any, Literal

from pydantic import Field

from survey.settings import Settings


def _preset_value(description: str, **limits: float) -> Any:
    """A field that is filled from the preset where it is null.

    A default of the preset's own value would hide whether the user has given one.
    """
    text = f"{description}; null: as the preset"
    return Field(None, description=text, **limits)  # type: ignore[call-overload]


class Method(Settings):
    """How often a method is used; each subclass adds its strengths."""

    probability: float | None = _preset_value("share of the augmented spectra that it changes", ge=0, le=1)


class Flip(Method):
    """Reverse the order of the pixels."""


class Shift(Method):
    """Shift the spectrum along the grid."""

    max_pixels: float | None = _preset_value("largest shift to either side, in pixels", ge=0, le=1000)


class Smoothing(Method):
    """Smooth with a Gaussian."""

    sigma: float | None = _preset_value("largest width of the Gaussian (its sigma), in pixels", ge=0, le=50)


class FluxScaling(Method):
    """Multiply by one factor."""

    strength: float | None = _preset_value("largest distance of the factor from 1", ge=0, le=0.9)


class ContinuumDrift(Method):
    """Multiply by a slow curve."""

    strength: float | None = _preset_value("largest distance of the curve from 1", ge=0, le=0.9)


class Offset(Method):
    """Add a constant."""

    strength: float | None = _preset_value("largest constant, of the continuum, of either sign", ge=0, le=1)


class Noise(Method):
    """Add noise of the same strength to all pixels."""

    sd: float | None = _preset_value("standard deviation of the noise, of the continuum", ge=0, le=1)


class IvarNoise(Method):
    """Add noise in proportion to the spectrum's own noise."""

    strength: float | None = _preset_value(
        "largest ratio of the added noise to the spectrum's own", ge=0, le=100
    )


class PixelDropout(Method):
    """Mask gaps."""

    bands: int | None = _preset_value("number of gaps", ge=1, le=100)
    width: int | None = _preset_value("largest width of a gap, in pixels", ge=1)


class ImageAugment(Settings):
    """How training images are changed."""

    probability: float = Field(1.0, ge=0, le=1, description="share of the images that are changed")
    turn: bool = Field(False, description="turn by any angle and mirror: the sky has no upper side")
    shift: float = Field(0.0, ge=0, le=100, description="largest shift of the middle, in pixels")
    zoom: float = Field(
        0.0, ge=0, le=1, description="largest change of the scale: 0.1 = between 0.91 and 1.1"
    )
    seeing: float = Field(0.0, ge=0, le=20, description="largest Gaussian blur (its sigma), in pixels")
    brightness: float = Field(
        0.0, ge=0, lt=1, description="largest distance of a factor of all colours from 1"
    )
    colour: float = Field(0.0, ge=0, lt=1, description="the same for each colour by itself")
    noise: float = Field(0.0, ge=0, le=1, description="largest deviation of added noise; white is 1")

    @property
    def is_used(self) -> bool:
        """Whether any image is changed."""
        strengths = (self.shift, self.zoom, self.seeing, self.brightness, self.colour, self.noise)
        return self.probability > 0 and (self.turn or any(strengths))


class Augment(Settings):
    """How training spectra are changed. The fields from `flip` on are the methods, in order of use."""

    preset: Literal["none", "light", "full", "survey"] = Field(
        "none",
        description="fills all values that are null: none = no change; light, full = as for MPBDNet; "
        "survey = what LAMOST and SDSS do to a spectrum",
    )
    probability: float | None = _preset_value("share of the spectra that are augmented at all", ge=0, le=1)
    flip: Flip = Field(Flip(), description="reverse the pixels; destroys the meaning of wavelengths")
    shift: Shift = Field(Shift(), description="small errors of the radial velocity")
    smoothing: Smoothing = Field(Smoothing(), description="lower resolution")
    scaling: FluxScaling = Field(FluxScaling(), description="a continuum that is too high or too low")
    drift: ContinuumDrift = Field(ContinuumDrift(), description="a continuum with a wrong slope or curvature")
    offset: Offset = Field(Offset(), description="errors of the sky subtraction, or stray light")
    noise: Noise = Field(Noise(), description="constant noise")
    ivar_noise: IvarNoise = Field(IvarNoise(), description="shorter exposures")
    dropout: PixelDropout = Field(PixelDropout(), description="gaps")
    image: ImageAugment = Field(ImageAugment(), description="changes of images, whatever the preset is")

    def result_settings(self) -> dict[str, Any]:
        """The values with those of the preset in place of null; the preset's name alone changes no result."""
        values = super().result_settings()
        del values["preset"]
        return _fill(_fill(PRESETS["none"], PRESETS[self.preset]), values)


METHOD_NAMES = tuple(
    name for name, field in Augment.model_fields.items() if isinstance(field.default, Method)
)
"""The methods in order of use: the way of the light from the star through telescope and reduction."""

PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "probability": 1.0,
        "flip": {"probability": 0.0},
        "shift": {"probability": 0.0, "max_pixels": 3.0},
        "smoothing": {"probability": 0.0, "sigma": 2.0},
        "scaling": {"probability": 0.0, "strength": 0.08},
        "drift": {"probability": 0.0, "strength": 0.015},
        "offset": {"probability": 0.0, "strength": 0.01},
        "noise": {"probability": 0.0, "sd": 0.008},
        "ivar_noise": {"probability": 0.0, "strength": 1.0},
        "dropout": {"probability": 0.0, "bands": 2, "width": 60},
    },
    "light": {
        "probability": 0.3,
        "noise": {"probability": 0.5, "sd": 0.005},
        "scaling": {"probability": 0.4, "strength": 0.05},
    },
    "full": {
        "probability": 0.6,
        "noise": {"probability": 0.4, "sd": 0.008},
        "scaling": {"probability": 0.3, "strength": 0.08},
        "drift": {"probability": 0.35, "strength": 0.015},
        "shift": {"probability": 0.25, "max_pixels": 3.0},
    },
    "survey": {
        "probability": 0.8,
        "shift": {"probability": 0.5, "max_pixels": 0.5},
        "smoothing": {"probability": 0.2, "sigma": 1.0},
        "scaling": {"probability": 0.3, "strength": 0.02},
        "drift": {"probability": 0.5, "strength": 0.02},
        "offset": {"probability": 0.2, "strength": 0.01},
        "ivar_noise": {"probability": 0.5, "strength": 1.0},
        "dropout": {"probability": 0.3, "bands": 2, "width": 60},
    },
}
"""Values by preset. `none` holds all default strengths with every method off; the others are laid over it."""


def _fill(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Nested values, with the defaults where they are missing or None."""
    filled = {
        name: _fill(defaults.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return defaults | {name: value for name, value in filled.items() if value is not None}


def single_method(settings: Augment, method: str) -> Augment:
    """The same strengths, but with this method only, and on every spectrum."""
    if method not in METHOD_NAMES:
        raise ValueError(f"augment: there is no method {method!r}; give one of {', '.join(METHOD_NAMES)}")
    values = settings.result_settings() | {"probability": 1.0}
    for name in METHOD_NAMES:
        values[name] = values[name] | {"probability": float(name == method)}
    return Augment.from_dict("augment", values)
