"""FITS files in memory, written by astropy."""

import io

from astropy.io import fits


def fits_bytes(*hdus: object) -> bytes:
    """The bytes of a file with these HDUs."""
    file = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(file)
    return file.getvalue()
