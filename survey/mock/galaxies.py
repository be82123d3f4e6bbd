"""Mock galaxies: what they are, their files as two imaging surveys deliver them, and the tables beside them.

A galaxy depends on the seed and its number alone. Both surveys see the same galaxy and the same neighbours;
`overlap` is the share that the second survey has. Radii are limited to a fifth of the image, so that small
images show whole galaxies.
"""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.mock import image_damage, telescopes, truth_table, volunteers
from survey.mock.chunks import Done, batches, chunk_size, part_path, write_all
from survey.mock.galaxy_light import CLASSES, PIXEL, scene
from survey.mock.population import designation, even_spread_of, kinds
from survey.mock.settings import BATCH, Mock

Galaxy = dict[str, Any]

SHARES = {"reference": (2645, 2027, 334, 3296, 2043, 4457, 1853), "balanced": (1, 1, 1, 1, 1, 1, 1)}
"""Relative numbers of the classes: as in Galaxy10 DECaLS, with its ten classes joined to these seven."""
AXIS_RATIOS = {
    "smooth_round": (0.86, 1.0),
    "smooth_in_between": (0.5, 0.78),
    "cigar": (0.2, 0.36),
    "edge_on": (0.10, 0.20),
    "barred": (0.6, 1.0),
    "spiral": (0.45, 1.0),
    "merger": (0.5, 1.0),
}
NUMBERS = (
    *("mag_r", "radius", "sersic", "axis_ratio", "angle", "young", "bulge", "bar", "bar_length", "bar_angle"),
    *("arms", "arm_count", "pitch", "turn", "companion", "apart_x", "apart_y", "dust", "lane"),
)
SCHEMA = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("name", "class", "image", "image_bass", "image_defect", "bass_defect")
        ),
        *((name, pa.float64()) for name in ("ra", "dec", *NUMBERS, *volunteers.columns())),
    ]
)
"""The table of true properties and votes. Angles are in degrees, lengths in arcsec."""


def describe(settings: Mock, batch: int) -> list[Galaxy]:
    """All properties of a batch of galaxies, before any image is computed."""
    first = batch * BATCH
    kind = kinds(SHARES[settings.balance], settings.seed, first, BATCH)
    items = first + np.arange(BATCH)
    seen, *spread = (even_spread_of(settings.seed, purpose, items) for purpose in (3, 4, 5, 1, 2))
    names = np.array(list(image_damage.FITS_DEFECTS))
    defects = [
        np.where(share < settings.broken, names[(which * len(names)).astype(int)], "")
        for share, which in (spread[:2], spread[2:])
    ]
    galaxies = []
    for row, number in enumerate(items.tolist()):
        draw = np.random.default_rng([settings.seed, 20, number])
        galaxy = draw_galaxy(CLASSES[kind[row]], settings.pixels * PIXEL, draw)
        name = designation(galaxy["ra"], galaxy["dec"]).removeprefix("LAMOST ")
        has_bass = seen[row] < settings.overlap
        galaxy |= volunteers.votes(galaxy, draw)
        galaxy |= {
            "number": number,
            "name": name,
            "image": f"decals/{name}.fits",
            "image_bass": f"bass/{name}.fits" if has_bass else "",
            "image_defect": str(defects[0][row]),
            "bass_defect": str(defects[1][row]) if has_bass else "",
        }
        galaxies.append(galaxy)
    return galaxies


