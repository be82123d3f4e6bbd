"""Blocks about answers whose truth is known."""

import json

import numpy as np
import pyarrow as pa

from survey.labels import CLASSES
from survey.metrics.score import TRUE_CLASS
from survey.pages.answer_blocks import answer_blocks
from survey.pages.report_blocks import ReportPage


def test_a_calibrated_class_lies_on_the_diagonal() -> None:
    """Probabilities near 0 and 1 only: their bins have other means than their middles."""
    random, count = np.random.default_rng(0), 20000
    p = np.where(random.random(count) < 0.02, random.uniform(0.985, 0.999, count), 0.006)
    is_cemp = random.random(count) < p
    other = np.where(random.random(count) < 0.5, CLASSES.index("MP"), CLASSES.index("NMP"))
    answers = {f"p_{name.lower()}": (1 - p) / 2 for name in CLASSES} | {"p_cemp": p}
    true = pa.array(np.where(is_cemp, CLASSES.index("CEMP"), other), pa.int8())
    page = ReportPage("run", "run")
    [block] = answer_blocks(page, pa.table(answers | {TRUE_CLASS: true}))
    drawn = json.loads(page.attachments.json[block["source"]])
    x = drawn["x"]["values"]
    assert x == sorted(x)
    [series] = [one for one in drawn["series"] if one["name"].startswith("CEMP")]
    points = [(at, value) for at, value in zip(x, series["values"], strict=True) if value is not None]
    assert len(points) == 2
    np.testing.assert_allclose([at for at, _ in points], [0.006, 0.992], atol=1e-3)
    np.testing.assert_allclose([value for _, value in points], [at for at, _ in points], atol=0.01)
    assert drawn["series"][-1] == {"name": "as it should be", "values": x, "dash": True}
