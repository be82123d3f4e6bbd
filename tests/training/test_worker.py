"""From a store and labels to a run, in this process."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from survey.labelling import samples
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import run as bundle
from survey.training.batches import read_places
from survey.training.loop import Loop
from survey.training.train import begin
from survey.training.worker import learn
from tests.training import lessons

ROOT = Path(__file__).resolve().parents[2]
Place = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with labels, and a finished run on it."""
    folder = tmp_path_factory.mktemp("lesson")
    lessons.store(folder / "store")
    trained(folder)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """The same store and labels, without a run."""
    (tmp_path / "store").symlink_to(made / "store")
    shutil.copy(made / "labels.csv", tmp_path)
    return tmp_path


def trained(folder: Path, **changes: Any) -> Path:
    settings = lessons.training(folder, **changes)
    if begin(settings):
        learn(settings)
    return Path(settings.run)


def weights(run: Path) -> str:
    return hashlib.sha256((run / bundle.MODEL).read_bytes()).hexdigest()


def test_a_run_learns_and_says_so(made: Path):
    rows = bundle.history(str(made / "run"))
    about = bundle.about_run(str(made / "run"))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["validation_loss"] < 0.75 * rows[0]["validation_loss"]
    assert about["validation"]["loss"] == min(row["validation_loss"] for row in rows)
    assert sum(part["spectra"] for part in about["parts"].values()) == lessons.STARS
    assert about["task"]["labels"] == ["FeH", "CFe"]
    assert about["units"] == {"FeH": "dex", "CFe": "dex"}


