"""What all tests share."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real and computed survey data beside the checkout."""
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    return DATA
