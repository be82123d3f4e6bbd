"""Training on several stores at once: one joined store, one split, shares, weights and classes by source."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from survey.ensemble.build import build
from survey.ensemble.members import open_members
from survey.ensemble.settings import Build
from survey.labelling import samples
from survey.labelling.unlabelled import unlabelled
from survey.labels import CLASSES
from survey.models.settings import Task
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.learning_settings import Loss
from survey.training.losses import Targets, TaskLoss
from survey.training.run import open_run, read_plan, run_document
from survey.training.settings import Train
from survey.training.source_settings import Source
from survey.training.sources import (
    JoinedSource,
    draw_weights,
    known,
    loss_weights,
    other_classes,
    pair_numbers,
    source_names,
    with_common_stars,
)
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import change_document
from tests.labelling import small_stores
from tests.labelling.small_stores import visit
from tests.training import lessons

SMALL: dict[str, Any] = {"model": "mean", "options": {}}
"""A model for spectra of 3 pixels."""
MP, CEMP = CLASSES.index("MP"), CLASSES.index("CEMP")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores with their tables of labels: `store`, and `real/store` of other stars."""
    folder = tmp_path_factory.mktemp("sources")
    lessons.store(folder / "store", 120)
    lessons.store(folder / "real" / "store", 60, seed=3, first=5000)
    return folder


def settings(place: Path, run: Path, source: dict[str, Any] | None = None, **changes: Any) -> Train:
    real = {"store": str(place / "real" / "store"), "labels": str(place / "real" / "labels.csv")}
    values = {"run": str(run), "sources": {"real": real | (source or {})}, "epochs": 2}
    return lessons.training(place, **values | changes)


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """A run that was trained on both sources."""
    run = place / "both"
    chosen = settings(place, run)
    assert plan(chosen)
    learn(chosen)
    return run


def test_the_spectra_of_all_sources_are_learned_from_one_joined_store(place: Path, trained: Path) -> None:
    both = samples.read(str(trained))
    assert Counter(source_names(both)) == {"main": 120, "real": 60}
    joined = open_store(read_plan(str(trained)).store.path)
    first, second = open_store(str(place / "store")), open_store(str(place / "real" / "store"))
    assert joined.shards == first.shards + second.shards
    for row in (0, 119, 120, 179):
        shard, row_in_shard = both.shard_row_N2[row]
        spectra = joined.spectra(int(shard), ["obsid"])
        assert spectra["obsid"][int(row_in_shard)].as_py() == both.extra["obsid"][row].as_py()
    assert not list((trained / "store").glob("spectra/*")), "no spectrum is copied"


def test_a_run_of_several_sources_predicts_and_is_finished(place: Path, trained: Path) -> None:
    members = open_members([str(trained)])
    both = samples.read(str(trained))
    answers, _ = members.predict_store(read_plan(str(trained)).store.path, both.shard_row_N2[-5:], "test")
    assert len(answers) == 5
    assert not plan(settings(place, trained))


def test_each_source_is_split_by_its_stars(place: Path, trained: Path) -> None:
    both = samples.read(str(trained))
    for name in ("main", "real"):
        parts = Counter(both.part_N[source_names(both) == name].tolist())
        assert set(parts) == {0, 1, 2}, name


def test_a_source_may_be_for_training_only(place: Path, tmp_path: Path) -> None:
    chosen = settings(place, tmp_path / "run", {"parts": "train"})
    plan(chosen)
    both = samples.read(chosen.run)
    assert set(both.part_N[source_names(both) == "real"].tolist()) == {0}


def test_several_sources_may_be_learned_without_a_validation_part(place: Path, tmp_path: Path) -> None:
    chosen = settings(place, tmp_path / "run", learn_from="train+validation", keep="last", epochs=1)
    assert plan(chosen)
    learn(chosen)
    assert not len(samples.read(chosen.run).part("validation"))
    assert run_document(chosen.run).best_epoch == 1


def test_an_autoencoder_has_validation_spectra_of_each_source(place: Path, tmp_path: Path) -> None:
    values = {"labels": "none", "task": "none", "model": "specvae", "monitor": "chi2"}
    chosen = settings(place, tmp_path / "run", {"labels": "none"}, options={}, **values)
    plan(chosen)
    both = samples.read(chosen.run)
    for name in ("main", "real"):
        assert set(both.part_N[source_names(both) == name].tolist()) == {0, 1, 2}, name