def draw_galaxy(kind: str, width: float, draw: np.random.Generator) -> Galaxy:
    """A galaxy of a class, for an image of this width in arcsec."""
    is_disc = kind in ("barred", "spiral") or (kind == "merger" and draw.random() < 0.6)
    magnitude = 17.5 - 2.6 * draw.beta(1.0, 2.2)
    radius = 3.0 * 10 ** (-0.14 * (magnitude - 16.8)) * np.exp(draw.normal(0.0, 0.28))
    radius *= {"edge_on": 1.7, "barred": 1.5, "spiral": 1.5, "cigar": 1.2, "merger": 0.9}.get(kind, 0.85)
    radius = float(np.clip(radius, 1.0, 0.2 * width))
    old = kind.startswith("smooth") or kind == "cigar"
    apart, away = radius * draw.uniform(1.2, 2.4), draw.uniform(0, 2 * np.pi)
    bar = draw.uniform(0.16, 0.36) if kind == "barred" else 0.0
    bulge = draw.beta(1.6, 4.5) * (0.35 if kind == "barred" else 0.7) if is_disc or kind == "edge_on" else 0.0
    return {
        "class": kind,
        "ra": round(draw.uniform(110.0, 260.0), 6),
        "dec": round(draw.uniform(30.0, 34.0), 6),
        "x": draw.normal(0.0, 0.1),
        "y": draw.normal(0.0, 0.1),
        "mag_r": magnitude,
        "radius": radius,
        "sersic": draw.choice([1.0, 1.5, 2.0, 3.0, 4.0, 4.0])
        if kind != "cigar"
        else draw.choice([1.0, 1.5, 2.5]),
        "axis_ratio": draw.uniform(*AXIS_RATIOS[kind]),
        "angle": draw.uniform(0.0, 180.0),
        "young": draw.beta(0.8, 2.0) if old else draw.beta(2.5, 1.5),
        "bulge": bulge,
        "bar": bar,
        "bar_length": radius * draw.uniform(0.45, 0.85),
        "bar_angle": draw.uniform(0.0, 180.0),
        "arms": (draw.uniform(0.35, 0.8) if kind != "barred" or draw.random() < 0.75 else 0.0)
        if is_disc
        else 0.0,
        "arm_count": float(draw.choice([2, 2, 2, 2, 3, 4])),
        "pitch": draw.uniform(10.0, 34.0),
        "turn": float(draw.choice([-1, 1])),
        "companion": draw.uniform(0.3, 1.0) if kind == "merger" else 0.0,
        "apart_x": apart * np.cos(away),
        "apart_y": apart * np.sin(away),
        "dust": draw.uniform(0.8, 3.5) if kind == "edge_on" and draw.random() < 0.6 else 0.0,
        "lane": draw.normal(0.0, 0.5),
    }


def images(settings: Mock, galaxy: Galaxy) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of the image that each survey has of a galaxy."""
    draw = np.random.default_rng([settings.seed, 21, galaxy["number"]])
    light = scene(galaxy, settings.pixels + 2 * telescopes.MARGIN, draw)
    telescopes.add_neighbours(light, draw)
    for code, (survey, column, defect) in enumerate(
        (("decals", "image", "image_defect"), ("bass", "image_bass", "bass_defect"))
    ):
        if galaxy[column]:
            draw = np.random.default_rng([settings.seed, 22 + code, galaxy["number"]])
            image = telescopes.expose(survey, light, settings.pixels, draw, settings.snr)
            data = telescopes.fits_image(image, galaxy | {"survey": survey})
            if galaxy[defect]:
                data = image_damage.FITS_DEFECTS[galaxy[defect]](data, draw)
            yield galaxy[column], data


def write_chunk(settings: Mock, chunk: int) -> Done:
    """Write the images of a chunk of galaxies, then its part of the table. Returns the number of galaxies."""
    rows = []
    for batch, count in batches(settings, chunk):
        galaxies = describe(settings, batch)[:count]
        for galaxy in galaxies:
            write_all(settings.out, images(settings, galaxy))
        rows += galaxies
    table = pa.Table.from_pylist([{name: row[name] for name in SCHEMA.names} for row in rows], schema=SCHEMA)
    files.write(part_path(settings, chunk), truth_table.parquet(table))
    return {"files": chunk_size(settings, chunk)}


def join_parts(settings: Mock, chunks: range) -> dict[str, Any]:
    """Join the parts to the tables of objects, of each survey, and of votes. Returns the counts."""
    data = (files.read(part_path(settings, number)) for number in chunks)
    parts = (pq.ParquetFile(io.BytesIO(part)).read(use_threads=False) for part in data)
    table = pa.concat_tables([part.cast(SCHEMA) for part in parts])
    second = table.filter(pa.compute.not_equal(table["image_bass"], ""))
    place = ["name", "ra", "dec", "class"]
    tables = {
        "objects.csv": table.select([*place, "image", "image_bass"]),
        "decals.csv": table.select([*place, "image"]),
        "bass.csv": second.select([*place, "image_bass"]).rename_columns([*place, "image"]),
    }
    for name, part in tables.items():
        files.write(files.join(settings.out, name), truth_table.csv(part, ",", head=True))
    votes = ["name", "ra", "dec", *volunteers.columns()]
    files.write(files.join(settings.out, "votes.parquet"), truth_table.parquet(table.select(votes)))
    truth = table.select([name for name in SCHEMA.names if name not in votes[3:]])
    files.write(files.join(settings.out, "labels.parquet"), truth_table.parquet(truth))
    counts = {
        name: dict(sorted(Counter(filter(None, table[column].to_pylist())).items()))
        for name, column in (
            ("classes", "class"),
            ("defects", "image_defect"),
            ("bass_defects", "bass_defect"),
        )
    }
    return {"files": settings.n, "images": {"decals": settings.n, "bass": second.num_rows}} | counts
