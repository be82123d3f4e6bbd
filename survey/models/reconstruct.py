"""What variational networks share: the divergence of the latent, and how much of it is used.

Shapes: B objects, D numbers of the latent.
"""

import torch
from torch import Tensor

from survey.models.network import DrawingModule

ACTIVE = 0.01
"""Variance of a mean, among objects, from which a number of the latent counts as used."""


def divergence(mean_BD: Tensor, log_var_BD: Tensor) -> Tensor:
    """The divergence of each number of the latent from the standard normal distribution, in nats (B, D)."""
    return 0.5 * (mean_BD**2 + log_var_BD.exp() - 1 - log_var_BD)


def draw(net: DrawingModule, mean_BD: Tensor, log_var_BD: Tensor) -> Tensor:
    """A latent drawn from its distribution in training; else the mean."""
    if not net.training:
        return mean_BD
    return mean_BD + net.draw(torch.randn, mean_BD.shape, mean_BD.device) * (log_var_BD / 2).exp()


def active_numbers(mean_BD: Tensor) -> Tensor:
    """How many numbers of the latent differ among the objects of a batch, for each of them (B)."""
    if len(mean_BD) < 2:
        return mean_BD.new_full((len(mean_BD),), float(mean_BD.shape[1]))
    count = (mean_BD.detach().var(0) > ACTIVE).sum()
    return count.to(mean_BD.dtype).expand(len(mean_BD))
