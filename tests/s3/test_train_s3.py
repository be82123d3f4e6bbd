"""A training whose store, labels and run all lie in a bucket."""

from pathlib import Path

import pytest

from survey.evaluate.evaluate import Evaluate, evaluate
from survey.training import run
from survey.training.train import begin
from survey.training.worker import learn
from tests.s3.conftest import SECRET, Server, put
from tests.training import lessons

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]


def test_a_run_in_a_bucket_is_the_run_on_a_disk(server: Server, tmp_path: Path):
    lessons.store(tmp_path / "store")
    put(
        "s3://sky/lesson",
        {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file()
        },
    )
    local = lessons.training(tmp_path, epochs=2)
    there = {
        "store": "s3://sky/lesson/store",
        "labels": "s3://sky/lesson/labels.csv",
        "run": "s3://sky/lesson/run",
    }
    remote = lessons.training(tmp_path, epochs=2, **there)
    for settings in (local, remote):
        assert begin(settings)
        learn(settings)
        assert not begin(settings)
    one, two = (run.about_run(settings.run) for settings in (local, remote))
    assert one["weights_sha256"] == two["weights_sha256"]
    judged = evaluate(Evaluate.checked("evaluate", {"of": remote.run, "threads": 1}))
    assert judged.folder.startswith("s3://sky/lesson/run/evaluations")
    assert SECRET not in str(two)
    assert server.answers()
