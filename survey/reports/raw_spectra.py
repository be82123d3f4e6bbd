"""Single spectra read again from their files, for pictures: by the path, the row and the visit that a table
of spectra or of predictions names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.sources.reading import with_options
from survey.spectrum import Spectrum
from survey.store.objects import read_items
from survey.store.prepare import SPEED_OF_LIGHT, Preparer
from survey.store.settings import Ingest

Floats = NDArray[np.float64]


def raw_spectrum(row: dict[str, Any], settings: Ingest) -> Spectrum | None:
    """The spectrum of a row as its file gives it; None if the file has changed or is gone.

    Its `z` is the shift of the row, whichever value of the file or a catalogue that was.
    """
    options = with_options(settings.sources, settings.options)
    place = pa.Table.from_pylist([{"path": row["path"], "row": row["row"]}])
    for item in read_items(place, options):
        if isinstance(item.result, Spectrum) and item.result.visit.get("visit") == row["visit"]:
            item.result.visit["z"] = None if row["velocity"] is None else row["velocity"] / SPEED_OF_LIGHT
            return item.result
    return None


Pixels = tuple[Floats, Floats, Floats | None]
"""Normalised flux, its inverse variance, and the continuum (mean 1) where it is kept."""


def prepare_rows(
    rows: Sequence[dict[str, Any]], settings: Ingest, curves: bool = False
) -> list[Pixels | None]:
    """The pixels of each row, at rest by its `velocity`; None if its file cannot be read.

    `curves` keeps the continuum.
    """
    raw = [raw_spectrum(row, settings) for row in rows]
    found = [number for number, spectrum in enumerate(raw) if spectrum is not None]
    spectra = [spectrum for spectrum in raw if spectrum is not None]
    if not spectra:
        return [None] * len(rows)
    prepare = Preparer(settings.prepare, curves=curves)
    prepared = prepare(spectra, [None] * len(spectra))
    pixels: list[Pixels | None] = [None] * len(rows)
    for number, row in enumerate(found):
        curve = None if prepared.continuum is None else np.asarray(prepared.continuum[number], np.float64)
        flux_P, ivar_P = (np.asarray(array[number], np.float64) for array in (prepared.flux, prepared.ivar))
        pixels[row] = flux_P, ivar_P, curve
    return pixels
