"""Every file of a store, of predictions and of an ensemble is damaged: a bit is flipped, half of it is cut
off, another file is copied over it, it is removed. A reader names the file or is not touched by it; the job,
run again, makes the same bytes anew.
"""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from survey.ensemble.ensemble import open_ensemble
from survey.predict.output import open_predictions
from survey.store.store import open_store
from tests.ensemble import untrained
from tests.predict.small_predictions import predicted

CASES = int(os.environ.get("SURVEY_ATTACKS", "1"))
"""How many flipped bits for each file. With one, a file of each kind stands for all of its kind."""

INPUT_LIST = ("manifest.json", "manifest/")
"""Which file belongs to which shard: it cannot be made anew, because the input may have changed."""


@dataclass(frozen=True)
class Harm:
    """What is done to a file of a folder, and where."""

    kind: str
    seed: int = 0

    def do(self, path: Path) -> None:
        data, siblings = path.read_bytes(), sorted(path.parent.glob(f"*{path.suffix}"))
        if self.kind == "flip":
            place = random.Random(self.seed).randrange(8 * len(data))
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
        elif self.kind == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif self.kind == "copy" and len(siblings) > 1:
            path.write_bytes(siblings[siblings.index(path) - 1].read_bytes())
        else:
            path.unlink()


HARMS = [*(Harm("flip", seed) for seed in range(CASES)), Harm("cut"), Harm("copy"), Harm("remove")]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound store, an ensemble and its predictions."""
    folder = tmp_path_factory.mktemp("origin")
    untrained.three(folder / "ensemble", untrained.store(folder))
    make_predictions(folder)
    return folder


def read_store(place: Path) -> list[pa.Table]:
    store = open_store(str(place / "store"))
    return [*store.tables(), *(store.refused(shard) for shard in range(store.shards))]


def read_predictions(place: Path) -> list[pa.Table]:
    return list(open_predictions(str(place / "predictions")).tables())


def make_store(place: Path) -> None:
    untrained.store(place)


def make_predictions(place: Path) -> None:
    predicted(place)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "read", "make"),
    [("store", read_store, make_store), ("predictions", read_predictions, make_predictions)],
)
@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_a_damaged_file_is_named_by_readers_and_made_anew_by_its_job(
    origin: Path,
    harm: Harm,
    name: str,
    read: Callable[[Path], list[pa.Table]],
    make: Callable[[Path], None],
) -> None:
    sound, tables = contents(origin / name), read(origin)
    kinds = {(Path(file).parent, Path(file).suffix): file for file in sorted(sound) if "/" in file}
    for file in sorted(sound):
        if file == "settings.json" or (CASES == 1 and "/" in file and file not in kinds.values()):
            continue
        harm.do(origin / name / file)
        if (origin / name / file).exists() and (origin / name / file).read_bytes() == sound[file]:
            continue  # a copy of an equal file
        message = ""
        try:
            assert read(origin) == tables, f"{file}: other content is read without an error"
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
        assert not message or Path(file).name in message, f"{file}: the error does not name it: {message}"
        if file.startswith(INPUT_LIST):
            with suppress(ValueError, FileNotFoundError):
                make(origin)
            (origin / name / file).write_bytes(sound[file])
        make(origin)
        assert contents(origin / name) == sound, f"{file}: is not made anew"


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_a_damaged_ensemble_does_not_predict(origin: Path, tmp_path: Path, harm: Harm) -> None:
    place = tmp_path / "ensemble"
    shutil.copytree(origin / "ensemble", place)
    sound = contents(place)
    for file in sorted(sound):
        if Path(file).name not in ("ensemble.json", "run.json", "domain.safetensors", "model.safetensors"):
            continue
        harm.do(place / file)
        with pytest.raises((ValueError, FileNotFoundError), match=Path(file).name.split(".")[0]):
            open_ensemble(str(place))
        (place / file).write_bytes(sound[file])
