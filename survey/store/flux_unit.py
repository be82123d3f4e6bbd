"""Flux in units that are far from 1, such as 1e-17 erg/s/cm2/A without the 1e-17: what float32 cannot hold.

The inverse variance of such a flux is the square of a large number: at 1e-18 and a signal to noise of 20 it
exceeds float32. So both are multiplied by powers of two, which rounds nothing. All other spectra stay as they
are.
"""

from dataclasses import replace

import numpy as np

from survey.spectrum import Spectrum

SMALLEST, LARGEST = 1e-37, 1e30
"""A typical |flux| outside of these is damage: the largest flux that counts, and what float32 holds."""
USUAL = (1e-12, 1e12)
"""With a typical |flux| between these, float32 holds the ivar of every signal to noise up to 1e6."""
HELD = (1e-20, float(np.finfo(np.float32).max))
"""With a largest ivar between these, float32 holds those of all pixels that matter."""


def in_usual_units(spectrum: Spectrum) -> tuple[Spectrum, float]:
    """The spectrum with a typical |flux| of about 1 if its own is unusual, and the factor to its own flux."""
    flux, ivar = spectrum.flux, spectrum.ivar
    # float32 holds its own numbers; most spectra leave here, after one pass over the ivar
    if ivar.dtype.kind != "f" or ivar.dtype.itemsize <= 4 or HELD[0] < ivar.max() <= HELD[1]:
        return spectrum, 1.0
    counts = np.isfinite(flux) & (flux != 0) & (ivar > 0) & np.isfinite(ivar)
    typical = float(np.median(np.abs(flux[counts]))) if counts.any() else 1.0
    if USUAL[0] <= typical <= USUAL[1] or not SMALLEST <= typical < LARGEST:
        return spectrum, 1.0
    power = int(np.frexp(typical)[1])
    with np.errstate(over="ignore", under="ignore"):  # damaged pixels
        scaled = replace(spectrum, flux=np.ldexp(flux, -power), ivar=np.ldexp(ivar, 2 * power))
    return scaled, 2.0**power
