"""show=plan: what a job would take, measured on a part of its own work; its folders stay as they are."""

import re
from pathlib import Path
from typing import Any

import pytest

from survey import machine
from survey.ensemble.settings import Build
from survey.estimate import shard_work
from survey.estimate.cost import Cost, Requests, size_text
from survey.estimate.settings import Prices
from survey.estimate.shard_work import estimate_ingest, estimate_prediction
from survey.estimate.training_work import estimate_ensemble, estimate_search, estimate_training
from survey.settings import SettingsError
from survey.store.ingest import ingest
from tests.commands import survey
from tests.ensemble import small_runs
from tests.predict import small_predictions
from tests.search import sweeps
from tests.status.test_status import contents, ingest_settings, stopped_after
from tests.training import lessons

QUICK = Prices.from_dict("plan", {"seconds": 0.2, "workers": 2})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, its labels, and a run."""
    return small_runs.place(tmp_path_factory.mktemp("toys"), "both")


def test_the_estimate_of_an_ingest_has_its_shards_and_its_bytes(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    before = contents(tmp_path)
    cost = estimate_ingest(settings, QUICK)
    assert contents(tmp_path) == before
    shards = ingest(settings).document.shards
    assert cost.work.startswith(f"{shards} of {shards} shards")
    sizes = [path.stat().st_size for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert cost.bytes_read == pytest.approx(sum(sizes), rel=0.2)
    tables = [
        path for kind in ("spectra", "refused", "markers") for path in Path(settings.store, kind).iterdir()
    ]
    assert cost.bytes_written == pytest.approx(sum(path.stat().st_size for path in tables), rel=0.2)
    assert cost.seconds > 0
    assert cost.requests == Requests()


def test_only_what_is_left_of_an_ingest_is_estimated(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    total = estimate_ingest(settings, QUICK)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, stopped_after(2))
    left = estimate_ingest(settings, QUICK)
    shards = int(total.work.split()[0])
    assert left.work.startswith(f"{shards - 2} of {shards} shards")
    assert left.bytes_read is not None
    assert total.bytes_read is not None
    assert left.bytes_read == pytest.approx(total.bytes_read * (shards - 2) / shards)


def test_the_estimate_of_a_prediction_leaves_the_run_and_the_output_as_they_are(place: Path) -> None:
    settings = small_predictions.settings(place, ensemble=str(place / "both"))
    before = contents(place)
    cost = estimate_prediction(settings, QUICK)
    assert contents(place) == before
    assert cost.work.startswith("6 of 6 shards")
    tables = sum(path.stat().st_size for path in (place / "store" / "spectra").iterdir())
    assert cost.bytes_read == pytest.approx(tables)


def test_the_estimate_of_a_training_counts_its_spectra(place: Path) -> None:
    settings = lessons.training(place, run=str(place / "new"), epochs=40, split=small_runs.SPLIT)
    before = contents(place)
    cost = estimate_training(settings, QUICK)
    assert contents(place) == before
    assert cost.work.startswith("40 epochs of ")
    twice = estimate_training(settings.model_copy(update={"epochs": 4000}), QUICK)
    assert twice.seconds > 10 * cost.seconds


def test_an_ensemble_is_the_sum_of_its_members_and_a_search_of_its_trials(
    place: Path, tmp_path: Path
) -> None:
    training = lessons.training(place, run="", epochs=40, split=small_runs.SPLIT)
    train = {name: getattr(training, name) for name in training.model_fields_set - {"run", "store", "labels"}}
    values: dict[str, Any] = {"ensemble": str(tmp_path / "team"), "seeds": 3, "train": train}
    values |= {"store": str(place / "store"), "labels": training.labels}
    build = Build.from_dict("ensemble", values)
    cost = estimate_ensemble(build, QUICK)
    assert cost.work.startswith("3 × 40 epochs")
    with pytest.raises(SettingsError, match="1 finished runs are combined, nothing is trained"):
        estimate_ensemble(Build.from_dict("ensemble", {"ensemble": "x", "runs": ["y"]}), QUICK)
    space = sweeps.write_space(tmp_path)
    search = sweeps.search_settings(place, tmp_path, space=str(space), labels=training.labels, seeds=2)
    cost = estimate_search(search, QUICK)
    assert cost.work == "1 × 10 trainings (4 trials, the rest with other seeds)"
    assert not (tmp_path / "team").exists()
    assert not (tmp_path / "study").exists()


def test_members_of_several_workers_take_the_time_of_each(place: Path, tmp_path: Path) -> None:
    training = lessons.training(place, run="", epochs=40, split=small_runs.SPLIT)
    train = {name: getattr(training, name) for name in training.model_fields_set - {"run", "store", "labels"}}
    values: dict[str, Any] = {"ensemble": str(tmp_path / "team"), "seeds": 3, "train": train}
    values |= {"store": str(place / "store"), "labels": training.labels}
    cost = estimate_ensemble(Build.from_dict("ensemble", values), QUICK)
    assert cost.workers == 2
    times = re.findall(r"([0-9.e+-]+) s per epoch", cost.measured)
    assert cost.hours * 3600 == pytest.approx(3 * 40 * float(times[0]) / 2, rel=0.01)


def test_workers_without_gpus_share_the_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lessons.training(place, run="", epochs=40, split=small_runs.SPLIT, workers=4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    alone = estimate_training(settings, Prices(seconds=0.2))
    assert (alone.workers, alone.cpus) == (1, machine.cpus())
    assert "4 workers here are as fast" in alone.assumed[-1]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    many = estimate_training(settings, Prices(seconds=0.2))
    assert (many.workers, many.cpus) == (4, machine.cpus())


def test_few_shards_are_made_by_one_worker_and_each_gpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machine, "cpus", lambda: 16)
    measured = shard_work._Measured(1, 100, 1.0)

    def planned(shards: int, gpus: int = 0) -> Cost:
        return shard_work._cost(shards, 100 * shards, 0, measured, None, Prices(), gpus)

    assert [planned(shards).workers for shards in (2, 100)] == [1, 16]
    assert planned(100, gpus=1).workers == 1
    assert any("a worker is a GPU" in text for text in planned(100, gpus=1).assumed)


def test_a_baseline_has_no_steps_to_measure(place: Path) -> None:
    settings = lessons.training(place, model="ridge", options={}, run=str(place / "new"))
    with pytest.raises(SettingsError, match="model=ridge: is fitted at once"):
        estimate_training(settings, QUICK)


def test_dollars_are_hours_and_requests_times_their_prices() -> None:
    requests = Requests(get=2_000_000, put=3000, list=1000)
    cost = Cost("", "", seconds=7200.0, workers=4, cpus=2, requests=requests)
    prices = Prices(cpu_hour=0.5, get_1000=0.001, put_1000=0.01)
    assert (cost.hours, cost.cpu_hours) == (0.5, 4.0)
    assert requests.dollars(prices) == pytest.approx(2.0 + 0.04)
    assert "dollars   4.04 = 2.00 CPUs + 2.04 requests" in cost.text(prices)
    assert "plan.cpu_hour=0.5 plan.get_1000=0.001 plan.put_1000=0.01" in cost.text(prices)
    assert [size_text(count) for count in (12, 3400, 5.6e12, 7e16)] == [
        "12 bytes",
        "3.4 kB",
        "5.6 TB",
        "7e+04 TB",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "input=in", "store=s", "show=plan", "plan.wrokers=3"], "did you mean workers?"),
        (["ingest", "input=in", "store=s", "show=plan", "plan.cpu_hour=-1"], "greater than or equal to 0"),
        (
            ["catalog", "predictions=x", "catalog=y", "show=plan"],
            "is for ingest, train, tune, ensemble, predict",
        ),
        (["ingest", "input=in", "store=s", "show=plans"], "or show=plan for the time that it would take"),
    ],
)
def test_a_mistake_in_an_estimate_is_a_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    ended = survey(*arguments, cwd=tmp_path)
    assert ended.returncode == 1
    assert message in ended.stderr


def test_show_plan_prints_an_estimate_and_makes_nothing(tmp_path: Path) -> None:
    settings = ingest_settings(tmp_path)
    done = survey(
        "ingest",
        f"input={settings.input}",
        "store=s",
        "shard=4",
        "show=plan",
        "plan.seconds=0.1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing was done (show=plan)\n")
    assert not (tmp_path / "s").exists()
