"""The picture of augmentations: it shows every method, and the same seed draws the same."""

import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.reports.augmentations import augmented_spectrum, draw, is_used, picture
from survey.training.augment_settings import METHOD_NAMES, Augment


@pytest.fixture(autouse=True)
def low_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of the dots, to save time."""
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, sink, dpi: save(figure, sink, dpi=dpi // 4))


DROPOUT = {"dropout": {"probability": 1.0, "width": 100}}
"""One method only, so one panel."""


def spectrum(pixels: int = 400) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Wavelength, flux and ivar."""
    rng = np.random.default_rng(0)
    wave = np.linspace(4200, 4600, pixels)
    ivar = np.where(rng.random(pixels) < 0.03, 0, 2500.0)
    flux = 1 - 0.6 * np.exp(-0.5 * ((wave - 4300) / 8) ** 2) + rng.normal(0, 0.02, pixels)
    return wave, np.where(ivar > 0, flux, 1.0), ivar


def titles_of(settings: Augment) -> dict[str, str]:
    """The titles of the panels: the method, and the rest."""
    figure = Figure()
    draw(figure, settings, *spectrum())
    titles = [title for axis in figure.axes if (title := axis.get_title(loc="left"))]
    return dict(re.split("  +", title, maxsplit=1) for title in titles)


def test_there_is_a_panel_per_method_that_is_used_and_one_for_all() -> None:
    settings = Augment(preset="full")
    text = titles_of(settings)
    values = settings.result_settings()
    used = [name.replace("_", " ") for name in METHOD_NAMES if values[name]["probability"]]
    assert "dropout" not in used
    assert [*text] == [*used, "all methods, each with its probability"]
    assert text["noise"] == "standard deviation 0.008   used on 24% of the spectra"
    assert text["scaling"] == "up to 0.08   used on 18% of the spectra"
    assert text["all methods, each with its probability"] == "used on 60% of the spectra"


def test_a_single_method_has_a_single_panel_and_none_has_no_picture() -> None:
    assert [*titles_of(Augment.from_dict("augment", DROPOUT))] == ["dropout"]
    assert is_used(Augment.from_dict("augment", DROPOUT))
    assert not is_used(Augment())
    assert not is_used(Augment.from_dict("augment", DROPOUT | {"probability": 0.0}))


def test_a_panel_shows_the_spectrum_before_and_after_and_the_difference() -> None:
    wave, flux, ivar = spectrum()
    settings = Augment.from_dict("augment", DROPOUT)
    figure = Figure()
    draw(figure, settings, wave, flux, ivar)
    upper, lower = figure.axes[0], figure.axes[2]
    before, after = (np.asarray(line.get_ydata()) for line in upper.lines)
    np.testing.assert_array_equal(before, np.where(ivar > 0, flux, np.nan))
    assert (before != after)[ivar > 0].any()
    np.testing.assert_array_equal(np.asarray(lower.lines[1].get_ydata()), after - before)


def test_the_same_seed_draws_the_same_and_the_style_is_left_alone() -> None:
    before = dict(mpl.rcParams)
    settings = Augment.from_dict("augment", DROPOUT)
    one, same, other = (picture(settings, *spectrum(), seed=seed) for seed in (1, 1, 2))
    assert one.startswith(b"\x89PNG")
    assert one == same
    assert one != other
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_spectrum_with_few_pixels_or_without_a_good_one_can_be_drawn(share: float) -> None:
    wave, flux, ivar = spectrum(60)
    settings = Augment.from_dict("augment", DROPOUT)
    assert picture(settings, wave, flux, ivar * share).startswith(b"\x89PNG")


def test_the_panel_shows_what_a_network_gets_and_marks_gaps() -> None:
    _, flux, ivar = spectrum()
    settings = Augment.from_dict("augment", {"dropout": {"probability": 1.0, "width": 100}})
    after, became_bad = augmented_spectrum(settings, flux, ivar, seed=0, rank=4)
    assert np.isnan(after[ivar == 0]).all()
    assert became_bad.any()
    assert (after[became_bad] == 1).all()
    assert not became_bad[ivar == 0].any()
    unchanged = ~became_bad & (ivar > 0)
    np.testing.assert_allclose(after[unchanged], flux[unchanged], rtol=1e-6)