def test_a_run_predicts_in_a_fresh_process_from_its_folder_alone(made: Path, tmp_path: Path):
    shutil.copytree(made / "run", tmp_path / "moved")
    test = samples.read(str(made / "run")).part("test")
    spectra = read_places(open_store(str(made / "store")), test.place_N2, False)
    here = bundle.open_run(str(made / "run")).said(spectra)
    np.savez(tmp_path / "spectra.npz", flux=spectra.flux.numpy(), ivar=spectra.ivar.numpy())
    code = (
        "import sys, numpy as np, torch; from survey.training.run import open_run; from survey.training.batches import Spectra\n"
        "torch.set_num_threads(1); arrays = np.load('spectra.npz')\n"
        "said = open_run('moved').said(Spectra(torch.tensor(arrays['flux']), torch.tensor(arrays['ivar'])))\n"
        "np.savez('said.npz', **said)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    with np.load(tmp_path / "said.npz") as file:
        there = dict(file)
    assert set(there) == {"p", "mu", "latent"}
    for name, value in here.items():
        assert np.allclose(there[name], value, rtol=1e-5, atol=1e-6)
    assert np.abs(here["mu"] - test.label_NL).mean(0).max() < 0.5  # from a spread of 0.9


def test_a_finished_run_is_left_alone(made: Path):
    before = weights(made / "run")
    assert not begin(lessons.training(made))
    assert weights(made / "run") == before


def test_one_seed_gives_one_run_and_another_seed_another(made: Path, place: Path):
    assert weights(trained(place)) == weights(made / "run")
    assert weights(trained(place, run=str(place / "other"), seed=1)) != weights(made / "run")


def test_streaming_ends_as_resident_does(made: Path, place: Path):
    assert weights(trained(place, data="streaming")) == weights(made / "run")


def test_small_windows_stream_as_they_are_held(place: Path):
    one, two = (
        trained(place, data=data, window=60, epochs=2, run=str(place / data))
        for data in ("resident", "streaming")
    )
    assert weights(one) == weights(two)


class KilledError(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9, "schedule": {"name": "plateau", "patience": 0}, "augment": {"preset": "full"}},
        {
            "vary": {
                "probability": 0.5,
                "by": {"FeH": 0.3},
                "anew": {"probability": 0.3, "between": {"CFe": [0, 2]}},
            }
        },
    ],
)
def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(
    place: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    through = trained(place, run=str(place / "through"), **changes)
    finish = Loop._close

    def stop(self: Loop, row: dict[str, float]) -> None:
        finish(self, row)
        if self.state.epoch in (2, 5):
            raise KilledError

    monkeypatch.setattr(Loop, "_close", stop)
    for _ in range(2):
        with pytest.raises(KilledError):
            trained(place, **changes)
    resumed = trained(place, **changes)
    assert weights(resumed) == weights(through)
    for one, two in zip(*(bundle.history(str(run)) for run in (resumed, through)), strict=True):
        for name in one.keys() - {"seconds", "spectra_per_second"}:
            assert one[name] == pytest.approx(two[name], rel=0, abs=0, nan_ok=True), name


def test_parts_of_a_step_add_up_to_the_step(place: Path):
    options = {"components": 16, "hidden": 32, "dropout": 0.0}
    runs = [
        trained(place, run=str(place / str(parts)), accumulate=parts, options=options) for parts in (1, 4)
    ]
    one, two = (bundle.history(str(run))[-1]["validation_loss"] for run in runs)
    assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.parametrize("task", ["cls", "reg"])
def test_either_task_alone_learns(place: Path, task: str):
    losses = [row["validation_loss"] for row in bundle.history(str(trained(place, task=task)))]
    assert min(losses) < 0.8 * losses[0]


def test_sigmas_are_trained_by_their_likelihood(place: Path):
    run = bundle.open_run(str(trained(place, task="reg", loss={"reg": "gaussian_nll"}, epochs=12)))
    test = samples.read(run.path).part("test")
    said = run.said(read_places(open_store(str(place / "store")), test.place_N2, False))
    pull = (said["mu"] - test.label_NL) / said["sigma"]
    assert 0.3 < np.median(np.abs(pull)) < 1.5


def test_a_rare_class_can_be_drawn_more_often(place: Path):
    rows = bundle.history(str(trained(place, balance="balanced")))
    assert np.isfinite(rows[-1]["validation_f1_CEMP"])


def test_patience_ends_a_training(place: Path):
    rows = bundle.history(str(trained(place, epochs=40, patience=2, optimiser={"lr": 1e-2})))
    assert len(rows) < 40
    best = min(rows, key=lambda row: row["validation_loss"])
    assert len(rows) - best["epoch"] == 2
    assert bundle.about_run(str(place / "run"))["best_epoch"] == best["epoch"]


def test_fine_tuning_moves_only_what_is_free(made: Path, place: Path):
    fine = trained(
        place, before=str(made / "run"), freeze=["body"], join={"where": {"FeH": [-7, -1]}}, epochs=2
    )
    old, new = (bundle.open_run(str(run)).net.state_dict() for run in (made / "run", fine))
    for name, value in old.items():
        assert torch.equal(value, new[name]) == (not name.startswith("heads."))
    assert bundle.about_run(str(fine))["scaling"] == bundle.about_run(str(made / "run"))["scaling"]
    assert (samples.read(str(fine)).label_NL[:, 0] < -1).all()


def test_fine_tuning_with_some_of_the_labels_keeps_scaling_and_the_answers_of_all(made: Path, place: Path):
    """A table of real stars may know iron and nothing of carbon."""
    lines = [line.split(",") for line in (place / "labels.csv").read_text().splitlines()]
    kept = [lines[0].index(name) for name in ("obsid", "FeH")]
    (place / "iron.csv").write_text(
        "\n".join(",".join(line[column] for column in kept) for line in lines) + "\n"
    )
    fine = trained(
        place, before=str(made / "run"), labels=str(place / "iron.csv"), join={"classes": "none"}, epochs=2
    )
    about = bundle.about_run(str(fine))
    assert about["scaling"] == bundle.about_run(str(made / "run"))["scaling"]
    assert about["task"]["labels"] == ["FeH", "CFe"]
    assert np.isnan(samples.read(str(fine)).label_NL[:, 1]).all()
    assert all(np.isfinite(row["train_loss"]) for row in bundle.history(str(fine)))


def test_fine_tuning_refuses_another_split_and_unknown_parts(made: Path, place: Path):
    with pytest.raises(SettingsError, match="give the same one, or stars that it has seen would test it"):
        trained(place, before=str(made / "run"), split={"seed": 5})
    with pytest.raises(SettingsError, match="no part 'trunk'; there are body, difference, components"):
        trained(place, before=str(made / "run"), freeze=["trunk"])


def test_a_run_on_other_stars_may_be_gone_on_from_with_any_split(place: Path, tmp_path: Path):
    far = tmp_path / "far"
    far.mkdir()
    lessons.store(far / "store", seed=5, first=9000)
    before = trained(far, epochs=1)
    fine = trained(place, before=str(before), split={"folds": 5, "fold": 2, "stratify": True}, epochs=1)
    assert bundle.about_run(str(fine))["parts"]["test"]["spectra"] > 0


def test_no_star_that_an_earlier_run_saw_tests_a_later_one(place: Path):
    folds = {"stratify": True, "folds": 5, "fold": 2}
    first = trained(place, run=str(place / "first"), split=folds, epochs=1)
    seen = samples.read(str(first)).part("train").about["star"].to_pylist()
    for low, high in ((-7.0, -2.0), (-7.0, -1.5), (-2.0, 0.5)):
        later = trained(
            place,
            run=str(place / f"later{high}{low}"),
            before=str(first),
            split=folds,
            epochs=1,
            join={"where": {"FeH": [low, high]}},
        )
        for part in ("validation", "test"):
            assert not set(samples.read(str(later)).part(part).about["star"].to_pylist()) & set(seen)


def test_fine_tuning_takes_the_network_of_the_run_before_and_nothing_else(made: Path, place: Path):
    for changes, told in (
        ({"model": "starnet"}, "its model is prism, not starnet"),
        ({"scale": "robust"}, "its scale is standard, not robust"),
    ):
        with pytest.raises(SettingsError, match=told):
            trained(place, before=str(made / "run"), **changes)
        assert not (place / "run").exists()


def test_rare_stars_alone_can_be_fine_tuned_on_with_balanced_classes(made: Path, place: Path):
    run = trained(
        place,
        before=str(made / "run"),
        loss={"class_weights": "sqrt_balanced"},
        join={"where": {"FeH": [-7, -1]}},
        epochs=1,
    )
    assert bundle.about_run(str(run))["parts"]["train"]["NMP"] == 0


def test_frozen_batch_statistics_stay_as_they_are(place: Path):
    first = trained(place, run=str(place / "first"), model="bganet", options={}, epochs=1)
    later = trained(place, model="bganet", options={}, before=str(first), freeze=["body"], epochs=1)
    old, new = (bundle.open_run(str(run)).net.state_dict() for run in (first, later))
    running = [name for name in old if "running" in name]
    assert running
    for name in running:
        assert torch.equal(old[name], new[name])


def test_a_store_may_be_moved_while_a_run_is_under_way(place: Path):
    begin(lessons.training(place))
    (place / "store").rename(place / "elsewhere")
    settings = lessons.training(place, store=str(place / "elsewhere"))
    assert begin(settings)
    learn(settings)
    assert (place / "run" / bundle.RUN).exists()


def test_a_batch_as_large_as_all_that_a_balanced_epoch_brings_still_makes_steps(place: Path):
    for seed in range(3):
        assert bundle.history(
            str(
                trained(
                    place, run=str(place / str(seed)), balance="balanced", batch=1000, seed=seed, epochs=2
                )
            )
        )


def broken_store(folder: Path) -> Callable[..., Any]:
    """One good pixel of one training spectrum is infinite."""
    lessons.store(folder / "store")
    settings = lessons.training(folder)
    begin(settings)
    train = samples.read(settings.run).part("train")
    shutil.rmtree(settings.run)
    original = read_places

    def damaged(store: Any, places: Any, continuum: bool) -> Any:
        found = original(store, places, continuum)
        found.flux[(places == train.place_N2[3]).all(1), 20] = torch.inf
        return found

    return damaged


@pytest.mark.parametrize("nan", ["stop", "skip"])
def test_a_step_without_finite_gradients_is_told_or_left_out(
    tmp_path: Path, nan: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("survey.training.batches.read_places", broken_store(tmp_path))
    changes = {"nan": nan, "start": "plain"}
    if nan == "stop":
        with pytest.raises(
            JobError,
            match=r"epoch 1, step \d+, samples .*: the gradients are not finite: the spectra hold values .*nan=skip",
        ):
            trained(tmp_path, **changes)
        return
    about = bundle.about_run(str(trained(tmp_path, **changes)))
    assert about["skipped_steps"] == 6  # once in each epoch


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": "nowhere.csv"}, "nowhere.csv"),
        ({"targets": ["FeH", "EuFe"]}, "no column for EuFe"),
        ({"targets": ["Unobtainium"]}, "there is no label 'Unobtainium'"),
        ({"model": "mpbd"}, "there is no plugin 'mpbd'; there are"),
        ({"options": {"width": 3}}, "width: unknown setting"),
        ({"options": {"components": 500}}, "300 pixels are fewer"),
        ({"join": {"where": {"FeH": [-7, -1]}}}, "no spectrum of class NMP"),
        ({"monitor": "mae_Mg", "epochs": 1}, "there is no such metric; there are loss, accuracy"),
        ({"freeze": ["body"]}, "of a network that has learned nothing"),
        ({"batch": 15, "workers": 2}, "cannot be shared evenly by workers=2"),
        ({"before": "nowhere"}, "no run.json in it"),
        ({"split": {"parts": [0.7, 0.1, 0.1]}}, "split"),
        ({"split": {"parts": [0.8, 0.0, 0.2]}}, "leaves no validation part"),
        ({"monitor": "f1_CEMP", "task": "reg"}, "there is no such metric"),
        ({"learn_from": "train+validation"}, "nobody is left who says which epoch is best; give keep=last"),
        (
            {"learn_from": "train+validation", "keep": "last", "schedule": {"name": "plateau"}},
            "goes by validation, of which nothing is left",
        ),
        ({"keep": "last", "patience": 3}, "patience=3 stops by the best epoch"),
        (
            {"vary": {"probability": 0.5, "by": {"Teff": 50.0}}},
            "Teff: not among the labels that spectra are told by",
        ),
        (
            {
                "vary": {"probability": 0.5, "by": {"FeH": 0.1}, "order": 5},
                "targets": ["Teff", "logg", "FeH", "CFe"],
            },
            "too few to learn",
        ),
        ({"view": {"windows": [[8490, 8670]]}}, "no pixel of the grid, which goes from 4000 to 4598"),
    ],
)
def test_a_mistake_is_told_before_any_work(place: Path, changes: dict[str, Any], told: str):
    with pytest.raises((ValueError, FileNotFoundError, JobError), match=told):
        trained(place, **changes)
    assert not (place / "run").exists()


