"""Distances between the features of two sources: 0 for equal ones, growing, and made small by a training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC
from torch import Tensor

from survey.ensemble.members import open_members
from survey.labelling import samples
from survey.settings import SettingsError
from survey.training.alignment import DISTANCES, LEAST, compare, complaint, pairs_in_all, sinkhorn, weighted
from survey.training.losses import Targets
from survey.training.run import history, read_plan
from survey.training.settings import Train
from survey.training.source_settings import Align
from survey.training.sources import compared_sources, source_names
from survey.training.train import plan
from survey.training.worker import learn
from tests.training import lessons


def alignment(
    settings: Align,
    latent_BD: Tensor,
    source_B: Tensor,
    epoch: float = math.inf,
    pair_B: Tensor | None = None,
    other_terms: Tensor | None = None,
) -> Tensor:
    """The weighted distance between the main source and all others; 0 where nothing can be compared."""
    compared = compare(settings, latent_BD, source_B, pair_B)
    if compared is None:
        return latent_BD.new_zeros(())
    return weighted(settings, compared.distance, epoch, other_terms)


METHODS = sorted(DISTANCES)


def features(count: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(count, 6, generator=generator)


@pytest.mark.parametrize("method", METHODS)
def test_a_distance_is_0_for_the_same_features_and_grows_with_a_shift_and_a_stretch(method: str) -> None:
    distance = DISTANCES[method]
    first = features(200)
    assert float(distance(first, first)) == pytest.approx(0, abs=1e-5)
    near, far, stretched = (
        float(distance(first, features(200, shift, scale, seed=1)))
        for shift, scale in ((0.0, 1.0), (1.5, 1.0), (0.0, 3.0))
    )
    assert near < 0.3 * far
    assert near < 0.3 * stretched


def test_transport_costs_what_it_costs_to_move_each_point() -> None:
    """A shift by a vector moves every point by it: the best plan costs its squared length."""
    first = features(60)
    moved = first + 4.0
    square = ((first[:, None] - moved) ** 2).mean(2)
    expected = 16.0 / float(square.mean())
    assert float(sinkhorn(first, moved)) == pytest.approx(expected, rel=0.05)


def test_the_adversary_is_as_good_as_a_classifier_of_scikit_learn_on_rows_it_has_not_seen() -> None:
    """Two clouds that overlap: its score is near 2 * accuracy - 1 of a support vector machine, or below."""
    first, other = features(400), features(400, 1.0, seed=1)
    score = float(DISTANCES["adversary"](first, other))
    rows, names = torch.cat([first, other]).numpy(), np.repeat([0, 1], 400)
    accuracy = cross_val_score(SVC(), rows, names, cv=2).mean()
    assert 0.5 * (2 * accuracy - 1) < score < 2 * accuracy - 0.9


def test_pairs_are_the_same_objects_in_both_sources_only() -> None:
    settings = Align(method="pairs", weight=1.0)
    latent = features(16)
    source = torch.tensor([0] * 8 + [1] * 8)
    pair = torch.tensor([*range(6), -1, -1, *range(6), -1, -1])
    scaled = (latent - latent.mean(0)) / latent.std(0)
    wanted = np.mean([float(((scaled[row] - scaled[row + 8]) ** 2).mean()) for row in range(6)])
    assert float(alignment(settings, latent, source, pair_B=pair)) == pytest.approx(wanted)
    assert float(alignment(settings, latent, source, pair_B=torch.full((16,), -1))) == 0


def test_a_balanced_weight_is_a_share_of_the_rest_of_the_loss() -> None:
    settings = Align(method="mmd", weight=0.2, balance=True)
    latent = torch.cat([features(60), features(60, 2.0, seed=1)]).requires_grad_()
    source = torch.tensor([0] * 60 + [1] * 60)
    for rest in (0.5, 2.0):
        value = alignment(settings, latent, source, other_terms=torch.tensor(rest))
        assert float(value.detach()) == pytest.approx(0.2 * rest, rel=1e-4)
    value.backward()
    assert latent.grad is not None
    assert float(latent.grad.abs().max()) > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_moves_the_features_together(method: str) -> None:
    first, other = features(60).requires_grad_(), features(60, 2.0, seed=1)
    settings = Align.from_dict("align", {"method": method, "weight": 1.0})
    source = torch.tensor([0] * 60 + [1] * 60)
    alignment(settings, torch.cat([first, other]), source).backward()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()
    assert float(first.grad.mean()) < 0, "a step against the gradient moves them towards the others"


def test_there_is_no_distance_without_enough_rows_of_both_sources_or_without_a_method() -> None:
    latent = features(20)
    few = torch.tensor([0] * (20 - LEAST + 1) + [1] * (LEAST - 1))
    enough = torch.tensor([0] * (20 - LEAST) + [1] * LEAST)
    left_out = torch.where(enough == 1, -1, enough)
    assert float(alignment(Align(method="coral"), latent, few)) == 0
    assert float(alignment(Align(method="coral"), latent, left_out)) == 0
    assert float(alignment(Align(), latent, enough)) == 0
    assert float(alignment(Align(method="coral"), latent, enough)) > 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores; all fluxes of the second are 5 % lower."""
    folder = tmp_path_factory.mktemp("alignment")
    lessons.store(folder / "store", 160)
    lessons.store(folder / "real" / "store", 160, seed=3, first=5000)
    return folder


