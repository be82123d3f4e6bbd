"""Scaling of labels, against scikit-learn."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from survey.training.scaling import KINDS, Scaler, Scaling, fit

NAMES = ("Teff", "FeH")


def values(seed: int = 0, holes: bool = True) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = random.normal([5000, -1], [600, 0.7], (50, 2))
    if holes:
        made[random.random(made.shape) < 0.2] = np.nan
    return made


@pytest.mark.parametrize(
    ("kind", "other"), [("standard", StandardScaler), ("minmax", MinMaxScaler), ("robust", RobustScaler)]
)
def test_a_scaling_is_that_of_scikit_learn(kind: Scaler, other: type) -> None:
    for holes in (False, True):
        made = values(holes=holes)
        assert fit(kind, made, NAMES).scaled(made) == pytest.approx(
            other().fit_transform(made), rel=1e-9, nan_ok=True
        )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)))
def test_scaling_and_back_gives_the_same_labels_and_errors(seed: int, kinds: tuple[Scaler, Scaler]) -> None:
    made = values(seed)
    scaling = fit(kinds, made, NAMES)
    assert scaling.unscaled(scaling.scaled(made)) == pytest.approx(made, rel=1e-12, nan_ok=True)
    assert scaling.errors_unscaled(scaling.errors_scaled(abs(made))) == pytest.approx(
        abs(made), rel=1e-12, nan_ok=True
    )
    step = scaling.scaled(made + 0.1) - scaling.scaled(made)
    assert step == pytest.approx(
        scaling.errors_scaled(np.where(np.isnan(made), np.nan, 0.1)), rel=1e-6, nan_ok=True
    )
    again = Scaling.of(json.loads(json.dumps(scaling.as_dict())))
    assert (again.labels, again.kinds) == (scaling.labels, scaling.kinds)
    assert (again.center_L == scaling.center_L).all()
    assert (again.scale_L == scaling.scale_L).all()


def test_none_leaves_labels_as_they_are() -> None:
    assert fit("none", values(), NAMES).scaled([[3.0, 4.0]]).tolist() == [[3, 4]]


def test_no_labels_need_no_scaling() -> None:
    assert fit("standard", np.empty((5, 0)), ()).scaled(np.empty((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_a_constant_label_is_an_error_that_names_it(kind: Scaler) -> None:
    for constant in (0.1, 0.0, 5000.0):
        made = values()
        made[:, 1] = constant
        made[0, 1] += 1e-12
        with pytest.raises(
            ValueError,
            match=r"scaling: FeH: all 50 values of the training part are .*; leave it out of the labels",
        ):
            fit(kind, made, NAMES)


def test_robust_scaling_of_a_label_that_is_mostly_one_value_is_an_error() -> None:
    made = values(holes=False)
    made[:40, 0] = 4000.0
    with pytest.raises(
        ValueError, match=r"scaling: Teff: half of 50 values are 4000, .*; give scale=standard"
    ):
        fit("robust", made, NAMES)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_values_are_an_error_that_counts_them(count: int) -> None:
    made = values(holes=False)
    made[count:, 1] = np.nan
    for kind in KINDS:
        with pytest.raises(
            ValueError, match=rf"scaling: FeH: {count} values in the training part; label at least 2 stars"
        ):
            fit(kind, made, NAMES)


def test_arrays_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling: an array of shape \(4, 3\) for the labels Teff, FeH"):
        fit("standard", values(), NAMES).scaled(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"scaling: values of shape \(50, 2\) and 1 kinds for 1 labels"):
        fit("standard", values(), ("Teff",))


WRONG: list[dict[str, Any]] = [
    {"FeH": {"kind": "standard"}},
    {"FeH": 3},
    {"FeH": {"kind": "x", "center": 0, "scale": 1}},
    {"FeH": {"kind": "none", "center": 0, "scale": 0}},
]


@pytest.mark.parametrize("about", WRONG)
def test_what_is_no_scaling_is_refused(about: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scaling: .*FeH"):
        Scaling.of(about)
