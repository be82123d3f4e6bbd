"""The requests that an estimate counts are those that the job sends."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from survey import files
from survey.estimate.settings import Prices
from survey.estimate.shard_work import estimate_ingest
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from tests import survey_files
from tests.s3.conftest import Server, put
from tests.s3.test_status_s3 import COARSE

pytestmark = pytest.mark.s3


def test_an_ingest_from_bucket_to_bucket_sends_the_requests_of_its_estimate(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del server
    survey_files.write(tmp_path / "in", range(60), False)
    paths = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    put("s3://sky/estimate/in", {path.name: path.read_bytes() for path in paths})
    values = {
        "input": "s3://sky/estimate/in",
        "store": "s3://sky/estimate/store",
        "shard": 20,
        "prepare": COARSE,
    }
    settings = Ingest.from_dict("ingest", values | {"refuse_above": 1.0})
    cost = estimate_ingest(settings, Prices(seconds=0.1))
    assert not files.exists("s3://sky/estimate/store")
    sent = Counter[str]()
    call = S3FileSystem._call_s3

    async def count(self: S3FileSystem, method: str, *rest: Any, **request: Any) -> Any:
        sent[method] += 1
        return await call(self, method, *rest, **request)

    monkeypatch.setattr(S3FileSystem, "_call_s3", count)
    ingest(settings)
    assert cost.requests.get == pytest.approx(sent["get_object"], abs=20)
    assert cost.requests.put == pytest.approx(sent["put_object"], abs=15)
