"""An ensemble in a bucket, with its members, its store and its labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from tests.ensemble import small_runs
from tests.ensemble.test_build import PRISM
from tests.s3.conftest import SECRET, Server, put

pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800)]


def test_an_ensemble_in_a_bucket_is_the_ensemble_on_a_disk(server: Server, tmp_path: Path) -> None:
    small_runs.place(tmp_path)
    put(
        "s3://sky/team",
        {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file()
        },
    )
    ensembles = []
    for root in (str(tmp_path), "s3://sky/team"):
        values: dict[str, Any] = {
            "ensemble": f"{root}/ensemble",
            "store": f"{root}/store",
            "labels": f"{root}/labels.csv",
            "train": PRISM,
            "seeds": 2,
            "threads": 1,
            "gpu": "never",
        }
        settings = Build.from_dict("ensemble", values)
        ensembles.append(build(settings))
        assert not build(settings).is_new
    local, remote = ensembles
    assert remote.document.id == local.document.id
    assert remote.metrics is not None
    assert remote.metrics.equals(local.metrics)
    assert open_ensemble("s3://sky/team/ensemble").names == ("prism-2024", "prism-2025")
    probabilities = []
    for built in ensembles:
        evaluation = evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": built.folder, "threads": 1}))
        assert evaluation.calibrated.p_NC is not None
        probabilities.append(evaluation.calibrated.p_NC)
    assert np.array_equal(probabilities[0], probabilities[1])
    assert SECRET not in remote.document.model_dump_json()
    assert server.answers()
