"""How long a look at the latent space of a million rows takes, and how much memory; and whether rows outside
the sample may be placed by their neighbours.

    python -m benchmarks.latent [n=100000,1000000] [scratch=FOLDER]

The latents are made up: 40 features, 12 classes that overlap, each a curved sheet of three dimensions. Each
case is a process of its own. The second part compares the two ways to place rows on a map (`place=`). Prints
tables for benchmarks/RESULTS.md; two cores need about half an hour, and 0.5 GB of scratch space per million.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.manifold import trustworthiness

from survey import checked, files
from survey.folder import Folder
from survey.latent.latent import look
from survey.latent.settings import LatentSettings
from survey.predict import output
from survey.store.markers import SHARDS, marker_table, shard_file

WIDTH, CLASSES, SHARD = 40, 12, 1000
CASES = (["pca"], ["pca", "umap", "pacmap"])
PLACED, CHECKED = 40_000, 4_000
"""Rows of the comparison, half of them outside the sample, and rows whose neighbours are checked."""


def latents(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents (N, D) and the class of each row."""
    generator = np.random.default_rng(0)
    centre_CD = generator.normal(size=(CLASSES, WIDTH)) * 1.5
    sheet_C3D = generator.normal(size=(CLASSES, 6, WIDTH)) * 0.6
    class_N = generator.integers(CLASSES, size=rows)
    latent_ND = np.empty((rows, WIDTH), np.float32)
    for start in range(0, rows, 50_000):
        part = class_N[start : start + 50_000]
        place_N3 = generator.normal(size=(len(part), 3))
        bent_N6 = np.concatenate([place_N3, place_N3**2 - 1], 1)
        sheet_ND = np.einsum("nk,nkd->nd", bent_N6, sheet_C3D[part])
        latent_ND[start : start + 50_000] = centre_CD[part] + sheet_ND
    latent_ND += generator.standard_normal(latent_ND.shape, np.float32) * np.float32(0.5)
    return latent_ND, class_N


def write_predictions(folder: Path, latent_ND: np.ndarray) -> None:
    """Finished predictions of these latents, with the identity of LAMOST spectra."""
    schema = output.schema((), (), features=WIDTH)
    markers = []
    for shard, start in enumerate(range(0, len(latent_ND), SHARD)):
        part_ND = latent_ND[start : start + SHARD]
        count = len(part_ND)
        numbers = np.arange(start, start + count)
        known = {
            "path": [f"/survey/2012/plan-{row // 250}/spec-{row:09d}.fits.gz" for row in numbers],
            "row": np.full(count, -1),
            "visit": [f"55859-PLAN{row // 250}-01-{row % 250:03d}" for row in numbers],
            "star": [f"J{row:09d}.00+000000.0" for row in numbers],
            "obsid": numbers + 1,
            "ra": numbers * 1e-3 % 360,
            "dec": numbers * 1e-5 % 90,
            "snr": 5 + numbers % 90,
            "shard": np.full(count, shard),
            "row_in_shard": np.arange(count),
        }
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(part_ND.reshape(-1)), type=field.type)
            if field.name == "latent"
            else pa.array(known[field.name], field.type)
            if field.name in known
            else pa.nulls(count, field.type)
            for field in schema
        ]
        data = output.to_parquet(pa.table(columns, schema=schema))
        markers.append(
            output.PredictionMarker(
                shard=shard,
                rows_in=count,
                rows=count,
                no_answer=0,
                outside_training=0,
                per_class={},
                refused={},
                settings="",
                version=0,
                predictions=checked.write(shard_file(str(folder), "predictions", shard), data),
            )
        )
    files.write_table(str(folder / SHARDS), marker_table(markers))
    document = output.PredictionsDocument.model_validate(
        {
            "version": output.PREDICTIONS.version,
            "id": f"made-up-{len(latent_ND)}",
            "shards": len(markers),
            "rows_in": len(latent_ND),
            "rows": len(latent_ND),
            "no_answer": 0,
            "outside_training": 0,
            "refused": {},
            "per_class": {},
            "labels": (),
            "classes": (),
            "units": {},
            "ensemble": {
                "path": "",
                "id": "",
                "members": (),
                "calibrated": True,
                "domain": False,
                "ranges": {},
            },
            "source": {"kind": "store", "path": "", "id": ""},
            "choice": {"batch": 1, "precision": "float32"},
            "settings": {},
            "fingerprint": "",
        }
    )
    Folder(str(folder), output.PREDICTIONS).finish(document, [SHARDS])


def settings(predictions: Path, result: Path, **changes: object) -> LatentSettings:
    """The settings of a case."""
    values = {"predictions": str(predictions), "latent": str(result)}
    return LatentSettings.from_dict("latent", values | changes)


def measured(
    predictions: Path, result: Path, maps: list[str], place: str = "neighbours"
) -> tuple[float, float, float]:
    """Seconds, seconds of the CPUs and gigabytes of a process that looks at the latent space."""
    arguments = json.dumps([str(predictions), str(result), maps, place])
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, f"case={arguments}"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the case {arguments} failed")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def compare_places(folder: Path) -> None:
    """The two ways to place rows outside the sample: time, and how well neighbours are kept."""
    latent_ND, class_N = latents(PLACED)
    write_predictions(folder / "placed", latent_ND)
    print(f"\n| map of {PLACED:,} rows | place | s | CPU s | trustworthiness | neighbours of own class |")
    print("| --- | --- | --- | --- | --- | --- |")
    generator = np.random.default_rng(0)
    for name in ("umap", "pacmap"):
        for place in ("neighbours", "model"):
            result = folder / f"placed-{name}-{place}"
            seconds, cpu, _ = measured(folder / "placed", result, [name], place)
            table = files.read_table(str(result / "map.parquet"))
            map_N2 = np.stack([table[f"{name}_{axis}"].to_numpy() for axis in (1, 2)], 1)
            chosen = generator.choice(PLACED, CHECKED, replace=False)
            kept = trustworthiness(latent_ND[chosen], map_N2[chosen], n_neighbors=10)
            distance = np.linalg.norm(map_N2[chosen][:, None] - map_N2[chosen][None], axis=2)
            near = np.argsort(distance, axis=1)[:, 1:11]
            same = (class_N[chosen][near] == class_N[chosen][:, None]).mean()
            print(f"| {name} | {place} | {seconds:.0f} | {cpu:.0f} | {kept:.3f} | {same:.3f} |", flush=True)


def main() -> None:
    """Run the cases, or one case."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if "case" in given:
        predictions, result, maps, place = json.loads(given["case"])
        look(settings(Path(predictions), Path(result), maps=maps, place=place))
        return
    counts = [int(count) for count in given.get("n", "100000,1000000").split(",")]
    with tempfile.TemporaryDirectory(dir=given.get("scratch")) as scratch:
        print("| rows | maps | s | CPU s | peak memory (GB) |\n| --- | --- | --- | --- | --- |")
        for count in counts:
            folder = Path(scratch) / str(count)
            write_predictions(folder, latents(count)[0])
            for maps in CASES:
                result = Path(scratch) / f"{count}-{'-'.join(maps)}"
                seconds, cpu, memory = measured(folder, result, maps)
                print(
                    f"| {count:,} | {', '.join(maps)} | {seconds:.0f} | {cpu:.0f} | {memory:.2f} |",
                    flush=True,
                )
        compare_places(Path(scratch))


if __name__ == "__main__":
    main()
