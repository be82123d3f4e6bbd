"""What is planned before the first step, and which settings are refused then."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from survey.labelling import samples
from survey.settings import JobError, SettingsError
from survey.training import run as runs
from survey.training.train import describe, plan
from tests.training import lessons

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"labels": "nowhere.csv"}, "nowhere.csv"),
    ({"targets": ["FeH", "EuFe"]}, "no column for EuFe"),
    ({"options": {"components": 500}}, "300 pixels, fewer than options.components=500"),
    ({"join": {"where": {"FeH": [-7, -1]}}}, "no spectrum of class NMP"),
    (
        {"monitor": "mae_Mg", "epochs": 1},
        "monitor=mae_Mg: there is no such metric; did you mean mae_",
    ),
    ({"monitor": "f1_CEMP", "task": "reg"}, "there is no such metric"),
    ({"start_from": "nowhere"}, "nowhere: no such folder, so no finished run; give the folder of one"),
    ({"view": {"windows": [[8490, 8670]]}}, "no pixel .*4000"),
    ({"regions": {"probability": 0.5, "ranges": [[8490, 8670]]}}, "regions.ranges: 8490 to 8670: no pixel"),
    ({"residuals": {"probability": 0.5}}, "residuals: 0 training spectra of the main source have Teff"),
    (
        {"sources": {name: {"store": "s", "labels": "l", "share": 0.5} for name in "ab"}},
        "sources: the shares add up to 1; give less than 1 in all",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_mistake_is_reported_before_anything_is_written(
    place: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError, JobError), match=message):
        plan(lessons.training(place, **changes))
    assert not (place / "run").exists()


def test_a_finished_run_is_left_alone(finished: Path) -> None:
    before = (finished / "run" / runs.MODEL).read_bytes()
    assert not plan(lessons.training(finished))
    assert (finished / "run" / runs.MODEL).read_bytes() == before


def test_other_settings_on_a_run_are_refused_key_by_key(finished: Path) -> None:
    settings = lessons.training(finished, epochs=9, optimiser={"lr": 1e-2})
    with pytest.raises(SettingsError) as error:
        plan(settings)
    assert "epochs=6 there, 9 now" in str(error.value)
    assert "optimiser.lr=0.003 there, 0.01 now" in str(error.value)
    assert "weight_decay" not in str(error.value)


def test_settings_that_do_not_change_the_result_may_differ(finished: Path) -> None:
    assert not plan(lessons.training(finished, threads="auto", data="streaming", window=8192))


def test_a_run_that_was_begun_before_a_setting_existed_continues(place: Path) -> None:
    settings = lessons.training(place)
    plan(settings)
    path = place / "run" / "settings.json"
    written = json.loads(path.read_text())
    for name in ("view", "curriculum", "synthesis", "keep", "learn_from"):
        del written["settings"][name]
    path.write_text(json.dumps(written))
    assert plan(settings)
    with pytest.raises(SettingsError, match="keep=best there, last now"):
        plan(lessons.training(place, keep="last"))


def test_a_plan_that_was_stopped_half_way_is_made_again(place: Path) -> None:
    settings = lessons.training(place)
    plan(settings)
    (place / "run" / "settings.json").unlink()
    assert plan(settings)
    assert (place / "run" / "settings.json").exists()


def test_a_folder_with_other_files_is_refused(place: Path) -> None:
    (place / "run").mkdir()
    (place / "run" / "thesis.tex").write_text("")
    with pytest.raises(SettingsError, match=r"thesis\.tex"):
        plan(lessons.training(place))


def test_every_labelled_spectrum_is_written_with_its_part_and_labels(finished: Path) -> None:
    table = pq.read_table(finished / "run" / samples.SAMPLES)
    assert table.num_rows == lessons.STARS
    assert set(table["part"].to_pylist()) == {"train", "validation", "test"}
    columns = {"shard", "row_in_shard", "label_FeH", "error_FeH", "class_number", "extra_obsid", "extra_star"}
    assert columns <= set(table.column_names)


def test_a_run_can_learn_from_the_validation_part_too(finished: Path, place: Path) -> None:
    last = lessons.train(place, learn_from="train+validation", keep="last", epochs=3)
    labelled, usual = samples.read(str(last)), samples.read(str(finished / "run"))
    assert len(labelled.part("train")) == len(usual.part("train")) + len(usual.part("validation"))
    assert not len(labelled.part("validation"))
    assert (labelled.part("test").shard_row_N2 == usual.part("test").shard_row_N2).all()
    document = runs.run_document(str(last))
    assert document.best_epoch == 3
    assert document.validation == {}


def test_without_any_class_in_the_table_labels_alone_are_learned(place: Path) -> None:
    table = pd.read_csv(place / "labels.csv")
    table = table[[name for name in table.columns if name not in ("class", "CFe", "CH")]]
    table.to_csv(place / "no_carbon.csv", index=False)
    settings = lessons.training(
        place, labels=str(place / "no_carbon.csv"), run=str(place / "no_carbon"), targets=["Teff", "FeH"]
    )
    assert settings.task == "cls_reg"
    assert "task     reg: no row of the table decides a class" in describe(settings)
    assert not (place / "no_carbon").exists()
    plan(settings)
    assert runs.read_plan(settings.run).task.kind == "reg"


def test_classes_may_have_any_name_and_are_counted_by_it(place: Path) -> None:
    table = pd.read_csv(place / "labels.csv")
    table["class"] = ["stars" if feh < -1 else "spectra" for feh in table["FeH"]]
    table.to_csv(place / "objects.csv", index=False)
    settings = lessons.training(
        place,
        labels=str(place / "objects.csv"),
        run=str(place / "objects"),
        task="cls",
        join={"classes": "class", "class_names": ["stars", "spectra"]},
    )
    plan(settings)
    parts = runs.read_plan(settings.run).parts
    totals = {name: sum(part.classes[name] for part in parts.values()) for name in ("stars", "spectra")}
    assert totals == table["class"].value_counts().to_dict()
    assert sum(part.spectra for part in parts.values()) == len(table)


def test_a_network_that_needs_continua_is_refused_before_the_training_if_there_are_none(place: Path) -> None:
    message = "model=freqinception: needs continua, the store .* has none; ingest with prepare.continuum=dual"
    with pytest.raises(SettingsError, match=message):
        plan(lessons.training(place, model="freqinception", options={}))
    assert not (place / "run" / "plan.json").exists()
