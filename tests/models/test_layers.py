"""Layers of the networks of the CEMP search, against their definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from survey.models.layers import BranchBlock, DenseHeads, Padding, Pieces, Trunk, multiple_for_pieces
from survey.models.options import DenseOptions, Norm
from survey.models.settings import Task
from tests.models.batches import count_parameters


@given(pixels=st.integers(1, 300), multiple=st.integers(1, 40))
def test_a_spectrum_is_padded_to_the_next_multiple_with_continuum(pixels: int, multiple: int) -> None:
    padding = Padding(pixels, multiple, centred=False)
    assert padding.length % multiple == 0
    assert 0 <= padding.length - pixels < multiple
    x_B1P = padding(torch.full((2, pixels), 0.5))
    assert x_B1P.shape == (2, 1, padding.length)
    assert (x_B1P[..., :pixels] == 0.5).all()
    assert (x_B1P[..., pixels:] == 1).all()


def test_a_centred_continuum_is_0_in_the_padding_too() -> None:
    assert (Padding(13, 8, centred=True)(torch.ones(2, 13)) == 0).all()


@given(least=st.integers(1, 100), multiple=st.integers(1, 100))
def test_the_smallest_length_of_the_error_works_and_a_smaller_one_does_not(least: int, multiple: int) -> None:
    smallest = min(pixels for pixels in range(1, 101) if -(-pixels // multiple) * multiple >= least)
    assert Padding(smallest, multiple, False, least).length >= least
    if smallest > 1:
        message = rf"model: spectra have {smallest - 1} pixels, this network needs at least {smallest}; take"
        with pytest.raises(ValueError, match=message):
            Padding(smallest - 1, multiple, False, least)


@given(steps=st.integers(1, 30), channels=st.integers(1, 30), shrinks=st.integers(1, 9))
def test_the_multiple_for_equal_pieces_is_the_smallest(steps: int, channels: int, shrinks: int) -> None:
    multiple = multiple_for_pieces(steps, channels, shrinks)
    lengths = range(shrinks, multiple + 1, shrinks)
    assert multiple == next(length for length in lengths if length // shrinks * channels % steps == 0)


def test_pieces_are_read_in_order() -> None:
    """Against the loop of the definition: h = tanh(W x + b + V h + c)."""
    torch.manual_seed(0)
    pieces, x_BD = Pieces(24, 4), torch.randn(3, 24)
    weights = dict(pieces.rnn.named_parameters())
    state_BD, states = torch.zeros(3, 6), []
    for piece_BD in x_BD.split(6, 1):
        inputs_BD = piece_BD @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        state_BD = torch.tanh(inputs_BD + state_BD @ weights["weight_hh_l0"].T + weights["bias_hh_l0"])
        states.append(state_BD)
    torch.testing.assert_close(pieces(x_BD), torch.cat(states, 1))


def test_unequal_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="model: steps=4 does not divide 25 features; give"):
        Pieces(25, 4)


def test_a_block_is_the_sum_of_its_branches_and_its_input() -> None:
    torch.manual_seed(0)
    conv = nn.functional.conv1d
    x_BCP, block = torch.randn(2, 3, 50), BranchBlock(3, 4, ((3, 3), (5, 7)), closed=True, norm="none")
    assert isinstance(block.skip, nn.Conv1d)
    total_BCP = conv(x_BCP, block.skip.weight, block.skip.bias)
    for branch, kernels in zip(block.branches, ((3, 3), (5, 7)), strict=True):
        branch_BCP = x_BCP
        convolutions = [layer for layer in branch.children() if isinstance(layer, nn.Conv1d)]
        for layer, kernel in zip(convolutions, kernels, strict=True):
            assert layer.kernel_size == (kernel,)
            branch_BCP = conv(branch_BCP, layer.weight, layer.bias, padding=kernel // 2).clamp(min=0)
        total_BCP = total_BCP + branch_BCP
    torch.testing.assert_close(block(x_BCP), total_BCP)


def test_an_open_block_ends_without_activation_and_keeps_its_input_where_channels_stay() -> None:
    torch.manual_seed(0)
    block, x_BCP = BranchBlock(4, 4, ((3, 3),), closed=False, norm="none"), torch.randn(2, 4, 20)
    branch = block.branches[0]
    assert [type(layer) for layer in branch.children()] == [nn.Conv1d, nn.ReLU, nn.Conv1d]
    torch.testing.assert_close(block(x_BCP) - branch(x_BCP), x_BCP)


@pytest.mark.parametrize(("norm", "layer"), [("batch", nn.BatchNorm1d), ("layer", nn.GroupNorm)])
def test_a_norm_follows_each_convolution_of_a_branch(norm: Norm, layer: type[nn.Module]) -> None:
    trunk = Trunk((4, 6), 2, 3, ((3, 3), (5, 7)), closed=True, norm=norm)
    assert sum(isinstance(module, layer) for module in trunk.modules()) == 2 * 2 * 4
    assert trunk(torch.randn(2, 1, 100)).shape == (2, 6, 100 // trunk.shrinks)


def test_dense_heads_have_what_their_tasks_need_and_no_more() -> None:
    labels, options = ("FeH", "CFe"), DenseOptions(shared=6, own=5)
    shared, by_task = 4 * 6 + 6, 6 * 5 + 5
    cls, reg, joint = Task("cls"), Task("reg", labels), Task("cls_reg", labels, sigma=True)
    assert count_parameters(DenseHeads(4, options, cls)) == shared + by_task + 5 * 3 + 3
    assert count_parameters(DenseHeads(4, options, reg)) == shared + by_task + 5 * 2 + 2
    outputs = 5 * 3 + 3 + 2 * (5 * 2 + 2)
    assert count_parameters(DenseHeads(4, options, joint)) == shared + 2 * by_task + outputs


def test_the_latent_of_two_tasks_holds_the_features_of_both() -> None:
    torch.manual_seed(0)
    heads = DenseHeads(4, DenseOptions(shared=6, own=5), Task("cls_reg", ("FeH",))).eval()
    outputs = heads(torch.randn(3, 4))
    assert outputs["latent"].shape == (3, 10)
    torch.testing.assert_close(heads.last.cls(outputs["latent"][:, :5]), outputs["logits"])
    torch.testing.assert_close(heads.last.mu(outputs["latent"][:, 5:]), outputs["mu"])
