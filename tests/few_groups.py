"""Most tests of ensembles and evaluations ask for metrics of all spectra, not of twenty groups of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from survey.metrics import score
from tests.conftest import are_short

EVERY = score.groups


@pytest.fixture(scope="module", autouse=True)
def few_groups(request: pytest.FixtureRequest) -> Iterator[None]:
    """Metrics are measured for all spectra together only, unless the long tests run."""

    def of_all(*given: Any) -> Any:
        return (group for group in EVERY(*given) if group[0] == "all")

    with pytest.MonkeyPatch.context() as patch:
        if are_short(request.config):
            patch.setattr(score, "groups", of_all)
        yield


@pytest.fixture
def every_group(few_groups: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are measured for each group of spectra, as outside these tests."""
    monkeypatch.setattr(score, "groups", EVERY)
