"""How each label changes a spectrum, by the spectral model of synthesis: one rises, the others are held.

A polynomial gives a spectrum for any labels, also for those that no star has, where it means nothing. So the
others are held at the labels of a training star that has many stars like it, and the label takes values that
such stars have. Shapes: N training stars, I labels, V values, P pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.labels import label
from survey.reports import style
from survey.reports.lines import TELLURIC
from survey.reports.style import GREY
from survey.training.synthesis import SpectralModel

Floats = NDArray[np.float64]

VALUES = 5
"""Spectra of a panel, at most."""
NEAR = 0.6
"""Stars are like another if each other label differs by at most this many standard deviations."""
TRIED = 300
"""Training stars that are tried as the one whose labels are held."""
TAIL = 0.02
"""The share of the stars at each end whose values are not reached."""
ROUND = {"K": 10.0}
"""Values are multiples of this, by the unit of a label; of 0.05 in any other unit."""


@dataclass(frozen=True)
class Steps:
    """The labels of a training star, of which one takes other values; so many stars are like it."""

    held_I: Floats
    values_V: Floats
    alike: int

    def labels(self, number: int) -> Floats:
        """The labels (V, I) of all spectra of a panel; `number` is that of the label that changes."""
        label_VI = np.tile(self.held_I, (len(self.values_V), 1))
        label_VI[:, number] = self.values_V
        return label_VI


def choose_steps(label_NI: Floats, number: int, name: str) -> Steps:
    """Values of one label that stars have which are alike in all others.

    Of the stars that are tried, the one is held whose like have the most of the values, over the widest
    range.
    """
    scaled_NI = (label_NI - label_NI.mean(0)) / np.maximum(label_NI.std(0), 1e-9)
    others = np.arange(label_NI.shape[1]) != number
    tried = np.unique(np.linspace(0, len(label_NI) - 1, TRIED).round().astype(int))
    best, best_rank = Steps(label_NI[0], label_NI[:1, number], 1), (0, 0.0)
    for star in tried.tolist():
        alike_N = (np.abs(scaled_NI[:, others] - scaled_NI[star, others]) <= NEAR).all(1)
        value_N = label_NI[alike_N, number]
        values_V = _values(value_N, ROUND.get(label(name).unit, 0.05))
        rank = (len(values_V), float(np.ptp(values_V)))
        if rank > best_rank:
            best, best_rank = Steps(label_NI[star], values_V, int(alike_N.sum())), rank
    return best


def _values(value_N: Floats, step: float) -> Floats:
    """Round values over the range of these stars; only those that a star is near to."""
    low, high = np.quantile(value_N, [TAIL, 1 - TAIL]).tolist()
    even = np.linspace(low, high, VALUES)
    half = max((even[1] - even[0]) / 2, step)
    values_V = np.unique(np.round(even / step) * step)
    near_V = np.abs(values_V[:, None] - value_N).min(1) <= half
    return np.asarray(values_V[near_V])


def picture(model: SpectralModel, names: Sequence[str], wave: NDArray[np.float64], label_NI: Floats) -> bytes:
    """Two panels for each label, as PNG: its spectra, and their differences from that of the middle value.

    `label_NI` are the labels of the training stars.
    """

    def draw(figure: Figure) -> None:
        sizes = {"height_ratios": [3, 1.6] * len(names)}
        axes = figure.subplots(2 * len(names), 1, sharex=True, gridspec_kw=sizes)
        for number, (upper, lower) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
            steps = choose_steps(label_NI, number, names[number])
            flux_VP = model(torch.from_numpy(steps.labels(number))).numpy()
            texts = [style.value_text(names[number], value) for value in steps.values_V.tolist()]
            _draw_lines(upper, wave, flux_VP, texts)
            upper.set(ylabel="flux", title=_title(names, number, steps))
            legend = upper.legend(
                ncols=VALUES, loc="lower right", bbox_to_anchor=(1.0, 0.99), borderaxespad=0
            )
            for line in legend.get_lines():
                line.set_linewidth(2)
            _draw_lines(lower, wave, flux_VP - flux_VP[len(flux_VP) // 2], texts)
            lower.set(ylabel="difference")
        for low, high in TELLURIC.values():
            for axis in axes:
                axis.axvspan(low, high, color=GREY, alpha=0.22, lw=0, zorder=0)
        text = (
            "vacuum wavelength at rest (Å); differences are those from the middle value; "
            "grey: absorption by the Earth's atmosphere"
        )
        axes[-1].set(xlabel=text, xlim=(wave[0], wave[-1]))
        figure.align_ylabels(list(axes))

    return style.png(draw, 12, 0.6 + 2.7 * len(names), dpi=120)


def _title(names: Sequence[str], number: int, steps: Steps) -> str:
    held = ", ".join(
        f"{style.symbol(name)} {style.value_text(name, float(value))}"
        for name, value in zip(names, steps.held_I, strict=True)
        if name != names[number]
    )
    held_text = f" at {held} ({steps.alike:,} training stars)" if held else ""
    return f"{style.symbol(names[number])}{held_text}"


def _draw_lines(axis: Axes, wave: Floats, flux_VP: Floats, texts: Sequence[str]) -> None:
    """A line for each value, within limits that single pixels do not set."""
    for step, (flux_P, text) in enumerate(zip(flux_VP, texts, strict=True)):
        axis.plot(wave, flux_P, color=style.STEPS(step / max(len(texts) - 1, 1)), lw=0.7, label=text)
    low, high = np.quantile(flux_VP, [0.002, 0.998]).tolist()
    margin = 0.06 * max(high - low, 1e-3)
    axis.set_ylim(low - margin, high + margin)
