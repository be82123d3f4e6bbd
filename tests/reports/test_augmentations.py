"""The picture of augmentations: it is a PNG, it shows every method, and the same seed draws the same."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import SubFigure

from survey.reports import augmentations
from survey.reports.augmentations import picture
from survey.training.augment import METHODS, Augment


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of the dots, for time."""
    save = augmentations.Figure.savefig
    monkeypatch.setattr(
        augmentations.Figure, "savefig", lambda figure, sink, dpi: save(figure, sink, dpi=dpi // 4)
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One panel, and that of all together."""
    monkeypatch.setattr(augmentations, "METHODS", {"dropout": METHODS["dropout"]})


def spectrum(pixels: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    wave = np.linspace(4200, 4600, pixels)
    ivar = np.where(rng.random(pixels) < 0.03, 0, 2500.0)
    flux = 1 - 0.6 * np.exp(-0.5 * ((wave - 4300) / 8) ** 2) + rng.normal(0, 0.02, pixels)
    return wave, np.where(ivar > 0, flux, 1.0), ivar


def test_there_is_a_panel_per_method_and_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    panel = augmentations._panel

    def noted(cell: SubFigure, title: str, *arrays: np.ndarray) -> None:
        titles.append(title)
        panel(cell, title, *arrays)
        assert cell.axes[0].get_title(loc="left") == title

    monkeypatch.setattr(augmentations, "_panel", noted)
    assert picture(Augment(preset="full"), *spectrum()).startswith(b"\x89PNG")
    assert [re.split("  +", title)[0] for title in titles[:-1]] == [
        name.replace("_", " ") for name in METHODS
    ]
    told = dict(re.split("  +", title, maxsplit=1) for title in titles)
    assert told["noise"] == "standard deviation 0.008   used on 24%"
    assert told["dropout"].endswith("not used")
    assert told["all together, as the probabilities fall"] == "used on 60%"


def test_the_same_seed_draws_the_same_and_leaves_the_styles_alone(few: None) -> None:
    before = dict(mpl.rcParams)
    one, two, other = (picture(Augment(preset="survey"), *spectrum(), seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_spectrum_with_few_pixels_or_without_a_good_one_can_be_drawn(share: float, few: None) -> None:
    wave, flux, ivar = spectrum(60)
    assert picture(Augment(), wave, flux, ivar * share).startswith(b"\x89PNG")


def test_what_is_shown_is_what_a_network_gets_and_gaps_are_told() -> None:
    _, flux, ivar = spectrum()
    settings = Augment.checked("augment", {"dropout": {"probability": 1.0, "width": 100}})
    after, gone = augmentations._after(settings, flux, ivar, seed=0, rank=4)
    assert np.isnan(after[ivar == 0]).all()
    assert gone.any()
    assert (after[gone] == 1).all()
    assert not gone[ivar == 0].any()
    np.testing.assert_allclose(after[~gone & (ivar > 0)], flux[~gone & (ivar > 0)], rtol=1e-6)
