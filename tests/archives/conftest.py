"""A mock survey, as an archive would serve it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from survey.mock.mock import make
from survey.mock.settings import Mock
from tests.archives.archive_server import TOKEN, Served


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is on this machine, whatever this machine uses for others."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def mocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a mock survey with 150 files and its catalogue."""
    folder = tmp_path_factory.mktemp("archive") / "files"
    make(Mock(out=str(folder), n=150, broken=0, chunk=200, layouts={"lrs_image": 0.5, "lrs_table": 0.5}))
    return folder


@pytest.fixture
def served(mocked: Path) -> list[Served]:
    """The files of the mock survey by obsid."""
    rows = pq.read_table(mocked / "labels.parquet", columns=["path", "obsid"]).to_pylist()
    return [
        Served(str(row["obsid"]), Path(row["path"]).name, (mocked / row["path"]).read_bytes()) for row in rows
    ]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """A token in the environment."""
    monkeypatch.setenv("LAMOST_TOKEN", TOKEN)
    return TOKEN
