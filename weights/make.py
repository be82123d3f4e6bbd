"""Make the ensemble that comes with the program: networks trained on computed and on real stars.

    make weights
    python weights/make.py [data=../shared/data] [work=benchmarks/work/weights] [spectra=250000]

`data` holds the public sets: physics/reference.parquet, physics/wide.parquet (more carbon-rich stars, more
dwarfs) and realstars/realstars.parquet. The stores and the whole ensemble stay in `work`; what a prediction
needs is copied to weights/cemp, with its cascade and a part of the test population. A step that is finished
is not done again. It takes about half an hour on two cores.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from survey import checked, files
from survey.ensemble.build import build
from survey.ensemble.cascade import CASCADE
from survey.ensemble.draws import INJECTED
from survey.ensemble.ensemble import ENSEMBLE, POPULATION, open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.ensemble.member_names import INSIDE
from survey.ensemble.settings import Build
from survey.folder import SETTINGS, Folder
from survey.labelling.visit_names import FOLDER
from survey.recipes import merge, read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "weights" / "cemp"
COMPUTED = ("physics/reference.parquet", "physics/wide.parquet")
"""Computed stars; both tables have the same columns, and other stars."""
REAL = "realstars/realstars.parquet"
SPLIT = {"parts": [0.8, 0.15, 0.05], "stratify": True}
"""More validation stars than the recipe has: lists and errors are tested on them."""
DRAWS = 75_000
"""Draws of the test population that are shipped, twice: with the answers of the ensemble, and of its cascade.
All would take 8 MB more."""
OF_A_RUN = (SETTINGS, "run.json", "model.safetensors", "samples.parquet")
ADVICE = "make it again"


def main(data: str = "", work: str = "", spectra: str = "250000") -> None:
    """Make what is missing, and copy it."""
    sets, place = (
        Path(data or ROOT.parent / "shared" / "data"),
        Path(work or ROOT / "benchmarks/work/weights"),
    )
    computed = one_table([sets / name for name in COMPUTED], place / "computed.parquet")
    make_store("computed", computed, place)
    make_store("real", sets / REAL, place)
    folder = place / "ensemble"
    section = read_section(ROOT / "recipes" / "cemp.yaml", "ensemble")
    train = read_section(ROOT / "recipes" / "cemp.yaml", "train")
    real = {"store": str(place / "real"), "labels": str(sets / REAL)}
    train = merge(train, {"split": SPLIT, "sources": {"real": real}, "tracking": {"use": "never"}})
    own = {
        "ensemble": str(folder),
        "store": str(place / "computed"),
        "labels": str(computed),
        "members": [member for member in section["members"] if member["model"] in ("echelle", "prism")],
        "population": {"spectra": int(spectra)},
        "train": train,
    }
    build(Build.from_dict("weights", section | own))
    fitted_cascade(open_ensemble(str(folder)))
    pack(folder, TARGET)
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {size / 1e6:.1f} MB")


def one_table(tables: list[Path], together: Path) -> Path:
    """The rows of several tables as one Parquet file."""
    if not together.exists():
        together.parent.mkdir(parents=True, exist_ok=True)
        parts = [pq.ParquetFile(path).read() for path in tables]
        files.write_table(str(together), pa.concat_tables(parts, promote_options="default"))
    return together


def make_store(name: str, table: Path, place: Path) -> None:
    """The store of a set. MILES ends at 7402 angstrom, so the gate of coverage is open for real stars."""
    values = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    values |= {"input": str(table), "store": str(place / name), "refuse_above": 1.0}
    if name == "real":
        values = merge(values, {"prepare": {"gates": {"coverage": {"limit": 0.6, "then": "flag"}}}})
    ingest(Ingest.from_dict("weights", values))


def pack(source: Path, target: Path) -> None:
    """Copy the parts of an ensemble that a prediction needs; no path of this machine stays in them."""
    shutil.rmtree(target, ignore_errors=True)
    document = Folder(str(source), ENSEMBLE).document()
    copy_folder(source, target, (SETTINGS, ENSEMBLE.file, *document.content), source.parent)
    if (cascade := Folder(str(source / CASCADE.name), CASCADE)).is_finished():
        names = (SETTINGS, CASCADE.file, *cascade.document().content)
        copy_folder(source / CASCADE.name, target / CASCADE.name, names, source.parent)
    for path in document.paths(str(source)):
        run = Path(path)
        copy_folder(run, target / "runs" / run.name, OF_A_RUN, source.parent)


def copy_folder(source: Path, target: Path, names: tuple[str, ...], base: Path) -> None:
    """Copy files; a document lists what is there."""
    target.mkdir(parents=True)
    copied = {}
    for name in (name for name in names if not name.endswith(".json")):
        if name == POPULATION:
            write_small(target / name, some_rows(files.read_table(str(source / name))))
        elif name.endswith(".parquet"):
            files.write_table(str(target / name), without_folders(files.read_table(str(source / name))))
        else:
            shutil.copyfile(source / name, target / name)
        copied[name] = checked.WrittenFile.at(str(target / name)).model_dump()
    for name in (name for name in names if name.endswith(".json")):
        if name == SETTINGS:
            values = without_paths(json.loads((source / name).read_text()), base)
            for key in ("command", "command_folder"):
                values.pop(key, None)
            files.write_json(str(target / name), values)
            continue
        values = without_paths(checked.read_json(str(source / name), ADVICE), base)
        for member in values.get("members", ()):
            member["path"] = f"{INSIDE}runs/{Path(member['path']).name}"
        checked.write_json(str(target / name), values | {"content": copied})


def write_small(path: Path, table: pa.Table) -> None:
    """A table as Parquet that takes a fifth less room than usual, and longer to write."""
    numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
        write_page_checksum=True,
    )


def some_rows(population: pa.Table) -> pa.Table:
    """`DRAWS` rows of the test population, chosen at random, and all with injected carbon."""
    has_carbon_N = pc.is_valid(population[INJECTED]).to_numpy()
    usual = np.flatnonzero(~has_carbon_N)
    chosen = np.random.default_rng(0).choice(usual, min(len(usual), DRAWS), replace=False)
    return population.take(pa.array(np.union1d(chosen, np.flatnonzero(has_carbon_N))))


def without_folders(table: pa.Table) -> pa.Table:
    """A table of spectra in which the folders of their files have their own name only."""
    for name in {FOLDER, f"extra_{FOLDER}"}.intersection(table.column_names):
        place = table.schema.get_field_index(name)
        names = pc.replace_substring_regex(table[name], r"^.*/", "")
        table = table.set_column(place, table.schema.field(name), names)
    return table


def without_paths(value: Any, base: Path) -> Any:
    """A value of JSON in which paths begin with the name of their set, not with folders of this machine."""
    if isinstance(value, dict):
        return {key: without_paths(one, base) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one, base) for one in value]
    if isinstance(value, str) and value.startswith("/"):
        below = Path(value).is_relative_to(base)
        return str(Path(value).relative_to(base)) if below else Path(value).name
    return value


if __name__ == "__main__":
    main(**dict(item.split("=", 1) for item in sys.argv[1:]))
