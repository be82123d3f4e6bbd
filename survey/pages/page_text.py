"""Labels, numbers and dates as plain text of a page, without the signs of a plot."""

from datetime import UTC, datetime
from typing import Any

from survey.labels import label

SYMBOLS = {"Teff": "Teff", "logg": "log g"}


def plain_symbol(name: str) -> str:
    """The symbol of a label in papers, as plain text: [Fe/H] for FeH."""
    row = label(name)
    return SYMBOLS.get(row.name) or next((alias for alias in row.aliases if alias.startswith("[")), row.name)


def plain_unit(name: str) -> str:
    """The unit of a label; a logarithm is in dex."""
    unit = label(name).unit
    return "dex" if unit.startswith("log10") else unit


def digits_of(name: str) -> int:
    """Digits after the point that can be read off a spectrum."""
    return 0 if label(name).unit == "K" else 2


def axis_text(name: str) -> str:
    """Symbol and unit, for an axis."""
    return f"{plain_symbol(name)} ({plain_unit(name)})"


def now_text() -> str:
    """The present time, for the foot of a page."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def interval_text(value: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    """A number with its interval, or a dash."""
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def cell_text(value: Any) -> str:
    """A value of a table as text: short numbers, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
