"""An ensemble that lies in a bucket with its members, its store and its labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import Evaluate, evaluate
from tests.ensemble import teams
from tests.ensemble.test_build import PRISM
from tests.s3.conftest import SECRET, Server, put

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]


def test_an_ensemble_in_a_bucket_is_the_ensemble_on_a_disk(server: Server, tmp_path: Path):
    teams.place(tmp_path)
    put(
        "s3://sky/team",
        {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file()
        },
    )
    found = []
    for root in (str(tmp_path), "s3://sky/team"):
        places: dict[str, Any] = {
            "ensemble": f"{root}/ensemble",
            "store": f"{root}/store",
            "labels": f"{root}/labels.csv",
        }
        settings = Build.checked(
            "ensemble", places | {"train": PRISM, "seeds": 2, "threads": 1, "gpu": "never"}
        )
        found.append(build(settings))
        assert not build(settings).made
    local, remote = found
    assert remote.about["id"] == local.about["id"]
    assert remote.metrics.equals(local.metrics)
    assert open_ensemble("s3://sky/team/ensemble").names == ("prism-2024", "prism-2025")
    judged = [
        evaluate(Evaluate.checked("evaluate", {"of": built.folder, "threads": 1})).judged for built in found
    ]
    assert np.array_equal(judged[0].p_NC, judged[1].p_NC)
    assert SECRET not in str(remote.about)
    assert server.answers()
