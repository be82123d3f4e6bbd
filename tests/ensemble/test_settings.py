"""The settings of an ensemble on the command line."""

import pytest

from survey.arguments import load
from survey.ensemble.settings import Build
from survey.settings import SettingsError

GIVEN = ["abundances", "ensemble=new", "runs=[a,b]"]


def test_seeds_and_members_of_a_recipe_stay_there_beside_finished_runs() -> None:
    settings = load(Build, "ensemble", GIVEN)
    assert (settings.runs, settings.seeds) == (("a", "b"), 5)


@pytest.mark.parametrize("item", ["seeds=5", "ensemble.seeds=3", "members=[{}]", "train.epochs=3"])
def test_settings_of_trainings_are_refused_beside_finished_runs(item: str) -> None:
    name = item.removeprefix("ensemble.").partition("=")[0].partition(".")[0]
    message = f"^ensemble: {name}: is not used beside runs=; leave out {name}=, or runs=$"
    with pytest.raises(SettingsError, match=message):
        load(Build, "ensemble", [*GIVEN, item])
