"""The spectra of a vetting page: of each candidate, of the nearest normal star, and of all visits.

They are read once, in the order of the shards, and packed in the order of the list. Shapes: K candidates,
N stars, Q pixels of the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.provenance import predictions_path
from survey.catalog.stars import find_stars
from survey.catalog.visits import repeated_visits
from survey.pages.html import Attachments
from survey.pages.page_text import cell_text, digits_of, plain_symbol
from survey.pages.spectra_code import (
    BLOCK,
    EXACT,
    PER_CHUNK,
    SKETCH,
    PagePixels,
    Precision,
    chunk_starts,
    pack,
    squeeze,
)
from survey.pages.vetted_list import SEARCHES, VettedStars
from survey.predict.output import open_predictions
from survey.progress import Progress
from survey.reports.candidate_spectra import LIKE, NormalStars
from survey.reports.spectra_of_stars import Place, open_spectra_of
from survey.reports.star_planes import read_stars

Floats = NDArray[np.float64]
Row = dict[str, Any]

FULL_RESOLUTION = ((3850.0, 4400.0), (4620.0, 4760.0), (5040.0, 5290.0), (8480.0, 8690.0))
"""Wavelengths (angstrom) that a page shows pixel by pixel: Ca, CN, the G band, C2, Mg b, Ca triplet."""
STARS_AT_ONCE = 2000
"""Stars that are compared with all candidates at the same time."""
VISIT_COLUMNS = ("path", "visit", "row", "lmjd", "snr")
"""What tells the visits of a star apart, and what is said of each."""
CONTINUUM_RATIO = 1.015
"""The ratio of two steps of the continuum."""


@dataclass
class PageSpectra:
    """The packed spectra of a page, and where those of each candidate are; `why` says why there is none."""

    why: str = ""
    best: list[int] = field(default_factory=list)
    comparison: list[int] = field(default_factory=list)
    visits: list[list[dict[str, Any]]] = field(default_factory=list)
    continuum: list[list[int] | None] = field(default_factory=list)
    comparison_texts: list[str] = field(default_factory=list)
    wave: Floats = field(default_factory=lambda: np.zeros(0))

    def to_dict(self) -> dict[str, Any]:
        """Where the spectra of each candidate are."""
        has_continuum = any(codes is not None for codes in self.continuum)
        return {
            "best": self.best,
            "comparison": self.comparison,
            "visits": self.visits,
            "continuum": self.continuum if has_continuum else None,
        }


def place_of(row: Mapping[str, Any]) -> Place:
    """Where the spectrum of a star is in the predictions."""
    return row["shard"], row["row_in_shard"]


def attach_spectra(
    attachments: Attachments, stars: VettedStars, *, comparison: bool, visits: bool
) -> PageSpectra:
    """Put the spectra of a list into a page."""
    path = predictions_path(stars.folder, stars.document.predictions)
    if not {"shard", "row_in_shard", "visit", "row"} <= set(stars.table.column_names):
        return PageSpectra(why="the list does not say where its spectra are")
    if isinstance(missing := open_spectra_of(path, ()), str):
        return PageSpectra(why=missing)
    places = [place_of(row) for row in stars.table.select(["shard", "row_in_shard"]).to_pylist()]
    normal = _normal_stars(stars) if comparison else [None] * len(places)
    normal_places = [place_of(row) if row else None for row in normal]
    visits_of = _visits(stars, places) if visits else [[] for _ in places]
    wanted = [*places, *(place for place in normal_places if place)]
    wanted += [place for found in visits_of for place, _ in found]
    reader = _Reader(path, wanted, set(places))
    if reader.why:
        return PageSpectra(why=reader.why)
    found = PageSpectra(continuum=[reader.continuum.get(place) for place in places])
    found.best = reader.attach(attachments, "best", places, EXACT)
    if any(normal_places):
        unique = list(dict.fromkeys(place for place in normal_places if place in reader.pixels))
        numbers = dict(zip(unique, reader.attach(attachments, "comparison", unique, SKETCH), strict=True))
        found.comparison = [numbers.get(place, -1) if place else -1 for place in normal_places]
        texts = {place_of(row): _star_text(row) for row in normal if row}
        found.comparison_texts = [texts[place] for place in unique]
    else:
        found.comparison = [-1] * len(places)
    _attach_visits(attachments, reader, visits_of, found)
    found.wave = reader.grid.wave_Q
    attachments.add_packed("wave", squeeze(found.wave.astype("<f4").tobytes()))
    return found


def _attach_visits(
    attachments: Attachments,
    reader: "_Reader",
    visits_of: Sequence[list[tuple[Place, str]]],
    found: PageSpectra,
) -> None:
    readable = [[(place, text) for place, text in visits if place in reader.pixels] for visits in visits_of]
    places = [place for visits in readable for place, _ in visits]
    numbers = iter(reader.attach(attachments, "visits", places, SKETCH) if places else [])
    found.visits = [[{"at": next(numbers), "text": text} for _, text in visits] for visits in readable]


class _Reader:
    """The wanted spectra on the pixels of a page, by their place."""

    def __init__(self, predictions_path: str, places: Sequence[Place], with_continuum: set[Place]) -> None:
        self.pixels: dict[Place, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self.continuum: dict[Place, list[int]] = {}
        opened = open_spectra_of(predictions_path, places, curves=True)
        self.why = opened if isinstance(opened, str) else ""
        if isinstance(opened, str):
            return
        if not len(opened.wave):
            self.why = "the predictions are of images"
            return
        self.grid = PagePixels(opened.wave, FULL_RESOLUTION)
        with Progress("report: reading spectra", len(set(places)), "spectra") as progress:
            for spectrum in opened.spectra:
                flux, sigma = self.grid.reduce(spectrum.flux_P[None], spectrum.ivar_P[None])
                self.pixels[spectrum.place] = flux[0].astype(np.float32), sigma[0].astype(np.float32)
                if spectrum.continuum_P is not None and spectrum.place in with_continuum:
                    self.continuum[spectrum.place] = _continuum_codes(spectrum.continuum_P)
                progress.add(1)
        self.why = "" if self.pixels else opened.missing

    def attach(
        self, attachments: Attachments, kind: str, places: Sequence[Place], precision: Precision
    ) -> list[int]:
        """Pack the spectra at these places, as far as they were read; the number of each, or -1."""
        readable = [place for place in places if place in self.pixels]
        about = []
        for start in chunk_starts(len(readable)):
            part = [self.pixels[place] for place in readable[start : start + PER_CHUNK]]
            flux_NQ, sigma_NQ = (np.stack([pixels[side] for pixels in part]).astype(float) for side in (0, 1))
            chunk = pack(flux_NQ, sigma_NQ, precision)
            attachments.add_packed(f"{kind}-{start // PER_CHUNK}", chunk.data)
            about.append(chunk.about)
        attachments.add_json(f"{kind}-about", {"perChunk": PER_CHUNK, "chunks": about})
        numbers = iter(range(len(readable)))
        return [next(numbers) if place in self.pixels else -1 for place in places]


def _continuum_codes(continuum_P: Floats) -> list[int]:
    """The continuum at some nodes, in steps of 1.5 % below its maximum."""
    nodes = np.linspace(0, len(continuum_P) - 1, max(len(continuum_P) // (2 * BLOCK), 2)).round().astype(int)
    value = np.maximum(np.nan_to_num(continuum_P[nodes]), 0)
    highest = value.max(initial=0)
    if highest <= 0:
        return [255] * len(nodes)
    steps = np.log(np.maximum(value / highest, 1e-9)) / np.log(CONTINUUM_RATIO)
    codes: list[int] = np.clip(255 + np.round(steps), 0, 255).astype(int).tolist()
    return codes


def _normal_stars(stars: VettedStars) -> list[Row | None]:
    """The normal star nearest to each candidate, looked for among all stars of the catalog."""
    normal = NormalStars(SEARCHES[stars.name], stars.table)
    for tile in read_stars(stars.folder, normal.columns()):
        for start in range(0, tile.num_rows, STARS_AT_ONCE):
            normal.add(tile.slice(start, STARS_AT_ONCE))
    return normal.rows


def _visits(stars: VettedStars, places: Sequence[Place]) -> list[list[tuple[Place, str]]]:
    """The visits of each candidate besides its best one, with a text for each. Repeated visits count once."""
    several = [number for number, count in enumerate(stars.table["n_visits"].to_pylist()) if (count or 0) > 1]
    visits: list[list[tuple[Place, str]]] = [[] for _ in places]
    if not several:
        return visits
    predictions = open_predictions(predictions_path(stars.folder, stars.document.predictions))
    found = find_stars(predictions)
    star_K = np.array([found.star_N[found.start_K[places[n][0]] + places[n][1]] for n in several])
    rows_N = np.flatnonzero(np.isin(found.star_N, star_K))
    shard_N = np.searchsorted(found.start_K, rows_N, "right") - 1
    number_of = {int(star): number for star, number in zip(star_K, several, strict=True)}
    row_N = rows_N - found.start_K[shard_N]
    tables = [
        predictions.table(shard, list(VISIT_COLUMNS)).take(pa.array(row_N[shard_N == shard]))
        for shard in np.unique(shard_N).tolist()
    ]
    table = pa.concat_tables(tables).combine_chunks()
    number_N = np.array([number_of[int(star)] for star in found.star_N[rows_N]])
    repeated_N = repeated_visits(table, number_N)
    for n, row in enumerate(table.to_pylist()):
        place, number = (int(shard_N[n]), int(row_N[n])), int(number_N[n])
        if not repeated_N[n] and place != places[number]:
            visits[number].append((place, f"LMJD {row['lmjd']}, S/N {cell_text(row['snr'])}"))
    return visits


def _star_text(row: Row) -> str:
    """A normal star in words: its name, its signal to noise, its labels."""
    labels = [
        f"{plain_symbol(name)} {row[name]:.{digits_of(name)}f}"
        for name in (*LIKE, "CFe")
        if row.get(name) is not None
    ]
    numbers = ", ".join([f"S/N {row['snr_best']:.0f}", *labels])
    return f"{row['star']}, {numbers.replace('-', '−')}"
