"""A bucket that does not answer, or credentials that ran out, stop the job: no row of a table is refused."""

import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import files
from survey.buckets import DeniedError
from survey.sources.reading import with_options
from survey.spectrum import Refused
from survey.store.manifest.file_rows import table_rows
from survey.store.manifest.table_sizes import damage_of_table, spectra_in_table
from survey.store.objects import read_items

SOURCES = with_options(["hdf5", "tar"], {})
FLUX, WAVE = np.ones((6, 4000)), np.linspace(4000, 8000, 4000)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    with h5py.File(folder / "x.h5", "w") as file:
        file["flux"], file["wave"] = FLUX, WAVE
    pq.write_table(pa.table({"flux": list(FLUX), "wave": [WAVE] * 6}), folder / "x.parquet")
    return folder


class Failing(io.BytesIO):
    """A file in a bucket that gives so many answers and then an error."""

    def __init__(self, path: Path, error: Exception, answers: int) -> None:
        super().__init__(path.read_bytes())
        self.error, self.answers = error, answers

    def read(self, size: int | None = -1) -> bytes:
        self._answer()
        return super().read(size)

    def readinto(self, buffer: object) -> int:
        self._answer()
        return super().readinto(buffer)  # type: ignore[arg-type]

    def _answer(self) -> None:
        self.answers -= 1
        if self.answers < 0:
            raise self.error


def fail(monkeypatch: pytest.MonkeyPatch, tables: Path, name: str, error: Exception, answers: int) -> str:
    monkeypatch.setattr(files, "open_file", lambda _: Failing(tables / name, error, answers))
    return f"s3://bucket/{name}"


def read(path: str) -> list[object]:
    (rows,) = table_rows(files.Entry(path, 10_000, 0.0), 2)
    return [item.result for item in read_items(rows, SOURCES)]


ERRORS = [ConnectionError("no answer for 75 s"), PermissionError("ExpiredToken"), DeniedError("AccessDenied")]


@pytest.mark.parametrize("error", ERRORS[:2], ids=["lost", "expired"])
@pytest.mark.parametrize(("name", "answers"), [("x.h5", 1), ("x.h5", 5), ("x.parquet", 0), ("x.parquet", 1)])
def test_lost_access_refuses_no_row_of_a_table(
    tables: Path, monkeypatch: pytest.MonkeyPatch, name: str, answers: int, error: Exception
) -> None:
    path = fail(monkeypatch, tables, name, error, answers)
    with pytest.raises(type(error), match=str(error)):
        read(path)


@pytest.mark.parametrize("error", ERRORS[:2], ids=["lost", "expired"])
def test_lost_access_is_no_damage_of_a_table(
    tables: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("x.h5", "x.parquet"):
        path = fail(monkeypatch, tables, name, error, 0)
        with pytest.raises(type(error)):
            damage_of_table(path, SOURCES)
    with pytest.raises(type(error)):
        spectra_in_table(path)


def test_an_object_that_is_forbidden_and_a_file_that_may_not_be_read_are_refused(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: str) -> io.BytesIO:
        raise DeniedError(path) if files.is_remote(path) else PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open_file", forbidden)
    for path in ("s3://bucket/x.parquet", "/somewhere/x.parquet"):
        results = read(path)
        assert all(isinstance(result, Refused) and result.reason == "missing" for result in results)
