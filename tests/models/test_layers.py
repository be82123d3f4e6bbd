"""Parts of networks, against what they are by definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from survey.models.layers import Block, Dense, Ends, Pieces, Start, Trunk, equal_pieces
from survey.models.network import Task
from tests.models.batches import parameters


@given(pixels=st.integers(1, 300), multiple=st.integers(1, 40))
def test_a_spectrum_is_lengthened_to_the_next_multiple_with_continuum(pixels: int, multiple: int) -> None:
    start = Start(pixels, multiple, centred=False)
    assert start.length % multiple == 0
    assert 0 <= start.length - pixels < multiple
    x_B1P = start(torch.full((2, pixels), 0.5))
    assert x_B1P.shape == (2, 1, start.length)
    assert (x_B1P[..., :pixels] == 0.5).all()
    assert (x_B1P[..., pixels:] == 1).all()


def test_centred_the_continuum_is_zero_also_where_there_was_no_spectrum() -> None:
    assert (Start(13, 8, centred=True)(torch.ones(2, 13)) == 0).all()


@given(least=st.integers(1, 100), multiple=st.integers(1, 100))
def test_the_least_that_is_named_works_and_less_does_not(least: int, multiple: int) -> None:
    smallest = min(pixels for pixels in range(1, 101) if -(-pixels // multiple) * multiple >= least)
    assert Start(smallest, multiple, False, least).length >= least
    if smallest > 1:
        with pytest.raises(
            ValueError,
            match=rf"model: spectra of {smallest - 1} pixels are too short, {smallest} is the least that works; take",
        ):
            Start(smallest - 1, multiple, False, least)


@given(steps=st.integers(1, 30), channels=st.integers(1, 30), shrinks=st.integers(1, 9))
def test_the_length_for_equal_pieces_is_the_smallest(steps: int, channels: int, shrinks: int) -> None:
    found = equal_pieces(steps, channels, shrinks)
    assert found == next(
        length for length in range(shrinks, found + 1, shrinks) if length // shrinks * channels % steps == 0
    )


def test_pieces_are_read_one_after_the_other() -> None:
    """Against the loop of the definition: h = tanh(W x + b + V h + c)."""
    torch.manual_seed(0)
    pieces, x_BD = Pieces(24, 4), torch.randn(3, 24)
    state_BD, states = torch.zeros(3, 6), []
    for piece_BD in x_BD.split(6, 1):
        rnn = pieces.rnn
        state_BD = torch.tanh(
            piece_BD @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + state_BD @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        )
        states.append(state_BD)
    torch.testing.assert_close(pieces(x_BD), torch.cat(states, 1))


def test_pieces_that_would_not_be_equal_are_refused() -> None:
    with pytest.raises(ValueError, match="model: 25 features make no 4 equal pieces; pick"):
        Pieces(25, 4)


def test_a_block_is_the_sum_of_its_branches_and_its_input() -> None:
    torch.manual_seed(0)
    conv = nn.functional.conv1d
    x_BCP, block = torch.randn(2, 3, 50), Block(3, 4, ((3, 3), (5, 7)), closed=True, norm="none")
    total_BCP = conv(x_BCP, block.skip.weight, block.skip.bias)
    for branch, kernels in zip(block.branches, ((3, 3), (5, 7)), strict=True):
        part_BCP, convolutions = x_BCP, [layer for layer in branch if isinstance(layer, nn.Conv1d)]
        for layer, kernel in zip(convolutions, kernels, strict=True):
            assert layer.kernel_size == (kernel,)
            part_BCP = conv(part_BCP, layer.weight, layer.bias, padding=kernel // 2).clamp(min=0)
        total_BCP = total_BCP + part_BCP
    torch.testing.assert_close(block(x_BCP), total_BCP)


def test_an_open_block_ends_without_activation_and_keeps_its_input_where_channels_stay() -> None:
    torch.manual_seed(0)
    block, x_BCP = Block(4, 4, ((3, 3),), closed=False, norm="none"), torch.randn(2, 4, 20)
    assert [type(layer) for layer in block.branches[0]] == [nn.Conv1d, nn.ReLU, nn.Conv1d]
    torch.testing.assert_close(block(x_BCP) - block.branches[0](x_BCP), x_BCP)


@pytest.mark.parametrize(("norm", "layer"), [("batch", nn.BatchNorm1d), ("layer", nn.GroupNorm)])
def test_a_norm_follows_each_convolution_of_a_branch(norm: str, layer: type[nn.Module]) -> None:
    trunk = Trunk((4, 6), 2, 3, ((3, 3), (5, 7)), closed=True, norm=norm)  # type: ignore[arg-type]
    assert sum(isinstance(module, layer) for module in trunk.modules()) == 2 * 2 * 4
    assert trunk(torch.randn(2, 1, 100)).shape == (2, 6, 100 // trunk.shrinks)


def test_dense_heads_have_what_their_tasks_need_and_no_more() -> None:
    labels, options = ("FeH", "CFe"), Ends(shared=6, own=5)
    shared, own = 4 * 6 + 6, 6 * 5 + 5
    assert parameters(Dense(4, options, Task("cls"))) == shared + own + 5 * 3 + 3
    assert parameters(Dense(4, options, Task("reg", labels))) == shared + own + 5 * 2 + 2
    assert parameters(
        Dense(4, options, Task("cls_reg", labels, sigma=True))
    ) == shared + 2 * own + 5 * 3 + 3 + 2 * (5 * 2 + 2)


def test_the_latent_of_two_tasks_holds_the_features_of_both() -> None:
    torch.manual_seed(0)
    heads = Dense(4, Ends(shared=6, own=5), Task("cls_reg", ("FeH",))).eval()
    answers = heads(torch.randn(3, 4))
    assert answers["latent"].shape == (3, 10)
    torch.testing.assert_close(heads.last.cls(answers["latent"][:, :5]), answers["logits"])
    torch.testing.assert_close(heads.last.mu(answers["latent"][:, 5:]), answers["mu"])
