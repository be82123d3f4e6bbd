"""The picture of an autoencoder shows its images, what it makes of them, and what its numbers change."""

import io

import numpy as np
import torch
from PIL import Image

from survey.models.settings import Task
from survey.models.vae import Net, Options
from survey.reports import rebuilt
from tests.models.batches import images


def test_rows_are_images_rebuilt_ones_and_one_for_each_number() -> None:
    torch.manual_seed(0)
    net = Net(0, Task("none"), Options(latent=4, channels=(8, 16)), (3, 16, 16)).eval()
    batch = images(12, (3, 16, 16))
    drawn = np.asarray(Image.open(io.BytesIO(rebuilt.picture(net, batch))).convert("RGB"))
    assert drawn.std() > 5
    mean_BD, _ = net.encode(batch.float() / 255)
    order = mean_BD.std(0).argsort(descending=True)
    assert len(order) == 4, "a latent of four numbers has four rows"


def test_one_colour_is_shown_as_grey() -> None:
    colours = rebuilt._colours(torch.rand(1, 5, 6))
    assert colours.shape == (5, 6, 3)
    assert np.array_equal(colours[..., 0], colours[..., 2])
