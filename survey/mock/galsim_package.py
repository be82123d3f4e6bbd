"""The package GalSim, which makes the point spread functions of mock images; it is optional."""

from types import ModuleType

from survey.settings import JobError


def load() -> ModuleType:
    """GalSim, or one sentence that says what to install."""
    try:
        import galsim
    except ModuleNotFoundError:
        raise JobError(
            "mock: images need GalSim, which is not installed; install it with: pip install galsim"
        ) from None
    module: ModuleType = galsim
    return module
