"""What labels do to a spectrum, by the training stars: a panel per label with stars from its low end to its high one, all else alike."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.reports import style
from survey.training.spectral_model import Likeness

STEPS = 5
"""Stars of a panel."""
WIDTH = 4
"""How many standard deviations from the middle they go, at most to the ends of what was seen."""


def picture(likeness: Likeness, names: Sequence[str], wave: NDArray[np.float64]) -> bytes:
    """The panels as PNG."""

    def draw(figure: Figure) -> None:
        panels = cast(Sequence[Sequence[Axes]], figure.subplots(len(names), 1, sharex=True, squeeze=False))
        for number, name in enumerate(names):
            _panel(panels[number][0], likeness, number, name, wave)
        panels[-1][0].set_xlabel("wavelength (Å)")

    return style.png(draw, 11, 0.6 + 1.7 * len(names))


def _panel(axis: Axes, likeness: Likeness, number: int, name: str, wave: NDArray[np.float64]) -> None:
    middle, reach = float(likeness.center_I[number]), WIDTH * float(likeness.scale_I[number])
    low, high = (
        max(middle - reach, float(likeness.low_I[number])),
        min(middle + reach, float(likeness.high_I[number])),
    )
    values = torch.linspace(low, high, STEPS, dtype=torch.float64)
    label_NI = likeness.center_I.double().repeat(STEPS, 1)
    label_NI[:, number] = values
    for step, flux in enumerate(likeness(label_NI).numpy()):
        axis.plot(
            wave, flux, color=style.SIGNED(step / (STEPS - 1)), lw=0.6, label=f"{float(values[step]):.4g}"
        )
    axis.set_xlim(wave[0], wave[-1])
    axis.set_ylim(0, 1.35)
    axis.set_ylabel("flux")
    axis.set_title(f"{style.symbol(name)} ({style.unit(name)}), the other labels at their mean")
    axis.legend(ncols=STEPS, loc="lower right")
