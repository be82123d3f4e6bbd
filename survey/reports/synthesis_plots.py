"""How labels change a spectrum, by the spectral model: a panel per label, all other labels at their mean."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.reports import style
from survey.training.synthesis import SpectralModel

STEPS = 5
"""Spectra of a panel."""
DEVIATIONS = 4
"""Values go so many standard deviations to either side of the mean, within the range of the training part."""


def picture(model: SpectralModel, names: Sequence[str], wave: NDArray[Any]) -> bytes:
    """The panels as PNG."""

    def draw(figure: Figure) -> None:
        panels = cast(Sequence[Sequence[Axes]], figure.subplots(len(names), 1, sharex=True, squeeze=False))
        for number, name in enumerate(names):
            _draw_panel(panels[number][0], model, number, name, wave)
        panels[-1][0].set_xlabel("wavelength (Å)")

    return style.png(draw, 11, 0.6 + 1.7 * len(names))


def _draw_panel(axis: Axes, model: SpectralModel, number: int, name: str, wave: NDArray[Any]) -> None:
    """Spectra from a low to a high value of one label."""
    mean, reach = float(model.center_I[number]), DEVIATIONS * float(model.scale_I[number])
    low = max(mean - reach, float(model.low_I[number]))
    high = min(mean + reach, float(model.high_I[number]))
    values = torch.linspace(low, high, STEPS, dtype=torch.float64)
    label_NI = model.center_I.double().repeat(STEPS, 1)
    label_NI[:, number] = values
    for step, flux in enumerate(model(label_NI).numpy()):
        color = style.SIGNED(step / (STEPS - 1))
        axis.plot(wave, flux, color=color, lw=0.6, label=f"{float(values[step]):.4g}")
    axis.set_xlim(wave[0], wave[-1])
    axis.set_ylim(0, 1.35)
    axis.set_ylabel("flux")
    axis.set_title(f"{style.symbol(name)} ({style.unit(name)}), the other labels at their mean")
    axis.legend(ncols=STEPS, loc="lower right")
