"""Scaling of labels, against scikit-learn."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from survey.training.scaling import KINDS, Scaler, Scaling, fit_scaling

NAMES = ("Teff", "FeH")


def labels(seed: int = 0, holes: bool = True) -> NDArray[np.float64]:
    """Labels of 50 stars; with holes, a fifth of them is missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal([5000, -1], [600, 0.7], (50, 2))
    if holes:
        values[rng.random(values.shape) < 0.2] = np.nan
    return values


@pytest.mark.parametrize(
    ("kind", "theirs"), [("standard", StandardScaler), ("minmax", MinMaxScaler), ("robust", RobustScaler)]
)
@pytest.mark.parametrize("holes", [False, True])
def test_a_scaling_is_that_of_scikit_learn(kind: Scaler, theirs: type, holes: bool) -> None:
    values = labels(holes=holes)
    expected = theirs().fit_transform(values)
    assert fit_scaling(kind, values, NAMES).scale(values) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)))
def test_scaling_and_back_gives_the_same_labels_and_errors(seed: int, kinds: tuple[Scaler, Scaler]) -> None:
    values = labels(seed)
    scaling = fit_scaling(kinds, values, NAMES)
    assert scaling.unscale(scaling.scale(values)) == pytest.approx(values, rel=1e-12, nan_ok=True)
    errors = abs(values)
    assert scaling.unscale_errors(scaling.scale_errors(errors)) == pytest.approx(
        errors, rel=1e-12, nan_ok=True
    )
    step = scaling.scale(values + 0.1) - scaling.scale(values)
    expected = scaling.scale_errors(np.where(np.isnan(values), np.nan, 0.1))
    assert step == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaling_survives_json_to_the_last_bit(kind: Scaler) -> None:
    scaling = fit_scaling(kind, labels(), NAMES)
    again = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    assert (again.labels, again.kinds) == (scaling.labels, scaling.kinds)
    assert (again.center_L == scaling.center_L).all()
    assert (again.scale_L == scaling.scale_L).all()


def test_none_leaves_labels_as_they_are() -> None:
    assert fit_scaling("none", labels(), NAMES).scale([[3.0, 4.0]]).tolist() == [[3, 4]]


def test_no_labels_need_no_scaling() -> None:
    assert fit_scaling("standard", np.empty((5, 0)), ()).scale(np.empty((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
@pytest.mark.parametrize("constant", [0.1, 0.0, 5000.0])
def test_a_constant_label_is_an_error_that_names_it(kind: Scaler, constant: float) -> None:
    values = labels()
    values[:, 1] = constant
    values[0, 1] += 1e-12
    message = r"scaling: FeH: all 50 values of the training part are .*; leave it out of the labels"
    with pytest.raises(ValueError, match=message):
        fit_scaling(kind, values, NAMES)


def test_robust_scaling_of_a_label_that_is_mostly_one_value_is_an_error() -> None:
    values = labels(holes=False)
    values[:40, 0] = 4000.0
    message = r"scaling: Teff: half of 50 values are 4000, .*; give scale=standard"
    with pytest.raises(ValueError, match=message):
        fit_scaling("robust", values, NAMES)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_too_few_values_are_an_error_that_counts_them(count: int, kind: Scaler) -> None:
    values = labels(holes=False)
    values[count:, 1] = np.nan
    message = rf"scaling: FeH: {count} values in the training part, at least 2 are needed; label more stars"
    with pytest.raises(ValueError, match=message):
        fit_scaling(kind, values, NAMES)


def test_arrays_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling: an array of shape \(4, 3\) for the labels Teff, FeH"):
        fit_scaling("standard", labels(), NAMES).scale(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"scaling: values of shape \(50, 2\) and 1 kinds for 1 labels"):
        fit_scaling("standard", labels(), ("Teff",))


WRONG: list[dict[str, Any]] = [
    {"FeH": {"kind": "standard"}},
    {"FeH": 3},
    {"FeH": {"kind": "x", "center": 0, "scale": 1}},
    {"FeH": {"kind": "none", "center": 0, "scale": 0}},
]


@pytest.mark.parametrize("values", WRONG)
def test_a_document_that_is_no_scaling_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scaling: .*FeH"):
        Scaling.from_dict(values)