def test_spectra_without_labels_are_aligned_and_decide_nothing_else(place: Path, tmp_path: Path) -> None:
    """Their labels and classes are unknown, they train only, and no domain or range knows them."""
    align = {"method": "coral", "weight": 0.1, "warm_up": 0}
    chosen = settings(place, tmp_path / "run", {"labels": "none", "share": 0.3}, align=align)
    plan(chosen)
    both = samples.read(chosen.run)
    survey = source_names(both) == "real"
    assert survey.sum() == 60
    assert np.all(both.class_N[survey] == -1)
    assert np.isnan(both.label_NL[survey]).all()
    assert set(both.part_N[survey].tolist()) == {0}
    assert len(known(both)) == 120
    learn(chosen)
    assert open_run(chosen.run).document.epochs == 2
    values = {"ensemble": str(tmp_path / "ensemble"), "runs": [chosen.run], "threads": 1, "gpu": "never"}
    built = build(Build.from_dict("ensemble", values | {"calibrate": False, "weights": "equal"}))
    assert built.document.validation.spectra == (both.part_N == 1).sum()
    labelled = both.label_NL[~survey & (both.part_N == 0)]
    assert built.document.ranges["FeH"] == (labelled[:, 0].min(), labelled[:, 0].max())


def test_weights_and_shares_are_those_of_the_source(place: Path, trained: Path) -> None:
    both = samples.read(str(trained))
    real = source_names(both) == "real"
    sources = {"real": Source(store="s", labels="l", weight=3.0, share=0.5, may_be={"MP": "CEMP"})}
    assert np.array_equal(loss_weights(both, sources), np.where(real, 3.0, 1.0))
    drawn = draw_weights(both, sources)
    assert drawn is not None
    assert drawn[real].sum() == pytest.approx(120), "half of the epoch"
    assert np.all(drawn[~real] == 1), "each spectrum of the main source comes once"
    by_class = np.where(both.class_N == MP, 3.0, 0.5)
    balanced = draw_weights(both, sources, by_class)
    assert balanced is not None
    assert balanced[real].sum() == pytest.approx(balanced[~real].sum()), "half of the epoch"
    assert np.array_equal(balanced[~real], by_class[~real]), "the classes of the main source are balanced"
    again = draw_weights(both, sources | {"other": Source(share=0.3)})
    assert again is not None
    assert np.array_equal(again, drawn), "a source of the recipe without a store is not used"
    assert draw_weights(both, {"real": Source(store="s", labels="l")}) is None
    assert np.array_equal(other_classes(both, sources, CLASSES) == CEMP, real & (both.class_N == MP))


