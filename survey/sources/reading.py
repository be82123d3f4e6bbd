"""Bytes of a survey file become spectra: unpacked, parsed, and read by the first source that knows its layout."""

from collections.abc import Mapping

import numpy as np

from survey import plugins
from survey.settings import Settings
from survey.sources import fits, gzipped
from survey.spectrum import Refused, Spectrum


def spectra(data: bytes, name: str, sources: Mapping[str, Settings]) -> list[Spectrum]:
    """The spectra of a file, or `Refused`, whatever the bytes; `sources` are the plugins to ask, in order, with their options."""
    hdus = fits.parse(gzipped.unpack(data))
    with np.errstate(
        all="ignore"
    ):  # damaged numbers are found by what comes out, not by the processor's flags
        for source, settings in sources.items():
            read = getattr(plugins.load("sources", source), "read", None)
            found: list[Spectrum] | None = read(hdus, name, settings) if read else None
            if found is not None:
                return found
    raise Refused("unknown_layout", f"{', '.join(sources)} know no file of {hdus.outline()}")