def test_when_all_is_chosen_a_run_learns_from_validation_too_and_keeps_its_last_epoch(
    made: Path, place: Path
):
    last = trained(place, learn_from="train+validation", keep="last", epochs=3)
    found, usual = samples.read(str(last)), samples.read(str(made / "run"))
    assert len(found.part("train")) == len(usual.part("train")) + len(usual.part("validation"))
    assert not len(found.part("validation"))
    assert (found.part("test").place_N2 == usual.part("test").place_N2).all()
    about = bundle.about_run(str(last))
    assert about["best_epoch"] == 3
    assert about["validation"] == {}


def test_the_last_epoch_is_kept_where_that_is_wanted(place: Path):
    about = bundle.about_run(str(trained(place, keep="last", optimiser={"lr": 3e-2})))
    assert about["best_epoch"] == about["epochs"] == 6


def test_a_run_sees_what_it_was_shown_wherever_it_is_asked(made: Path, place: Path):
    run = bundle.open_run(str(trained(place, view={"windows": [[4400, 4598]], "smooth": 5}, epochs=2)))
    some = read_places(open_store(str(made / "store")), samples.read(str(made / "run")).place_N2[:20], False)
    wanted = run.said(some)["mu"]
    hidden = run.grid.wave < 4400
    some.flux[:, hidden] = 5.0
    assert (run.said(some)["mu"] == wanted).all()
    some.flux[:, ~hidden] -= 0.1
    assert not np.allclose(run.said(some)["mu"], wanted)


