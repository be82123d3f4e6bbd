"""What the draws of a test population are for: most decide about lists, some only test them."""

import pyarrow as pa
import pyarrow.compute as pc

BASE = "base"
"""Column: the row of the validation spectrum that was drawn."""
BLANKED = "blanked"
"""Column: whether the bands of carbon are blanked, so that nothing can be found there."""
INJECTED = "injected"
"""Column: the [C/Fe] of a real star that carbon was put into; null for all other draws. Tables of earlier
versions lack it."""


def deciding(draws: pa.Table) -> pa.Table:
    """The draws by which lists are chosen and judged. A table of validation spectra stays as it is."""
    if BLANKED in draws.column_names:
        draws = draws.filter(pc.invert(draws[BLANKED]))
    return draws.filter(pc.is_null(draws[INJECTED])) if INJECTED in draws.column_names else draws


def blanked(draws: pa.Table) -> pa.Table:
    """The draws of carbon-rich stars without bands of carbon."""
    return draws.filter(draws[BLANKED])


def injected(draws: pa.Table) -> pa.Table:
    """The draws of real stars that carbon was put into."""
    if INJECTED not in draws.column_names:
        return draws.slice(0, 0)
    return draws.filter(pc.is_valid(draws[INJECTED]))
