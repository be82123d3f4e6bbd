"""Attention from one sequence to another, or to itself. Shapes: B spectra, T steps that ask, S steps that are asked, C channels, H heads."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Steps that ask and take over what the steps asked answer, in several heads; added to what they were, and normed."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"attention: {heads} heads do not divide {channels} channels; change heads or channels"
            )
        self.heads = heads
        self.ask = nn.Linear(channels, channels, bias=False)
        self.keys = nn.Linear(channels, channels, bias=False)
        self.values = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BTC: Tensor, asked_BSC: Tensor) -> Tensor:
        """x, with what it found in the steps asked (which may be its own)."""
        ask_BHTC, keys_BHSC, values_BHSC = (
            _split(part, self.heads)
            for part in (self.ask(x_BTC), self.keys(asked_BSC), self.values(asked_BSC))
        )
        found_BHTC = scaled_dot_product_attention(ask_BHTC, keys_BHSC, values_BHSC)
        sum_BTC: Tensor = self.norm(x_BTC + self.out(found_BHTC.transpose(1, 2).flatten(2)))
        return sum_BTC

    @torch.no_grad()
    def weights(self, x_BTC: Tensor, asked_BSC: Tensor) -> Tensor:
        """How much each step took from each, mean of the heads: (B, T, S), rows sum to 1. Of the whole matrix, so for short sequences."""
        ask_BHTC, keys_BHSC = _split(self.ask(x_BTC), self.heads), _split(self.keys(asked_BSC), self.heads)
        return torch.softmax(
            (ask_BHTC @ keys_BHSC.transpose(2, 3)) * ask_BHTC.shape[-1] ** -0.5, dim=-1
        ).mean(dim=1)


def _split(x_BTC: Tensor, heads: int) -> Tensor:
    return x_BTC.reshape(*x_BTC.shape[:2], heads, -1).transpose(1, 2)
