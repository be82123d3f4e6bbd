"""A training whose store, labels and run are all in a bucket."""

from pathlib import Path

import pytest

from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.training import run as runs
from survey.training.train import plan
from survey.training.worker import learn
from tests.s3.conftest import SECRET, Server, put
from tests.training import lessons

pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800)]


def test_a_run_in_a_bucket_is_the_same_as_on_a_disk(server: Server, tmp_path: Path) -> None:
    lessons.store(tmp_path / "store")
    contents = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    put("s3://sky/lesson", contents)
    local = lessons.training(tmp_path, epochs=2)
    remote = local.model_copy(
        update={
            "store": "s3://sky/lesson/store",
            "labels": "s3://sky/lesson/labels.csv",
            "run": "s3://sky/lesson/run",
        }
    )
    for settings in (local, remote):
        assert plan(settings)
        learn(settings)
        assert not plan(settings)
    one, two = (runs.run_document(settings.run) for settings in (local, remote))
    assert one.weights_sha256 == two.weights_sha256
    evaluation = evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": remote.run, "threads": 1}))
    assert evaluation.folder.startswith("s3://sky/lesson/run/evaluations")
    assert SECRET not in two.model_dump_json()
    assert server.answers()
