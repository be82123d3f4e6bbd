"""The stars and visits of a mock survey."""

import numpy as np
import pytest

from survey.labels import classes
from survey.mock import population


def table(balance: str = "reference", visits: float = 0.15, blocks: int = 5) -> dict[str, np.ndarray]:
    parts = [
        population.block(population.StarSettings(3, balance, visits), number) for number in range(blocks)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_reference_balance_is_that_of_the_published_set() -> None:
    found = np.bincount(table(visits=0.0)["f_CEMP"], minlength=3)
    wanted = 5000 * np.array([4865, 167, 4723]) / 9755
    assert np.abs(found - wanted).max() <= 4


def test_the_balanced_survey_has_a_third_of_each_class() -> None:
    assert np.abs(np.bincount(table("balanced", visits=0.0)["f_CEMP"]) - 5000 / 3).max() <= 4


def test_of_a_survey_four_in_a_hundred_stars_are_metal_poor() -> None:
    found = np.bincount(table("survey", visits=0.0)["f_CEMP"], minlength=3)
    assert np.abs(found - np.array([190, 10, 4800])).max() <= 4


@pytest.mark.parametrize("balance", ["reference", "balanced", "survey"])
def test_classes_follow_from_the_labels(balance: str) -> None:
    found = table(balance)
    assert (classes(found["FeH"], found["CFe"]) == found["f_CEMP"]).all()
    assert (found["FeH"][found["f_CEMP"] == 1] < -1).all()
    assert (found["CFe"][found["f_CEMP"] == 1] >= 0.7).all()
    assert (found["FeH"][found["f_CEMP"] == 2] >= -1).all()
    assert np.abs(found["CH"] - found["FeH"] - found["CFe"]).max() < 2e-4


def test_labels_are_spread_like_those_of_the_reference_set() -> None:
    found = table(visits=0.0)
    wanted = {
        "Teff": (4930, 560, 60, 90),
        "logg": (2.7, 1.1, 0.15, 0.15),
        "FeH": (-0.88, 0.67, 0.05, 0.06),
        "CFe": (-0.06, 0.29, 0.05, 0.05),
    }
    for name, (mean, spread, mean_off, spread_off) in wanted.items():
        assert found[name].mean() == pytest.approx(mean, abs=mean_off), name
        assert found[name].std() == pytest.approx(spread, abs=spread_off), name
    assert (found["logg"] < 3.7).mean() > 0.7
    assert np.corrcoef(found["FeH"], found["MgFe"])[0, 1] < -0.5
    assert np.median(found["snr"]) == pytest.approx(32, abs=3)


def test_visits_of_a_star_share_its_labels_and_fibre_but_not_the_night() -> None:
    found = table(visits=0.5)
    repeated = [
        np.flatnonzero(found["star"] == name) for name in np.unique(found["star"][found["nth"] > 0])[:50]
    ]
    for rows in repeated:
        assert 2 <= len(rows) <= 4
        assert len(set(found["lmjd"][rows])) == len(set(found["planid"][rows])) == len(rows)
        for name in (*population.LABELS, "ra", "dec", "rv", "spid", "fiberid"):
            assert len(set(found[name][rows].tolist())) == 1


def test_the_share_of_stars_with_repeats_is_as_given() -> None:
    found = table(visits=0.15)
    names, counts = np.unique(found["star_index"], return_counts=True)
    assert (counts > 1).mean() == pytest.approx(0.15, abs=0.03)
    assert len(names) == len(np.unique(found["star"]))


def test_no_two_files_share_a_fibre_of_a_plan() -> None:
    found = table(visits=0.4)
    places = set(
        zip(found["plan_number"].tolist(), found["spid"].tolist(), found["fiberid"].tolist(), strict=True)
    )
    assert len(places) == 5000
    assert found["spid"].max() <= 16
    assert found["fiberid"].max() <= 250
    assert np.bincount(table()["plan_number"]).max() > 2500


def test_a_position_has_the_designation_that_the_survey_would_give_it() -> None:
    assert population.designation(99.855658, 28.029314) == "LAMOST J063925.35+280145.5"
    assert population.designation(138.080956, 27.893459) == "LAMOST J091219.42+275336.4"
    assert population.designation(332.535456, -2.116436).startswith("LAMOST J221008.50-0206")


def test_each_sequence_is_spread_evenly_over_the_parts_of_every_other() -> None:
    """Defects of images followed the sequence of the classes, so that all fell into two of seven classes."""
    count, purposes = 20_000, range(len(population.GOLDEN))
    spread = [population.even_spread(0, purpose, 0, count) for purpose in purposes]
    for one in purposes:
        is_rare = spread[one] < 0.02
        for other in set(purposes) - {one}:
            per_class = np.bincount((spread[other][is_rare] * 7).astype(int), minlength=7)
            assert per_class.min() > 0.6 * is_rare.sum() / 7, (one, other, per_class)
