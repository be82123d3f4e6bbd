"""A file that is wanted: who it is, the addresses under which the archive may have it, and its name here.

An archive is one file in this folder. ``survey/archives/NAME.py`` is the archive NAME. It defines

    class Options(Settings)           its options; `base` is its address, so that a mirror can be named
    TOKEN = "NAME_TOKEN"              the environment variable of its token; empty if it has none
    OPTIONAL = ("run2d", ...)         needed columns that a catalogue may lack
    base_of(options) -> str           the address of the archive
    is_image(options) -> bool         whether the files are images of objects, not spectra
    needed(options) -> {"obsid": (...), ...}     the columns that name a file, with the names in catalogues
    target(row, options) -> WantedFile    the file of a row; `BadRowError` if the row names none
    from_id(text, options) -> Row     an entry of `ids` as a row; `BadRowError` if it is none
    catalogue(name, options) -> WantedFile           a catalogue by the archive's own name
    circle(ra, dec, radius, options) -> str      the address that lists what is there; empty if there is none
    path(target, form, suggested, data) -> str   where a file is kept, from what is known after its arrival
    problem(target, name, data, options) -> str  why the content is not what was asked for; empty if it is
    expected_bytes(options) -> int    the usual size of a file, for the question whether there is room

A row has the values of the needed columns as text; None is missing.
"""

import re
from dataclasses import dataclass
from string import Formatter
from types import ModuleType
from typing import Any

from survey import plugins
from survey.archives.settings import KIND

Row = dict[str, str | None]

CATALOGUES = "catalogues"
"""The folder of catalogues inside the folder of a download."""

NO_NAMES = ("0", "1", "9999")
"""What remains of 0, -1 and -9999: an object without a name."""

SAME_NAME = "same_name"
"""Stands in the row of an object whose name another object has too: its file is called by both."""

SAFE_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}"


class BadRowError(ValueError):
    """A row, or an id, that names no file."""


@dataclass(frozen=True)
class Form:
    """One address under which an archive may have a file; `label` says which way of writing it is."""

    address: str
    label: str = ""


@dataclass(frozen=True)
class WantedFile:
    """A file that is wanted. `key` is unique in the folder. `forms` are tried in this order.

    `group`: files of one group are found under the same form, so the last one that worked is tried first.
    `path` is its name here, empty if it is only known when the file has arrived.
    """

    key: str
    forms: tuple[Form, ...]
    group: str = ""
    path: str = ""
    is_catalogue: bool = False


def load_archive(name: str) -> ModuleType:
    """The plugin of an archive."""
    return plugins.load(KIND, name)


def integer(row: Row, name: str, lowest: int = 0, highest: int = 10**18) -> int:
    """A whole number of a row; 5.0 is 5, as pandas writes a column with gaps."""
    text = (row.get(name) or "").strip()
    if not re.fullmatch(r"\d{1,19}(\.0*)?", text) or not lowest <= int(text.partition(".")[0]) <= highest:
        raise BadRowError(f"{name} = {text or 'nothing'}: is no number from {lowest} to {highest}")
    return int(text.partition(".")[0])


def degrees(row: Row, name: str, lowest: float, highest: float) -> float:
    """An angle of a row."""
    text = (row.get(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise BadRowError(f"{name} = {text or 'nothing'}: is no angle from {lowest:g} to {highest:g} degrees")
    return value


def position(row: Row) -> tuple[float, float]:
    """Right ascension and declination of a row."""
    return degrees(row, "ra", 0, 360), degrees(row, "dec", -90, 90)


def position_text(row: Row) -> str:
    """The position of a row to 0.04 arcseconds, as it stands in names of files."""
    ra, dec = position(row)
    return f"{ra:.5f}{dec:+.5f}"


def position_of_id(text: str) -> Row:
    """The row of an id ``RA,DEC``."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise BadRowError(f"{text!r}: is no position; give 'RA,DEC' in degrees, such as '150.1,2.2'")
    row: Row = dict(zip(("ra", "dec"), parts, strict=True))
    position(row)
    return row


def safe_name(text: str | None) -> str:
    """The last part of a name, if it can be the name of a file on every disk; else empty."""
    name = (text or "").strip().strip("\"'").replace("\\", "/").rpartition("/")[2]
    return name if re.fullmatch(SAFE_NAME, name) and ".." not in name else ""


def catalogue_name(name: str) -> str:
    """The name of a catalogue, which must be a plain name of a file."""
    if safe_name(name) != name:
        raise BadRowError(f"{name!r}: is no name of a catalogue; give one as the archive writes it")
    return name


def image_name(row: Row, ending: str) -> str:
    """The path of a cut-out: by degrees of right ascension, then the object's name or its position.

    The name has its position added if another object has the same name.
    """
    ra, _ = position(row)
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", (row.get("name") or "").strip()).strip("._-")[:100]
    name = "" if name in NO_NAMES else name
    if not name or SAME_NAME in row:
        name = "_".join(filter(None, (name, position_text(row))))
    return f"{int(ra) % 360:03d}/{name}{ending}"


def fill(template: str, values: dict[str, Any]) -> str:
    """An address from its template and the values in it."""
    return template.format(**values)


def unknown_fields(template: str, known: set[str]) -> list[str]:
    """The fields of a template that are none of these plain names, without anything behind a name.

    A `ValueError` if its brackets do not match.
    """
    fields = set()
    for _, name, form, conversion in Formatter().parse(template):
        if name is not None:
            fields.add(name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else ""))
    return sorted(fields - known)
