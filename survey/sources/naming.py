"""How surveys name their files, their visits and their stars.

A source plugin states these names once, in its constant `NAMING`. The manifest finds the files of a
catalogue's rows by them, and label tables are matched to spectra by them.
"""

from dataclasses import dataclass

from survey import plugins


@dataclass(frozen=True)
class Naming:
    """The names of one survey.

    `file` is a regular expression of a file's name without folder and endings. It has a named group for each
    part of the visit's name. `parts` lists these parts in their order; the same names are the columns of a
    catalogue. A part is a number with at least so many digits; None means text. `path` is the path of a file
    from the columns of a catalogue, in Python's format style. Catalogues put `star_prefix` before the name
    of a star, and `column_prefix` before the name of a column.
    """

    file: str
    parts: dict[str, int | None]
    path: str
    star_prefix: str = ""
    column_prefix: str = ""


def namings() -> tuple[Naming, ...]:
    """The names of all surveys that have a plugin, in alphabetical order of the plugins."""
    return tuple(plugins.constants("sources", "NAMING").values())
