"""Small skies: finished predictions of stars whose visits, positions and names are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.units import arcsec, deg

from survey.answers import LINE_COLUMNS
from survey.folder import Folder
from survey.labels import CLASSES
from survey.predict import output
from survey.predict.output import Predictions
from survey.store.indices import INDICES
from tests.finished import finish_predictions

LABELS = ("Teff", "FeH", "CFe")


def rows(
    ra: np.ndarray, dec: np.ndarray, star: list[str | None], seed: int = 0, labels: tuple[str, ...] = LABELS
) -> pa.Table:
    """A row of predictions with random answers for each position; NaN = no position."""
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
        "other_kind": np.zeros(count),
    }
    columns = []
    for field in schema:
        if field.name in known:
            columns.append(pa.array(known[field.name], field.type))
        elif field.name in LINE_COLUMNS:
            columns.append(pa.nulls(count, field.type))
        elif pa.types.is_floating(field.type):
            values = random.uniform(0.1, 1, count)
            columns.append(pa.array(np.ones(count) if field.name in INDICES else values, field.type))
        elif pa.types.is_integer(field.type):
            columns.append(pa.array(random.integers(0, 2, count), field.type))
        else:
            columns.append(pa.array([f"{field.name}-{number % 3}" for number in range(count)], field.type))
    return pa.table(columns, schema=schema)


def write(path: Path, table: pa.Table, shard: int = 100, **changes: Any) -> Predictions:
    """Finished predictions with these rows, so many in each shard; changes replace fields of the document.

    The one member of the ensemble is not at its path any more.
    """
    shards = max(-(-table.num_rows // shard), 1)
    tables = [output.to_parquet(table.slice(number * shard, shard)) for number in range(shards)]
    member = output.MemberReference(name="one", path="nowhere", id="m1", model="prism")
    ensemble = output.EnsembleReference(
        path="ensemble", id="e1", members=(member,), calibrated=True, domain=True, ranges={}
    )
    document = output.PredictionsDocument(
        version=output.PREDICTIONS.version,
        id="abc",
        shards=shards,
        rows_in=table.num_rows,
        rows=table.num_rows,
        no_answer=0,
        outside_training=0,
        refused={},
        per_class={},
        labels=LABELS,
        classes=CLASSES,
        units={},
        ensemble=ensemble,
        source=output.InputReference(kind="store", path="store", id="s1"),
        choice=output.Choice(batch=1, precision="float32"),
        settings={},
        fingerprint="",
    )
    Folder(str(path), output.PREDICTIONS).begin({})
    finish_predictions(path, document.model_copy(update=changes), tables)
    return output.open_predictions(str(path))


def cluster(
    ra: float, dec: float, count: int, radius: float, seed: int, apart: float = 3.5
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in degrees within so many arcsec of a point (or a pole), no two nearer than `apart`."""
    random = np.random.default_rng(seed)
    angle, distance = random.uniform(0, 360, count), radius * np.sqrt(random.random(count))
    sky = SkyCoord(ra * deg, dec * deg).directional_offset_by(angle * deg, distance * arcsec)
    first, second, _, _ = search_around_sky(sky, sky, apart * arcsec)
    keep = np.ones(count, bool)
    keep[np.maximum(first, second)[first != second]] = False
    return np.asarray(sky.ra.deg)[keep], np.asarray(sky.dec.deg)[keep]
