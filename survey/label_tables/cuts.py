"""Which rows of a catalogue pass the cuts on its columns. Shapes: R rows of the catalogue."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.label_tables.catalogue_settings import Cut
from survey.tables import cells

Bools = NDArray[np.bool_]


def passes(column: pa.Array, cut: Cut, where: str) -> Bools:
    """The rows that a cut on a column lets pass."""
    text = cells.text(column)
    numbers = np.asarray(pc.fill_null(cells.numbers(column), np.nan).to_numpy(zero_copy_only=False))
    is_empty_R = text.is_null().to_numpy(zero_copy_only=False) | (numbers == cells.SENTINELS[0])
    pass_R: Bools = np.ones(len(column), bool)
    with np.errstate(invalid="ignore"):
        if cut.min is not None:
            pass_R &= numbers >= cut.min
        if cut.max is not None:
            pass_R &= numbers <= cut.max
    if cut.equals:
        pass_R &= _is_one_of(text, numbers, cut.equals)
    if cut.differs:
        pass_R &= ~_is_one_of(text, numbers, cut.differs)
    for word in cut.without:
        pass_R &= ~pc.fill_null(pc.match_substring(text, word), False).to_numpy(zero_copy_only=False)
    if cut.bits_off:
        pass_R &= _has_bits_off(column, cut.bits_off, where)
    return np.asarray(np.where(is_empty_R, cut.empty, pass_R), bool)


def _is_one_of(text: pa.Array, numbers: NDArray[np.float64], wanted: tuple[str | int | float, ...]) -> Bools:
    """Where the cell is one of these words or numbers; case counts not."""
    words = pa.array([value.upper() for value in wanted if isinstance(value, str)], pa.string())
    is_word_R = pc.is_in(pc.utf8_upper(text), words).to_numpy(zero_copy_only=False)
    is_number_R = np.isin(numbers, [value for value in wanted if not isinstance(value, str)])
    return np.asarray(is_word_R | is_number_R, bool)


def _has_bits_off(column: pa.Array, bits: tuple[int, ...], where: str) -> Bools:
    """Where none of the bits of a whole number is set. A column of other cells is an error."""
    number = cells.integers(column)
    if len(column) and number.null_count == len(column):
        raise ValueError(
            f"labels: {where}: holds no whole numbers, but its bits are asked for; give `without` for words"
        )
    mask = sum(1 << bit for bit in set(bits))
    bits_R = pc.fill_null(number, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray((bits_R & mask) == 0, bool)
