"""What an autoencoder of images makes of them: images beside rebuilt ones, and what each number changes."""

from io import BytesIO

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from survey.models.vae import Net

SHOWN, NUMBERS = 10, 6
"""Images that are shown, and numbers of the latent that are changed."""
STEPS = (-2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5)
"""How far each is changed, in units of its spread."""


@torch.no_grad()
def picture(net: Net, image_BCHW: Tensor) -> bytes:
    """The first images and what is rebuilt of them; then the mean image, changed in the numbers that vary."""
    light = image_BCHW.float() / 255
    mean_BD, _ = net.encode(light)
    rows = [list(light[:SHOWN]), list(net.decode(mean_BD[:SHOWN]))]
    spread_D = mean_BD.std(0)
    order = spread_D.argsort(descending=True)[:NUMBERS].tolist()
    for number in order:
        latent_SD = mean_BD.mean(0).repeat(len(STEPS), 1)
        latent_SD[:, number] += torch.tensor(STEPS) * spread_D[number]
        rows.append(list(net.decode(latent_SD)))
    return _drawn(rows, [f"number {number}" for number in order])


def _drawn(rows: list[list[Tensor]], names: list[str]) -> bytes:
    """Rows of images as a picture."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(columns * 0.9 + 1, len(rows) * 0.95 + 0.4))
    titles = ["image", "rebuilt", *names]
    for line, (row, title) in enumerate(zip(rows, titles, strict=True)):
        for column, image in enumerate(row):
            axis = figure.add_subplot(len(rows), columns, line * columns + column + 1)
            axis.imshow(_colours(image))
            axis.set(xticks=[], yticks=[])
            if not column:
                axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
            if line == len(rows) - 1:
                axis.set_xlabel(f"{STEPS[column]:+g} σ", fontsize=8)
    figure.subplots_adjust(0.12, 0.05, 0.99, 0.99, 0.05, 0.12)
    sink = BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()


def _colours(image_CHW: Tensor) -> NDArray[np.float32]:
    """An image as matplotlib shows it: rows, columns, colours."""
    array = image_CHW.clamp(0, 1).numpy()
    return np.asarray(np.repeat(array, 3, 0) if len(array) == 1 else array).transpose(1, 2, 0)