def test_a_run_that_was_begun_before_a_setting_existed_goes_on(place: Path):
    settings = lessons.training(place)
    begin(settings)
    path = place / "run" / "settings.json"
    written = json.loads(path.read_text())
    for name in ("view", "growth", "vary", "keep", "learn_from"):
        del written["settings"][name]
    path.write_text(json.dumps(written))
    assert begin(settings)
    with pytest.raises(SettingsError, match="keep=best there, last now"):
        begin(lessons.training(place, keep="last"))


def test_a_growing_training_part_ends_with_all_of_it(place: Path):
    run = trained(place, growth={"first": 0.3, "epochs": 3}, epochs=4)
    seen = [row["spectra_per_second"] * row["seconds"] for row in bundle.history(str(run))]
    assert seen[0] < seen[-1]


def test_other_settings_on_a_run_are_refused_by_name(made: Path):
    with pytest.raises(SettingsError, match="epochs=6 there, 9 now; give these again, or another run="):
        begin(lessons.training(made, epochs=9))


def test_a_store_that_has_changed_is_refused(made: Path, place: Path):
    shutil.rmtree(place / "run", ignore_errors=True)
    settings = lessons.training(place)
    begin(settings)
    (place / "store").unlink()
    shutil.copytree(made / "store", place / "store")
    about = json.loads((place / "store" / "store.json").read_text())
    (place / "store" / "store.json").write_text(json.dumps(about | {"id": "grown"}))
    with pytest.raises(SettingsError, match=r"has changed since the run was begun .*; give a new run="):
        learn(settings)


def test_a_run_of_another_version_or_with_other_weights_is_refused(made: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    about = json.loads((run / bundle.RUN).read_text())
    (run / bundle.RUN).write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(ValueError, match="the run is of version 99, this code reads 1; train it anew"):
        bundle.open_run(str(run))
    (run / bundle.RUN).write_text(json.dumps(about))
    raw = bytearray((run / bundle.MODEL).read_bytes())
    raw[-1] ^= 1
    (run / bundle.MODEL).write_bytes(raw)
    with pytest.raises(ValueError, match="its checksum differs"):
        bundle.open_run(str(run))


def test_every_sample_is_written_with_its_part_and_labels(made: Path):
    table = pq.read_table(made / "run" / samples.SAMPLES)
    assert table.num_rows == lessons.STARS
    assert set(table["part"].to_pylist()) == {"train", "validation", "test"}
    assert {"shard", "row", "label_FeH", "error_FeH", "class_number", "about_obsid", "about_star"} <= set(
        table.column_names
    )
