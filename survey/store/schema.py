"""The columns of a store: spectra and refused files, with the meaning of each.

One shard is one Parquet file of spectra and one of refused files. Flux and ivar are fixed-size lists, so
pyarrow, pandas and duckdb read them as they are.
"""

import json
from enum import IntFlag

import numpy as np
import pyarrow as pa

from survey.images.settings import PrepareImages
from survey.spectrum import VISIT_COLUMNS, Grid
from survey.store.indices import index_columns
from survey.tables.columns import described_field


class Flag(IntFlag):
    """Bits of a store's column `flags`; `FLAG_MEANINGS` explains each."""

    COVERAGE = 1
    BAD_PIXELS = 2
    FEW_PIXELS = 4
    LOW_SNR = 8
    OUTLIERS = 16
    NO_VELOCITY = 32
    LOW_CONTINUUM = 64
    NEGATIVE = 128
    NO_OBSID = 256
    FIBER = 512
    NOISE_ESTIMATED = 1024
    NO_IMAGE = 2048
    NO_SPECTRUM = 4096


FLAG_MEANINGS = {
    Flag.COVERAGE: "covers less of the grid than the gate allows",
    Flag.BAD_PIXELS: "a larger share of the covered points is bad than the gate allows",
    Flag.FEW_PIXELS: "fewer good points than the gate allows",
    Flag.LOW_SNR: "a lower signal to noise than the gate allows",
    Flag.OUTLIERS: "a larger share of outlying points than the gate allows",
    Flag.NO_VELOCITY: "neither rv nor z is known: not in the rest frame, unless it was before",
    Flag.LOW_CONTINUUM: "the continuum is near or below 0 somewhere; these points are bad",
    Flag.NEGATIVE: "more than a tenth of the good points have negative flux",
    Flag.NO_OBSID: "the survey's number of the observation is missing or invalid, or exceeds int64 (SDSS "
    "from plate 8192 on)",
    Flag.FIBER: "the survey's own mask of the fibre is not 0",
    Flag.NOISE_ESTIMATED: "the file gives no errors: ivar and S/N are estimated from the flux",
    Flag.NO_IMAGE: "no image, in a store that has images",
    Flag.NO_SPECTRUM: "no spectrum, in a store that has spectra",
}

_FLAG_TEXTS = [f"{flag.value} {str(flag.name).lower()}: {text}" for flag, text in FLAG_MEANINGS.items()]

STORE_COLUMNS = {
    "path": ("string", "the file of the spectrum"),
    "row": ("int64", "the row within a table file; -1 for a file of one spectrum"),
    "crc": ("int64", "CRC-32 of the file as read; null for rows of a table file"),
    "velocity": ("float64", "km/s by which the spectrum was shifted to the rest frame; null if unknown"),
    "snr": ("float32", "signal to noise: median per good grid point"),
    "coverage": ("float32", "share of the grid that the file covers"),
    "bad_share": ("float32", "share of the covered points that are bad"),
    "n_good": ("int32", "number of good points after normalisation"),
    "n_outlier": ("int32", "points set to a limit as outliers after normalisation"),
    "egp": (
        "float32",
        "index of the CH G band, -2.5 log10(F(4200-4400) / F(4425-4520)); null where not covered",
    ),
    **index_columns(),
    "flags": ("int32", f"quality bits: {'; '.join(_FLAG_TEXTS)}"),
    "flux_scale": (
        "float32",
        "flux of the file = flux * continuum * flux_scale (continuum: mean 1 over the grid)",
    ),
}
"""The columns that the ingest adds to those of the visit: Arrow type, description."""

ARRAY_COLUMNS = {
    "flux": "normalised flux at the grid points, rest frame, vacuum; 1 where bad",
    "ivar": "inverse variance of flux; 0 = bad",
    "continuum": "continuum at the grid points, mean 1",
}
IMAGE = "image"
"""The column of images: bytes of colours, rows and columns (C, H, W); all 0 = no image."""
IMAGE_COLUMNS = {
    "image_path": ("string", "the file of the image; null if there is none beside the file of the row"),
    "image_problem": ("string", "why there is no image; null if there is one"),
}
REFUSED_COLUMNS = {
    "path": ("string", "the file"),
    "row": ("int64", "the row within a table file; -1 for a complete file"),
    "reason": ("string", "one of the closed list of reasons"),
    "detail": ("string", "what was found"),
    "crc": ("int64", "CRC-32 of the file as read; null if it could not be read"),
}

REFUSED_SCHEMA = pa.schema([described_field(name, *column) for name, column in REFUSED_COLUMNS.items()])


def spectra_schema(grid: Grid, with_continuum: bool, images: PrepareImages | None = None) -> pa.Schema:
    """The columns of spectra and images. The metadata holds the grid and the shape of the images."""
    first = {name: STORE_COLUMNS[name] for name in ("path", "row", "crc")}
    scalars = first | VISIT_COLUMNS | STORE_COLUMNS
    fields = [described_field(name, *column) for name, column in scalars.items()]
    arrays = [name for name in ARRAY_COLUMNS if name != "continuum" or with_continuum]
    if len(grid):
        fields += [described_field(name, _list_type(len(grid)), ARRAY_COLUMNS[name]) for name in arrays]
    about_grid = grid.to_dict() | {"points": len(grid), "medium": "vacuum", "unit": "angstrom"}
    metadata = {"grid": json.dumps(about_grid)}
    if images and images.is_used:
        fields += [described_field(name, *column) for name, column in IMAGE_COLUMNS.items()]
        colours, height, width = images.shape
        text = f"the image: {colours} colours x {height} rows x {width} columns, a byte each; all 0 = none"
        fields.append(described_field(IMAGE, pa.binary(colours * height * width), text))
        metadata["image"] = json.dumps(images.shape)
    return pa.schema(fields, metadata=metadata)


def _list_type(size: int) -> pa.DataType:
    """Lists of so many numbers, none of them null: Parquet spends time on what may be null."""
    return pa.list_(pa.field("element", pa.float32(), nullable=False), size)


def image_column(images: list[np.ndarray], size: int) -> pa.Array:
    """Images of so many bytes as a column."""
    data = pa.py_buffer(b"".join(image.tobytes() for image in images))
    return pa.Array.from_buffers(pa.binary(size), len(images), [None, data])


def image_array(column: pa.ChunkedArray, shape: tuple[int, int, int]) -> np.ndarray:
    """A column of images as bytes (N, C, H, W), without a copy."""
    array = _one_array(column)
    start, size = array.offset * array.type.byte_width, len(array) * array.type.byte_width
    pixels = np.frombuffer(array.buffers()[1], np.uint8, size, start) if size else np.empty(0, np.uint8)
    return pixels.reshape(len(array), *shape)


def flat_values(column: pa.ChunkedArray) -> pa.Array:
    """The numbers of a column of fixed-size lists, one list after the other, without a copy if possible."""
    return _one_array(column).flatten()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array. Joining copies, even where there is only one."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def array_column(values: np.ndarray) -> pa.Array:
    """Rows of a 2-D array as fixed-size lists, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=_list_type(values.shape[1]))