def test_where_two_classes_are_possible_the_loss_counts_both_probabilities() -> None:
    task = Task("cls", (), len(CLASSES), False)
    loss = TaskLoss(Loss(), task)
    logits = torch.tensor([[1.0, 2.0, 0.5]] * 3, requires_grad=True)
    empty = torch.empty(3, 0)
    targets = Targets(
        torch.tensor([MP, MP, CEMP]), empty, empty, torch.ones(3), torch.tensor([CEMP, -1, CEMP])
    )
    total = loss.sums({"logits": logits}, targets, 0)[0]
    p_BC = logits.detach().softmax(1)
    expected = -(p_BC[0, MP] + p_BC[0, CEMP]).log() - p_BC[1, MP].log() - p_BC[2, CEMP].log()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"labels": ""},
            "store is given without labels; give both, or neither; labels=none = spectra without",
        ),
        ({"may_be": {"MP": "CEPM"}}, "there is no class 'CEPM'; did you mean CEMP"),
        ({"share": 1.0}, "share"),
    ],
)
def test_wrong_settings_of_a_source_are_reported(
    place: Path, tmp_path: Path, source: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(place, tmp_path / "run", source)


def test_stores_that_were_prepared_in_different_ways_are_not_joined(place: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "real" / "store", 60, seed=3, first=5000)
    change = {"grid": {"start": 4002.0, "stop": 4598.0, "step": 2.0, "scale": "linear"}}
    change_document(tmp_path / "real" / "store" / "store.json", change)
    other = {"store": str(tmp_path / "real" / "store")}
    with pytest.raises(SettingsError, match=r"its grid has 299 .*; ingest both with the same prepare.grid"):
        plan(settings(place, tmp_path / "run", other))


def test_a_source_without_matching_labels_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train: sources.real: .*"):
        plan(settings(place, tmp_path / "run", {"labels": str(place / "labels.csv")}))


@pytest.fixture
def surveys(tmp_path: Path) -> Path:
    """Two surveys of 160 stars. 120 stars are in both, 0.036 arcsec apart.

    The first table names stars by a number of Gaia, the second does not name them.
    """
    rng = np.random.default_rng(4)
    for folder, numbers, moved in ((tmp_path, range(160), 0.0), (tmp_path / "real", range(40, 200), 1e-5)):
        rows = [visit(number, star=None, visit=f"{folder.name} {number}") for number in numbers]
        rows = [row | {"obsid": 1 + place, "dec": row["dec"] + moved} for place, row in enumerate(rows)]
        frame = pd.DataFrame({"obsid": [row["obsid"] for row in rows]})
        frame["FeH"], frame["CFe"] = rng.uniform(-3, 0.3, len(rows)), rng.uniform(-0.3, 2, len(rows))
        if not moved:
            frame["gaia_source_id"] = 4_000_000_000 + np.arange(len(rows))
        small_stores.store(folder / "store", rows, 100)
        frame.to_csv(folder / "labels.csv", index=False)
    return tmp_path


def test_a_star_that_sources_name_differently_has_one_part(surveys: Path) -> None:
    chosen = settings(surveys, surveys / "run", **SMALL)
    plan(chosen)
    both = samples.read(chosen.run)
    sky = np.array([round(ra, 2) for ra in both.extra["ra"].to_pylist()])
    real = source_names(both) == "real"
    common = np.isin(sky[real], sky[~real])
    assert common.sum() == 120
    part_of = dict(zip(sky[~real].tolist(), both.part_N[~real].tolist(), strict=True))
    assert [part_of[star] for star in sky[real][common].tolist()] == both.part_N[real][common].tolist()
    assert set(both.part_N[~real].tolist()) == {0, 1, 2}
    paired = pair_numbers(both)
    assert len(set(paired[paired >= 0].tolist())) == 120
    assert np.array_equal(paired[real] >= 0, common)
    alone = settings(surveys, surveys / "alone", sources={}, **SMALL)
    plan(alone)
    main = samples.read(alone.run)
    assert main.extra["star"].to_pylist() == both.extra["star"].filter(pa.array(~real)).to_pylist()
    assert np.array_equal(main.part_N, both.part_N[~real])


def test_a_spectrum_that_two_tables_label_is_of_one_star(place: Path, tmp_path: Path) -> None:
    """The store has no positions; only the second table has names of stars."""
    frame = pd.read_csv(place / "labels.csv").iloc[:60]
    frame.assign(star=[f"S{number}" for number in range(60)]).to_csv(tmp_path / "weak.csv", index=False)
    weak = {"store": str(place / "store"), "labels": str(tmp_path / "weak.csv")}
    chosen = settings(place, tmp_path / "run", weak)
    plan(chosen)
    both = samples.read(chosen.run)
    assert both.part_N[:60].tolist() == both.part_N[120:].tolist()
    assert both.extra["star"].to_pylist()[120:] == [f"S{number}" for number in range(60)]


def numbered(folder: Path, name: str, first: int, ids: list[int], **changes: Any) -> JoinedSource:
    """A source of six stars of the sky; a table names them by these ids."""
    rows = [visit(first + place, star=str(number), **changes) for place, number in enumerate(ids)]
    found = unlabelled(small_stores.store(folder / name, rows))
    return JoinedSource(name, Source(store=str(folder / name), labels="none"), found, 0)


def test_equal_ids_far_apart_on_the_sky_are_other_stars(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both tables count their stars from 1, in another order."""
    count = [1, 2, 3, 4, 5, 6]
    joined = [numbered(tmp_path, "main", 0, count), numbered(tmp_path, "other", 0, count[::-1])]
    main, other = (source.labelled.star_N.tolist() for source in with_common_stars(joined))
    assert main == other
    assert len(set(main)) == 6
    assert (
        "train: sources: 12 spectra have a name, such as 1, that is also that of a star of another source "
        "more than 10 arcsec away" in caplog.text
    )
    caplog.clear()
    elsewhere = [joined[0], numbered(tmp_path, "third", 100, count)]
    main, other = (source.labelled.star_N.tolist() for source in with_common_stars(elsewhere))
    assert main == ["1", "2", "3", "4", "5", "6"], "the first source keeps its names"
    assert other == [f"{number} of third" for number in count]


def test_equal_ids_are_one_star_where_no_position_contradicts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = [1, 2, 3, 4, 5, 6]
    joined = [numbered(tmp_path, "main", 0, count), numbered(tmp_path, "other", 50, count, ra=None, dec=None)]
    main, other = (source.labelled.star_N.tolist() for source in with_common_stars(joined))
    assert main == other == [str(number) for number in count]
    assert not caplog.text


def test_a_run_of_several_sources_may_be_moved(trained: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "moved"))
    run = open_run(str(moved))
    assert run.store_path == str(moved / "store")
    assert open_store(run.store_path).spectra(0).num_rows == 50
