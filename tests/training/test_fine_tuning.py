"""A run that starts from another one takes its network and scaling, and tests on no star that it has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey.labelling import samples
from survey.settings import SettingsError
from survey.training import run as runs
from tests.training import lessons


def state(run: Path) -> dict[str, torch.Tensor]:
    return runs.open_run(str(run)).net.state_dict()


def test_only_what_is_not_frozen_changes(finished: Path, place: Path) -> None:
    start, metal_poor = str(finished / "run"), {"where": {"FeH": [-7, -1]}}
    fine = lessons.train(place, start_from=start, freeze=["body"], join=metal_poor, epochs=2)
    old, new = state(finished / "run"), state(fine)
    for name, value in old.items():
        assert torch.equal(value, new[name]) == (not name.startswith("heads."))
    document = runs.run_document(str(fine))
    assert document.scaling.to_dict() == runs.run_document(start).scaling.to_dict()
    assert document.start_from == runs.StartRun(path=start, id=runs.run_document(start).id)
    assert (samples.read(str(fine)).label_NL[:, 0] < -1).all()


def test_some_of_the_labels_are_enough(finished: Path, place: Path) -> None:
    """A table of real stars may have iron and no carbon."""
    lines = [line.split(",") for line in (place / "labels.csv").read_text().splitlines()]
    kept = [lines[0].index(name) for name in ("obsid", "FeH")]
    text = "\n".join(",".join(line[column] for column in kept) for line in lines)
    (place / "iron.csv").write_text(text + "\n")
    start, labels = str(finished / "run"), str(place / "iron.csv")
    fine = lessons.train(place, start_from=start, labels=labels, join={"classes": "none"}, epochs=2)
    document = runs.run_document(str(fine))
    assert document.scaling.to_dict() == runs.run_document(start).scaling.to_dict()
    assert document.task.labels == ("FeH", "CFe")
    assert np.isnan(samples.read(str(fine)).label_NL[:, 1]).all()
    assert "forget" not in (fine / "labels.txt").read_text(), "no class is learned at all"
    assert all(np.isfinite(row["train_loss"]) for row in runs.history(str(fine)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"seed": 5}}, "split.seed=0 there, 5 now; give the same split, or stars that it has seen"),
        ({"freeze": ["trunk"]}, "no part 'trunk'; give body, difference, components"),
        ({"model": "starnet", "options": {}}, "its model is prism, not starnet; give model=prism"),
        ({"scale": "robust"}, "its scale is standard, not robust"),
        ({"view": {"windows": [[4400, 4598]]}}, "its view is .*; give view="),
        (
            {"join": {"classes": "none", "class_names": ["CEMP", "MP", "NMP"]}},
            r"classes=\['MP', .* there, \['CEMP', .* now; give the same join.class_names in the same order",
        ),
        ({"targets": ["FeH"]}, "task.labels=.*; give the same task, targets and loss.reg"),
    ],
)
def test_what_contradicts_the_other_run_is_refused(
    finished: Path, place: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        lessons.train(place, start_from=str(finished / "run"), **changes)
    assert not (place / "run").exists()


def test_the_same_settings_as_those_of_the_other_run_may_be_given(finished: Path, place: Path) -> None:
    same = {"scale": "standard", "view": {"windows": []}, "options": {"components": 16}}
    lessons.train(place, start_from=str(finished / "run"), epochs=1, **same)


def test_a_run_on_other_stars_allows_another_split(place: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    lessons.store(far / "store", seed=5, first=9000)
    start = lessons.train(far, epochs=1)
    split = {"folds": 5, "fold": 2, "stratify": True}
    fine = lessons.train(place, start_from=str(start), split=split, epochs=1)
    assert runs.run_document(str(fine)).parts["test"].spectra > 0


def test_no_star_that_an_earlier_run_has_seen_is_in_validation_or_test(place: Path) -> None:
    folds = {"stratify": True, "folds": 5, "fold": 2}
    first = lessons.train(place, run=str(place / "first"), split=folds, epochs=1)
    seen = set(samples.read(str(first)).part("train").extra["star"].to_pylist())
    for low, high in ((-7.0, -2.0), (-7.0, -1.5), (-2.0, 0.5)):
        run, join = str(place / f"later{high}{low}"), {"where": {"FeH": [low, high]}}
        later = lessons.train(place, run=run, start_from=str(first), split=folds, epochs=1, join=join)
        for part in ("validation", "test"):
            assert not set(samples.read(str(later)).part(part).extra["star"].to_pylist()) & seen


def test_rare_stars_alone_can_be_used_with_balanced_classes(finished: Path, place: Path) -> None:
    run = lessons.train(
        place,
        start_from=str(finished / "run"),
        loss={"class_weights": "sqrt_balanced"},
        join={"where": {"FeH": [-7, -1]}},
        epochs=1,
    )
    assert runs.run_document(str(run)).parts["train"].classes["NMP"] == 0
    told = (run / "labels.txt").read_text()
    assert "no spectrum of NMP to train on: fine-tuning makes the network forget this; join." in told


def test_batch_statistics_of_frozen_layers_stay(place: Path) -> None:
    first = lessons.train(place, run=str(place / "first"), model="bganet", options={}, epochs=1)
    later = lessons.train(place, model="bganet", options={}, start_from=str(first), freeze=["body"], epochs=1)
    old, new = state(first), state(later)
    running = [name for name in old if "running" in name]
    assert running
    for name in running:
        assert torch.equal(old[name], new[name])
