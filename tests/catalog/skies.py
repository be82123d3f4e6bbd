"""Small skies: predictions of stars whose visits, positions and identities are known, as a finished folder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.units import arcsec, deg

from survey import files
from survey.labels import CLASSES
from survey.predict import output
from survey.predict.output import Predictions

LABELS = ("Teff", "FeH", "CFe")


def rows(
    ra: np.ndarray, dec: np.ndarray, star: list[str | None], seed: int = 0, labels: tuple[str, ...] = LABELS
) -> pa.Table:
    """A row of predictions for each position, NaN = none, with random answers."""
    random, count = np.random.default_rng(seed), len(ra)
    schema = output.schema(CLASSES, labels)
    known = {
        "path": [f"plate/spec-{number:06d}.fits.gz" for number in range(count)],
        "row": np.full(count, -1),
        "visit": [f"55859-plan-01-{number:06d}" for number in range(count)],
        "star": star,
        "obsid": np.arange(count) + 10**15,
        "ra": pa.array(np.asarray(ra, float), from_pandas=True),
        "dec": pa.array(np.asarray(dec, float), from_pandas=True),
    }
    columns = []
    for field in schema:
        if field.name in known:
            columns.append(pa.array(known[field.name], field.type))
        elif pa.types.is_floating(field.type):
            columns.append(pa.array(random.uniform(0.1, 1, count), field.type))
        elif pa.types.is_integer(field.type):
            columns.append(pa.array(random.integers(0, 2, count), field.type))
        else:
            columns.append(pa.array([f"{field.name}-{number % 3}" for number in range(count)], field.type))
    return pa.table(columns, schema=schema)


def folder(path: Path, table: pa.Table, shard: int = 100) -> Predictions:
    """Finished predictions of these rows, so many in each shard."""
    shards = max(-(-table.num_rows // shard), 1)
    for number in range(shards):
        part = table.slice(number * shard, shard)
        files.write(str(path / "predictions" / f"part-{number:05d}.parquet"), memoryview(output.packed(part)))
    about = {
        "version": output.VERSION,
        "id": "abc",
        "shards": shards,
        "rows": table.num_rows,
        "labels": list(LABELS),
        "classes": list(CLASSES),
    }
    files.write_json(str(path / output.PREDICTIONS), about)
    return output.open_predictions(str(path))


def cluster(
    ra: float, dec: float, count: int, radius: float, seed: int, apart: float = 3.5
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in degrees within so many arcsec of a point (a pole as well), no two nearer than `apart`."""
    random = np.random.default_rng(seed)
    turn, far = random.uniform(0, 360, count), radius * np.sqrt(random.random(count))
    where = SkyCoord(ra * deg, dec * deg).directional_offset_by(turn * deg, far * arcsec)
    one, other, _, _ = search_around_sky(where, where, apart * arcsec)
    keep = np.ones(count, bool)
    keep[np.maximum(one, other)[one != other]] = False
    return np.asarray(where.ra.deg)[keep], np.asarray(where.dec.deg)[keep]
