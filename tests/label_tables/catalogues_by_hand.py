"""Small catalogues as files, and the settings of a job that reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from survey.label_tables.catalogue_settings import LabelSource
from survey.label_tables.label_tables import LabelsResult, make_labels
from survey.label_tables.read_catalogue import CatalogueRows, read_catalogue
from survey.label_tables.settings import LabelTables
from survey.label_tables.solar import SCALES

IRON = {"FeH": {"column": "feh", "error": "e_feh"}}


def write_csv(path: Path, names: str, rows: Sequence[Sequence[Any]], delimiter: str = ",") -> str:
    """A CSV file of these rows; the names of its columns are separated by blanks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [names.split(), *([str(cell) for cell in row] for row in rows)]
    path.write_text("\n".join(delimiter.join(line) for line in lines) + "\n")
    return str(path)


def source(**settings: Any) -> LabelSource:
    """A source with positions in ra and dec and [Fe/H], if nothing else is given."""
    base: dict[str, Any] = {"file": "x", "position": {"ra": "ra", "dec": "dec"}, "labels": IRON}
    return LabelSource.from_dict("labels", base | settings)


def read(path: str, name: str = "one", **settings: Any) -> CatalogueRows:
    """The rows of a catalogue."""
    return read_catalogue(name, source(**settings), path, SCALES["asplund2009"])


def settings_of(folder: Path, sources: dict[str, dict[str, Any]], **settings: Any) -> LabelTables:
    """Settings of a job with these sources; with positions in ra and dec and [Fe/H] if nothing is given."""
    base: dict[str, Any] = {"position": {"ra": "ra", "dec": "dec"}, "labels": IRON}
    full = {
        name: values if "format" in values else base | values
        for name, values in sources.items()
    }  # fmt: skip
    return LabelTables.from_dict("labels", {"labels": str(folder / "out"), "sources": full} | settings)


def make(folder: Path, sources: dict[str, dict[str, Any]], **settings: Any) -> LabelsResult:
    """The label table of these sources."""
    return make_labels(settings_of(folder, sources, **settings))
