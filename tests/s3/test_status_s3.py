"""A look at a folder in a bucket: a few listings and a few markers, however many shards there are."""

from collections import Counter
from typing import Any

import pytest

from survey import files
from survey.buckets import Buckets
from survey.folder import Folder
from survey.status import shards
from survey.status.look import look
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import STORE
from tests import survey_files
from tests.s3.conftest import PAGE, Server

pytestmark = pytest.mark.s3
COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
SHARDS, SAMPLE = 34, 8


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The requests that this process sends, by their name."""
    counts = Counter[str]()
    send = Buckets._with_retries

    async def count(self: Buckets, path: str, attempt: Any) -> Any:
        counts[path] += 1
        return await send(self, path, attempt)

    monkeypatch.setattr(Buckets, "_with_retries", count)
    return counts


def test_a_look_at_a_bucket_takes_no_request_per_shard(
    server: Server, requests: Counter[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del server
    survey_files.write(tmp_path / "in", range(SHARDS), True)
    values = {"input": str(tmp_path / "in"), "shard": 1, "refuse_above": 1.0, "prepare": COARSE}
    settings = Ingest.from_dict("ingest", values | {"store": "s3://sky/status/store"})
    document = ingest(settings).document
    monkeypatch.setattr(shards, "SAMPLE", SAMPLE)
    requests.clear()
    state = look(settings.store)
    pages = sum(-(-document.shards // PAGE) for _ in ("markers", "spectra", "refused"))
    assert requests.total() <= pages + SAMPLE + 10
    assert (state.state, state.done, state.refused) == ("finished", document.shards, document.refused)
    Folder(settings.store, STORE).withdraw()
    state = look(settings.store)
    assert (state.state, state.done) == ("stopped", document.shards)
    read = len(range(0, document.shards, -(-document.shards // SAMPLE)))
    assert state.estimated == f"estimated from {read} of {document.shards} shards"
    exact = look(settings.store, exact=True)
    assert (exact.estimated, exact.refused) == ("", document.refused)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        look("s3://sky/status/nowhere")
    assert files.exists("s3://sky/status/store/settings.json")
