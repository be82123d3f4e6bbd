"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
