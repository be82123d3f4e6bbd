"""The parts of a report: sections of blocks.

A template shows them. Curves, planes and long tables are drawn by the code of the page from attached data.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from survey import files
from survey.pages.html import Attachments, squeezed_json
from survey.pages.page_text import cell_text
from survey.pages.star_columns import SampledStars, attach_stars

Block = dict[str, Any]

MOST_PICTURES = 40
"""Pictures of a folder that a page shows."""
LEVELS = 5
"""Shades of the cells of a matrix."""
LARGEST = 2**53
"""A browser knows whole numbers up to here exactly."""
POSITION_DIGITS: dict[str, int | None] = {"ra": 5, "dec": 5}


@dataclass
class PageSection:
    """A part of a report with a heading."""

    title: str
    blocks: list[Block]
    about: str = ""

    @property
    def id(self) -> str:
        """The name of the section in links."""
        return "part-" + "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass
class ReportPage:
    """What a report shows: its heading, its sections, and the data that its code reads."""

    kind: str
    heading: str
    sections: list[PageSection] = field(default_factory=list)
    attachments: Attachments = field(default_factory=Attachments)

    def add(self, title: str, *blocks: Block | None, about: str = "") -> None:
        """A section with those of the blocks that exist; none if none does."""
        existing = [block for block in blocks if block is not None]
        if existing:
            self.sections.append(PageSection(title, existing, about))

    def _name(self) -> str:
        return f"block-{len(self.attachments.json)}"

    def curves(
        self,
        title: str,
        x: tuple[str, ArrayLike],
        series: Mapping[str, ArrayLike],
        *,
        y: str = "",
        sync: str = "",
        dashed: Iterable[str] = (),
        log: bool = False,
    ) -> Block | None:
        """Curves over a common x, by name; None if there is none."""
        if not series or not len(np.asarray(x[1])):
            return None
        lines = [
            {"name": name, "values": np.asarray(values, float).tolist(), "dash": name in set(dashed)}
            for name, values in series.items()
        ]
        name = self._name()
        about = {"x": {"label": x[0], "values": np.asarray(x[1], float).tolist()}, "series": lines}
        self.attachments.add_json(name, {**about, "y": {"label": y, "log": log}, "sync": sync})
        return {"kind": "curves", "title": title, "script": "curves", "source": name}

    def planes(
        self,
        title: str,
        stars: SampledStars,
        planes: Sequence[Mapping[str, Any]],
        overlays: Sequence[Block] = (),
    ) -> Block | None:
        """Planes that show the same stars; `overlays` are stars drawn on top: name, color, columns."""
        if not planes or not stars.rows:
            return None
        name = self._name()
        attach_stars(self.attachments, f"{name}-stars", stars)
        self.attachments.add_json(name, {"stars": f"{name}-stars", "planes": planes, "overlays": overlays})
        return {"kind": "planes", "title": title, "script": "planes", "source": name}

    def long_table(
        self, title: str, columns: Mapping[str, Sequence[Any]], digits: Mapping[str, int | None] | None = None
    ) -> Block | None:
        """A table of any length, which can be sorted and filtered.

        `digits` after the point of a column; numbers of other columns have five significant ones.
        """
        if not columns or not len(next(iter(columns.values()))):
            return None
        name, wanted = self._name(), POSITION_DIGITS | dict(digits or {})
        about, sent = [], {}
        for column, values in columns.items():
            sent[column] = values = _exact(values)
            numeric = all(isinstance(value, int | float) or value is None for value in values)
            places = wanted.get(column, None if any(isinstance(value, float) for value in values) else 0)
            about.append(
                {
                    "name": column,
                    "title": column,
                    "numeric": numeric,
                    "digits": places,
                    "width": "minmax(60px, 1fr)" if numeric else "minmax(90px, 2fr)",
                }
            )
        self.attachments.add_json(name, {"title": title, "columns": about})
        self.attachments.add_packed(f"{name}-rows", squeezed_json(sent))
        return {"kind": "listing", "title": title, "script": "table", "source": name}


def _exact(values: Sequence[Any]) -> Sequence[Any]:
    """Whole numbers that a browser would round, such as those of Gaia, as text."""
    if any(isinstance(value, int) and abs(value) > LARGEST for value in values):
        return [None if value is None else str(value) for value in values]
    return values


def facts(rows: Mapping[str, Any], title: str = "") -> Block:
    """Names and values."""
    return {
        "kind": "facts",
        "title": title,
        "rows": [(name, cell_text(value)) for name, value in rows.items() if value not in (None, "")],
    }


def tiles(rows: Sequence[tuple[str, Any, str]]) -> Block:
    """The main numbers: name, value, a remark."""
    shown = [(name, cell_text(value), note) for name, value, note in rows if value is not None]
    return {"kind": "tiles", "title": "", "rows": shown}


def text(content: str, title: str = "") -> Block | None:
    """A text as a job prints it; None if it is empty."""
    return {"kind": "text", "title": title, "text": content.rstrip()} if content.strip() else None


def notes(rows: Sequence[str], title: str = "", tone: str = "") -> Block | None:
    """Sentences; `tone` is warn for what a reader must not miss."""
    return {"kind": "notes", "title": title, "rows": list(rows), "tone": tone} if rows else None


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Iterable[int] | None = None
) -> Block | None:
    """A short table; None if it has no row."""
    if not rows:
        return None
    shown = [[cell_text(value) for value in row] for row in rows]
    numbers = set(range(1, len(columns))) if numeric is None else set(numeric)
    return {"kind": "table", "title": title, "columns": list(columns), "rows": shown, "numeric": numbers}


def matrix(title: str, corner: str, names: Sequence[str], count_XX: np.ndarray) -> Block:
    """Counts by row and column; the shade of a cell is its share of the row."""
    rows = []
    for name, count_X in zip(names, count_XX.tolist(), strict=True):
        total = sum(count_X)
        cells = []
        for column, count in zip(names, count_X, strict=True):
            share = count / total if total else 0.0
            level = 0 if not count else min(1 + int(share * LEVELS), LEVELS)
            cells.append((f"{count:,}", level, f"{share:.1%} of {total:,} {name} are called {column}"))
        rows.append((name, cells))
    return {"kind": "matrix", "title": title, "corner": corner, "columns": list(names), "rows": rows}


def pictures(folder: str, names: Iterable[str], title: str = "") -> Block | None:
    """The plots of a folder, inside the page."""
    rows = []
    for name in list(names)[:MOST_PICTURES]:
        data = base64.b64encode(files.read(files.join(folder, name))).decode()
        shown = name.rpartition("/")[2].removesuffix(".png").replace("_", " ")
        rows.append((shown, f"data:image/png;base64,{data}"))
    return {"kind": "pictures", "title": title, "rows": rows} if rows else None


def picture_names(folder: str, *inner: str) -> list[str]:
    """The plots in a folder, and in folders inside it."""
    names = sorted(name for name in files.names(folder) if name.endswith(".png"))
    for place in inner:
        path = files.join(folder, place)
        if files.is_folder(path):
            names += [f"{place}/{name}" for name in sorted(files.names(path)) if name.endswith(".png")]
    return names


def as_json(title: str, value: Any) -> Block:
    """Settings and the like, closed at first."""
    return {"kind": "json", "title": title, "text": json.dumps(value, indent=1, ensure_ascii=False)}


def columns_of(found: pa.Table, names: Iterable[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a table as lists, for a long table."""
    wanted = [name for name in (names or found.column_names) if name in found.column_names]
    return {name: found[name].to_pylist() for name in wanted}
