"""The order of the planes of a FITS cut-out: by wavelength, the reddest first, as in a JPEG.

Cut-out services write the planes bluest first and name them in the header: BANDS = 'grz', or a card for each
plane (BAND0, BAND1, ...). A header that names no bands, or others than these, leaves the planes as they are.
"""

from collections.abc import Callable
from typing import Any

BLUEST_FIRST = (
    *("fuv", "nuv", "u", "g", "v", "r", "i", "z", "y"),
    *("j", "h", "k", "ks", "w1", "w2", "w3", "w4"),
)
"""The bands in the order of their wavelengths, in lower case."""
MOST_CARDS = 8


def band_names(card: Callable[[str], Any]) -> tuple[str, ...]:
    """The names of the planes in their order, as the cards of a header state them; none if they do not.

    `card` gives the value of a card, or None.
    """
    text = card("BANDS")
    if isinstance(text, str) and text.strip():
        parts = text.replace(",", " ").split()
        return tuple(parts if len(parts) > 1 else parts[0])
    values = [card(f"BAND{number}") for number in range(MOST_CARDS + 1)]
    names = values[1:] if values[0] is None else values  # counted from 0, or from 1
    count = names.index(None) if None in names else len(names)
    return tuple(str(name).strip() for name in names[:count])


def reddest_first(bands: tuple[str, ...], planes: int) -> list[int]:
    """The numbers of the planes in the order of their wavelengths; as they are if that is not known."""
    names = [name.lower() for name in bands]
    if len(names) != planes or len(set(names)) < planes or not set(names) <= set(BLUEST_FIRST):
        return list(range(planes))
    return sorted(range(planes), key=lambda plane: -BLUEST_FIRST.index(names[plane]))
