"""Pictures of answers beside the truth: that there are those that the answers allow, and what the numbers in them are."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from survey import labels
from survey.metrics.score import Judged
from survey.reports import class_plots, kiel_plots, label_plots, style
from survey.reports.evaluation_plots import pictures
from tests.reports.sketches import sketch

NAMES = ("FeH", "CFe", "Teff", "logg")
TOGETHER = {"coverage", "snr", "kiel", "carbon", "kiel_FeH", "kiel_CFe"}
OF_CLASSES = {"confusion", "curves", "reliability"}


def judged(size: int, seed: int = 0) -> Judged:
    rng = np.random.default_rng(seed)
    label = np.stack(
        [
            rng.uniform(-3.5, 0.3, size),
            rng.normal(0.3, 0.5, size),
            rng.uniform(4000, 6500, size),
            rng.uniform(1, 5, size),
        ],
        1,
    )
    mu = label + rng.standard_t(4, label.shape) * [0.1, 0.1, 80, 0.2]
    truth = labels.classes(label[:, 0], label[:, 1])
    p = np.eye(3)[labels.classes(mu[:, 0], mu[:, 1])] * 0.8 + 0.2 / 3
    about = {"snr_g": rng.lognormal(3, 1, size), "layout": np.full(size, "new")}
    return Judged(truth, label, NAMES, p, mu, np.ones(label.shape) * [0.1, 0.1, 80, 0.2], about=about)


def size_of(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


DRAWN = {
    "confusion": class_plots.confusions,
    "curves": class_plots.curves,
    "reliability": class_plots.calibration,
    "label": lambda some: label_plots.of_label(some, "FeH"),
    "coverage": label_plots.coverage,
    "snr": label_plots.by_snr,
    "kiel": kiel_plots.kiel,
    "carbon": kiel_plots.carbon,
    "abundance": lambda some: kiel_plots.abundance(some, "CFe"),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("size", [12, style.CROWD + 1])
def test_every_picture_is_a_png_of_few_and_of_many_spectra(name: str, size: int) -> None:
    data = DRAWN[name](judged(size))
    assert data is not None
    assert min(size_of(data)) > 500


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are put together, not rendered, which is what takes the time."""
    sketch(monkeypatch)


@pytest.mark.usefixtures("sketched")
def test_answers_make_the_pictures_that_they_allow() -> None:
    whole = judged(40)
    assert set(pictures(whole, "aoki2007")) == OF_CLASSES | {f"label_{name}" for name in NAMES} | TOGETHER
    assert set(pictures(replace(whole, mu_NL=None, sigma_NL=None))) == OF_CLASSES
    two = replace(
        whole,
        p_NC=None,
        sigma_NL=None,
        labels=("FeH", "CFe"),
        label_NL=whole.label_NL[:, :2],
        mu_NL=np.zeros((40, 2)),
        about={},
    )
    assert set(pictures(two)) == {"confusion", "label_FeH", "label_CFe"}


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("size", [1, 2, 5])
def test_few_spectra_and_missing_truths_are_no_trouble(size: int) -> None:
    some = judged(size)
    assert "confusion" in pictures(some)
    assert pictures(some.of(np.zeros(size, bool))) == {}
    label = some.label_NL.copy()
    label[:, 0] = np.nan
    assert "label_FeH" not in pictures(replace(some, label_NL=label, class_N=np.full(size, -1)))


@pytest.mark.usefixtures("sketched")
def test_a_perfect_answer_can_be_drawn() -> None:
    some = judged(30)
    assert set(pictures(replace(some, mu_NL=some.label_NL))) >= {"label_Teff", "coverage", "snr", "carbon"}


def test_running_bins_hold_enough_points_and_reach_into_the_tail() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(0, 0.2, 2000), np.linspace(1, 2, 40)])
    middle, bounds = label_plots.running(x, 3 * x, least=15)
    assert middle[-1] > 1.5
    assert (np.diff(middle) > 0).all()
    assert np.allclose(bounds[:, 1], 3 * middle)
    assert label_plots.running(x[:10], x[:10], least=15)[1].shape == (0, 3)
    assert len(label_plots.running(np.zeros(100), np.ones(100))[0]) == 1


def test_classes_without_a_search_are_each_set_against_the_others() -> None:
    stars = Judged(np.array([0, 1, 2, 3]), np.zeros((4, 0)), p_NC=np.eye(4), classes=("M0", "M1", "M2", "M3"))
    assert list(class_plots.searches(stars)) == ["M0", "M1", "M2", "M3"]
    assert class_plots.curves(stars) is not None


def test_names_and_units_are_set_as_papers_do() -> None:
    assert [style.symbol(name) for name in ("FeH", "CFe", "Teff", "rv")] == [
        "[Fe/H]",
        "[C/Fe]",
        r"$T_\mathrm{eff}$",
        "rv",
    ]
    assert [style.unit(name) for name in ("Teff", "logg", "rv")] == [
        "K",
        "log$_{10}$(cm s$^{-2}$)",
        "km s$^{-1}$",
    ]
