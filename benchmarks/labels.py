"""How long the label table of a large survey takes: a million visits and 200,000 rows of labels.

    python -m benchmarks.labels [visits=1000000] [rows=200000] [scratch=FOLDER]

Two catalogues of half the rows each, one with ids and one with positions only, are matched to a catalogue of
the survey (CSV with |), combined, selected and written, with pictures, by `survey labels`. Beside it stands
what most astronomers write: astropy reads the same CSV files and matches the positions with
match_to_catalog_sky; nothing is combined or written. Each runs in a process of its own. Prints a table for
benchmarks/RESULTS.md.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
ASTROPY = """
import sys
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
survey = Table.read(sys.argv[1], format="ascii.fast_csv", delimiter="|")
stars = SkyCoord(survey["ra"] * u.deg, survey["dec"] * u.deg)
for path in sys.argv[2:]:
    labels = Table.read(path, format="ascii.fast_csv")
    index, apart, _ = SkyCoord(labels["ra"] * u.deg, labels["dec"] * u.deg).match_to_catalog_sky(stars)
    print(int((apart < 3 * u.arcsec).sum()))
"""


def write_catalogues(folder: Path, visits: int, rows: int) -> list[Path]:
    """A survey of which a fifth are repeats, and two catalogues: 80 % of their stars are in the survey."""
    draw = np.random.default_rng(0)
    stars = visits * 4 // 5
    ra, dec = draw.uniform(0, 360, stars), np.degrees(np.arcsin(draw.uniform(-0.2, 1, stars)))
    star = np.append(np.arange(stars), draw.integers(0, stars, visits - stars))
    survey = pd.DataFrame(
        {
            "obsid": np.arange(visits) + 1,
            "gaia_source_id": 10**18 + star,
            "ra": ra[star].round(7),
            "dec": dec[star].round(7),
            "snrg": draw.lognormal(3.3, 0.7, visits).round(2),
            "class": "STAR",
            "subclass": draw.choice(["F5", "G2", "G5", "K1", "K7", "M2", "A3"], visits),
        }
    )
    paths = [folder / name for name in ("survey.csv", "ids.csv", "positions.csv")]
    survey.to_csv(paths[0], sep="|", index=False)
    for path in paths[1:]:
        count = rows // 2
        chosen = draw.permutation(stars)[:count]
        feh = -2 * ((chosen * 0.6180339887) % 1) - 0.3 + draw.normal(0, 0.1, count)
        outside = draw.random(count) < 0.2
        table = pd.DataFrame(
            {
                "gaia": 10**18 + chosen + np.where(outside, 10**9, 0),
                "ra": np.where(
                    outside, draw.uniform(0, 360, count), ra[chosen] + draw.normal(0, 1e-4, count)
                ),
                "dec": np.where(
                    outside, draw.uniform(-80, -20, count), dec[chosen] + draw.normal(0, 1e-4, count)
                ),
                "teff": draw.uniform(4000, 6500, count).round(1),
                "feh": feh.round(4),
                "e_feh": 0.1,
                "cfe": draw.normal(0, 0.4, count).round(4),
                "snr": draw.lognormal(4, 0.5, count).round(1),
            }
        )
        table.to_csv(path, index=False)
    return paths


RECIPE = """
labels:
  sources:
    ids: {{file: {0}, ids: {{gaia_dr3: gaia}}, priority: 1, snr: snr, {1}}}
    positions: {{file: {2}, priority: 2, snr: snr, {1}}}
  weak: {{kinds: [M, late_K, A]}}
  repeats: true
"""
COLUMNS = (
    "position: {ra: ra, dec: dec, epoch: 2016.0}, labels: {Teff: {column: teff}, "
    "FeH: {column: feh, error: e_feh}, CFe: {column: cfe}}"
)


def measure(command: list[str]) -> tuple[float, float, float, str]:
    """Clock and CPU seconds, the largest memory in GB, and the output of a command."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    timed = ["/usr/bin/env", "time", "-f", "%M", *command] if shutil.which("time") else command
    done = subprocess.run(timed, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    largest = float(done.stderr.split()[-1]) if timed is not command else float(after.ru_maxrss)
    return time.monotonic() - started, cpu, largest / 1e6, done.stdout


def main() -> None:
    """Measure both, and print the table."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    visits, rows = int(given.get("visits", 1_000_000)), int(given.get("rows", 200_000))
    scratch = Path(given.get("scratch") or tempfile.mkdtemp())
    scratch.mkdir(parents=True, exist_ok=True)
    survey, *labels = write_catalogues(scratch, visits, rows)
    recipe = scratch / "recipe.yaml"
    recipe.write_text(RECIPE.format(labels[0], COLUMNS, labels[1]))
    ours = ["jobs/labels.py", str(recipe), f"to={survey}", f"labels={scratch / 'out'}"]
    # the reference runs first, so that both find the files in the memory of the system
    theirs = measure([sys.executable, "-c", ASTROPY, str(survey), *map(str, labels)])
    result = measure([sys.executable, *ours])
    print(f"| {visits:,} visits, {rows:,} rows of labels | clock | CPU | memory | ratio of clocks |")
    print("| --- | --- | --- | --- | --- |")
    for name, figures in (
        ("astropy reads and matches positions", theirs),
        ("survey labels, all of it", result),
    ):
        clock, cpu, memory, _ = figures
        print(f"| {name} | {clock:.1f} s | {cpu:.1f} s | {memory:.2f} GB | {clock / theirs[0]:.2f} |")
    print()
    print(result[3])
    if "scratch" not in given:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
