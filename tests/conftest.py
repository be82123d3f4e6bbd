"""What all tests share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from survey.catalog import prior
from survey.metrics import intervals
from survey.reports import style

# Ray gives its workers way to all other processes: beside other tests, two of them took eight times as long.
os.environ.setdefault("RAY_worker_niceness", "0")
hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


PRECISE = ("test_thresholds", "test_purity", "test_prior", "test_ground", "test_ranked_purity")
"""Files of tests whose catalogs are drawn as often as outside."""
SHARED_BY_FOLDER = ("tests/cluster", "tests/s3")
"""Folders whose files share one Ray, or one server: one process runs all their tests."""


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Each file, and each folder that shares something, is run by one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.rpartition("/")[0]
        return folder if folder in SHARED_BY_FOLDER else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How `pytest -n` shares out the tests."""
    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not look at it again and again."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Libraries complain of what has stayed at the end."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first: the last file decides when all tests end."""
    names = {"cluster", "s3", "kill"}
    first = {item.path for item in items if names & {mark.name for mark in item.iter_markers()}}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="module", autouse=True)
def quick_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Outside tests/reports, pictures are drawn but not rendered, which takes most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "reports":
            patch.setattr(style, "ConstrainedLayoutEngine", lambda **_: "none")
            patch.setattr(Figure, "savefig", lambda _, sink, **__: Image.new("L", (1, 1)).save(sink, "PNG"))
        yield


@pytest.fixture(scope="module", autouse=True)
def few_draws(request: pytest.FixtureRequest) -> Iterator[None]:
    """Outside tests/metrics, the intervals of metrics are drawn from a fifth of the resamples, and most of
    those of catalogs from a fourth. The long tests are made with all.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "metrics" and are_short(request.config):
            patch.setattr(intervals, "DRAWS", 200)
            if request.path.stem not in PRECISE:
                patch.setattr(prior, "DRAWS", 100)
        yield


def are_short(config: pytest.Config) -> bool:
    """Whether the long tests are left out."""
    return "not long" in config.option.markexpr


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real and computed survey data beside the checkout."""
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    return DATA


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small arrays gain nothing from threads, which wait for each other where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
