"""A comparison as people read it: every difference with its interval, and what it says."""

import numpy as np
import pytest

from survey.evaluate.compare import table
from survey.metrics.score import Evaluation, Judged
from survey.reports.compare import pictures, summary
from tests.reports.sketches import sketch

ABOUT = {"left_out": {"two": 3, "three": 0}, "alone": {"three": ["Teff"]}}


def judged(scale: float, names: tuple[str, ...] = ("FeH",), size: int = 200) -> Judged:
    dice = np.random.default_rng(0)
    truth, error = dice.normal(-1, 0.5, (size, len(names))), dice.normal(0, 0.2, (size, len(names)))
    classes = dice.integers(0, 3, size)
    return Judged(
        classes,
        truth,
        names,
        np.eye(3)[classes],
        truth + scale * error,
        about={"snr": dice.uniform(0, 60, size)},
    )


def compared(**judged_of: Judged) -> tuple:
    size = len(next(iter(judged_of.values())))
    found = table(judged_of, [str(number) for number in range(size)], Evaluation())
    return found, summary(found, ABOUT)


def test_better_and_worse_are_said_with_their_intervals() -> None:
    found, text = compared(one=judged(1.0), two=judged(0.5), three=judged(1.5))
    assert "set against one by 200 spectra of 200 stars" in text
    assert "two has seen 3 of those of the first one: left out" in text
    assert "three has seen" not in text
    assert "three alone tells Teff: not compared" in text
    row, other = (
        next(line for line in text.splitlines() if line.split()[:2] == [who, "200"])
        for who in ("two", "three")
    )
    assert row.endswith("better")
    assert other.endswith("worse")
    assert " ↓" in text
    assert " ↑" in text
    assert "accuracy" in text
    told = next(
        one for one in found.to_pylist() if (one["kind"], one["who"], one["metric"]) == ("all", "two", "mae")
    )
    assert f"{told['difference']:+.3f} [{told['difference_low']:+.3f}, {told['difference_high']:+.3f}]" in row


def test_the_same_answers_are_not_called_better_or_worse() -> None:
    _, text = compared(one=judged(1.0), two=judged(1.0))
    assert not any(line.endswith(("better", "worse")) for line in text.splitlines())


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("names", [("FeH",), ("FeH", "Teff", "logg", "CFe")])
def test_few_spectra_and_many_labels_are_drawn(
    size: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch(monkeypatch)
    found, text = compared(one=judged(1.0, names, size), two=judged(0.5, names, size))
    assert set(pictures(found)) == {"against", "against_snr"}
    assert "nan" not in text


def test_a_comparison_is_a_png() -> None:
    found, _ = compared(one=judged(1.0), two=judged(0.5))
    assert all(data.startswith(b"\x89PNG") for data in pictures(found).values())


def test_nothing_to_compare_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch(monkeypatch)
    unknown = Judged(np.full(4, -1), np.full((4, 1), np.nan), ("FeH",), mu_NL=np.zeros((4, 1)))
    found, text = compared(one=unknown, two=unknown)
    assert pictures(found) == {}
    assert "no spectrum has a label or a class that they tell" in text