def trained(place: Path, name: str, epochs: int = 3, batch: int = 16, **align: Any) -> Path:
    real = {"store": str(place / "real" / "store"), "labels": str(place / "real" / "labels.csv")}
    values: dict[str, Any] = {"sources": {"real": real}, "targets": ["Teff", "FeH"], "task": "reg"}
    values |= {"batch": batch, "epochs": epochs}
    settings: Train = lessons.training(place, run=str(place / name), align=align, **values)
    plan(settings)
    learn(settings)
    return Path(settings.run)


def test_a_training_makes_the_features_of_the_sources_alike(place: Path) -> None:
    distance = {}
    cases: dict[str, dict[str, Any]] = {"plain": {}, "aligned": {"method": "coral", "weight": 5.0}}
    for name, align in cases.items():
        run = str(trained(place, name, epochs=6, **align))
        both = samples.read(run)
        members = open_members([run])
        _, [latent] = members.predict_store(read_plan(run).store.path, both.shard_row_N2, "test")
        number = torch.from_numpy((source_names(both) != "main").astype(np.int64))
        distance[name] = float(alignment(Align(method="mmd", weight=1), torch.from_numpy(latent), number))
    assert distance["aligned"] < distance["plain"]


def test_the_history_has_the_distance_and_how_much_was_compared(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of the toy sources are compared; then nothing is, because no batch has enough of both."""
    for row in history(str(trained(place, "compared", method="coral"))):
        assert row["align_compared"] == 1
        assert row["train_align"] > 0
        assert "align_pairs" not in row
    assert not caplog.messages
    rows = history(str(trained(place, "few", method="coral", batch=2 * LEAST - 1)))
    assert {row["align_compared"] for row in rows} == {0}
    assert all(np.isnan(row["train_align"]) for row in rows)
    (message,) = caplog.messages
    assert "align.method=coral: only 0% of the batches could be compared" in message


def test_the_history_has_the_pairs_and_a_training_without_any_says_so(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = history(str(trained(place, "unpaired", method="pairs")))
    assert {row["align_pairs"] for row in rows} == {0}
    (message,) = caplog.messages
    assert "no training object is in the main source and in another one" in message


def test_pairs_that_seldom_meet_are_told_with_a_remedy() -> None:
    settings = Align(method="pairs")
    row = {"align_pairs": 4.0, "align_compared": 1.0}
    assert complaint(settings, row, 100, 500) == ""
    text = complaint(settings, row, 100, 4000)
    assert "only 10% of 4,000 pairs came together in a batch" in text
    assert "same order of objects, or give a larger window=" in text


def test_the_objects_of_several_sources_are_counted_once() -> None:
    empty = torch.empty(6, 0)
    source, pair = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([4, 4, 5, 4, -1, 6])
    targets = Targets(source, empty, empty, torch.ones(6), source_B=source, pair_B=pair)
    assert pairs_in_all(targets) == 1


def test_stars_outside_the_range_of_temperatures_are_not_compared(place: Path) -> None:
    both = samples.read(str(trained(place, "plain", epochs=6)))
    number = compared_sources(both, Align(teff=(5000, 6000)))
    teff = both.label_NL[:, both.labels.index("Teff")]
    inside = (teff >= 5000) & (teff <= 6000)
    assert np.all(number[~inside] == -1)
    assert np.array_equal(number[inside] == 1, (source_names(both) == "real")[inside])


def test_a_wrong_method_is_reported() -> None:
    with pytest.raises(SettingsError, match="method"):
        Align.from_dict("train: align", {"method": "coarl"})


def test_a_warm_up_that_leaves_no_epoch_with_alignment_is_an_error(place: Path) -> None:
    real = {"real": {"store": "s", "labels": "l"}}
    with pytest.raises(SettingsError, match=r"align.warm_up: 3 of 3 epochs leaves none with alignment"):
        lessons.training(place, run="run", align={"method": "coral", "warm_up": 3}, epochs=3, sources=real)


def test_one_source_alone_cannot_be_aligned(place: Path) -> None:
    with pytest.raises(SettingsError, match=r"align.method: coral makes .* but there is one; give sources"):
        lessons.training(place, run="run", align={"method": "coral"})


def test_an_alignment_waits_until_something_is_learned() -> None:
    settings = Align(method="coral", weight=2.0, warm_up=4)
    assert [settings.weight_at(epoch) for epoch in (0, 3.9, 4, 6, 8, 99)] == [0, 0, 0, 1, 2, 2]
    latent, source = torch.randn(20, 3), torch.tensor([0, 1] * 10)
    assert alignment(settings, latent, source, 2.0) == 0
    assert alignment(settings, latent, source) == alignment(settings, latent, source, 8.0)


def test_a_network_gains_nothing_by_small_features() -> None:
    latent = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    source = torch.tensor([0, 1] * 20)
    alignment(Align(method="coral", weight=1.0), latent, source).backward()
    assert latent.grad is not None
    centred = (latent - latent.mean(0)).detach()
    assert abs(float((latent.grad * centred).sum())) < 1e-4
